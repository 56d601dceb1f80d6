"""The installation's bar: its false alarms do not depend on how many subjects there are nor on who is first."""

import numpy as np
import pytest

from collector.core.kinds import LEVELS, PLANS, Sensitivity, is_sent_at
from collector.detection.framework.installation import InstallationBar

_DAY = 86_400


def is_admitted(level: Sensitivity | None, by: Sensitivity = Sensitivity.NORMAL) -> bool:
    return level is not None and is_sent_at(level, by)


def count_admitted(
    rate: float, mean_excess: float, days: int, seed: int, live: int, by: Sensitivity = Sensitivity.NORMAL
) -> list[int]:
    """Signals of each day when `rate` episodes a day cross, exponentially far."""
    bar, random, admitted = InstallationBar(), np.random.default_rng(seed), [0] * days
    bar.start(_DAY)
    for day in range(days):
        for time in np.sort(random.integers(0, _DAY, random.poisson(rate))).tolist():
            subject = int(random.integers(1, 2**60))
            score = 1 + float(random.exponential(mean_excess))
            admitted[day] += is_admitted(bar.admit(subject, score, _DAY * (day + 1) + time, live), by)
    return admitted


@pytest.mark.parametrize("rate", [10.0, 300.0])
@pytest.mark.parametrize("mean_excess", [0.3, 1.0])
def test_signals_of_many_subjects_keep_to_the_target(rate: float, mean_excess: float) -> None:
    admitted = [count_admitted(rate, mean_excess, 30, seed, 50_000) for seed in range(5)]
    assert np.mean(admitted) <= 0.2  # Twice the target of .1 a day.
    assert np.mean([days[0] for days in admitted]) <= 1.0  # No flood on the first day.


def test_each_level_has_its_own_bar() -> None:
    counts = {
        level: np.mean([count_admitted(300.0, 0.5, 30, seed, 50_000, level) for seed in range(5)]) for level in LEVELS
    }
    assert counts[Sensitivity.QUIET] <= 2 * PLANS[Sensitivity.QUIET].episodes_a_day
    assert counts[Sensitivity.QUIET] < counts[Sensitivity.NORMAL] < counts[Sensitivity.PARANOID]
    assert 0.5 <= counts[Sensitivity.PARANOID] <= 2 * PLANS[Sensitivity.PARANOID].episodes_a_day


def test_quiet_installation_has_no_bar() -> None:
    bar = InstallationBar()
    assert is_admitted(bar.admit(1, 1.01, _DAY, 20))


def test_what_stands_far_out_is_told_whatever_else_crosses() -> None:
    bar, random = InstallationBar(), np.random.default_rng(1)
    for time in range(0, 3 * _DAY, 300):
        bar.admit(int(random.integers(1, 2**60)), 1 + float(random.exponential(0.5)), time + _DAY, 50_000)
    assert not is_admitted(bar.admit(7, 2.0, 4 * _DAY, 50_000))
    assert is_admitted(bar.admit(8, 9.0, 4 * _DAY, 50_000))


def test_episode_of_one_subject_counts_once_and_survives_a_checkpoint() -> None:
    bar, again = InstallationBar(), InstallationBar()
    for minute in range(30):
        assert is_admitted(bar.admit(1, 3.0, _DAY + 60 * minute, 20))
    again.load(bar.dump())
    assert again.dump().keys() == bar.dump().keys()
    assert all(np.array_equal(again.dump()[name], array) for name, array in bar.dump().items())
    assert is_admitted(again.admit(1, 3.0, _DAY + 60 * 31, 20))
    assert not is_admitted(again.admit(2, 1.2, _DAY + 60 * 32, 20))
