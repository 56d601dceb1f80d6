"""What a hostile sensor with a valid place does to an honest one: times of acknowledgement, and the collector's memory.

    scripts/bench hostile [--attacks NAME..] [--seconds N]

A real collector on loopback. An honest sensor sends a batch of 300 rows twice a second, as one stream. Beside it
another node attacks, from a process of its own:

    routes    20 batches of 10,000 new routes each, as fast as it can
    long      batches of 10,000 routes of 64 segments, without end
    unread    batches of 2,000 rows without end, whose acknowledgements nobody reads
    streams   200 streams that say who they are and nothing more
    slow      16 streams with a message of 4 MiB each, at 64 KiB a second

Prints a JSON line each, `none` first: the honest sensor's acknowledgements in milliseconds, how many of its batches had
one, and the collector's memory after it in MB. Load beside it counts, so compare with `none`.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from apidae.v1 import data_pb2, stream_pb2

from tests.collector.running import METHOD, RunningCollector, make_hello
from tests.collector.wire_batches import make_batch

HONEST, EVIL = "honest", "evil"
ROWS: Final = 300
INTERVAL_SECONDS: Final = 0.5
ROUTES_OF_BATCH: Final = 10_000
_OPTIONS: Final = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


Begin = Callable[[], None]


def open_stream(address: str) -> tuple[grpc.aio.Channel, Any]:
    channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    return channel, channel.stream_stream(METHOD, None, None)()  # type: ignore[call-arg]


async def greet(call: Any, node: str) -> None:
    await call.write(make_hello(node).SerializeToString())


def make_routes(sequence: int, segments: int, count: int = ROUTES_OF_BATCH) -> bytes:
    """A batch of so many routes that no other batch has, each called once."""
    batch = make_batch(node=EVIL, sequence=sequence, rows=count, base=int(time.time()) - 60)
    del batch.routes[:]
    batch.rows.route[:] = range(count)
    first = len(batch.strings)
    batch.strings.extend(f"{sequence}-{number}" for number in range(count))
    for number in range(count):
        route = batch.routes.add(route_id=sequence << 20 | number + 1, service=0, host=1, method=2)
        for _ in range(segments - 1):
            route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=3)
        route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=first + number)
    return stream_pb2.ConnectRequest(batch=batch).SerializeToString()


async def send_routes(address: str, begin: Begin) -> None:
    batches = [make_routes(sequence, 4) for sequence in range(1, 21)]
    begin()
    channel, call = open_stream(address)
    await greet(call, EVIL)
    for batch in batches:
        await call.write(batch)
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass
    await channel.close()  # type: ignore[call-arg]


async def send_long(address: str, begin: Begin) -> None:
    batches = [make_routes(sequence, 64) for sequence in range(1, 4)]
    begin()
    channel, call = open_stream(address)
    await greet(call, EVIL)
    number = 0
    async with channel:
        while True:
            await call.write(batches[number % len(batches)])
            number += 1


async def send_unread(address: str, begin: Begin) -> None:
    begin()
    channel, call = open_stream(address)
    await greet(call, EVIL)
    sequence = 0
    async with channel:
        while True:
            sequence += 1
            batch = make_batch(node=EVIL, sequence=sequence, rows=2_000, base=int(time.time()) - 60)
            await call.write(stream_pb2.ConnectRequest(batch=batch).SerializeToString())


async def open_streams(address: str, begin: Begin) -> None:
    begin()
    opened = [open_stream(address) for _ in range(200)]
    for _, call in opened:
        await greet(call, EVIL)
    await asyncio.Event().wait()


async def send_slowly(address: str, begin: Begin) -> None:
    """Through a relay that gives the collector a piece of each connection four times a second."""
    host, port = address.rsplit(":", 1)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))

        async def copy_back() -> None:
            while piece := await inner_reader.read(65_536):
                writer.write(piece)

        answering = asyncio.create_task(copy_back())
        while piece := await reader.read(16_384):
            inner_writer.write(piece)
            await asyncio.sleep(0.25)
        await answering

    relaying = await asyncio.start_server(relay, "127.0.0.1", 0)
    slow = f"127.0.0.1:{relaying.sockets[0].getsockname()[1]}"
    message = stream_pb2.ConnectRequest(policy_result=stream_pb2.PolicyResult(reason="x" * (4 << 20)))

    async def send() -> None:
        _, call = open_stream(slow)
        await greet(call, EVIL)
        await call.write(message.SerializeToString())
        await asyncio.Event().wait()

    begin()
    await asyncio.gather(*(send() for _ in range(16)))


ATTACKS: Final[dict[str, Callable[[str, Begin], Awaitable[None]]]] = {
    "routes": send_routes,
    "long": send_long,
    "unread": send_unread,
    "streams": open_streams,
    "slow": send_slowly,
}


def attack(name: str, address: str, begun: Any) -> None:
    """In a process of its own, until it is ended; at the lowest priority, since elsewhere it has its own machine."""
    os.nice(19)

    async def run() -> None:
        await ATTACKS[name](address, begun.set)
        await asyncio.Event().wait()

    asyncio.run(run())


async def measure_acknowledgements(address: str, first: int, seconds: float) -> tuple[list[float], int]:
    """Milliseconds from each batch to its acknowledgement, and how many batches were sent."""
    channel, call = open_stream(address)
    sent: dict[int, float] = {}
    times: list[float] = []

    async def hear() -> None:
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            message = stream_pb2.ConnectResponse.FromString(response)
            if message.WhichOneof("message") == "ack" and message.ack.sequence in sent:
                times.append((time.monotonic() - sent[message.ack.sequence]) * 1e3)

    async with channel:
        await greet(call, HONEST)
        hearing = asyncio.create_task(hear())
        for number in range(int(seconds / INTERVAL_SECONDS)):
            batch = make_batch(node=HONEST, sequence=first + number, rows=ROWS, base=int(time.time()) - 60)
            sent[first + number] = time.monotonic()
            await call.write(stream_pb2.ConnectRequest(batch=batch).SerializeToString())
            await asyncio.sleep(INTERVAL_SECONDS)
        await call.done_writing()
        await hearing
    return times, len(sent)


def read_memory(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        collector = RunningCollector(Path(name), "--no-auth")
        address, pid = collector.ready["grpc"], collector.process.pid
        for number, kind in enumerate(("none", *arguments.attacks)):
            begun = context.Event()
            attacker = context.Process(target=attack, args=(kind, address, begun), daemon=True)
            if kind != "none":
                attacker.start()
                begun.wait()
            times, sent = asyncio.run(measure_acknowledgements(address, 1 + 1_000 * number, arguments.seconds))
            if kind != "none":
                attacker.kill()
                attacker.join()
            times.sort()
            line = {
                "attack": kind,
                "batches": sent,
                "acknowledged": len(times),
                "p50_ms": round(statistics.median(times)),
                "p90_ms": round(times[int(0.9 * len(times))]),
                "max_ms": round(times[-1]),
                "memory_mb": round(read_memory(pid)),
            }
            print(json.dumps(line), flush=True)
        collector.stop()


if __name__ == "__main__":
    main()
