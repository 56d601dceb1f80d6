"""Heads give way to the budget and come back; calls never do."""

import pytest

from sensor.offload.governor import Governor, GovernorSettings

SECOND_NS = 1_000_000_000


class Load:
    """Drives a governor second by second."""

    def __init__(self) -> None:
        self.governor = Governor(GovernorSettings(core_share=0.03, heads_per_second=2_000, floor_heads_per_second=100))
        self.totals = [0, 0, 0, 0]
        self.step(0, 0, 0)

    def step(self, cpu_share: float, calls: int, heads: int) -> bool:
        self.totals[0] += SECOND_NS
        self.totals[1] += int(cpu_share * SECOND_NS)
        self.totals[2] += calls
        self.totals[3] += heads
        now_ns, cpu_ns, all_calls, all_heads = self.totals
        return self.governor.observe(now_ns=now_ns, cpu_ns=cpu_ns, calls=all_calls, heads=all_heads)


class EncryptedLoad:
    """A node that is called over TLS, so often a second, and in the clear: what is read of TLS takes 40 us, a byte of a
    body 5 ns, and the rest of the sensor its share."""

    def __init__(self, rate: int, base_share: float, body_rate: int = 0) -> None:
        self.governor = Governor(
            GovernorSettings(
                core_share=0.03,
                heads_per_second=2_000,
                floor_heads_per_second=100,
                body_bytes_per_second=2_000_000,
                floor_body_bytes_per_second=20_000,
                tls_calls_per_second=2_000,
                floor_tls_calls_per_second=100,
            )
        )
        self.rate, self.base_share, self.body_rate = rate, base_share, body_rate
        self.now = self.cpu_ns = self.read = self.bodies = 0

    def run(self, seconds: int) -> list[int]:
        """Limits after each second."""
        limits = []
        for _ in range(seconds):
            self.now += SECOND_NS
            read = min(self.rate, self.governor.tls_calls_per_second)
            copied = min(self.body_rate, self.governor.body_bytes_per_second)
            self.read += read
            self.bodies += copied
            self.cpu_ns += int(self.base_share * SECOND_NS) + 40_000 * read + 5 * copied
            self.governor.observe(
                now_ns=self.now,
                cpu_ns=self.cpu_ns,
                calls=self.read,
                heads=0,
                body_bytes=self.bodies,
                tls_calls=self.read,
            )
            limits.append(self.governor.tls_calls_per_second)
        return limits


@pytest.mark.parametrize("rate", [1_000, 2_000, 9_000])
def test_tls_is_read_less_until_it_fits(rate: int) -> None:
    load = EncryptedLoad(rate, base_share=0.002)
    assert min(load.run(20)) == 2_000  # Twenty seconds may be the search for libraries.
    limits = load.run(200)
    assert max(limits[60:]) * 40e-6 + 0.002 < 0.03 * 1.1
    assert min(limits[60:]) * 40e-6 > 0.4 * 0.03
    load.rate = 50
    assert load.run(200)[-1] == 2_000


def test_bodies_come_back_when_tls_gives_way() -> None:
    load = EncryptedLoad(3_000, base_share=0.002, body_rate=400_000)
    load.run(300)
    assert load.governor.body_bytes_per_second >= 400_000
    assert 100 <= load.governor.tls_calls_per_second < 700


def test_what_is_read_of_tls_has_a_floor() -> None:
    assert EncryptedLoad(3_000, base_share=0.5).run(100)[-1] == 100


def test_a_few_calls_over_tls_are_not_what_costs() -> None:
    assert EncryptedLoad(90, base_share=0.5).run(100)[-1] == 2_000


@pytest.fixture
def load() -> Load:
    return Load()


def test_it_steps_down_to_the_floor_and_up_again(load: Load) -> None:
    limits = []
    for share in (0.06, 0.06, 0.06, 9.0, 0.06):
        load.step(share, 10_000, load.governor.heads_per_second)
        limits.append(load.governor.heads_per_second)
    assert limits == [2_000, 1_000, 500, 100, 100]
    assert load.governor.is_holding_back
    for _ in range(40):
        load.step(0.01, 10_000, 100)
    assert load.governor.heads_per_second == 2_000
    assert not load.governor.is_holding_back


def test_it_tells_for_how_long_and_how_far_it_held_back() -> None:
    load = Load()
    load.step(0.01, 10_000, 100)
    assert load.governor.report_restraint().held_seconds == 0
    while not load.governor.is_holding_back:
        load.step(0.12, 10_000, load.governor.heads_per_second)
    for _ in range(3):
        load.step(0.03, 10_000, 10)  # Just the budget: it stays where it is.
    restraint = load.governor.report_restraint()
    assert restraint.held_seconds == 3
    heads, bodies, tls = restraint.limits
    assert (heads.value, heads.most) == (load.governor.heads_per_second, 2_000)
    assert heads.value < heads.most
    assert bodies.most == tls.most == 0


def test_within_the_budget_nothing_changes(load: Load) -> None:
    assert not load.step(0.029, 10_000, 2_000)
    assert load.governor.used_share == pytest.approx(0.967, abs=0.001)


def test_a_busy_node_has_more(load: Load) -> None:
    assert not any(load.step(0.05, 20_000, 2_000) for _ in range(3))
    assert [load.step(0.05, 10_000, 2_000) for _ in range(2)] == [False, True]


def test_few_heads_are_not_what_costs(load: Load) -> None:
    assert not any(load.step(0.5, 10_000, 100) for _ in range(3))


def test_one_busy_second_is_a_burst(load: Load) -> None:
    assert not any(load.step(share, 10_000, 2_000) for share in (0.9, 0.01, 0.9, 0.01))


def test_it_is_due_after_a_second(load: Load) -> None:
    assert not load.governor.is_due(load.totals[0] + SECOND_NS - 1)
    assert load.governor.is_due(load.totals[0] + SECOND_NS)


def test_bodies_give_way_first_and_come_back_last() -> None:
    governor = Governor(
        GovernorSettings(
            core_share=0.03,
            heads_per_second=1_000,
            floor_heads_per_second=100,
            body_bytes_per_second=1_000_000,
            floor_body_bytes_per_second=10_000,
        )
    )
    totals = [0, 0, 0, 0]
    governor.observe(now_ns=0, cpu_ns=0, calls=0, heads=0, body_bytes=0)
    limits = []

    def step(share: float, heads: int, body_bytes: int) -> None:
        for place, value in enumerate((SECOND_NS, int(share * SECOND_NS), heads, body_bytes)):
            totals[place] += value
        now_ns, cpu_ns, all_heads, all_bytes = totals
        governor.observe(now_ns=now_ns, cpu_ns=cpu_ns, calls=0, heads=all_heads, body_bytes=all_bytes)
        limits.append((governor.heads_per_second, governor.body_bytes_per_second))

    for body_bytes in (400_000, 400_000, 200_000, 10_000, 10_000):
        step(0.06, 1_000, body_bytes)
    assert limits == [(1_000, 1_000_000), (1_000, 200_000), (1_000, 100_000), (500, 100_000), (250, 100_000)]
    assert governor.is_holding_back
    step(0.06, 250, 90_000)
    assert limits[-1] == (250, 45_000)
    for _ in range(8):
        step(0.01, 100, 1_000)
    assert limits[-1][0] == 1_000
    for _ in range(20):
        step(0.01, 100, 1_000)
    assert limits[-1] == (1_000, 1_000_000)
    assert not governor.is_holding_back
