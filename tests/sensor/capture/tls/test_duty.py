"""Who makes more calls than are read has turns of so many calls as the budget allows; others are always read."""

from collections.abc import Mapping

import pytest

from sensor.capture.tls.duty import COMFORT, LEAST_TURN_SECONDS, Budget, DutyCycle, Usage, find_part

BUDGET = Budget.of_burst(2_000, 5_000)
PERIOD = 2.5
STEP = 0.05


class Life:
    """Processes that make calls at a rate, seen only while they are read, and how long they were."""

    def __init__(self, rates: Mapping[int, float]) -> None:
        self.budget = BUDGET
        self.duty = DutyCycle(node_calls_per_second=4_000, find_budget=lambda _: self.budget)
        self.rates = dict(rates)
        self.seen = dict.fromkeys(rates, 0.0)
        self.read_seconds = dict.fromkeys(rates, 0.0)
        self.now = 100.0

    def run(self, seconds: float) -> None:
        look_at = self.now
        end = self.now + seconds
        while self.now < end:
            for pid, rate in self.rates.items():
                if self.duty.is_read(pid):
                    self.seen[pid] += rate * STEP
                    self.read_seconds[pid] += STEP
            self.now += STEP
            if self.now >= min(look_at, self.duty.next_switch()):
                look_at = self.now + 1 if self.now >= look_at else look_at
                self.duty.step(self.now, {pid: Usage(int(seen), 0) for pid, seen in self.seen.items()})


def test_the_period_is_that_of_what_may_come_at_once() -> None:
    assert BUDGET.period_seconds == PERIOD


@pytest.mark.parametrize("rate", [3_000, 12_000, 20_000])
def test_a_busy_process_is_read_so_much_as_its_budget_allows(rate: int) -> None:
    life = Life({7: rate, 8: 100})
    life.run(5)
    before = dict(life.seen), dict(life.read_seconds)
    life.run(100)
    assert (life.seen[7] - before[0][7]) / 100 == pytest.approx(2_000, rel=0.35)
    assert life.read_seconds[8] - before[1][8] == pytest.approx(100, abs=0.1)
    assert life.duty.shares == {7: pytest.approx(2_000 / rate, rel=0.1)}
    assert life.duty.turns == pytest.approx(40, abs=3)


def test_a_burst_is_no_reason() -> None:
    life = Life({7: 100})
    life.run(5)
    life.rates[7] = 9_000
    life.run(1)
    life.rates[7] = 100
    life.run(20)
    assert life.duty.shares == {} and life.duty.turns == 0


def test_who_is_quiet_again_is_always_read() -> None:
    life = Life({7: 9_000})
    life.run(20)
    assert life.duty.shares
    life.rates[7] = 2_000 * COMFORT - 100
    life.run(2 * PERIOD)
    assert life.duty.shares == {} and life.duty.is_read(7) and life.duty.next_switch() == float("inf")


def test_a_turn_has_a_least_length() -> None:
    life = Life({7: 10_000_000})
    life.run(20)
    assert life.duty.shares == {7: pytest.approx(LEAST_TURN_SECONDS / PERIOD)}


def test_processes_share_the_node() -> None:
    life = Life(dict.fromkeys(range(8), 4_000.0))
    life.run(20)
    before = sum(life.seen.values())
    life.run(100)
    assert len(life.duty.shares) == 8
    assert (sum(life.seen.values()) - before) / 100 == pytest.approx(4_000, rel=0.35)


def test_the_gone_are_forgotten() -> None:
    life = Life({7: 9_000})
    life.run(5)
    life.duty.drop([7])
    assert life.duty.shares == {} and life.duty.is_read(7)


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        ([], 100),
        ([5_000], 100),
        ([50, 60, 70], 100),
        ([1_000, 1_000, 1_000, 1_000], 50),
        ([1_000, 1_000, 20, 20], 80),
    ],
)
def test_what_one_leaves_the_others_have(rates: list[float], limit: float) -> None:
    assert min(100, find_part([min(rate, 100) for rate in rates], 200)) == limit


