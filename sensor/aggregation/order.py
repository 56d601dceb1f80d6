"""Calls in order of time, and cut where seconds and windows begin.

A call has 104 bytes, so that calls are not moved for each question that is asked of them: the order is kept beside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.columns import Calls
from sensor.runs import Index, find_order, find_runs

SECOND_NS: Final = 1_000_000_000
# Calls of earlier seconds, whose responses took long, go with those of the last one where they are at most this part.
_LATE_PART: Final = 8


@dataclass(frozen=True, slots=True)
class OrderedCalls:
    """Some of `calls`: those at `places`, which stand in order of time; `times_ns` has an element each."""

    calls: Calls
    places: Index
    times_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def split(self, length_ns: int) -> Iterator["OrderedCalls"]:
        """Cut at multiples of `length_ns`."""
        starts = find_runs(self.times_ns // length_ns)
        if len(starts) == 1:
            yield self
            return
        for start, end in zip(starts, np.append(starts[1:], len(self)), strict=True):
            # Of several, each is small against the whole, which nobody should go through once for each.
            calls = self.calls.take(self.places[start:end])
            yield OrderedCalls(calls, np.arange(end - start), self.times_ns[start:end])

    def split_seconds(self) -> Iterator["OrderedCalls"]:
        """Calls of each second, in order; a few late ones are not worth a pass of their own."""
        last_ns = int(self.times_ns[-1]) // SECOND_NS * SECOND_NS
        if int(self.times_ns.searchsorted(last_ns)) * _LATE_PART <= len(self):
            yield self
        else:
            yield from self.split(SECOND_NS)


def order_calls(calls: Calls, places: Index) -> OrderedCalls:
    """Those at `places`, which ascend: by time, those of one time in the order in which they came."""
    times_ns = calls["time_unix_ns"].take(places)
    if not np.all(times_ns[1:] >= times_ns[:-1]):
        spans_ns = times_ns - times_ns.min()
        order = find_order(spans_ns, int(spans_ns.max()).bit_length())
        places, times_ns = places.take(order), times_ns.take(order)
    return OrderedCalls(calls, places, times_ns)
