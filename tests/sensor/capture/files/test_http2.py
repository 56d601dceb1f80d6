"""HTTP/2 in captures: joined in the middle, with bodies, and the fields that --raw adds."""

import gzip

import pytest

from sensor.capture.files.lines import Line
from sensor.cli.replay import summarize
from sensor.http.http2.frames import PREFACE
from sensor.http.reassembly import Direction
from tests.sensor.capture.files.packets import START_NS, Talk, run
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_conversation import Conversation, converse
from tests.sensor.http.http2_wire import write_data, write_headers, write_ping, write_settings, write_window_update

UNKNOWN = "/<unknown>"


def play(conversation: Conversation, since: int = 0) -> Talk:
    """Its bytes from a place in the order they were sent, as a capture that began there saw them (0: the handshake)."""
    talk = Talk() if since else Talk().open()
    for direction, data in conversation.sent[since:]:
        talk.ask(data) if direction is Direction.FORWARD else talk.answer(data)
    return talk


def read_stream(line: Line) -> int:
    number = line["apidae.connection.call"]
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("seed", range(4))
def test_joined_anywhere_each_new_request_is_told_and_none_wrong(seed: int) -> None:
    conversation = converse(seed, 60)
    truths = {truth.stream: truth for truth in conversation.ended}
    named = 0
    for since in range(1, len(conversation.sent), 5):
        seen = b"".join(data for direction, data in conversation.sent[:since] if direction is Direction.FORWARD)
        highest = max((truth.stream for truth in conversation.ended if _has_asked(seen, truth.stream)), default=0)
        lines, replay = run(play(conversation, since).packets)
        told = {read_stream(line): line for line in lines}
        assert len(told) == len(lines) == replay.counts.calls
        assert told.keys() >= {stream for stream in truths if stream > highest}
        for stream, line in told.items():
            truth = truths[stream]
            assert line["client.port"] == 40_000
            if line["url.path"] != "<unknown>":
                assert line["url.path"] == truth.path
                named += 1
            if line.get("http.response.status_code"):
                assert line["http.response.status_code"] == truth.status
    assert named > 50


def _has_asked(seen: bytes, stream: int) -> bool:
    """Whether the head of a stream's request is in what the client sent: HEADERS (1) of that stream, with any flags."""
    number = stream.to_bytes(4)
    at = len(PREFACE)
    while at + 9 <= len(seen):
        if seen[at + 3] == 1 and seen[at + 5 : at + 9] == number:
            return True
        at += 9 + int.from_bytes(seen[at : at + 3])
    return False


def test_answers_whose_request_was_not_seen_are_counted() -> None:
    response = Encoder()
    talk = Talk()
    for stream in (5, 7):
        talk.answer(write_headers(stream, response.encode([(b":status", b"200")]), is_end=True))
    lines, replay = run(talk.packets)
    assert (lines, replay.flows.counts.http2_flows) == ([], 1)
    assert "answers of HTTP/2 whose request was not seen: 2" in list(summarize(replay, is_truncated=False))


@pytest.mark.parametrize(
    ("said", "is_http2"),
    [
        (write_ping(), False),  # One frame alone may be anything.
        (write_ping() + write_window_update(0), True),
        (write_headers(9, b"\x88", is_end=True), True),
        (b"\x17\x03\x03\x00\x20" + b"x" * 32, False),
        (b"*1\r\n$4\r\nPING\r\n", False),
        (bytes(64), False),
    ],
)
def test_what_is_taken_for_http2_in_its_middle(said: bytes, is_http2: bool) -> None:
    _, replay = run(Talk().ask(said).packets)
    assert bool(replay.flows.counts.http2_flows) is is_http2


def test_what_began_otherwise_is_not_taken_for_http2() -> None:
    """Only a capture that joined in the middle has reason to look for frames without a preface."""
    _, replay = run(Talk().open().ask(write_headers(9, b"\x88", is_end=True)).packets)
    assert replay.flows.counts.http2_flows == 0


