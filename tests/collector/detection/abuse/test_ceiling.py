"""What a ceiling is made of, and what it never learns."""

import numpy as np
import pytest

from collector.alerting.alert import Basis
from collector.detection.abuse.ceiling import FACTOR, PEERS_MIN, Ceiling, Horizon
from collector.detection.framework.slots import SlotTable

DAY = 86_400
START = 20_000 * DAY
HOUR = Horizon(seconds=3_600, prior=100, floor=50)


def make(subjects: int = 64, groups: int = 1) -> Ceiling:
    return make_of((HOUR,), subjects, groups)


def make_of(plan: tuple[Horizon, ...], subjects: int = 64, groups: int = 1, *, is_trade: bool = False) -> Ceiling:
    """One that has room for so many subjects, without a table that says who they are."""
    table, of_groups = SlotTable(subjects, subjects), SlotTable(groups, groups)
    return Ceiling(plan, table, groups=of_groups, is_trade=is_trade)


def add(ceiling: Ceiling, slot: int, amount: float, time: int, group: int = -1) -> list[tuple[float, Basis]]:
    found = ceiling.add(np.array([slot]), np.array([amount]), time, np.array([group]))
    return list(zip(found.ceilings.round(3).tolist(), found.basis, strict=True))


def test_one_nobody_knows_is_told_past_the_prior_once_and_again_when_it_grew_by_half() -> None:
    ceiling = make()
    told = [bool(add(ceiling, 0, 10, START)) for _ in range(24)]
    assert [index + 1 for index, is_reported in enumerate(told) if is_reported] == [11, 17]


def test_a_steady_rate_comes_to_rate_times_horizon() -> None:
    ceiling = make()
    for second in range(0, 20_000, 10):
        add(ceiling, 0, 0.2, START + second)
    (sums,) = ceiling.sums(np.array([0]), START + 20_000)
    assert sums[0] == pytest.approx(0.02 * 3_600, rel=0.01)


def test_past_days_are_a_ceiling_and_make_the_plan_stricter() -> None:
    ceiling = make()
    for day in range(3):
        add(ceiling, 0, 90, START + day * DAY)
        add(ceiling, 1, 5, START + day * DAY)
    assert add(ceiling, 0, 140, START + 3 * DAY) == []
    assert add(ceiling, 0, 10, START + 3 * DAY) == [(FACTOR * 90, Basis.HISTORY)]
    assert add(ceiling, 1, 51, START + 3 * DAY) == [(50, Basis.PRIOR)]


def test_an_attack_over_midnight_is_no_past() -> None:
    ceiling = make()
    add(ceiling, 0, 5, START - 3 * DAY)
    add(ceiling, 0, 5, START - 2 * DAY)
    add(ceiling, 0, 45, START + DAY - 60)
    assert add(ceiling, 0, 15, START + DAY + 60) == [(50, Basis.PRIOR)]


PLAN = (HOUR, Horizon(seconds=DAY, prior=200, floor=100), Horizon(seconds=7 * DAY, prior=400, floor=300))


@pytest.mark.parametrize("is_restored", [False, True])
def test_what_goes_on_night_after_night_is_told_twice_where_it_may_be_a_trade(is_restored: bool) -> None:
    ceiling = make_of(PLAN, is_trade=True)
    told = []
    for day in range(20):
        told += [day] if add(ceiling, 0, 50_000, START + day * DAY) else []
        if is_restored:
            state, ceiling = ceiling.dump(), make_of(PLAN, is_trade=True)
            ceiling.load(state)
    assert told == [0, 1]
    assert add(ceiling, 0, 90_000, START + 20 * DAY)  # A night of twice as much.


def test_one_night_makes_no_trade_and_where_there_is_none_nothing_does() -> None:
    once, never = make_of(PLAN, is_trade=True), make_of(PLAN)
    for ceiling in (once, never):
        add(ceiling, 0, 50_000, START)
    add(never, 0, 50_000, START + DAY)
    for day in range(1, 5):
        add(once, 0, 5, START + day * DAY)
    assert add(once, 0, 2_000, START + 5 * DAY)
    add(never, 0, 5, START + 5 * DAY)  # Calm again: it is told anew.
    assert add(never, 0, 50_000, START + 6 * DAY)


def test_one_who_takes_more_every_day_is_found() -> None:
    """By a tenth a day, which no ceiling of its own past would ever stop."""
    ceiling = make()
    told, amount = [], 40.0
    for day in range(40):
        told += [day] if add(ceiling, 0, amount, START + day * DAY) else []
        amount *= 1.35
    assert told
    assert 40.0 * 1.35 ** told[0] < 600


def test_what_most_peers_do_is_a_ceiling_and_one_of_them_is_not() -> None:
    ceiling = make(groups=2)
    slots = np.arange(40)
    ceiling.add(slots, np.full(40, 60.0), START, np.zeros(40, np.int64))
    ceiling.add(np.array([0]), np.array([30.0]), START, np.array([0]))
    ceiling.refresh(START, lambda: slots)
    assert add(ceiling, 50, FACTOR * 60 - 1, START, group=0) == []
    assert add(ceiling, 50, 2, START, group=0) == [(FACTOR * 60, Basis.PEERS)]
    assert add(ceiling, 51, 101, START, group=1) == [(100, Basis.PRIOR)]  # Another group.


def test_the_few_highest_of_each_group_are_left_out_of_what_is_common() -> None:
    random = np.random.default_rng(3)
    groups = random.integers(0, 4, 200)
    amounts = np.where(random.random(200) < 0.5, random.uniform(40, 99, 200).round(2), 0.0)
    ceiling = make(subjects=204, groups=4)
    slots = np.arange(200)
    ceiling.add(slots, amounts, START, groups)
    ceiling.refresh(START + 60, lambda: slots, groups)
    newcomer = np.arange(200, 204)
    found = ceiling.add(newcomer, np.full(4, 500.0), START + 60, np.arange(4))
    for group, limit in zip(found.slots - 200, found.ceilings, strict=True):
        own = np.sort(amounts[groups == group])[::-1]
        common = own[max(int(np.ceil(0.03 * len(own))), 1)]
        assert limit == pytest.approx(max(FACTOR * common, 50), rel=1e-6)
    assert len(found.slots) == 4


def test_few_peers_say_nothing() -> None:
    ceiling = make()
    slots = np.arange(PEERS_MIN - 1)
    ceiling.add(slots, np.full(len(slots), 1.0), START, np.zeros(len(slots), np.int64))
    ceiling.refresh(START, lambda: slots)
    assert add(ceiling, 50, 99, START, group=0) == []
    assert add(ceiling, 50, 2, START, group=0) == [(100, Basis.PRIOR)]


def test_what_a_person_expects_is_past_at_once() -> None:
    ceiling = make()
    assert add(ceiling, 0, 150, START)
    assert ceiling.expect(0) and not ceiling.expect(-1)
    assert add(ceiling, 0, 80, START) == []
    assert add(ceiling, 0, 20, START)


def test_an_evicted_subject_begins_anew() -> None:
    ceiling = make()
    add(ceiling, 0, 150, START)
    ceiling.forget(np.array([0]))
    assert add(ceiling, 0, 100, START) == []


def test_state_comes_back() -> None:
    one, other = make(), make()
    for day in range(3):
        add(one, 0, 70, START + day * DAY)
    other.load(one.dump())
    for ceiling in (one, other):
        assert add(ceiling, 0, 100, START + 3 * DAY) == []
        assert add(ceiling, 0, 20, START + 3 * DAY) == [(FACTOR * 70, Basis.HISTORY)]
