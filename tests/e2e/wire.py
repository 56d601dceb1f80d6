"""A raw HTTP/1.1 client that knows to the byte what it sent and received, and can send a head in any pieces."""

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.waiting import DEADLINE_SECONDS

SEGMENT_GAP_SECONDS = 0.0005  # Lets the peer take a segment before the next, so that two are never joined.


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One call as the client knows it."""

    method: str
    target: str
    status: int
    request_bytes: int
    response_bytes: int


class ResponseError(Exception):
    """The server's answer is not what a small client reads."""


@dataclass(slots=True)
class RawClient:
    """One connection; every call is noted in `calls`."""

    address: str
    port: int
    calls: list[Sent] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    session: ssl.SSLSession | None = None  # Of TLS: to go on with.
    _socket: socket.socket = field(init=False)
    _received: bytes = b""

    def __post_init__(self) -> None:
        self._socket = socket.create_connection((self.address, self.port), timeout=DEADLINE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            self._socket = self.tls.wrap_socket(self._socket, server_hostname=self.address, session=self.session)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, method: str, target: str, body: bytes = b"", *, cuts: Sequence[int] = (), lines: Sequence[str] = ()
    ) -> Sent:
        """One call; `cuts` are positions in the request where a new segment begins, `lines` further headers."""
        request = build_request(method, target, body, lines=lines)
        self.send_pieces(cut(request, cuts))
        return self._note(method, target, request)

    def pipeline(self, targets: Sequence[str]) -> None:
        """GETs of all targets in one segment, then all their answers."""
        requests = [build_request("GET", target) for target in targets]
        self._socket.sendall(b"".join(requests))
        for target, request in zip(targets, requests, strict=True):
            self._note("GET", target, request)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Each piece as a segment of its own."""
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(SEGMENT_GAP_SECONDS)
            self._socket.sendall(piece)

    def receive_some(self) -> bytes:
        """What has arrived, at least a byte; empty at the end of the connection."""
        data, self._received = self._received, b""
        return data or self._socket.recv(65_536)

    @property
    def tls_session(self) -> ssl.SSLSession | None:
        """To go on with; of TLS 1.3 it comes with the first answer."""
        return self._socket.session if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def is_resumed(self) -> bool:
        """Whether the server went on with the session that it was given."""
        return isinstance(self._socket, ssl.SSLSocket) and bool(self._socket.session_reused)

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _note(self, method: str, target: str, request: bytes) -> Sent:
        status, size = self._read_response(method)
        sent = Sent(method=method, target=target, status=status, request_bytes=len(request), response_bytes=size)
        self.calls.append(sent)
        return sent

    def _read_response(self, method: str) -> tuple[int, int]:
        """Status, and size on the wire; what follows stays for the next."""
        head = self._read_until(b"\r\n\r\n")
        status = int(head[9:12])
        names = {
            name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if method == "HEAD" or status in (204, 304):
            return status, len(head)
        if names.get(b"transfer-encoding") == b"chunked":
            return status, len(head) + self._read_chunks()
        length = int(names[b"content-length"])
        self._read_exactly(length)
        return status, len(head) + length

    def _read_chunks(self) -> int:
        size = 0
        while True:
            line = self._read_until(b"\r\n")
            length = int(line, 16)
            self._read_exactly(length + 2)
            size += len(line) + length + 2
            if length == 0:
                return size

    def _read_until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._receive()
        data, _, self._received = self._received.partition(mark)
        return data + mark

    def _read_exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            self._receive()
        data, self._received = self._received[:length], self._received[length:]
        return data

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ResponseError(f"the server closed the connection after {len(self._received)} bytes of an answer")
        self._received += data


def build_request(
    method: str, target: str, body: bytes = b"", host: str = "shop.example", lines: Sequence[str] = ()
) -> bytes:
    """A request as small clients write it."""
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    further = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{further}{length}\r\n".encode() + body


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` in pieces that begin at the positions of `cuts`."""
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]
