"""A collector that stands still while its kernel goes on: connected, every segment acknowledged, and silent."""

import asyncio
import os
import signal
import subprocess
import sys

import grpc
import pytest
from apidae.v1 import stream_pb2, stream_pb2_grpc

from sensor.export.target import DialCredentials, open_channel, parse_target
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.full("sensor.export")]

SERVER = """
import asyncio
from tests.sensor.export.collector import FakeCollector

async def serve():
    async with FakeCollector().serve() as collector:
        print(collector.port, flush=True)
        await asyncio.sleep(300)

asyncio.run(serve())
"""


async def stand_still(port: int, pid: int) -> None:
    """Returns once the stream is told to be gone."""
    async with open_channel(parse_target(f"127.0.0.1:{port}"), DialCredentials()) as channel:
        call = stream_pb2_grpc.CollectorServiceStub(channel).Connect()
        await call.write(stream_pb2.ConnectRequest(hello=stream_pb2.Hello(protocol=1, node="n", boot_id="b")))
        assert (await call.read()).HasField("welcome")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(call.read(), DEADLINE_SECONDS)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_collector_that_stands_still_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            asyncio.run(stand_still(port, server.pid))
        finally:
            server.kill()
