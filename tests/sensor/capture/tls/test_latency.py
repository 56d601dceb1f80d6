"""A trial stops reading where answers take longer with it, and not where a load only swings: by simulated loads."""

import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from sensor.capture.tls.latency import (
    CHEAP_REST_SECONDS,
    FALSE_STOP,
    LINGER_SECONDS,
    LONGEST_REST_SECONDS,
    MEMBERS_MAX,
    PAIRS_MAX,
    PERCENTILES,
    PORTS_MAX,
    RATE_MIN,
    REST_SECONDS,
    TRIALS_MAX,
    AnswerTrials,
    Bets,
    Evidence,
    Port,
    Verdict,
    find_percentile_ns,
    find_slot_seconds,
)
from sensor.capture.tls.waits import BUCKETS, find_bucket, find_start_ns

EDGES = np.array([find_start_ns(bucket) for bucket in range(BUCKETS + 1)], float)
# Of a slot beside its answers: a switch, and what settles.
SWITCH_SECONDS = 0.7
MS = 1e6


Waits = NDArray[np.float64]


def count(waits_ns: Waits) -> list[int]:
    """As the kernel does."""
    buckets = np.clip(np.searchsorted(EDGES, waits_ns, side="right") - 1, 0, BUCKETS - 1)
    return list(np.bincount(buckets, minlength=BUCKETS).tolist())


def read_slot(waits_ns: Waits, times: float, more_ns: float) -> list[int]:
    """Answers of a slot, as reading makes them."""
    return count(waits_ns * times + more_ns)


