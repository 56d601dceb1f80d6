"""Canaries: secrets of every class and credentials of every kind, in every part of the traffic, are found, and none of
them ever leaves the node.

Looked for in what the sensor sends and spools, in its log at debug and in the texts of its types, in the collector's
log at debug, store and tables on disk, its API and its page.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from sensor.core.calls import AuthenticationKind
from sensor.export.messages import write_schemas
from sensor.export.spool import Spool
from sensor.sensitive.kinds import DATA_CLASSES, DataClass, DataKind
from sensor.sensitive.values import find_kinds
from tests.collector.risk.canaries import CANARIES, CREDENTIALS, CUSTOM_CLASS, find_canaries
from tests.collector.risk.judging import feed, start_collector
from tests.collector.risk.traffic import Sensor
from tests.collector.running import RunningCollector
from tests.files import read_files

pytestmark = pytest.mark.store

FIELDS = dict(CANARIES.values())
# In heads without what a head cannot hold.
PLAIN = {name: re.sub(r"[\s/:;,]", "", value) for name, value in FIELDS.items()}
PAIRS = [f"{name}={value}" for name, value in PLAIN.items()]
GRAPHQL = f'query Kanarienvogel7391 {{ zwetschge7391(mail: "{FIELDS["mail"]}") {{ name }} }}'


def _write_message(number: int, text: str) -> str:
    """A field of protobuf."""
    assert number < 16 and text.isascii() and len(text) < 128
    return f"{chr(number << 3 | 2)}{chr(len(text))}{text}"


def _describe() -> dict[str, Any]:
    """A description with canaries wherever one has no business, and in names where they have a form of their own."""
    text = " ".join(FIELDS.values())
    parameters = [
        {"name": name, "in": "query", "description": text, "example": value, "schema": {"enum": [value]}}
        for name, value in FIELDS.items()
    ]
    operation = {"summary": text, "parameters": parameters, "responses": {"200": {"description": text}}}
    formed = [f"/v1/{value}" for value in FIELDS.values() if find_kinds(f"/v1/{value}")]
    return {
        "openapi": "3.0.3",
        "info": {"title": "Things", "version": "1", "description": text},
        "x-canaries": FIELDS,
        "paths": {"/v1/things": {"get": operation}, **{path: {"get": operation} for path in formed}},
    }


_PARTS: dict[str, dict[str, Any]] = {
    "path": {"path": "/v1/" + "/".join(list(PLAIN.values())[:30])},
    "path2": {"path": "/v1/" + "/".join(list(PLAIN.values())[30:])},
    "query": {"path": "/v1/things?" + "&".join(PAIRS)},
    "fragment": {"path": "/v1/things?q=" + FIELDS["mail"] + "&next=/" + PLAIN["gh"]},
    "header": {"headers": [f"X-{name}: {value}" for name, value in PLAIN.items()]},
    "agent": {"headers": [f"User-Agent: {FIELDS['gh']}", f"Referer: https://a.example/?t={PLAIN['aws']}"]},
    "cookie": {"headers": ["Cookie: " + "; ".join(PAIRS)]},
    "credential": {"headers": ["Authorization: Bearer " + "".join(PLAIN.values())]},
    "request": {"method": "POST", "body": FIELDS},
    "response": {"answer": [FIELDS] * 3},
    # Of keys that three consumers sent, words may leave; what has a form of its own never does.
    "names": {"answer": {value: name for name, value in FIELDS.items() if find_kinds(value)}},
    "lines": {
        "answer": "\n".join(json.dumps({name: value}) for name, value in FIELDS.items()),
        "answer_type": "application/x-ndjson",
    },
    "description": {"path": "/openapi.json", "answer": _describe()},
    "csv": {"answer": ",".join(PLAIN) + "\n" + ",".join(PLAIN.values()) + "\n", "answer_type": "text/csv"},
    "form": {"method": "POST", "body": "&".join(PAIRS), "body_type": "application/x-www-form-urlencoded"},
    "multipart": {
        "method": "POST",
        "body": "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in FIELDS.items()
        )
        + "--b--\r\n",
        "body_type": "multipart/form-data; boundary=b",
    },
    "html": {
        "answer": "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in FIELDS.items()),
        "answer_type": "text/html",
    },
    "xml": {
        "answer": "<r>" + "".join(f"<{name}>{value}</{name}>" for name, value in FIELDS.items()) + "</r>",
        "answer_type": "application/xml",
    },
    "text": {
        "answer": "\n".join(f"{name}: {value}" for name, value in FIELDS.items()),
        "answer_type": "text/plain",
    },
    "graphql": {
        "method": "POST",
        "body": {"query": GRAPHQL, "operationName": "Kanarienvogel7391", "variables": FIELDS},
        "answer": {"errors": [{"message": FIELDS["problem"], "path": [FIELDS["gh"]]}]},
    },
    "json_rpc": {
        "method": "POST",
        "body": {"jsonrpc": "2.0", "id": FIELDS["mail"], "method": FIELDS["gh"], "params": FIELDS},
        "answer": {"jsonrpc": "2.0", "error": {"code": -32000, "message": FIELDS["trace"], "data": FIELDS}},
    },
    "soap": {"method": "POST", "headers": [f'SOAPAction: "urn:{PLAIN["gh"]}#{PLAIN["aws"]}"'], "body": FIELDS},
    "mcp": {
        "method": "POST",
        "body": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": FIELDS["gh"]}},
    },
    "grpc": {
        "method": "POST",
        "path": f"/kanari.{PLAIN['gh']}/{PLAIN['aws']}",
        "body": "".join(_write_message(1 + i % 15, text) for i, text in enumerate(PLAIN.values()) if len(text) < 128),
        "body_type": "application/grpc+proto",
    },
    "error": {"status": 500, "also_ok": 2, "answer": {"error": str(FIELDS)}},
    "websocket": {
        "path": "/v1/live?" + "&".join(PAIRS),
        "headers": ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Protocol: {PLAIN['gh']}"],
        "status": 101,
        "also_ok": 2,
    },
    **{
        f"auth-{kind.name.lower().replace('_', '-')}": (
            {"path": f"/v1/things{line}"} if line.startswith("?") else {"headers": [line]}
        )
        for kind, line in CREDENTIALS.items()
        if kind.name
    },
}  # fmt: skip


def _make_case(part: str) -> dict[str, Any]:
    """All canaries in one part of the calls of one endpoint."""
    base: dict[str, Any] = {"id": f"canary-{part}", "path": "/v1/things", "answer": {"ok": True}}
    return {**base, **_PARTS[part]}


def _send(sensor: Sensor) -> list[bytes]:
    """All that leaves the node."""
    batches = [batch.SerializeToString() for batch in sensor.flush()]
    return batches + [write_schemas(schemas).SerializeToString() for schemas in sensor.schemas.take(sensor.time_ns)]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("canaries")
    running = start_collector(directory, "--log-level", "debug")
    feed(running, [_make_case(part) for part in _PARTS])
    yield running, directory
    if running.process.poll() is None:
        assert running.stop() == 0


def test_every_class_has_a_canary_and_every_canary_is_seen() -> None:
    """Else nothing below would prove anything."""
    sensor = Sensor(["canary-response"], classes=(CUSTOM_CLASS,))
    sensor.see(_make_case("response"))
    codes = {code for batch in sensor.flush() for code in batch.rows.found_code}
    kinds = {kind for number, kind in enumerate(DataKind, 1) if (2 << 6 | number) in codes}
    assert kinds >= set(CANARIES)
    assert set(DataKind) - set(CANARIES) == {DataKind.CUSTOM_2, DataKind.CUSTOM_3, DataKind.CUSTOM_4}
    assert {DATA_CLASSES[kind] for kind in kinds} == set(DataClass)


@pytest.mark.parametrize("kind", CREDENTIALS, ids=[kind.name for kind in CREDENTIALS])
def test_every_kind_of_credential_is_seen(kind: AuthenticationKind) -> None:
    case = _make_case(f"auth-{(kind.name or '').lower().replace('_', '-')}")
    record = Sensor([case["id"]]).see_call(case, 0, status=200)
    assert record.credentials.authentication & kind


@pytest.mark.parametrize("part", _PARTS)
def test_no_message_no_log_and_no_text_of_a_record_holds_one(part: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sensor = Sensor([f"canary-{part}"], classes=(CUSTOM_CLASS,))
    case = _make_case(part)
    records = [repr(sensor.see_call(case, 0, status=case.get("status", 200)))]
    sensor.see(case)
    sent = _send(sensor)
    assert sum(map(len, sent)) > 100
    for text in (*sent, *(record.encode() for record in records), caplog.text.encode()):
        assert find_canaries(text) == []


@pytest.mark.parametrize(
    "part", ["path", "query", "header", "cookie", "credential", *(p for p in _PARTS if "auth-" in p)]
)
def test_no_message_holds_what_a_cut_head_leaves(part: str) -> None:
    """At each border the copy ends in another place of a value."""
    case = _make_case(part)
    sensor = Sensor([case["id"]], classes=(CUSTOM_CLASS,))
    for cut in range(24, 1_500, 13):
        sensor.see_part({**case, "head_cut": cut}, 0, status=200)
    for text in _send(sensor):
        assert find_canaries(text) == []


@pytest.mark.parametrize(
    "part", ["request", "response", "lines", "csv", "form", "multipart", "html", "xml", "text", "graphql"]
)
def test_no_message_holds_what_a_cut_body_leaves(part: str) -> None:
    case = _make_case(part)
    sensor = Sensor([case["id"]], classes=(CUSTOM_CLASS,))
    for cut in range(2, 3_500, 37):
        sensor.see_part({**case, "body_cut": cut}, 0, status=200)
    for text in _send(sensor):
        assert find_canaries(text) == []


def test_no_spool_holds_one(tmp_path: Path) -> None:
    sensor = Sensor([f"canary-{part}" for part in _PARTS])
    for part in _PARTS:
        sensor.see(_make_case(part))
    spool = Spool(tmp_path, boot_id="0" * 32)
    for number, batch in enumerate(sensor.flush(), 1):
        spool.append(sequence=number, payload=batch.SerializeToString(), calls=1, now_unix_ns=1)
    spool.close()
    files = read_files(tmp_path)
    assert any(len(data) > 1_000 for data in files.values())
    for path, data in files.items():
        assert find_canaries(data) == [], path


def test_no_answer_and_no_page_holds_one(collector: tuple[RunningCollector, Path]) -> None:
    running, _ = collector
    endpoints = running.get("/endpoints?limit=500").json()["items"]
    assert len(endpoints) >= len(_PARTS)
    paths = ["/endpoints?limit=500", "/findings?limit=500", "/consumers?limit=500", "/alerts", "/openapi.json"]
    paths += [f"/endpoints/{one['id']}{more}" for one in endpoints for more in ("", "/risk", "/schema")]
    for path in paths:
        answer = running.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert find_canaries(answer.content) == [], path
    for page in ("", *(f"endpoints/{one['id']}" for one in endpoints)):
        answer = running.get_page(f"/{page}")
        assert answer.status_code == 200, (page, answer.text)
        assert find_canaries(answer.content) == [], page


def test_no_file_and_no_log_holds_one(collector: tuple[RunningCollector, Path]) -> None:
    running, directory = collector
    assert running.stop() == 0
    files = read_files(directory)
    assert any(path.suffix == ".wal" for path in files)
    for path, data in files.items():
        assert find_canaries(data) == [], path
    assert find_canaries("".join(running.errors).encode()) == []
