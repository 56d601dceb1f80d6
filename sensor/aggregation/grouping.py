"""Calls to rows: one pass over columns, nothing for each call in Python.

Calls are sorted once by key and place; every figure of a row is then a reduction of a run.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensor.aggregation.numbers import NumberMemory, name_pairs
from sensor.aggregation.rows import (
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
from sensor.attacks.classes import EVIDENCE_MASK
from sensor.calls import STATUS_NOT_READ, BodyFlag
from sensor.columns import CallFlag, Calls
from sensor.facts import Facts, get_identities, get_media_types, get_truncated
from sensor.ragged import Ragged
from sensor.runs import Index, find_order, find_runs, measure_runs, number_runs
from sensor.sketches import count_codes, count_values, unite_objects

# Row flags by the flags of a call that had a response, and of one that had none.
_FLAGS: Final = np.array(
    [
        [
            (RowFlag.LOSSY if flags & CallFlag.LOSSY else 0)
            | (RowFlag.ABORTED if flags & CallFlag.ABORTED and is_unanswered else 0)
            | (RowFlag.AMBIGUOUS if flags & CallFlag.AMBIGUOUS else 0)
            | (RowFlag.UNKNOWN_FIELDS if flags & CallFlag.UNKNOWN_FIELDS else 0)
            | (RowFlag.INFERRED if flags & CallFlag.INFERRED else 0)
            | (RowFlag.ESTIMATED if flags & CallFlag.ESTIMATED else 0)
            | (RowFlag.ENCRYPTED if flags & CallFlag.ENCRYPTED else 0)
            for flags in range(1_024)
        ]
        for is_unanswered in (False, True)
    ],
    np.uint32,
)
_TOLD_FLAGS: Final = (
    CallFlag.LOSSY.value
    | CallFlag.ABORTED.value
    | CallFlag.AMBIGUOUS.value
    | CallFlag.UNKNOWN_FIELDS.value
    | CallFlag.INFERRED.value
    | CallFlag.COUNTED.value
    | CallFlag.ESTIMATED.value
    | CallFlag.ENCRYPTED.value
)
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
        (Sum.TIME_TO_FIRST_BYTE_US, _clear(calls["ttfb_us"], is_call)),
        (Sum.DURATION_US, durations_us),
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
    if (known == BodyFlag.ESTIMATED.value).all():  # Between two samples all are.
        np.add.reduceat(calls["records"], starts, out=sums[Sum.RETURNED], dtype=np.uint64)
        sums[Sum.RETURNED_CALLS] = sums[Sum.RETURNED_ESTIMATED] = sums[Sum.RECORDS]
        return _count_no_data(len(starts))
    if _is_estimated(known):
        np.add.reduceat(calls["records"], starts, out=sums[Sum.RETURNED], dtype=np.uint64)
        np.add.reduceat(known > 0, starts, out=sums[Sum.RETURNED_ESTIMATED], dtype=np.uint64)
        sums[Sum.RETURNED_CALLS] = sums[Sum.RETURNED_ESTIMATED]
        return _find_data(calls, rows, len(starts), facts)
    is_measured = known & BodyFlag.MEASURED.value > 0
    is_estimated = known & BodyFlag.ESTIMATED.value > 0
    for place, values in (
        (Sum.RETURNED, calls["records"]),
        (Sum.RETURNED_MEASURED, calls["records"] * is_measured),
        (Sum.RETURNED_CALLS, is_measured | is_estimated),
        (Sum.RETURNED_ESTIMATED, is_estimated),
        (Sum.REQUESTS_READ, known & BodyFlag.REQUEST_READ.value > 0),
        (Sum.RESPONSES_READ, known & BodyFlag.RESPONSE_READ.value > 0),
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
    """The values, and 0 where they do not count."""
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
    sums[Sum.NUMERIC_CALLS, numeric_rows] = np.add.reduceat(counts, starts)
    sums[Sum.STEPS, numeric_rows] = np.add.reduceat(counts * is_step, starts)
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
        (Sum.STREAM_US, calls["duration_us"] * is_stream),
        (Sum.COUNTED, is_counted),
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
