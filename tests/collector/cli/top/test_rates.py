"""Calls a second from totals."""

from hypothesis import given
from hypothesis import strategies as st

from collector.cli.top.rates import RateMeter


def test_a_steady_endpoint_has_its_rate() -> None:
    meter = RateMeter()
    rates = [meter.update({"a": 10 * second}, float(second))["a"] for second in range(60)]
    assert rates[0] == 0.0
    assert rates[-1] == 10.0


def test_an_endpoint_that_falls_silent_falls_to_zero() -> None:
    meter = RateMeter()
    for second in range(10):
        meter.update({"a": 10 * second}, float(second))
    silent = [meter.update({"a": 90}, float(second))["a"] for second in range(10, 60)]
    assert silent[0] > 0
    assert silent[-1] == 0.0


def test_an_endpoint_that_left_and_came_back_starts_anew() -> None:
    meter = RateMeter()
    meter.update({"a": 1_000}, 0.0)
    meter.update({}, 1.0)
    assert meter.update({"a": 2_000}, 2.0) == {"a": 0.0}


@given(st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 1_000)), min_size=1, max_size=80))
def test_a_rate_is_never_more_than_the_busiest_step(steps: list[tuple[float, int]]) -> None:
    meter, now, calls, highest = RateMeter(), 0.0, 0, 0.0
    meter.update({"a": 0}, 0.0)
    for seconds, made in steps:
        now, calls = now + seconds, calls + made
        highest = max(highest, made / seconds)
        rate = meter.update({"a": calls}, now)["a"]
        assert 0 <= rate <= highest * (1 + 1e-9)
