"""A JSON service over Python's http.server, and how one service calls another. Standard library alone.

A service is a function of a `Handler`. `serve` listens on a free port of loopback and prints one JSON line with it. The
ports of other services are arguments, as `payments=40123`.
"""

import http.client
import json
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

METHODS: Final = ("GET", "POST", "PUT", "DELETE")
BODY_BYTES_MAX: Final = 65_536
CALL_SECONDS: Final = 10.0
# The simulated load balancer of the edge calls from here, and the gateway from the second: both are proxies that the
# demo's sensor trusts.
EDGE_ADDRESS: Final = "127.0.0.2"
GATEWAY_ADDRESS: Final = "127.0.0.3"
Work = Callable[["Handler"], None]
# Kept between requests by each thread of a server.
_connections = threading.local()


def read_arguments() -> dict[str, str]:
    """`name=value` of the command line."""
    return dict(argument.split("=", 1) for argument in sys.argv[1:])


class Handler(BaseHTTPRequestHandler):
    """One request at a time: its `words` are those of the path, its `document` the JSON object of its body."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: "_Server"

    def handle_one_request(self) -> None:
        """Without a trace of a client that was stopped in the middle."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def respond(self) -> None:
        """Answers a request of any method."""
        self.document = self._read_document()
        self.words = urlsplit(self.path).path.strip("/").split("/")
        if self.words == ["healthz"]:
            self.answer(200, {"status": "ok"})
        else:
            self.server.work(self)

    def _read_document(self) -> dict[str, Any]:
        length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
        try:
            document = json.loads(self.rfile.read(length)) if length else {}
        except ValueError:
            document = {}
        return document if isinstance(document, dict) else {}

    def has_bearer(self) -> bool:
        """Whether there is a bearer token; answers 401 where there is none. Whose it is nobody asks."""
        if self.headers.get("Authorization", "").startswith("Bearer "):
            return True
        self.answer(401, {"error": "a bearer token is needed"})
        return False

    def answer(self, status: int, document: Any) -> None:
        """Sends JSON."""
        self.send_bytes(status, json.dumps(document).encode())

    def send_bytes(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        """Sends a body as it is."""
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal belongs to the live table."""


for _method in METHODS:
    setattr(Handler, f"do_{_method}", Handler.respond)


class _Server(ThreadingHTTPServer):
    """Threads end with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, work: Work) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.work = work


def serve(work: Work) -> None:
    """Until the process is ended."""
    server = _Server(work)
    print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
    server.serve_forever()


@cache
def read_ports() -> dict[str, int]:
    """Of the services that the arguments name."""
    return {name: int(value) for name, value in read_arguments().items() if value.isdigit()}


def call(
    service: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    document: Any = None,
    source: str = "",
) -> tuple[int, bytes]:
    """One call of a service that the arguments name, over this thread's kept connection: status and body; 502 where it
    does not answer."""
    port = read_ports()[service]
    body = None if document is None else json.dumps(document).encode()
    sent = {"Host": f"{service}.shop.internal"} | ({"Content-Type": "application/json"} if body else {})
    kept: dict[tuple[int, str], http.client.HTTPConnection] = _connections.__dict__.setdefault("kept", {})
    for _ in range(2):  # A kept connection may have been closed meanwhile.
        connection = kept.get((port, source))
        if connection is None:
            connection = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=CALL_SECONDS, source_address=(source, 0) if source else None
            )
            kept[port, source] = connection
        try:
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            del kept[port, source]
    return 502, b'{"error": "no answer"}'