def test_a_process_whose_account_is_evicted_in_each_rest_stays_in_turns() -> None:
    """The kernel's table keeps the processes of the latest calls, and anybody can fill it while one rests."""
    life = Life({7: 9_000})
    life.run(5)
    before = life.read_seconds[7]
    for _ in range(2_000):
        life.run(STEP)
        if not life.duty.is_read(7):
            life.seen[7] = 0.0
            life.duty.step(life.now, {8: Usage(1, 0)})
    assert (life.read_seconds[7] - before) / 100 == pytest.approx(2_000 / 9_000, rel=0.35)
    assert life.duty.evictions == pytest.approx(40, abs=3)


def test_turns_are_as_long_as_the_governor_says() -> None:
    life = Life({7: 9_000})
    life.run(10)
    life.budget = Budget.of_burst(500, 1_250)
    life.run(20)
    before = life.seen[7]
    life.run(100)
    assert (life.seen[7] - before) / 100 == pytest.approx(500, rel=0.35)


AUTO = Budget(calls_per_second=200, cpu_ratio=0.02, period_seconds=10.0)


@pytest.mark.parametrize(("calls", "has_turns"), [(150, False), (390, False), (410, True), (100_000, True)])
def test_in_auto_a_second_with_the_calls_of_two_is_enough(calls: int, has_turns: bool) -> None:
    """Also the first one: a process that nobody knew made its calls since the last look."""
    duty = DutyCycle(node_calls_per_second=4_000, find_budget=lambda _: AUTO)
    duty.step(100.0, {})
    duty.step(101.0, {7: Usage(calls, 0)})
    assert (bool(duty.shares), duty.is_read(7)) == (has_turns, not has_turns)


def test_in_auto_what_came_before_the_first_look_of_all_says_no_rate() -> None:
    duty = DutyCycle(node_calls_per_second=4_000, find_budget=lambda _: AUTO)
    duty.step(100.0, {7: Usage(100_000, 0)})
    assert not duty.shares and duty.is_read(7)


def test_in_auto_refused_calls_take_nothing_of_the_budget_and_are_estimated() -> None:
    budget = Budget(calls_per_second=200, cpu_ratio=0.02, period_seconds=10.0, most_per_second=400)
    duty = DutyCycle(node_calls_per_second=4_000, find_budget=lambda _: budget)
    duty.step(100.0, {})
    duty.step(101.0, {7: Usage(1_700, 0.0, 1_520)})  # A burst.
    assert duty.is_read(7) and not duty.shares and duty.over == {7: 1.0}
    duty.step(102.0, {7: Usage(1_800, 0.0, 1_520)})
    assert not duty.over
    duty.step(103.0, {7: Usage(3_800, 0.0, 3_120)})  # 400 were read: twice the budget.
    assert duty.shares == {7: pytest.approx(0.5)}


def run_auto(core_ratio: float, calls_per_second: float, probe_ns_per_call: float) -> DutyCycle:
    """A process in `auto` that uses so much of a core, for 40 s."""
    now = 100.0
    duty = DutyCycle(
        node_calls_per_second=4_000, find_budget=lambda _: AUTO, read_cpu_ns=lambda _: int(now * core_ratio * 1e9)
    )
    calls = 0.0
    for _ in range(800):
        calls += calls_per_second * STEP if duty.is_read(7) else 0
        now += STEP
        duty.step(now, {7: Usage(int(calls), calls * probe_ns_per_call)})
    return duty


@pytest.mark.parametrize(
    ("core_ratio", "calls_per_second", "probe_ns_per_call", "share"),
    [
        (0.5, 500, 8_000, 0.4),  # By calls: a Python server of a millisecond a call.
        (0.05, 150, 40_000, 1 / 6),  # By time: 6 ms a second of 50 ms, which may be 1.
        (1.0, 150, 40_000, None),  # The same of a busy one: 20 ms may be.
        (0.001, 100, 9_000, None),  # A server that does next to nothing, and 0.9 ms a second is free.
    ],
)
def test_a_budget_is_calls_and_the_processs_own_time(
    core_ratio: float, calls_per_second: float, probe_ns_per_call: float, share: float | None
) -> None:
    duty = run_auto(core_ratio, calls_per_second, probe_ns_per_call)
    assert duty.shares == ({} if share is None else {7: pytest.approx(share, rel=0.1)})
