"""The collector's HTTP server on a port of its own, in the test's event loop, and clients that misbehave."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from collector.api.access import RequestLimits
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.server.http_server import HttpLimits, HttpServer
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.states import create_state
from tests.waiting import DEADLINE_SECONDS, wait_in_loop

TOKEN = "correct-horse"


class EmptyReader:
    """A store without a row."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        return {}


def make_app(
    *, token: str | None = TOKEN, limits: RequestLimits | None = None, store: Any = None, ready: Callable[[], str] = str
) -> ASGIApp:
    """The product's application over a store without a row."""
    return build_app(
        Services(
            store=store or EmptyReader(),
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=token, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: 1_800_000_000.0,
            readiness=ready,
            metrics=lambda _: (b"", "text/plain"),
        ),
        limits=limits,
    )


@contextlib.asynccontextmanager
async def serve(
    app: ASGIApp, limits: HttpLimits | None = None, files: tuple[Path, Path] | None = None
) -> AsyncIterator[tuple[HttpServer, int]]:
    """The server, started, and its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = HttpServer(app, files=files, grace_seconds=1.0, limits=limits)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await wait_in_loop(lambda: server.started)
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def ask(port: int, request: bytes, **options: Any) -> bytes:
    """What comes for a request until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    with contextlib.closing(writer):
        writer.write(request)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await read_all(reader)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, also where that is a reset."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            received += part
    return received


def write_head(method: str, path: str, *lines: str, token: str = "") -> bytes:
    """A request head."""
    sent = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *([f"Authorization: Bearer {token}"] if token else ())]
    return "\r\n".join([*sent, *lines, "", ""]).encode()


def read_status(response: bytes) -> int:
    """Of a response that came."""
    return int(response.split(b" ", 2)[1])
