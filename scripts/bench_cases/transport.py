"""What TLS costs the collector, by where it ends: CPU of a server that acknowledges batches, the clients' left out.

    scripts/bench transport [--batches N]

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

from collector.trust.authority import issue_server_certificate, make_authority
from collector.trust.tls_terminator import RefusalLog, TerminatorLimits, TlsTerminator

BATCH_BYTES = 68_000
STREAMS = 8
WAYS = ("clear", "grpc", "gate")
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
            call: Any = channel.stream_stream(_METHOD)()
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


def measure_cpu() -> float:
    """Of this process and its threads, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=3_000, help="of each way; a multiple of 8")
    batches = parser.parse_args().batches // STREAMS * STREAMS
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name))
        for way in WAYS:
            print(json.dumps(asyncio.run(serve(way, batches, Path(name)))), flush=True)


if __name__ == "__main__":
    main()
