"""One sensor a node: by file, by name, and that the lock dies with its process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sensor.agent.lock import LockError, NodeLock, read_holder
from sensor.enrich.cgroup_tree import WHOLE_HOST, CgroupScope
from tests.sensor.scopes import watch_cgroup, watch_host

HOLDER = """
import sys
from pathlib import Path
from sensor.enrich.cgroup_tree import WHOLE_HOST
from sensor.agent.lock import NodeLock
told = {"version": "9.9.9", "now": lambda: "2026-11-24T10:00:00Z", "abstract_name": sys.argv[2]}
with NodeLock(Path(sys.argv[1]), WHOLE_HOST, **told):
    print("held", flush=True)
    sys.stdin.read()
"""

MakeLock = Callable[..., NodeLock]


@pytest.fixture
def name() -> str:
    return f"apidae-test-{os.getpid()}"


@pytest.fixture
def make_lock(name: str) -> MakeLock:
    def make(directory: Path, scope: CgroupScope = WHOLE_HOST, state: Path | None = None) -> NodeLock:
        return NodeLock(
            directory,
            scope,
            version="0.1.0",
            now=lambda: "2026-11-24T10:23:00Z",
            state_directory=state,
            abstract_name=name,
        )

    return make


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A plain directory in the place of cgroup v2."""
    mount = tmp_path / "cgroup"
    for cgroup in ("shop.slice/orders.service", "shop.slice/users.service", "mail.slice"):
        (mount / cgroup).mkdir(parents=True)
    return mount


def test_file_names_the_holder(tmp_path: Path, make_lock: MakeLock) -> None:
    with make_lock(tmp_path):
        holder = read_holder(tmp_path / "sensor.lock")
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
        assert read_holder(tmp_path / "sensor.lock") is not None


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
@pytest.mark.parametrize("is_below", [False, True])
def test_name_held_by_an_unprivileged_user_does_not_stop_the_sensor(
    tmp_path: Path, make_lock: MakeLock, name: str, mount: Path, is_below: bool
) -> None:
    squatter = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.bind('\\0' + sys.argv[1]); "
        "s.listen(); print('held', flush=True); sys.stdin.read()"
    )
    number = (mount / "mail.slice").stat().st_ino
    command = [sys.executable, "-c", squatter, f"{name}-{number}" if is_below else name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with make_lock(tmp_path, watch_host(mount)):
            pass


def test_garbage_in_the_file_is_no_holder(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]", '{"pid": "x", "started": 1, "version": 2}'):
        (tmp_path / "sensor.lock").write_text(text)
        assert read_holder(tmp_path / "sensor.lock") is None


def test_sensors_of_disjoint_scopes_run_at_once(tmp_path: Path, make_lock: MakeLock, mount: Path) -> None:
    with (
        make_lock(tmp_path / "a", watch_cgroup(mount / "shop.slice/orders.service", mount)),
        make_lock(tmp_path / "b", watch_cgroup(mount / "shop.slice/users.service", mount)),
        make_lock(tmp_path / "c", watch_cgroup(mount / "mail.slice", mount)),
    ):
        pass


@pytest.mark.parametrize(
    ("first", "second", "watched"),
    [
        ("shop.slice", "shop.slice", "{mount}/shop.slice and below"),
        ("shop.slice", "shop.slice/users.service", "/shop.slice"),
        ("shop.slice/users.service", "shop.slice", "/shop.slice/users.service"),
        ("", "mail.slice", "the whole host"),
        ("mail.slice", "", "/mail.slice"),
    ],
)
def test_a_scope_that_overlaps_anothers_is_refused(
    tmp_path: Path, make_lock: MakeLock, mount: Path, first: str, second: str, watched: str
) -> None:
    scopes = [watch_cgroup(mount / one, mount) if one else watch_host(mount) for one in (first, second)]
    with make_lock(tmp_path / "a", scopes[0]):
        with pytest.raises(LockError) as refusal:
            make_lock(tmp_path / "b", scopes[1]).acquire()
        assert f"(pid {os.getpid()}) and watches {watched.format(mount=mount)}: " in str(refusal.value)
    with make_lock(tmp_path / "b", scopes[1]):
        pass


def test_sensors_share_no_directory(tmp_path: Path, make_lock: MakeLock, mount: Path) -> None:
    mail, shop = (watch_cgroup(mount / one, mount) for one in ("mail.slice", "shop.slice"))
    with make_lock(tmp_path / "a", mail, tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        with pytest.raises(LockError, match=rf"pid {os.getpid()}, .*uses {tmp_path}/a: .* with --run-dir"):
            make_lock(tmp_path / "a", shop).acquire()
        with pytest.raises(LockError, match=rf"pid {os.getpid()}, .*uses {tmp_path}/state: .* with --state-dir"):
            make_lock(tmp_path / "b", shop, tmp_path / "state").acquire()
    with make_lock(tmp_path / "b", shop, tmp_path / "state"):
        pass


def test_name_of_another_kind_of_socket_is_refused(tmp_path: Path, make_lock: MakeLock, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(f"\0{name}")  # Bound and not listening: its user is known, its process is not.
        with pytest.raises(LockError, match="in another pid namespace"):
            make_lock(tmp_path).acquire()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to bind it as somebody else")
@pytest.mark.parametrize("is_listening", [True, False])
def test_a_user_who_binds_the_name_keeps_no_sensor_from_starting(
    tmp_path: Path, make_lock: MakeLock, name: str, *, is_listening: bool
) -> None:
    program = (
        "import socket, sys; bound = socket.socket(socket.AF_UNIX); bound.bind('\\0' + sys.argv[1]);"
        f"{is_listening} and bound.listen(); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-S", "-c", program, name]
    with subprocess.Popen(command, user=65_534, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None and squatter.stdout.readline()
        with make_lock(tmp_path):
            pass
        squatter.kill()


def test_a_name_on_which_nobody_listens_is_no_other_scope(
    tmp_path: Path, make_lock: MakeLock, mount: Path, name: str
) -> None:
    """Anybody may bind one; a sensor that has bound it and does not listen yet finds the other's."""
    number = (mount / "mail.slice").stat().st_ino
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(f"\0{name}-{number}")
        with make_lock(tmp_path, watch_host(mount)):
            pass
