"""Calls a server over TLS that ends the connection behind each answer: a connection and a handshake a call. Arguments:
PORT AUTHORITY THREADS SECONDS PACE_MS; says as wrk does in `load` RESULT calls errors p99_us p999_us.
"""

import socket
import ssl
import sys
import time
from typing import Final

from scripts.bench_cases.harming.callers import run_callers

CALL_SECONDS: Final = 10.0
_REQUEST: Final = b"GET /orders/1001 HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"


class Caller:
    """One call after the other; a status that is not 200, or no whole answer, is an error."""

    def __init__(self, port: int, authority: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=authority)
        self._session: ssl.SSLSession | None = None  # Of the call before: each but the first resumes it.

    def call(self) -> bool:
        """Whether the answer came."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=CALL_SECONDS) as plain,
                self._wrap(plain) as channel,
            ):
                channel.sendall(_REQUEST)
                answer = b"".join(iter(lambda: channel.recv(65_536), b""))
                self._session = channel.session
        except OSError:
            return False
        return answer.split(b" ", 2)[1:2] == [b"200"]

    def _wrap(self, plain: socket.socket) -> ssl.SSLSocket:
        # Else the request waits until the other end acknowledges the end of the handshake, which it does after 40 ms.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(plain, server_hostname="127.0.0.1", session=self._session)

    def close(self) -> None:
        """Nothing is open between calls."""


def main() -> None:
    port, authority, threads, seconds, pace_ms = sys.argv[1:]
    callers = [Caller(int(port), authority) for _ in range(int(threads))]
    print(run_callers(callers, time.monotonic() + float(seconds), int(pace_ms) / 1e3))


if __name__ == "__main__":
    main()
