"""A list of HAProxy, kept as the live address blocks are, by its runtime API. EDGE: a socket.

HAProxy has `acl apidae_blocked src -f NAME` and a socket of level admin (`stats socket .. level admin`). Of the list
named all entries are ours: what it holds and no block names is removed. The commands `show acl`, `add acl` and
`del acl` are those of HAProxy's Management Guide, section 9.3; one connection carries one line of them.
"""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Final

TIMEOUT_SECONDS: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 << 20
COMMANDS_MAX: Final = 100  # Of one line; HAProxy reads 16 KB of it.


class HaproxyError(Exception):
    """HAProxy did not do it; one sentence."""


def parse_socket(text: str) -> str | tuple[str, int]:
    """`/run/haproxy/admin.sock` or HOST:PORT as an address to connect to. Raises ValueError."""
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ValueError(f"{text!r} is neither the path of a socket nor HOST:PORT; take HAProxy's `stats socket`")
    return host.strip("[]"), int(port)


class HaproxyList:
    """A place that blocks are told to."""

    def __init__(self, address: str, name: str) -> None:
        self.name = f"HAProxy at {address}"
        self._address = parse_socket(address)
        self._list = name

    def put(self, networks: Sequence[str]) -> None:
        """Have it hold these and no others. Raises HaproxyError."""
        held = set(self._read())
        wanted = set(networks)
        commands = [f"del acl {self._list} {pattern}" for pattern in sorted(held - wanted)]
        commands += [f"add acl {self._list} {pattern}" for pattern in sorted(wanted - held)]
        for first in range(0, len(commands), COMMANDS_MAX):
            answer = self._ask(commands[first : first + COMMANDS_MAX])
            if answer.strip():
                raise HaproxyError(f"{self.name} refused a change of {self._list}: {answer.strip()[:200]}")

    def _read(self) -> list[str]:
        """What it holds: lines of a reference and a pattern."""
        answer = self._ask([f"show acl {self._list}"])
        found = []
        for line in answer.splitlines():
            if not line.strip():
                continue
            reference, _, pattern = line.strip().partition(" ")
            if not reference.startswith("0x") or not _is_network(pattern):
                raise HaproxyError(f"{self.name} has no list {self._list}: {line.strip()[:200]}")
            found.append(pattern)
        return found

    def _ask(self, commands: Iterable[str]) -> str:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        if not isinstance(self._address, str) and ":" in self._address[0]:
            family = socket.AF_INET6
        try:
            with socket.socket(family) as channel:
                channel.settimeout(TIMEOUT_SECONDS)
                channel.connect(self._address)
                channel.sendall(";".join(commands).encode() + b"\n")
                answer = b""
                while len(answer) < ANSWER_BYTES_MAX and (some := channel.recv(1 << 16)):
                    answer += some
        except OSError as error:
            raise HaproxyError(f"{self.name} did not answer: {error}; is it a `stats socket` of level admin?") from None
        return answer.decode("utf-8", "replace")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
