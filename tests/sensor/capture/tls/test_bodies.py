"""Bodies of TLS: kept from their beginning for those who read them, within what a second and the memory allow."""

import json

import pytest

from sensor.capture.tls.bodies import CGROUPS_MAX, SECOND_NS, BodyMeter
from sensor.capture.tls.reader import TlsReader
from sensor.core.calls import Exchange, RawBodies
from sensor.ebpf.abi import SyscallKind
from sensor.http.bodies import BODY_BYTES_MAX, FIRST_STREAMS, LAST_BYTES_MAX, LIST_BYTES_MAX, StreamBodies
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from tests.sensor.capture.tls.test_reader import Session
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_data, write_headers, write_settings

READ, WRITE = SyscallKind.READ, SyscallKind.WRITE
PLENTY = 1 << 30
SECRET = b'{"card": "4111 1111 1111 1111"}'


def make_reader(meter: BodyMeter | None) -> TlsReader:
    return TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=lambda event, verdict: None, bodies=meter)


def call(session: Session, asked: bytes, *told: bytes, length: int | None = None) -> Exchange:
    session.tell(READ, b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % len(asked))
    if asked:
        session.tell(READ, asked)
    done = session.tell(WRITE, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (length or sum(map(len, told))))
    for part in told:
        done = session.tell(WRITE, part)
    (exchange,) = done
    assert isinstance(exchange, Exchange)
    return exchange


def test_both_bodies_go_with_their_call() -> None:
    exchange = call(Session(make_reader(BodyMeter(PLENTY)), 1), SECRET, b'[{"id": 1},', b'{"id": 2}]')
    assert exchange.bodies == RawBodies(SECRET, b'[{"id": 1},{"id": 2}]', whole=(True, True))
    assert "4111" not in repr(exchange)


def test_without_a_meter_none_is_kept() -> None:
    assert call(Session(make_reader(None), 1), SECRET, b"[]").bodies is None


def test_of_a_long_body_only_the_beginning() -> None:
    meter = BodyMeter(PLENTY)
    session = Session(make_reader(meter), 1)
    exchange = call(session, b"", *[b"x" * 16_000] * 7)
    assert exchange.bodies is not None
    assert len(exchange.bodies.response) == BODY_BYTES_MAX == meter.kept_bytes
    assert exchange.bodies.whole == (True, False)
    again = call(session, b"", *[b"y" * 16_000] * 7).bodies
    assert again is not None and again.response == b"y" * BODY_BYTES_MAX  # The room of the first is free again.


def test_what_is_held_is_bounded() -> None:
    meter = BodyMeter(PLENTY)
    reader = make_reader(meter)
    count = (8 << 20) // BODY_BYTES_MAX
    for number in range(1, count + 9):
        session = Session(reader, number)
        session.tell(READ, b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % PLENTY)
        session.tell(READ, b"x" * BODY_BYTES_MAX)
    assert meter.kept_bytes == 8 << 20


def test_a_second_has_its_bytes() -> None:
    meter = BodyMeter(100)
    room, other, third = (meter.find_room(number) for number in (1, 2, 3))
    body = bytearray()
    assert room.add_data(body, b"x" * 60) and room.add_data(body, b"x" * 60)  # What has begun goes on.
    assert not room.add_data(bytearray(), b"x") and meter.refused == 1
    assert other.add_data(bytearray(), b"x" * 100)
    assert not third.add_data(bytearray(), b"x")  # The node has twice as much.
    meter.now_ns = SECOND_NS
    assert room.add_data(bytearray(), b"x" * 80)
    assert not room.add_data(bytearray(), b"x")  # 20 were taken before.
    meter.limit(0)
    meter.now_ns = 3 * SECOND_NS
    assert not other.add_data(bytearray(), b"x")


def test_a_body_that_found_no_room_at_its_beginning_is_none() -> None:
    meter = BodyMeter(1)
    session = Session(make_reader(meter), 1)
    assert call(session, SECRET, b"[]").bodies == RawBodies(SECRET, b"", whole=(True, False))
    assert call(session, b"", b"[{}", b",{}]").bodies is None


def test_cgroups_are_bounded() -> None:
    meter = BodyMeter(1)
    first = meter.find_room(0)
    for number in range(CGROUPS_MAX):
        meter.find_room(number + 1)
    assert meter.find_room(0) is not first


def converse(reader: TlsReader, count: int) -> list[StreamBodies | None]:
    session = Session(reader, 1)
    ask = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"shop"), (b":path", b"/orders")]
    session.tell(READ, PREFACE + write_settings())
    session.tell(WRITE, write_settings())
    asking, answering = Encoder(), Encoder()
    told: list[StreamBodies | None] = []
    for number in range(1, 2 * count, 2):
        session.tell(READ, write_headers(number, asking.encode(ask)) + write_data(number, SECRET, is_end=True))
        answer = [(b":status", b"200"), (b"content-type", b"application/json")]
        records = json.dumps([{"id": number}]).encode()
        done = session.tell(
            WRITE, write_headers(number, answering.encode(answer)) + write_data(number, records, is_end=True)
        )
        told += [one.call.bodies for one in done if isinstance(one, StreamExchange)]
    return told


def test_streams_as_the_kernel_samples_them() -> None:
    told = converse(make_reader(BodyMeter(PLENTY)), FIRST_STREAMS + 3)
    assert len(told) == FIRST_STREAMS + 3
    assert [one is not None for one in told] == [True] * FIRST_STREAMS + [False] * 3
    first = told[0]
    assert first is not None
    assert (first.request, first.response) == (SECRET, b'[{"id": 1}]')
    assert (first.is_request_whole, first.is_response_whole) == (True, True)


@pytest.mark.parametrize("meter", [None, BodyMeter(0)])
def test_no_stream_without_a_budget(meter: BodyMeter | None) -> None:
    assert converse(make_reader(meter), 3) == [None] * 3


def test_of_a_longer_response_the_last_bytes_are_kept_without_their_framing() -> None:
    session = Session(make_reader(BodyMeter(PLENTY)), 1)
    session.tell(READ, b"POST /v1/messages HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}")
    session.tell(WRITE, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    parts = [b"%07d" % number * 100 for number in range(100)]
    for part in parts:
        session.tell(WRITE, b"%x\r\n%s\r\n" % (len(part), part))
    (exchange,) = session.tell(WRITE, b"0\r\n\r\n")
    assert isinstance(exchange, Exchange) and exchange.bodies is not None
    assert exchange.bodies.response == b"".join(parts)[:BODY_BYTES_MAX]
    assert exchange.bodies.response_last == b"".join(parts)[-LAST_BYTES_MAX:]


def test_of_what_an_mcp_server_lists_more_is_kept() -> None:
    session = Session(make_reader(BodyMeter(PLENTY)), 1)
    asked, told = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', b"x" * (2 * LIST_BYTES_MAX)
    head = b"POST /mcp HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % len(asked)
    session.tell(READ, head + asked)
    (exchange,) = session.tell(WRITE, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
    assert isinstance(exchange, Exchange) and exchange.bodies is not None
    assert len(exchange.bodies.response) == LIST_BYTES_MAX