@dataclass(frozen=True)
class Load:
    """What a server does: answers a second, their median and spread, and how its slots differ without any reading."""

    rate: float = 50.0
    median_ns: float = 5 * MS
    spread: float = 0.5  # Of the logarithm.
    swing: float = 0.05  # Of a slot's level (logarithm): what is new in each, of which the next ones remember
    memory: float = 0.7  # so much.
    bursts: float = 0.02  # Share of slots that are five times as slow.
    waves: int = 0  # Slots of a period of a regular swing, of 30 %.
    is_restarted: bool = False  # Between two slots, so that each one begins slowly.

    def make(self, chance: np.random.Generator) -> Iterator[Callable[[float, float], list[int]]]:
        """For each slot, its answers where reading makes them so many times as long and adds so much."""
        level = 0.0
        for number in itertools.count():
            level = self.memory * level + chance.normal(0, self.swing)
            wave = 0.3 if self.waves and number % self.waves < self.waves / 2 else 0.0
            factor = np.exp(level + wave) * (5 if chance.random() < self.bursts else 1)
            answers = chance.poisson(self.rate * find_slot_seconds(self.rate) * chance.uniform(0.5, 1.5))
            waits = self.median_ns * factor * np.exp(chance.normal(0, self.spread, answers))
            if self.is_restarted:
                waits[: answers // 4] *= 3
            yield partial(read_slot, waits)


def try_load(load: Load, seed: int, times: float = 1.0, more_ns: float = 0.0) -> tuple[Verdict, float]:
    """The verdict of a trial, and after how many seconds."""
    slots, coin = load.make(np.random.default_rng(seed)), random.Random(seed)
    evidence = Evidence()
    while (verdict := evidence.judge()) is Verdict.OPEN:
        is_read_first = coin.random() < 0.5
        first = next(slots)(*((times, more_ns) if is_read_first else (1, 0)))
        second = next(slots)(*((1, 0) if is_read_first else (times, more_ns)))
        evidence.add(*((first, second) if is_read_first else (second, first)))
    return verdict, evidence.pairs * 2 * (find_slot_seconds(load.rate) + SWITCH_SECONDS)


LOADS = {
    "steady": Load(swing=0.0, bursts=0.0, spread=0.1),
    "usual": Load(),
    "busy": Load(rate=500, median_ns=0.3 * MS),
    "few": Load(rate=10),
    "wild": Load(swing=0.3, memory=0.9, bursts=0.1),
    "wide": Load(spread=2.0, rate=200),
    "waves of a slot": Load(waves=2),
    "waves of a pair": Load(waves=4, swing=0.01),
    "restarted": Load(is_restarted=True),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_load_without_an_effect_is_not_stopped(load: Load) -> None:
    assert [seed for seed in range(40) if try_load(load, seed)[0] is not Verdict.ALIKE] == []


def test_an_account_without_an_effect_seldom_becomes_rich() -> None:
    """Ville's inequality, by 20,000 accounts: what they bet may depend on what went before. A trial needs 20,000."""
    coin = random.Random(7)
    reached = {10: 0, 100: 0, 1_000: 0}
    for _ in range(20_000):
        account, most = Bets(), 1.0
        for number in range(PAIRS_MAX):
            account.add(coin.random() < 0.5, weight=0.2 + most % 2 + number % 3 * 0.5)
            most = max(most, account.wealth)
        for wealth in reached:
            reached[wealth] += most >= wealth
    assert all(times <= 20_000 / wealth for wealth, times in reached.items()), reached
    assert reached[10] > 100  # Else the bound would be met by one that never bets.


def test_a_trial_without_an_effect_stops_less_than_one_process_in_1000_a_day() -> None:
    """By the bound of its accounts: `Comparison.is_longer` needs one that reached 1 / FALSE_STOP."""
    begins, rest, trials = 0.0, REST_SECONDS, 0
    while begins < 86_400:
        trials += 1
        begins += rest
        rest = min(2 * rest, LONGEST_REST_SECONDS)
    assert trials * len(PERCENTILES) * FALSE_STOP < 1 / 1_000


@pytest.mark.parametrize(
    ("load", "minutes"),
    [(LOADS["steady"], 4), (LOADS["usual"], 8), (Load(rate=500), 8), (LOADS["restarted"], 8)],
    ids=["steady", "usual", "500/s", "restarted"],
)
def test_ten_percent_more_are_found_within_minutes(load: Load, minutes: float) -> None:
    found = [try_load(load, seed, times=1.1) for seed in range(40)]
    assert sum(verdict is Verdict.LONGER and seconds <= 60 * minutes for verdict, seconds in found) >= 32, found


def test_a_hundred_percent_more_are_found_in_two_minutes() -> None:
    assert {try_load(LOADS["usual"], seed, times=2.0)[0] for seed in range(20)} == {Verdict.LONGER}
    assert max(try_load(Load(bursts=0.0), seed, times=2.0)[1] for seed in range(20)) <= 200


def test_less_than_the_floor_is_not_stopped() -> None:
    """Some 20 % of a fast server's 0.2 ms are what probes cost, and no reason to be blind."""
    fast = Load(rate=500, median_ns=0.2 * MS, spread=0.2)
    assert {try_load(fast, seed, more_ns=40_000)[0] for seed in range(20)} == {Verdict.ALIKE}
    assert {try_load(fast, seed, more_ns=80_000)[0] for seed in range(20)} == {Verdict.LONGER}


def test_two_percent_are_not_stopped() -> None:
    assert [try_load(LOADS["steady"], seed, times=1.02)[0] for seed in range(30)] == [Verdict.ALIKE] * 30


def test_what_meets_one_call_in_a_hundred_is_not_seen() -> None:
    """The documented limit: neither the median nor the 90th percentile has it."""
    evidence, chance = Evidence(), np.random.default_rng(1)
    while evidence.judge() is Verdict.OPEN:
        waits = 5 * MS * np.exp(chance.normal(0, 0.3, (2, 400)))
        waits[0, :4] += 500 * MS
        evidence.add(count(waits[0]), count(waits[1]))
    assert evidence.judge() is Verdict.ALIKE


def test_pairs_with_few_answers_say_nothing_and_end_a_trial() -> None:
    evidence = Evidence()
    few, many = count(np.full(19, 5 * MS)), count(np.full(500, 50 * MS))
    for _ in range(PAIRS_MAX):
        assert evidence.judge() is Verdict.OPEN
        evidence.add(many, few)
    assert evidence.judge() is Verdict.ALIKE


@pytest.mark.parametrize(("rate", "seconds"), [(RATE_MIN, 16), (5, 8), (10, 4), (50, 4), (80, 2.5), (1e5, 2)])
def test_slots_are_longer_where_few_answers_come(rate: float, seconds: float) -> None:
    assert find_slot_seconds(rate) == seconds


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.0])
def test_percentiles_are_within_a_bucket_of_the_true_ones(share: float) -> None:
    waits = np.sort(MS * np.exp(np.random.default_rng(3).normal(0, 1, 9_999)))
    true = waits[max(int(np.ceil(share * len(waits))) - 1, 0)]
    assert find_percentile_ns(count(waits), share) == pytest.approx(true, rel=1 / 31)


