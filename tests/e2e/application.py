"""One small application over four servers (nginx, Python, Node, Go): starts one of them on a port of its own.

POST   /orders        201, a body          GET /orders/N   200, a body      GET /users/N  304, no body
DELETE /orders/N      204, no body         HEAD /orders/N  200, no body     anything else 404, a body
GET    /events        200 in chunks (not nginx)
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.program import Program

HERE = Path(__file__).parent / "servers"
KINDS = ("nginx", "python", "node", "go")
READY_SECONDS = 20.0
GO_BUILD_SECONDS = 300.0  # The first build compiles net/http, on a busy machine.
NGINX = """
        default_type application/json;
        location = /orders { return 201 '{"number": 1}'; }
        location /orders/ {
            if ($request_method = DELETE) { return 204; }
            return 200 '{"state": "sent"}';
        }
        location /users/ { return 304; }
        location / { return 404 '{}'; }
"""


class Stoppable(Protocol):
    """Nginx or a Program."""

    def stop(self) -> object:
        """Ends it and waits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    kind: str
    address: str
    port: int
    runner: Stoppable


class Servers:
    """Starts servers and stops all of them; skips the test, with the reason, where a server is not installed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Server] = []
        self._go: Path | None = None

    def start(self, kind: str, address: str) -> Server:
        """One server of `kind` on `address` and a port that the system chose."""
        directory = self._directory / f"{kind}-{len(self._running)}"
        directory.mkdir()
        if kind == "nginx":
            if find_nginx() is None:
                pytest.skip("nginx is not installed: apt-get install nginx-light")
            nginx = Nginx(directory, NGINX, addresses=(address,))
            server = Server(kind=kind, address=address, port=nginx.port, runner=nginx)
        else:
            program = Program(kind, [*self._command(kind), address], directory / "server.log")
            port = int(program.wait_for("ready", READY_SECONDS)["port"])
            server = Server(kind=kind, address=address, port=port, runner=program)
        self._running.append(server)
        return server

    def stop(self) -> None:
        """Stops what `start` started."""
        for server in self._running:
            server.runner.stop()

    def _command(self, kind: str) -> list[str]:
        if kind == "python":
            return [sys.executable, str(HERE / "app.py")]
        if kind == "node":
            return [find_or_skip("node", "nodejs"), str(HERE / "app.js")]
        return [str(self._build_go())]

    def _build_go(self) -> Path:
        if self._go is None:
            go = find_or_skip("go", "golang-go")
            output = self._directory / "app"
            command = [go, "build", "-o", str(output), str(HERE / "app.go")]
            subprocess.run(command, check=True, timeout=GO_BUILD_SECONDS, cwd=self._directory)
            self._go = output
        return self._go


def find_or_skip(program: str, package: str) -> str:
    """Its path; skips the test where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path
