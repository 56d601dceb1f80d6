"""Chooses the bodies that are read, and estimates the records of responses whose bodies were not read.

Of each route the first bodies are read, then one a second, and at once what looks new (status, media type, size). The
kernel copies by coarser rules, and this rule decides.

`RecordEstimates` assumes `fixed_bytes` (head, envelope) and `record_bytes` per record for a response. Both are medians
over the last samples, so one odd sample changes nothing (Theil and Sen: the slope is the median over all pairs, the
rest the median of what remains). A response four times larger than any that was read asks for a sample.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.bounded import BoundedDict
from sensor.core.arrays import Keys, KeyTable

# Routes remembered; the oldest is forgotten and begins anew.
ROUTES_MAX: Final = 16_384
CLASSES_MAX: Final = 64  # Of one route.
_SECOND_NS: Final = 1_000_000_000


class SampleRule(msgspec.Struct, frozen=True):
    """How often the bodies of a route are read."""

    first_count: int = 20
    interval_ns: int = _SECOND_NS
    # Of a route whose calls differ in their bodies: so many at once, and then so many in each interval.
    more_first_count: int = 900
    more_count: int = 20


@dataclass(slots=True)
class _Route:
    count: int = 0
    last_ns: int = 0
    classes: tuple[int, ...] = ()  # Hashes of looks, mostly one: a set would be most of what a route takes.
    room: float = -1.0  # Samples that may come at once; below 0: it has no more than others.


class BodySampler:
    """Mutable state by route. Not thread-safe."""

    def __init__(self, rule: SampleRule) -> None:
        self._rule = rule
        self._routes: BoundedDict[int, _Route] = BoundedDict(ROUTES_MAX)

    def is_due(self, route_id: int, status_code: int, media_type: str, size_bytes: int, time_ns: int) -> bool:
        """Whether the bodies of this call are to be read; then it counts as a sample."""
        route = self._find(route_id)
        if route.room >= 0:
            return self._is_due_more(route, time_ns)
        look = hash((status_code, media_type, size_bytes.bit_length() // 2))
        is_new = look not in route.classes and len(route.classes) < CLASSES_MAX
        is_due = route.count < self._rule.first_count or abs(time_ns - route.last_ns) >= self._rule.interval_ns
        if not (is_new or is_due):
            return False
        if is_new:
            route.classes += (look,)
        route.count += 1
        route.last_ns = time_ns
        return True

    def sample_more(self, route_id: int) -> None:
        """Sample a route more often from now on, whatever its calls look like: these would be drawn twice."""
        route = self._find(route_id)
        if route.room < 0:
            route.room = self._rule.more_first_count

    def _is_due_more(self, route: _Route, time_ns: int) -> bool:
        rule = self._rule
        gained = abs(time_ns - route.last_ns) / max(rule.interval_ns, 1) * rule.more_count
        room = min(rule.more_first_count, route.room + gained)
        if room < 1:
            return False
        route.room, route.last_ns = room - 1, time_ns
        return True

    def _find(self, route_id: int) -> _Route:
        route = self._routes.get(route_id)
        if route is None:
            route = self._routes[route_id] = _Route()
        return route


_EVICTED_PART: Final = 8
_FIRST_ROWS: Final = 256
SAMPLES_MAX: Final = 15
JUMP_RATIO: Final = 4


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """How to estimate the records of a route's response from its size."""

    fixed_bytes: float
    record_bytes: float  # 0: every response is one record.
    largest_bytes: int  # Of those that were read.

    def count(self, response_bytes: int) -> int:
        """Records of a response of so many bytes, head included."""
        if not self.record_bytes:
            return 1
        return max(0, round((response_bytes - self.fixed_bytes) / self.record_bytes))


class _Sample(NamedTuple):
    records: int
    response_bytes: int
    head_bytes: int
    is_list: bool


# Samples are kept packed, for there are so many: 21 bytes each, where objects would take 200.
_PACKED: Final = struct.Struct("<QQI?")
_LARGEST: Final = (1 << 64) - 1
_LARGEST_HEAD: Final = (1 << 32) - 1


class RecordEstimates:
    """Mutable state by route. Not thread-safe."""

    def __init__(self) -> None:
        self._samples: dict[int, bytes] = {}  # The last ones, oldest first.
        self._places = KeyTable()  # Of the route's row below: its place among the samples.
        self._fits = np.zeros((_FIRST_ROWS, len(Estimate.__struct_fields__)))

    def learn(self, route_id: int, *, records: int, response_bytes: int, head_bytes: int, is_list: bool) -> None:
        """Takes one response that was read. Cost: some 20 us, and 2 us where all samples are equal."""
        known = self._samples.get(route_id)
        if known is None:
            known = b""
            self._add_row(route_id)
        sample = _PACKED.pack(
            min(records, _LARGEST), min(response_bytes, _LARGEST), min(head_bytes, _LARGEST_HEAD), is_list
        )
        packed = (known + sample)[-SAMPLES_MAX * _PACKED.size :]
        if packed == known:
            return  # Nothing new to fit to.
        self._samples[route_id] = packed
        fit = _fit([_Sample(*fields) for fields in _PACKED.iter_unpack(packed)])
        self._fits[self._places.find_one(route_id)] = fit.fixed_bytes, fit.record_bytes, fit.largest_bytes

    def find(self, route_id: int) -> Estimate | None:
        """None where no response of the route was read."""
        place = self._places.find_one(route_id)
        if place is None:
            return None
        fixed_bytes, record_bytes, largest_bytes = self._fits[place].tolist()
        return Estimate(fixed_bytes, record_bytes, int(largest_bytes))

    def find_all(self, route_ids: Keys) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A row of `Estimate`'s fields for each route, and whether any response of it was read; else the row means
        nothing. Cost: some 40 ns a route."""
        places, missing = self._places.find(route_ids)
        is_known = np.ones(len(route_ids), np.bool_)
        is_known[missing] = False
        places[missing] = 0
        return self._fits[places], is_known

    def _add_row(self, route_id: int) -> None:
        count = len(self._samples)
        if count >= ROUTES_MAX:
            # Many at once: the places of all others change.
            gone = ROUTES_MAX // _EVICTED_PART
            for oldest in list(self._samples)[:gone]:
                del self._samples[oldest]
            count = len(self._samples)
            self._fits[:count] = self._fits[gone : gone + count]
            self._places.clear()
            self._places.put(np.array(list(self._samples), np.uint64), np.arange(count))
        elif count == len(self._fits):
            self._fits = np.concatenate([self._fits, np.zeros_like(self._fits)])
        self._places.put_one(route_id, count)


def _fit(samples: Sequence[_Sample]) -> Estimate:
    largest = max(one.response_bytes for one in samples)
    if not any(one.is_list for one in samples):
        return Estimate(0.0, 0.0, largest)
    slopes = [
        (a.response_bytes - b.response_bytes) / (a.records - b.records)
        for a, b in combinations(samples, 2)
        if a.records != b.records
    ]
    slope = median(slopes) if slopes else 0.0
    if slope <= 0:
        # All of one length: what is not head is records.
        filled = [one for one in samples if one.records]
        if not filled:
            return Estimate(float(largest), float(max(largest, 1)), largest)
        slope = max(1.0, median((one.response_bytes - one.head_bytes) / one.records for one in filled))
    return Estimate(median(one.response_bytes - slope * one.records for one in samples), slope, largest)
