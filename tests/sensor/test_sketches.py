"""The sketches: exact bucket bounds, the error of the estimate, and that both are merge monoids."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.sketches import LAST_BUCKET, OBJECTS_LIMIT, Histogram, ObjectSet, find_bucket

values = st.lists(st.integers(0, 2**64 - 1), max_size=40)
few_hashes = st.lists(st.integers(1, 2**64 - 1), max_size=30)


def make_hashes(seed: int, count: int) -> list[int]:
    random = Random(seed)
    return [random.getrandbits(64) | 1 for _ in range(count)]


# Large enough to be cut, drawn by seed because Hypothesis is slow at long lists.
hash_lists = st.one_of(few_hashes, st.builds(make_hashes, st.integers(0, 5), st.integers(200, 400)))


@given(st.integers(1, 2**62))
def test_bucket_covers_its_value(value: int) -> None:
    bucket = find_bucket(value)
    # 2^(i/8) < v <= 2^((i+1)/8), in whole numbers: raise all to the eighth power. 1 is 2^0 and counts in bucket 0.
    assert Fraction(value) ** 8 <= 2 ** (bucket + 1)
    assert value == 1 or value**8 > 2**bucket


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0, 0),
        (1, 0),
        (2, 7),
        (3, 12),
        (4, 15),
        (1024, 79),
        (1025, 80),
        (2**63, 503),
        (2**64 - 1, LAST_BUCKET),
        (2**70, LAST_BUCKET),
    ],
)
def test_bucket_table(value: int, bucket: int) -> None:
    assert find_bucket(value) == bucket


@given(values, values, values)
def test_histogram_is_a_monoid(a: list[int], b: list[int], c: list[int]) -> None:
    left, right, other_way = Histogram(a), Histogram(b), Histogram(c)
    left.merge(Histogram(b))
    left.merge(Histogram(c))
    right.merge(Histogram(c))
    first = Histogram(a)
    first.merge(right)
    other_way.merge(Histogram(b))
    other_way.merge(Histogram(a))
    assert left == first == other_way == Histogram(a + b + c)
    left.merge(Histogram())
    assert left == first
    assert sum(left.counts.values()) == len(a) + len(b) + len(c)


@given(hash_lists, hash_lists, hash_lists)
def test_object_set_is_a_monoid(a: list[int], b: list[int], c: list[int]) -> None:
    left, right, other_way = ObjectSet(a), ObjectSet(b), ObjectSet(c)
    left.merge(ObjectSet(b))
    left.merge(ObjectSet(c))
    right.merge(ObjectSet(c))
    first = ObjectSet(a)
    first.merge(right)
    other_way.merge(ObjectSet(b))
    other_way.merge(ObjectSet(a))
    whole = ObjectSet(a + b + c)
    assert left == first == other_way == whole
    assert left.estimate() == whole.estimate()
    left.merge(ObjectSet())
    left.merge(left)
    assert left == whole


@given(hash_lists, hash_lists)
def test_object_set_takes_more_after_a_merge(a: list[int], b: list[int]) -> None:
    merged = ObjectSet(a)
    merged.merge(ObjectSet(b))
    for value in make_hashes(9, 50):
        merged.add(value)
    assert merged == ObjectSet(a + b + make_hashes(9, 50))


@given(hash_lists)
def test_object_set_is_exact_up_to_its_limit(hashes: list[int]) -> None:
    objects = ObjectSet(hashes)
    distinct = set(hashes)
    assert objects.sorted_hashes() == sorted(distinct)[:OBJECTS_LIMIT]
    assert objects.is_sketched == (len(distinct) > OBJECTS_LIMIT)
    if not objects.is_sketched:
        assert objects.estimate() == len(distinct)


@pytest.mark.parametrize("count", [300, 1_000, 20_000])
def test_estimate_is_within_four_standard_errors(count: int) -> None:
    estimates = [ObjectSet(make_hashes(seed, count)).estimate() for seed in range(20)]
    mean = sum(estimates) / len(estimates)
    assert abs(mean / count - 1) < 4 * 0.063 / 20**0.5
    assert all(abs(estimate / count - 1) < 4 * 0.063 for estimate in estimates)
