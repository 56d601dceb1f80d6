"""A collector that stands still while its kernel goes on: connected, every segment acknowledged, and silent."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest
from apidae.v1 import stream_pb2, stream_pb2_grpc

from sensor.uplink.target import Credentials, open_channel, parse_target

pytestmark = [pytest.mark.e2e, pytest.mark.full("sensor.uplink")]

FOUND_SECONDS = 15.0
SPARE_SECONDS = 10.0  # A busy machine.
SERVER = """
import asyncio
from tests.sensor.uplink.collector import FakeCollector

async def serve():
    async with FakeCollector().serve() as collector:
        print(collector.port, flush=True)
        await asyncio.sleep(300)

asyncio.run(serve())
"""


async def measure_patience(port: int, pid: int) -> float:
    """Seconds from its standstill until the stream is told to be gone."""
    async with open_channel(parse_target(f"127.0.0.1:{port}"), Credentials()) as channel:
        call = stream_pb2_grpc.CollectorServiceStub(channel).Connect()
        await call.write(stream_pb2.ConnectRequest(hello=stream_pb2.Hello(protocol=1, node="n", boot_id="b")))
        assert (await call.read()).HasField("welcome")
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(call.read(), FOUND_SECONDS + SPARE_SECONDS)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        return time.monotonic() - began


def test_a_collector_that_stands_still_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            assert asyncio.run(measure_patience(port, server.pid)) < FOUND_SECONDS + SPARE_SECONDS
        finally:
            server.kill()
