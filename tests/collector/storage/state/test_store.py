"""The state on both databases: transactions, texts, restarts, and one sentence for what cannot be opened."""

import os
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, select, text

from collector.core.budget import Budget, StoppedError, use_budget
from collector.storage.base import RefusedStatementError, StateError, StoreError
from collector.storage.state.store import FILE_NAME, StateStore, number_write, open_state, start_numbers, upsert
from collector.storage.state.tables import METADATA
from collector.storage.state.tables.alerts import ALERT_ROUTES, SILENCES
from collector.storage.state.tables.base import IMPORTS

PASSWORD = "hidden-one"


def note(state: StateStore, name: str, rows: int = 1) -> None:
    with state.write() as connection:
        upsert(connection, IMPORTS, [{"name": name, "time": 1.0, "rows": rows}])


def list_names(state: StateStore) -> list[str]:
    with state.read() as connection:
        return sorted(connection.execute(select(IMPORTS.c.name)).scalars())


def test_migrations_make_the_schema(state: StateStore) -> None:
    with state.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_a_transaction_is_kept_as_a_whole_or_not_at_all(state: StateStore) -> None:
    writes = state.count_writes(["imports"])
    with pytest.raises(ZeroDivisionError), state.write() as connection:
        upsert(connection, IMPORTS, [{"name": "a", "time": 1.0, "rows": 1}])
        1 / 0  # noqa: B018
    assert (list_names(state), state.count_writes(["imports"])) == ([], writes)
    note(state, "a", 1)
    note(state, "a", 2)
    with state.read() as connection:
        assert connection.execute(select(IMPORTS.c.rows)).scalars().all() == [2]
    assert state.count_writes(["imports"]) == writes + 2


def test_why_it_failed_last_is_known_until_it_answers(state: StateStore) -> None:
    assert state.fault == ""
    with pytest.raises(StateError, match="cannot be used") as failed, state.read() as connection:
        connection.execute(text("SELECT 1 FROM what_is_not_there"))
    assert state.fault == str(failed.value)
    assert (list_names(state), state.fault) == ([], "")


def test_threads_write_and_read_at_once(state: StateStore) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(5):
                note(state, f"{number}-{step}")
                list_names(state)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(list_names(state)) == 40


def test_texts_are_bounded_and_any_text_is_kept(state: StateStore) -> None:
    row = {"kind": "muted", "by": "ann", "at": float("nan"), "until": None, "alert_id": "a" * 100}
    with state.write() as connection:
        upsert(connection, SILENCES, [row | {"subject": "s", "reason": "x" * 9_999 + "\0\ud800"}])
        upsert(connection, SILENCES, [row | {"subject": "t", "reason": "\0\ud800'\" %s :a"}])
    with state.read() as connection:
        first, second = connection.execute(select(SILENCES).order_by(SILENCES.c.subject)).all()
    assert (len(first.reason), first.reason[-1], len(first.alert_id), first.at) == (4_096, "…", 64, 0.0)
    assert second.reason == "\ufffd?'\" %s :a"


def test_a_number_that_is_too_large_is_kept_as_the_largest(state: StateStore) -> None:
    note(state, "large", rows=2**64 - 1)
    with state.read() as connection:
        assert connection.execute(select(IMPORTS.c.rows)).scalars().all() == [2**63 - 1]


def test_a_refused_value_is_in_no_sentence(state: StateStore) -> None:
    with pytest.raises(RefusedStatementError) as caught, state.write() as connection:
        upsert(connection, SILENCES, [{"subject": PASSWORD, "kind": None, "by": PASSWORD}])
    assert PASSWORD not in f"{caught.value}{caught.value.__context__ if not caught.value.__suppress_context__ else ''}"


def test_who_left_reads_nothing(state: StateStore) -> None:
    budget, is_over = Budget("b", seconds=None), threading.Event()

    def cancel() -> None:
        while not is_over.wait(0.01):  # A statement that begins meanwhile is not ended by the first call.
            budget.cancel()

    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    with use_budget(budget), pytest.raises(StoppedError), state.read() as connection:
        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            connection.execute(text(endless))
        finally:
            is_over.set()
            canceller.join()
    assert list_names(state) == []


