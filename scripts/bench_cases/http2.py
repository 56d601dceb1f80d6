"""What HTTP/2 costs in Python, without a kernel: header blocks to fields, and the bytes of both directions to calls.

    scripts/bench http2 [--calls 3000] [--rounds 5] [--stories DIRECTORY]

The conversations are those of python-hyper's h2 with itself, written before the clock starts. `rpc` asks for eight
methods by turns under one token, `rest` for a new path each time under one of 500 tokens; `_frames` are the same as
frames that the kernel cut, `_events` the same as the events that it sends, through all that the sensor does with a call
up to its place among the rows, `_matched` the same where the kernel matches all but the first. `--stories` names a
directory of HPACK stories (*.jsonl, also xz; the format of http2jp/hpack-test-case, a story a line): `block` is then
the cost of one of their blocks with an empty cache for each story, `block_known` with one for all. Process time, the
best of the rounds; on a machine that does other things compare two versions by their ratio, alternated in the same
minute.
"""

import argparse
import gc
import json
import lzma
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection

from scripts.bench_cases._http2_matching import MatchingKernel, is_asking
from sensor.agent.pipeline import Pipeline
from sensor.aggregate.aggregator import Aggregator, WindowLimits
from sensor.capture.files.identity import CaptureIdentity
from sensor.capture.http2.assembler import StreamAssembler
from sensor.capture.http2.flow import MESSAGE
from sensor.core.calls import CallRecord, Calls, Exchange, make_calls
from sensor.core.clock import Clock
from sensor.core.health import StageCounter
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer, DescribeSettings
from sensor.ebpf.abi import FRAMES_EVENT, EventKind, OverflowTotals, Records, StreamFlag
from sensor.export.convert import BatchConverter
from sensor.http.hpack import HpackDecoder, HuffmanStrings
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.connections import Http2Connections
from sensor.http.http2.frames import (
    HEADER_BYTES,
    PASSED_OVER,
    PREFACE,
    Frame,
    FrameEvent,
    FrameFlag,
    FrameKind,
    unpack_header,
)
from sensor.http.http2.reader import FrameReader
from sensor.http.http2.streams import AlikeCalls, StreamCall
from sensor.http.reassembly import Chunk, Direction
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary

TOKENS = 500
EVENTS_READ = 1_000  # As the sensor reads them at once.
TAUGHT_CALLS = 60  # Calls that come up before others are matched.
Said = list[tuple[Direction, bytes]]
Headers = list[tuple[bytes, bytes]]