def test_of_no_answers_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no answers"):
        find_percentile_ns([0] * BUCKETS, 0.5)


@dataclass
class Server:
    """Answers evenly; longer while it is read."""

    port: Port
    pids: set[int]
    rate: int = 100
    wait_ns: float = 5 * MS
    times: float = 1.0  # While it is read.
    work_ns: float = float("inf")  # Of the breakpoints of an answer.
    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)


class Node:
    """Servers, and what takes turns beside them: it steps when it is time, and a switch takes a moment."""

    STEP = 0.05

    def __init__(self, servers: Sequence[Server], switch_seconds: float = 0.15, seed: int = 1) -> None:
        self.servers = list(servers)
        self.coin = random.Random(seed)
        self.trials = AnswerTrials(draw=lambda: self.coin.random() < 0.5)
        self.switch_seconds = switch_seconds
        self.now = 1_000.0
        self.is_read: dict[int, bool] = {}
        self._asked: dict[int, tuple[bool, float]] = {}  # What is to be, and from when on.
        self.read_seconds: dict[int, float] = {}
        self.refused: set[int] = set()  # Processes whose probes nobody can change.
        self.followed: set[Port] = set()
        self.steps = 0

    def members(self) -> Mapping[Port, Mapping[int, bool]]:
        return {one.port: {pid: self.is_read.get(pid, True) for pid in one.pids} for one in self.servers}

    def run(self, seconds: float) -> None:
        end, step_at = self.now + seconds, self.now
        while self.now < end:
            self.now += self.STEP
            for pid, (is_read, at) in list(self._asked.items()):
                if self.now >= at:
                    self.is_read[pid] = is_read
            for one in self.servers:
                is_slow = any(self.is_read.get(pid, True) for pid in one.pids)
                wait = one.wait_ns * (one.times if is_slow else 1) * np.exp(self.coin.gauss(0, 0.1))
                if one.port in self.followed:
                    one.counts[find_bucket(int(wait))] += round(one.rate * self.STEP)
                for pid in one.pids:
                    self.read_seconds[pid] = self.read_seconds.get(pid, 0.0) + self.is_read.get(pid, True) * self.STEP
            if self.now >= min(step_at, self.trials.next_switch()):
                step_at = self.now + 1
                self._step()

    def _step(self) -> None:
        self.steps += 1
        members = self.members()
        wanted = set(self.trials.list_ports(self.now, members))
        for one in self.servers:
            if one.port not in self.followed:
                one.counts = [0] * BUCKETS
        self.followed = wanted
        waits = {one.port: tuple(one.counts) for one in self.servers if one.port in wanted}
        self.trials.step(self.now, waits, members, {pid: one.work_ns for one in self.servers for pid in one.pids})
        slots, stopped = self.trials.slots, self.trials.stopped
        for pid in {pid for one in self.servers for pid in one.pids} - self.refused:
            is_wanted = slots.get(pid, pid not in stopped)
            if self._asked.get(pid, (True, 0.0))[0] != is_wanted:
                self._asked[pid] = is_wanted, self.now + self.switch_seconds


def make_server(number: int = 1, **changes: object) -> Server:
    return Server(port=(number, 443), pids={10 * number, 10 * number + 1}, **changes)  # type: ignore[arg-type]


def test_a_server_that_takes_longer_is_left_alone_with_the_reason_and_tried_again_after_doubling_rests() -> None:
    server = make_server(times=1.3)
    node = Node([server])
    node.run(300)
    assert (node.trials.trials_total, node.trials.stops_total) == (1, 1)
    reason = node.trials.stopped[10]
    assert reason == node.trials.stopped[11]
    found = re.fullmatch(
        r"It is not read for 1 h: answers took (\d+) % longer while it was read "
        r"\(median 6\.\d+ ms instead of [45](?:\.\d+)? ms\)\.",
        reason,
    )
    assert found is not None and 28 <= int(found[1]) <= 32, reason
    before = node.read_seconds[10]
    node.run(REST_SECONDS - 400)
    assert node.read_seconds[10] == before
    node.run(600)
    assert (node.trials.trials_total, node.trials.stops_total) == (2, 2)
    assert node.trials.stopped[10].startswith("It is not read for 2 h: ")


