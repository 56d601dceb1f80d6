"""One sensor a node: by file, by name, and that the lock dies with its process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sensor.lock import LockError, NodeLock, read_holder

HOLDER = """
import sys
from pathlib import Path
from sensor.lock import NodeLock
with NodeLock(Path(sys.argv[1]), version="9.9.9", now=lambda: "2026-11-24T10:00:00Z", abstract_name=sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""

MakeLock = Callable[[Path], NodeLock]


@pytest.fixture
def name() -> str:
    return f"apidae-test-{os.getpid()}"


@pytest.fixture
def make_lock(name: str) -> MakeLock:
    return lambda directory: NodeLock(
        directory, version="0.1.0", now=lambda: "2026-11-24T10:23:00Z", abstract_name=name
    )


def test_file_names_the_holder(tmp_path: Path, make_lock: MakeLock) -> None:
    with make_lock(tmp_path):
        holder = read_holder(tmp_path)
    assert str(holder) == f"pid {os.getpid()}, started 2026-11-24T10:23:00Z, version 0.1.0"


def test_second_sensor_is_refused_and_told_of_the_first(tmp_path: Path, make_lock: MakeLock) -> None:
    with make_lock(tmp_path), pytest.raises(LockError) as refusal:
        make_lock(tmp_path).acquire()
    assert f"pid {os.getpid()}, started 2026-11-24T10:23:00Z, version 0.1.0" in str(refusal.value)


def test_sensors_of_two_run_directories_still_collide(tmp_path: Path, make_lock: MakeLock) -> None:
    with make_lock(tmp_path / "a"), pytest.raises(LockError, match=f"pid {os.getpid()}"):
        make_lock(tmp_path / "b").acquire()


def test_refused_sensor_leaves_the_other_directory_free(tmp_path: Path, make_lock: MakeLock) -> None:
    with make_lock(tmp_path / "a"), pytest.raises(LockError):
        make_lock(tmp_path / "b").acquire()
    with make_lock(tmp_path / "b"):
        assert (tmp_path / "b" / "sensor.lock").exists()


def test_released_lock_can_be_taken_again(tmp_path: Path, make_lock: MakeLock) -> None:
    lock = make_lock(tmp_path)
    lock.acquire()
    lock.release()
    with make_lock(tmp_path):
        assert read_holder(tmp_path) is not None


def test_kill_9_releases_the_lock(tmp_path: Path, make_lock: MakeLock, name: str) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockError, match=f"pid {holder.pid}, started 2026-11-24T10:00:00Z, version 9.9.9"):
            make_lock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with make_lock(tmp_path):
        pass


def test_child_of_the_holder_does_not_keep_the_lock(tmp_path: Path, make_lock: MakeLock) -> None:
    lock = make_lock(tmp_path)
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE):
        lock.release()
        with make_lock(tmp_path):
            pass


def test_unwritable_directory_is_one_sentence(tmp_path: Path, make_lock: MakeLock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match=r"The lock file .*/file/run/sensor\.lock cannot be opened \(Not a directory\)"):
        make_lock(tmp_path / "file" / "run").acquire()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to bind the name as another user")
def test_name_held_by_an_unprivileged_user_does_not_stop_the_sensor(
    tmp_path: Path, make_lock: MakeLock, name: str
) -> None:
    squatter = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.bind('\\0' + sys.argv[1]); "
        "s.listen(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", squatter, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with make_lock(tmp_path):
            pass


def test_garbage_in_the_file_is_no_holder(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]", '{"pid": "x", "started": 1, "version": 2}'):
        (tmp_path / "sensor.lock").write_text(text)
        assert read_holder(tmp_path) is None


def test_name_of_another_kind_of_socket_is_refused(tmp_path: Path, make_lock: MakeLock, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(f"\0{name}")  # Bound and not listening: the kernel does not tell whose it is.
        with pytest.raises(LockError, match="in another pid namespace"):
            make_lock(tmp_path).acquire()
