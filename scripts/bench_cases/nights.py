"""Callers that call at night what is ordinary by day: how many are told, and what else is.

    scripts/bench nights [--seeds 1-3] [--days 11] [--from-day 7] [--factor 4] [--mixed]

Busy pairs whose calls follow the day (night a sixth of the peak), with Pareto bursts and deploys, in steps of five
minutes. From `--from-day` on one pair calls, from one to half past one and from three to half past three each night,
`--factor` times what it calls at its peak. With `--mixed` a tenth of the pairs call evenly, one in twenty for an hour
of a night only, and bursts are as large at night as by day. It prints a JSON line a seed: the nights' callers, those
told as `volume_pair` or `volume_consumer` at each level or a quieter one, and what is told of others meanwhile.
"""

import argparse
import collections
import json
import time
from dataclasses import dataclass

import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal, Direction
from collector.core.kinds import LEVELS, RANKS
from collector.detection.engine import Engine
from scripts.bench_cases.simulation import START, Traffic, make_batch
from scripts.seeds import read_seeds

_DAY, _HOUR, _STEP = 86_400, 3_600, 300
_ENDPOINTS, _PAIRS, _BUSY = 30, 300, 80.0  # Times the rates of the simulation: what is below the prior is the prior's.
_DEPLOYS_A_DAY = 2.0
_NIGHT_HOURS, _NIGHT_SECONDS = (1, 3), 1_800
_PEAK = 1.7  # Of the day's rhythm, times the mean.
_CALLS_LEAST = 400  # Of a pair in five minutes of its peak, to be chosen.
_EVEN, _JOBS = 0.1, 0.05  # Shares of pairs.
_KINDS = (AlertKind.VOLUME_PAIR, AlertKind.VOLUME_CONSUMER)


@dataclass(kw_only=True)
class Nights:
    """Traffic, and who calls in which night."""

    traffic: Traffic
    seed: int
    from_day: int
    days: int
    factor: float
    is_mixed: bool

    def __post_init__(self) -> None:
        self.traffic.rate *= _BUSY
        draws = np.random.default_rng(self.seed + 1_000)  # Of its own: what others call is as it is without.
        kind = np.where(self.is_mixed, draws.random(_PAIRS), 1.0)
        self._even, self._job = kind < _EVEN, (kind >= _EVEN) & (kind < _EVEN + _JOBS)
        self._job_hour = draws.integers(0, 6, _PAIRS)
        is_busy = self.traffic.rate * _STEP * _PEAK > _CALLS_LEAST
        candidates = np.flatnonzero(is_busy & ~self._even & ~self._job)
        self.chosen = {
            START + day * _DAY + hour * _HOUR: int(draws.choice(candidates))
            for day in range(self.from_day, self.days)
            for hour in _NIGHT_HOURS
        }

    def count(self, at: int) -> np.ndarray:
        """Calls of each pair in the step that starts at `at`."""
        traffic, random = self.traffic, self.traffic.random
        rhythm = np.full(_PAIRS, 1 + 0.7 * np.sin(2 * np.pi * (at % _DAY / _DAY - 0.3)))
        rhythm[self._even] = 1.0
        rhythm[self._job] = np.where(self._job_hour[self._job] == at % _DAY // _HOUR, 4.0, 0.02)
        usual = traffic.rate * traffic.shift[traffic.endpoint] * _STEP
        mean = usual * rhythm
        bursts = random.random(_PAIRS) < 0.002
        mean[bursts] += (usual if self.is_mixed else mean)[bursts] * random.pareto(1.5, int(bursts.sum()))
        counts: np.ndarray = random.poisson(np.minimum(mean, 1e6))
        for begin, pair in self.chosen.items():
            if begin <= at < begin + _NIGHT_SECONDS:
                counts[pair] = random.poisson(usual[pair] * _PEAK * self.factor)
        return counts

    def find_night(self, signal: AlertSignal) -> int | None:
        """When the night's call began that a signal is about; None: of another."""
        for begin, pair in self.chosen.items():
            is_then = -signal.window_seconds < signal.window_start - begin < _NIGHT_SECONDS
            if is_then and signal.consumer == f"principal:{self.traffic.consumer[pair]:016x}":
                return begin
        return None


def run_nights(*, seed: int, days: int, from_day: int, factor: float, mixed: bool) -> dict[str, object]:
    """Run and count."""
    random = np.random.default_rng(seed)
    traffic = Traffic(random=random, endpoints=_ENDPOINTS, pairs=_PAIRS, step=_STEP)
    nights = Nights(traffic=traffic, seed=seed, from_day=from_day, days=days, factor=factor, is_mixed=mixed)
    engine, rows, seconds = Engine(), 0, 0.0
    told: dict[int, int] = {}  # By night, rank of the quietest level.
    others: collections.Counter[str] = collections.Counter()
    for at in range(START, START + days * _DAY, _STEP):
        for _ in range(random.poisson(_DEPLOYS_A_DAY * _STEP / _DAY)):
            traffic.deploy()
        traffic.trouble(at)
        counts = nights.count(at)
        active = np.flatnonzero(counts)
        batch = make_batch(traffic, active, counts[active], at)
        rows, mark = rows + len(batch), time.process_time()
        signals = engine.feed(batch, at + _STEP)
        seconds += time.process_time() - mark
        for signal in signals:
            if not isinstance(signal, AlertSignal) or signal.kind not in _KINDS or signal.direction is Direction.BELOW:
                continue
            night = nights.find_night(signal)
            if night is not None:
                told[night] = min(told.get(night, len(LEVELS)), RANKS[signal.quietest])
            elif at >= START + from_day * _DAY:
                others[signal.quietest.value] += 1
    by_level = {level.value: sum(rank <= RANKS[level] for rank in told.values()) for level in LEVELS}
    return {
        "seed": seed,
        "nights": len(nights.chosen),
        "told_by_level": by_level,
        "signals_of_others": dict(others),
        "detector_microseconds_a_row": round(seconds / max(rows, 1) * 1e6, 2),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", "--seed", type=read_seeds, default=range(1, 4), help="one, or from-to")
    parser.add_argument("--days", type=int, default=11)
    parser.add_argument("--from-day", type=int, default=7)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--mixed", action="store_true")
    arguments = vars(parser.parse_args())
    for seed in arguments.pop("seeds"):
        print(json.dumps(run_nights(seed=seed, **arguments)), flush=True)


if __name__ == "__main__":
    main()
