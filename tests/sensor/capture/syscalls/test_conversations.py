"""Exchanges out of what processes read and wrote: both ends, gaps, events in another order than the bytes, bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.packets.exchange import DROP_HEAD_LOST, EARLY_AFTER_NS
from sensor.capture.syscalls import streams as conversations_module
from sensor.capture.syscalls.streams import DROP_CUT, PATIENCE_NS, Conversations, Verdict
from sensor.core.calls import Exchange, Role
from sensor.core.health import StageCounter
from sensor.coverage.unread import UnreadCount, UnreadEnd, UnreadReason
from sensor.ebpf.abi import SYSCALL_EVENT, SyscallEvent, SyscallKind
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import StreamRequest
from sensor.http.reassembly import Direction
from tests.sensor.events import take_records
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_conversation import converse as talk_http2
from tests.sensor.http.http2_wire import write_data, write_headers, write_settings
from tests.sensor.records import make_exchange

READ, WRITE = SyscallKind.READ, SyscallKind.WRITE
REQUEST = b"GET /orders/7 HTTP/1.1\r\nHost: shop\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# TCP's numbers begin anywhere, also right before they wrap.
READ_START, WRITE_START = 2**32 - 10, 77
UNIX_NS = 1_000_000_000_000


class Socket:
    """One connection as the kernel tells it; `take` gives what came of each event."""

    def __init__(self, conversations: Conversations, number: int = 0xFFFF_8880_0000_1000, remote_port: int = 50_000):
        self.conversations = conversations
        self.number = number
        self.remote_port = remote_port
        self.now_ns = 1_000
        self.next = {READ: READ_START, WRITE: WRITE_START}

    def pack(
        self, kind: SyscallKind, data: bytes = b"", *, size: int | None = None, other: int | None = None
    ) -> memoryview:
        self.now_ns += 1_000
        size = len(data) if size is None else size
        opposite = WRITE if kind is READ else READ
        event = SyscallEvent(
            time_ns=self.now_ns,
            socket=self.number,
            cgroup_id=3,
            sequence=self.next.get(kind, 0) % 2**32,
            other=(self.next[opposite] if other is None else other) % 2**32,
            size=size,
            length=len(data),
            hash=5,
            local_port=80,
            remote_port=self.remote_port,
            kind=kind,
            family=4,
            bound=0,
            library=0,
            process=0,
            local_address=b"\x7f\x00\x00\x01" + bytes(12),
            remote_address=b"\x0a\x01\x02\x03" + bytes(12),
        )
        if kind in self.next:
            self.next[kind] += size
        return memoryview(SYSCALL_EVENT.pack(*event) + data + bytes(3))

    def take(self, kind: SyscallKind, data: bytes = b"", *, size: int | None = None) -> list[Exchange]:
        return take_records(self.conversations, [self.pack(kind, data, size=size)])

    def skip(self, kind: SyscallKind, size: int) -> None:
        """Bytes that nobody tells of."""
        self.next[kind] += size


@pytest.fixture
def stage() -> StageCounter:
    return StageCounter("exchange")


@pytest.fixture
def verdicts() -> list[Verdict]:
    return []


@pytest.fixture
def conversations(stage: StageCounter, verdicts: list[Verdict]) -> Conversations:
    return Conversations(
        to_unix_ns=lambda ns: ns + UNIX_NS, stage=stage, refuse=lambda event, verdict: verdicts.append(verdict)
    )


@pytest.fixture
def socket(conversations: Conversations) -> Socket:
    return Socket(conversations)


def test_answers_to_what_was_not_read_are_counted_by_client(conversations: Conversations, socket: Socket) -> None:
    """To some servers any white space of Unicode is a blank of the request line."""
    socket.take(READ, REQUEST)
    socket.take(WRITE, RESPONSE)
    for _ in range(3):
        socket.take(READ, REQUEST.replace(b" /", b"\x1c/"))
        socket.take(WRITE, RESPONSE)
    socket.take(SyscallKind.CLOSED)
    end = UnreadEnd(3, 80, "10.1.2.3", UnreadReason.POSITION)
    count = conversations.unread.totals[end]
    assert count.calls == 3 and count.bytes >= 2 * len(REQUEST)


def test_a_connection_that_is_joined_within_a_call_hides_nothing(conversations: Conversations, socket: Socket) -> None:
    socket.take(WRITE, RESPONSE)
    socket.take(READ, REQUEST)
    socket.take(WRITE, RESPONSE)
    socket.take(SyscallKind.CLOSED)
    assert conversations.unread.totals == {}


def test_a_long_head_is_read_as_capture_by_packets_reads_it(conversations: Conversations, socket: Socket) -> None:
    pad = b"X-Pad: " + b"p" * 15_000 + b"\r\n"
    socket.take(READ, b"GET /long HTTP/1.1\r\n")
    for _ in range(4):
        socket.take(READ, pad)
    socket.take(READ, b"Host: shop\r\n\r\n")
    (exchange,) = socket.take(WRITE, RESPONSE)
    assert exchange.request_head.endswith(b"Host: shop\r\n\r\n") and exchange.is_request_head_truncated
    end = UnreadEnd(3, 80, "10.1.2.3", UnreadReason.HEAD)
    assert conversations.unread.totals == {end: UnreadCount(1, 2 * len(pad))}


def test_a_call_at_its_server(socket: Socket, stage: StageCounter) -> None:
    assert socket.take(READ, REQUEST) == []
    assert socket.take(WRITE, RESPONSE) == [
        make_exchange(
            time_unix_ns=UNIX_NS + 2_000,
            connection=socket.number,
            call=0,
            role=Role.SERVER,
            cgroup_id=3,
            peer_cgroup_id=0,
            local_address="127.0.0.1",
            local_port=80,
            remote_address="10.1.2.3",
            remote_port=50_000,
            request_head=REQUEST,
            is_request_head_truncated=False,
            response_head=RESPONSE[:-2],
            status_code=200,
            request_bytes=len(REQUEST),
            response_bytes=len(RESPONSE),
            time_to_first_byte_ns=1_000,
            duration_ns=1_000,
            calls=1,
            is_final=True,
            is_aborted=False,
            is_lossy=False,
        )
    ]
    assert stage.count().seen == stage.count().used == 1


def test_a_call_at_its_client(socket: Socket) -> None:
    socket.take(WRITE, REQUEST)
    (told,) = socket.take(READ, RESPONSE)
    assert (told.ends.role, told.request_head, told.figures.status_code) == (Role.CLIENT, REQUEST, 200)


@given(cuts=st.lists(st.integers(1, 5), max_size=80))
def test_heads_in_any_cuts(cuts: list[int]) -> None:
    conversations = Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=lambda event, verdict: None)
    socket, told = Socket(conversations), []
    for kind, data in ((READ, REQUEST), (WRITE, RESPONSE)) * 2:
        rest, lengths = data, iter(cuts)
        while rest:
            length = next(lengths, len(rest))
            told += socket.take(kind, rest[:length])
            rest = rest[length:]
    assert [
        (each.call, each.figures.request_bytes, each.figures.response_bytes, each.figures.is_lossy) for each in told
    ] == [(number, len(REQUEST), len(RESPONSE), False) for number in (0, 1)]


def test_bodies_that_nobody_copied_count(socket: Socket, conversations: Conversations) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    socket.take(READ, REQUEST)
    socket.take(WRITE, head, size=len(head) + 40_000)  # Past the limit of an event.
    (told,) = socket.take(WRITE, size=60_000)  # sendfile.
    assert (told.figures.response_bytes, told.figures.is_aborted) == (len(head) + 100_000, False)
    assert conversations.counts.gap_bytes == 100_000


def test_requests_behind_a_body_that_nobody_copied_have_their_own_answers(socket: Socket) -> None:
    """The first of them was sent before that body had come, the second after it."""
    socket.take(READ, REQUEST)
    socket.take(READ, REQUEST.replace(b"7", b"8"))
    first = socket.take(WRITE, b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", size=1_041)
    socket.take(READ, REQUEST.replace(b"7", b"9"))
    calls = first + socket.take(WRITE, RESPONSE) + socket.take(WRITE, RESPONSE.replace(b"200", b"404"))
    assert [(call.request_head[12:13], call.figures.status_code, call.figures.is_lossy) for call in calls] == [
        (b"7", 500, True),
        (b"8", 200, False),
        (b"9", 404, False),
    ]


def test_bytes_of_a_lost_event_are_a_gap(socket: Socket) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    socket.take(READ, REQUEST)
    socket.take(WRITE, head + b"x" * 1000)
    socket.skip(WRITE, 3000)
    (told,) = socket.take(WRITE, b"x" * 1000)
    assert (told.figures.response_bytes, told.figures.is_lossy, told.figures.is_aborted) == (
        len(head) + 5000,
        True,
        False,
    )


def test_a_lost_answer_does_not_shift_the_next(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    socket.skip(WRITE, len(RESPONSE))
    told = socket.take(READ, REQUEST)
    told += socket.take(WRITE, RESPONSE.replace(b"200", b"201"))
    told += socket.take(READ, REQUEST) + socket.take(WRITE, RESPONSE)
    assert [(each.figures.status_code, each.figures.is_lossy) for each in told] == [
        (0, True),
        (201, False),
        (200, False),
    ]


def test_an_answer_that_is_told_before_its_request(socket: Socket) -> None:
    """At a client of two threads: the one that reads may return before the one that wrote."""
    written = socket.pack(WRITE, REQUEST)
    first = take_records(socket.conversations, [written, socket.pack(READ, RESPONSE)])
    assert len(first) == 1
    written, read = socket.pack(WRITE, REQUEST), socket.pack(READ, RESPONSE)
    assert take_records(socket.conversations, [read]) == []
    (told,) = take_records(socket.conversations, [written])
    assert (told.request_head, told.figures.status_code, told.figures.is_lossy) == (REQUEST, 200, False)


def test_a_read_does_not_wait_for_ever(socket: Socket) -> None:
    socket.take(WRITE, REQUEST)
    socket.take(READ, RESPONSE)
    socket.skip(WRITE, len(REQUEST))  # Its event is lost.
    assert socket.take(READ, RESPONSE) == []
    assert socket.conversations.poll(socket.now_ns) == []
    socket.conversations.poll(socket.now_ns + PATIENCE_NS + 1)
    socket.take(WRITE, REQUEST)
    assert [each.figures.status_code for each in socket.take(READ, RESPONSE)] == [200]


def test_a_response_without_framing_ends_with_its_connection(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    assert socket.take(WRITE, b"HTTP/1.0 200 OK\r\n\r\nall there is") == []
    (told,) = socket.take(SyscallKind.SHUT)
    assert (told.figures.status_code, told.figures.is_aborted) == (200, False)
    assert socket.take(SyscallKind.CLOSED) == []


def test_an_answer_that_was_cut_off_is_aborted(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    socket.take(WRITE, RESPONSE[:-1])
    (told,) = socket.take(SyscallKind.CLOSED)
    assert (told.figures.status_code, told.figures.is_aborted) == (200, True)


def test_a_request_without_an_answer_is_told(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    (told,) = socket.take(SyscallKind.CLOSED)
    assert (told.figures.status_code, told.figures.is_aborted, told.response_head) == (0, True, b"")


@pytest.mark.parametrize("end", [SyscallKind.SHUT, SyscallKind.CLOSED])
def test_a_lost_answer_before_the_end_is_not_one_that_was_never_sent(socket: Socket, end: SyscallKind) -> None:
    """The numbers at the end say that more was written than any event told."""
    socket.take(READ, REQUEST)
    socket.skip(WRITE, len(RESPONSE))
    socket.next[end] = socket.next[WRITE]
    (told,) = take_records(socket.conversations, [socket.pack(end, other=socket.next[READ])])
    assert (told.figures.status_code, told.figures.is_lossy, told.figures.is_aborted) == (0, True, False)


def test_http2_answers_that_were_lost_are_not_ones_that_were_never_sent() -> None:
    socket = Socket(Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=refuse_nothing))
    ask = Encoder().encode([(b":method", b"GET"), (b":path", b"/lost"), (b":authority", b"h")])
    socket.take(READ, PREFACE + write_settings() + write_headers(1, ask, is_end=True))
    socket.skip(WRITE, 300)
    socket.next[SyscallKind.CLOSED] = socket.next[WRITE]
    (told,) = take_records(socket.conversations, [socket.pack(SyscallKind.CLOSED, other=socket.next[READ])])
    assert isinstance(told, StreamExchange)
    assert (told.call.status_code, told.call.is_lossy) == (0, True)


def test_http2_connections_that_are_given_up_do_not_abort_their_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations_module, "MAX_CONNECTIONS", 1)
    conversations = Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=refuse_nothing)
    ask = Encoder().encode([(b":method", b"GET"), (b":path", b"/open"), (b":authority", b"h")])
    Socket(conversations, 1).take(READ, PREFACE + write_settings() + write_headers(1, ask, is_end=True))
    (told,) = Socket(conversations, 2).take(READ, REQUEST)
    assert isinstance(told, StreamExchange)
    assert (told.call.status_code, told.call.is_lossy) == (0, True)


def test_a_half_closed_client_still_gets_its_answer(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    assert socket.take(SyscallKind.EOF) == []
    assert len(socket.take(WRITE, RESPONSE)) == 1


def test_a_long_answer_is_told_twice(socket: Socket) -> None:
    socket.take(READ, REQUEST)
    socket.take(WRITE, RESPONSE[:-1])
    assert socket.conversations.poll(socket.now_ns) == []
    (early,) = socket.conversations.poll(socket.now_ns + EARLY_AFTER_NS)
    assert (early.figures.calls, early.figures.is_final, early.figures.is_aborted, early.figures.response_bytes) == (
        1,
        False,
        False,
        0,
    )
    (last,) = socket.take(WRITE, RESPONSE[-1:])
    assert (last.figures.calls, last.figures.is_final, last.figures.response_bytes, last.call) == (
        0,
        True,
        len(RESPONSE),
        early.call,
    )


def test_a_socket_is_used_again(conversations: Conversations) -> None:
    before = Socket(conversations)
    before.take(READ, REQUEST)
    after = Socket(conversations, remote_port=50_001)
    (unread,) = after.take(READ, REQUEST)
    assert (unread.ends.remote_port, unread.figures.is_lossy, unread.figures.is_aborted) == (50_000, True, False)
    (told,) = after.take(WRITE, RESPONSE)
    assert (told.ends.remote_port, told.call, told.figures.is_lossy) == (50_001, 0, False)


def test_a_response_without_its_request_is_counted(socket: Socket, stage: StageCounter) -> None:
    assert socket.take(WRITE, RESPONSE) == []
    assert stage.count().dropped == ((DROP_HEAD_LOST, 1),)
    assert len(socket.take(READ, REQUEST) + socket.take(WRITE, RESPONSE)) == 1


def test_what_is_no_http_is_refused(socket: Socket, verdicts: list[Verdict]) -> None:
    socket.take(READ, b"EHLO mail.example\r\n")
    socket.take(WRITE, b"250 fine\r\n")
    assert verdicts and set(verdicts) == {Verdict.OTHER}


def test_an_upgrade_ends_the_reading(socket: Socket, verdicts: list[Verdict]) -> None:
    socket.take(READ, REQUEST[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    told = socket.take(WRITE, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert [each.figures.status_code for each in told] == [101]
    assert socket.take(READ, b"\x81\x85maskhello") == []
    assert verdicts == [Verdict.UPGRADED]


CONNECT = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize(
    "granted",
    [GRANTED, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"],
    ids=["connect", "framed", "upgrade"],
)
def test_calls_behind_a_granted_upgrade_are_calls(socket: Socket, verdicts: list[Verdict], granted: bytes) -> None:
    assert socket.take(READ, CONNECT) == []
    told = socket.take(WRITE, granted)
    for _ in range(3):
        assert socket.take(READ, REQUEST[:1]) == []
        assert socket.take(READ, REQUEST[1:]) == []
        told += socket.take(WRITE, RESPONSE)
    assert [each.call for each in told] == [0, 1, 2, 3]
    assert not any(each.figures.is_lossy or each.figures.is_aborted for each in told)
    assert verdicts == []


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01" + b"h" * 99, b"SSH-2.0-client\r\n", REQUEST])
def test_a_tunnel_is_no_call(socket: Socket, verdicts: list[Verdict], sent: bytes, is_pipelined: bool) -> None:
    told = socket.take(READ, CONNECT + sent if is_pipelined else CONNECT) + socket.take(WRITE, GRANTED)
    if not is_pipelined:
        told += socket.take(READ, sent)
    told += socket.take(WRITE, b"+OK this is no HTTP\r\n")
    assert [each.figures.status_code for each in told] == [200]
    assert verdicts and set(verdicts) == {Verdict.UPGRADED}


def test_connections_are_bounded(conversations: Conversations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations_module, "MAX_CONNECTIONS", 2)
    sockets = [Socket(conversations, number) for number in (1, 2, 3)]
    told = [each for socket in sockets for each in socket.take(READ, REQUEST)]
    assert [(each.figures.status_code, each.figures.is_lossy, each.figures.is_aborted) for each in told] == [
        (0, True, False)
    ]
    assert conversations.counts.evicted_connections == 1


@given(
    data=st.lists(st.tuples(st.sampled_from(list(SyscallKind)), st.binary(max_size=40), st.integers(0, 9)), max_size=30)
)
def test_any_bytes_never_raise(data: list[tuple[SyscallKind, bytes, int]]) -> None:
    stage = StageCounter("exchange")
    conversations = Conversations(to_unix_ns=int, stage=stage, refuse=lambda event, verdict: None)
    socket = Socket(conversations)
    for kind, text, more in data:
        socket.take(kind, b"GET / " + text if more % 2 else text, size=len(text) + more + 6)
    conversations.poll(socket.now_ns + 2 * EARLY_AFTER_NS)
    socket.take(SyscallKind.CLOSED)
    assert stage.held == 0


def test_http2_by_its_preface_however_it_is_cut() -> None:
    conversation = talk_http2(3, 40)
    for size in (3, 20, 1_000, 1 << 20):
        stage = StageCounter("exchange")
        socket = Socket(Conversations(to_unix_ns=int, stage=stage, refuse=refuse_nothing))
        found: list[StreamExchange] = []
        for direction, data in conversation.sent:
            kind = READ if direction is Direction.FORWARD else WRITE
            for at in range(0, len(data), size):
                told = take_records(socket.conversations, [socket.pack(kind, data[at : at + size])])
                found += [one for one in told if isinstance(one, StreamExchange)]
        ended = [(truth.method, truth.path.partition("?")[0], truth.status) for truth in conversation.ended]
        assert sorted(describe_stream(one) for one in found) == sorted(ended)
        assert {(one.exchange.ends.role, one.exchange.ends.local_port) for one in found} == {(Role.SERVER, 80)}
        assert not any(one.call.is_lossy for one in found)
        assert stage.count().used == len(ended)


def test_http2_with_data_that_nobody_saw() -> None:
    socket = Socket(Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=refuse_nothing))
    encoders = Encoder(), Encoder()
    ask = encoders[0].encode([(b":method", b"GET"), (b":path", b"/large"), (b":authority", b"h")])
    answer = write_headers(1, encoders[1].encode([(b":status", b"200")]))
    data = write_data(1, bytes(16_000), is_end=True)
    socket.take(READ, PREFACE + write_settings() + write_headers(1, ask, is_end=True))
    (told,) = take_records(
        socket.conversations, [socket.pack(WRITE, answer + data[:100], size=len(answer) + len(data))]
    )
    assert isinstance(told, StreamExchange)
    assert describe_stream(told) == ("GET", "/large", 200)
    assert (told.exchange.figures.response_bytes, told.exchange.figures.is_lossy) == (len(answer) + len(data), False)


def test_http2_that_ends_with_its_connection() -> None:
    socket = Socket(Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=refuse_nothing))
    ask = Encoder().encode([(b":method", b"GET"), (b":path", b"/cut"), (b":authority", b"h")])
    assert socket.take(READ, PREFACE + write_settings() + write_headers(1, ask, is_end=True)) == []
    (told,) = take_records(socket.conversations, [socket.pack(SyscallKind.CLOSED)])
    assert isinstance(told, StreamExchange)
    assert (told.call.is_aborted, describe_stream(told)) == (True, ("GET", "/cut", 0))


def test_after_looking_away_http1_begins_anew(socket: Socket, stage: StageCounter) -> None:
    """The call under way is dropped, for nobody knows what came of it, and no later answer is taken for its."""
    socket.take(READ, b"GET /before HTTP/1.1\r\nHost: h\r\n\r\n")
    assert socket.take(SyscallKind.CUT) == []
    assert socket.take(READ, b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n") == []
    (told,) = socket.take(WRITE, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (told.request_head.split()[1], told.figures.status_code, told.figures.is_aborted) == (b"/after", 204, False)
    assert (stage.count().used, dict(stage.count().dropped)) == (1, {DROP_CUT: 1})


def test_after_looking_away_http2_goes_on() -> None:
    socket = Socket(Conversations(to_unix_ns=int, stage=StageCounter("exchange"), refuse=refuse_nothing))
    fields = [(b":method", b"GET"), (b":path", b"/first"), (b":authority", b"h")]
    socket.take(READ, PREFACE + write_settings() + write_headers(1, Encoder().encode(fields), is_end=True))
    socket.take(WRITE, write_headers(1, Encoder().encode([(b":status", b"200")]), is_end=True))
    take_records(socket.conversations, [socket.pack(SyscallKind.CUT, other=socket.next[READ])])
    told: list[StreamExchange] = []
    for number in range(101, 121, 2):
        # Written in full, as of a client whose table is new: what it kept while nobody looked is not known.
        fields[1] = (b":path", b"/after/%d" % number)
        socket.take(READ, write_headers(number, Encoder().encode(fields), is_end=True))
        record = socket.pack(WRITE, write_headers(number, Encoder().encode([(b":status", b"200")]), is_end=True))
        told += [one for one in take_records(socket.conversations, [record]) if isinstance(one, StreamExchange)]
    assert sum(one.exchange.figures.calls for one in told) >= 8
    assert {describe_stream(one)[1] for one in told} <= {f"/after/{number}" for number in range(101, 121, 2)}


def refuse_nothing(event: SyscallEvent, verdict: Verdict) -> None:
    raise AssertionError(verdict)


def describe_stream(one: StreamExchange) -> tuple[str, str, int]:
    request = one.call.request
    assert isinstance(request, StreamRequest)
    return request.head.method, request.head.path, one.call.status_code
