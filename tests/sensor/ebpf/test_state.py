"""Capture's state in another process: the same calls as in one, whenever it moves; and nothing is read but state."""

import os
import pickle
import random
import subprocess
import sys

import pytest

from sensor.capture.http2.assembler import StreamAssembler
from sensor.capture.packets.exchange import ExchangeAssembler
from sensor.capture.packets.state import CaptureState, StateError, read_state, write_state
from sensor.core.health import StageCounter
from sensor.coverage.handshakes import HandshakeTable
from sensor.ebpf.abi import FRAMES_EVENT, EventKind, StreamFlag
from sensor.http.http2.alike import AlikeCalls
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest
from sensor.http.reassembly import Direction
from tests.sensor.coverage.test_handshakes import END, make_server_hello
from tests.sensor.http.http2_conversation import converse
from tests.sensor.http.test_tls_hello import make_client_hello, make_context

SECOND = 1_000_000_000
Row = tuple[str, str, int, int, int, bool, bool]


def make_assembler() -> StreamAssembler:
    return StreamAssembler(to_unix_ns=lambda ns: ns, stage=StageCounter("exchange"), alike=AlikeCalls())


def make_exchanges() -> ExchangeAssembler:
    return ExchangeAssembler(to_unix_ns=lambda ns: ns, stage=StageCounter("exchange"), take_first_bytes=lambda *_: None)


def make_state(streams: StreamAssembler, handshakes: HandshakeTable | None = None) -> CaptureState:
    return CaptureState(
        numbers=(7, 8, 9),
        counters={0: 3},
        overflow={b"key": (1, 2, 3, 4)},
        ports={},
        calls=make_exchanges().export(),
        streams=streams.export(),
        handshakes=handshakes or HandshakeTable(),
    )


def move(streams: StreamAssembler) -> StreamAssembler:
    """The same in another process."""
    after = make_assembler()
    after.adopt(read_state(write_state(make_state(streams))).streams)
    return after


def make_events(seed: int) -> list[bytes]:
    """A conversation as plain bytes in segments of any size, some late, with its preface."""
    chance = random.Random(seed)
    sequences, events, now = [1_000, 0xFFFFFF00], [], SECOND
    for direction, data in converse(seed, 30).sent:
        way = 0 if direction is Direction.FORWARD else 1
        at, parts = 0, []
        while at < len(data):
            part = data[at : at + chance.randrange(1, 400)]
            at += len(part)
            now += 1_000
            packed = FRAMES_EVENT.pack(
                *(now, 7, sequences[way], len(part), len(part), 0, 0),
                *(EventKind.BYTES, way, StreamFlag.CLIENT_INGRESS, 4, 80, 5_000, 11, 13, bytes(16), bytes(16)),
            )
            sequences[way] = (sequences[way] + len(part)) & 0xFFFFFFFF
            parts.append(packed + part)
        if events and len(parts) > 1 and chance.random() < 0.3:
            parts[0], parts[1] = parts[1], parts[0]
        events += parts
    return events


def take(streams: StreamAssembler, events: list[bytes]) -> list[StreamExchange]:
    return streams.take(memoryview(event) for event in events)


def rows(told: list[StreamExchange]) -> list[Row]:
    return [
        (
            *(one.call.request.head.method, one.call.request.head.path, one.exchange.status_code, one.exchange.calls),
            *(one.exchange.response_bytes, one.call.is_lossy, one.call.has_unknown_fields),
        )
        for one in told
        if isinstance(one.call.request, StreamRequest)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_connection_moves_at_every_event(seed: int) -> None:
    events = make_events(seed)
    expected = rows(take(make_assembler(), events))
    assert len(expected) >= 10
    streams, told = make_assembler(), []
    for event in events:
        told += take(streams, [event])
        streams = move(streams)
    assert rows(told) == expected


def test_handshakes_that_were_heard_move() -> None:
    table = HandshakeTable()
    table.take_client(END, "192.0.2.1", make_client_hello(make_context(), "a.example"))
    table.take_server(END, make_server_hello(0x0302, 0x002F), SECOND)
    heard = table.find(END, SECOND)
    assert heard.server_names and heard.weak_choices
    moved = read_state(write_state(make_state(make_assembler(), table))).handshakes
    assert moved.find(END, SECOND) == heard


def test_repeated_calls_go_on_as_such() -> None:
    """Blocks that were met before are known there too, and what is like another call is told anew."""
    events = make_events(11)
    half = len(events) // 2
    streams = make_assembler()
    told = take(streams, events[:half])
    moved = move(streams)
    assert rows(told + take(moved, events[half:])) == rows(take(make_assembler(), events))


def test_it_is_the_same_in_a_real_process() -> None:
    events = make_events(3)
    half = len(events) // 2
    streams = make_assembler()
    take(streams, events[:half])
    code = (
        "import sys; from sensor.capture.packets.state import read_state; "
        "state = read_state(sys.stdin.buffer.read()); print(state.numbers, len(state.streams.connections), state)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=write_state(make_state(streams)), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "(7, 8, 9) 1 CaptureState(redacted)"


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x05.",
        pickle.dumps(_Harm()),
        pickle.dumps({"a": 1}),
        b"\x80\x05csensor.kernel.state\nread_state\n.",
        b"\x80\x05csensor.protocols.http1\nparse_request_head\n.",
        b"\x80\x05csensor.kernel.syscalls\nupdate_map\n.",
        b"\x80\x05cbuiltins\neval\n.",
        write_state(make_state(make_assembler()))[:-40],
    ],
)
def test_what_is_no_state_is_refused_and_nothing_is_called(data: bytes) -> None:
    with pytest.raises(StateError, match="the state of the sensor before"):
        read_state(data)


def test_what_others_noted_on_a_header_stays_here() -> None:
    """The state is read where only its own classes are known."""
    assembler = make_assembler()
    take(assembler, make_events(1))
    requests = [
        block.reading
        for streams in assembler._streams._connections.values()
        for decoder in streams.decoders
        if decoder is not None
        for block in decoder.known.values()
        if isinstance(block.reading, StreamRequest)
    ]
    headers = [header for request in requests for header in request.head.headers]
    assert headers
    for header in headers:
        header.reading = KernelSide
    move(assembler)


class KernelSide:
    """A class that state knows nothing of."""
