"""A store for a module, and an office over it for a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.storage.clickhouse import TABLES
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.detection.changes.office import Office


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("changes"))
    yield opened
    opened.close()


@pytest.fixture
def office(embedded: EmbeddedStore, sqlite_state: StateStore, tmp_path: Path) -> Office:
    for table in TABLES:
        embedded.execute(f"TRUNCATE TABLE {table.name}")
    return Office(embedded, sqlite_state, tmp_path)
