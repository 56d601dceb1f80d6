"""The sketches: exact bucket bounds, the error of the estimate, and that both are merge monoids."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.aggregate.sketches import (
    LAST_BUCKET,
    OBJECTS_LIMIT,
    count_values,
    estimate_objects,
    find_buckets,
    merge_histograms,
    unite_objects,
)
from sensor.core import arrays as ragged
from sensor.core.arrays import Ragged
from tests.sensor.rows import estimate, find_bucket, make_histogram, make_objects, split, split_histograms

ROWS_COUNT = 4
values = st.lists(st.tuples(st.integers(0, ROWS_COUNT - 1), st.integers(0, 2**64 - 1)), max_size=60)
few_hashes = st.lists(st.tuples(st.integers(0, ROWS_COUNT - 1), st.integers(1, 2**64 - 1)), max_size=30)


def make_hashes(seed: int, count: int) -> list[tuple[int, int]]:
    random = Random(seed)
    return [(random.randrange(ROWS_COUNT) // 2, random.getrandbits(64) | 1) for _ in range(count)]


# Large enough to be cut, drawn by seed because Hypothesis is slow at long lists; and some that share their upper bits.
hash_lists = st.one_of(
    few_hashes,
    st.builds(make_hashes, st.integers(0, 5), st.integers(400, 900)),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4).map(lambda low: 1 << 60 | low)), max_size=40),
)


def to_arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row for row, _ in pairs], np.int64), np.array([value for _, value in pairs], np.uint64)


def count(pairs: list[tuple[int, int]]) -> Ragged:
    return count_values(*to_arrays(pairs), ROWS_COUNT)


def merge(*parts: Ragged) -> Ragged:
    return merge_histograms(np.tile(np.arange(ROWS_COUNT), len(parts)), ragged.join(parts), ROWS_COUNT)


def unite(pairs: list[tuple[int, int]]) -> tuple[Ragged, np.ndarray]:
    return unite_objects(*to_arrays(pairs), ROWS_COUNT)


def unite_parts(*parts: tuple[Ragged, np.ndarray]) -> tuple[Ragged, np.ndarray]:
    joined = ragged.join([objects for objects, _ in parts])
    rows = np.repeat(np.tile(np.arange(ROWS_COUNT), len(parts)), joined.lengths)
    objects, is_cut = unite_objects(rows, joined.values, ROWS_COUNT)
    return objects, np.logical_or.reduce([is_cut, *(cut for _, cut in parts)])


def tell(objects: Ragged, is_cut: np.ndarray) -> tuple[list[list[int]], list[bool]]:
    return split(objects), is_cut.tolist()


@given(st.integers(1, 2**62))
def test_bucket_covers_its_value(value: int) -> None:
    bucket = int(find_buckets(np.array([value], np.uint64))[0])
    # 2^(i/8) < v <= 2^((i+1)/8), in whole numbers: raise all to the eighth power. 1 is 2^0 and counts in bucket 0.
    assert Fraction(value) ** 8 <= 2 ** (bucket + 1)
    assert value == 1 or value**8 > 2**bucket
    assert bucket == find_bucket(value)


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
    ],
)
def test_bucket_table(value: int, bucket: int) -> None:
    assert find_buckets(np.array([value], np.uint64)).tolist() == [bucket]


@given(values)
def test_histograms_are_those_of_the_plain_way(pairs: list[tuple[int, int]]) -> None:
    expected = [make_histogram(value for owner, value in pairs if owner == row) for row in range(ROWS_COUNT)]
    assert split_histograms(count(pairs)) == expected


@given(values, values, values)
def test_histogram_is_a_monoid(a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]) -> None:
    whole = split_histograms(count(a + b + c))
    left = merge(merge(count(a), count(b)), count(c))
    right = merge(count(a), merge(count(c), count(b)))
    assert split_histograms(left) == split_histograms(right) == whole
    assert split_histograms(merge(left, count([]))) == whole


@given(hash_lists)
def test_objects_are_those_of_the_plain_way(pairs: list[tuple[int, int]]) -> None:
    objects, is_cut = unite(pairs)
    expected = [make_objects(value for owner, value in pairs if owner == row) for row in range(ROWS_COUNT)]
    assert split(objects) == [sorted(row.hashes) for row in expected]
    assert is_cut.tolist() == [row.is_sketched for row in expected]
    assert estimate_objects(objects, is_cut).tolist() == pytest.approx(list(map(estimate, expected)), rel=1e-9)


@given(hash_lists, hash_lists, hash_lists)
def test_object_set_is_a_monoid(a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]) -> None:
    whole = tell(*unite(a + b + c))
    left = unite_parts(unite_parts(unite(a), unite(b)), unite(c))
    right = unite_parts(unite(a), unite_parts(unite(c), unite(b)))
    assert tell(*left) == tell(*right) == whole
    assert tell(*unite_parts(left, unite([]), left)) == whole


@pytest.mark.parametrize("distinct", [300, 1_000, 20_000])
def test_estimate_is_within_four_standard_errors(distinct: int) -> None:
    estimates = []
    for seed in range(20):
        hashes = np.random.default_rng(seed).integers(1, 2**64, distinct, np.uint64)
        estimates.append(int(estimate_objects(*unite_objects(np.zeros(distinct, np.int64), hashes, 1))[0]))
    mean = sum(estimates) / len(estimates)
    assert abs(mean / distinct - 1) < 4 * 0.063 / 20**0.5
    assert all(abs(estimate / distinct - 1) < 4 * 0.063 for estimate in estimates)


@given(hash_lists, st.data())
def test_rows_of_lists_are_taken_whole(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    objects, _ = unite(pairs)
    whole = split(objects)
    places = data.draw(st.lists(st.integers(0, ROWS_COUNT - 1), max_size=8))
    assert split(objects.take(np.array(places, np.int64))) == [whole[place] for place in places]
    is_taken = data.draw(st.lists(st.booleans(), min_size=ROWS_COUNT, max_size=ROWS_COUNT))
    assert split(objects.select(np.array(is_taken))) == [w for w, taken in zip(whole, is_taken, strict=True) if taken]


def test_the_limit_is_that_of_the_wire() -> None:
    assert OBJECTS_LIMIT == 256
