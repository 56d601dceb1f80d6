"""HAR files become exchanges: with the ends, times, heads and bodies that their entries have."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from apidae.v1 import data_pb2
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.files.capture_file import CaptureFileError
from sensor.capture.files.har import HarFile, is_har
from sensor.cli.capture_node import CaptureNode
from sensor.cli.capture_sources import HarSource

START = 1_760_000_000


def make_entry(url: str = "https://api.example/v1/users/17?key=s3cret", **changes: Any) -> dict[str, Any]:
    """As a browser writes it, of HTTP/2."""
    headers = [{"name": ":authority", "value": "api.example"}, {"name": "Authorization", "value": "Bearer t0ps3cret"}]
    request = {"method": "GET", "url": url, "httpVersion": "h2", "headers": headers, "headersSize": -1, "bodySize": 0}
    answer = '{"email": "jane@example.org"}'
    response = {
        "status": 200,
        "headers": [{"name": "content-type", "value": "application/json"}, {"name": "content-encoding", "value": "br"}],
        "content": {"size": len(answer), "mimeType": "application/json", "text": answer},
        "bodySize": 21,
    }
    timings = {"blocked": 7, "dns": -1, "send": 1, "wait": 20.5, "receive": 3}
    entry = {"startedDateTime": "2025-10-09T08:53:20.000Z", "time": 31.5, "request": request, "response": response}
    return {**entry, "timings": timings, "_initiator": {"type": "script"}, **changes}


def write_har(path: Path, *entries: Any) -> Path:
    target = path / "x.har"
    target.write_text(json.dumps({"log": {"version": "1.2", "creator": {}, "entries": list(entries)}}))
    return target


def test_an_entry_is_one_exchange(tmp_path: Path) -> None:
    ((time_ns, exchange),) = HarFile(write_har(tmp_path, make_entry())).read()
    ends, figures = exchange.ends, exchange.figures
    assert (ends.local_address, ends.local_port, ends.is_encrypted) == ("api.example", 443, True)
    assert (figures.time_unix_ns, figures.status_code) == (START * 10**9, 200)
    assert (figures.time_to_first_byte_ns, figures.duration_ns) == (21_500_000, 24_500_000)
    assert time_ns == START * 10**9 + 24_500_000
    assert exchange.request_head == (
        b"GET /v1/users/17?key=s3cret HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer t0ps3cret\r\n\r\n"
    )
    # The body was decoded by whoever wrote the file.
    assert exchange.response_head == b"HTTP/1.1 200 \r\ncontent-type: application/json\r\nContent-Length: 29\r\n\r\n"
    assert exchange.bodies is not None and exchange.bodies.response == b'{"email": "jane@example.org"}'


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("http://h.example/", "h.example", 80),
        ("http://u:p@h.example:8080", "h.example", 8080),
        ("https://[::1]:8443/a", "::1", 8443),
        ("http://h.example:99999/", "h.example", 80),
    ],
)
def test_the_server_is_that_of_the_url(tmp_path: Path, url: str, address: str, port: int) -> None:
    ((_, exchange),) = HarFile(write_har(tmp_path, make_entry(url))).read()
    assert (exchange.ends.local_address, exchange.ends.local_port) == (address, port)
    assert b"u:p" not in exchange.request_head


def test_figures_of_any_size_are_bounded(tmp_path: Path) -> None:
    entry = make_entry(timings={"send": 1e308, "wait": 1e308, "receive": 1e308})
    entry["response"]["bodySize"] = 1e308
    node, _ = read_node(write_har(tmp_path, entry))
    assert node.count().calls == 1


def test_a_call_without_an_answer_is_aborted(tmp_path: Path) -> None:
    response = {"status": 0, "headers": [], "content": {}}
    ((_, exchange),) = HarFile(write_har(tmp_path, make_entry(response=response))).read()
    assert (exchange.figures.is_aborted, exchange.figures.status_code, exchange.response_head) == (True, 0, b"")


def test_bodies_in_base64_are_decoded(tmp_path: Path) -> None:
    content = {"text": base64.b64encode(b"\x00\xff").decode(), "encoding": "base64"}
    response = {"status": 200, "headers": [], "content": content}
    ((_, exchange),) = HarFile(write_har(tmp_path, make_entry(response=response))).read()
    assert exchange.bodies is not None and exchange.bodies.response == b"\x00\xff"


def test_no_header_makes_another_line(tmp_path: Path) -> None:
    entry = make_entry()
    entry["request"]["headers"] = [
        {"name": "X-A", "value": "1\r\nX-Evil: 1"},
        {"name": "X-B\r\nX-Evil", "value": "2"},
        {"name": "X-C", "value": "3"},
    ]
    entry["request"]["method"] = "GET"
    ((_, exchange),) = HarFile(write_har(tmp_path, entry)).read()
    assert exchange.request_head.split(b"\r\n")[1:] == [b"Host: api.example", b"X-C: 3", b"", b""]


def read_node(path: Path) -> tuple[CaptureNode, bytes]:
    node = CaptureNode(HarSource(HarFile(path)), path)
    messages = list(node.read())
    batches = [data_pb2.Batch.FromString(one.batch) for one in messages if one.batch]
    assert sum(sum(batch.rows.calls) for batch in batches) == node.count().calls
    return node, b"".join(one.batch + one.schemas for one in messages)


def test_what_is_no_call_is_counted_and_no_value_leaves(tmp_path: Path) -> None:
    entries = [
        make_entry(),
        make_entry("data:image/png;base64,AAAA"),
        make_entry("wss://h.example/"),
        make_entry("https://h[.example/"),
        make_entry(startedDateTime="yesterday"),
        make_entry(startedDateTime="1970-01-01T00:00:00Z"),
        make_entry(response=None),
        7,
    ]
    node, sent = read_node(write_har(tmp_path, *entries))
    account = node.count()
    assert account.calls == 1
    assert {part.what.partition("(")[2]: part.count for part in account.unread} == {
        "entry)": 2,
        "scheme)": 3,
        "time)": 2,
    }
    assert b"s3cret" not in sent and b"jane@" not in sent


def test_the_account_begins_with_the_first_request(tmp_path: Path) -> None:
    node, _ = read_node(write_har(tmp_path, make_entry()))
    account = node.count()
    assert (account.first_unix_ns, account.last_unix_ns) == (START * 10**9, START * 10**9 + 24_500_000)


def test_a_sanitised_file_says_that_it_has_no_credentials(tmp_path: Path) -> None:
    entry = make_entry()
    entry["request"]["headers"] = []
    node, _ = read_node(write_har(tmp_path, entry))
    (part,) = node.count().unread
    assert (part.what, part.count) == ("Credentials", 1)
    assert "sanitised" in part.why


@pytest.mark.parametrize(
    "text",
    [
        *("{", '{"log": {}}', '{"log": {"entries": 7}}', '{"a": 1}'),
        pytest.param('{"log": {"entries": [' + "[" * 100_000, id="nested deep"),
    ],
)
def test_other_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.har"
    path.write_text(text)
    assert is_har(path)
    with pytest.raises(CaptureFileError, match=r"x\.har is no HAR file: .*; export it again"):
        HarFile(path)


_TEXT = st.text(max_size=30)
_PAIRS = st.lists(st.fixed_dictionaries({"name": _TEXT, "value": _TEXT}), max_size=4)


@given(method=_TEXT, url=st.one_of(_TEXT, _TEXT.map("https://h".__add__)), pairs=_PAIRS, status=st.integers(-9, 10**9))
def test_entries_of_any_kind_are_described_or_counted(
    tmp_path_factory: pytest.TempPathFactory, method: str, url: str, pairs: list[dict[str, str]], status: int
) -> None:
    entry = make_entry(
        request={"method": method, "url": url, "headers": pairs, "postData": {"text": method}},
        response={"status": status, "headers": pairs, "content": {"text": url, "encoding": "base64"}},
    )
    path = write_har(tmp_path_factory.getbasetemp(), entry)
    node, _ = read_node(path)
    account = node.count()
    assert account.calls + sum(part.count for part in account.unread if part.what != "Credentials") == 1
