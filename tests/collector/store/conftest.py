"""One embedded store for all tests of this folder, closed after them, for a process has one engine."""

from collections.abc import Iterator

import pytest

from collector.store.base import Store
from collector.store.embedded import EmbeddedStore
from collector.store.migrations import TABLES


@pytest.fixture(scope="package")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("embedded"))
    yield opened
    opened.close()


@pytest.fixture
def store(embedded: EmbeddedStore) -> Store:
    """The store under test, empty."""
    for table in TABLES:
        embedded.execute(f"TRUNCATE TABLE {table.name}")
    return embedded
