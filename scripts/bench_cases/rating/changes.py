"""Changes put into a series of request rates, and what in the series itself is no false alarm to find.

Kinds, lengths and sizes are drawn at random. A change is put where no untouched bucket is odd, in the last three
fifths, and only where the calls added or missing are at least five standard deviations of a Poisson count, so that
it can be seen at all.

| kind | lasts | calls |
|---|---|---|
| spike | 1-5 min | times 3.5-8.5 |
| burst | 20-65 min | times 1.9-2.9 |
| ramp | 2-4 h | rising to times 2.2-3 |
| level | 3-5 h | times 1.85-2.4 |
| scan | 30-105 min | plus 0.8-2.2 times the mean of the series |
| drop | 10-55 min | times 0.05-0.3 |
| outage | 8-37 min | none |

Each lasts one bucket at least, all but spikes two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.bench_cases.rating.series import DAY, F64, HOUR, Series

_EVENTS = 6  # A series.
_APART_SECONDS = 6 * HOUR
_SEEN_DEVIATIONS = 5.0
_ODD_DEVIATIONS = 4.0
_MINUTES = {
    "spike": (1, 5),
    "burst": (20, 65),
    "ramp": (120, 240),
    "level": (180, 300),
    "scan": (30, 105),
    "drop": (10, 55),
    "outage": (8, 37),
}
KINDS = tuple(_MINUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Buckets `start` to `end`, both included."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSeries:
    """A series with its changes. `is_odd`: buckets that were odd before."""

    series: Series
    changes: list[Change]
    is_odd: NDArray[np.bool_]


def change_series(series: Series, seed: int) -> ChangedSeries:
    """The same for the same seed."""
    random = np.random.default_rng((seed, len(series.calls), series.step, int(series.calls.sum()) % 1_000_003))
    usual = _smooth(series)
    is_odd = _find_odd(series, usual)
    calls, changes = series.calls.copy(), list[Change]()
    apart, first = _APART_SECONDS // series.step, 2 * len(calls) // 5
    is_taken = np.zeros(len(calls), np.bool_)
    kinds = list(random.permutation(KINDS))
    for kind in (kinds * 2)[:_EVENTS]:
        for _ in range(60):
            length = round(random.uniform(*_MINUTES[kind]) * 60 / series.step)
            length = max(length, 1 if kind == "spike" else 2)
            start = int(random.integers(first, len(calls) - length - 6))
            end = start + length - 1
            near = slice(max(start - 3, 0), end + 4)
            wanted = _apply(kind, random, calls[start : end + 1], float(series.calls.mean()))
            moved = float(np.abs(wanted - calls[start : end + 1]).sum())
            is_seen = moved >= _SEEN_DEVIATIONS * np.sqrt(usual[start : end + 1].sum() + 1)
            if is_odd[near].any() or is_taken[max(start - apart, 0) : end + apart + 1].any() or not is_seen:
                continue
            calls[start : end + 1] = wanted
            is_taken[start : end + 1] = True
            changes.append(Change(kind=kind, start=start, end=end))
            break
    changed = Series(source=series.source, name=series.name, step=series.step, start=series.start, calls=calls)
    return ChangedSeries(series=changed, changes=changes, is_odd=is_odd)


def _apply(kind: str, random: np.random.Generator, calls: F64, mean: float) -> F64:
    """What these calls become."""
    match kind:
        case "outage":
            return np.zeros(len(calls))
        case "drop":
            return random.binomial(calls.astype(np.int64), random.uniform(0.05, 0.3)).astype(np.float64)
        case "scan":
            return calls + random.poisson(mean * random.uniform(0.8, 2.2), len(calls))
        case "ramp":
            factor = np.linspace(1, random.uniform(2.2, 3), len(calls) + 1)[1:]
        case "spike":
            factor = np.full(len(calls), random.uniform(3.5, 8.5))
        case "burst":
            factor = np.full(len(calls), random.uniform(1.9, 2.9))
        case _:
            factor = np.full(len(calls), random.uniform(1.85, 2.4))
    return np.round(calls * factor)


def _smooth(series: Series) -> F64:
    """What a bucket usually has: the median of the same time of day in the days around it."""
    day, calls = DAY // series.step, series.calls
    padded = np.pad(calls, 8 * day, mode="wrap")
    rows = [padded[8 * day + shift : 8 * day + shift + len(calls)] for shift in _list_shifts(series.step, day)]
    usual: F64 = np.median(np.stack(rows), axis=0)
    return usual


def _list_shifts(step: int, day: int) -> list[int]:
    """The same time of the days around, and what is within a quarter of an hour of it."""
    near = sorted({0, -min(900 // step, 10), min(900 // step, 10)})
    return [days * day + shift for days in (-7, -2, -1, 1, 2, 7) for shift in near]


def _find_odd(series: Series, usual: F64) -> NDArray[np.bool_]:
    """Buckets, and those within three of them, far from the same time of the days around, by the hour's own noise."""
    width = np.maximum(np.sqrt(usual + 1), 1.0)
    residual = (series.calls - usual) / width
    spread = 1.4826 * float(np.median(np.abs(residual)))
    lasting = np.convolve(residual, np.ones(3) / 3, mode="same")
    is_far = np.abs(lasting) > _ODD_DEVIATIONS * max(spread, 0.7)
    is_far |= np.abs(residual) > 1.5 * _ODD_DEVIATIONS * max(spread, 0.7)
    is_odd: NDArray[np.bool_] = np.convolve(is_far, np.ones(7), mode="same") > 0.5
    return is_odd
