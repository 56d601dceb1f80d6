"""Records returned by calls whose bodies nobody read: learned by route from those that were.

The bytes of a response are taken for `fixed_bytes` (head, envelope) and `record_bytes` for each record. Both are
medians over the last samples (Theil and Sen: the slope is the median over all pairs, the rest the median of what is
left), so that one odd sample changes nothing. A response four times larger than any that was read asks for a sample.
"""

import struct
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

import msgspec

ROUTES_MAX: Final = 16_384
SAMPLES_MAX: Final = 15
JUMP_RATIO: Final = 4


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """How to tell the records of a route's response from its size."""

    fixed_bytes: float
    record_bytes: float  # 0: every response is one record.
    largest_bytes: int  # Of those that were read.

    def count(self, response_bytes: int) -> int:
        """Records of a response of so many bytes, head included."""
        if not self.record_bytes:
            return 1
        return max(0, round((response_bytes - self.fixed_bytes) / self.record_bytes))

    def is_jump(self, response_bytes: int) -> bool:
        """So much larger than what is known that it should be read."""
        return response_bytes > JUMP_RATIO * self.largest_bytes


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
        self._estimates: dict[int, Estimate] = {}

    def learn(self, route_id: int, *, records: int, response_bytes: int, head_bytes: int, is_list: bool) -> None:
        """Takes one response that was read. Cost: some 20 us."""
        known = self._samples.get(route_id)
        if known is None:
            if len(self._samples) >= ROUTES_MAX:
                oldest = next(iter(self._samples))
                del self._samples[oldest], self._estimates[oldest]
            known = b""
        sample = _PACKED.pack(
            min(records, _LARGEST), min(response_bytes, _LARGEST), min(head_bytes, _LARGEST_HEAD), is_list
        )
        packed = self._samples[route_id] = (known + sample)[-SAMPLES_MAX * _PACKED.size :]
        self._estimates[route_id] = _fit([_Sample(*fields) for fields in _PACKED.iter_unpack(packed)])

    def find(self, route_id: int) -> Estimate | None:
        """None where no response of the route was read."""
        return self._estimates.get(route_id)


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
