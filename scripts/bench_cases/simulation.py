"""Alerts a day of a whole installation: 30 days, 1,000 endpoints, 50,000 pairs, heavy-tailed bursts and deploys.

    scripts/bench simulation [--days 30] [--endpoints 1000] [--pairs 50000] [--step 60] [--seed 1] [--changes]
        [--clocks-change DAY [--zone-unknown]] [--pauses] [--fall DAY] [--memory]

Rows of one `step` go to the engine as batches and its signals through the lifecycle, as in the product. With a step
of 60 s the 10 s detectors see no rows (a merged row says nothing of a shorter window), so the run judges windows of 1
min, 5 min and 1 h; `--step 10` runs all of them. It prints a JSON line: alerts a day by kind, the worst day, what was
held back, CPU. With `--changes` the installation changes too (simulating/changes.py): new endpoints, consumers, classes
of data, hosts outside, logins that go; what is told of them shares the budget. With `--clocks-change` callers live by
the clocks of Berlin, which change to summer time on that day, and a fifth of the endpoints has office hours, from eight
sharp; the collector's zone is theirs, or UTC with `--zone-unknown`. Alerts of that day and the next are told by
themselves. With `--pauses` callers stop for good reasons (simulating/pauses.py); with `--fall` one that calls day and
night falls silent at noon of that day, for a day, and after how many hours it is told is printed, and whether that day
many rested (then nobody is told). With `--memory` also
what the engine has allocated for each live pair, endpoints and consumers included, as tracemalloc counts it; that slows
the run, so its times say nothing.
"""

import argparse
import collections
import gc
import itertools
import json
import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal, Direction, Report, Signal
from collector.alerting.detection import PastReport, keep_report, preview_levels
from collector.alerting.filter import ReportFilter, take_report
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.core.rates import UTC_NAME, LocalTime
from collector.core.rows import Ragged, Route, Segment, Service
from collector.detection.engine import Engine
from collector.storage.columns import RowBatch, fill_columns
from scripts.bench_cases.simulating.changes import Changes
from scripts.bench_cases.simulating.pauses import Pauses

START = 1_700_006_400  # A midnight.
ZONE = "Europe/Berlin"
SUMMER = 1_711_843_200  # The midnight before its clocks change, 31 March 2024.
_OFFICE_SHARE = 0.2  # Of endpoints, where clocks change.
_OFFICE_HOURS = (8, 18)
_OFFICE_FACTOR = 6.0  # To the other hours.
_DAY = 86_400
_DEPLOYS_A_DAY = 5.0
_TROUBLES_A_DAY = 0.1  # Of an endpoint.
_ENDPOINTS_A_SERVICE = 10
_FAILING_A_DAY = 0.02  # Of an endpoint: for half an hour a fifth of its calls fails.
_FAILING_SHARE = 0.2
_DRIFT = 0.02  # Standard deviation of an hour's change of an endpoint's latency, natural logarithm.
_BATCH_ROWS = 10_000
_OBJECTS = 200  # That a pair chooses from.


