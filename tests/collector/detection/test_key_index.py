"""The index against a dict: what it finds after any additions, however the keys collide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.framework.slots import KeyIndex

# Keys of few low bits and many high ones, so that most begin at the same places.
KEYS = st.lists(st.integers(0, 2**20).map(lambda value: value << 50 & 2**64 - 1 | value % 3), max_size=60)


@given(st.lists(st.tuples(KEYS, st.sets(st.integers(0, 40))), max_size=6), KEYS)
def test_finds_what_a_dict_would(parts: list[tuple[list[int], set[int]]], asked: list[int]) -> None:
    index, known, keys = KeyIndex(), dict[int, int](), np.zeros(400, np.uint64)
    free = list(range(399, -1, -1))
    for part, emptied in parts:
        new = [key for key in dict.fromkeys(part) if key not in known]
        slots = np.array([free.pop() for _ in new], np.int64)
        known |= dict(zip(new, slots.tolist(), strict=True))
        keys[slots] = np.array(new, np.uint64)
        if index.has_room(len(new)):
            index.add(np.array(new, np.uint64), slots)
        else:
            index.build(np.array(list(known.values())), keys)
        for key in [key for key, slot in known.items() if slot in emptied]:
            keys[known[key]] = ~np.uint64(key)
            free.append(known.pop(key))
    everything = [*asked, *known, *asked]
    found = index.find(np.array(everything, np.uint64), keys)
    assert found.tolist() == [known.get(key, -1) for key in everything]


def test_grows_past_its_first_size() -> None:
    index, keys = KeyIndex(), np.random.default_rng(1).integers(1, 2**63, 5_000).astype(np.uint64)
    for first in range(0, 5_000, 500):
        own = np.arange(first, first + 500)
        if index.has_room(500):
            index.add(keys[own], own)
        else:
            index.build(np.arange(first + 500), keys)
    assert np.array_equal(index.find(keys, keys), np.arange(5_000))
