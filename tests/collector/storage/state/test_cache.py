"""A copy of a table in memory follows what anybody writes."""

from types import SimpleNamespace

from sqlalchemy import Connection, select

from collector.storage.state.cache import LOOK_SECONDS, MISSES_MAX, StateCache
from collector.storage.state.store import StateStore
from collector.storage.state.tables.base import IMPORTS
from tests.collector.storage.state.test_store import note


def read_names(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(IMPORTS.c.name)).scalars())


def test_a_copy_is_read_anew_after_a_write_and_not_without_one(state: StateStore) -> None:
    clock = SimpleNamespace(now=100.0)
    kept = StateCache(state, (IMPORTS.name,), read_names, lambda: clock.now)
    first = kept.recall()
    note(state, "a")
    assert first == [] and kept.recall() is first, "nobody looks before the second is over"
    clock.now += LOOK_SECONDS
    second = kept.recall()
    assert second == ["a"]
    clock.now += LOOK_SECONDS
    assert kept.recall() is second
    note(state, "b")
    kept.look()
    assert kept.recall() == ["a", "b"]
    note(state, "c")
    assert kept.read() == ["a", "b", "c"]


def test_what_is_missing_is_read_at_once_and_a_flood_reads_no_more_than_its_pace(sqlite_state: StateStore) -> None:
    clock = SimpleNamespace(now=100.0)
    kept = StateCache(sqlite_state, (IMPORTS.name,), read_names, lambda: clock.now)
    assert kept.recall() == []
    note(sqlite_state, "a")
    assert kept.recall_missing() == ["a"]
    for _ in range(MISSES_MAX):
        kept.recall_missing()
    note(sqlite_state, "b")
    assert kept.recall_missing() == ["a"]
    clock.now += LOOK_SECONDS
    assert kept.recall_missing() == ["a", "b"]