def write_rpc(source: random.Random, number: int) -> Headers:
    """A unary call of a stub."""
    return [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Orders/Method%d" % (number % 8)),
        (b":authority", b"orders:50051"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-python/1.85.3"), (b"authorization", b"Bearer tok1xxxxxxxxxxxxxxxxxxxx"),
    ]  # fmt: skip


def write_rest(source: random.Random, number: int) -> Headers:
    """A program that asks for things by their number."""
    return [
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/api/v1/orders/%d" % source.randrange(10**9)),
        (b":authority", b"shop.example"), (b"user-agent", b"bench/1.0"), (b"accept", b"application/json"),
        (b"x-request-id", b"%d" % source.randrange(10**12)),
        (b"authorization", b"Bearer tok%dxxxxxxxxxxxxxxxxxxxx" % source.randrange(TOKENS)),
    ]  # fmt: skip


def converse(write: Callable[[random.Random, int], Headers], calls: int) -> Said:
    """Both directions of so many calls, one after the other."""
    source, said = random.Random(1), Said()
    client, server = (H2Connection(H2Configuration(client_side=side)) for side in (True, False))
    client.initiate_connection()
    server.initiate_connection()
    is_rpc = write is write_rpc

    def pass_on(sender: H2Connection, receiver: H2Connection, direction: Direction) -> None:
        data = sender.data_to_send()
        if data:
            said.append((direction, data))
            for event in receiver.receive_data(data):
                if getattr(event, "flow_controlled_length", 0):
                    receiver.increment_flow_control_window(event.flow_controlled_length)  # type: ignore[attr-defined]

    for number in range(calls):
        stream = client.get_next_available_stream_id()
        client.send_headers(stream, write(source, number), end_stream=not is_rpc)
        if is_rpc:
            client.send_data(stream, b"\0\0\0\0\x20" + b"m" * 32, end_stream=True)
        pass_on(client, server, Direction.FORWARD)
        content_type = b"application/grpc" if is_rpc else b"application/json"
        server.send_headers(stream, [(b":status", b"200"), (b"content-type", content_type)])
        server.send_data(stream, b"\0\0\0\0\x50" + b"m" * 80, end_stream=not is_rpc)
        if is_rpc:
            server.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
        pass_on(server, client, Direction.BACKWARD)
    return said


def measure_calls(said: Said, calls: int) -> float:
    """Microseconds a call."""
    connection = Http2Connection(HuffmanStrings(), is_joined=False, client=Direction.FORWARD)
    told: list[StreamCall] = []
    positions = [0, 0]
    chunks = []
    for place, (direction, data) in enumerate(said):
        chunks.append((direction, Chunk(positions[direction], data, place)))
        positions[direction] += len(data)
    started = time.process_time_ns()
    for direction, chunk in chunks:
        connection.take_piece(direction, chunk, told)
    spent = time.process_time_ns() - started
    if len(told) != calls or any(call.is_lossy for call in told):
        raise AssertionError(f"{calls} calls were made and {len(told)} told")
    return spent / calls / 1_000


def cut_frames(said: Said) -> list[tuple[Direction, Frame]]:
    """What the kernel would tell: frames whole, DATA counted; what is not read as what was passed over."""
    readers = [FrameReader(is_client=way == Direction.FORWARD, is_joined=False) for way in Direction]
    positions = [0, 0]
    frames = []
    for place, (direction, data) in enumerate(said):
        events: list[FrameEvent] = []
        readers[direction].read_piece(Chunk(positions[direction], data, place), events)
        positions[direction] += len(data)
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.kind in (FrameKind.WINDOW_UPDATE, FrameKind.PING):
                event = msgspec.structs.replace(event, kind=PASSED_OVER, flags=0, stream=0, payload=None)
            elif event.kind == FrameKind.DATA:
                event = msgspec.structs.replace(event, payload=None)
            frames.append((direction, event))
    return frames


def measure_frames(frames: list[tuple[Direction, Frame]], calls: int) -> float:
    """Microseconds a call, through the registry of connections."""
    connections = Http2Connections()
    connections.open(1, is_joined=False, client=Direction.FORWARD)
    told = 0
    started = time.process_time_ns()
    for direction, frame in frames:
        told += len(connections.take_piece(1, direction, frame))
    spent = time.process_time_ns() - started
    connection = connections.find(1)
    if told != calls or connection is None or connection.counts.losses:
        raise AssertionError(f"{calls} calls were made and {told} told")
    return spent / calls / 1_000


def write_events(said: Said) -> list[bytes]:
    """The kernel's events (bpf/http2_follow.h) of one connection of these segments, one or none for each."""
    events, sequence, covered = [], [0, 0], [0, 0]
    for place, (direction, data) in enumerate(said):
        parts, is_due = [], False
        at = len(PREFACE) if data.startswith(PREFACE) else 0
        covered[direction] += len(data)
        while at < len(data):
            length, kind, flags, _ = unpack_header(data, at)
            if kind == FrameKind.DATA:
                header, prefix = bytearray(data[at : at + HEADER_BYTES]), data[at + HEADER_BYTES :][:5]
                is_message = length >= 5 and prefix[0] <= 1 and int.from_bytes(prefix[1:]) == length - 5
                if is_message and not flags & FrameFlag.PADDED:
                    header[3] = MESSAGE
                parts.append(bytes(header))
                is_due |= bool(flags & FrameFlag.END_STREAM)
            elif kind not in (FrameKind.WINDOW_UPDATE, FrameKind.PING, FrameKind.PRIORITY):
                parts.append(data[at : at + HEADER_BYTES + length])
                is_due = True
            at += HEADER_BYTES + length
        body = b"".join(parts)
        if is_due:
            head = (place * 1_000, 1, sequence[direction], covered[direction], len(body), 0, 0)
            ends = (4, 80, 50_000, 1, 2, bytes(16), bytes(16))
            flags = StreamFlag.CLIENT_INGRESS
            events.append(FRAMES_EVENT.pack(*head, EventKind.FRAMES, direction, flags, *ends) + body)
            sequence[direction] += covered[direction]
            covered[direction] = 0
    return events


def make_sensor() -> tuple[StreamAssembler, Pipeline]:
    """From the kernel's events to rows in the making."""
    clock, keyed_hash = Clock(), KeyedHash(1, bytes(16))
    templater, alike = Templater(load_vocabulary(), keyed_hash), AlikeCalls()
    pipeline = Pipeline(
        processor=ReplayDescriber(  # type: ignore[arg-type]
            templater, CaptureIdentity(), keyed_hash, DescribeSettings()
        ),
        aggregator=Aggregator(limits=WindowLimits()),
        converter=BatchConverter(node="bench", boot_id="bench"),
        clock=clock,
        key_id=1,
        alike=alike,
    )
    return StreamAssembler(to_unix_ns=clock.to_unix_ns, stage=StageCounter("exchange"), alike=alike), pipeline


def measure_events(events: list[bytes], calls: int) -> float:
    """Microseconds a call, from the kernel's events to rows in the making."""
    assembler, pipeline = make_sensor()
    records = [memoryview(event) for event in events]
    started = time.process_time_ns()
    for at in range(0, len(records), EVENTS_READ):
        pipeline.take(assembler.take(records[at : at + EVENTS_READ]))
    pipeline.take(())
    return _divide(time.process_time_ns() - started, pipeline, calls)


def measure_matched(events: list[bytes], calls: int) -> float:
    """The same for calls that the kernel matches once it was taught the blocks of the first ones; these are measured
    too, as they are in a sensor."""
    assembler, pipeline = make_sensor()
    first = next(at for at, event in enumerate(events) if is_asking(event)) + 2 * TAUGHT_CALLS
    learned = [memoryview(event) for event in events[:first]]
    started = time.process_time_ns()
    pipeline.take(assembler.take(learned))
    spent = time.process_time_ns() - started
    records = MatchingKernel(assembler.matched.pop_entries()[0]).match(events[first:])
    started = time.process_time_ns()
    for at in range(0, len(records), EVENTS_READ):
        pipeline.take(assembler.take((), records[at : at + EVENTS_READ]))
        while assembler.matched.has_rest:
            pipeline.take(assembler.take(()))
    pipeline.take(())
    return _divide(spent + time.process_time_ns() - started, pipeline, calls)


def _divide(spent_ns: int, pipeline: Pipeline, calls: int) -> float:
    used = pipeline.counts()[1].used
    if used != calls:
        raise AssertionError(f"{calls} calls were made and {used} described")
    return spent_ns / calls / 1_000


class ReplayDescriber(Describer):
    """Has no kernel to teach."""

    def install_call(self, exchange: Exchange, record: CallRecord) -> None:
        """Nothing."""

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """There are none."""
        return make_calls(0)

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """There are none."""
        return make_calls(0)

    has_operations = False  # No schemas are learned, so no route has any.

    def count_rows(self, calls: Calls) -> None:
        """Nothing."""


def read_stories(directory: Path) -> Iterator[list[bytes]]:
    """The blocks of each story."""
    for path in sorted(directory.rglob("*.jsonl*")):
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield [bytes.fromhex(case["wire"]) for case in json.loads(line)["cases"]]


def measure_blocks(stories: list[list[bytes]], known: HuffmanStrings | None) -> float:
    """Microseconds a block."""
    spent = 0
    for blocks in stories:
        strings = HuffmanStrings() if known is None else known
        decode = HpackDecoder(strings, is_complete=True).decode
        started = time.process_time_ns()
        for block in blocks:
            decode(block)
        spent += time.process_time_ns() - started
    return spent / sum(map(len, stories)) / 1_000


def main() -> None:
    """Prints a JSON line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stories", type=Path)
    arguments = parser.parse_args()
    scenarios: dict[str, Callable[[], float]] = {}
    for name, write in (("rpc", write_rpc), ("rest", write_rest)):
        said = converse(write, arguments.calls)
        scenarios[name] = lambda said=said: measure_calls(said, arguments.calls)
        frames = cut_frames(said)
        scenarios[f"{name}_frames"] = lambda frames=frames: measure_frames(frames, arguments.calls)
        events = write_events(said)
        scenarios[f"{name}_events"] = lambda events=events: measure_events(events, arguments.calls)
        if name == "rpc":
            scenarios["rpc_matched"] = lambda events=events: measure_matched(events, arguments.calls)
    if arguments.stories is not None:
        stories = list(read_stories(arguments.stories))
        known = HuffmanStrings()
        scenarios["block"] = lambda: measure_blocks(stories, None)
        scenarios["block_known"] = lambda: measure_blocks(stories, known)
    gc.freeze()  # What the conversations are made of is none of a sensor's.
    best = {name: min(measure() for _ in range(arguments.rounds)) for name, measure in scenarios.items()}
    for name, microseconds in best.items():
        print(json.dumps({"scenario": name, "microseconds": round(microseconds, 2)}))


if __name__ == "__main__":
    main()
