"""What TLS costs the collector, by where it ends: CPU of a server that acknowledges batches, the clients' left out.

    scripts/bench transport [--batches N]

The first lines are of the work on a batch between both: parsed, converted and serialised, with and without the check of
what its sensor may say (collector/receiver/witness.py), for batches with different numbers of routes.

`clear`: gRPC on loopback; `grpc`: TLS that gRPC ends; `gate`: TLS that collector/trust/tls_terminator.py ends in
front of it. A batch has 68,000 bytes, as 1,000 rows take; random ones, so that nothing is compressed on the way.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from apidae.v1 import data_pb2

from collector.receiver.convert import BatchFront, RouteCache, convert_batch, count_unknown_fields, read_front
from collector.receiver.sensor_status import Greeting
from collector.receiver.witness import WitnessBook
from collector.storage.columns import RowBatch
from collector.trust.authority import issue_server_certificate, make_authority
from collector.trust.tls_terminator import RefusalLog, TerminatorLimits, TlsTerminator
from common.keyed_hash import compute_route_id
from tests.collector.wire_batches import NOW, make_batch

BATCH_BYTES = 68_000
STREAMS = 8
WAYS = ("clear", "grpc", "gate")
ROUTES, CHECKED_BATCHES = (10, 100, 300), 200
_METHOD = "/bench/send"
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def make_files(directory: Path) -> None:
    """`server.key`, `server.crt` and `ca.crt`."""
    authority = make_authority(time.time())
    pair = issue_server_certificate(authority, ["127.0.0.1"], now=time.time(), seconds=86_400)
    (directory / "server.key").write_bytes(pair.key)
    (directory / "server.crt").write_bytes(pair.chain)
    (directory / "ca.crt").write_bytes(authority.bundle)


def send(port: int, batches: int, authority: bytes | None) -> None:
    """The clients, in a process of their own. Raises where a batch has no acknowledgement."""

    async def stream() -> int:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{port}"
        if authority is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority), options=options)
        async with channel:
            call: Any = channel.stream_stream(_METHOD, None, None)()  # type: ignore[call-arg]
            reading = asyncio.create_task(count(call))
            batch = os.urandom(BATCH_BYTES)
            for _ in range(batches // STREAMS):
                await call.write(batch)
            await call.done_writing()
            return await reading

    async def count(call: Any) -> int:
        acknowledged = 0
        while await call.read() is not _EOF:
            acknowledged += 1
        return acknowledged

    async def main() -> list[int]:
        return await asyncio.gather(*(stream() for _ in range(STREAMS)))

    assert sum(asyncio.run(main())) == batches


async def serve(way: str, batches: int, directory: Path) -> dict[str, Any]:
    """One way of the three; CPU seconds of this process while the clients send."""

    gate = open_gate(directory) if way == "gate" else None

    async def acknowledge(_: Any, call: Any) -> None:
        if gate is not None:
            gate.admit(call.peer())
        while await call.read() is not _EOF:
            await call.write(b"acknowledged")

    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(acknowledge)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", {"send": method}),))
    if way == "grpc":
        pair = ((directory / "server.key").read_bytes(), (directory / "server.crt").read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gate_task = None
    if gate is not None:
        gate_task = asyncio.create_task(gate.serve(port))
        port = gate.port
    authority = None if way == "clear" else (directory / "ca.crt").read_bytes()
    clients = multiprocessing.get_context("spawn").Process(target=send, args=(port, batches, authority))
    begin, started = measure_cpu(), time.monotonic()
    clients.start()
    await asyncio.to_thread(clients.join)
    cpu, seconds = measure_cpu() - begin, time.monotonic() - started
    assert clients.exitcode == 0
    if gate_task is not None:
        gate_task.cancel()
        await asyncio.gather(gate_task, return_exceptions=True)
    await server.stop(None)
    return {
        "way": way,
        "batches": batches,
        "cpu_us_per_batch": round(cpu / batches * 1e6),
        "cpu_ms_per_megabyte": round(cpu / (batches * BATCH_BYTES / 1e6) * 1e3, 2),
        "seconds": round(seconds, 1),
    }


def open_gate(directory: Path) -> TlsTerminator:
    """Its context is the collector's without client certificates: those cost a handshake, not a batch."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.set_alpn_protocols(["h2"])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # These clients send batches at once; a sensor waits for the welcome.
    limits = TerminatorLimits(admission_bytes=2**62)
    return TlsTerminator(listener, find_context=lambda: context, refusals=RefusalLog(time.monotonic), limits=limits)


def make_routed_batch(routes: int) -> bytes:
    """Of 1,000 rows over so many routes of four segments, with the ids that the collector computes."""
    batch = make_batch(rows=1_000, node="node-1")
    batch.services[0].cluster, batch.services[0].host_name = "c", "node-1"
    del batch.routes[:]
    for number in range(routes):
        route = batch.routes.add(route_id=1, service=0, host=1, method=2)
        for place in range(3):
            batch.strings.append(f"segment{number}-{place}")
            route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=len(batch.strings) - 1)
        route.segments.add(kind=data_pb2.SEGMENT_KIND_INTEGER)
    batch.rows.route[:] = [row % routes for row in range(1_000)]
    converted = convert_batch(batch, NOW)
    assert isinstance(converted, RowBatch)
    for wire, one in zip(batch.routes, converted.routes, strict=True):
        wire.route_id = compute_route_id(one.service, one.host, one.method, one.segments, one.has_trailing_slash)
    return batch.SerializeToString()


def measure_check(routes: int, batches: int) -> dict[str, Any]:
    """CPU of a batch between the transport and the log, the best of five rounds."""
    wire, book = make_routed_batch(routes), WitnessBook(lambda *_: True, lambda: NOW)
    witness, plain = book.open("node-1"), RouteCache(routes)
    greeting = Greeting(
        cluster="c",
        node="node-1",
        boot_id="boot-1",
        key_id=1,
        version="",
        kernel_release="",
        policy_epoch=0,
        features=frozenset(),
        name="node-1",
    )

    def work(*, is_checked: bool) -> float:
        begin = time.process_time()
        for _ in range(batches):
            batch = data_pb2.Batch.FromString(wire)
            if is_checked:
                witness.bind_batch(batch, greeting)
            front = read_front(batch, NOW, book.routes.converted if is_checked else plain)
            assert isinstance(front, BatchFront)
            if is_checked:
                witness.check_routes(batch, front.routes, {}, book.routes)
            count_unknown_fields(batch)
            batch.SerializeToString()
        return (time.process_time() - begin) / batches * 1e6

    without = min(work(is_checked=False) for _ in range(5))
    checked = min(work(is_checked=True) for _ in range(5))
    return {
        "way": "work",
        "routes": routes,
        "cpu_us_per_batch": round(checked),
        "cpu_us_unchecked": round(without),
        "check_ratio": round((checked - without) / checked, 3),
    }


def measure_cpu() -> float:
    """Of this process and its threads, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=3_000, help="of each way; a multiple of 8")
    batches = parser.parse_args().batches // STREAMS * STREAMS
    for routes in ROUTES:
        print(json.dumps(measure_check(routes, CHECKED_BATCHES)), flush=True)
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name))
        for way in WAYS:
            print(json.dumps(asyncio.run(serve(way, batches, Path(name)))), flush=True)


if __name__ == "__main__":
    main()
