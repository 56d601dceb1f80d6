"""One validated batch of the wire as numpy columns: the type that the receiver gives, and store and detectors take.

Only `collector.receiver.convert` makes it, after a check of lengths, dictionary indexes, enums and bounds. So
everything behind it may index without a check. Names are those of proto/apidae/v1/data.proto.
"""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Rows of one batch, n long each; strings already looked up through `strings`."""

    node: str
    boot_id: str
    sequence: int
    partition: int
    key_id: int
    policy_epoch: int
    clock_segment: int
    lost_calls: int
    seen_calls: int
    tls_lost_calls: int = 0  # Of both, what TLS carried.
    tls_seen_calls: int = 0
    strings: tuple[str, ...]
    routes: tuple[Route, ...]
    route: U32  # Index into routes.
    route_id: U64
    window_start: U32  # Unix seconds.
    window_length: U32  # Seconds.
    principal: U64
    principal_kind: U32
    credential: U64
    client_address: U32  # Index into strings.
    client_workload: U32  # Index into strings.
    authentication: U32  # Bits.
    status_code: U32
    role: U32
    hop: U32
    protocol_version: U32  # Index into strings.
    request_content_type: U32  # Index into strings.
    response_content_type: U32  # Index into strings.
    flags: U32  # Bits.
    calls: U64
    request_bytes: U64
    response_bytes: U64
    time_to_first_byte_sum_us: U64
    duration_sum_us: U64
    duration_max_us: U64
    duration: Ragged  # Buckets of scale 3 over microseconds, with counts.
    response_size: Ragged  # Buckets of scale 3 over bytes, with counts.
    objects: Ragged  # Keyed hashes, no counts.
    objects_count: U64
    object_numeric_calls: U64
    object_monotonic_steps: U64
    object_numeric_span: U64
    kind: U32
    rpc_status: U32
    ended_later: U64
    streams: U64
    stream_duration_sum_us: U64
    counted_messages_calls: U64
    request_messages: U64
    response_messages: U64
    records_returned: U64
    records_measured: U64  # Of those, counted in bodies.
    request_bodies_read: U64  # Calls.
    response_bodies_read: U64
    attacks: U64  # Calls whose request held an attack's payload.
    attacks_confirmed: U64  # Answers that say that one worked.
    payloads: Ragged  # Keyed hashes; the lowest 4 bits are an AttackClass, the next 4 an AttackEvidence.
    client_software: U32  # Index into strings; the empty one where it is not known.
    data: Ragged  # What was found where (proto DataPlace * 64 + DataKind), and the calls that carried it.

    def __len__(self) -> int:
        return len(self.route)
