"""The simulation bench, scaled down: deterministic, and within the installation's budget."""

import tracemalloc

import numpy as np

from collector.alerting.alert import AlertKind
from collector.core.rates import LocalTime
from scripts.bench_cases.nights import run_nights
from scripts.bench_cases.simulating.changes import Changes
from scripts.bench_cases.simulating.pauses import Pauses
from scripts.bench_cases.simulation import START, SUMMER, Traffic, simulate


def test_small_installation_keeps_the_budget_and_is_deterministic() -> None:
    runs = [simulate(days=1.0, endpoints=10, pairs=200, step=300, seed=4) for _ in range(2)]
    timed = {"cpu_seconds", "detector_microseconds_a_row"}
    one, other = ({name: value for name, value in run.items() if name not in timed} for run in runs)
    assert one == other
    assert one["alerts_a_day"] <= 2  # type: ignore[operator]
    assert one["rows"] > 1_000  # type: ignore[operator]


def test_changes_of_an_installation_are_told_after_its_first_day() -> None:
    worlds = [Changes(seed=2, endpoints=60, endpoints_a_service=10, start=START) for _ in range(2)]
    assert worlds[0].look(START + 86_400) == []
    reports = worlds[0].look(START + 45 * 86_400)
    assert {AlertKind.NEW_ENDPOINT, AlertKind.NEW_CONSUMER, AlertKind.NEW_DATA_CLASS, AlertKind.NEW_THIRD_PARTY} <= {
        report.kind for report in reports
    }
    assert worlds[1].look(START + 45 * 86_400) == reports


def test_changes_share_the_budget_of_the_detectors() -> None:
    run = simulate(days=4.0, endpoints=60, pairs=60, step=1_800, seed=2, changes=True)
    assert run["worst_day"] == 2 and run["suppressed"] > 0  # type: ignore[operator]
    assert "new_data_class" in run["alerts_a_day_by_kind"]  # type: ignore[operator]


def test_memory_of_the_engine_is_told_for_each_live_pair() -> None:
    few, many = (
        simulate(days=0.02, endpoints=10, pairs=pairs, step=300, seed=4, memory=True) for pairs in (2_000, 20_000)
    )
    assert few["live_pairs"] < many["live_pairs"]  # type: ignore[operator]
    # What there is once is shared by more, and each needs its sums, its bitmap and its name.
    assert few["bytes_a_live_pair"] > many["bytes_a_live_pair"] > 500  # type: ignore[operator]
    assert not tracemalloc.is_tracing()


def test_callers_live_by_clocks_that_change() -> None:
    """An office opens an hour earlier by UTC once its clocks are put forward, and the bench says what that told."""
    open_before, open_after = (SUMMER + hour * 3_600 for hour in (-17, 6))  # Seven the day before, six on the day: UTC.
    traffic = Traffic(
        random=np.random.default_rng(1), endpoints=5, pairs=2_000, step=300, clocks=LocalTime("Europe/Berlin")
    )
    traffic.rate[:] = 0.1
    office = traffic.endpoint == 0
    counts = [traffic.count(at)[office].sum() for at in (open_before - 300, open_before, open_after - 300, open_after)]
    assert counts[1] > 3 * counts[0] and counts[3] > 3 * counts[2]
    run = simulate(days=2.0, endpoints=10, pairs=200, step=1_800, seed=4, clocks_change=1)
    assert run["alerts_as_clocks_change"] <= 2  # type: ignore[operator]


def test_callers_pause_for_reasons_and_one_falls_silent() -> None:
    consumer, rate = np.repeat(np.arange(1, 1_001), 2), np.full(2_000, 0.1)
    counts = np.full(2_000, 10)
    world = Pauses(random=np.random.default_rng(1), consumer=consumer, rate=rate, start=START, step=3_600, fall_day=1)
    weekend = world.thin(START + 3 * 86_400, counts, consumer)  # A Saturday.
    assert 0.2 < np.mean(weekend == 0) < 0.4 and (world.thin(START, counts, consumer) == counts).all()
    fallen = world.thin(START + 86_400 + 12 * 3_600, counts, consumer)
    assert world.fallen and (consumer[fallen == 0] == world.fallen).all() and np.count_nonzero(fallen == 0) == 2
    number = 1_001
    for hour in range(30 * 24):
        number = world.change(START + hour * 3_600, consumer, number)
    assert 200 < number - 1_001 < 500 and len(np.unique(consumer)) > 900
    assert world.thin(START + 30 * 86_400, counts, consumer).sum() < counts.sum()


def test_nights_callers_are_told_where_nobody_calls_so_much() -> None:
    run = run_nights(seed=1, days=1, from_day=0, factor=300.0, mixed=True)
    assert run["nights"] == 2
    assert run["told_by_level"]["paranoid"] == 2  # type: ignore[index]