@dataclass(kw_only=True)
class Traffic:
    """Pairs with log-normal rates, a day's rhythm, Pareto bursts, and deploys: an endpoint's level shifts, new pairs
    appear, its latency shifts. Some endpoints become slow or fail for half an hour."""

    random: np.random.Generator
    endpoints: int
    pairs: int
    step: int
    clocks: LocalTime | None = None  # That callers live by; None: UTC, and no office has hours.

    def __post_init__(self) -> None:
        first_new = max(self.pairs // 5, 1)
        self.endpoint = self.random.integers(0, self.endpoints, self.pairs)
        self.consumer = self.random.integers(1, first_new + 1, self.pairs)
        self.rate = self.random.lognormal(np.log(0.002), 1.5, self.pairs)  # Calls a second.
        self.shift = np.ones(self.endpoints)
        self.next_consumer = first_new + 1
        # Draws of their own: what is called is as it is without them.
        self.costs = costs = np.random.default_rng(self.random.bit_generator.seed_seq.spawn(1)[0])  # type: ignore[attr-defined]
        self.microseconds = costs.lognormal(np.log(20_000), 1, self.endpoints)  # Of a call.
        self.bytes = costs.lognormal(np.log(2_000), 1.5, self.endpoints)
        self._slow_until = np.zeros(self.endpoints)
        # More draws of their own, so that costs are as they were.
        self.troubles = troubles = np.random.default_rng(self.random.bit_generator.seed_seq.spawn(1)[0])  # type: ignore[attr-defined]
        self.errors = troubles.beta(0.5, 60, self.endpoints)  # Share of calls that fail.
        self.drift = np.zeros(self.endpoints)
        self._failing_until = np.zeros(self.endpoints)

    def cost(self, pairs: np.ndarray, calls: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds and bytes of the `calls` of `pairs`: calls differ by a log-normal factor, and an endpoint is
        20 times as slow for half an hour now and then."""
        endpoint = self.endpoint[pairs]
        spread = np.exp(self.costs.normal(0, 1, (2, len(pairs))) / np.sqrt(calls))
        slow = np.where(self._slow_until[endpoint] > at, 20.0, 1.0)
        # Servers are slower when they are busy.
        day = 1 + 0.3 * np.sin(2 * np.pi * (at % _DAY / _DAY - 0.3))
        times = calls * self.microseconds[endpoint] * np.exp(self.drift[endpoint]) * day * slow * spread[0]
        return times.astype(np.uint64), (calls * self.bytes[endpoint] * spread[1]).astype(np.uint64)

    def fail(self, pairs: np.ndarray, at: int) -> np.ndarray:
        """Status of the rows of `pairs`. Errors come in clusters, all calls of a row or none; one in four is of the
        caller's doing (422), the others are 500."""
        endpoint = self.endpoint[pairs]
        share = np.where(self._failing_until[endpoint] > at, _FAILING_SHARE, 0) + self.errors[endpoint]
        is_failed = self.troubles.random(len(pairs)) < share
        is_client = self.troubles.random(len(pairs)) < 0.25
        return np.where(is_failed, np.where(is_client, 422, 500), 200).astype(np.uint32)

    def trouble(self, at: int) -> None:
        """Some endpoints become slow, some fail, and all drift."""
        chance = _TROUBLES_A_DAY * self.step / _DAY
        self._slow_until[self.costs.random(self.endpoints) < chance] = at + 1_800
        chance = _FAILING_A_DAY * self.step / _DAY
        self._failing_until[self.troubles.random(self.endpoints) < chance] = at + 1_800
        step = _DRIFT * np.sqrt(self.step / 3_600)
        self.drift = 0.999 * self.drift + self.troubles.normal(0, step, self.endpoints)

    def deploy(self) -> None:
        """One endpoint changes by a factor for good; a tenth of its pairs are replaced by new consumers."""
        endpoint = int(self.random.integers(0, self.endpoints))
        self.shift[endpoint] = np.clip(self.shift[endpoint] * self.random.choice([0.4, 0.6, 1.6, 2.5]), 0.1, 10)
        self.microseconds[endpoint] *= self.troubles.choice([0.6, 0.8, 1.3, 1.8])
        own = np.flatnonzero(self.endpoint == endpoint)
        fresh = own[self.random.random(len(own)) < 0.1]
        self.consumer[fresh] = np.arange(self.next_consumer, self.next_consumer + len(fresh))
        self.next_consumer += len(fresh)

    def count(self, at: int) -> np.ndarray:
        """Calls of each pair in the step that starts at `at`."""
        clock = at if self.clocks is None else self.clocks.read(at)
        rhythm = 1 + 0.7 * np.sin(2 * np.pi * (clock % _DAY / _DAY - 0.3))
        mean = self.rate * self.shift[self.endpoint] * rhythm * self.step
        if self.clocks is not None:
            is_open = _OFFICE_HOURS[0] <= clock % _DAY // 3_600 < _OFFICE_HOURS[1]
            mean[self.endpoint < _OFFICE_SHARE * self.endpoints] *= _OFFICE_FACTOR if is_open else 1.0
        bursts = self.random.random(self.pairs) < 0.002
        mean[bursts] *= 1 + self.random.pareto(1.5, int(bursts.sum()))
        return self.random.poisson(np.minimum(mean, 1e6))


def make_batch(traffic: Traffic, pairs: np.ndarray, calls: np.ndarray, at: int) -> RowBatch:
    """Rows of some pairs; each touches up to eight objects of its own pool."""
    n = len(pairs)
    microseconds, size = traffic.cost(pairs, calls, at)
    used, route = np.unique(traffic.endpoint[pairs], return_inverse=True)
    services = [
        Service(cluster="", namespace="", workload=f"w{number}", workload_kind=3, host_name="h", port=1)
        for number in range(traffic.endpoints // _ENDPOINTS_A_SERVICE + 1)
    ]
    routes = tuple(
        Route(
            route_id=int(endpoint) + 1,
            service=services[int(endpoint) // _ENDPOINTS_A_SERVICE],
            host="h",
            method="GET",
            segments=(Segment(1, f"e{endpoint}", 0, 0),),
            has_trailing_slash=False,
        )
        for endpoint in used
    )
    lengths = np.minimum(calls, 8)
    pool = traffic.random.integers(0, _OBJECTS, int(lengths.sum())).astype(np.uint64)
    hashes = (pool + np.repeat(pairs, lengths).astype(np.uint64) * np.uint64(_OBJECTS)) * np.uint64(0x9E3779B97F4A7C15)
    ones = np.ones(n, np.uint32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = fill_columns(
        n, principal=traffic.consumer[pairs].astype(np.uint64), principal_kind=ones,
        status_code=traffic.fail(pairs, at), role=ones, hop=ones, calls=calls.astype(np.uint64), response_bytes=size,
        duration_sum_us=microseconds, objects_count=lengths.astype(np.uint64),
        objects=Ragged(offsets=offsets, values=hashes, counts=np.zeros(0, np.uint64)),
    )  # fmt: skip
    return RowBatch(
        node="n", boot_id="b", sequence=1, key_id=1, policy_epoch=0, clock_segment=0, lost_calls=0,
        seen_calls=int(calls.sum()), strings=("",), routes=routes, route=route.astype(np.uint32),
        route_id=(traffic.endpoint[pairs] + 1).astype(np.uint64), window_start=ones * np.uint32(at),
        window_length=ones * np.uint32(traffic.step), **columns,
    )  # fmt: skip


class Desk:
    """Reports through the life of alerts, at the level normal; what they would have been at others."""

    def __init__(self, start: int) -> None:
        """`start` of its first day, unix seconds."""
        self._start = start
        ids = itertools.count()
        self.lifecycle, self._sieve = Lifecycle(new_id=lambda: str(next(ids))), ReportFilter()
        self.past: list[PastReport] = []
        self.opened: dict[str, tuple[AlertKind, int]] = {}  # Kind and day.
        self.suppressed: dict[int, int] = {}  # Up to the end of each day.

    def take(self, reports: Iterable[Report], now: int) -> None:
        """Reports of one step."""
        for report in reports:
            judged, alert = take_report(report, self._sieve, self.lifecycle, now)
            self.past.append(keep_report(judged, now))
            if alert is not None:
                self.opened.setdefault(alert.id, (alert.kind, (now - 1 - self._start) // _DAY))

    def advance(self, now: int) -> None:
        """A step is over."""
        self.lifecycle.advance(now)
        self.suppressed[(now - 1 - self._start) // _DAY] = self.lifecycle.suppressed_count


def simulate(
    *,
    days: float,
    endpoints: int,
    pairs: int,
    step: int,
    seed: int,
    changes: bool = False,
    memory: bool = False,
    clocks_change: int | None = None,
    zone_unknown: bool = False,
    pauses: bool = False,
    fall: int | None = None,
) -> dict[str, object]:
    """Run and count."""
    random = np.random.default_rng(seed)
    start = START if clocks_change is None else SUMMER - clocks_change * _DAY
    clocks = None if clocks_change is None else LocalTime(ZONE)
    traffic = Traffic(random=random, endpoints=endpoints, pairs=pairs, step=step, clocks=clocks)
    if memory:
        tracemalloc.start()
    engine, desk = Engine(time_zone=UTC_NAME if clocks is None or zone_unknown else ZONE), Desk(start)
    world = Changes(seed=seed, endpoints=endpoints, endpoints_a_service=_ENDPOINTS_A_SERVICE, start=start)
    # Draws of its own: what is called is as it is without.
    resting = Pauses(
        random=np.random.default_rng(random.bit_generator.seed_seq.spawn(1)[0]),  # type: ignore[attr-defined]
        consumer=traffic.consumer,
        rate=traffic.rate,
        start=start,
        step=step,
        fall_day=fall,
        has_reasons=pauses,
    )
    falls: list[tuple[str, int]] = []  # Consumers that are told to call less, and when.
    began, rows, detector_seconds, signals_count = time.process_time(), 0, 0.0, 0
    for at in range(start, start + int(days * _DAY), step):
        for _ in range(random.poisson(_DEPLOYS_A_DAY * step / _DAY)):
            traffic.deploy()
        traffic.trouble(at)
        traffic.next_consumer = resting.change(at, traffic.consumer, traffic.next_consumer)
        counts = resting.thin(at, traffic.count(at), traffic.consumer)
        active = np.flatnonzero(counts)
        for first in range(0, len(active), _BATCH_ROWS):
            chosen = active[first : first + _BATCH_ROWS]
            batch = make_batch(traffic, chosen, counts[chosen], at)
            rows += len(batch)
            mark = time.process_time()
            signals = engine.feed(batch, at + step)
            detector_seconds += time.process_time() - mark
            signals_count += len(signals)
            falls += [(consumer, at + step) for consumer in _list_fallen(signals)]
            desk.take((report_signal(signal) for signal in signals), at + step)
        if changes:
            desk.take(world.look(at + step), at + step)
        desk.advance(at + step)
    by_day = collections.Counter(day for _, day in desk.opened.values())
    by_kind = collections.Counter(kind for kind, _ in desk.opened.values())
    held_back, live_pairs = engine.held_back_count, len(engine.subjects.pairs)
    figures: dict[str, object] = {}
    if memory:
        allocated = _count_allocated()
        del engine
        figures = {"live_pairs": live_pairs, "bytes_a_live_pair": round((allocated - _count_allocated()) / live_pairs)}
        tracemalloc.stop()
    if clocks_change is not None:
        both = by_day[clocks_change] + by_day[clocks_change + 1]
        before, after = (desk.suppressed.get(day, 0) for day in (clocks_change - 1, clocks_change + 1))
        figures |= {"alerts_as_clocks_change": both, "suppressed_as_clocks_change": after - before}
    if fall is not None:
        begin = start + fall * _DAY + 12 * 3_600
        told = [at for consumer, at in falls if resting.fallen and consumer == f"principal:{resting.fallen:016x}"]
        figures |= {"may_fall": len(resting.eligible), "fell_on_holiday": resting.fell_on_holiday}
        figures |= {"told_after_hours": (told[0] - begin) / 3_600 if told else None}
    return figures | {
        "consumers_told_to_call_less": len({consumer for consumer, _ in falls}),
        "days": days,
        "endpoints": endpoints,
        "pairs": pairs,
        "step_seconds": step,
        "rows": rows,
        "alerts_a_day": round(len(desk.opened) / days, 3),
        "worst_day": max(by_day.values(), default=0),
        "alerts_a_day_by_kind": {kind: round(count / days, 3) for kind, count in by_kind.items()},
        "alerts_a_day_by_level": {
            one.level.value: round(one.alerts_a_day, 3) for one in preview_levels(desk.past, days * _DAY)
        },
        "suppressed": desk.lifecycle.suppressed_count,
        "held_back": held_back,
        "signals": signals_count,
        "detector_microseconds_a_row": round(detector_seconds / max(rows, 1) * 1e6, 3),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _list_fallen(signals: Iterable[Signal]) -> list[str]:
    return [
        signal.consumer
        for signal in signals
        if isinstance(signal, AlertSignal) and signal.consumer and signal.direction is Direction.BELOW
    ]


def _count_allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--endpoints", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--step", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--clocks-change", type=int, metavar="DAY")
    parser.add_argument("--zone-unknown", action="store_true")
    parser.add_argument("--pauses", action="store_true")
    parser.add_argument("--fall", type=int, metavar="DAY")
    parser.add_argument("--memory", action="store_true")
    print(json.dumps(simulate(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
