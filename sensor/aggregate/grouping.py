"""Groups calls into rows column by column, without a step per call in Python.

Calls are sorted once by key and place. Every figure of a row is then a reduction of a run.

`NumberMemory` counts steps of integer objects. Somebody who enumerates an endpoint's ids asks for n, n + 1, n + 2. Only
the number of steps leaves the node. The last number of each pair of route and consumer is remembered across windows.

`Novelty` marks the first row of a route, of a consumer, or of a status class at a route.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensor.aggregate.dictionary import (
    IDENTITIES_LIMIT,
    ROUTES_LIMIT,
    Facts,
    Freed,
    get_identities,
    get_media_types,
    get_truncated,
)
from sensor.aggregate.rows import (
    BODY_SUMS,
    COMMON_SUMS,
    ESTIMATED_SUMS,
    KEY_BITS,
    LARGEST_NUMBER,
    Peak,
    RowFlag,
    Rows,
    Sum,
    find_identities,
    find_last,
    find_routes,
    pack_keys,
)
from sensor.aggregate.sketches import count_codes, count_values, unite_objects
from sensor.core.arrays import Index, KeyTable, Ragged, find_order, find_runs, measure_runs, number_runs, number_values
from sensor.core.calls import STATUS_NOT_READ, BodyFlag, CallFlag, Calls
from sensor.describe.attacks.classes import EVIDENCE_MASK

# Pairs remembered, 24 bytes each; those unused for longest are forgotten, a quarter at a time.
PAIRS_LIMIT: Final = 65_536
_KEPT_RATIO: Final = 0.75
# No step leads here: the first number of a pair is neither one more nor one less.
_NO_NUMBER: Final = -2


class NumberMemory:
    """Last integer object by pair of route and consumer."""

    def __init__(self) -> None:
        self._pairs = np.empty(0, np.uint64)  # Ascending.
        self._numbers = np.empty(0, np.int64)
        self._ticks = np.empty(0, np.int64)

    def find_steps(
        self, pairs: NDArray[np.uint64], rows: Index, places: Index, numbers: NDArray[np.int64], tick: int
    ) -> NDArray[np.bool_]:
        """Which numbers are one more or one less than the one before them of their pair; the last ones are remembered.

        `pairs` has the pair of each row; `rows` (ascending), `places` in time and `numbers` have an element a call.
        """
        distinct, _, inverse = number_values(pairs)
        if len(distinct) == len(pairs):  # As it mostly is; then calls of a pair stand together already.
            starts = find_runs(rows)
            previous = _shift(numbers)
            lasts = np.empty(len(pairs), np.int64)
            lasts[inverse] = numbers[np.append(starts[1:], len(rows)) - 1]
            previous[starts] = self._exchange(distinct, lasts, tick)[inverse]
            return _find_neighbours(numbers, previous)
        # A pair may have several rows (statuses): its calls are put together again, in their order in time.
        owners = inverse[rows]
        place_bits = int(np.max(places)).bit_length()
        order = find_order(owners << place_bits | places, len(distinct).bit_length() + place_bits)
        owners, numbers = owners[order], numbers[order]
        starts = find_runs(owners)
        previous = _shift(numbers)
        previous[starts] = self._exchange(distinct, numbers[np.append(starts[1:], len(owners)) - 1], tick)
        is_step = np.empty(len(numbers), np.bool_)
        is_step[order] = _find_neighbours(numbers, previous)
        return is_step

    def _exchange(self, pairs: NDArray[np.uint64], numbers: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
        """The remembered numbers of these pairs, which ascend; from now on these are."""
        places = self._pairs.searchsorted(pairs)
        is_known = np.zeros(len(pairs), np.bool_)
        inside = places < len(self._pairs)
        is_known[inside] = self._pairs[places[inside]] == pairs[inside]
        known = places[is_known]
        previous = np.full(len(pairs), _NO_NUMBER, np.int64)
        previous[is_known] = self._numbers[known]
        self._numbers[known] = numbers[is_known]
        self._ticks[known] = tick
        is_new = ~is_known
        if is_new.any():
            self._insert(places[is_new], pairs[is_new], numbers[is_new], tick)
        return previous

    def _insert(self, places: Index, pairs: NDArray[np.uint64], numbers: NDArray[np.int64], tick: int) -> None:
        self._pairs = np.insert(self._pairs, places, pairs)
        self._numbers = np.insert(self._numbers, places, numbers)
        self._ticks = np.insert(self._ticks, places, np.int64(tick))
        if len(self._pairs) > PAIRS_LIMIT:
            excess_count = len(self._pairs) - int(PAIRS_LIMIT * _KEPT_RATIO)
            # Of one tick all go or stay: there may be fewer left than asked for.
            is_kept = self._ticks > np.partition(self._ticks, excess_count - 1)[excess_count - 1]
            self._pairs, self._numbers, self._ticks = self._pairs[is_kept], self._numbers[is_kept], self._ticks[is_kept]

    def __len__(self) -> int:
        return len(self._pairs)


def _shift(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The one before each; the first is the caller's to fill."""
    previous = np.empty_like(numbers)
    previous[1:] = numbers[:-1]
    return previous


