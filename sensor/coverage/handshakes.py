"""What was heard of encrypted connections: names, protocols, versions and cipher suites by port or other host.

Takes the first bytes that the kernel sends up, at most one handshake a second of each. Names are metadata, not
secrets, but who calls chooses them: a port keeps some, and counts the rest together.
"""

from collections import Counter
from typing import Final

from sensor.coverage.row import NO_HANDSHAKES, CoverageRole, Handshakes, add_texts
from sensor.protocols.tls import (
    list_weaknesses,
    name_cipher_suite,
    name_version,
    parse_client_hello,
    parse_server_hello,
)

ENDS_MAX: Final = 4_096
TEXTS_MAX: Final = 16  # Of each kind at one end.
SHOWN_MAX: Final = 8  # Of them in the report.
OTHERS: Final = "(others)"
NO_NAME: Final = "(none)"
HIDDEN_NAME: Final = "(encrypted hello)"

# (cgroup id, role, port, address of the other host where this node is the client).
End = tuple[int, CoverageRole, int, str]


class _Heard:
    """Counters of one end."""

    __slots__ = ("count", "names", "peers", "protocols", "suites", "versions", "weaknesses")

    def __init__(self) -> None:
        self.count = 0
        self.names, self.protocols, self.versions = Counter[str](), Counter[str](), Counter[str]()
        self.suites, self.weaknesses, self.peers = Counter[str](), Counter[str](), Counter[str]()


class HandshakeTable:
    """Mutable; bounded. What is past the ends is counted in `refused`."""

    def __init__(self) -> None:
        self._ends: dict[End, _Heard] = {}
        self.refused = 0
        self.unreadable = 0

    def take_client(self, end: End, peer: str, data: bytes) -> None:
        """The first bytes of a client; `peer` is its address where this node is the server."""
        hello = parse_client_hello(data)
        heard = self._find(end)
        if heard is None:
            return
        heard.count += 1
        if peer:
            _add(heard.peers, peer)
        if hello is None:
            self.unreadable += 1
            return
        _add(heard.names, hello.server_name or NO_NAME)
        if hello.is_encrypted_hello:
            _add(heard.names, HIDDEN_NAME)
        for protocol in hello.protocols:
            _add(heard.protocols, protocol)

    def take_server(self, end: End, data: bytes) -> None:
        """The first bytes of a server whose client was heard."""
        hello = parse_server_hello(data)
        heard = self._find(end)
        if heard is None:
            return
        if hello is None:
            self.unreadable += 1
            return
        _add(heard.versions, name_version(hello.version))
        _add(heard.suites, name_cipher_suite(hello.cipher_suite))
        for weakness in list_weaknesses(hello.version, hello.cipher_suite):
            _add(heard.weaknesses, weakness)

    def find(self, end: End) -> Handshakes:
        """What was heard at an end."""
        heard = self._ends.get(end)
        if heard is None:
            return NO_HANDSHAKES
        return Handshakes(
            count=heard.count,
            server_names=_show(heard.names),
            protocols=_show(heard.protocols),
            versions=_show(heard.versions),
            cipher_suites=_show(heard.suites),
            weaknesses=_show(heard.weaknesses),
            peers=_show(heard.peers),
        )

    def _find(self, end: End) -> _Heard | None:
        heard = self._ends.get(end)
        if heard is None:
            if len(self._ends) >= ENDS_MAX:
                self.refused += 1
                return None
            heard = self._ends[end] = _Heard()
        return heard


def _add(counter: Counter[str], text: str) -> None:
    counter[text if text in counter or len(counter) < TEXTS_MAX else OTHERS] += 1


def _show(counter: Counter[str]) -> tuple[tuple[str, int], ...]:
    return add_texts((), tuple(counter.items()), SHOWN_MAX)


def add_handshakes(one: Handshakes, other: Handshakes) -> Handshakes:
    """Both together."""
    if not other.count:
        return one
    return Handshakes(
        count=one.count + other.count,
        server_names=add_texts(one.server_names, other.server_names, SHOWN_MAX),
        protocols=add_texts(one.protocols, other.protocols, SHOWN_MAX),
        versions=add_texts(one.versions, other.versions, SHOWN_MAX),
        cipher_suites=add_texts(one.cipher_suites, other.cipher_suites, SHOWN_MAX),
        weaknesses=add_texts(one.weaknesses, other.weaknesses, SHOWN_MAX),
        peers=add_texts(one.peers, other.peers, SHOWN_MAX),
    )
