"""What is computed of endpoints is computed again where something was written, and now and then at rest."""

from collections.abc import Collection
from typing import Any, cast

from collector.server.compose import HURRY_LOOKS, RestWatch


class Store:
    def __init__(self) -> None:
        self.writes = {"rows_minute": 0}

    def count_writes(self, tables: Collection[str]) -> int:
        return sum(count for name, count in self.writes.items() if name in tables)


def count_rounds(rest: RestWatch, done: list[int], rounds: int) -> int:
    before = len(done)
    for _ in range(rounds):
        rest.look()
        rest.skip(lambda: done.append(1))()
    return len(done) - before


def test_a_round_is_skipped_while_nothing_was_written() -> None:
    store, done = Store(), list[int]()
    rest = RestWatch(cast(Any, store), 0.0, 3_600.0)
    assert count_rounds(rest, done, 5) == 1
    store.writes["rows_minute"] += 1
    assert count_rounds(rest, done, 5) == 1
    assert count_rounds(rest, done, 5) == 0
    assert count_rounds(RestWatch(cast(Any, store), 0.0, 0.0), done, 5) == 5
    assert count_rounds(RestWatch(cast(Any, store), 3_600.0, 0.0), done, 5) == 1


def test_what_is_done_in_each_round_is_done_at_rest_too() -> None:
    done: list[str] = []
    rest = RestWatch(cast(Any, Store()), 0.0, 3_600.0)
    each, skipped = rest.repeat(lambda: done.append("each")), rest.skip(lambda: done.append("skipped"))
    for _ in range(3):
        rest.look()
        each()
        skipped()
    assert done == ["each", "skipped", "each", "each"]


def test_a_round_waits_for_rows_that_are_to_be_stored_and_not_for_ever() -> None:
    done: list[int] = []
    late = [True, True, False]
    rest = RestWatch(cast(Any, Store()), 3_600.0, 3_600.0, lambda: late.pop(0))
    assert count_rounds(rest, done, 2) == 0
    assert count_rounds(rest, done, 1) == 1 and not late
    rest = RestWatch(cast(Any, Store()), 3_600.0, 3_600.0, lambda: True)
    assert count_rounds(rest, done, HURRY_LOOKS) == 0
    assert count_rounds(rest, done, 5) == 1
