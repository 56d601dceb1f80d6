"""Files that users and containers of a node chose: nothing of them makes the sensor wait, stray, act or fail."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensor.core.sandbox import SandboxError
from sensor.enrich import user_files
from sensor.enrich.containers import Container, ContainerImage, find_home
from sensor.enrich.file_contents import TASKS, read_data_root, read_graph_root, read_jar_title, read_package_name
from sensor.enrich.program_files import ProgramFiles
from sensor.enrich.user_files import ANSWERS_MAX, STEPS_MAX, FileReader, UserTree, find_payer
from tests.sensor.enrich.fakes import READER, FakeClock, read_container
from tests.sensor.enrich.test_container_files import ID, write, write_docker, write_podman

UID = os.getuid() or 4_711
HOME = "/home/ada"
FILE = "a/b/file.json"
OWN_MOUNTS = Path("/proc/self/mountinfo")
BYTES_MAX = 1_000
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def own(path: Path) -> None:
    """All below is the user's."""
    for one in (path, *path.rglob("*")):
        os.chown(one, UID, -1, follow_symlinks=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "etc/passwd", f"root:x:0:0:root:/root:/bin/sh\nada:x:{UID}:100::{HOME}:/bin/sh\nodd line\n")
    made = tmp_path / HOME.lstrip("/")
    write(made / FILE, '{"a": 1}')
    own(made)
    return made


def read(tree: UserTree, path: str = FILE) -> bytes | None:
    """What a file holds; None where it may not be opened."""
    try:
        with tree.open_file(path, BYTES_MAX) as descriptor:
            return os.read(descriptor, BYTES_MAX)
    except OSError:
        return None


def read_owned(home: Path, uid: int = UID, path: str = FILE) -> bytes | None:
    return read(UserTree(home, OWN_MOUNTS, owner=uid), path)


@pytest.mark.parametrize(
    "settings", ["", '[storage]\ngraphroot = "$HOME/big"\n', f'[storage]\ngraphroot = "{HOME}/big"\n']
)
def test_podman_without_root(tmp_path: Path, home: Path, settings: str) -> None:
    write(home / ".config/containers/storage.conf", settings)
    write_podman(home / ("big" if settings else ".local/share/containers/storage"))
    own(home)
    image = ContainerImage(name="docker.io/library/nginx", tags=("1.27",))
    assert read_container(ID, UID, root=tmp_path) == Container(name="web", image=image)
    # The host's own runtime does not know it, nor does another user.
    assert read_container(ID, root=tmp_path) == read_container(ID, 9_999, root=tmp_path) == Container(name=ID[:12])


@pytest.mark.parametrize("data_root", [".local/share/docker", "mine/docker"])
def test_docker_without_root(tmp_path: Path, home: Path, data_root: str) -> None:
    write(home / ".config/docker/daemon.json", json.dumps({"data-root": f"{HOME}/mine/docker"}))
    write_docker(home / data_root)
    own(home)
    image = ContainerImage(name="registry.example:5000/shop/web", tags=("1.4",))
    assert read_container(ID, UID, root=tmp_path) == Container(name="shop-web-1", image=image)


def test_a_file_is_read(tmp_path: Path, home: Path) -> None:
    assert find_home(UID, root=tmp_path) == HOME and find_home(4, root=tmp_path) == "" == find_home(4, root=home)
    assert read_owned(home) == b'{"a": 1}'
    assert read_owned(home, path="a/../a/./b//file.json") == b'{"a": 1}'
    for path in ("a/b", "../../../etc/passwd", "none", f"{home}/{FILE}", "a/" * STEPS_MAX + "b"):
        assert read_owned(home, path=path) is None
    assert read_owned(home / "none") is None
    assert read_owned(home, UID + 1) is None


def replace_by_pipe(path: Path) -> None:
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    (path.parent / "other").write_text("{}")
    path.symlink_to("other")


def replace_by_directory_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def replace_by_large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(BYTES_MAX + 1)


def replace_by_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "put",
    [replace_by_pipe, replace_by_link, replace_by_directory_link, replace_by_large_file, replace_by_directory],
)
def test_what_is_no_file_of_the_user_is_not_read(home: Path, put: Callable[[Path], None]) -> None:
    path = home / FILE
    path.unlink()
    put(path)
    own(home)
    assert read_owned(home) is None


@NEEDS_ROOT
def test_a_file_of_another_is_not_read(home: Path) -> None:
    os.chown(home / FILE, 0, 0)
    assert read_owned(home) is None
    own(home)
    os.chown(home / "a", 0, 0)
    assert read_owned(home) is None


