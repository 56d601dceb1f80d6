"""Coverage: every listening port of every node, what is spoken there, and why it is not read where it is not."""

from dataclasses import dataclass
from enum import StrEnum

from collector.rows import Service


class PortProtocol(StrEnum):
    """What was seen on a port."""

    HTTP = "http"
    ENCRYPTED = "encrypted"
    HTTP2 = "http2"
    OTHER = "other"
    SILENT = "silent"  # Listens, nothing seen yet.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Totals of one (listening port, protocol) since its sensor's start."""

    node: str
    service: Service
    address: str
    protocol: PortProtocol
    connections: int
    bytes: int
    reason: str  # Why it is not read, or why no service is named.
    updated_at: float

    @property
    def is_read(self) -> bool:
        """Whether the calls on this port are in the inventory."""
        return self.protocol is PortProtocol.HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one sensor knows it did not see or keep, by stage and reason."""

    node: str
    stage: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """All ports and all losses, with the share of traffic that is read."""

    ports: tuple[Port, ...]
    losses: tuple[Loss, ...]

    @property
    def read_bytes_ratio(self) -> float | None:
        """Bytes on ports that are read of bytes on all ports; None before any traffic."""
        total = sum(port.bytes for port in self.ports)
        return sum(port.bytes for port in self.ports if port.is_read) / total if total else None

    @property
    def read_connections_ratio(self) -> float | None:
        """The same of connections."""
        total = sum(port.connections for port in self.ports)
        return sum(port.connections for port in self.ports if port.is_read) / total if total else None
