"""Recent numbers against a dictionary: whatever is known is right."""

import numpy as np
import pytest

from sensor.recognition.recent import RecentNumbers

BITS = 6


def make_keys(*keys: int) -> np.ndarray:
    return np.array(keys, np.uint64)


def test_what_was_put_is_found_and_nothing_else() -> None:
    recent = RecentNumbers(BITS)
    keys = make_keys(0, 1, 7, (1 << 64) - 1)
    assert recent.find(keys)[1].tolist() == [0, 1, 2, 3]
    recent.put(keys[:3], np.array([5, 6, 7]))
    numbers, missing = recent.find(make_keys(7, 8, 0, 1, 7, (1 << 64) - 1))
    assert missing.tolist() == [1, 5]
    assert numbers[[0, 2, 3, 4]].tolist() == [7, 5, 6, 7]
    recent.clear()
    assert recent.find(keys)[1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["small", "large", "many"])
def test_of_any_keys_the_known_ones_have_their_numbers(kind: str) -> None:
    source = np.random.default_rng(1)
    top, count = {"small": (40, 30), "large": (1 << 64, 30), "many": (1 << 64, 500)}[kind]
    known: dict[int, int] = {}
    recent = RecentNumbers(BITS)
    pool = source.integers(0, top, count, np.uint64)
    found_count = 0
    for _ in range(200):
        asked = pool[source.integers(0, len(pool), 40)]
        numbers, missing = recent.find(asked)
        is_missing = np.zeros(len(asked), np.bool_)
        is_missing[missing] = True
        for key, number, is_absent in zip(asked.tolist(), numbers.tolist(), is_missing.tolist(), strict=True):
            assert is_absent or known[key] == number
        found_count += len(asked) - len(missing)
        new = np.unique(asked[missing])
        for key in new.tolist():
            known.setdefault(key, len(known))
        recent.put(new, np.array([known[key] for key in new.tolist()], np.int64))
    # Half a table's keys are nearly all found; of ten times as many as there are places some still are.
    assert found_count > (7_000 if kind != "many" else 100)
