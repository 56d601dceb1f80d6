"""The types of coverage: what is read of every listening port and called host of every node, and why the rest is not.

`list_blind_spots` lists what no sensor reads and what is excluded, even where there is none of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.core.rows import Service
from collector.inventory.endpoints.peers import Holder


class PortProtocol(StrEnum):
    """What was seen on a port."""

    HTTP = "http"
    ENCRYPTED = "encrypted"
    HTTP2 = "http2"
    OTHER = "other"
    SILENT = "silent"  # Listens, nothing seen yet.
    UNIX = "unix"
    QUIC = "quic"  # HTTP/3's transport.
    SOCKMAP = "sockmap"
    MISSED = "missed"  # What the sensor knows that it missed.
    LEFT_OUT = "left_out"  # Seen and not reported, by choice: workloads that are switched off, probes, Apidae itself.
    HTTPS = "https"  # Encrypted, and read where a process hands it to its library of TLS.
    KERNEL_TLS = "kernel_tls"  # Encrypted by the kernel: a row of the node, beside those of the ports.
    UNKNOWN = "unknown"


class CoverageRole(StrEnum):
    """Which end of its connections a row is about."""

    LISTENING = "listening"
    OUTBOUND = "outbound"  # A host that is called encrypted.
    NODE = "node"  # Of the node as a whole.
    UNKNOWN = "unknown"


class Reading(StrEnum):
    """Whether the calls are in the inventory."""

    READ = "read"
    UNREADABLE = "unreadable"  # Counted, and encrypted where the sensor reads.
    UNSEEN = "unseen"  # Its bytes pass the sensor by.
    NOT_HTTP = "not_http"
    SILENT = "silent"
    LOST = "lost"  # `address` says what, `connections` how often.
    LEFT_OUT = "left_out"  # `address` says what, `calls` how many, `reason` by whose choice.


class BlindSpotKind(StrEnum):
    """What is never read, and always listed."""

    HTTP3 = "http3"
    UNIX = "unix"
    SOCKMAP = "sockmap"
    KERNEL_TLS = "kernel_tls"
    EXCLUSIONS = "exclusions"


# By the wire's number.
PROTOCOL_NUMBERS: dict[int, PortProtocol] = {
    1: PortProtocol.HTTP,
    2: PortProtocol.ENCRYPTED,
    3: PortProtocol.HTTP2,
    4: PortProtocol.OTHER,
    5: PortProtocol.SILENT,
    6: PortProtocol.UNIX,
    7: PortProtocol.QUIC,
    8: PortProtocol.SOCKMAP,
    9: PortProtocol.MISSED,
    10: PortProtocol.LEFT_OUT,
    11: PortProtocol.HTTPS,
    12: PortProtocol.KERNEL_TLS,
}
ROLE_NUMBERS: dict[int, CoverageRole] = {1: CoverageRole.LISTENING, 2: CoverageRole.OUTBOUND, 3: CoverageRole.NODE}
_PROTOCOLS_OF: dict[Reading, tuple[PortProtocol, ...]] = {
    Reading.READ: (PortProtocol.HTTP, PortProtocol.HTTP2, PortProtocol.HTTPS),
    Reading.UNREADABLE: (PortProtocol.ENCRYPTED, PortProtocol.QUIC, PortProtocol.KERNEL_TLS),
    Reading.UNSEEN: (PortProtocol.UNIX, PortProtocol.SOCKMAP),
    Reading.NOT_HTTP: (PortProtocol.OTHER, PortProtocol.UNKNOWN),
    Reading.SILENT: (PortProtocol.SILENT,),
    Reading.LOST: (PortProtocol.MISSED,),
    Reading.LEFT_OUT: (PortProtocol.LEFT_OUT,),
}
READINGS = {protocol: reading for reading, protocols in _PROTOCOLS_OF.items() for protocol in protocols}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakChoice:
    """A version and cipher suite that servers chose, one of which is weak; `last_seen` in unix seconds."""

    version: str
    cipher_suite: str
    count: int
    last_seen: int


def read_weak_choices(rows: Iterable[Sequence[Any]]) -> tuple[WeakChoice, ...]:
    """As the ingest room writes them."""
    return tuple(
        WeakChoice(version=version, cipher_suite=suite, count=int(count), last_seen=int(last))
        for version, suite, count, last in rows
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """What samples of handshakes said: at most one a second of each port or host. Counts by text, most first."""

    count: int
    server_names: dict[str, int]
    protocols: dict[str, int]  # ALPN, as offered.
    versions: dict[str, int]  # Chosen, like the cipher suites.
    cipher_suites: dict[str, int]
    weaknesses: dict[str, int]
    peers: dict[str, int]  # Addresses of the clients.
    weak_choices: tuple[WeakChoice, ...] = ()  # The latest first.


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Totals of one (listening port, protocol), or of a host that is called, since its sensor's start."""

    id: str
    node: str
    role: CoverageRole
    service: Service  # Which listens, or which calls.
    address: str
    protocol: PortProtocol
    is_http_like: bool
    connections: int
    bytes: int
    joined_late: int
    calls: int
    lost_calls: int
    estimated_calls: int
    handshakes: Handshakes | None
    reason: str  # Why it is not read, or why no service is named.
    first_seen: float  # Of its first report.
    updated_at: float
    called: tuple[Holder, ...] = ()  # Who was at the address that is called.

    @property
    def reading(self) -> Reading:
        """Whether its calls are in the inventory."""
        return READINGS[self.protocol]

    @property
    def is_read(self) -> bool:
        """The same, yes or no."""
        return self.reading is Reading.READ


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of what is like HTTP is read, of listening ports. Definition: docs/use/coverage.md."""

    connections: int
    bytes: int
    read_connections: int
    read_bytes: int

    @property
    def read_connections_ratio(self) -> float | None:
        """Connections that are read of those that are like HTTP; None before any."""
        return self.read_connections / self.connections if self.connections else None

    @property
    def read_bytes_ratio(self) -> float | None:
        """The same of bytes."""
        return self.read_bytes / self.bytes if self.bytes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCoverage:
    """One node, or all of them together (`node` is empty): totals since the sensors' starts."""

    node: str
    share: Share
    ports: int
    read_ports: int
    unreadable_ports: int
    unseen_ports: int
    outbound_hosts: int
    calls: int
    estimated_calls: int
    joined_late: int
    lost_calls: int
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindSpot:
    """How much of one kind the last reports of all nodes hold; zeros where there is none."""

    kind: BlindSpotKind
    protocol: PortProtocol  # Its rows among the ports.
    nodes: int
    places: int  # Rows: ports, sockets, nodes, or services with their rule.
    connections: int
    bytes: int
    calls: int
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one sensor knows it did not see or keep, by stage and reason, and what may be done."""

    node: str
    stage: str
    reason: str
    count: int
    meaning: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The whole installation, each node, what is never read, and all losses."""

    cluster: NodeCoverage
    nodes: tuple[NodeCoverage, ...]
    blind_spots: tuple[BlindSpot, ...]
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveragePoint:
    """What one step of time added, of listening ports."""

    time: int
    share: Share
    calls: int
    estimated_calls: int
    joined_late: int
    lost_calls: int
    uncaptured_seconds: float  # Of all nodes together.


