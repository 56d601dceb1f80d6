"""The two sketches of a window row: an exponential histogram and a distinct-object set. Both are merge monoids.

**Histogram**: base 2^(1/8), which is OpenTelemetry's scale 3 and Prometheus' native schema 3. Bucket i covers (2^(i/8),
2^((i+1)/8)]. A quantile read at a bucket's geometric middle is at most 4.4 % off. Values are integers (microseconds,
bytes). So the bucket is found by binary search among the integer parts of the upper bounds, which is exact where a
floating-point logarithm is not. 0 and 1 lie at or below 2^0 and count in bucket 0. Merge is the sum per bucket.

**Objects**: an exact set of keyed 64-bit hashes up to 256, then the 256 smallest of them (KMV, "k minimum values";
Bar-Yossef et al. 2002). Every node hashes under one key, so the smallest of the union are among the smallest of the
parts. So merge is union and cut, on any node in any order. The estimate is (k - 1) / (k-th smallest as a fraction of
2^64). Its standard error is 1 / sqrt(k - 2), 6.3 % at 256.

Both are made for all rows at once. Elements come with the number of their row, and leave as a `Ragged` with a list per
row.
"""

from math import isqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensor.core.arrays import Index, Ragged, find_order, find_runs, measure_runs, sum_runs

BUCKETS_PER_DOUBLING: Final = 8
OBJECTS_LIMIT: Final = 256
_LARGEST_EXPONENT: Final = 64
_BUCKET_BITS: Final = 10
_BUCKET_MASK: Final = (1 << _BUCKET_BITS) - 1
# The collector takes no larger number of objects (nor of calls) in a row.
_ESTIMATE_LIMIT: Final = 2.0**40 - 1


def _root_floor(exponent: int) -> int:
    """Integer part of 2^(exponent / 8), exactly: three integer square roots of 2^exponent (floors nest)."""
    return isqrt(isqrt(isqrt(1 << exponent)))


LAST_BUCKET: Final = BUCKETS_PER_DOUBLING * _LARGEST_EXPONENT - 1
# Integer parts of the upper bounds of buckets 0 .. 510: an integer v is in the first bucket whose bound is not below
# it, and past the last bound in bucket 511.
UPPER_BOUNDS: Final = np.array([_root_floor(index + 1) for index in range(LAST_BUCKET)], np.uint64)


# The bucket of each value below: most latencies and sizes are, and to look one up takes a tenth of a search.
_SMALL_LIMIT: Final = 1 << 16
_SMALL_BUCKETS: Final = UPPER_BOUNDS.searchsorted(np.arange(_SMALL_LIMIT + 1, dtype=np.uint64)).astype(np.uint16)


def find_buckets(values: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The bucket of each value. Cost: 2 ns, and 13 for a large one."""
    buckets = _SMALL_BUCKETS.take(np.minimum(values, np.uint64(_SMALL_LIMIT)).astype(np.int64))
    large = np.flatnonzero(values > _SMALL_LIMIT)
    if len(large):
        buckets[large] = UPPER_BOUNDS.searchsorted(values.take(large))
    return buckets


def count_values(rows: Index, values: NDArray[np.uint64], rows_count: int) -> Ragged:
    codes = (rows << _BUCKET_BITS | find_buckets(values)).astype(np.int32)
    codes.sort()
    starts = find_runs(codes)
    return _make_histograms(codes[starts], measure_runs(starts, len(codes)), rows_count)


def count_codes(rows: Index, found: Ragged, rows_count: int) -> Ragged:
    """How often each code (below 1,024) is in the lists that belong to `rows`, by row: codes ascending, and counts."""
    codes = np.repeat(rows, found.lengths) << _BUCKET_BITS | found.values
    codes.sort()
    starts = find_runs(codes)
    return _make_histograms(codes[starts], measure_runs(starts, len(codes)), rows_count)


def merge_histograms(rows: Index, histograms: Ragged, rows_count: int) -> Ragged:
    """Sums of histograms: row i of `histograms` belongs to `rows[i]`."""
    codes = np.repeat(rows << _BUCKET_BITS, histograms.lengths) | histograms.values
    order = find_order(codes, _BUCKET_BITS + rows_count.bit_length())
    codes = codes[order]
    starts = find_runs(codes)
    counts = sum_runs(histograms.get_counts()[order].astype(np.uint64), starts)
    return _make_histograms(codes[starts], counts, rows_count)


def _make_histograms(codes: NDArray[Any], counts: NDArray[Any], rows_count: int) -> Ragged:
    lengths = np.bincount(codes >> _BUCKET_BITS, minlength=rows_count)
    return Ragged(lengths.astype(np.int32), (codes & _BUCKET_MASK).astype(np.uint16), counts.astype(np.uint32))


def unite_objects(rows: Index, hashes: NDArray[np.uint64], rows_count: int) -> tuple[Ragged, NDArray[np.bool_]]:
    """The distinct hashes that belong to each of the rows, ascending and cut to 256, and which rows were cut."""
    rows, hashes = _sort_pairs(rows, hashes, rows_count)
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    places = np.flatnonzero(is_first)
    rows, hashes = rows.take(places), hashes.take(places)
    lengths = np.bincount(rows, minlength=rows_count)
    is_cut = lengths > OBJECTS_LIMIT
    if is_cut.any():
        ranks = np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]
        hashes = hashes[ranks < OBJECTS_LIMIT]
        lengths = np.minimum(lengths, OBJECTS_LIMIT)
    return Ragged(lengths.astype(np.int32), hashes), is_cut


def estimate_objects(objects: Ragged, is_sketched: NDArray[np.bool_]) -> Index:
    """Distinct hashes seen by row: exact while not sketched, else the KMV estimate (never below 257)."""
    estimates = objects.lengths.astype(np.int64)
    if is_sketched.any():
        ceilings = objects.values[objects.last_places[is_sketched]].astype(np.float64)
        found = np.floor((OBJECTS_LIMIT - 1) * 2.0**64 / (ceilings + 1))
        estimates[is_sketched] = np.clip(found, OBJECTS_LIMIT + 1, _ESTIMATE_LIMIT).astype(np.int64)
    return estimates


def _sort_pairs(rows: Index, hashes: NDArray[np.uint64], rows_count: int) -> tuple[Index, NDArray[np.uint64]]:
    """Both, by row and then by hash."""
    if rows_count == 1:
        return rows, np.sort(hashes)
    # The row and the hash's upper bits in one integer; where two different hashes of a row agree in those (one in 2^30
    # at worst), it is done with two keys.
    row_bits = (rows_count - 1).bit_length()
    place_bits = max(1, (len(rows) - 1).bit_length())
    codes = rows.astype(np.uint64) << np.uint64(64 - row_bits) | hashes >> np.uint64(row_bits)
    codes >>= np.uint64(place_bits)
    order = find_order(codes, 64 - place_bits)
    codes, sorted_hashes = codes[order], hashes[order]
    is_tie = codes[1:] == codes[:-1]
    if np.any(is_tie & (sorted_hashes[1:] != sorted_hashes[:-1])):
        order = np.lexsort((hashes, rows))
        sorted_hashes = hashes[order]
    return rows[order], sorted_hashes
