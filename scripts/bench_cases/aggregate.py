"""What summing calls costs, all in: early rows, the window's end, wire batches as bytes.

    scripts/bench aggregate [--calls 100000] [--windows 5]

A window of 10 s holds all the calls, evenly, each with a random object; polled each second, as the sensor does. The
first window, in which everything is new, is told apart from the best of the later ones. Process time, in seconds per
100,000 calls. `peak_mb` is what tracemalloc saw allocated at once, in a run of its own at ten times the calls.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sensor.aggregate.aggregator import SECOND_NS, Aggregator
from sensor.aggregate.dictionary import ActorFacts, Facts
from sensor.aggregate.rows import RowColumns
from sensor.core.calls import (
    AuthenticationKind,
    CallFlag,
    Calls,
    Hop,
    PrincipalKind,
    Role,
    Route,
    Segment,
    SegmentKind,
    Service,
    WorkloadKind,
    make_calls,
)
from sensor.export.convert import BatchConverter

WINDOW_SECONDS = 10
START_NS = 1_800_000_000 * SECOND_NS
SERVICE = Service(
    cluster="", namespace="", workload="shop", workload_kind=WorkloadKind.PROCESS, host_name="node", port=8080
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How many different callers and routes share the calls."""

    name: str
    consumers: int
    routes: int


SCENARIOS = (
    Scenario(name="1_consumer", consumers=1, routes=1),
    Scenario(name="500_consumers", consumers=500, routes=1),
    Scenario(name="10000_consumers", consumers=10_000, routes=1),
    Scenario(name="10000_routes", consumers=1, routes=10_000),
    Scenario(name="100_routes_100_consumers", consumers=100, routes=100),
)


def make_route(number: int) -> Route:
    """One of many endpoints."""
    segments = (
        Segment(SegmentKind.LITERAL, text="api"),
        Segment(SegmentKind.LITERAL, text=f"things{number}"),
        Segment(SegmentKind.INTEGER),
    )
    return Route(
        route_id=number + 1,
        service=SERVICE,
        host="shop.example",
        method="GET",
        segments=segments,
        has_trailing_slash=False,
    )


def make_actor(number: int) -> ActorFacts:
    """One of many callers."""
    return ActorFacts(
        number + 1,
        PrincipalKind.TOKEN,
        number + 1,
        False,
        f"192.0.{number // 250 % 250}.{number % 250}",
        "",
        AuthenticationKind.BEARER_OPAQUE,
        "1.1",
        "",
    )


def make_window(scenario: Scenario, facts: Facts, calls_count: int, seed: int) -> Calls:
    """The calls of one window, in order of time from 0."""
    source = np.random.default_rng(seed)
    calls = make_calls(calls_count)
    calls["time_unix_ns"] = np.arange(calls_count) * (WINDOW_SECONDS * SECOND_NS // calls_count)
    routes = np.array([facts.route(make_route(number)) for number in range(scenario.routes)])
    actors = np.array([facts.actor(make_actor(number)) for number in range(scenario.consumers)])
    calls["route"] = routes[source.integers(0, scenario.routes, calls_count)]
    calls["actor"] = actors[source.integers(0, scenario.consumers, calls_count)]
    calls["object"] = source.integers(1, 2**64, calls_count, np.uint64)
    calls["number"] = source.integers(0, 10**6, calls_count)
    calls["status"] = source.choice([200, 200, 200, 200, 404], calls_count)
    calls["response_type"] = facts.media_type("application/json")
    calls["role"], calls["hop"] = Role.SERVER, Hop.ENDPOINT
    calls["flags"], calls["calls"] = CallFlag.FINAL.value, 1
    calls["request_bytes"] = source.integers(200, 900, calls_count)
    calls["response_bytes"] = source.lognormal(7, 1, calls_count)
    calls["ttfb_us"] = source.lognormal(7, 1, calls_count)
    calls["duration_us"] = calls["ttfb_us"] + np.uint64(50)
    return calls


class Sensor:
    """The end of a sensor's way: aggregator and converter, played window by window."""

    def __init__(self) -> None:
        self.aggregator = Aggregator()
        self._converter = BatchConverter(node="node", boot_id="boot")
        self.rows = self.batches = self.bytes = 0

    def play(self, calls: Calls, window: int) -> None:
        """One window: ten seconds of calls, each polled when it has ended."""
        start_ns = START_NS + window * WINDOW_SECONDS * SECOND_NS
        ends = np.searchsorted(calls["time_unix_ns"], np.arange(1, WINDOW_SECONDS + 1) * SECOND_NS)
        calls["time_unix_ns"] += start_ns
        taken = 0
        for second, end in enumerate(ends.tolist(), 1):
            self.aggregator.add_calls(calls[taken:end])
            taken = end
            self._convert(self.aggregator.poll(start_ns + second * SECOND_NS))
        calls["time_unix_ns"] -= start_ns

    def _convert(self, rows: RowColumns) -> None:
        batches = self._converter.convert(
            rows, key_id=1, policy_epoch=1, clock_segment=0, lost_calls_total=0, seen_calls_total=0
        )
        self.rows += len(rows)
        self.batches += len(batches)
        self.bytes += sum(len(batch.payload) for batch in batches)


def measure_peak(scenario: Scenario, calls_count: int) -> float:
    """Megabytes that the second of two windows had allocated at most, beyond its input and the facts."""
    sensor = Sensor()
    calls = make_window(scenario, sensor.aggregator.facts, calls_count, 0)
    tracemalloc.start()
    for window in range(2):
        sensor.play(calls, window)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak_bytes / 1e6


def run(calls_count: int, windows: int) -> Iterator[dict[str, object]]:
    """One line a scenario."""
    for scenario in SCENARIOS:
        sensor = Sensor()
        inputs = [make_window(scenario, sensor.aggregator.facts, calls_count, seed) for seed in range(windows)]
        seconds = []
        for window, calls in enumerate(inputs):
            start = time.process_time()
            sensor.play(calls, window)
            seconds.append((time.process_time() - start) * 100_000 / calls_count)
        yield {
            "scenario": scenario.name,
            "cpu_s_per_100k": round(min(seconds[1:]), 4),
            "first_window": round(seconds[0], 4),
            "rows_per_window": sensor.rows // windows,
            "batches_per_window": round(sensor.batches / windows, 1),
            "bytes_per_call": round(sensor.bytes / windows / calls_count, 1),
            "peak_mb": round(measure_peak(scenario, 10 * calls_count), 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench aggregate")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--windows", type=int, default=5, help="at least 2")
    options = parser.parse_args()
    for line in run(options.calls, options.windows):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
