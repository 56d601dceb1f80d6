"""What is computed of endpoints is computed again where something was written, and now and then at rest."""

from collections.abc import Collection
from typing import Any, cast

from collector.server.compose import RestWatch


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
    rest = RestWatch(cast(Any, store), 3_600.0)
    assert count_rounds(rest, done, 5) == 1
    store.writes["rows_minute"] += 1
    assert count_rounds(rest, done, 5) == 1
    assert count_rounds(rest, done, 5) == 0
    assert count_rounds(RestWatch(cast(Any, store), 0.0), done, 5) == 5
