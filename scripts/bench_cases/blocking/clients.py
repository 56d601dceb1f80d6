"""A server that notes whose requests it read, and clients that note what they saw, for tests of enforcement."""

import contextlib
import http.client
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b'{"name": "Ada"}'
HANG_SECONDS = 3.0


class _Shop(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    served: Counter[str]
    context: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        """In the connection's own thread, so that one handshake waits for no other."""
        with contextlib.suppress(OSError):  # The client left, or was made to.
            if self.context is None:
                self.RequestHandlerClass(request, client_address, self)  # type: ignore[arg-type]
                return
            with self.context.wrap_socket(request, server_side=True) as wrapped:  # type: ignore[arg-type]
                self.RequestHandlerClass(wrapped, client_address, self)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Shop

    def do_GET(self) -> None:
        self.server.served[self.headers.get("X-Api-Key") or self.headers.get("Authorization") or ""] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True


class Shop:
    """Serves JSON over HTTP/1.1 with keep-alive; `served` counts requests by credential."""

    def __init__(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self._server = _Shop((host, 0), _Handler)
        self._server.context = context
        self._server.served = self.served = Counter()
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Caller:
    """A client from an address of its own with headers of its own."""

    port: int
    source: str
    headers: dict[str, str] = field(default_factory=dict)
    is_keep_alive: bool = True
    is_tls: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    _connection: http.client.HTTPConnection | None = None

    def call(self, path: str = "/users/1") -> str:
        """`200`, `reset`, `hang` or another word for what happened."""
        outcome = self._call(path)
        self.outcomes[outcome] += 1
        return outcome

    def _call(self, path: str) -> str:
        if self._connection is None:
            self._connection = self._open()
        try:
            self._connection.request("GET", path, headers=self.headers)
            response = self._connection.getresponse()
            response.read()
            outcome = str(response.status)
        except (ConnectionError, ssl.SSLError, http.client.BadStatusLine):
            outcome = "reset"
        except TimeoutError:
            outcome = "hang"
        if outcome != "200" or not self.is_keep_alive:
            self.close()
        return outcome

    def _open(self) -> http.client.HTTPConnection:
        source = (self.source, 0)
        if not self.is_tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS, source_address=source)
        # The certificate is the test's own: it is not what is tried here.
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=HANG_SECONDS, source_address=source, context=context
        )

    def close(self) -> None:
        """Ends its connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Loop:
    """Calls again and again in a thread, until stopped."""

    def __init__(self, caller: Caller, interval_seconds: float = 0.02) -> None:
        self.caller = caller
        self._interval = interval_seconds
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_ending.wait(self._interval):
            self.note(self.call())

    def call(self) -> str:
        """One call, in its thread."""
        return self.caller.call()

    def note(self, outcome: str) -> None:
        """After each call, in its thread."""

    def stop(self) -> Counter[str]:
        """What it saw."""
        self._is_ending.set()
        self._thread.join()
        self.caller.close()
        return self.caller.outcomes
