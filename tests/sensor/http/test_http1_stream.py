"""The stream reader: events of messages, the same however the bytes are cut; faults by name; gaps and what is held."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.http.http1.grammar import RULES, Expect, Fault, name_smuggling
from sensor.http.http1.stream import (
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    PLAIN_HEAD_BYTES,
    Abandoned,
    Data,
    End,
    Event,
    Head,
    MessageReader,
    MessageState,
    Started,
    Stopped,
)
from tests.sensor.http.smuggling import CHUNKED, EMPTY_CHUNK, POST, SMUGGLED, SMUGGLING

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


class Reader(MessageReader):
    """Gives its events as lists."""

    def collect(self, act: Callable[..., None], *arguments: object) -> list[Event]:
        events: list[Event] = []
        act(*arguments, events)
        return events


def read(
    data: bytes, *, is_request: bool = True, is_strict: bool = False, expect: Expect = Expect.NORMAL
) -> list[Event]:
    reader = Reader(is_request=is_request, is_strict=is_strict, expect=lambda start: expect, has_data=True)
    return [*reader.collect(reader.feed, data), *reader.collect(reader.finish)]


def summarize(events: list[Event]) -> list[object]:
    """(method or status, body, is complete) of each message, and the faults that stop."""
    out: list[object] = []
    name: object = None
    body = b""
    for event in events:
        match event:
            case Head():
                name, body = event.start.method.decode() or event.start.status_code, b""
            case Data():
                body += event.data
            case End():
                assert len(body) == event.body_bytes - event.gap_bytes
                out.append((name, body, event.is_complete))
            case Stopped():
                out.append(event.fault)
            case Abandoned():
                out.append("abandoned")
    return out


def find_faults(events: list[Event]) -> list[Fault]:
    return [fault for event in events if isinstance(event, End) for fault in event.faults]


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (GET + GET, [("GET", b"", True)] * 2),
        (b"\r\n\n" + GET, [("GET", b"", True)]),
        (POST + b"Content-Length: 3\r\n\r\nabc" + GET, [("POST", b"abc", True), ("GET", b"", True)]),
        (
            CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n" + GET,
            [("POST", b"abcde", True), ("GET", b"", True)],
        ),
        (CHUNKED + b"3\r\nab", [("POST", b"ab", False)]),
        (POST + b"Content-Length: 3\r\n\r\nab", [("POST", b"ab", False)]),
        (b"GET / HTTP/1.1\r\nHo", [("GET", b"", False)]),
        (b"GET / HTTP/1.1", ["abandoned"]),
        (b"M-SEARCH * HTTP/1.1\r\n\r\n", [("M-SEARCH", b"", True)]),
        (b"BREW /pot HTTP/1.1\r\n\r\n", [("BREW", b"", True)]),
        (b"GET /old\r\n", [("GET", b"", True)]),
        (b"\x16\x03\x01\x02\x00\x01\n", ["abandoned", Fault.METHOD]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["abandoned", Fault.HTTP2_PREFACE]),
    ],
)
def test_requests(data: bytes, messages: list[object]) -> None:
    assert summarize(read(data)) == messages


@pytest.mark.parametrize(
    ("data", "expect", "messages"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Expect.NORMAL, [(200, b"hi", True)]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Expect.NO_BODY, [(200, b"", True)]),
        (b"HTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\nHTTP/1.1 204 X\r\n\r\n", Expect.NORMAL,
         [(304, b"", True), (204, b"", True)]),
        (b"HTTP/1.0 200 OK\r\n\r\nall there is", Expect.NORMAL, [(200, b"all there is", True)]),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Expect.NORMAL,
         [(100, b"", True), (200, b"", True)]),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\x81\x05hello", Expect.NORMAL, [(101, b"", True)]),
        (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01", Expect.TUNNEL, [(200, b"", True)]),
        (b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", Expect.TUNNEL, [(407, b"no", True)]),
        (b"HTTP/1.1 2XX Odd\r\nContent-Length: 0\r\n\r\n", Expect.NORMAL, [(0, b"", True)]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n" + EMPTY_CHUNK, Expect.NORMAL,
         [(200, b"z", True)]),
        (b"SSH-2.0-x\r\n", Expect.NORMAL, ["abandoned", Fault.START_LINE]),
    ],
)  # fmt: skip
def test_responses(data: bytes, expect: Expect, messages: list[object]) -> None:
    assert summarize(read(data, is_request=False, expect=expect)) == messages


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", ["abandoned", Fault.HTTP2_PREFACE]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", ["abandoned"]),
        (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", ["abandoned", Fault.VERSION]),
        (b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", ["abandoned", Fault.VERSION]),
        (b"GET / HTTP/5.", ["abandoned"]),
        (b"GET / HTTP/5.0", ["abandoned", Fault.VERSION]),
        (b"GET / HTTP/x", ["abandoned", Fault.VERSION]),
        (b"HTTP/5", ["abandoned"]),
        (b"HTTP/5.0", ["abandoned", Fault.VERSION]),
        (b"GET /old\n\r\n", [("GET", b"", True)]),
        (b"GET /old\nHost: a\r\n\r\n", [("GET", b"", True)]),
        (b"GET /old HTTP/0.9\n\r\n", ["abandoned", Fault.BARE_LF]),
        (b"GET /old HTTP/1.1\n\r\n", ["abandoned", Fault.BARE_LF]),
        (b"HTTP/1.1 200 OK\n\r\n", ["abandoned", Fault.BARE_LF]),
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_strict_start_lines(data: bytes, messages: list[object], step: int) -> None:
    reader = Reader(is_request=data[:4] != b"HTTP", is_strict=True)
    events = [event for at in range(0, len(data), step) for event in reader.collect(reader.feed, data[at : at + step])]
    assert summarize([*events, *reader.collect(reader.finish)]) == messages


@pytest.mark.parametrize("name", SMUGGLING)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_smuggling_invents_no_second_request_and_is_flagged(name: str, step: int) -> None:
    prefix, fault = SMUGGLING[name]
    reader = Reader(is_request=True)
    data = prefix + SMUGGLED
    events = [event for at in range(0, len(data), step) for event in reader.collect(reader.feed, data[at : at + step])]
    assert reader.state is MessageState.HELD
    # The next honest request, once the client saw the answer.
    events += reader.collect(reader.release)
    events += reader.collect(reader.feed, GET)
    events += reader.collect(reader.finish)
    assert [event.start.target for event in events if isinstance(event, Head)] == [b"/", b"/a"]
    first = next(event for event in events if isinstance(event, End))
    assert fault.value in name_smuggling(first.faults)
    assert first.wire_bytes == len(data)


@pytest.mark.parametrize("name", SMUGGLING)
def test_strictly_smuggling_is_refused(name: str) -> None:
    prefix, fault = SMUGGLING[name]
    events = read(prefix + SMUGGLED, is_strict=True)
    if RULES[fault].is_strict:
        assert isinstance(events[-1], Stopped)
    assert sum(isinstance(event, Head) for event in events) <= 1 or not RULES[fault].is_strict


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (POST + b"Content-Length: 000\r\n\r\n", Fault.CONTENT_LENGTH_ZEROS),
        (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", Fault.CONTENT_LENGTH_REPEATED),
        (POST + b"Content-Length: 0, 0\r\n\r\n", Fault.CONTENT_LENGTH_REPEATED),
        (b"POST /\xc3\xa9 HTTP/1.1\r\n\r\n", Fault.TARGET),
        (POST + b"A: \x01\r\n\r\n", Fault.FIELD_VALUE),
        (POST + b"no colon\r\n\r\n", Fault.FIELD_LINE),
    ],
)
def test_what_all_agree_on_is_noted_and_read_on(head: bytes, fault: Fault) -> None:
    events = read(head + GET)
    assert find_faults(events) == [fault]
    assert [message[0] for message in summarize(events)] == ["POST", "GET"]  # type: ignore[index]


# ---- cuts ----

PARTS = st.sampled_from(
    [GET, CHUNKED, SMUGGLED, b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nT: v\r\n\r\n", b"\r\n", b"\n", b"\r", b" ",
     POST + b"Content-Length: 4\r\n\r\nbody", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
     b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"Content-Length: 5\r\n", b"A: b\r\n", b";x=\"y\"", b"ff", b"PUT / HTTP/1.0\r\n", b"HTTP/1.1 304 N\r\n"]
)  # fmt: skip
STREAM = st.lists(PARTS | st.binary(max_size=6), max_size=8).map(b"".join)


def merge(events: list[Event]) -> list[Event]:
    """Cuts of `Data` do not matter."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, Data) and out and isinstance(out[-1], Data):
            out[-1] = Data(out[-1].data + event.data)
        else:
            out.append(event)
    return out


