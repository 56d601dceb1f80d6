"""The state moves from its file to PostgreSQL, and from there through a backup into either of the two."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2
from sqlalchemy import select

from collector.backup.archive import ArchiveError, Contents
from collector.backup.restore import restore
from collector.storage.base import StoreError
from collector.storage.state.moving import check_moved, move_state
from collector.storage.state.store import FILE_NAME, StateStore, open_state, upsert
from collector.storage.state.tables.base import IMPORTS
from tests.collector.backup.test_backup import CALLS, ROWS, back_up, count_calls, run
from tests.collector.running import RunningCollector, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch

pytestmark = pytest.mark.store

NAMES = [f"name-{number:02}" for number in range(23)]
MakeDatabase = Callable[[], str]


def write_names(state: StateStore, names: list[str]) -> None:
    with state.write() as connection:
        upsert(connection, IMPORTS, [{"name": name, "time": 1.0, "rows": 1} for name in names])


def list_names(directory: Path, url: str | None = None) -> list[str]:
    """Those that are written here; a collector adds its own."""
    state = open_state(directory, url)
    with state.read() as connection:
        found = sorted(connection.execute(select(IMPORTS.c.name).where(IMPORTS.c.time == 1.0)).scalars())
    state.close()
    return found


def make_file(directory: Path) -> None:
    directory.mkdir()
    state = open_state(directory)
    write_names(state, NAMES)
    state.close()


def write_settings(path: Path, directory: Path, url: str | None, *, has_log: bool = False) -> str:
    shared = "" if url is None else f'state_url = "{url}"\n' + (f'log_url = "{url}"\n' if has_log else "")
    path.write_text(f'data_dir = "{directory}"\n{shared}')
    return str(path)


def test_the_state_moves_to_postgresql_and_through_a_backup_into_either_database(
    new_postgresql: MakeDatabase, tmp_path: Path
) -> None:
    data, file = tmp_path / "data", tmp_path / "b.tar"
    make_file(data)
    settings = write_settings(tmp_path / "collector.toml", data, new_postgresql(), has_log=True)
    moved = run("state", "migrate", "--config", settings)
    assert moved.returncode == 0 and moved.stderr.startswith("Moved 23 rows of 1 tables to PostgreSQL at "), (
        moved.stderr
    )
    assert [path.name for path in data.iterdir() if FILE_NAME in path.name] == [f"{FILE_NAME}.imported"]
    collector = RunningCollector(data, "--no-auth", "--config", settings)
    try:
        batch = make_batch(rows=ROWS, sequence=1, base=int(time.time()) - 60)
        (ack,) = list_acks(talk(collector.ready["grpc"], [make_hello(), wrap(batch)]))
        assert ack.status == stream_pb2.ACK_STATUS_ACCEPTED
        done = back_up(collector, data, file)
        assert done.returncode == 0, done.stderr
    finally:
        assert collector.stop() == 0
    assert not [path.name for path in data.iterdir() if path.name.endswith(".copy")]

    for name, database in (("file", None), ("server", new_postgresql())):
        restored = tmp_path / name
        done = run("restore", str(file), "--config", write_settings(tmp_path / f"{name}.toml", restored, database))
        assert done.returncode == 0, done.stderr
        assert (restored / FILE_NAME).exists() == (database is None) and not (
            restored / f"{FILE_NAME}.imported"
        ).exists()
        assert list_names(restored, database) == NAMES
        assert count_calls(restored) == [CALLS] * 3  # The log is not in the backup, and its rows are.
    assert stat.S_IMODE((tmp_path / "file" / FILE_NAME).stat().st_mode) == 0o600


def test_a_database_with_rows_takes_no_second_state(new_postgresql: MakeDatabase, tmp_path: Path) -> None:
    url = new_postgresql()
    target = open_state(tmp_path, url)
    write_names(target, ["own"])
    target.close()
    data = tmp_path / "data"
    make_file(data)
    with pytest.raises(StoreError, match=r"is not empty \(its table imports has rows\); name an empty database"):
        move_state(data, url, on_begin=id, on_rows=lambda *_: None)
    assert list_names(data) == NAMES and list_names(tmp_path, url) == ["own"]


def test_a_restore_into_a_database_with_rows_writes_nothing(new_postgresql: MakeDatabase, tmp_path: Path) -> None:
    target = open_state(tmp_path, new_postgresql())
    write_names(target, ["own"])

    def restore_all() -> Contents:
        return restore(
            tmp_path / "b.tar",
            tmp_path / "data",
            lambda: pytest.fail("It was opened."),
            is_embedded=True,
            state=target,
            on_step=lambda *_: None,
            on_part=lambda *_: None,
        )

    with pytest.raises(ArchiveError, match=r"state_url is not empty \(its table imports has rows\); name a new one"):
        restore_all()
    target.close()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]


def test_a_collector_does_not_begin_anew_beside_the_state_it_had(new_postgresql: MakeDatabase, tmp_path: Path) -> None:
    data, url = tmp_path / "data", new_postgresql()
    make_file(data)
    state = open_state(data, url)
    with pytest.raises(StoreError, match="is empty; run `apidae state migrate`, or move the file away to begin anew"):
        check_moved(state, data)
    move_state(data, url, on_begin=id, on_rows=lambda *_: None)
    check_moved(state, data)
    state.close()
    assert list_names(data, url) == NAMES


@pytest.mark.parametrize(
    ("has_url", "sentence"),
    [(False, "The setting state_url is not set"), (True, "There is no state to move: ")],
)
def test_what_is_missing_is_named(has_url: bool, sentence: str, tmp_path: Path) -> None:
    url = "postgresql://user@127.0.0.1:1/db" if has_url else None
    done = run("state", "migrate", "--config", write_settings(tmp_path / "c.toml", tmp_path / "data", url))
    assert done.returncode == 1 and sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr
