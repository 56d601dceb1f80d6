"""The simulation bench, scaled down: deterministic, and within the installation's budget."""

import tracemalloc

from scripts.bench_cases.simulation import simulate


def test_small_installation_keeps_the_budget_and_is_deterministic() -> None:
    runs = [simulate(days=1.0, endpoints=10, pairs=200, step=300, seed=4) for _ in range(2)]
    timed = {"cpu_seconds", "detector_microseconds_a_row"}
    one, other = ({name: value for name, value in run.items() if name not in timed} for run in runs)
    assert one == other
    assert one["alerts_a_day"] <= 2  # type: ignore[operator]
    assert one["rows"] > 1_000  # type: ignore[operator]


def test_memory_of_the_engine_is_told_for_each_live_pair() -> None:
    few, many = (
        simulate(days=0.02, endpoints=10, pairs=pairs, step=300, seed=4, memory=True) for pairs in (2_000, 20_000)
    )
    assert few["live_pairs"] < many["live_pairs"]  # type: ignore[operator]
    # What there is once is shared by more, and each needs its sums, its bitmap and its name.
    assert few["bytes_a_live_pair"] > many["bytes_a_live_pair"] > 500  # type: ignore[operator]
    assert not tracemalloc.is_tracing()
