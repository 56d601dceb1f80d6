"""Series of request rates: made ones by family, and recorded ones from files.

A family is one way in which services are called; its parameters are drawn by seed. Levels are log-uniform, buckets are
1 min, 5 min or 1 h, and the length is 14 to 42 days, at most 20,000 buckets.

| family | calls a second | arrivals | season |
|---|---|---|---|
| poisson | 0.01-1,000 | Poisson | day, week |
| clumped | 0.05-500 | gamma-Poisson of shape 2-50, its level wanders for hours | day, week |
| sessions | 0.02-50 | visits of a geometric number of calls; rare peaks that fade | day |
| jobs | 0.02-20 | Poisson, and jobs each 5 to 60 minutes that vary little | none, nightly jobs |
| machines | 0.05-200 | calls at fixed intervals, less uneven than Poisson | none |
| releases | 0.1-100 | gamma-Poisson; the level changes by up to a quarter each few days | day, week |
"""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
DAY, HOUR = 86_400, 3_600
STEPS = (60, 300, HOUR)
_START = 1_767_571_200  # Monday, 5 January 2026.
_BUCKETS_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Calls by bucket."""

    source: str  # Family, or who recorded it.
    name: str
    step: int  # Seconds.
    start: int  # Unix seconds, a multiple of `step`.
    calls: F64


def make_series(seed: int, per_family: int) -> Iterator[Series]:
    """`per_family` of each family; the same for the same seed."""
    for place, (family, make) in enumerate(_FAMILIES.items()):
        for number in range(per_family):
            random = np.random.default_rng((seed, place, number))
            step = STEPS[number % len(STEPS)]
            days = min(float(random.uniform(14, 42)), _BUCKETS_MAX * step / DAY)
            start = _START + int(random.integers(0, 7 * DAY // HOUR)) * HOUR
            times = start + step * np.arange(int(days * DAY) // step)
            yield Series(source=family, name=str(number), step=step, start=start, calls=make(random, times, step))


def read_series(directory: Path) -> Iterator[Series]:
    """From files `SOURCE__NAME__STEP.csv` with columns `t,count` (unix seconds, one row a bucket)."""
    for path in sorted(directory.glob("*__*__*.csv")):
        source, name, step = path.stem.split("__")
        with path.open(newline="") as file:
            rows = [(int(row["t"]), float(row["count"])) for row in csv.DictReader(file)]
        first = rows[0][0] // int(step)
        calls = np.zeros(rows[-1][0] // int(step) - first + 1)
        for at, count in rows:
            calls[at // int(step) - first] += count
        yield Series(source=source, name=name, step=int(step), start=first * int(step), calls=calls)


def _draw_level(random: np.random.Generator, low: float, high: float) -> float:
    """Calls a second."""
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _draw_rhythm(random: np.random.Generator, times: NDArray[np.int64], *, has_weeks: bool) -> F64:
    """A factor by bucket, of mean one: hours of the day, and weekends."""
    depth, phase, second = random.uniform(0, 0.85), random.uniform(0, 1), random.uniform(0, 0.4)
    day = 2 * math.pi * (times / DAY - phase)
    rhythm = np.exp(depth * (np.cos(day) + second * np.cos(2 * day + 1)))
    if has_weeks:
        is_weekend = (times // DAY + 4) % 7 % 6 == 0
        rhythm = np.where(is_weekend, random.uniform(0.3, 1.2) * rhythm, rhythm)
    rhythm /= rhythm.mean()
    return rhythm


def _wander(random: np.random.Generator, count: int, step: int, spread: float, hours: float) -> F64:
    """A factor that returns to one within `hours`."""
    keep = math.exp(-step / (hours * HOUR))
    shocks = random.normal(0, spread * math.sqrt(1 - keep * keep), count)
    level = np.empty(count)
    value = random.normal(0, spread)
    for place, shock in enumerate(shocks.tolist()):
        value = keep * value + shock
        level[place] = value
    wandering: F64 = np.exp(level - spread * spread / 2)
    return wandering


def _make_poisson(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    mean = _draw_level(random, 0.01, 1_000) * step * _draw_rhythm(random, times, has_weeks=True)
    return random.poisson(mean).astype(np.float64)


def _make_clumped(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    mean = _draw_level(random, 0.05, 500) * step * _draw_rhythm(random, times, has_weeks=True)
    mean *= _wander(random, len(times), step, random.uniform(0.03, 0.2), random.uniform(1, 12))
    shape = _draw_level(random, 2, 50) * step / 60
    return random.poisson(mean * random.gamma(shape, 1 / shape, len(times))).astype(np.float64)


def _make_sessions(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    size = random.uniform(3, 40)
    visits = random.poisson(_draw_level(random, 0.02, 50) * step / size * _draw_rhythm(random, times, has_weeks=False))
    calls = visits + random.negative_binomial(np.maximum(visits, 1), 1 / size) * (visits > 0)
    usual = float(np.mean(calls))
    for at in random.integers(0, len(times), random.poisson(len(times) * step / (5 * DAY))):
        length = random.uniform(0.2, 2) * HOUR / step
        fading = np.exp(-np.arange(min(len(times) - at, int(5 * length) + 1)) / max(length, 0.3))
        calls[at : at + len(fading)] += random.poisson(usual * random.pareto(2.5) * fading)
    return calls.astype(np.float64)


def _make_jobs(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    rate = _draw_level(random, 0.02, 20)
    calls = random.poisson(rate * random.uniform(0.05, 0.5) * step, len(times)).astype(np.float64)
    for _ in range(int(random.integers(1, 4))):
        period = int(random.choice([300, 600, 900, 1_800, HOUR]))
        at = times[0] + int(random.integers(0, period)) + period * np.arange((times[-1] - times[0]) // period)
        amounts = random.poisson(rate * period * random.uniform(0.2, 1), len(at))
        np.add.at(calls, (at - times[0]) // step, amounts)
    hour = int(random.integers(0, 24))
    is_night = (times // HOUR) % 24 == hour
    calls[is_night] += random.poisson(rate * step * random.uniform(0.5, 3), int(is_night.sum()))
    return calls


def _make_machines(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    mean = _draw_level(random, 0.05, 200) * step
    calls = np.round(mean + random.normal(0, math.sqrt(mean) * random.uniform(0.05, 0.6), len(times)))
    return np.maximum(calls, 0.0)


def _make_releases(random: np.random.Generator, times: NDArray[np.int64], step: int) -> F64:
    level = np.full(len(times), _draw_level(random, 0.1, 100) * step)
    for at in random.integers(0, len(times), random.poisson(len(times) * step / (4 * DAY))):
        level[at:] *= random.uniform(0.8, 1.25)
    shape = _draw_level(random, 5, 100) * step / 60
    mean = level * _draw_rhythm(random, times, has_weeks=True) * random.gamma(shape, 1 / shape, len(times))
    return random.poisson(mean).astype(np.float64)


_FAMILIES: dict[str, Callable[[np.random.Generator, NDArray[np.int64], int], F64]] = {
    "poisson": _make_poisson,
    "clumped": _make_clumped,
    "sessions": _make_sessions,
    "jobs": _make_jobs,
    "machines": _make_machines,
    "releases": _make_releases,
}
