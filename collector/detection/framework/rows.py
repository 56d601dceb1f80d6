"""The rows of a batch that count: columns that are each read and cast once for all detectors, and who called.

`identify_consumers` names the consumer of each row: the first known of principal, credential, client address and client
workload, or in the order of the setting `consumer_order`. The name is `kind:value` with the inventory's kinds
(`principal`, `credential`, `address`, `workload`). Keyed hashes are 16 hex digits. Rows past an endpoint's cap and rows
without an actor have no consumer: key 0.
"""

import hashlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from collector.core.kinds import POSSIBLE_CREDENTIAL
from collector.core.rows import ServiceLoss
from collector.detection.framework.distinct import Groups, find_distinct, is_any_of, list_distinct, mix
from collector.detection.framework.state import F64, U64, Bools, Slots
from collector.storage.columns import RowBatch
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

C128 = NDArray[np.complex128]

_Scalar = TypeVar("_Scalar", bound=np.generic)

# First bytes of the blocks of which some are private or loopback, by the registry that is_private follows.
_SPECIAL = frozenset({0, 10, 127, 169, 172, 192, 198, 203, *range(240, 256)})
_WRITING = frozenset({"POST", "PUT", "PATCH"})
_NETWORK_BITS = {4: 24, 6: 48}  # Of one site: an address more of the same site is no other place.


def split_windows(windows: Slots, rows: Slots) -> list[tuple[int, Slots]]:
    """Which of `rows`, of which each lies in one of `windows`, lie in which, oldest window first."""
    if not len(rows):
        return []
    first = windows[0]
    if np.count_nonzero(windows != first) == 0:  # Most batches are of one: a sort takes longer than all the rest.
        return [(int(first), rows)]
    return [(window, rows[windows == window]) for window in list_distinct(windows).tolist()]


