"""Window rows as a struct of arrays: a merge monoid, so rows of one key add up and a row may come in parts.

A key is (route, identity, status, RPC status, role, hop) in 51 bits. Routes and identities are numbers of
`sensor.aggregate.dictionary`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.rpc_status import RPC_STATUSES
from sensor.aggregate.dictionary import Facts
from sensor.aggregate.sketches import estimate_objects, merge_histograms, unite_objects
from sensor.core import arrays as ragged
from sensor.core.arrays import Index, Ragged, find_order, find_runs, number_runs

ROLE_SHIFT: Final = np.uint64(2)
RPC_STATUS_SHIFT: Final = np.uint64(4)
STATUS_SHIFT: Final = np.uint64(9)
IDENTITY_SHIFT: Final = np.uint64(19)
ROUTE_SHIFT: Final = np.uint64(35)
KEY_BITS: Final = 51
_OUTCOMES: Final = np.array([0, *(status.http for status in RPC_STATUSES)])
_TWO_BITS: Final = np.uint64(0x3)
_RPC_STATUS_MASK: Final = np.uint64(0x1F)
_STATUS_MASK: Final = np.uint64(0x3FF)
_IDENTITY_MASK: Final = np.uint64(0xFFFF << 19)
LARGEST_NUMBER: Final = (1 << 63) - 1

Keys = NDArray[np.uint64]


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
    ESTIMATED = 1 << 9
    AMBIGUOUS = 1 << 10
    UNKNOWN_FIELDS = 1 << 11
    INFERRED = 1 << 12
    CLIENT_STREAMING = 1 << 13
    SERVER_STREAMING = 1 << 14
    ENCRYPTED = 1 << 15


class Sum(IntEnum):
    """Places in `Rows.sums`, the most usual ones first: an array ends where all that follows would be 0
    (`find_height`). The names are those of the wire's columns (proto/apidae/v1/data.proto)."""

    CALLS = 0
    RECORDS = 1  # Rows of CALL: calls and closing parts. It does not travel.
    REQUEST_BYTES = 2
    RESPONSE_BYTES = 3
    TIME_TO_FIRST_BYTE_SUM_US = 4
    DURATION_SUM_US = 5
    OBJECT_NUMERIC_CALLS = 6  # Whose object is an integer.
    OBJECT_MONOTONIC_STEPS = 7  # Of those, one more or one less than the consumer's previous one.
    RECORDS_RETURNED = 8  # Records that responses returned, measured or estimated.
    RECORDS_MEASURED = 9  # Of those, counted in bodies.
    REQUEST_BODIES_READ = 10  # Calls whose request body was classified.
    RESPONSE_BODIES_READ = 11
    ENDED_LATER = 12  # Closing parts: ends of calls that were counted before.
    STREAMS = 13  # That ended; how long each was open is no latency.
    STREAM_DURATION_SUM_US = 14
    COUNTED_MESSAGES_CALLS = 15  # Ends whose messages are known,
    REQUEST_MESSAGES = 16
    RESPONSE_MESSAGES = 17  # and how many these were.
    ATTACKS = 18  # Calls whose request held a payload.
    ATTACKS_CONFIRMED = 19  # Answers that say that one worked.


# Plain HTTP without bodies has no more; between two samples records are estimated besides; then what was read.
COMMON_SUMS: Final = int(Sum.RECORDS_RETURNED)
ESTIMATED_SUMS: Final = int(Sum.RECORDS_MEASURED)
BODY_SUMS: Final = int(Sum.ENDED_LATER)
# Those that travel, by place, with their names on the wire.
SENT_SUMS: Final = tuple((int(place), place.name.lower()) for place in Sum if place is not Sum.RECORDS)
# The lists of a row: the wire's columns of their lengths, values and, of histograms, counts.
LISTS: Final = {
    "durations": ("duration_len", "duration_bucket", "duration_count"),
    "sizes": ("response_size_len", "response_size_bucket", "response_size_count"),
    "objects": ("objects_len", "objects_hash"),
    "data": ("found_len", "found_code", "found_count"),
    "payloads": ("payloads_len", "payloads_hash"),
}
RARE_LISTS: Final = frozenset(("data", "payloads"))


