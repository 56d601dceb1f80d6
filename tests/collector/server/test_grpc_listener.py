"""The listener of gRPC that the collector chooses is one that the installed gRPC has, and serves as the other does."""

import os
import subprocess
import sys

import pytest

from collector.cli.commands import GRPC_LISTENER

# gRPC reads the variable once, when the first server is made.
_PROGRAM = """
import asyncio, grpc
async def main():
    async def answer(request, context):
        return request
    handlers = {"echo": grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("ADDRESS")
    await server.start()
    for _ in range(3):  # Each over a connection of its own.
        options = [("grpc.use_local_subchannel_pool", 1)]
        target = "ADDRESS" if "ADDRESS".startswith("unix:") else f"{'ADDRESS'.rpartition(':')[0]}:{port}"
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            print((await channel.unary_unary("/test/echo")(b"answer", wait_for_ready=True)).decode())
    await server.stop(1)
asyncio.run(main())
"""


def run(experiments: str, address: str = "127.0.0.1:0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GRPC_EXPERIMENTS": experiments, "GRPC_VERBOSITY": "ERROR"}
    program = _PROGRAM.replace("ADDRESS", address)
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )


def test_grpc_knows_the_listener_that_is_switched_off() -> None:
    assert "xperiment" in run("-no_such_experiment").stderr, "gRPC names what it does not know"
    assert "xperiment" not in run(f"-{GRPC_LISTENER}").stderr


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:SOCKET"])
def test_clients_come_back_over_each_kind_of_address(address: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    socket = tmp_path_factory.mktemp("s") / "s"
    assert run(f"-{GRPC_LISTENER}", address.replace("SOCKET", str(socket))).stdout.split() == ["answer"] * 3
