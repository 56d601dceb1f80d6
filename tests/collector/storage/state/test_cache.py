"""A copy of a table in memory follows what anybody writes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, insert, select

from collector.storage.state.cache import LOOK_SECONDS, MISSES_MAX, StateCache
from collector.storage.state.store import StateStore, join_state, open_state
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


def test_nobody_who_wrote_goes_unseen_and_a_look_without_one_needs_no_transaction(
    sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = StateCache(sqlite_state, (IMPORTS.name,), read_names)
    before = sqlite_state.count_writes([IMPORTS.name])
    note(sqlite_state, "a")
    assert kept.read() == ["a"] and sqlite_state.count_writes([IMPORTS.name]) == before + 1
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_state, "read", None)
        assert kept.read() == ["a"] and sqlite_state.count_writes([IMPORTS.name]) == before + 1
    command = join_state(Path(sqlite_state.place).parent)  # As another process.
    note(command, "b")
    command.close()
    assert kept.read() == ["a", "b"] and sqlite_state.count_writes([IMPORTS.name]) == before + 2
    with sqlite_state.write() as connection:
        connection.execute(insert(IMPORTS).values(name="c", time=1.0, rows=1))
        assert kept.read() == ["a", "b"], "it is not kept yet"
    assert kept.read() == ["a", "b", "c"] and sqlite_state.count_writes([IMPORTS.name]) == before + 3


def test_what_a_slower_reader_found_hides_no_later_write(sqlite_state: StateStore) -> None:
    late: list[str] = []

    def read_slowly(connection: Connection) -> list[str]:
        names = read_names(connection)
        if late:
            note(sqlite_state, late.pop())
            assert kept.read() == ["a", "b"]
        return names

    kept = StateCache(sqlite_state, (IMPORTS.name,), read_slowly)
    note(sqlite_state, "a")
    late.append("b")
    assert kept.read() == ["a"]
    assert kept.read() == ["a", "b"]


def test_a_file_that_takes_the_place_of_the_state_is_read_without_a_restart(
    sqlite_state: StateStore, tmp_path: Path
) -> None:
    kept = StateCache(sqlite_state, (IMPORTS.name,), read_names)
    note(sqlite_state, "a")
    assert kept.read() == ["a"]
    sqlite_state.scrub()
    (tmp_path / "backup").mkdir()
    other = open_state(tmp_path / "backup")
    note(other, "b")  # As often as the first was written.
    other.scrub()
    other.close()
    Path(other.place).replace(sqlite_state.place)
    assert kept.read() == ["b"]


def test_a_look_after_the_end_opens_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    assert state.find_version() is not None
    state.close()
    assert state.find_version() is None