class Peak(IntEnum):
    """Places in `Rows.peaks`, of which the larger one counts."""

    DURATION_US = 0
    NUMBER = 1  # Largest integer object; 0 where there was none.
    NUMBER_BELOW = 2  # `LARGEST_NUMBER` less the smallest one; 0 where there was none.


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n rows. `keys`, `flags` and the types are [n], `sums` [at least COMMON_SUMS, n], `peaks` [len(Peak), n]."""

    keys: Keys
    sums: NDArray[np.uint64]
    peaks: NDArray[np.uint64]
    flags: NDArray[np.uint32]
    request_types: NDArray[np.uint16]  # Media type of the row's last call that had one.
    response_types: NDArray[np.uint16]
    durations: Ragged  # Microseconds, of calls whose response is complete.
    sizes: Ragged  # Bytes, of the same calls.
    objects: Ragged
    data: Ragged  # Kinds of data found in bodies (sensor.sensitive.kinds), and calls that held them.
    payloads: Ragged  # Distinct payloads of attacks (sensor.describe.attacks.classes).

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, is_taken: NDArray[np.bool_]) -> "Rows":
        arrays = self._take_arrays(np.flatnonzero(is_taken))
        return Rows(**arrays, **{name: getattr(self, name).select(is_taken) for name in LISTS})

    def take(self, places: Index) -> "Rows":
        return Rows(**self._take_arrays(places), **{name: getattr(self, name).take(places) for name in LISTS})

    def _take_arrays(self, places: Index) -> dict[str, Any]:
        return {name: getattr(self, name).take(places, axis=-1) for name in _ARRAYS}

    @property
    def routes(self) -> Index:
        return find_routes(self.keys)

    @property
    def identities(self) -> Index:
        return find_identities(self.keys)

    @property
    def statuses(self) -> Index:
        return (self.keys >> STATUS_SHIFT & _STATUS_MASK).astype(np.int64)

    @property
    def rpc_statuses(self) -> Index:
        """RPC status of each row and one more; 0 where there is none."""
        return (self.keys >> RPC_STATUS_SHIFT & _RPC_STATUS_MASK).astype(np.int64)

    @property
    def outcomes(self) -> Index:
        """The status that says how the calls of each row ended: of RPCs, that which their own is mapped to."""
        rpc_statuses = self.rpc_statuses
        return np.where(rpc_statuses > 0, _OUTCOMES[rpc_statuses], self.statuses)

    @property
    def roles(self) -> Index:
        return (self.keys >> ROLE_SHIFT & _TWO_BITS).astype(np.int64)

    @property
    def hops(self) -> Index:
        return (self.keys & _TWO_BITS).astype(np.int64)

    @property
    def objects_counts(self) -> Index:
        """Distinct objects of each row; no more than its calls, of which each has one at most."""
        estimates = estimate_objects(self.objects, (self.flags & RowFlag.OBJECTS_SKETCHED.value) != 0)
        counts: Index = np.minimum(estimates, self.sums[Sum.CALLS].astype(np.int64))
        return counts

    @property
    def size_bytes(self) -> int:
        arrays: int = sum(getattr(self, name).nbytes for name in _ARRAYS)
        lists: int = sum(getattr(self, name).size_bytes for name in LISTS)
        return arrays + lists


_ARRAYS: Final = tuple(name for name in Rows.__dataclass_fields__ if name not in LISTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """Rows that leave the node, each with its window. Good until the aggregator is polled again
    (sensor.aggregate.dictionary)."""

    facts: Facts
    start_unix_seconds: Index
    length_seconds: Index
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"RowColumns({len(self)} rows)"


def make_no_rows() -> Rows:
    no_lengths = np.empty(0, np.int32)
    histogram = Ragged(no_lengths, np.empty(0, np.uint16), np.empty(0, np.uint32))
    return Rows(
        keys=np.empty(0, np.uint64),
        sums=np.empty((COMMON_SUMS, 0), np.uint64),
        peaks=np.empty((len(Peak), 0), np.uint64),
        flags=np.empty(0, np.uint32),
        request_types=np.empty(0, np.uint16),
        response_types=np.empty(0, np.uint16),
        durations=histogram,
        sizes=histogram,
        objects=Ragged(no_lengths, np.empty(0, np.uint64)),
        data=histogram,
        payloads=Ragged(no_lengths, np.empty(0, np.uint64)),
    )


def pack_keys(
    routes: NDArray[Any],
    identities: NDArray[Any],
    statuses: NDArray[Any],
    rpc_statuses: NDArray[Any],
    roles: NDArray[Any],
    hops: NDArray[Any],
) -> Keys:
    """Keys of rows. Routes and identities are below 2^16, status codes below 1,000, those of RPCs below 18, roles and
    hops below 4."""
    keys = routes.astype(np.uint64)
    for values, bits in ((identities, 16), (statuses, 10), (rpc_statuses, 5), (roles, 2), (hops, 2)):
        keys <<= np.uint64(bits)
        keys |= values
    return keys


def find_routes(keys: Keys) -> Index:
    return (keys >> ROUTE_SHIFT).astype(np.int64)


def find_identities(keys: Keys) -> Index:
    return ((keys & _IDENTITY_MASK) >> IDENTITY_SHIFT).astype(np.int64)


def replace_identities(keys: Keys, identities: NDArray[np.uint16]) -> Keys:
    return keys & ~_IDENTITY_MASK | identities.astype(np.uint64) << IDENTITY_SHIFT


def join_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, none added up. `parts` is not empty."""
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in _ARRAYS if name != "sums"
    }
    lists: dict[str, Any] = {name: ragged.join([getattr(part, name) for part in parts]) for name in LISTS}
    return Rows(**arrays, **lists, sums=_join_sums([part.sums for part in parts]))


