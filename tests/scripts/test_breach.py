"""The breach bench, a minute of it: the honest side is as stated, and a thief is told from the first rows on."""

import numpy as np

from scripts.bench_cases.breaching.calls import DETAIL, Sender
from scripts.bench_cases.breaching.thieves import THIEVES
from scripts.bench_cases.breaching.trial import Installation, try_thief
from scripts.bench_cases.breaching.world import ADDRESSES, DAY, PAGE_MAX, START, World


def test_the_honest_side_is_as_stated() -> None:
    world = World(3)
    noon, midnight = (len(world.calls(START + hour * 3_600, 300)) / 300 - 20 for hour in (12, 24))
    assert noon >= 100
    assert 0.1 <= midnight / noon <= 0.3
    calls = world.calls(START + DAY + 2 * 3_600, 60)
    assert (calls.principal == 40_001).sum() == 200 * 60
    of_people = calls.choose((calls.principal > 0) & (calls.principal <= 20_000) & (calls.endpoint == DETAIL))
    _, at_once = np.unique(
        np.stack([of_people.principal, of_people.second.astype(np.uint64)]), axis=1, return_counts=True
    )
    assert 30 <= at_once.max() <= 2 * PAGE_MAX


def test_every_call_is_in_exactly_one_row_second_by_second_too() -> None:
    world, sender, made, sent = World(4), Sender(ADDRESSES), 0, 0
    for second in range(START, START + 31):
        calls = world.calls(second, 1)
        made += len(calls)
        batch = sender.send_second(calls, second)
        sent += int(batch.calls.sum()) if batch is not None else 0
    last = sender.send_second(calls.choose(np.zeros(len(calls), np.bool_)), START + 40)
    assert made == sent + int(last.calls.sum() if last is not None else 0)


def test_a_thief_in_the_first_hour_is_a_notice_within_its_bar() -> None:
    past = Installation(5)
    past.pass_honestly(START + 120)
    thief = next(thief for thief in THIEVES if thief.name == "first_hour")
    told = try_thief(past, thief)
    assert told["is_met"] and told["honest_accused"] == {}
