"""The kernel's events of HTTP/2 as calls: who is who, when a connection ends, upgrades, and the account."""

import dataclasses
import random
import struct
from collections.abc import Iterable

import pytest

from sensor.capture.http2.assembler import POLL_INTERVAL_NS, SAVED_NS, UPGRADE_PATIENCE_NS, StreamAssembler
from sensor.core.calls import CallFigures, Ends, Exchange, Role
from sensor.core.health import StageCounter
from sensor.ebpf.abi import FRAMES_EVENT, EventKind, StreamFlag
from sensor.http.http2 import connections as http2_connections
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import UNKNOWN_PATH, StreamRequest
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_data, write_headers, write_reset, write_settings

SECOND = 1_000_000_000
INGRESS, EGRESS = 0, 1
LOCAL, REMOTE = bytes([127, 0, 0, 1]) + bytes(12), bytes([127, 0, 0, 2]) + bytes(12)
HOST = (b":authority", b"h")


@dataclasses.dataclass
class Peer:
    """Writes the events of one connection whose client sends in `client`."""

    assembler: StreamAssembler
    number: int = 7
    client: int = INGRESS
    flags: int = StreamFlag.CLIENT_INGRESS
    now: int = SECOND
    lost: int = 0

    def __post_init__(self) -> None:
        self.encoders = Encoder(), Encoder()
        self.sequence = [1_000, 0xFFFFFF00]

    def event(self, kind: int, way: int, data: bytes = b"", covered: int | None = None, left: int = 0) -> bytes:
        covered = len(data) if covered is None else covered
        self.now += 1_000
        head = FRAMES_EVENT.pack(
            *(self.now, self.number, self.sequence[way], covered, len(data), self.lost, left),
            *(kind, way, self.flags, 4, 80, 5_000, 11, 13, LOCAL, REMOTE),
        )
        self.sequence[way] = (self.sequence[way] + covered) & 0xFFFFFFFF
        return head + data

    def say(self, way: int, data: bytes, covered: int | None = None) -> list[StreamExchange]:
        return take(self.assembler, [self.event(EventKind.FRAMES, way, data, covered)])

    def begin(self) -> list[StreamExchange]:
        return self.say(self.client, write_settings(), len(PREFACE) + len(write_settings()))

    def ask(self, stream: int, path: bytes = b"/a", *, is_end: bool = True) -> list[StreamExchange]:
        block = self.encoders[0].encode([(b":method", b"GET"), (b":path", path), HOST])
        return self.say(self.client, write_headers(stream, block, is_end=is_end))

    def answer(self, stream: int, status: bytes = b"200", *, body: int = 40) -> list[StreamExchange]:
        headers = write_headers(stream, self.encoders[1].encode([(b":status", status)]))
        data = write_data(stream, b"x" * body, is_end=True)
        return self.say(1 - self.client, headers + data[:9], len(headers) + len(data))

    def end(self, way: int) -> list[StreamExchange]:
        return take(self.assembler, [self.event(EventKind.END, way)])


def take(assembler: StreamAssembler, events: Iterable[bytes]) -> list[StreamExchange]:
    return assembler.take(memoryview(event) for event in events)


def paths(told: Iterable[Exchange | StreamExchange]) -> list[str]:
    return [
        one.call.request.head.path
        for one in told
        if isinstance(one, StreamExchange) and isinstance(one.call.request, StreamRequest)
    ]


@pytest.fixture
def assembler() -> StreamAssembler:
    return StreamAssembler(to_unix_ns=lambda ns: ns + 5 * SECOND, stage=StageCounter("exchange"))


