"""A backup under ingest, restored: all that was acknowledged before it is there once, and the collector goes on."""

import contextlib
import itertools
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import pytest
from apidae.v1 import stream_pb2

from collector.backup.restore import MARK
from collector.backup.snapshot import Backup, open_file
from collector.core.errors import ConflictError
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import FILE_NAME, open_state
from collector.storage.tables.layout import Layout
from tests.collector.running import Conversation, RunningCollector, clean_environment, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until
from tests.with_constants import make_command

pytestmark = pytest.mark.store

ACKED = (stream_pb2.ACK_STATUS_ACCEPTED, stream_pb2.ACK_STATUS_DUPLICATE)
ROWS = 4  # Of a batch, which has 1 + 2 + 3 + 4 calls.
CALLS = 10


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [*make_command({}), *words]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)


def back_up(collector: RunningCollector, data: Path, file: Path) -> "subprocess.CompletedProcess[str]":
    token = str(data / "backup.token")
    return run("backup", str(file), "--url", f"http://{collector.ready['http']}", "--backup-token-file", token)


class Ingest:
    """A sensor that sends one batch after the other until `stop`; `acked` is the highest sequence that is safe."""

    def __init__(self, collector: RunningCollector) -> None:
        self.acked = 0
        self._is_over = threading.Event()
        self._conversation = Conversation(collector.ready["grpc"], make_hello())
        self._threads = [threading.Thread(target=work) for work in (self._send, self._listen)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        for sequence in itertools.count(1):
            if self._is_over.is_set():
                break
            batch = make_batch(rows=ROWS, sequence=sequence, base=int(time.time()) - 60)
            self._conversation.say(wrap(batch))
            wait_until(lambda sent=sequence: self.acked == sent or self._is_over.is_set())

    def _listen(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # It left.
            while (response := self._conversation.hear()) is not None:
                if response.WhichOneof("message") == "ack" and response.ack.status in ACKED:
                    self.acked = max(self.acked, response.ack.sequence)

    def stop(self) -> None:
        self._is_over.set()
        self._threads[0].join()
        self._conversation.close()
        self._threads[1].join()


def count_calls(data: Path) -> list[int]:
    """Of minutes, hours and days."""
    store = EmbeddedStore(data / "store")
    try:
        return [
            int(store.query(f"SELECT sum(calls) FROM {table}")[0][0])
            for table in ("rows_minute", "rows_hour", "routes_day")
        ]
    finally:
        store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, int, int]]:
    """The data directory, the backup, and the highest sequences acknowledged before and after it."""
    base = tmp_path_factory.mktemp("backup")
    data, file = base / "data", base / "b.tar"
    collector = RunningCollector(data, "--no-auth")
    ingest = Ingest(collector)
    try:
        wait_until(lambda: ingest.acked > 20)
        before = ingest.acked
        done = back_up(collector, data, file)
        after = ingest.acked
        wait_until(lambda: ingest.acked > after + 2)  # It went on.
        (entry,) = collector.get("/audit").json()["items"]
        assert (entry["action"], entry["target"], entry["by"]) == ("export.backup", "backup", "no-auth")
    finally:
        ingest.stop()
        assert collector.stop() == 0
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("Backed up ") and " tables and " in done.stderr
    yield data, file, before, after


def test_the_archive_is_private_and_alone(made: tuple[Path, Path, int, int]) -> None:
    _, file, _, _ = made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if path.name != "data"] == ["b.tar"]
    checked = run("restore", str(file), "--check")
    assert checked.returncode == 0 and checked.stderr.startswith("Whole: ")


def test_acknowledged_is_restored_once(made: tuple[Path, Path, int, int], tmp_path: Path) -> None:
    data, file, before, after = made
    restored = tmp_path / "restored"
    done = run("restore", str(file), "--data-dir", str(restored))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Restored ")
    for name in ("state.key", "backup.token"):
        assert (restored / name).read_bytes() == (data / name).read_bytes()
        assert stat.S_IMODE((restored / name).stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(restored / "state.db")) as state:
        assert state.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    collector = RunningCollector(restored, "--no-auth")
    (entry, *_) = collector.get("/audit").json()["items"]
    assert (entry["action"], entry["by"]) == ("backup.restored", "the collector's host")
    assert collector.stop() == 0
    minutes, hours, days = count_calls(restored)
    assert minutes == hours == days
    batches, rest = divmod(minutes, CALLS)
    assert rest == 0
    # The next one may have been in the log already, with its acknowledgement under way.
    assert before <= batches <= after + 1
    # Sent again, what is there counts once, and what came after the backup is taken.
    collector = RunningCollector(restored, "--no-auth")
    base = int(time.time()) - 60
    again = [wrap(make_batch(rows=ROWS, sequence=number, base=base)) for number in range(1, batches + 11)]
    acks = list_acks(talk(collector.ready["grpc"], [make_hello(), *again]))
    assert collector.stop() == 0
    assert [ack.status for ack in acks].count(stream_pb2.ACK_STATUS_ACCEPTED) == 10
    assert count_calls(restored) == [CALLS * (batches + 10)] * 3


def test_a_used_directory_is_refused(made: tuple[Path, Path, int, int]) -> None:
    data, file, _, _ = made
    before = sorted(data.iterdir())
    done = run("restore", str(file), "--data-dir", str(data))
    assert done.returncode == 1
    assert f"The data directory {data} is not empty (backup.token and " in done.stderr
    assert sorted(data.iterdir()) == before


