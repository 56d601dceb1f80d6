"""Calls in order of time, and cut where seconds and windows begin."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from sensor.columns import Calls
from sensor.runs import find_order, find_runs

SECOND_NS: Final = 1_000_000_000
# Calls of earlier seconds, whose responses took long, go with those of the last one where they are at most this part.
_LATE_PART: Final = 8


def split_seconds(calls: Calls) -> Iterator[Calls]:
    """Calls of each second, in order; a few late ones are not worth a pass of their own."""
    times_ns = calls["time_unix_ns"]
    last_ns = int(times_ns[-1]) // SECOND_NS * SECOND_NS
    if int(times_ns.searchsorted(last_ns)) * _LATE_PART <= len(calls):
        yield calls
    else:
        yield from split_calls(calls, SECOND_NS)


def sort_by_time(calls: Calls) -> Calls:
    """In order of time; calls of one time in the order in which they came."""
    times_ns = calls["time_unix_ns"].copy()
    if np.all(times_ns[1:] >= times_ns[:-1]):
        return calls
    times_ns -= times_ns.min()
    return calls.take(find_order(times_ns, int(times_ns.max()).bit_length()))


def split_calls(calls: Calls, length_ns: int) -> Iterator[Calls]:
    """Calls in order of time, cut at multiples of `length_ns`."""
    starts = find_runs(calls["time_unix_ns"] // length_ns)
    for start, end in zip(starts, np.append(starts[1:], len(calls)), strict=True):
        yield calls[start:end]