def test_size_is_that_on_disk_and_deleted_texts_leave_it(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    note(state, PASSWORD)
    with state.write() as connection:
        connection.execute(IMPORTS.delete())
    state.scrub()
    assert not [path for path in tmp_path.iterdir() if PASSWORD.encode() in path.read_bytes()]
    assert state.measure_bytes() == sum(path.stat().st_size for path in tmp_path.iterdir())
    state.close()


def test_the_file_is_for_its_owner_alone_synced_and_opens_again(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = open_state(tmp_path)
    finally:
        os.umask(before)
    note(state, "a")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    with state.read() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    state.close()
    again = open_state(tmp_path)
    assert list_names(again) == ["a"]
    again.close()


def test_a_newer_schema_is_one_sentence_that_names_both(state: StateStore) -> None:
    def set_revision(revision: str) -> None:
        with state.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})

    with state.read() as connection:
        own = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    set_revision("9999")
    try:
        with pytest.raises(StoreError, match=rf"newer version of Apidae.*9999.*{own}.*start that version"):
            state.prepare()
    finally:
        set_revision(own)


@pytest.mark.parametrize("damage", ["header", "page"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    state = open_state(tmp_path)
    note(state, "a")
    state.close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:100] = b"x" * 100
    else:
        content[8_192 : len(content) // 4_096 * 4_096] = os.urandom(len(content) // 4_096 * 4_096 - 8_192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"state\.db is damaged; restore it from a backup"):
        open_state(tmp_path)


def test_what_cannot_be_opened_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    for url, sentence in (
        (f"postgresql://u:{PASSWORD}@127.0.0.1:1/db", "PostgreSQL at 127.0.0.1:1/db cannot be used"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:{PASSWORD}/db", "The state_url is not postgresql://user:password@"),
        (f"mysql://u:{PASSWORD}@h/db", "The state_url is not"),
        (f"postgresql://u:{PASSWORD}@h", "The state_url is not"),
        (PASSWORD, "The state_url is not"),
    ):
        with pytest.raises(StoreError) as caught:
            open_state(tmp_path, url)
        shown = str(caught.value)
        assert sentence in shown and PASSWORD not in shown and "\n" not in shown
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StoreError, match=r"state\.db cannot be opened \(Is a directory\)"):
        open_state(tmp_path)


def test_a_server_that_comes_back_is_used_again(postgresql_url: str, tmp_path: Path) -> None:
    state = open_state(tmp_path, postgresql_url)
    note(state, "back")
    ours = create_engine(postgresql_url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with ours.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'apidae'")
        )
    ours.dispose()
    assert "back" in list_names(state)
    state.close()


def test_a_full_disk_loses_nothing_that_was_kept_and_is_no_damage(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    note(state, "before")

    def set_pages(count: int) -> None:  # SQLite's own bound says what a full disk says.
        with state.read() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {count}")

    set_pages(1)
    with pytest.raises(StoreError, match=r"disk is full.*free some space"), state.write() as connection:
        upsert(connection, IMPORTS, [{"name": f"{number:060}", "time": 1.0, "rows": 1} for number in range(1_000)])
    assert list_names(state) == ["before"]
    set_pages(1_000_000)
    note(state, "later")
    assert list_names(state) == ["before", "later"]
    state.close()


def test_routes_belong_to_an_alert(state: StateStore) -> None:
    with pytest.raises(RefusedStatementError), state.write() as connection:
        connection.execute(insert(ALERT_ROUTES), {"alert_id": "a", "position": 0, "route_id": 1})


def test_writes_of_a_table_have_numbers_that_only_grow(state: StateStore) -> None:
    def number(start: int = 0) -> int:
        with state.write() as connection:
            start_numbers(connection, IMPORTS, start)
            found = number_write(connection, IMPORTS)
            upsert(connection, IMPORTS, [{"name": "a", "time": 1.0, "rows": found}])
        return found

    first = number()
    assert [number(), number(), number(50), number(7)] == [first + 1, first + 2, 51, 52]
    assert state.count_writes(["imports"]) == 52
