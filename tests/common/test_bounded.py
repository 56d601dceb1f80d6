"""A bounded dict is a dict of the newest entries: never more than its limit, and the oldest goes first."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from common.bounded import BoundedDict


def test_the_oldest_goes_for_a_new_key_and_nothing_for_a_known_one() -> None:
    gone: list[tuple[str, int]] = []
    held: BoundedDict[str, int] = BoundedDict(2, lambda key, value: gone.append((key, value)))
    held["a"], held["b"], held["a"] = 1, 2, 3
    assert list(held.items()) == [("a", 3), ("b", 2)] and gone == []
    held["c"] = 4
    assert list(held.items()) == [("b", 2), ("c", 4)] and gone == [("a", 3)]


def test_what_is_used_or_renewed_is_the_newest() -> None:
    held: BoundedDict[str, int] = BoundedDict(3)
    for key in "abc":
        held[key] = ord(key)
    assert held.use("a") == ord("a") and held.use("z") is None
    held.renew("b", 1)
    assert list(held) == ["c", "a", "b"]
    held.renew("d", 2)
    assert list(held) == ["a", "b", "d"]


def test_every_way_of_storing_keeps_the_bound() -> None:
    held: BoundedDict[int, int] = BoundedDict(2)
    held.update({1: 1, 2: 2, 3: 3})
    assert list(held) == [2, 3]
    assert held.setdefault(3, 0) == 3 and held.setdefault(4, 0) == 0
    assert list(held) == [3, 4]
    held |= {5: 5}
    assert list(held) == [4, 5]


@given(
    st.integers(1, 5), st.lists(st.tuples(st.sampled_from(["set", "renew", "use", "pop", "evict"]), st.integers(0, 8)))
)
def test_it_is_a_list_of_pairs_with_a_bound(limit: int, steps: list[tuple[str, int]]) -> None:
    gone: list[int] = []
    held: BoundedDict[int, int] = BoundedDict(limit, lambda key, value: gone.append(key))
    model: list[tuple[int, int]] = []
    expected_gone = []
    for number, (step, key) in enumerate(steps):
        place = next((place for place, (known, _) in enumerate(model) if known == key), None)
        if step == "use":
            assert held.use(key) == (None if place is None else model[place][1])
            if place is not None:
                model.append(model.pop(place))
        elif step == "pop":
            assert held.pop(key, None) == (None if place is None else model.pop(place)[1])
        elif step == "evict" and model:
            assert held.popitem(last=False) == model.pop(0)
        elif step in ("set", "renew"):
            (held.__setitem__ if step == "set" else held.renew)(key, number)
            if place is None:
                model.append((key, number))
                if len(model) > limit:
                    expected_gone.append(model.pop(0)[0])
            else:
                model[place] = (key, number)
                if step == "renew":
                    model.append(model.pop(place))
        assert list(held.items()) == model
    assert gone == expected_gone and len(held) <= limit


def test_a_copy_keeps_the_bound_the_order_and_the_callback() -> None:
    gone: list[int] = []
    held: BoundedDict[int, list[int]] = BoundedDict(2, lambda key, value: gone.append(key))
    held[2], held[1] = [2], [1]
    for copied in (copy.copy(held), copy.deepcopy(held)):
        assert list(copied.items()) == [(2, [2]), (1, [1])] and copied[2] is not None
        copied[3] = [3]
        assert list(copied) == [1, 3]
    assert len(gone) == 2 and list(held) == [2, 1]
    assert copy.deepcopy(held)[1] is not held[1]
