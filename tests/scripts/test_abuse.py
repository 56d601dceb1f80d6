"""The bench of abuse: a day is the same each time, holds what it should, and the score counts what it says."""

from scripts.bench_cases.abuse import score
from scripts.bench_cases.abusing.attacks import KINDS, ROTATIONS, attack
from scripts.bench_cases.abusing.day import Day, order
from scripts.bench_cases.abusing.line import DAY, START
from scripts.bench_cases.abusing.renewals import APPLICATIONS, CARRIERS, GATEWAY_PEOPLE, RENEWERS


def test_a_day_is_the_same_each_time_and_its_attacks_are_in_it() -> None:
    days = []
    for _ in range(2):
        day = Day(5)
        days.append((day, attack(day)))
    (day, attacks), again = days
    assert list(order(day.lines)) == list(order(again[0].lines)) and attacks == again[1]
    assert sorted(one.kind for one in attacks) == sorted([*KINDS, *ROTATIONS] * 2)
    times = [line.time for line in order(day.lines)]
    assert times == sorted(times) and times[0] >= START and times[-1] < START + DAY
    for one in attacks:
        own = [line for line in day.lines if line.actor == one.actor]
        assert own and {line.address for line in own} == one.addresses
    names = ("renewer", "app", "carrier", "passed", "probe")
    renewing = {line.actor for line in day.lines if line.actor.startswith(names)}
    assert 200 <= day.honest_count - len(renewing) <= 400
    assert len(renewing) == RENEWERS + APPLICATIONS + sum(CARRIERS) + GATEWAY_PEOPLE + 1
    assert len({line.token for line in day.lines if line.actor in renewing}) > 2 * len(renewing)
    assert day.shape is not Day(6).shape


def test_an_attack_counts_when_it_is_named_in_time_and_whoever_else_is_named_is_accused() -> None:
    day = Day(5)
    attacks = attack(day)
    found, late = attacks[0], next(one for one in attacks if one.kind == "scan")
    person = next(line for line in day.lines if line.actor == "user1")
    told = score(
        day,
        attacks,
        [
            {"ts": found.first + 1, "ip": None, "tok": next(iter(found.tokens)), "kind": "bola_enum"},
            {"ts": late.last + 601, "ip": next(iter(late.addresses)), "tok": None, "kind": "scan"},
            {"ts": person.time, "ip": None, "tok": person.token, "kind": "flood"},
        ],
    )
    assert told.recall == round(1 / 30, 3) and late.actor in told.missed
    assert told.accused == [f"{late.actor} scan", "user1 flood"]