def test_a_server_that_has_become_as_fast_is_read_again() -> None:
    server = make_server(times=1.3)
    node = Node([server])
    node.run(300)
    assert set(node.trials.stopped) == {10, 11}
    server.times = 1.0
    node.run(REST_SECONDS)
    assert node.trials.trials_total == 2 and node.trials.stopped == {} and node.trials.slots == {}
    assert node.is_read == {10: True, 11: True}


def test_a_server_without_an_effect_is_read_half_of_the_time_for_a_minute_only() -> None:
    node = Node([make_server()])
    node.run(300)
    assert (node.trials.trials_total, node.trials.stops_total, node.trials.stopped) == (1, 0, {})
    assert 300 - node.read_seconds[10] < 60
    assert node.trials.list_ports(node.now, node.members()) == []  # Its answers cost nothing meanwhile.


def test_a_server_whose_answers_breakpoints_cannot_make_longer_is_never_switched() -> None:
    """Each switch costs it calls: 8 us are neither 5 % of 5 ms nor 50 us."""
    server = make_server(work_ns=8_000.0, times=1.3)
    node = Node([server])
    node.run(2 * CHEAP_REST_SECONDS)
    assert node.trials.trials_total == 0 and node.read_seconds[10] == pytest.approx(2 * CHEAP_REST_SECONDS, rel=1e-3)
    assert node.trials.list_ports(node.now, node.members()) == []  # Its answers cost nothing meanwhile.
    server.work_ns = 60_000.0
    node.run(CHEAP_REST_SECONDS + 60)
    assert node.trials.trials_total == 1


def test_a_difference_that_breakpoints_cannot_make_stops_nobody() -> None:
    """Whoever sends requests that take longer in some slots: 5 ms more, of which breakpoints take 0.1."""
    node = Node([make_server(1, work_ns=0.1 * MS, times=2.0), make_server(2, work_ns=0.1 * MS, times=1.3)])
    node.run(300)
    assert node.trials.stopped.keys() == {20, 21}
    assert (node.trials.trials_total, node.trials.stops_total, node.trials.doubted_total) == (2, 1, 1)


def test_servers_with_few_answers_are_not_tried() -> None:
    node = Node([make_server(rate=0)])
    node.run(120)
    assert node.trials.trials_total == 0 and node.trials.next_switch() == float("inf")


def test_a_switch_that_takes_long_shows_in_no_slot() -> None:
    """Answers of the time in which probes go in and out are of neither."""
    node = Node([make_server(times=1.3)], switch_seconds=3.0)
    node.run(400)
    assert node.trials.stops_total == 1


def test_processes_that_cannot_be_switched_end_their_trial() -> None:
    node = Node([make_server(times=2.0)])
    node.refused = {11}
    node.run(600)
    assert (node.trials.trials_total, node.trials.stops_total, node.trials.slots) == (1, 0, {})
    assert node.steps < 2 * 600  # Nobody looks all the time.


def test_a_new_process_begins_the_pair_anew_and_shares_the_verdict() -> None:
    server = make_server(times=1.3)
    node = Node([server])
    node.run(40)
    assert node.trials.slots.keys() == {10, 11}
    server.pids.add(12)
    node.run(300)
    assert node.trials.stops_total == 1 and node.trials.stopped.keys() == {10, 11, 12}


def test_a_verdict_does_not_outlive_its_processes() -> None:
    server = make_server(times=1.3)
    node = Node([server])
    node.run(300)
    server.pids = set()
    node.run(2)
    assert node.trials.stopped == {}
    server.pids = {99}  # Restarted at the same port: as slow.
    node.run(2)
    assert node.trials.stopped.keys() == {99}
    server.pids = set()
    node.run(LINGER_SECONDS + 5)
    server.pids = {100}
    node.run(5)
    assert node.trials.stopped == {}


