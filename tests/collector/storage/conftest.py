"""One embedded store for all tests of this folder, closed after them, for a process has one engine; and one behind the
protocol of a server."""

import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from collector.storage.base import Store
from collector.storage.clickhouse import TABLES, ClickHouseStore, open_server
from collector.storage.embedded import EmbeddedStore
from tests.collector.storage.http_server import PASSWORD, USER, RunningServer


@pytest.fixture(scope="package")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("embedded"))
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def server_address() -> Iterator[str]:
    """http://USER:PASSWORD@HOST:PORT of a server, a real one where scripts/test --services started some."""
    if given := os.environ.get("APIDAE_TEST_CLICKHOUSE"):
        yield given.split(",")[0]
        return
    running = RunningServer()
    yield f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{running.port}"
    running.stop()


@pytest.fixture(scope="package")
def server(server_address: str) -> Iterator[ClickHouseStore]:
    opened = open_server(f"{server_address}/default")
    yield opened
    opened.close()


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest) -> Store:
    """The store under test, empty: each kind in turn."""
    opened: ClickHouseStore = request.getfixturevalue(request.param)
    for table in TABLES:
        opened.execute(f"TRUNCATE TABLE {table.name}")
    return opened