def _find_neighbours(numbers: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.bool_]:
    # Numbers are below 2^63 and not negative, so the difference does not overflow.
    is_step: NDArray[np.bool_] = np.abs(numbers - previous) == 1
    return is_step


def name_pairs(route_ids: NDArray[np.uint64], consumers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for each pair (a finaliser of MurmurHash3 over both)."""
    pairs = route_ids * np.uint64(0x9E3779B97F4A7C15) ^ consumers
    pairs ^= pairs >> np.uint64(33)
    pairs *= np.uint64(0xFF51AFD7ED558CCD)
    pairs ^= pairs >> np.uint64(33)
    return pairs


# Consumers remembered, and as many that came before them; the oldest are forgotten and then count as new again.
CONSUMERS_LIMIT: Final = 65_536
_CLASS_BITS: Final = 4


class Novelty:
    """What was seen since the start. Routes and identities are forgotten when `Facts` frees their numbers."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._classes = np.zeros(ROUTES_LIMIT, np.uint16)  # Bit c: status codes c00 to c99 were seen at the route.
        self._is_seen = np.zeros(IDENTITIES_LIMIT, np.bool_)
        self._consumers, self._older = KeyTable(), KeyTable()

    def find_new(self, rows: Rows) -> NDArray[np.bool_]:
        """Where something is seen for the first time: one row for each new thing; from now on it is known."""
        return self._find_new_classes(rows) | self._find_new_consumers(rows)

    def forget(self, freed: Freed) -> None:
        """These numbers will stand for something else."""
        self._classes[freed.routes] = 0
        self._is_seen[freed.identities] = False

    def _find_new_classes(self, rows: Rows) -> NDArray[np.bool_]:
        is_new = np.zeros(len(rows), np.bool_)
        routes, classes = rows.routes, rows.outcomes // 100
        places = np.flatnonzero(self._classes[routes] >> classes & 1 == 0)
        if len(places):
            codes = routes[places] << _CLASS_BITS | classes[places]
            codes, first = np.unique(codes, return_index=True)
            is_new[places[first]] = True
            bits = (1 << (codes & (1 << _CLASS_BITS) - 1)).astype(np.uint16)
            np.bitwise_or.at(self._classes, codes >> _CLASS_BITS, bits)
        return is_new

    def _find_new_consumers(self, rows: Rows) -> NDArray[np.bool_]:
        is_new = np.zeros(len(rows), np.bool_)
        identities = rows.identities
        places = np.flatnonzero(~self._is_seen[identities])
        if len(places):
            numbers, first, _ = number_values(identities[places])
            self._is_seen[numbers] = True
            consumers, firsts, _ = number_values(self._facts.identities.consumer[numbers])
            is_new[places[first[firsts[self._meet(consumers)]]]] = True
        return is_new

    def _meet(self, consumers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of those that were not known; now they are."""
        _, unknown = self._consumers.find(consumers)
        _, forgotten = self._older.find(consumers[unknown])
        if len(unknown):
            if len(self._consumers) + len(unknown) > CONSUMERS_LIMIT:
                self._consumers, self._older = KeyTable(), self._consumers
            self._consumers.put(consumers[unknown], np.zeros(len(unknown), np.int64))
        return unknown[forgotten]


# Flags of calls that rows have under the same name.
_SAME_FLAGS: Final = {
    CallFlag[name]: RowFlag[name]
    for name in ("LOSSY", "AMBIGUOUS", "UNKNOWN_FIELDS", "INFERRED", "ESTIMATED", "ENCRYPTED")
}
# Row flags by the flags of a call that had a response, and of one that had none.
_FLAGS: Final = np.zeros((2, 1_024), np.uint32)
for _flag, _row_flag in _SAME_FLAGS.items():
    _FLAGS[:, np.arange(1_024) & _flag.value != 0] |= _row_flag.value
_FLAGS[1, np.arange(1_024) & CallFlag.ABORTED.value != 0] |= RowFlag.ABORTED.value
_TOLD_FLAGS: Final = sum(_SAME_FLAGS) | CallFlag.ABORTED.value | CallFlag.COUNTED.value
# More than one message in a direction is how streaming shows; the widest call of a row is nearest to the truth.
_STREAMING: Final = (
    ("request_messages", RowFlag.CLIENT_STREAMING),
    ("response_messages", RowFlag.SERVER_STREAMING),
)
# Calls with these are few, and most seconds have none of them.
_RARE_FLAGS: Final = CallFlag.STREAM.value | CallFlag.COUNTED.value


def group_calls(calls: Calls, places: Index, facts: Facts, memory: NumberMemory, tick: int) -> Rows:
    """The rows of the calls at `places`, which stand in order of time and are not none; by key. Cost: 0.15 us a
    call."""
    keys = pack_keys(
        calls["route"],
        get_identities(calls["actor"]),
        calls["status"],
        calls["rpc_status"],
        calls["role"],
        calls["hop"],
    ).take(places)
    ranks = find_order(keys, KEY_BITS)
    keys = keys.take(ranks)
    starts = find_runs(keys)
    calls = calls.take(places.take(ranks))
    keys = keys[starts]
    rows = number_runs(starts, len(calls))
    counts = calls["calls"].astype(np.uint64)
    is_call = counts > 0
    is_answered = calls["status"] > STATUS_NOT_READ
    is_final = (calls["flags"] & CallFlag.FINAL.value > 0) & is_answered
    is_timed = is_final & (calls["flags"] & CallFlag.STREAM.value == 0)
    has_object = (calls["object"] > 0) & is_call
    has_rare = not is_call.all() or bool((calls["flags"] & _RARE_FLAGS).any())
    has_bodies, has_payloads = bool(calls["body"].any()), bool(calls["payload"].any())
    height = len(Sum) if has_rare or has_payloads else _find_height(calls["body"]) if has_bodies else COMMON_SUMS
    sums = np.zeros((height, len(starts)), np.uint64)
    peaks = np.zeros((len(Peak), len(starts)), np.uint64)
    durations_us = _clear(calls["duration_us"], is_timed)
    for place, values in (
        (Sum.CALLS, counts),
        (Sum.REQUEST_BYTES, calls["request_bytes"]),
        (Sum.RESPONSE_BYTES, calls["response_bytes"]),
        (Sum.TIME_TO_FIRST_BYTE_SUM_US, _clear(calls["ttfb_us"], is_call)),
        (Sum.DURATION_SUM_US, durations_us),
    ):
        np.add.reduceat(values, starts, out=sums[place], dtype=np.uint64)
    sums[Sum.RECORDS] = measure_runs(starts, len(calls))
    if has_rare:
        _sum_streams(sums, calls, is_final, is_call, starts)
    np.maximum.reduceat(durations_us, starts, out=peaks[Peak.DURATION_US])
    is_numeric = has_object & (calls["number"] >= 0)
    if is_numeric.any():
        pairs = name_pairs(facts.route_ids[find_routes(keys)], facts.identities.consumer[find_identities(keys)])
        numeric = _pick(is_numeric, rows, ranks, calls["number"], counts)
        _sum_numbers(sums, peaks, *numeric, memory=memory, pairs=pairs, tick=tick)
    object_rows, hashes = _pick(has_object, rows, calls["object"])
    objects, is_cut = unite_objects(object_rows, hashes, len(starts))
    flags = _find_flags(calls, is_answered, starts)
    flags[is_cut] |= RowFlag.OBJECTS_SKETCHED.value
    final_rows, response_bytes = _pick(is_final, rows, calls["response_bytes"])
    timed_rows, durations_us = _pick(is_timed, rows, durations_us)
    return Rows(
        keys=keys,
        sums=sums,
        peaks=peaks,
        flags=flags,
        request_types=find_last(get_media_types(calls["actor"]).astype(np.uint16), starts),
        response_types=find_last(calls["response_type"], starts),
        durations=count_values(timed_rows, durations_us, len(starts)),
        sizes=count_values(final_rows, response_bytes, len(starts)),
        objects=objects,
        data=_sum_bodies(sums, calls, rows, starts, facts) if has_bodies else _count_no_data(len(starts)),
        payloads=_sum_attacks(sums, calls, rows, starts),
    )


def _find_height(known: NDArray[Any]) -> int:
    """Of the sums that are written where nothing is told of calls but what follows from their bodies."""
    return ESTIMATED_SUMS if _is_estimated(known) else BODY_SUMS


def _is_estimated(known: NDArray[Any]) -> bool:
    """Of a batch without a sample: then all of its calls that tell anything do so by an estimate."""
    return not (known & ~np.uint8(BodyFlag.ESTIMATED.value)).any()


def _sum_bodies(sums: NDArray[np.uint64], calls: Calls, rows: Index, starts: Index, facts: Facts) -> Ragged:
    """Write what bodies told; gives the kinds of data found."""
    known = calls["body"]
    np.add.reduceat(calls["records"], starts, out=sums[Sum.RECORDS_RETURNED], dtype=np.uint64)
    if not _is_estimated(known):
        for place, values in (
            (Sum.RECORDS_MEASURED, calls["records"] * (known & BodyFlag.MEASURED.value > 0)),
            (Sum.REQUEST_BODIES_READ, known & BodyFlag.REQUEST_READ.value > 0),
            (Sum.RESPONSE_BODIES_READ, known & BodyFlag.RESPONSE_READ.value > 0),
        ):
            np.add.reduceat(values, starts, out=sums[place], dtype=np.uint64)
    return _find_data(calls, rows, len(starts), facts)


def _find_data(calls: Calls, rows: Index, rows_count: int, facts: Facts) -> Ragged:
    places = np.flatnonzero(calls["data"])
    if not len(places):
        return _count_no_data(rows_count)
    return count_codes(rows[places], facts.find_data(calls["data"][places]), rows_count)


def _count_no_data(rows_count: int) -> Ragged:
    return Ragged(np.zeros(rows_count, np.int32), np.empty(0, np.uint16), np.empty(0, np.uint32))


def _sum_attacks(sums: NDArray[np.uint64], calls: Calls, rows: Index, starts: Index) -> Ragged:
    """Write how many calls held a payload and how many answers confirm one; gives the distinct payloads."""
    places = np.flatnonzero(calls["payload"])
    if not len(places):
        return Ragged(np.zeros(len(starts), np.int32), np.empty(0, np.uint64))
    payloads = calls["payload"]
    is_confirmed = (payloads & np.uint64(EVIDENCE_MASK)) > 0
    np.add.reduceat(calls["calls"] * (payloads > 0), starts, out=sums[Sum.ATTACKS], dtype=np.uint64)
    np.add.reduceat(is_confirmed, starts, out=sums[Sum.ATTACKS_CONFIRMED], dtype=np.uint64)
    return unite_objects(rows[places], payloads[places], len(starts))[0]


def _clear(values: NDArray[Any], is_kept: NDArray[np.bool_]) -> NDArray[Any]:
    return values if is_kept.all() else values * is_kept


def _pick(is_taken: NDArray[np.bool_], *columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Each column where `is_taken`; as it is where that is everywhere, as it mostly is."""
    if is_taken.all():
        return columns
    places = np.flatnonzero(is_taken)
    return tuple(column.take(places) for column in columns)


def _sum_numbers(
    sums: NDArray[np.uint64],
    peaks: NDArray[np.uint64],
    rows: Index,
    ranks: Index,
    numbers: NDArray[np.int64],
    counts: NDArray[np.uint64],
    *,
    memory: NumberMemory,
    pairs: NDArray[np.uint64],
    tick: int,
) -> None:
    """Write what is told of integer objects: those of `rows`, which stand in order and need not be all; `ranks`: of
    each in time."""
    starts = find_runs(rows)
    numeric_rows = rows[starts]
    owners = number_runs(starts, len(rows))
    is_step = memory.find_steps(pairs[numeric_rows], owners, ranks, numbers, tick)
    sums[Sum.OBJECT_NUMERIC_CALLS, numeric_rows] = np.add.reduceat(counts, starts)
    sums[Sum.OBJECT_MONOTONIC_STEPS, numeric_rows] = np.add.reduceat(counts * is_step, starts)
    largest, smallest = np.maximum.reduceat(numbers, starts), np.minimum.reduceat(numbers, starts)
    peaks[Peak.NUMBER, numeric_rows] = largest.astype(np.uint64)
    peaks[Peak.NUMBER_BELOW, numeric_rows] = (LARGEST_NUMBER - smallest).astype(np.uint64)


def _sum_streams(
    sums: NDArray[np.uint64], calls: Calls, is_final: NDArray[np.bool_], is_call: NDArray[np.bool_], starts: Index
) -> None:
    """Write what is told of calls that ended after they were counted, of streams, and of messages."""
    flags = calls["flags"]
    is_stream = is_final & (flags & CallFlag.STREAM.value > 0)
    is_counted = flags & CallFlag.COUNTED.value > 0
    for place, values in (
        (Sum.ENDED_LATER, is_final & ~is_call),
        (Sum.STREAMS, is_stream),
        (Sum.STREAM_DURATION_SUM_US, calls["duration_us"] * is_stream),
        (Sum.COUNTED_MESSAGES_CALLS, is_counted),
        (Sum.REQUEST_MESSAGES, calls["request_messages"] * is_counted),
        (Sum.RESPONSE_MESSAGES, calls["response_messages"] * is_counted),
    ):
        np.add.reduceat(values, starts, out=sums[place], dtype=np.uint64)


def _find_flags(calls: Calls, is_answered: NDArray[np.bool_], starts: Index) -> NDArray[np.uint32]:
    flags, actors = calls["flags"], calls["actor"]
    if not (flags & _TOLD_FLAGS).any() and not get_truncated(actors).any():
        return np.zeros(len(starts), np.uint32)
    by_call: NDArray[Any] = _FLAGS[(~is_answered).astype(np.intp), flags]
    is_counted = flags & CallFlag.COUNTED.value > 0
    if is_counted.any():
        for name, flag in _STREAMING:
            by_call |= (is_counted & (calls[name] > 1)) * np.uint32(flag)
    by_call |= get_truncated(actors) * np.uint32(RowFlag.CREDENTIAL_TRUNCATED)
    by_row: NDArray[np.uint32] = np.bitwise_or.reduceat(by_call, starts)
    return by_row
