"""Objects touched for the first time: estimates hold for few and for many, and what is touched again costs nothing."""

import numpy as np
import pytest

from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.subject_index import WIDE_MAX, TouchedObjects


def draw(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**63, count).astype(np.uint64)


def count(touched: TouchedObjects, slot: int, hashes: np.ndarray) -> float:
    return float(sum(touched.count_novel(np.full(len(part), slot), part).sum() for part in np.array_split(hashes, 20)))


@pytest.mark.parametrize("objects", [50, 250, 2_000, 20_000, 100_000])
def test_new_objects_are_counted_without_bias(objects: int) -> None:
    touched = TouchedObjects()
    touched.grow(4)
    assert count(touched, 1, draw(1, objects)) == pytest.approx(objects, rel=0.15)


@pytest.mark.parametrize("objects", [50, 300, 15_000])
def test_objects_touched_again_and_again_are_not_new(objects: int) -> None:
    touched, known = TouchedObjects(), draw(2, objects)
    touched.grow(4)
    for _ in range(2):  # The first time fills the bitmaps, the second what the move to wide ones forgot.
        count(touched, 1, known)
    assert sum(count(touched, 1, known) for _ in range(5)) <= 0.02 * 5 * objects
    assert count(touched, 1, draw(3, 200)) == pytest.approx(200, rel=0.3)


def test_evicted_slots_are_as_new_and_state_comes_back() -> None:
    touched = TouchedObjects()
    touched.grow(8)
    hashes = draw(4, 3_000)
    count(touched, 2, hashes)
    copy = TouchedObjects()
    copy.grow(8)
    copy.load(touched.dump())
    assert count(copy, 2, hashes[-500:]) == count(touched, 2, hashes[-500:]) <= 10
    touched.forget(np.array([2]))
    assert count(touched, 2, hashes[:100]) == pytest.approx(100, abs=12)


def test_wide_bitmaps_are_bounded() -> None:
    touched = TouchedObjects()
    slots = WIDE_MAX + 50
    touched.grow(slots)
    everyone = np.repeat(np.arange(slots), 700)
    for _ in range(2):
        touched.count_novel(everyone, draw(5, len(everyone)))
    assert touched.dump()["wide.counts"].shape == (2, WIDE_MAX)
    assert touched.count_novel(np.array([slots - 1]), draw(6, 1))[0] >= 1  # Without one it begins anew.


def test_bits_of_a_bitmap_are_counted() -> None:
    bitmap, words = NoveltyBitmap(), np.random.default_rng(1).integers(0, 2**64, (5, 8), np.uint64)
    words[0], words[1] = 0, 2**64 - 1
    bitmap.grow(5)
    bitmap.load({"words": words})
    assert bitmap.count_bits(np.arange(5)).tolist() == [sum(int(word).bit_count() for word in row) for row in words]
