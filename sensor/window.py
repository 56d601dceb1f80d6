"""One window of calls while it is open: rows by key, folded into `other` past the endpoint's cap; and the row that
leaves it.

A row's key is (route, the four actor columns, authentication, status, role, hop, version); its figures are sums, two
histograms and a set of distinct objects, so that two rows of one key merge by adding and a row may leave in parts: what
left is simply no longer in it. Past the cap the consumers with the fewest distinct objects are folded into one row per
(authentication, status, ...) without actors. Folding starts at twice the cap and cuts down to it, which costs O(log n)
a row on average and gives a newcomer time to show what it is; folding moves figures and never loses them.
"""

from enum import IntFlag
from typing import Final, NamedTuple

import msgspec

from sensor.calls import AuthenticationKind, Hop, PrincipalKind, Role, Route
from sensor.sketches import Histogram, ObjectSet

# Rows of `other` an endpoint may have in a window before their authentication is folded to "some" or "none" as well.
OTHER_ROWS_LIMIT: Final = 64
# A count that no row reaches.
NEVER: Final = 1 << 62

_STATUS_SHIFT: Final = 40
_AUTHENTICATION_SHIFT: Final = 16
_PRINCIPAL_KIND_SHIFT: Final = 8
_ROLE_SHIFT: Final = 4
# `Hop` needs two bits of its four; the third says that the key is one of `other`.
_OTHER_BIT: Final = 1 << 3
_HOP_MASK: Final = 0b11


class RowFlag(IntFlag):
    """Bits of a row; the values are 1 << number of the wire's enum."""

    NONE = 0
    OTHER = 1 << 1
    EARLY = 1 << 2
    MERGED = 1 << 3
    CLOCK_STEP = 1 << 4
    LOSSY = 1 << 5
    CREDENTIAL_TRUNCATED = 1 << 6
    ABORTED = 1 << 7
    OBJECTS_SKETCHED = 1 << 8


class Actor(NamedTuple):
    """The four columns that say who called."""

    principal: int
    credential: int
    client_address: str
    client_workload: str