IN_A_NAMESPACE = """
import sys
from pathlib import Path
from tests.sensor.enrich.test_user_files import OWN_MOUNTS, FILE, UserTree, read
home, owner = Path(sys.argv[1]), int(sys.argv[2])
print(read(UserTree(home, OWN_MOUNTS, owner=owner if owner >= 0 else None)))
"""


@NEEDS_ROOT
@pytest.mark.parametrize("place", ["a/b", "a/b/file.json", "a"])
@pytest.mark.parametrize(
    ("mount", "owner", "is_read"),
    [
        ("true", UID, True),
        ("mount --bind {place} {place}", UID, False),
        ("mount --bind {place} {place}", -1, True),
        ("mount -t proc proc {home}/../proc; mount --bind {home}/../proc/version {home}/a/b/file.json", -1, False),
    ],
)
def test_mounts_in_a_tree(home: Path, place: str, mount: str, owner: int, *, is_read: bool) -> None:
    """A user's own file system could never answer. Of the kernel's, what is mounted in a container is read."""
    (home.parent / "proc").mkdir()
    first = mount.format(place=home / place, home=home)
    command = ["unshare", "--mount", "sh", "-ec", f'{first}; exec "$@"', "sh", sys.executable, "-c", IN_A_NAMESPACE]
    done = subprocess.run([*command, str(home), str(owner)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("b'{\"a\": 1}'" if is_read else "None")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a process in a container."""
    made = tmp_path / "70/root"
    write(made / "srv/package.json", '{"name": "orders"}')
    write(tmp_path / "etc/package.json", '{"name": "the-hosts"}')
    (tmp_path / "70/cwd").symlink_to("/srv")
    (tmp_path / "70/mountinfo").symlink_to(OWN_MOUNTS)
    return made


def name(root: Path, script: str = "server.js") -> str:
    return ProgramFiles(READER.read, root.parent, "/it").find_package(script)


def test_links_of_a_container_stay_in_it(root: Path) -> None:
    """Followed from the sensor's root, they would lead to the host's files."""
    assert name(root) == "orders"
    write(root / "opt/release-7/package.json", '{"name": "from-a-link"}')
    (root / "current").symlink_to("/opt/release-7")
    assert name(root, "/current/server.js") == "from-a-link"
    for target in (root.parent.parent / "etc", Path("../../../../../../../etc"), Path("loop")):
        (root / "loop").unlink(missing_ok=True)
        (root / "loop").symlink_to(target)
        assert name(root, "/loop/server.js") == ""


def replace_by_device(path: Path) -> None:
    """The zero device; to open a watchdog's would restart the host."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@NEEDS_ROOT
def test_a_device_is_never_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "srv/package.json").unlink()
    replace_by_device(root / "srv/package.json")
    opened, open_it = list[int](), os.open

    def note(path: str, flags: int, *rest: int, **more: int) -> int:
        descriptor = open_it(path, flags, *rest, **more)
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            opened.append(flags)
        return descriptor

    monkeypatch.setattr(os, "open", note)
    assert name(root) == ""
    assert opened and all(flags & os.O_PATH for flags in opened)


def test_a_lease_makes_nothing_wait(root: Path) -> None:
    """fcntl(2): who opens a file under a lease of its owner's waits for lease-break-time, 45 s."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # What its holder gets.
    with (root / "srv/package.json").open("r+") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        try:
            began = time.monotonic()
            assert name(root) == ""
            assert time.monotonic() - began < 20
        finally:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
    assert name(root) == "orders"


# What is in a file.


def write_jar(path: Path, title: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\nImplementation-Title: {title}\r\n")


def test_every_task_works_where_no_module_can_be_imported(tmp_path: Path) -> None:
    """Each of them as the first of its program."""
    write_jar(tmp_path / "jar", "orders")
    write(tmp_path / "toml", '[storage]\ngraphroot = "/data"\n')
    write(tmp_path / "json", '{"name": "@acme/web", "data-root": "/data"}')
    tree = UserTree(tmp_path, OWN_MOUNTS)
    expected = {
        read_jar_title: ("jar", "orders"),
        read_graph_root: ("toml", "/data"),
        read_package_name: ("json", "web"),
        read_data_root: ("json", "/data"),
    }
    for task in TASKS:
        reader = FileReader()
        path, answer = expected.get(task, ("json", None))
        found = reader.read(tree, path, task, "id", payer="/it")
        assert found == answer if task in expected else found is not None
        reader.close()


@pytest.fixture
def reader() -> Iterator[FileReader]:
    reader = FileReader(FakeClock())
    yield reader
    reader.close()


HOSTILE: dict[str, bytes] = {
    "a deep list": b"[" * 900_000,
    "deep objects": b'{"name":' * 100_000,
    "a name of one megabyte": b'{"name": "' + b"x" * 1_000_000 + b'"}',
    "half a pair": b'{"name": "\\ud800"}',
    "bytes": bytes(range(256)),
    "a number": b"7",
    "nothing": b"",
    "many keys": b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"}",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("task", TASKS)
def test_any_content_gives_a_bounded_answer_or_none(
    task: Callable[[int, str], object], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    answer = READER.read(UserTree(tmp_path, OWN_MOUNTS), "file", task, "id", payer="/it")
    assert answer is None or len(repr(answer)) < 2_000


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, reader: FileReader) -> None:
    runs, tree = list[str](), UserTree(tmp_path, OWN_MOUNTS)
    run = reader._sandbox.run
    reader._sandbox.run = lambda task, fd, argument: (runs.append(argument), run(task, fd, argument))[1]  # type: ignore[func-returns-value,method-assign]
    for text in ("one", "two"):
        write(tmp_path / "p", json.dumps({"name": text}))
        assert [reader.read(tree, "p", read_package_name, payer="/it") for _ in range(3)] == [text] * 3
    assert len(runs) == 2


def test_a_container_uses_up_its_own_time_and_nobody_elses(tmp_path: Path) -> None:
    """Each file takes all the time that one may have."""
    clock = FakeClock()
    reader, tree = FileReader(clock), UserTree(tmp_path, OWN_MOUNTS)

    def take_all(task: object, fd: int, argument: str) -> str:
        clock.now += user_files.FILE_SECONDS_MAX
        reader._sandbox.used_seconds = user_files.FILE_SECONDS_MAX
        if argument == "hostile":
            raise SandboxError("it took too much")
        return "fine"

    reader._sandbox.run = take_all  # type: ignore[method-assign,assignment]
    for number in range(100):
        write(tmp_path / "hostile", "x" * number)
        assert reader.read(tree, "hostile", read_package_name, "hostile", payer="/pods/evil") is None
    assert clock.now - FakeClock().now <= user_files.PAYER_SECONDS_MAX + 2
    write(tmp_path / "good", "{}")
    assert reader.read(tree, "good", read_package_name, payer="/pods/good") == "fine"
    counts = {figure.labels[0][1]: figure.value for figure in reader.figures()}
    assert counts["over_budget"] > 90 and counts["refused"] + counts["over_budget"] == 100


def test_a_container_does_not_pay_for_a_busy_node(tmp_path: Path) -> None:
    """Each file takes a minute by the clock, in which others have the processors."""
    clock = FakeClock()
    reader, tree = FileReader(clock), UserTree(tmp_path, OWN_MOUNTS)

    def wait(task: object, fd: int, argument: str) -> str:
        clock.now += 60.0
        reader._sandbox.used_seconds = 0.001
        return "fine"

    reader._sandbox.run = wait  # type: ignore[method-assign,assignment]
    for number in range(30):
        write(tmp_path / "file", "x" * number)
        assert reader.read(tree, "file", read_package_name, payer="/it") == "fine"


def test_a_file_is_read_again_where_nobody_answered(tmp_path: Path, reader: FileReader) -> None:
    tree = UserTree(tmp_path, OWN_MOUNTS)
    write(tmp_path / "p", '{"name": "web"}')
    write(tmp_path / "q", "{}")
    assert reader.read(tree, "q", read_package_name, payer="/it") == ""
    program = reader._sandbox._program
    assert program is not None
    program.kill()
    program.wait()
    assert [reader.read(tree, "p", read_package_name, payer="/it") for _ in range(2)] == [None, "web"]


def test_answers_of_a_container_are_bounded(tmp_path: Path, reader: FileReader) -> None:
    tree = UserTree(tmp_path, OWN_MOUNTS)
    for number in range(ANSWERS_MAX + 10):
        write(tmp_path / f"{number}", '{"name": "a"}')
        assert reader.read(tree, f"{number}", read_package_name, payer="/it") == "a"
    assert [len(answers) for _, answers in reader._payers.values()] == [ANSWERS_MAX]


@pytest.mark.parametrize(
    ("cgroup", "payer"),
    [
        ("/", "/"),
        ("/system.slice/nginx.service", "/system.slice/nginx.service"),
        ("/user.slice/user-1000.slice/user@1000.service/a.service/b", "/user.slice/user-1000.slice/user@1000.service"),
        ("/kubepods/burstable/pod1/c1/x", "/kubepods/burstable/pod1"),
    ],
)
def test_whoever_makes_cgroups_below_its_own_pays_for_them(cgroup: str, payer: str) -> None:
    assert find_payer(cgroup) == payer