class RowTimes:
    """When n rows begin and how long they are: which window each lies in."""

    def __init__(self, start: Slots, length: Slots) -> None:
        """Both in seconds; not empty."""
        self.start, self.length = start, length
        self._longest = int(np.max(length))
        first = int(start[0])
        self._only = first if np.count_nonzero(start != first) == 0 else None  # Most batches are of one window.

    def split(self, rows: Slots, seconds: int) -> list[tuple[int, Slots]]:
        """Which of `rows` lie in which window of so many `seconds`, oldest first; a row that is longer says nothing
        about one."""
        if self._longest > seconds:
            rows = rows[self.length[rows] <= seconds]
        if self._only is None:
            return split_windows(self.start[rows] // seconds, rows)
        return [(self._only // seconds, rows)] if len(rows) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedRows:
    """The objects of n rows, m in all."""

    row: Slots  # m, ascending: 0 to n - 1.
    hashes: U64  # m.
    length: Slots  # n: how many each row has.


class Events:
    """The n rows `rows` of a batch, ascending, as columns; nobody changes what it gives."""

    # Set by `SubjectIndex.place`. Slots are -1 where there is no such subject.
    endpoint: Slots
    consumer: Slots
    pair: Slots
    by_endpoint: Groups
    by_pair: Groups
    endpoint_of_pair: Slots | None  # Index into by_endpoint of each of by_pair, where all rows have a pair.
    objects: TouchedRows
    novel: F64  # Objects the pair had not touched before.

    def __init__(
        self, batch: RowBatch, rows: Slots, received_at: int | Slots, losses: Sequence[ServiceLoss] = ()
    ) -> None:
        """`received_at`: of all rows of the batch or of each, unix seconds. `losses`: what came with them."""
        self.batch = batch
        self.losses = losses
        self.rows = rows
        self._received_at = received_at
        self.is_used = np.zeros(len(rows), np.bool_)  # Which were added to a window of their endpoint.
        self._has_all = len(rows) == len(batch)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Of a column of the batch what the n rows have."""
        return column if self._has_all else column.take(self.rows)

    @cached_property
    def time(self) -> int:
        """When the newest begins, unix seconds."""
        return int(np.max(self.times.start))

    @cached_property
    def times(self) -> RowTimes:
        """When each begins and how long it is."""
        start, length = self.read(self.batch.window_start), self.read(self.batch.window_length)
        return RowTimes(start.astype(np.int64), length.astype(np.int64))

    @cached_property
    def route(self) -> NDArray[np.uint32]:
        """Index into the batch's routes."""
        return self.read(self.batch.route)

    @cached_property
    def calls(self) -> F64:
        """Calls."""
        return self.read(self.batch.calls).astype(np.float64)

    @cached_property
    def status(self) -> NDArray[np.int64]:
        """Status of HTTP."""
        return self.read(self.batch.status_code).astype(np.int64)

    @cached_property
    def failed(self) -> Slots:
        """Which of the n were answered 400 or more, ascending."""
        return (self.status >= 400).nonzero()[0]

    def list_answered(self, codes: tuple[int, ...]) -> Slots:
        """Which of the n were answered with one of `codes`, which are 400 or more."""
        return self.failed[is_any_of(self.status[self.failed], codes)]

    @cached_property
    def microseconds(self) -> F64:
        """Server time of all calls."""
        return self.read(self.batch.duration_sum_us).astype(np.float64)

    @cached_property
    def response_bytes(self) -> F64:
        """Of all calls."""
        return self.read(self.batch.response_bytes).astype(np.float64)

    @cached_property
    def ends(self) -> Slots:
        """Until when the calls of each of the n were made, in unix seconds: its end, or when the batch came where the
        row left before. At least a second of it has passed."""
        came = self.read(self._received_at) if isinstance(self._received_at, np.ndarray) else self._received_at
        ends: Slots = np.clip(came, self.times.start + 1, self.times.start + self.times.length)
        return ends

    @cached_property
    def by_window(self) -> "WindowRows":
        """The n by the windows that they lie in."""
        return WindowRows(self)

    @cached_property
    def is_anonymous(self) -> Bools:
        """Without a credential; a possible one is not one."""
        is_anonymous: Bools = self.read(self.batch.authentication) & ~np.uint32(POSSIBLE_CREDENTIAL) == 0
        return is_anonymous

    @cached_property
    def is_writing(self) -> Bools:
        """POST, PUT, PATCH."""
        return np.array([route.method in _WRITING for route in self.batch.routes], np.bool_)[self.route]

    @cached_property
    def is_success(self) -> Bools:
        """Answered 2xx."""
        is_success: Bools = (self.status >= 200) & (self.status < 300)
        return is_success

    @cached_property
    def _places(self) -> list[tuple[int, int, bool]]:
        return [_read_address(text) for text in self.batch.strings]

    @cached_property
    def address(self) -> U64:
        """Hash of the client address; 0 where it is not known."""
        return np.array([place[0] for place in self._places], np.uint64)[self.read(self.batch.client_address)]

    @cached_property
    def network(self) -> U64:
        """The same of its /24 or /48."""
        return np.array([place[1] for place in self._places], np.uint64)[self.read(self.batch.client_address)]

    @cached_property
    def is_internal(self) -> Bools:
        """From a private or loopback address, or one that is not known."""
        return np.array([place[2] for place in self._places], np.bool_)[self.read(self.batch.client_address)]

    def list_found(self, codes: U64) -> list[tuple[int, set[int]]]:
        """Which of the n hold one of `codes` (place * 64 + kind) and have a consumer, and which of them each holds."""
        data = self.batch.data
        is_wanted = np.isin(data.values, codes)
        if not np.count_nonzero(is_wanted):
            return []
        own = np.searchsorted(data.offsets, is_wanted.nonzero()[0], side="right") - 1
        has = np.zeros(len(self.batch), np.bool_)
        has[own] = True
        rows = (self.read(has) & (self.pair >= 0)).nonzero()[0]
        begins, ends = data.offsets[:-1][self.rows[rows]], data.offsets[1:][self.rows[rows]]
        parts = [slice(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        return [
            (row, set(data.values[part][is_wanted[part]].tolist()))
            for row, part in zip(rows.tolist(), parts, strict=True)
        ]

    def name_address(self, row: int) -> str:
        """The client address of one of the n as a consumer."""
        return f"address:{self.batch.strings[self.batch.client_address[self.rows[row]]]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPart:
    """Rows of one window."""

    window: int
    rows: Slots
    calls: C128  # For windows that count no novel objects;
    both: C128  # for those that do.


class WindowRows:
    """Rows by window, found once for each length and shared by all windows of it."""

    def __init__(self, events: Events) -> None:
        self._times = events.times
        self._calls: C128 = events.calls.astype(np.complex128)
        # A window is cleared where it has calls.
        self._both = join_amounts(events.calls, np.where(events.calls > 0, events.novel, 0.0))
        self._parts: dict[tuple[int, int], list[WindowPart]] = {}

    def split(self, seconds: int, known: Slots) -> list[WindowPart]:
        """The rows `known`, which are those with a slot, by window of so many `seconds`, oldest first."""
        key = seconds, len(known)
        if key not in self._parts:
            parts = self._times.split(known, seconds)
            self._parts[key] = [self._choose(window, rows) for window, rows in parts]
        return self._parts[key]

    def _choose(self, window: int, rows: Slots) -> WindowPart:
        calls, both = self._calls, self._both
        if len(rows) < len(calls):
            calls, both = calls[rows], both[rows]
        return WindowPart(window=window, rows=rows, calls=calls, both=both)


def join_amounts(calls: F64, novel: F64) -> C128:
    """Calls and novel objects as windows add them up."""
    amounts = np.empty(calls.shape, np.complex128)
    amounts.real, amounts.imag = calls, novel
    return amounts


def find_latest(slots: Slots, of: Slots, times: Slots) -> Slots:
    """The latest of `times`, which are of the slots `of`, for each of `slots`: ascending, distinct and among them."""
    place = np.minimum(np.searchsorted(slots, of), len(slots) - 1)
    is_own = slots[place] == of
    latest = np.zeros(len(slots), np.int64)
    np.maximum.at(latest, place[is_own], times[is_own])
    return latest


# Bits of ROW_FLAG_OTHER, ROW_FLAG_ESTIMATED and ROW_FLAG_ENCRYPTED of the wire.
FLAG_OTHER, FLAG_ESTIMATED, FLAG_ENCRYPTED = 1 << 1, 1 << 9, 1 << 15

_KIND_NAMES = ("", "principal", "credential", "address", "workload")
_KINDS = {
    ConsumerColumn.PRINCIPAL: 1,
    ConsumerColumn.CREDENTIAL: 2,
    ConsumerColumn.CLIENT_ADDRESS: 3,
    ConsumerColumn.CLIENT_WORKLOAD: 4,
}  # Index into the names above.


def identify_consumers(
    events: Events, order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
) -> tuple[U64, NDArray[np.int64]]:
    """Key and kind (index into the names above) of the consumer of each row; key 0 where there is none."""
    count = len(events)
    kind, value = np.zeros(count, np.int64), np.zeros(count, np.uint64)
    open_ = ((events.read(events.batch.flags) & FLAG_OTHER) == 0).nonzero()[0]
    for column in order:
        if not len(open_):
            break
        own = _read_hashes(events, open_, column)
        taken = own.nonzero()[0]
        if len(taken) == count:  # Of all rows.
            kind[:] = _KINDS[column]
            return mix(kind.astype(np.uint64), own), kind
        kind[open_[taken]] = _KINDS[column]
        value[open_[taken]] = own[taken]
        open_ = open_[own == 0]
    return np.where(kind == 0, np.uint64(0), mix(kind.astype(np.uint64), value)), kind


def _read_hashes(events: Events, rows: NDArray[np.int64], column: ConsumerColumn) -> U64:
    """A column as hashes, 0 where it is not known; `rows` are indexes into those of the events."""

    def read(whole: NDArray[_Scalar]) -> NDArray[_Scalar]:
        own = events.read(whole)
        return own if len(rows) == len(own) else own[rows]

    batch = events.batch
    match column:
        case ConsumerColumn.PRINCIPAL:
            return read(batch.principal)
        case ConsumerColumn.CREDENTIAL:
            return read(batch.credential)
        case ConsumerColumn.CLIENT_ADDRESS:
            index = read(batch.client_address)
        case ConsumerColumn.CLIENT_WORKLOAD:
            index = read(batch.client_workload)
    distinct, _, inverse = find_distinct(index)
    texts = [batch.strings[place] for place in distinct.tolist()]
    return np.array([hash_text(text) if text else 0 for text in texts], np.uint64)[inverse]


def name_consumer(batch: RowBatch, row: int, kind: int) -> str:
    """`kind:value` of one row's consumer; empty where it has none."""
    match _KIND_NAMES[kind]:
        case "principal":
            return f"principal:{int(batch.principal[row]):016x}"
        case "credential":
            return f"credential:{int(batch.credential[row]):016x}"
        case "address":
            return f"address:{batch.strings[batch.client_address[row]]}"
        case "workload":
            return f"workload:{batch.strings[batch.client_workload[row]]}"
    return ""


@lru_cache(maxsize=16_384)
def hash_text(text: str) -> int:
    """A stable 64-bit key of a name (Python's own hash differs from process to process)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@lru_cache(maxsize=65_536)
def _read_address(text: str) -> tuple[int, int, bool]:
    """Hash of an address, of its network, and whether it is internal."""
    try:
        packed = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return _read_other(text)
    network = int.from_bytes(packed) >> 32 - _NETWORK_BITS[4]
    # Asking the library about each takes ten times as long.
    is_internal = packed[0] in _SPECIAL and _is_internal(ipaddress.IPv4Address(packed))
    return hash_text(text), hash_text(f"4/{network}"), is_internal


def _read_other(text: str) -> tuple[int, int, bool]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # Another string of the batch.
        return 0, 0, True
    bits = address.max_prefixlen - _NETWORK_BITS[address.version]
    network = f"{address.version}/{int(address) >> bits}"  # A quarter of the time that an ip_network takes.
    return hash_text(text), hash_text(network), _is_internal(address)


def _is_internal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_private or address.is_loopback