# By kind: its rows among the ports, and what it means.
_BLIND_SPOTS: Final[dict[BlindSpotKind, tuple[PortProtocol, str]]] = {
    BlindSpotKind.HTTP3: (
        PortProtocol.QUIC,
        "HTTP/3 (QUIC): encrypted datagrams. Flows, as connections, and bytes are counted; calls are not seen.",
    ),
    BlindSpotKind.UNIX: (
        PortProtocol.UNIX,
        "Unix sockets: their bytes never pass the network. Those that listen are counted, with connections open now.",
    ),
    BlindSpotKind.SOCKMAP: (
        PortProtocol.SOCKMAP,
        "Programs that move bytes between sockets (sockmap) pass the sensor by. Nodes that have some are counted.",
    ),
    BlindSpotKind.KERNEL_TLS: (
        PortProtocol.KERNEL_TLS,
        "TLS that the kernel does (kTLS): no library sees the bytes. Connections are those open now.",
    ),
    BlindSpotKind.EXCLUSIONS: (
        PortProtocol.LEFT_OUT,
        "Calls that were seen and are not reported, by choice: workloads that are switched off, probes, Apidae itself.",
    ),
}
_EXPECTED: Final = {protocol for protocol, _ in _BLIND_SPOTS.values()}
_NUMBERS: Final = ", ".join(str(number) for number, protocol in PROTOCOL_NUMBERS.items() if protocol in _EXPECTED)


def build_statement(last: str) -> str:
    """Figures of each kind that occurs; `last` is the condition for the last report of each node."""
    return f"""
SELECT protocol, uniqExact(node) AS nodes, count() AS places, sum(connections) AS connections, sum(bytes) AS bytes,
    sum(calls) AS calls
FROM (
    SELECT node, protocol, connections, bytes, calls
    FROM coverage_rows FINAL
    WHERE {last} AND protocol IN ({_NUMBERS})
)
GROUP BY protocol"""


def list_blind_spots(rows: Iterable[Mapping[str, Any]]) -> tuple[BlindSpot, ...]:
    """Every kind, in the order of the kinds; zeros where no sensor reports any."""
    found = {PROTOCOL_NUMBERS[int(row["protocol"])]: row for row in rows}
    counts = ("nodes", "places", "connections", "bytes", "calls")
    return tuple(
        BlindSpot(
            kind=kind,
            protocol=protocol,
            meaning=meaning,
            **{name: int(found[protocol][name]) if protocol in found else 0 for name in counts},
        )
        for kind, (protocol, meaning) in _BLIND_SPOTS.items()
    )
