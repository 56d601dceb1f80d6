"""The breach bench, a minute of it: the honest side is as stated, and a thief is told from the first rows on."""

import numpy as np

from scripts.bench_cases.breaching.calls import DETAIL, Sender, make_calls
from scripts.bench_cases.breaching.software import AGENTS_AFTER, AGENTS_BEFORE, APP, RELEASE, SCRIPT, SOFTWARE, dress
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


def test_half_of_an_apps_users_take_its_release_up_and_a_thief_has_a_script_of_its_own() -> None:
    world, sender = World(6), Sender(ADDRESSES, SOFTWARE)
    users = np.arange(1, 20_001, dtype=np.uint64)

    def count(day: int, hour: int, who: np.ndarray = users) -> np.ndarray:
        second = np.full(len(who), START + day * DAY + hour * 3_600)
        calls = dress(make_calls(second, who, 0, who))
        return np.bincount(calls.software, minlength=len(SOFTWARE))

    before, meanwhile, after = count(2, 9), count(2, 12), count(3, 0)
    assert before[RELEASE] == 0 and 0.3 < before[APP] / 20_000 < 0.5
    assert 0.4 < meanwhile[RELEASE] / after[RELEASE] < 0.6 and 0.45 < after[RELEASE] / before[APP] < 0.55
    agents = np.arange(30_000, 30_060, dtype=np.uint64)
    assert count(1, 7, agents)[AGENTS_BEFORE] == count(1, 8, agents)[AGENTS_AFTER] == 60
    thief = next(thief for thief in THIEVES if thief.name == "1000_stolen_keys")
    batch = sender.send_windows(dress(thief.steal(world, START, 0, 10)))
    assert batch is not None
    assert {batch.strings[index] for index in batch.client_software.tolist()} == {SOFTWARE[SCRIPT]}


def test_a_thief_in_the_first_hour_is_a_notice_within_its_bar() -> None:
    past = Installation(5)
    past.pass_honestly(START + 120)
    thief = next(thief for thief in THIEVES if thief.name == "first_hour")
    told = try_thief(past, thief)
    assert told["is_met"] and told["honest_accused"] == {}
