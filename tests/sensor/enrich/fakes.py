"""A /proc tree in a directory, sockets without a kernel, and a clock that stands still: what the tests of this room
share.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sensor.core.sandbox import Task
from sensor.enrich import containers
from sensor.enrich.file_contents import TASKS
from sensor.enrich.sockets import NamespaceSockets, SocketReading, TcpSocket
from sensor.enrich.user_files import FileReader, UserTree

# With a sandbox of its own, where no time passes and so nobody's is up.
READER: Final = FileReader(lambda: 0.0)
read_container = partial(containers.read_container, read=READER.read)
_T = TypeVar("_T")


def read_here(tree: UserTree, path: str, task: Task[_T], argument: str = "", *, payer: str) -> _T | None:
    """As a worker of the sandbox does it, in this process."""
    try:
        with tree.open_file(path, TASKS[task]) as descriptor:
            return task(descriptor, argument)
    except OSError:
        return None


class FakeClock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class FakeProc:
    """Writes processes as proc(5) shows them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        pid: int,
        *,
        executable: str = "/usr/bin/orders",
        command_line: str = "",
        command: str = "orders",
        start_ticks: int = 100,
        cgroup: str = "0::/\n",
        sockets: tuple[int, ...] = (),
        namespace: int = 1,
    ) -> None:
        directory = self.root / str(pid)
        (directory / "fd").mkdir(parents=True)
        (directory / "ns").mkdir()
        fields = ["S", "1", *["0"] * 17, str(start_ticks), *["0"] * 30]
        (directory / "stat").write_text(f"{pid} ({command}) {' '.join(fields)}\n")
        (directory / "cmdline").write_text(command_line.replace(" ", "\0") + "\0" if command_line else "")
        (directory / "cgroup").write_text(cgroup)
        (directory / "exe").symlink_to(executable)
        (directory / "ns" / "net").symlink_to(f"net:[{namespace}]")
        (directory / "fd" / "0").symlink_to("/dev/null")
        for number, inode in enumerate(sockets, start=3):
            (directory / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def remove(self, pid: int) -> None:
        directory = self.root / str(pid)
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        directory.rmdir()


def make_socket(port: int, inode: int, *, address: str = "0.0.0.0", cgroup_id: int = 1) -> TcpSocket:
    """A listening socket."""
    return TcpSocket(
        address=address,
        port=port,
        remote_address="0.0.0.0",
        remote_port=0,
        inode=inode,
        cookie=inode + 1_000_000,
        cgroup_id=cgroup_id,
    )


@dataclass
class FakeSockets:
    """Sockets by namespace, and how often they were asked for."""

    sockets: dict[int, list[TcpSocket]] = field(default_factory=dict)
    addresses: dict[int, frozenset[str]] = field(default_factory=dict)
    unreadable: int = 0
    readings: int = 0

    def read(self, states: int) -> SocketReading:
        self.readings += 1
        return SocketReading(
            namespaces=tuple(
                NamespaceSockets(
                    namespace=namespace,
                    addresses=self.addresses.get(namespace, frozenset({"127.0.0.1", "::1"})),
                    sockets=tuple(sockets),
                )
                for namespace, sockets in self.sockets.items()
            ),
            unreadable_namespace_count=self.unreadable,
        )
