"""The types of the coverage report: the kernel's counts, and one row that the sensor sends."""

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from sensor.core.calls import Service


class PortProtocol(enum.IntEnum):
    """What the first bytes of a port's connections were; values are those of the wire."""

    HTTP = 1
    ENCRYPTED = 2
    HTTP2 = 3
    OTHER = 4
    SILENT = 5
    UNIX = 6
    QUIC = 7
    SOCKMAP = 8
    MISSED = 9
    LEFT_OUT = 10
    HTTPS = 11  # Encrypted, and read where a process hands it to its library of TLS.
    KERNEL_TLS = 12  # Encrypted by the kernel; a row of the node, beside those of the ports.


class CoverageRole(enum.IntEnum):
    """Which end of its connections a row is about; values are those of the wire."""

    LISTENING = 1
    OUTBOUND = 2
    NODE = 3  # Of the node as a whole.


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakChoice:
    """A version and cipher suite that servers chose, one of which is weak."""

    version: str
    cipher_suite: str
    count: int
    age_seconds: int  # Since the last one.


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """What the first bytes of encrypted connections said, in samples: at most one a second of each port or host. All
    are (text, handshakes), most first, and bounded."""

    count: int = 0
    server_names: tuple[tuple[str, int], ...] = ()
    protocols: tuple[tuple[str, int], ...] = ()  # ALPN: chosen where that is in the clear, else offered.
    versions: tuple[tuple[str, int], ...] = ()  # Chosen.
    cipher_suites: tuple[tuple[str, int], ...] = ()  # Chosen.
    weaknesses: tuple[tuple[str, int], ...] = ()
    peers: tuple[tuple[str, int], ...] = ()  # Addresses of the clients.
    weak_choices: tuple[WeakChoice, ...] = ()  # The latest first.


NO_HANDSHAKES = Handshakes()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCount:
    """The kernel's totals since the sensor's start of one (cgroup, port, protocol), or of another host."""

    port: int  # The server's.
    kind: PortProtocol
    connections: int
    bytes: int  # Both directions.
    cgroup_id: int = 0  # Of the listener, or of the client; 0 where it is not known.
    role: CoverageRole = CoverageRole.LISTENING
    address: str = ""  # Of the other host, where this node is the client.
    joined_late: int = 0  # Connections that were open before the sensor saw them.
    calls: int = 0
    lost_calls: int = 0
    exchanges: int = 0  # Encrypted: turns of client and server. HTTPS: of those that were not read.
    handshakes: Handshakes = NO_HANDSHAKES
    read_by: str = ""  # HTTPS: the libraries.
    read_note: str = ""  # HTTPS: how much of its processes may be read, or why they are not read any more.
    read_share: float = 1.0  # HTTPS: of the time.


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCoverage:
    """One row of the report, as the wire's PortCoverage."""

    service: Service  # Which listens, or which calls.
    protocol: PortProtocol
    connections: int
    bytes: int
    address: str  # Where it listens: `0.0.0.0`, or several with `, ` between; a path; or the host that is called.
    reason: str  # Why it is not read; empty where it is.
    role: CoverageRole = CoverageRole.LISTENING
    is_http_like: bool = False
    joined_late: int = 0
    calls: int = 0
    lost_calls: int = 0
    estimated_calls: int = 0
    handshakes: Handshakes = NO_HANDSHAKES
    uncaptured_ms: int = 0  # Of the node: time without capture.

    @property
    def key(self) -> tuple[Service, str, PortProtocol, CoverageRole]:
        """What a row is about; rows of one key are added up."""
        return (self.service, self.address, self.protocol, self.role)


def add_texts(
    texts: tuple[tuple[str, int], ...], more: tuple[tuple[str, int], ...], limit: int
) -> tuple[tuple[str, int], ...]:
    """Counts by text added up: the most frequent `limit`."""
    sums = dict(texts)
    for text, count in more:
        sums[text] = sums.get(text, 0) + count
    return tuple(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:limit])


NODE_WORKLOAD: Final = "node"


def build_node_row(
    unknown_service: Service,
    name: str,
    reason: str,
    *,
    connections: int = 0,
    bytes: int = 0,
    protocol: PortProtocol = PortProtocol.MISSED,
) -> PortCoverage:
    """A row about the node as a whole; `name` stands where other rows have an address."""
    return PortCoverage(
        service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
        protocol=protocol,
        role=CoverageRole.NODE,
        connections=connections,
        bytes=bytes,
        address=name,
        reason=reason,
    )
