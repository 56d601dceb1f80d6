"""Scripted servers and raw clients for capture tests: every byte and segment boundary is the test's own."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket], None]
# Long enough for a segment to be sent before the next: with TCP_NODELAY each send is a segment of its own.
SEGMENT_PAUSE_SECONDS = 0.02


def request(method: str, target: str, headers: str = "", body: bytes = b"", version: str = "1.1") -> bytes:
    """One request; `headers` are whole lines with CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/{version}\r\nHost: h\r\n{headers}{length}\r\n".encode() + body


def response(status: int, body: bytes = b"ok", headers: str = "") -> bytes:
    """One response framed by its length."""
    return f"HTTP/1.1 {status} Reason\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(status: int, *chunks: bytes, trailer: str = "") -> bytes:
    """One response in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer.encode() + b"\r\n"
    return f"HTTP/1.1 {status} Reason\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Reads `size` bytes, or fewer at the end of the stream."""
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            break
        parts += part
    return parts


def send_parts(connection: socket.socket, *parts: bytes) -> None:
    """Sends each part as a segment of its own."""
    for part in parts:
        connection.sendall(part)
        time.sleep(SEGMENT_PAUSE_SECONDS)


@contextlib.contextmanager
def serving(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, options: tuple[tuple[int, int, int], ...] = ()
) -> Iterator[int]:
    """A server on a free port that runs `answer(connection)` for each connection in a thread; yields the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    for level, name, value in options:
        listener.setsockopt(level, name, value)
    listener.bind((host, port))
    listener.listen(16)

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


@contextlib.contextmanager
def connected(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A client connection without Nagle."""
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def talk(port: int, parts: tuple[bytes, ...], expected: int, host: str = "127.0.0.1") -> bytes:
    """Sends the parts as segments, reads `expected` bytes, closes."""
    with connected(port, host) as connection:
        send_parts(connection, *parts)
        return receive_exactly(connection, expected)


# What a tunnel may carry: the client's bytes and the server's.
NO_HTTP = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"h" * 200, b"\x16\x03\x03\x00\x7a" + b"s" * 122),
    "ssh": (b"SSH-2.0-client\r\n" + b"k" * 90, b"SSH-2.0-server\r\n" + b"k" * 90),
    "smtp": (b"EHLO example.org\r\n", b"250-mail.example.org\r\n250 OK\r\n"),
    "word": (b"GET is a word\r\nand this is not HTTP\r\n", b"HTTPLIKE\r\n"),
    "unanswered": (request("GET", "/asked"), b"+OK no answer of HTTP\r\n"),
}
