"""Collects what handshakes of encrypted connections show: names, protocols, versions and cipher suites, by port or
host.

Takes the first bytes that the kernel copies, at most one handshake a second of each port or host. Names are metadata,
not secrets, but the client chooses them. So a port keeps some of them and counts the rest together.
"""

from collections import Counter
from dataclasses import replace
from typing import Final

from common.bounded import BoundedDict
from sensor.coverage.row import NO_HANDSHAKES, CoverageRole, Handshakes, WeakChoice, add_texts
from sensor.http.tls_hello import (
    ClientHello,
    list_weaknesses,
    name_cipher_suite,
    name_version,
    parse_client_hello,
    parse_server_hello,
)

ENDS_MAX: Final = 4_096
TEXTS_MAX: Final = 16  # Of each kind at one end.
SHOWN_MAX: Final = 8  # Of them in the report.
WEAK_MAX: Final = 16  # Pairs of version and cipher suite at one end; the one that was chosen longest ago goes.
SECOND_NS: Final = 1_000_000_000
OTHERS: Final = "(others)"
NO_NAME: Final = "(none)"
HIDDEN_NAME: Final = "(encrypted hello)"

# (cgroup id, role, port, address of the other host where this node is the client).
End = tuple[int, CoverageRole, int, str]


# Fields of `Handshakes` that are texts with counts.
_TEXTS: Final = ("server_names", "protocols", "versions", "cipher_suites", "weaknesses", "peers")


class _Heard:
    """Counters of one end, by field of `Handshakes`."""

    __slots__ = ("count", "texts", "weak")

    def __init__(self) -> None:
        self.count = 0
        self.texts: dict[str, Counter[str]] = {name: Counter() for name in _TEXTS}
        # By (version, cipher suite): how often, and when last; that one is at the end.
        self.weak: BoundedDict[tuple[str, str], tuple[int, int]] = BoundedDict(WEAK_MAX)

    def add(self, name: str, text: str) -> None:
        """Counts one text; those past the bound together."""
        counter = self.texts[name]
        counter[text if text in counter or len(counter) < TEXTS_MAX else OTHERS] += 1


class HandshakeTable:
    """Mutable; bounded. What is past the ends is counted in `refused`."""

    def __init__(self) -> None:
        self._ends: dict[End, _Heard] = {}
        self.refused = 0
        self.unreadable = 0

    def take_client(self, end: End, peer: str, data: bytes) -> ClientHello | None:
        """The first bytes of a client; `peer` is its address where this node is the server. Gives what they say."""
        hello = parse_client_hello(data)
        heard = self._find(end)
        if heard is None:
            return hello
        heard.count += 1
        if peer:
            heard.add("peers", peer)
        if hello is None:
            self.unreadable += 1
            return None
        heard.add("server_names", hello.server_name or NO_NAME)
        if hello.is_encrypted_hello:
            heard.add("server_names", HIDDEN_NAME)
        for protocol in hello.protocols:
            heard.add("protocols", protocol)
        return hello

    def take_server(self, end: End, data: bytes, time_ns: int) -> None:
        """The first bytes of a server whose client was heard, and when, by the kernel's clock."""
        hello = parse_server_hello(data)
        heard = self._find(end)
        if heard is None:
            return
        if hello is None:
            self.unreadable += 1
            return
        version, suite = name_version(hello.version), name_cipher_suite(hello.cipher_suite)
        heard.add("versions", version)
        heard.add("cipher_suites", suite)
        weaknesses = list_weaknesses(hello.version, hello.cipher_suite)
        for weakness in weaknesses:
            heard.add("weaknesses", weakness)
        if weaknesses:
            count, _ = heard.weak.get((version, suite), (0, 0))
            heard.weak.renew((version, suite), (count + 1, time_ns))

    def find(self, end: End, now_ns: int) -> Handshakes:
        """What was heard at an end until now, by the kernel's clock."""
        heard = self._ends.get(end)
        if heard is None:
            return NO_HANDSHAKES
        return Handshakes(
            count=heard.count,
            **{name: add_texts((), tuple(counter.items()), SHOWN_MAX) for name, counter in heard.texts.items()},
            weak_choices=tuple(
                WeakChoice(
                    version=version, cipher_suite=suite, count=count, age_seconds=max(0, now_ns - last) // SECOND_NS
                )
                for (version, suite), (count, last) in reversed(heard.weak.items())
            ),
        )

    def _find(self, end: End) -> _Heard | None:
        heard = self._ends.get(end)
        if heard is None:
            if len(self._ends) >= ENDS_MAX:
                self.refused += 1
                return None
            heard = self._ends[end] = _Heard()
        return heard


def add_handshakes(one: Handshakes, other: Handshakes) -> Handshakes:
    """Both together."""
    if not other.count:
        return one
    return Handshakes(
        count=one.count + other.count,
        **{name: add_texts(getattr(one, name), getattr(other, name), SHOWN_MAX) for name in _TEXTS},
        weak_choices=_add_weak(one.weak_choices, other.weak_choices),
    )


def _add_weak(one: tuple[WeakChoice, ...], other: tuple[WeakChoice, ...]) -> tuple[WeakChoice, ...]:
    sums = {(choice.version, choice.cipher_suite): choice for choice in one}
    for choice in other:
        pair = (choice.version, choice.cipher_suite)
        if pair in sums:
            age = min(choice.age_seconds, sums[pair].age_seconds)
            choice = replace(choice, count=choice.count + sums[pair].count, age_seconds=age)
        sums[pair] = choice
    return tuple(sorted(sums.values(), key=lambda choice: (choice.age_seconds, choice.version, choice.cipher_suite)))[
        :WEAK_MAX
    ]
