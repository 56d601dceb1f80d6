"""Quantiles of the wire's exponential histograms: reads bucket indexes with counts, gives values in the unit they
were taken in.

Bucket i of scale 3 covers (2^(i/8), 2^((i+1)/8)], so merging is adding counts and the geometric middle of a bucket
is at most 4.4 %
from any value in it (OpenTelemetry data model, "Exponential histogram"; native Prometheus schema 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

BUCKETS_PER_DOUBLING = 8  # Scale 3.
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """p50, p95 and p99 in the unit of the histogram."""

    p50: float
    p95: float
    p99: float

    def scaled(self, factor: float) -> "Percentiles":
        """The same percentiles in another unit, e.g. microseconds * 0.001 = milliseconds."""
        return Percentiles(p50=self.p50 * factor, p95=self.p95 * factor, p99=self.p99 * factor)


def bucket_value(bucket: int) -> float:
    """The geometric middle of a bucket."""
    return float(2.0 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))


def compute_quantiles(
    buckets: Sequence[int], counts: Sequence[int], quantiles: Sequence[float]
) -> tuple[float, ...] | None:
    """Values at `quantiles` (each 0 < q <= 1, nearest rank) of a histogram with ascending `buckets` and their `counts`.

    None where nothing was counted. Cost: one pass over the buckets a quantile.
    """
    total = sum(counts)
    if total == 0:
        return None
    values = []
    for quantile in quantiles:
        rank = min(total, max(1, ceil(quantile * total)))
        seen = 0
        for bucket, count in zip(buckets, counts, strict=True):
            seen += count
            if seen >= rank:
                values.append(bucket_value(bucket))
                break
    return tuple(values)


def compute_percentiles(buckets: Sequence[int], counts: Sequence[int]) -> Percentiles | None:
    """p50, p95, p99 of one histogram, or None where nothing was counted."""
    values = compute_quantiles(buckets, counts, QUANTILES)
    return None if values is None else Percentiles(p50=values[0], p95=values[1], p99=values[2])
