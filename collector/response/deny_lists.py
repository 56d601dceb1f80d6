"""Writes live address blocks as deny lists for proxies and policies for Kubernetes, and updates HAProxy by its socket.

`export_blocks` fills the templates of `exports/`, which say where their formats come from. Lists for HAProxy, Traefik
and Envoy hold for everything behind the proxy. So blocks of some services only are not in them. Policies are for Envoy
Gateway, Cilium and NetworkPolicy.

`HaproxyList` keeps a list of HAProxy equal to the live blocks by its runtime API (EDGE: a socket). HAProxy needs `acl
apidae_blocked src -f NAME` and a socket of level admin (`stats socket .. level admin`). All entries of that list belong
to Apidae: an entry that no block names is removed. One connection carries one line of commands. Source: HAProxy's
Management Guide, section 9.3 (`show acl`, `add acl`, `del acl`).
"""

import hashlib
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Template

from collector.core.templates import compile_template
from collector.receiver.policy import BlockOrder
from collector.response.block import collect_denied

_EXPORTS: Final = Path(__file__).parent / "exports"


class ExportFormat(StrEnum):
    """For whom: the name of a template."""

    HAPROXY = "haproxy"
    TRAEFIK = "traefik"
    ENVOY = "envoy"
    ENVOY_GATEWAY = "envoy-gateway"
    CILIUM = "cilium"
    NETWORK_POLICY = "networkpolicy"

    @property
    def suffix(self) -> str:
        """Of its file."""
        return "acl" if self is ExportFormat.HAPROXY else "yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What the collector's settings say of what stands in front."""

    cluster: str = ""  # In which it stands; empty: in none.
    traefik_entry_points: tuple[str, ...] = ()  # None: all that are default.


@cache
def _load_template(kind: ExportFormat) -> Template:
    return compile_template((_EXPORTS / f"{kind}.{kind.suffix}").read_text(), is_trimmed=True)


def export_blocks(orders: Sequence[BlockOrder], kind: ExportFormat, settings: ExportSettings) -> str:
    """The file's text; without blocks one that denies nobody."""
    denied = collect_denied(orders, settings.cluster)
    workloads = [
        {
            "namespace": namespace,
            "name": name,
            "networks": networks,
            "ipv4": [network for network in networks if ":" not in network],
            "ipv6": [network for network in networks if ":" in network],
        }
        for (namespace, name), networks in denied.by_workload.items()
    ]
    return _load_template(kind).render(
        everywhere=denied.everywhere,
        workloads=workloads,
        entry_points=settings.traefik_entry_points,
        version=hashlib.sha256(" ".join(denied.everywhere).encode()).hexdigest()[:16],
    )


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
    """One list of HAProxy."""

    def __init__(self, address: str, name: str, cluster: str = "") -> None:
        """`cluster`: in which it stands. Raises ValueError."""
        self.name = f"HAProxy at {address}"
        self._address = parse_socket(address)
        self._list, self._cluster = name, cluster

    def write(self, orders: Sequence[BlockOrder]) -> None:
        """Have it hold the networks that are blocked everywhere, and no others. Raises HaproxyError."""
        held, wanted = set(self._read()), set(collect_denied(orders, self._cluster).everywhere)
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