# (route_id, principal, credential, client_address, client_workload, protocol_version, packed): a plain tuple because
# one is made for every call; `packed` is status << 40 | authentication << 16 | principal kind << 8 | role << 4 | hop.
Key = tuple[int, int, int, str, str, str, int]


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one window and key, or the part of them that leaves now. Sums over the rows of a window are exact."""

    window_start_unix_seconds: int
    window_length_seconds: int
    route: Route
    actor: Actor
    principal_kind: PrincipalKind
    authentication: AuthenticationKind
    status_code: int
    role: Role
    hop: Hop
    protocol_version: str
    request_content_type: str  # Of the row's last call that had one.
    response_content_type: str
    flags: RowFlag
    calls: int
    request_bytes: int
    response_bytes: int
    time_to_first_byte_sum_us: int
    duration_sum_us: int
    duration_max_us: int
    duration: Histogram  # Microseconds, of calls whose response is complete.
    response_size: Histogram  # Bytes, of the same calls.
    objects: ObjectSet
    object_numeric_calls: int
    object_monotonic_steps: int
    object_numeric_span: int

    def __repr__(self) -> str:
        return f"WindowRow(route_id={self.route.route_id:016x}, status_code={self.status_code}, calls={self.calls})"


class OpenRow:
    """Figures of one key that have not left yet. Written to directly by `Aggregator.add`, which is the hot path."""

    __slots__ = (
        "calls",
        "calls_limit",
        "duration",
        "duration_max_us",
        "duration_sum_us",
        "flags",
        "is_closed",
        "is_due",
        "key",
        "left_objects_count",
        "number_max",
        "number_min",
        "object_monotonic_steps",
        "object_numeric_calls",
        "objects",
        "objects_limit",
        "pair",
        "request_bytes",
        "request_content_type",
        "response_bytes",
        "response_content_type",
        "response_size",
        "route",
        "slot_end_ns",
        "time_to_first_byte_sum_us",
    )

    def __init__(self, key: Key, route: Route) -> None:
        self.key = key
        self.route = route
        self.pair: Pair | None = None
        self.is_due = False
        self.is_closed = False
        self.left_objects_count = 0
        self.request_content_type = ""
        self.response_content_type = ""
        self.reset()

    def reset(self) -> None:
        """Begin anew after the figures left."""
        self.flags = 0
        self.calls = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.time_to_first_byte_sum_us = 0
        self.duration_sum_us = 0
        self.duration_max_us = 0
        self.duration = Histogram()
        self.response_size = Histogram()
        self.objects = ObjectSet()
        self.object_numeric_calls = 0
        self.object_monotonic_steps = 0
        self.number_min = 0
        self.number_max = 0
        # The second in which triggers are counted, and the counts that mark the row as due.
        self.slot_end_ns = 0
        self.calls_limit = NEVER
        self.objects_limit = NEVER

    @property
    def is_empty(self) -> bool:
        """Nothing came since the figures last left."""
        return not (
            self.calls or self.request_bytes or self.response_bytes or self.duration.counts or self.objects.hashes
        )

    @property
    def is_other(self) -> bool:
        """Several consumers past the cap, added together."""
        return bool(self.key[6] & _OTHER_BIT)

    @property
    def actor(self) -> Actor:
        """Who called; empty for `other`."""
        return Actor(*self.key[1:5])

    def absorb(self, row: "OpenRow") -> None:
        """Add another row's figures to this one's."""
        if row.object_numeric_calls:
            is_first = not self.object_numeric_calls
            self.number_min = row.number_min if is_first else min(self.number_min, row.number_min)
            self.number_max = row.number_max if is_first else max(self.number_max, row.number_max)
        self.flags |= row.flags
        self.calls += row.calls
        self.request_bytes += row.request_bytes
        self.response_bytes += row.response_bytes
        self.time_to_first_byte_sum_us += row.time_to_first_byte_sum_us
        self.duration_sum_us += row.duration_sum_us
        self.duration_max_us = max(self.duration_max_us, row.duration_max_us)
        self.duration.merge(row.duration)
        self.response_size.merge(row.response_size)
        self.objects.merge(row.objects)
        self.object_numeric_calls += row.object_numeric_calls
        self.object_monotonic_steps += row.object_monotonic_steps
        self.request_content_type = row.request_content_type or self.request_content_type
        self.response_content_type = row.response_content_type or self.response_content_type

    def to_window_row(self, *, start_seconds: int, length_seconds: int, flags: int) -> WindowRow:
        """The row as it leaves; the sketches are handed over, so `reset` or drop this row afterwards."""
        packed = self.key[6]
        flags |= self.flags
        flags |= RowFlag.OTHER if self.is_other else 0
        flags |= RowFlag.OBJECTS_SKETCHED if self.objects.is_sketched else 0
        return WindowRow(
            window_start_unix_seconds=start_seconds,
            window_length_seconds=length_seconds,
            route=self.route,
            actor=self.actor,
            principal_kind=PrincipalKind(packed >> _PRINCIPAL_KIND_SHIFT & 0xFF),
            authentication=AuthenticationKind(packed >> _AUTHENTICATION_SHIFT & 0xFFFFFF),
            status_code=packed >> _STATUS_SHIFT,
            role=Role(packed >> _ROLE_SHIFT & 0xF),
            hop=Hop(packed & _HOP_MASK),
            protocol_version=self.key[5],
            request_content_type=self.request_content_type,
            response_content_type=self.response_content_type,
            flags=RowFlag(flags),
            calls=self.calls,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            time_to_first_byte_sum_us=self.time_to_first_byte_sum_us,
            duration_sum_us=self.duration_sum_us,
            duration_max_us=self.duration_max_us,
            duration=self.duration,
            response_size=self.response_size,
            objects=self.objects,
            object_numeric_calls=self.object_numeric_calls,
            object_monotonic_steps=self.object_monotonic_steps,
            object_numeric_span=self.number_max - self.number_min,
        )


class Pair:
    """What is remembered of one consumer at one endpoint across windows: the last integer object it asked for."""

    __slots__ = ("last_number",)

    def __init__(self) -> None:
        # No step leads here: the first number of a pair is neither one more nor one less.
        self.last_number = -2


class Window:
    """Open rows of [start, end) in unix nanoseconds, capped per endpoint; `flags` are those of every row in it."""

    __slots__ = ("_cap", "_endpoints", "_others", "early_counts", "end_ns", "flags", "rows", "start_ns")

    def __init__(self, *, start_ns: int, end_ns: int, rows_per_endpoint: int, flags: int = 0) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.flags = flags
        self.rows: dict[Key, OpenRow] = {}
        self.early_counts: dict[int, int] = {}  # New rows that left early, by route.
        self._cap = rows_per_endpoint
        self._endpoints: dict[int, list[OpenRow]] = {}  # Rows that have an actor, by route.
        self._others: dict[int, int] = {}  # Rows of `other`, by route.

    def open_row(self, key: Key, route: Route) -> OpenRow:
        """A new row under a key that has none; folds the endpoint first when it is at twice its cap."""
        row = OpenRow(key, route)
        if not row.is_other:
            endpoint = self._endpoints.setdefault(key[0], [])
            if len(endpoint) >= 2 * self._cap:
                self._fold(key[0])
            self._endpoints[key[0]].append(row)
        self.rows[key] = row
        return row

    def find_other(self, key: Key, route: Route) -> OpenRow:
        """The row of `other` that takes a call of `key`."""
        other = _make_other_key(key)
        row = self.rows.get(other)
        if row is None and self._others.get(key[0], 0) >= OTHER_ROWS_LIMIT:
            other = _reduce_authentication(other)
            row = self.rows.get(other)
        if row is None:
            self._others[key[0]] = self._others.get(key[0], 0) + 1
            row = self.open_row(other, route)
        return row

    def take(self, row: OpenRow, *, rows_limit: int) -> None:
        """Take in a row of another window (windows merge while the collector is away); past the limit, into `other`."""
        own = self.rows.get(row.key)
        if own is None:
            is_full = row.is_other or len(self.rows) >= rows_limit
            own = self.find_other(row.key, row.route) if is_full else self.open_row(row.key, row.route)
        own.absorb(row)
        own.left_objects_count += row.left_objects_count

    def close(self) -> list[OpenRow]:
        """Fold every endpoint down to its cap; returns the rows that hold something. The window takes no more calls."""
        for route_id, rows in self._endpoints.items():
            if len(rows) > self._cap:
                self._fold(route_id)
        remaining = list(self.rows.values())
        for row in remaining:
            row.is_closed = True
        return [row for row in remaining if not row.is_empty]

    def _fold(self, route_id: int) -> None:
        """Keep the endpoint's rows of the consumers with most distinct objects (then most calls); fold the rest into
        `other`."""
        distinct: dict[Actor, int] = {}
        calls: dict[Actor, int] = {}
        rows = self._endpoints[route_id]
        for row in rows:
            actor = row.actor
            distinct[actor] = distinct.get(actor, 0) + row.objects.estimate() + row.left_objects_count
            calls[actor] = calls.get(actor, 0) + row.calls
        rows.sort(key=lambda row: (distinct[row.actor], calls[row.actor], row.calls), reverse=True)
        for row in rows[self._cap :]:
            del self.rows[row.key]
            row.is_closed = True
            self.find_other(row.key, row.route).absorb(row)
        del rows[self._cap :]


def _make_other_key(key: Key) -> Key:
    packed = key[6] & ~(0xFF << _PRINCIPAL_KIND_SHIFT) | _OTHER_BIT
    return (key[0], 0, 0, "", "", key[5], packed)


def _reduce_authentication(key: Key) -> Key:
    """Which kinds of credentials is lost, whether there were any is not."""
    bits = 0xFFFFFF << _AUTHENTICATION_SHIFT
    some = AuthenticationKind.OTHER << _AUTHENTICATION_SHIFT if key[6] & bits else 0
    return (*key[:6], key[6] & ~bits | some)
