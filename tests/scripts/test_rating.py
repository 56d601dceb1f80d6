"""The bench of request rates: series and changes are the same each time, and the score counts what it says."""

from pathlib import Path

import numpy as np

from scripts.bench_cases.rates import list_runs, score_series, tally
from scripts.bench_cases.rating.changes import KINDS, Change, ChangedSeries, change_series
from scripts.bench_cases.rating.series import DAY, Series, make_series, read_series


def make_flat(calls: np.ndarray, step: int = 3_600) -> Series:
    return Series(source="flat", name="0", step=step, start=1_767_571_200, calls=calls)


def test_series_and_their_changes_are_the_same_for_the_same_seed() -> None:
    many = [[change_series(one, 3) for one in make_series(3, 1)] for _ in range(2)]
    assert len({one.series.source for one in many[0]}) >= 5
    for one, again in zip(*many, strict=True):
        assert np.array_equal(one.series.calls, again.series.calls) and one.changes == again.changes
        assert {change.kind for change in one.changes} <= set(KINDS)
        assert len(one.series.calls) * one.series.step >= 10 * DAY


def test_files_give_a_series_with_a_row_for_each_bucket(tmp_path: Path) -> None:
    (tmp_path / "logs__a__60.csv").write_text("t,count\n600,3\n720,5\n")
    (series,) = read_series(tmp_path)
    assert (series.source, series.step, series.start, series.calls.tolist()) == ("logs", 60, 600, [3, 0, 5])


def test_runs_of_alarms_bridge_three_buckets() -> None:
    assert list_runs(np.array([1, 0, 0, 1, 0, 0, 0, 1], np.bool_)) == [(0, 3), (7, 7)]


def test_a_late_alarm_is_a_hit_and_an_alarm_at_an_odd_bucket_is_not_counted() -> None:
    odd = np.zeros(240, np.bool_)
    odd[200] = True
    change = Change(kind="drop", start=100, end=102)
    changed = ChangedSeries(series=make_flat(np.ones(240)), changes=[change], is_odd=odd)
    scores = np.zeros(240)
    scores[[107, 150, 200]] = 1.0  # Late by five buckets; false; odd.
    found = tally([(changed, scores)])
    assert (found.recall, found.false_alarms, found.days) == (1.0, 1, 10.0)
    scores[107], scores[108] = 0.0, 1.0
    assert tally([(changed, scores)]).recall == 0.0


def test_series_side_by_side_are_scored_as_each_alone() -> None:
    random = np.random.default_rng(1)
    many = []
    for moved in (0, 5):
        calls = random.poisson(500, 24 * 8).astype(np.float64)
        calls[150:153] = 0
        series = Series(source="s", name="", step=3_600, start=1_767_571_200 + moved * 3_600, calls=calls)
        many.append(ChangedSeries(series=series, changes=[], is_odd=np.zeros(len(calls), np.bool_)))
    together = score_series(many)
    for one, scores in zip(many, together, strict=True):
        assert np.allclose(score_series([one])[0], scores)
        assert scores[150:153].max() >= 1