def _join_sums(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    height = max(len(part) for part in parts)
    if all(len(part) == height for part in parts):
        return np.concatenate(parts, axis=1)
    return np.concatenate([np.pad(part, ((0, height - len(part)), (0, 0))) for part in parts], axis=1)


def merge_rows(rows: Rows) -> Rows:
    """One row for each key; of types the last one counts. Sorted by key if anything was merged."""
    order = find_order(rows.keys, KEY_BITS)
    keys = rows.keys[order]
    starts = find_runs(keys)
    count = len(starts)
    if count == len(rows):
        return rows
    # The row of the result that each row goes into.
    targets = np.empty(len(rows), np.int64)
    targets[order] = number_runs(starts, len(rows))
    objects, is_cut = unite_objects(np.repeat(targets, rows.objects.lengths), rows.objects.values, count)
    flags = np.bitwise_or.reduceat(rows.flags[order], starts)
    flags[is_cut] |= RowFlag.OBJECTS_SKETCHED.value
    return Rows(
        keys=keys[starts],
        sums=_merge_sums(rows.sums, order, starts),
        peaks=np.maximum.reduceat(rows.peaks.take(order, axis=1), starts, axis=1),
        flags=flags,
        request_types=find_last(rows.request_types[order], starts),
        response_types=find_last(rows.response_types[order], starts),
        durations=merge_histograms(targets, rows.durations, count),
        sizes=merge_histograms(targets, rows.sizes, count),
        objects=objects,
        data=merge_histograms(targets, rows.data, count),
        payloads=unite_objects(np.repeat(targets, rows.payloads.lengths), rows.payloads.values, count)[0],
    )


def _merge_sums(sums: NDArray[np.uint64], order: Index, starts: Index) -> NDArray[np.uint64]:
    """Row by row of the array: many are 0 all along, which is seen in a fiftieth of the time."""
    merged = np.zeros((len(sums), len(starts)), np.uint64)
    for place, values in enumerate(sums):
        if values.any():
            np.add.reduceat(values.take(order), starts, out=merged[place])
    return merged


def find_last(values: NDArray[np.uint16], starts: Index) -> NDArray[np.uint16]:
    """The last element of each run that is not 0; 0 where all are."""
    if (values == values[0]).all():
        return np.full(len(starts), values[0])
    places = np.where(values != 0, np.arange(len(values)), -1)
    last = np.maximum.reduceat(places, starts)
    return np.where(last < 0, np.uint16(0), values[last])