def test_a_call_has_its_ends_times_and_bytes(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    assert peer.ask(1) == []
    (told,) = peer.answer(1)
    exchange = told.exchange
    assert (exchange.ends.role, exchange.ends.connection, exchange.call) == (Role.SERVER, 7, 1)
    assert (exchange.ends.local_address, exchange.ends.local_port) == ("127.0.0.1", 80)
    assert (exchange.ends.remote_address, exchange.ends.remote_port) == ("127.0.0.2", 5_000)
    assert (exchange.ends.cgroup_id, exchange.ends.peer_cgroup_id) == (11, 13)
    assert (exchange.figures.status_code, exchange.figures.calls, exchange.figures.is_lossy) == (200, 1, False)
    assert exchange.figures.time_unix_ns == 6 * SECOND + 2_000
    assert (exchange.figures.time_to_first_byte_ns, exchange.figures.duration_ns) == (1_000, 1_000)
    assert exchange.figures.response_bytes > 49
    assert paths([told]) == ["/a"]
    assert assembler.calls == 1


def test_a_client_end_says_so(assembler: StreamAssembler) -> None:
    peer = Peer(assembler, client=EGRESS, flags=StreamFlag.CLIENT_EGRESS)
    peer.begin()
    peer.ask(1)
    (told,) = peer.answer(1)
    assert told.exchange.ends.role is Role.CLIENT


def test_a_joined_connection_learns_who_asks(assembler: StreamAssembler) -> None:
    peer = Peer(assembler, client=EGRESS, flags=StreamFlag.JOINED)
    peer.ask(5, b"/joined")
    (told,) = peer.answer(5)
    assert (told.exchange.ends.role, paths([told])) == (Role.CLIENT, ["/joined"])


def test_frames_of_the_server_before_the_preface_are_no_join(assembler: StreamAssembler) -> None:
    peer = Peer(assembler, flags=StreamFlag.JOINED)
    peer.say(EGRESS, write_settings())
    peer.flags = StreamFlag.CLIENT_INGRESS
    peer.begin()
    block = b"\x82\x84\x41\x01h\x7f\x00\x01v"  # A literal whose name is the table's newest: nothing, if all was seen.
    take(assembler, [peer.event(EventKind.FRAMES, INGRESS, write_headers(1, block, is_end=True))])
    streams = assembler._streams.find(7)
    assert streams is not None and streams.counts.broken_blocks == 1


def continue_from(assembler: StreamAssembler, peer: Peer) -> StreamAssembler:
    """Another process, whose kernel side sees the connection late."""
    after = StreamAssembler(to_unix_ns=lambda ns: ns, stage=StageCounter("exchange"))
    after.load(dict(assembler.save(peer.now)), peer.now)
    peer.assembler, peer.flags = after, StreamFlag.JOINED
    return after


def read_tables(assembler: StreamAssembler) -> tuple[int, int]:
    figures = {figure.name: int(figure.value) for figure in assembler.figures()}
    return figures["http2_loaded_tables"], figures["http2_unfit_tables"]


def test_header_tables_go_on_in_another_process(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.ask(1, b"/old")
    peer.answer(1)
    after = continue_from(assembler, peer)
    peer.sequence = [5_000_000, 7]  # Frames without header blocks went by.
    peer.ask(3, b"/old")
    (told,) = peer.answer(3)
    assert (paths([told]), told.exchange.ends.role, told.exchange.figures.status_code) == (["/old"], Role.SERVER, 200)
    assert read_tables(after) == (1, 0)


def test_header_tables_wait_for_their_connection_for_ten_minutes(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.ask(1, b"/old")
    peer.answer(1)
    after = continue_from(assembler, peer)
    after.poll(peer.now + SAVED_NS - 1)
    assert dict(after.save(0)) == dict(assembler.save(peer.now))
    after.poll(peer.now + SAVED_NS + POLL_INTERVAL_NS)
    assert (read_tables(after), dict(after.save(0))) == ((0, 1), {})
    peer.ask(3, b"/old")
    (told,) = peer.answer(3)
    assert paths([told]) == [UNKNOWN_PATH]


@pytest.mark.parametrize(
    ("ways", "is_reset", "is_told"),
    [((EGRESS,), False, True), ((INGRESS,), False, False), ((INGRESS, EGRESS), False, True), ((INGRESS,), True, True)],
)
def test_ends_that_abort_what_is_open(
    assembler: StreamAssembler, ways: tuple[int, ...], is_reset: bool, is_told: bool
) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.ask(1)
    peer.flags |= StreamFlag.RESET if is_reset else 0
    told = [one for way in ways for one in peer.end(way)]
    assert [one.exchange.figures.is_aborted for one in told] == [True] * is_told
    assert len(assembler) == (0 if is_told else 1)


def test_a_client_that_has_nothing_open_may_go(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.ask(1)
    peer.answer(1)
    peer.end(INGRESS)
    assert len(assembler) == 0


def test_a_reset_stream_is_an_aborted_call(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.ask(1)
    (told,) = peer.say(INGRESS, write_reset(1))
    assert (told.exchange.figures.is_aborted, told.exchange.figures.status_code) == (True, 0)


def test_an_end_waits_for_the_hole_before_it(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    hole = write_headers(1, peer.encoders[0].encode([(b":method", b"GET"), (b":path", b"/late"), HOST]), is_end=True)
    at = peer.sequence[INGRESS]
    peer.sequence[INGRESS] += len(hole)
    take(assembler, [peer.event(EventKind.BYTES, INGRESS, write_settings(is_ack=True))])
    assert peer.end(INGRESS) + peer.end(EGRESS) == []
    peer.sequence[INGRESS] = at
    told = take(assembler, [peer.event(EventKind.BYTES, INGRESS, hole)])
    told += assembler.poll(peer.now)  # type: ignore[arg-type]
    assert paths(told) == ["/late"]
    assert len(assembler) == 0


def test_a_connection_left_to_its_server_end_is_forgotten(assembler: StreamAssembler) -> None:
    peer = Peer(assembler, client=EGRESS, flags=StreamFlag.CLIENT_EGRESS)
    peer.begin()
    peer.ask(1)
    assert take(assembler, [peer.event(EventKind.LEAVE, INGRESS)]) == []
    assert (len(assembler), assembler.calls) == (0, 0)


def make_upgrade(status: int = 101, head: bytes = b"Upgrade: h2c\r\n") -> Exchange:
    return Exchange(
        Ends(7, Role.SERVER, 11, 13, "127.0.0.1", 80, "127.0.0.2", 5_000),
        CallFigures(2 * SECOND, status, 60, 20, 5, 6, 1, is_final=True, is_aborted=False, is_lossy=False),
        0,
        b"GET /first HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n",
        response_head=b"HTTP/1.1 101 x\r\n\r\n",
    )


@pytest.mark.parametrize("is_late", [False, True])
def test_an_upgrade_goes_on_as_stream_1(assembler: StreamAssembler, is_late: bool) -> None:
    peer = Peer(assembler, flags=StreamFlag.CLIENT_INGRESS | StreamFlag.UPGRADED)
    told: list[StreamExchange] = []
    if not is_late:
        assert assembler.upgrade(make_upgrade(), SECOND)
    told += peer.answer(1, b"204")
    if is_late:
        assert assembler.upgrade(make_upgrade(), SECOND)
    told += peer.begin()
    peer.ask(3, b"/second")
    told += peer.answer(3)
    told += peer.end(EGRESS)
    assert sorted(paths(told)) == ["/first", "/second"]
    assert {one.call.stream: one.exchange.figures.status_code for one in told} == {1: 204, 3: 200}
    assert assembler.calls == 1  # The kernel has counted the first with HTTP/1.


def test_other_answers_are_no_upgrade(assembler: StreamAssembler) -> None:
    assert not assembler.upgrade(make_upgrade(200), SECOND)
    assert not assembler.upgrade(make_upgrade(head=b"Upgrade: websocket\r\n"), SECOND)


def test_an_upgrade_that_nothing_follows_is_a_call_of_its_own(assembler: StreamAssembler) -> None:
    exchange = make_upgrade()
    assert assembler.upgrade(exchange, SECOND)
    assert assembler.poll(SECOND + UPGRADE_PATIENCE_NS - 1) == []
    assert assembler.poll(SECOND + UPGRADE_PATIENCE_NS + POLL_INTERVAL_NS) == [exchange]


def test_connections_are_bounded_and_what_was_open_is_told(
    assembler: StreamAssembler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2_connections, "MAX_CONNECTIONS", 10)
    told: list[StreamExchange] = []
    for number in range(1, 31):
        peer = Peer(assembler, number=number)
        told += peer.begin() + peer.ask(1, b"/%d" % number)
    assert len(assembler) == 10
    assert paths(told) == [f"/{number}" for number in range(1, 21)]
    assert all(one.exchange.figures.is_aborted for one in told)


def test_noise_is_never_an_error(assembler: StreamAssembler) -> None:
    source = random.Random(5)
    for _ in range(3_000):
        size = source.randrange(40)
        head = struct.pack(
            "<2Q2I2HI4B2H2Q16s16s",
            *(source.randrange(1 << 40), source.randrange(20), source.randrange(1 << 32), source.randrange(1 << 17)),
            *(
                size,
                source.choice([0, 0, 3, 65_535]),
                source.choice([0, 0, 5, 1 << 20]),
                source.choice([16, 16, 17, 18, 19]),
                source.randrange(2),
            ),
            *(source.randrange(32), 4, 80, 81, 1, 2, LOCAL, REMOTE),
        )
        take(assembler, [head + source.randbytes(size)])
        assembler.poll(source.randrange(1 << 40))


def test_answers_that_nobody_was_seen_to_ask_for_are_missed_calls(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    assert [one for stream in (1, 3, 5) for one in peer.answer(stream)] == []
    peer.ask(5)
    peer.end(EGRESS)
    account = assembler._stage.count()
    assert (account.seen, account.used, account.dropped) == (3, 1, (("request_head_lost", 2),))
    assert assembler.calls == 3
    figures = {figure.name: figure.value for figure in assembler.figures()}
    assert figures["http2_orphan_responses"] == 2


def test_answers_to_requests_that_the_ring_had_no_room_for_are_counted_with_these(assembler: StreamAssembler) -> None:
    peer = Peer(assembler)
    peer.begin()
    peer.lost = 3
    told = [one for stream in (1, 3, 5, 7) for one in peer.answer(stream)]
    peer.ask(9)
    told += peer.answer(9)
    peer.end(EGRESS)
    account = assembler._stage.count()
    assert (account.seen, account.used, account.dropped) == (2, 1, (("request_head_lost", 1),))
    assert (len(told), assembler.calls) == (1, 2)