@settings(max_examples=400)
@given(STREAM, st.lists(st.integers(1, 40), max_size=30), st.booleans(), st.booleans())
def test_any_cut_gives_the_same_events(data: bytes, sizes: list[int], is_request: bool, is_strict: bool) -> None:
    cut = Reader(is_request=is_request, is_strict=is_strict, has_data=True)
    whole = Reader(is_request=is_request, is_strict=is_strict, has_data=True)
    events, at = [], 0
    for size in sizes:
        if cut.state is MessageState.LOST or whole.state is MessageState.LOST:
            break
        events += cut.collect(cut.feed, data[at : at + size])
        at += size
    events += cut.collect(cut.feed, data[at:])
    expected = whole.collect(whole.feed, data)
    if MessageState.LOST in (cut.state, whole.state):
        return  # Where the place was lost, reading goes on at the start of a feed, so the cuts matter.
    assert merge([*events, *cut.collect(cut.finish)]) == merge([*expected, *whole.collect(whole.finish)])


@settings(max_examples=300)
@given(st.lists(STREAM | st.integers(0, 200), max_size=12), st.booleans(), st.booleans())
def test_every_byte_is_counted_once(pieces: list[bytes | int], is_request: bool, is_strict: bool) -> None:
    reader = Reader(is_request=is_request, is_strict=is_strict)
    events: list[Event] = []
    total = 0
    for piece in pieces:
        total += piece if isinstance(piece, int) else len(piece)
        events += reader.collect(reader.skip, piece) if isinstance(piece, int) else reader.collect(reader.feed, piece)
    events += reader.collect(reader.finish)
    assert reader.position == total
    counted = sum(event.wire_bytes for event in events if isinstance(event, End | Abandoned)) + reader.unread_bytes
    assert counted <= total
    heads = sum(isinstance(event, Head) for event in events)
    assert heads == sum(isinstance(event, End) for event in events)
    assert heads <= sum(isinstance(event, Started) for event in events)


