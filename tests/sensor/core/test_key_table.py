"""The table of keys against a dictionary."""

import numpy as np
import pytest

from sensor.core.arrays import KeyTable, mix, mix_one


def make_keys(*keys: int) -> np.ndarray:
    return np.array(keys, np.uint64)


def test_what_was_put_is_found_and_nothing_else() -> None:
    table = KeyTable()
    keys = make_keys(0, 1, 7, (1 << 64) - 1)
    assert table.find(keys)[1].tolist() == [0, 1, 2, 3]
    table.put(keys[:3], np.array([5, 0, 7]))
    numbers, missing = table.find(make_keys(7, 8, 0, 1, 7, (1 << 64) - 1))
    assert missing.tolist() == [1, 5]
    assert numbers[[0, 2, 3, 4]].tolist() == [7, 5, 0, 7]
    assert [table.find_one(key) for key in (0, 1, 7, 8)] == [5, 0, 7, None]
    table.clear()
    assert table.find(keys)[1].tolist() == [0, 1, 2, 3]
    assert not len(table)


# The smallest ones, any, and such as all want the table's first places.
@pytest.mark.parametrize("kind", ["small", "any", "alike"])
def test_it_is_a_dictionary(kind: str) -> None:
    source = np.random.default_rng(1)
    pool = source.integers(0, 5_000 if kind == "small" else 1 << 64, 5_000, np.uint64)
    if kind == "alike":
        inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
        pool = np.array([int(key) >> 16 for key in pool], np.uint64) * np.uint64(inverse)
    known: dict[int, int] = {}
    table = KeyTable()
    for size in (1, 60, 300, 20, 3_000, 50, 2_000, 5_000, 1_000):
        asked = pool[source.integers(0, len(pool), size)]
        numbers, missing = table.find(asked)
        expected = [known.get(key, -1) for key in asked.tolist()]
        assert numbers.tolist() == expected
        assert missing.tolist() == [place for place, number in enumerate(expected) if number < 0]
        new = np.unique(asked[missing])
        fresh = np.arange(len(known), len(known) + len(new))
        known.update(zip(new.tolist(), fresh.tolist(), strict=True))
        if len(new) < 100:
            for key, number in zip(new.tolist(), fresh.tolist(), strict=True):
                table.put_one(key, number)
        else:
            table.put(new, fresh)
        assert len(table) == len(known)
    assert all(table.find_one(key) == number for key, number in known.items())


def test_a_known_key_may_get_another_number() -> None:
    table = KeyTable()
    for key in range(300):
        table.put_one(key, key)
    for key in range(0, 300, 3):
        table.put_one(key, key + 1)
    assert len(table) == 300
    assert [table.find_one(key) for key in range(300)] == [key + (key % 3 == 0) for key in range(300)]


def test_one_is_mixed_as_many_are() -> None:
    source = np.random.default_rng(1)
    keys, parts = source.integers(0, 1 << 64, (2, 50), np.uint64)
    pairs = zip(keys.tolist(), parts.tolist(), strict=True)
    assert mix(keys, parts).tolist() == [mix_one(key, part) for key, part in pairs]
