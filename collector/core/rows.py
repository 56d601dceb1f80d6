"""What rows of calls are about: services, routes and consumers, and lists of different lengths, one a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


UNKNOWN_PATH = "<unknown>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What serves: see the proto's Service. `workload_kind` is the wire's number."""

    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLoss:
    """Calls of a service that its sensor lost since it said so last: those that TLS carried, or those in the clear. If
    a client is named, those that it made unread, at least."""

    service: Service
    is_encrypted: bool
    lost_calls: int
    client_address: str = ""  # Of its end of the connection.
    reason: int = 0  # The wire's UnreadReason.
    unread_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One path segment: `kind` is the wire's SegmentKind; `text` only for literals and revealed words."""

    kind: int
    text: str
    hash: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """(service, host, method, shape of the path) under its immutable id."""

    route_id: int
    service: Service
    host: str
    method: str
    segments: tuple[Segment, ...]
    has_trailing_slash: bool

    @property
    def is_unknown(self) -> bool:
        """Whether the path of its calls is not known (HTTP/2 joined late); no path that is known has such a literal."""
        return len(self.segments) == 1 and self.segments[0].text == UNKNOWN_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """CSR: row i holds values[offsets[i]:offsets[i + 1]]. `counts` is empty for plain sets."""

    offsets: NDArray[np.int64]  # n + 1
    values: U64
    counts: U64
