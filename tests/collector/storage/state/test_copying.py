"""A copy of the state has all rows, on either database, of one moment, and goes on with its numbers."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Column, Float, LargeBinary, insert, select
from sqlalchemy.types import TypeDecorator

from collector.storage.base import StoreError
from collector.storage.state.copying import copy_rows, count_rows, save_copy
from collector.storage.state.store import FILE_NAME, StateStore, open_state, upsert
from collector.storage.state.tables import METADATA
from collector.storage.state.tables.alerts import INCIDENT_ENTRIES
from collector.storage.state.tables.base import IMPORTS, TABLE_WRITES
from collector.storage.state.types import Hash64
from tests.collector.conftest import empty

ROWS = 3


def make_value(column: Column[Any], row: int) -> Any:
    """One that a column keeps exactly, and of which each row has another."""
    if isinstance(column.type, Hash64):
        return 2**64 - 1 - row
    kind: Any = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, JSON):
        return {"names": [f"ü{row}"]}
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, row])
    if isinstance(kind, Float):
        return 1_700_000_000.125 + row
    if kind.python_type is bool:
        return bool(row % 2)
    if kind.python_type is int:
        return (2**40 if isinstance(kind, BigInteger) else 1_000) + row
    if kind.python_type is datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return f"ä{row}"


def fill(state: StateStore) -> None:
    """Each table with rows."""
    with state.write() as connection:
        for table in METADATA.sorted_tables:
            if table is not TABLE_WRITES:
                rows = [{one.name: make_value(one, row) for one in table.columns} for row in range(ROWS)]
                connection.execute(insert(table), rows)


def read_all(state: StateStore) -> dict[str, list[tuple[Any, ...]]]:
    with state.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in METADATA.sorted_tables
            if table is not TABLE_WRITES
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    if request.param == "sqlite":
        opened = open_state(tmp_path)
        request.addfinalizer(opened.close)
        return opened
    return empty(request.getfixturevalue("postgresql_database"))


def test_a_copy_has_every_value_of_every_table(sqlite_state: StateStore, target: StateStore) -> None:
    fill(sqlite_state)
    copied: list[tuple[str, int]] = []
    with sqlite_state.snapshot() as source:
        counted = copy_rows(source, target, on_rows=lambda *some: copied.append(some))
    assert read_all(target) == read_all(sqlite_state)
    assert counted == dict(copied) and set(counted.values()) == {ROWS}


def test_a_copy_goes_on_with_the_numbers_of_its_rows(sqlite_state: StateStore, target: StateStore) -> None:
    fill(sqlite_state)
    with sqlite_state.snapshot() as source:
        copy_rows(source, target)
    own = INCIDENT_ENTRIES.c.number
    texts = dict.fromkeys(("incident_id", "alert_id", "happening", "kind", "severity", "title", "why"), "a")
    with target.write() as connection:
        number = connection.execute(insert(INCIDENT_ENTRIES).values(time=1.0, **texts).returning(own)).scalar()
        numbers = connection.execute(select(own).order_by(own)).scalars().all()
    assert numbers[-1] == number and len(numbers) == ROWS + 1


def test_a_target_with_rows_is_refused_and_left_as_it_is(sqlite_state: StateStore, target: StateStore) -> None:
    fill(sqlite_state)
    with target.write() as connection:
        upsert(connection, IMPORTS, [{"name": "own", "time": 1.0, "rows": 1}])
    before = read_all(target)
    with sqlite_state.snapshot() as source:
        with pytest.raises(StoreError, match=r"is not empty \(its table imports has rows\); name an empty database"):
            copy_rows(source, target)
        assert read_all(target) == before
        copy_rows(source, target, replaces=True)
    assert read_all(target) == read_all(sqlite_state)


def test_a_copy_is_of_one_moment(state: StateStore, tmp_path: Path) -> None:
    fill(state)
    with state.snapshot() as source:
        with state.write() as connection:
            upsert(connection, IMPORTS, [{"name": "later", "time": 1.0, "rows": 1}])
        path = save_copy(source, tmp_path)
    assert path == tmp_path / FILE_NAME and [one.name for one in tmp_path.iterdir()] == [FILE_NAME]
    copy = open_state(tmp_path)
    with copy.read() as connection:
        assert set(count_rows(connection).values()) == {ROWS}
    copy.close()