# ---- gaps and limits ----


def test_a_gap_in_a_body_of_known_length_is_bridged() -> None:
    reader = Reader(is_request=False)
    events = reader.collect(reader.feed, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(10))
    events += reader.collect(reader.skip, 80)
    events += reader.collect(reader.feed, bytes(10) + b"HTTP/1.1 204 No\r\n\r\n")
    ends = [event for event in events if isinstance(event, End)]
    assert [(end.body_bytes, end.gap_bytes, end.is_complete) for end in ends] == [(100, 80, True), (0, 0, True)]


def test_a_gap_past_the_end_of_a_body_of_known_length_ends_it() -> None:
    reader = Reader(is_request=False)
    events = reader.collect(reader.feed, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(10))
    events += reader.collect(reader.skip, 120)
    events += reader.collect(reader.feed, bytes(10))
    events += reader.collect(reader.feed, b"HTTP/1.1 204 No\r\n\r\n")
    ends = [event for event in events if isinstance(event, End)]
    assert [(end.body_bytes, end.gap_bytes, end.is_complete) for end in ends] == [(100, 90, True), (0, 0, True)]
    assert reader.unread_bytes == 10


def test_after_a_gap_elsewhere_reading_goes_on_at_a_segment_that_starts_like_a_message() -> None:
    reader = Reader(is_request=True)
    events = reader.collect(reader.feed, POST + b"Content-Len")
    events += reader.collect(reader.skip, 50)
    events += reader.collect(reader.feed, b"some body GET /no HTTP/1.1\r\n\r\n")
    events += reader.collect(reader.feed, b"GET /yes HTTP/1.1\r\n\r\n")
    assert [event.start.target for event in events if isinstance(event, Head)] == [b"/yes"]
    assert reader.unread_bytes == len(b"some body GET /no HTTP/1.1\r\n\r\n")
    assert sum(isinstance(event, Abandoned) for event in events) == 1


def test_the_rest_of_a_method_is_not_one() -> None:
    reader = Reader(is_request=True, is_joined=True)
    events: list[Event] = []
    for segment in (b"OST /no HTTP/1.1\r\n\r\n", b"PTIONS /no HTTP/1.1\r\n\r\n", b"PROPFIND /yes HTTP/1.1\r\n\r\n"):
        events += reader.collect(reader.feed, segment)
    assert [event.start.method for event in events if isinstance(event, Head)] == [b"PROPFIND"]


@pytest.mark.parametrize("is_strict", [False, True])
def test_limits_stop_with_a_fault(is_strict: bool) -> None:
    reader = Reader(is_request=True, is_strict=is_strict)
    events = reader.collect(reader.feed, b"GET / HTTP/1.1\r\n")
    for _ in range(MAX_HEAD_BYTES // 1_000 + 1):
        events += reader.collect(reader.feed, b"A: " + b"x" * 995 + b"\r\n")
    assert Stopped(Fault.HEAD_SIZE) in events
    reader = Reader(is_request=True, is_strict=is_strict)
    events = reader.collect(reader.feed, CHUNKED + b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES + 1))
    assert reader.state is (MessageState.STOPPED if is_strict else MessageState.HELD)


class Searched(bytes):
    """Counts the bytes that are looked through for the end of a head."""

    looked = 0

    def find(self, wanted: bytes, begin: int, end: int | None = None) -> int:  # type: ignore[override]
        at = super().find(wanted, begin, end)
        self.looked += (at if at >= 0 else min(len(self), end or len(self))) - begin
        return at


@pytest.mark.parametrize("message", [b"GET /\n", b"HTTP/1.1 204 N\n\n", b"HTTP/1.1 204 N\r\n\n"])
def test_many_heads_with_other_line_ends_are_each_looked_through_so_far(message: bytes) -> None:
    count = 5_000
    data = Searched(message * count + GET)
    reader = Reader(is_request=message.startswith(b"GET"))
    events = reader.collect(reader.feed, data)
    assert sum(isinstance(event, Head) for event in events) >= count
    most = PLAIN_HEAD_BYTES if b"\r" in message else 0
    assert data.looked <= count * (2 * len(message) + most) + PLAIN_HEAD_BYTES < count * len(data) // 4


def test_rules_name_every_fault() -> None:
    assert set(RULES) == set(Fault)
    assert all(rule.is_smuggling for rule in RULES.values() if rule.is_ambiguous)