def test_a_server_that_ends_within_a_trial_ends_it() -> None:
    server = make_server()
    node = Node([server])
    node.run(30)
    assert node.trials.slots
    server.pids = set()
    node.run(2)
    assert node.trials.slots == {} and node.trials.next_switch() == float("inf")


def test_processes_that_come_and_go_end_a_trial() -> None:
    server = make_server()
    node = Node([server])
    node.run(30)
    for number in range(30):
        server.pids = {10, 11, 1_000 + number}
        node.run(5)
    assert (node.trials.trials_total, node.trials.slots) == (1, {})


def test_one_cgroup_has_one_trial_at_a_time_and_the_node_a_few() -> None:
    """Who opens many ports keeps nobody from being tried."""
    greedy = [Server(port=(1, 1_000 + number), pids={100 + number}) for number in range(20)]
    node = Node([*greedy, *(make_server(number) for number in range(2, 8))])
    most = 0
    tried: set[int] = set()
    for _ in range(60):
        node.run(5)
        slots = node.trials.slots.keys()
        assert len(slots & set(range(100, 120))) <= 1
        most = max(most, len({pid // 10 if pid < 100 else 1 for pid in slots}))
        tried |= slots
    assert most == TRIALS_MAX and {10 * number for number in range(2, 8)} <= tried


def test_a_process_with_two_ports_is_in_one_trial() -> None:
    node = Node([Server(port=(cgroup, 443), pids={10}) for cgroup in (1, 2)])
    for _ in range(30):
        node.run(5)
        assert len(node.trials.slots) <= 1
    assert node.trials.trials_total == 2


def test_a_process_that_is_left_alone_for_one_port_is_not_tried_at_the_other() -> None:
    node = Node([Server(port=(1, 443), pids={10}, times=1.5), Server(port=(2, 443), pids={10})])
    node.run(400)
    assert node.trials.stopped.keys() == {10}
    before = node.trials.trials_total
    node.run(600)
    assert node.trials.trials_total == before and node.trials.stopped.keys() == {10}


def test_a_server_that_is_stopped_stops_no_other() -> None:
    node = Node([make_server(1, times=1.5), make_server(2)])
    node.run(300)
    assert node.trials.stopped.keys() == {10, 11}


def test_a_port_of_very_many_processes_is_not_tried() -> None:
    node = Node([Server(port=(1, 443), pids=set(range(MEMBERS_MAX + 1)))])
    node.run(60)
    assert node.trials.trials_total == 0


def test_who_has_most_ports_gives_places_to_others() -> None:
    """A server that comes later than four cgroups with all the places."""
    greedy = [Server(port=(1 + number % 4, 1_000 + number), pids={100 + number}) for number in range(PORTS_MAX)]
    trials = AnswerTrials(draw=lambda: True)
    members = {one.port: dict.fromkeys(one.pids, True) for one in greedy}
    trials.step(1.0, {}, members)
    trials.step(2.0, {}, {**members, (9, 443): {9: True}})
    assert (9, 443) in trials.list_ports(3.0, {**members, (9, 443): {9: True}})
    assert len(trials.list_ports(3.0, members)) == PORTS_MAX - 1


def test_new_ports_of_a_cgroup_do_not_go_before_the_first_of_another() -> None:
    greedy = [
        Server(port=(cgroup, 1_000 + number), pids={1_000 * cgroup + number})
        for cgroup in range(1, 5)
        for number in range(20)
    ]
    node = Node(greedy)
    node.run(40)
    node.servers.append(make_server(9))
    node.run(120)
    assert node.trials.trials_total < len(greedy) and node.read_seconds[90] < 110, "it had its trial"


def test_what_is_known_of_ports_is_bounded() -> None:
    trials = AnswerTrials(draw=lambda: True)
    members: Mapping[Port, Mapping[int, bool]] = {(number, 443): {number: True} for number in range(PORTS_MAX + 50)}
    assert trials.list_ports(1.0, members) == []
    trials.step(1.0, {}, members)
    assert len(trials.list_ports(2.0, members)) == PORTS_MAX
    assert trials.left_out == 50
    trials.step(2.0 + LINGER_SECONDS, {}, {})
    assert (trials.list_ports(2_000.0, members), trials.left_out) == ([], 0)
