"""The two sketches a window row carries: an exponential histogram and a distinct-object set; both are merge monoids.

**Histogram**: base 2^(1/8), which is OpenTelemetry's scale 3 and Prometheus' native schema 3. Bucket i covers (2^(i/8),
2^((i+1)/8)]; a quantile read at a bucket's geometric middle is at most 4.4 % off. Values are integers (microseconds,
bytes), so the bucket is found by binary search among the integer parts of the upper bounds, which is exact where a
floating-point logarithm is not. 0 and 1 lie at or below 2^0 and are counted in bucket 0. Merge is the sum per bucket.

**ObjectSet**: an exact set of keyed 64-bit hashes up to 256, then the 256 smallest of them (KMV, "k minimum values";
Bar-Yossef et al. 2002). Because every node hashes under one key, the smallest of the union are among the smallest of
the parts: merge is union and cut, on any node in any order. The estimate is (k - 1) / (k-th smallest as a fraction of
2^64), standard error 1 / sqrt(k - 2), 6.3 % at 256.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from math import isqrt
from typing import Final

BUCKETS_PER_DOUBLING: Final = 8
OBJECTS_LIMIT: Final = 256
HASH_SPACE: Final = 1 << 64
_LARGEST_EXPONENT: Final = 64


def _root_floor(exponent: int) -> int:
    """Integer part of 2^(exponent / 8), exactly: three integer square roots of 2^exponent (floors nest)."""
    return isqrt(isqrt(isqrt(1 << exponent)))


LAST_BUCKET: Final = BUCKETS_PER_DOUBLING * _LARGEST_EXPONENT - 1
# Integer parts of the upper bounds of buckets 0 .. 510: an integer v is in the first bucket whose bound is not below
# it, and past the last bound in bucket 511. So `bisect_left(UPPER_BOUNDS, v)` is the bucket of v; hot code writes it
# out.
UPPER_BOUNDS: Final = tuple(_root_floor(index + 1) for index in range(LAST_BUCKET))


def find_bucket(value: int) -> int:
    """Bucket of a non-negative integer; those past 2^(511/8) count in the last, 511. Cost: some 100 ns."""
    return bisect_left(UPPER_BOUNDS, value)


class Histogram:
    """Exponential histogram of non-negative integers; `counts` maps bucket to count, without zeros."""

    __slots__ = ("counts",)

    def __init__(self, values: Iterable[int] = ()) -> None:
        self.counts: defaultdict[int, int] = defaultdict(int)
        for value in values:
            self.add(value)

    def add(self, value: int) -> None:
        """Count one value."""
        self.counts[find_bucket(value)] += 1

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another one to this one."""
        for bucket, count in other.counts.items():
            self.counts[bucket] += count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # Mutable.

    def __repr__(self) -> str:
        return f"Histogram({dict(sorted(self.counts.items()))})"


class ObjectSet:
    """Distinct keyed hashes: exact up to 256, then the 256 smallest. A hash at or above `ceiling` changes nothing."""

    __slots__ = ("ceiling", "hashes", "is_sketched")

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self.hashes: set[int] = set()
        self.ceiling = HASH_SPACE
        self.is_sketched = False
        for value in hashes:
            self.add(value)

    def add(self, value: int) -> None:
        """Take one keyed hash. Cost: a set insertion; past 256, a comparison, and a scan of 256 for the rare smaller
        one."""
        if value < self.ceiling:
            self.hashes.add(value)
            if len(self.hashes) > OBJECTS_LIMIT:
                self.cut()

    def merge(self, other: "ObjectSet") -> None:
        """Union with another one."""
        self.hashes |= other.hashes
        self.is_sketched |= other.is_sketched
        if len(self.hashes) > OBJECTS_LIMIT:
            self.cut()
        elif self.is_sketched:
            # A sketched part always holds 256 hashes, so the union holds exactly those.
            self.ceiling = max(self.hashes)

    def cut(self) -> None:
        """Keep the 256 smallest."""
        excess_count = len(self.hashes) - OBJECTS_LIMIT
        if excess_count == 1:
            self.hashes.remove(max(self.hashes))
        else:
            self.hashes = set(sorted(self.hashes)[:OBJECTS_LIMIT])
        self.ceiling = max(self.hashes)
        self.is_sketched = True

    def estimate(self) -> int:
        """Distinct hashes seen: exact while not sketched, else the KMV estimate (never below 257)."""
        if not self.is_sketched:
            return len(self.hashes)
        return max(OBJECTS_LIMIT + 1, (OBJECTS_LIMIT - 1) * HASH_SPACE // (self.ceiling + 1))

    def sorted_hashes(self) -> list[int]:
        """The hashes held, ascending, as they travel."""
        return sorted(self.hashes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectSet) and (self.hashes, self.is_sketched) == (other.hashes, other.is_sketched)

    __hash__ = None  # type: ignore[assignment]  # Mutable.

    def __repr__(self) -> str:
        return f"ObjectSet({self.estimate()} distinct, is_sketched={self.is_sketched})"