def ask_for_users(*, has_preface: bool = True) -> Talk:
    """A POST with a body in two parts, answered by two users, compressed."""
    request, response = Encoder(), Encoder()
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/users?q=x"), (b":authority", b"api.example"),
        (b"content-type", b"application/json"), (b"user-agent", b"curl/8"), (b"x-tenant", b"t3nant"),
        (b"authorization", b"Basic dXNlcjpwYXNzdzByZA=="), (b"cookie", b"session=k33p"),
    ]  # fmt: skip
    head = [(b":status", b"200"), (b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    users = gzip.compress(b'[{"email":"ann@example.org"},{"email":"bob@example.org"}]')
    talk = (
        Talk()
        .open()
        .ask((PREFACE if has_preface else b"") + write_settings() + write_headers(1, request.encode(fields)))
    )
    talk.ask(write_data(1, b'{"email":')).ask(write_data(1, b'"eve@example.org"}', is_end=True))
    talk.answer(write_headers(1, response.encode([(b":status", b"103"), (b"link", b"</a>")])))
    talk.answer(write_headers(1, response.encode(head)) + write_data(1, users[:9]))
    return talk.answer(write_data(1, users[9:], is_end=True)).close()


def test_bodies_are_read() -> None:
    (line,), _ = run(ask_for_users().packets, is_raw=False)
    assert line["apidae.request.body.data_kinds"] == line["apidae.response.body.data_kinds"] == ["email"]
    assert (line["apidae.response.records"], line["apidae.response.records_basis"]) == (2, "measured")
    assert not any(name.startswith("http.request.header") or "header_names" in name for name in line)


def test_bodies_of_every_call_are_read() -> None:
    """The running sensor reads those of samples."""
    request, response, count = Encoder(), Encoder(), 50
    talk = Talk().open().ask(PREFACE + write_settings())
    for number in range(count):
        stream, path = 2 * number + 1, b"/v1/items/%d" % (number + 1_000)
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h")]
        head = [(b":status", b"200"), (b"content-type", b"application/json")]
        talk.ask(write_headers(stream, request.encode(fields), is_end=True))
        talk.answer(write_headers(stream, response.encode(head)) + write_data(stream, b"[1,2,3]", is_end=True))
    lines, _ = run(talk.packets, is_raw=False)
    assert [line.get("apidae.response.records_basis") for line in lines] == ["measured"] * count


def test_raw_tells_the_fields_of_both_heads_and_no_secret() -> None:
    (line,), _ = run(ask_for_users().packets)
    expected = {
        "user_agent.original": "curl/8",
        "user.name": "user",
        "url.original": "/v1/users?q=x",
        "http.request.header.content-type": ["application/json"],
        "http.request.body.size": 27,
        "apidae.request.header_names": ["content-type", "user-agent", "x-tenant", "authorization", "cookie"],
        "http.response.header.content-encoding": ["gzip"],
        "apidae.response.header_names": ["content-type", "content-encoding"],
    }
    assert {name: line.get(name) for name in expected} == expected
    for secret in ("passw0rd", "dXNlcj", "k33p", "t3nant"):
        assert secret not in str(line)


def test_raw_tells_the_fields_of_an_upgraded_request() -> None:
    ask = (
        b"GET /x HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: \r\n\r\n"
    )
    answer = write_settings() + write_headers(
        1, Encoder().encode([(b":status", b"204"), (b"etag", b"e1")]), is_end=True
    )
    talk = Talk().open().ask(ask).answer(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n" + answer)
    (line,), _ = run(talk.close().packets)
    assert (line["user_agent.original"], line["http.response.header.etag"]) == ("curl/8", ["e1"])
    assert line["timestamp"] == f"2025-10-09T08:53:20.{START_NS % 10**9 + 3_000_000:09d}Z"