def test_a_damaged_archive_writes_nothing(made: tuple[Path, Path, int, int], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar"
    content = bytearray(made[1].read_bytes())
    at = content.index(b"tables/rows_minute.zst.00001") + 600
    content[at] ^= 1
    damaged.write_bytes(content)
    for words in (["--check"], ["--data-dir", str(tmp_path / "data")]):
        done = run("restore", str(damaged), *words)
        assert done.returncode == 1
        assert "damaged in its member tables/rows_minute.zst.00001 (its checksum differs)" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]


def test_a_restore_that_was_cut_off_lets_no_collector_start_and_begins_anew(
    made: tuple[Path, Path, int, int], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "store" / "engine").mkdir(parents=True)
    (data / MARK).touch()
    with pytest.raises(AssertionError, match="was not finished; run `apidae restore` again"):
        RunningCollector(data, "--no-auth")
    assert run("restore", str(made[1]), "--data-dir", str(data)).returncode == 0
    assert not (data / MARK).exists()


def test_a_running_collector_keeps_its_directory_and_its_backup_from_whoever_lacks_the_token(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "b.tar"
    collector = RunningCollector(data)
    url = f"http://{collector.ready['http']}"
    try:
        api_token = (data / "api.token").read_text().strip()
        bearer = {"authorization": f"Bearer {api_token}"}
        backup_token = {"apidae-backup": (data / "backup.token").read_text().strip()}
        assert httpx.get(f"{url}/api/v1/backup", headers=backup_token, timeout=60).status_code == 401
        for given in ({}, {"apidae-backup": api_token}):
            refused = httpx.get(f"{url}/api/v1/backup", headers={**bearer, **given}, timeout=60)
            assert refused.status_code == 403 and "backup.token" in refused.json()["detail"]
        (tmp_path / "wrong").write_text("wrong")
        wrong = ("--token", api_token, "--backup-token-file", str(tmp_path / "wrong"))
        done = run("backup", str(file), "--url", url, *wrong)
        assert done.returncode == 1 and "answered 403" in done.stderr
        both = {**bearer, **backup_token}
        with httpx.stream("GET", f"{url}/api/v1/backup", headers=both, timeout=60) as response:
            assert response.status_code == 200
        # That client left, so there is room for the next one, and nothing is left of the first.
        wait_until(lambda: httpx.get(f"{url}/api/v1/backup", headers=both, timeout=60).status_code == 200)
        done = run("restore", str(tmp_path / "none.tar"), "--data-dir", str(data))
        assert f"in use by another collector (process {collector.ready['pid']})" in done.stderr
    finally:
        assert collector.stop() == 0
    assert not file.exists() and not file.with_name("b.tar.part").exists()
    store = EmbeddedStore(data / "store")
    try:
        assert store.query("SELECT name FROM system.databases WHERE name LIKE '%backup'") == []
    finally:
        store.close()


def test_files_of_the_log_are_not_restored_where_nobody_reads_them(
    made: tuple[Path, Path, int, int], new_postgresql: Callable[[], str], tmp_path: Path
) -> None:
    url, settings = new_postgresql(), tmp_path / "collector.toml"
    settings.write_text(f'data_dir = "{tmp_path / "data"}"\nstate_url = "{url}"\nlog_url = "{url}"\n')
    done = run("restore", str(made[1]), "--config", str(settings))
    assert done.returncode == 1 and "has batches in files of the log, which nobody reads with log_url" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("holder", "sentence"),
    [("https://10.0.0.2:8443", "The collector at https://10.0.0.2:8443 writes the tables"), (None, "No collector")],
)
def test_who_writes_the_tables_makes_the_backup(holder: str | None, sentence: str, tmp_path: Path) -> None:
    store: Any = SimpleNamespace(layout=Layout())
    nothing: Any = None
    backup = Backup(
        directory=tmp_path,
        store=store,
        state=nothing,
        writer=nothing,
        log=nothing,
        version="0.2.0",
        clock=time.time,
        lock=threading.Lock(),
        find_holder=lambda: holder,
    )
    with pytest.raises(ConflictError, match=sentence):
        next(backup.write())


def test_a_copy_of_the_state_takes_no_lock_of_the_collector_away(tmp_path: Path) -> None:
    """A process that closes any descriptor of the file loses its locks. Then a command on the host is the last one to
    close it, and deletes the write-ahead log that the collector goes on to write."""
    state = open_state(tmp_path)
    path = tmp_path / FILE_NAME
    with open_file(path) as (copy, size):
        assert size and copy.read(6) == b"SQLite"
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM table_writes')"
    subprocess.run([sys.executable, "-c", look, str(path)], check=True)
    assert path.with_name(f"{FILE_NAME}-wal").exists()
    state.close()


def test_only_one_backup_or_erasure_is_under_way(tmp_path: Path) -> None:
    lock = threading.Lock()
    store: Any = SimpleNamespace(layout=Layout())
    nothing: Any = None
    backup = Backup(
        directory=tmp_path,
        store=store,
        state=nothing,
        writer=nothing,
        log=nothing,
        version="0.2.0",
        clock=time.time,
        lock=lock,
    )
    with lock, pytest.raises(ConflictError, match="Another backup or an erasure is under way"):
        next(backup.write())


def test_replicas_are_backed_up_by_their_own_means(tmp_path: Path) -> None:
    store: Any = SimpleNamespace(layout=Layout(replicas="apidae"))
    nothing: Any = None
    backup = Backup(
        directory=tmp_path,
        store=store,
        state=nothing,
        writer=nothing,
        log=nothing,
        version="0.2.0",
        clock=time.time,
        lock=threading.Lock(),
    )
    with pytest.raises(ConflictError, match="back these up with ClickHouse's own BACKUP"):
        next(backup.write())
