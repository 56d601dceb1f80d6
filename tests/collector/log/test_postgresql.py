"""The log in PostgreSQL: what its server does, and a collector that is killed over it."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from collector.log import shared
from collector.log.base import STORE, LogError
from collector.log.open import LogPlace, open_log
from collector.log.postgresql import SCHEMA, PostgresqlLog
from collector.storage.state.store import StateStore
from tests.collector.log.test_conformance import make_append, read_all


@pytest.fixture
def url(postgresql_url: str) -> str:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    return postgresql_url


@pytest.fixture
def log(url: str, sqlite_state: StateStore) -> Iterator[PostgresqlLog]:
    with closing(PostgresqlLog(url, sqlite_state)) as opened:
        yield opened


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["postgresql://a:se%cret@h/d", "postgresql://h", "mysql://a:secret@h/d", "x"])
def test_what_is_no_url_of_a_database_is_named_without_its_password(
    wrong: str, sqlite_state: StateStore, tmp_path: Path
) -> None:
    with pytest.raises(LogError) as raised:
        open_log(LogPlace(directory=tmp_path, url=wrong), sqlite_state)
    assert "postgresql://user:password@host:port/database" in str(raised.value)
    assert "secret" not in str(raised.value) and "se%cret" not in str(raised.value)


def test_a_server_that_is_away_is_one_sentence_with_the_fix(sqlite_state: StateStore, tmp_path: Path) -> None:
    with pytest.raises(LogError) as raised:
        PostgresqlLog(f"postgresql://a:secret@/d?host={tmp_path}", sqlite_state)
    text = str(raised.value)
    assert text.startswith(f"The log in PostgreSQL at {tmp_path}:5432/d cannot be used (")
    assert text.endswith("; start it or correct log_url.") and "secret" not in text and "\n" not in text


def test_a_log_of_a_newer_version_is_left_alone(url: str, log: PostgresqlLog, sqlite_state: StateStore) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"UPDATE {SCHEMA}.head SET format = 99")
    with pytest.raises(LogError, match="another version of Apidae"):
        PostgresqlLog(url, sqlite_state)


def test_after_a_connection_that_broke_it_goes_on(url: str, log: PostgresqlLog) -> None:
    reader = log.open_reader(STORE)
    log.append([make_append(1)])
    assert read_all(reader) == [1]
    ask(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'apidae log'")
    with pytest.raises(LogError):
        log.append([make_append(2)])
    assert not log.is_known("node-a", "boot-1", 2)
    with pytest.raises(LogError):
        reader.read()
    log.append([make_append(2)])
    assert read_all(reader) == [2]


def test_an_append_is_durable_where_the_server_would_not_wait(log: PostgresqlLog, url: str) -> None:
    assert ask(url, "SHOW synchronous_commit") == [("off",)]  # As the tests start it.
    assert log._server.run(lambda one: one.execute("SHOW synchronous_commit").fetchall()) == [("on",)]


def test_what_many_collectors_append_at_once_is_read_in_full_by_who_reads_meanwhile(
    url: str, sqlite_state: StateStore
) -> None:
    writers, each = 4, 25

    def write(number: int) -> None:
        with closing(PostgresqlLog(url, sqlite_state, segment_bytes=20_000)) as own:
            for sequence in range(each):
                own.append([make_append(number * each + sequence, node=f"node-{number}")])

    with closing(PostgresqlLog(url, sqlite_state)) as one:
        reader = one.open_reader(STORE)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        found = []
        while any(thread.is_alive() for thread in threads):
            found += read_all(reader)
        for thread in threads:
            thread.join()
        found += read_all(reader)
    assert sorted(found) == list(range(writers * each)) and len(found) == len(set(found))
    assert len(ask(url, f"SELECT 1 FROM {SCHEMA}.segments")) > 2


def test_a_segment_that_somebody_copies_is_dropped_later(
    url: str, sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LEDGER_BYTES", 1)
    with closing(PostgresqlLog(url, sqlite_state, segment_bytes=3_000, limit_bytes=12_000)) as log:
        reader = log.open_reader(STORE)
        for sequence in range(8):
            log.append([make_append(sequence)])
        read_all(reader)
        reader.commit(reader.position)
        with psycopg.connect(url) as other:
            other.execute(f"SELECT count(*) FROM {SCHEMA}.segment_1")
            assert log.trim() == 0
            log.append([make_append(9)])
        assert log.trim() > 0
