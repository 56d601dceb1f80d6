"""The simulation bench, scaled down: deterministic, and within the installation's budget."""

from scripts.bench_cases.simulation import simulate


def test_small_installation_keeps_the_budget_and_is_deterministic() -> None:
    runs = [simulate(days=1.0, endpoints=10, pairs=200, step=300, seed=4) for _ in range(2)]
    timed = {"cpu_seconds", "detector_microseconds_a_row"}
    one, other = ({name: value for name, value in run.items() if name not in timed} for run in runs)
    assert one == other
    assert one["alerts_a_day"] <= 2  # type: ignore[operator]
    assert one["rows"] > 1_000  # type: ignore[operator]
