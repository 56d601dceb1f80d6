"""Waits between tries grow to their bound, are drawn within it, and begin anew after a success."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.retry import Backoff


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(first_seconds=1.0, longest_seconds=60.0)
    assert [backoff.next_seconds() for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert backoff.failures == 8
    backoff.reset()
    assert backoff.failures == 0 and backoff.next_seconds() == 1.0


def test_another_factor_and_another_bound_for_one_wait() -> None:
    backoff = Backoff(first_seconds=1.0, longest_seconds=60.0, factor=4.0)
    assert [backoff.next_seconds() for _ in range(4)] == [1.0, 4.0, 16.0, 60.0]
    assert backoff.next_seconds(300.0) == 256.0
    assert backoff.next_seconds() == 60.0


def test_after_ever_so_many_failures_it_still_waits() -> None:
    backoff = Backoff(first_seconds=0.5, longest_seconds=30.0, factor=4.0)
    assert {backoff.next_seconds() for _ in range(10_000)} == {0.5, 2.0, 8.0, 30.0}


@pytest.mark.parametrize(
    ("jitter", "drawn", "wait"), [(0.0, 0.0, 8.0), (0.5, 0.0, 4.0), (0.5, 0.5, 6.0), (1.0, 0.25, 2.0)]
)
def test_jitter_is_the_part_that_is_drawn(jitter: float, drawn: float, wait: float) -> None:
    backoff = Backoff(first_seconds=8.0, longest_seconds=8.0, jitter=jitter, draw=lambda: drawn)
    assert backoff.next_seconds() == wait


@given(
    st.floats(0.001, 10.0), st.floats(0.001, 1_000.0), st.floats(1.0, 10.0), st.floats(0.0, 1.0),
    st.integers(1, 100), st.randoms(use_true_random=False),
)  # fmt: skip
def test_each_wait_is_between_the_part_that_is_not_drawn_and_its_bound(
    first: float, longest: float, factor: float, jitter: float, tries: int, source: random.Random
) -> None:
    drawn = Backoff(first_seconds=first, longest_seconds=longest, factor=factor, jitter=jitter, draw=source.random)
    whole = Backoff(first_seconds=first, longest_seconds=longest, factor=factor)
    before = 0.0
    for _ in range(tries):
        bound = whole.next_seconds()
        assert before <= bound <= longest
        assert bound * (1.0 - jitter) * (1 - 1e-9) <= drawn.next_seconds() <= bound
        before = bound
