"""Calls as columns, and the rows that a sensor sends of them: what the recorded part of `scripts/bench breach` runs
on."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from collector.core.rows import Ragged, Route, Segment, Service
from collector.detection.framework.distinct import find_distinct, mix
from collector.storage.columns import RowBatch, fill_columns

WINDOW_SECONDS = 10
DETAIL, LIST = 0, 1  # GET /api/v1/accounts/{account_id}, GET /api/v1/accounts
TRIGGER_CALLS, TRIGGER_OBJECTS = 20, 10  # Of a row in one second: the sensor's defaults, past which it leaves at once.
PRINCIPALS_MAX = 1 << 16  # Principals are numbers below it.
RENEWED = 20_000  # Of them, from 1 on, whose tokens are renewed: those of customers.
APPLICATION_SHARE = 4  # One in so many of these has an application that makes a token at each start.
_ROW_SHIFT = np.uint64(44)
OBJECTS_MAX = 256  # Hashes that a row carries; of more the smallest.

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
Ints = NDArray[np.int64]

_SERVICE = Service(cluster="", namespace="", workload="accounts", workload_kind=3, host_name="h", port=8443)


def _route(number: int, *segments: Segment) -> Route:
    return Route(
        route_id=number + 1, service=_SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False
    )


_WORDS = (Segment(1, "api", 0, 0), Segment(1, "v1", 0, 0), Segment(1, "accounts", 0, 0))
ROUTES = (_route(DETAIL, *_WORDS, Segment(3, "", 0, 0)), _route(LIST, *_WORDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """n calls, in any order."""

    second: Ints  # Unix time.
    endpoint: Ints
    principal: U64  # 0: anonymous.
    address: Ints  # Index into the world's addresses.
    item: U64  # The object; 0: none.
    records: Ints  # Returned.
    software: Ints  # Index into the world's names of client software; 0: the caller's own, or not known.

    def __len__(self) -> int:
        return len(self.second)

    def choose(self, chosen: NDArray[np.bool_] | Ints) -> "Calls":
        """Some of them."""
        return Calls(**{column.name: getattr(self, column.name)[chosen] for column in fields(self)})


def join(parts: list[Calls]) -> Calls:
    """All calls of all parts."""
    return Calls(
        **{column.name: np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Calls)}
    )


def make_calls(
    second: Ints,
    principal: int | U64,
    address: int | Ints,
    item: U64,
    *,
    endpoint: int = DETAIL,
    records: int = 1,
    software: int = 0,
) -> Calls:
    """Calls of one kind; what is a single number holds for all."""
    n = len(second)
    return Calls(
        second=second,
        endpoint=np.full(n, endpoint, np.int64),
        principal=np.broadcast_to(np.asarray(principal, np.uint64), n),
        address=np.broadcast_to(np.asarray(address, np.int64), n),
        item=item,
        records=np.full(n, records, np.int64),
        software=np.full(n, software, np.int64),
    )


@dataclass
class Sender:
    """What a sensor does with calls: rows of windows of 10 s, those that are new or cross a trigger within a second
    at once."""

    addresses: tuple[str, ...]
    softwares: tuple[str, ...] = ("",)  # Names, by the index that calls have.
    sequence: int = 0

    def __post_init__(self) -> None:
        self._waiting: list[Calls] = []
        self._seen = np.zeros(PRINCIPALS_MAX + len(self.addresses), np.bool_)  # By consumer.

    def send_windows(self, calls: Calls) -> RowBatch | None:
        """Whole windows in one batch. A heavy consumer's rows leave every second, as they do by their triggers."""
        key, window = _key(calls), calls.second // WINDOW_SECONDS * WINDOW_SECONDS
        _, first, row = find_distinct(key)
        is_heavy = np.bincount(row) > OBJECTS_MAX
        self._seen[_consumer(calls)] = True
        if is_heavy.any():
            return self._pack(calls, np.where(is_heavy[row], calls.second, window))
        return self._send(calls, first, row, window)

    def send_second(self, calls: Calls, second: int) -> RowBatch | None:
        """What leaves at the end of `second`; the rest waits for the end of its window and a second more."""
        out = []
        if second % WINDOW_SECONDS == 0 and self._waiting:  # Of the window before this one.
            out, self._waiting = self._waiting, []
        if len(calls):
            key = _key(calls)
            _, first, inverse = find_distinct(key)
            count = np.bincount(inverse)
            distinct = np.unique(np.stack([inverse.astype(np.uint64), calls.item]), axis=1)[0]
            items = np.bincount(distinct.astype(np.int64), minlength=len(count))
            consumers = _consumer(calls)[first]
            is_new = ~self._seen[consumers]
            self._seen[consumers] = True
            leaves = ((count >= TRIGGER_CALLS) | (items >= TRIGGER_OBJECTS) | is_new)[inverse]
            out.append(calls.choose(leaves))
            self._waiting.append(calls.choose(~leaves))
        everything = join(out) if out else calls
        return self._pack(everything, everything.second // WINDOW_SECONDS * WINDOW_SECONDS)

    def _pack(self, calls: Calls, part: Ints) -> RowBatch | None:
        """One row for each window, endpoint, consumer and address; `part` splits a window's."""
        if not len(calls):
            return None
        _, first, row = find_distinct(mix(_key(calls), part.astype(np.uint64)))
        return self._send(calls, first, row, part)

    def _send(self, calls: Calls, first: Ints, row: Ints, part: Ints) -> RowBatch:
        """`first` call of each row, and the `row` of each call."""
        self.sequence += 1
        order = np.argsort(part[first], kind="stable")  # By time, as they leave.
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return _make_batch(calls, first[order], rank[row], self.addresses, self.softwares, self.sequence)


def _key(calls: Calls) -> U64:
    where = (calls.endpoint + 2 * (calls.second // WINDOW_SECONDS)).astype(np.uint64)
    return mix(mix(calls.principal, calls.address.astype(np.uint64)), where)


def _consumer(calls: Calls) -> Ints:
    return np.where(calls.principal != 0, calls.principal.astype(np.int64), PRINCIPALS_MAX + calls.address)


def _make_batch(
    calls: Calls, first: Ints, row: Ints, addresses: tuple[str, ...], softwares: tuple[str, ...], sequence: int
) -> RowBatch:
    n = len(first)
    count = np.bincount(row, minlength=n).astype(np.uint64)
    used, address = np.unique(calls.address[first], return_inverse=True)
    objects, distinct = _list_objects(calls, row, n)
    principal = calls.principal[first]
    start = (calls.second[first] // WINDOW_SECONDS * WINDOW_SECONDS).astype(np.uint32)
    records = np.bincount(row, calls.records, n).astype(np.uint64)
    ones = np.ones(n, np.uint32)
    known = (principal != 0).astype(np.uint32)
    last = np.empty(n, np.int64)  # Call of each row.
    last[row] = np.arange(len(calls))
    software = calls.software[last]
    columns = fill_columns(
        n, principal=principal, principal_kind=known, credential=_renew(principal, start),
        client_address=(address + 1).astype(np.uint32), authentication=known, status_code=ones * np.uint32(200),
        role=ones, hop=ones, client_software=np.where(software > 0, len(used) + software, 0).astype(np.uint32),
        calls=count, response_bytes=count * np.uint64(500) + records * np.uint64(300),
        duration_sum_us=_sum_durations(count, principal, start), objects=objects, objects_count=distinct,
        records_returned=records, records_measured=records, response_bodies_read=count,
    )  # fmt: skip
    return RowBatch(
        node="n", boot_id="b", sequence=sequence, key_id=1, policy_epoch=0, clock_segment=0,
        lost_calls=0, seen_calls=len(calls),
        strings=("", *(addresses[index] for index in used.tolist()), *softwares[1:]),
        routes=ROUTES, route=calls.endpoint[first].astype(np.uint32),
        route_id=(calls.endpoint[first] + 1).astype(np.uint64), window_start=start,
        window_length=ones * np.uint32(WINDOW_SECONDS), **columns,
    )  # fmt: skip


def _renew(principal: U64, start: U32) -> U64:
    """The credential of each row: of a customer another one each 5 to 60 minutes, or each minute, by no draw of the
    world's. Others keep theirs."""
    draw = mix(np.full(len(principal), 77, np.uint64), principal)
    seconds = np.where(draw % np.uint64(APPLICATION_SHARE) == 0, 60, 300 + (draw >> np.uint64(32)) % np.uint64(3_300))
    renewed = mix(principal, start.astype(np.uint64) // seconds.astype(np.uint64))
    return np.where((principal > 0) & (principal <= RENEWED), renewed, principal)


def _sum_durations(count: U64, principal: U64, start: U32) -> U64:
    """Microseconds of each row: 8 ms a call, a third to three times that from row to row, by no draw of the world's."""
    draw = mix(principal, start.astype(np.uint64)).astype(np.float64) / 2.0**64
    return (count * 8_000 * 9.0 ** (draw - 0.5)).astype(np.uint64)


def _list_objects(calls: Calls, row: Ints, n: int) -> tuple[Ragged, U64]:
    """Hashes of the distinct objects of each row, the smallest where there are many, and how many there are."""
    has = calls.item != 0
    rows, hashes = row[has], mix(np.full(has.sum(), 7, np.uint64), calls.item[has])
    # Row and the first bits of the hash as one number: sorted in a third of the time that two keys take.
    order = (rows.astype(np.uint64) << _ROW_SHIFT | hashes >> np.uint64(64) - _ROW_SHIFT).argsort()
    rows, hashes = rows[order], hashes[order]
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    rows, hashes = rows[is_first], hashes[is_first]
    distinct = np.bincount(rows, minlength=n)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(distinct) - distinct, distinct)
    kept = place < OBJECTS_MAX
    offsets = np.concatenate([[0], np.cumsum(np.minimum(distinct, OBJECTS_MAX))]).astype(np.int64)
    objects = Ragged(offsets=offsets, values=hashes[kept], counts=np.zeros(0, np.uint64))
    return objects, distinct.astype(np.uint64)
