"""A token bucket gives its rate in the long run, its burst at once, and never more."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.token_bucket import LATE_SECONDS, TokenBucket, TokenBuckets


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, 5.0, clock)
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2
    clock.now += 1.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.now += 1_000.0
    assert bucket.tokens == 5.0


def test_more_than_there_is_is_not_taken_and_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 5.0, Clock())
    assert not bucket.take(6.0) and bucket.tokens == 5.0
    assert bucket.take(5.0) and bucket.tokens == 0.0


def test_what_is_spent_beyond_the_tokens_is_earned_back_first() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 5.0, clock)
    bucket.spend(8.0)
    assert bucket.tokens == -3.0 and bucket.find_wait() == 4.0
    clock.now += 4.0
    assert bucket.find_wait() == 0.0 and bucket.take()


def test_a_bucket_may_start_with_more_than_it_holds_later() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 5.0, clock, tokens=9.0)
    clock.now += 1.0
    assert bucket.tokens == 9.0
    assert bucket.take(8.0)
    clock.now += 100.0
    assert bucket.tokens == 5.0


def test_a_new_limit_holds_from_now_on() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 10.0, clock, tokens=0.0)
    clock.now += 0.5
    bucket.limit(1.0, 3.0)
    assert bucket.tokens == 3.0
    bucket.limit(0.0, 0.0)
    clock.now += 100.0
    assert not bucket.take() and bucket.find_wait() == math.inf
    assert TokenBucket(1.0, 5.0, clock).find_wait(6.0) == math.inf


def test_times_out_of_order_earn_nothing_twice_and_a_clock_set_back_goes_on() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 10.0, clock, tokens=0.0)
    for _ in range(100):
        clock.now -= 1.0
        assert bucket.tokens == 0.0
        clock.now += 1.0
        assert bucket.tokens == 0.0
    clock.now -= 10 * LATE_SECONDS
    assert bucket.tokens == 0.0
    clock.now += 2.0
    assert bucket.tokens == 2.0


@given(
    st.floats(0.01, 1_000.0),
    st.floats(1.0, 1_000.0),
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)), max_size=50),
)
def test_between_any_two_times_no_more_than_burst_and_rate_are_taken(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    clock = Clock(0.0)
    bucket = TokenBucket(rate, burst, clock)
    taken = []  # Time and amount of each that was given.
    for later, count in asked:
        clock.now += later
        if bucket.take(count):
            taken.append((clock.now, count))
        assert 0.0 <= bucket.tokens <= burst
    for first in range(len(taken)):
        amount = 0.0
        for time, count in taken[first:]:
            amount += count
            assert amount <= (burst + rate * (time - taken[first][0])) * (1 + 1e-9) + 1e-9
    assert all(a <= b for (a, _), (b, _) in pairwise(taken))


@given(st.floats(0.01, 1_000.0), st.floats(1.0, 1_000.0), st.floats(-1_000.0, 1_000.0), st.floats(0.0, 1.0))
def test_after_the_wait_and_not_before_so_many_are_given(rate: float, burst: float, start: float, share: float) -> None:
    clock = Clock(0.0)
    bucket = TokenBucket(rate, burst, clock, tokens=min(start, burst))
    count = share * burst
    wait = bucket.find_wait(count)
    if wait:
        clock.now = wait * 0.999
        assert not bucket.take(count) or wait * rate < 1e-6
        clock.now = wait * 1.001 + 1e-6
    assert bucket.take(count)


def test_each_key_has_its_own_bucket_and_the_oldest_goes_first() -> None:
    now = [0.0]
    buckets: TokenBuckets[str] = TokenBuckets(0.5, 2, lambda: now[0], keys_max=2)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert buckets.take("b") == 0.0 and buckets.take("a") == 2.0
    buckets.take("c")
    assert (len(buckets), buckets.take("a")) == (2, 2.0), "b was the least recently used"
    now[0] += 2
    assert buckets.take("a") == 0.0
