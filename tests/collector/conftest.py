"""The state for all tests of the collector: in a file of SQLite and in a server of PostgreSQL."""

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, delete, make_url

from collector.storage.state.store import StateStore, open_state
from collector.storage.state.tables import METADATA
from tests.collector.postgresql import find_programs, run_server
from tests.collector.states import close_states


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A server's, a real one where scripts/test --services started some."""
    if given := os.environ.get("APIDAE_TEST_POSTGRESQL"):
        yield given
        return
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    with run_server(programs) as url:
        yield url


@pytest.fixture
def new_postgresql(postgresql_url: str) -> Callable[[], str]:
    """Makes an empty database, and gives its URL."""
    url = make_url(postgresql_url)

    def make() -> str:
        name = f"new_{uuid4().hex}"
        server = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        server.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateStore]:
    opened = open_state(tmp_path_factory.mktemp("state"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgresql_database(postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateStore]:
    opened = open_state(tmp_path_factory.mktemp("state"), postgresql_url)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest) -> StateStore:
    """An empty state; the test runs once on each database."""
    return empty(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture
def sqlite_state(sqlite_database: StateStore) -> StateStore:
    """An empty state, for tests of something else."""
    return empty(sqlite_database)


def empty(opened: StateStore) -> StateStore:
    with opened.write() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(delete(table))
    return opened


@pytest.fixture(scope="module", autouse=True)
def closed_states() -> Iterator[None]:
    """Those of `create_state` end with the module."""
    yield
    close_states()
