"""Both ends of one TCP connection in one thread, played from a script: what a real server would only do once in a
while.

A step is sent by one end and read whole by the other before the next step begins, so each is at least one segment and
nothing overlaps.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tests.waiting import DEADLINE_SECONDS

ABORT_SETTLE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Client:
    """Bytes that the client sends."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """Bytes that the server sends."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """The client gives up: RST."""


Step = Client | Server | Reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One call that the script holds. Sizes are of heads and bodies, interim answers included."""

    method: str
    path: str
    status: int
    request_bytes: int
    response_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A connection and the calls in it."""

    name: str
    steps: Sequence[Step]
    expected: Sequence[Expected] = field(default_factory=tuple)


def play(script: Script, address: str = "127.0.0.1", taken: Collection[int] = ()) -> int:
    """Plays it on a connection of its own to a listener of its own; returns the listener's port, none of `taken`."""
    with _listen(address, taken) as listener:
        port: int = listener.getsockname()[1]
        client = socket.create_connection((address, port), timeout=DEADLINE_SECONDS)
        server, _ = listener.accept()
        server.settimeout(DEADLINE_SECONDS)
        with client, server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for step in script.steps:
                _take(step, client, server)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while client.recv(65_536):
                    pass
    return port


def _listen(address: str, taken: Collection[int]) -> socket.socket:
    """The system may give a port again once its listener is closed, and at any time for the other family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        listener = socket.create_server((address, 0), family=family)
        if listener.getsockname()[1] not in taken:
            return listener
        listener.close()


def _take(step: Step, client: socket.socket, server: socket.socket) -> None:
    if isinstance(step, Reset):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        time.sleep(ABORT_SETTLE_SECONDS)
        return
    sender, receiver = (client, server) if isinstance(step, Client) else (server, client)
    sender.sendall(step.data)
    left = len(step.data)
    while left:
        left -= len(receiver.recv(left))
