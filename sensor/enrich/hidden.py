"""Lists what bypasses the network hooks or cannot be read there: unix sockets, datagram sockets, kernel TLS, sockmaps.

Once a minute, one reading enters every network namespace (setns), and reads sock_diag and /proc/thread-self/net/unix
(proc(5)). Owners of new sockets are looked up in /proc/PID/fd. An accepted unix socket has its listener's path, so open
connections are counted by path.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sensor.core.printable import make_printable
from sensor.enrich.listeners import Listener, build_listener, choose_owner
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sockets import (
    MAX_NAMESPACES,
    NamespaceSockets,
    TcpSocket,
    count_kernel_tls,
    dump_addresses,
    dump_datagram_sockets,
    visit_namespaces,
)

_ACCEPTS: Final = 1 << 16  # __SO_ACCEPTCON
_STREAM, _SEQUENCED = 1, 5
_CONNECTED: Final = 3
# Listeners of a namespace that are reported; a desktop has some hundred.
MAX_LISTENERS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    """One listening stream socket. `path` begins with `@` in the abstract namespace and is printable."""

    path: str
    inode: int
    open_connections: int


def parse_unix(lines: Iterable[bytes]) -> list[UnixListener]:
    """The listeners by path; lines that are no sockets are passed over."""
    listeners: dict[int, str] = {}
    connected: Counter[str] = Counter()
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) < 8:
            continue  # The heading, or a socket without a name.
        try:
            flags, kind, state = int(fields[3], 16), int(fields[4], 16), int(fields[5], 16)
            inode = int(fields[6])
        except ValueError:
            continue
        path = make_printable(fields[7].strip())
        if kind not in (_STREAM, _SEQUENCED):
            continue
        if flags & _ACCEPTS and len(listeners) < MAX_LISTENERS:
            listeners[inode] = path
        elif state == _CONNECTED:
            connected[path] += 1
    found = [
        UnixListener(path=path, inode=inode, open_connections=connected[path]) for inode, path in listeners.items()
    ]
    return sorted(found, key=lambda listener: (listener.path, listener.inode))


REREAD_SECONDS = 60.0
_UNIX_TABLE = Path("/proc/thread-self/net/unix")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceHidden:
    """What one network namespace has."""

    unix: tuple[UnixListener, ...]
    datagrams: NamespaceSockets
    kernel_tls: Counter[tuple[int, int]]  # Open connections by (cgroup id, local port).


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenReading:
    """One reading of the node."""

    unix: tuple[tuple[UnixListener, Process | None], ...] = ()
    datagrams: tuple[Listener, ...] = ()
    kernel_tls: tuple[tuple[tuple[int, int], int], ...] = ()
    sockmap_programs: int = 0  # 0 also where the kernel does not say.


class HiddenTable:
    """Keeps the last reading. Not thread-safe: one timer."""

    def __init__(
        self,
        processes: ProcessTable,
        *,
        clock: Callable[[], float],
        count_sockmaps: Callable[[], int],
        root: Path = Path("/proc"),
    ) -> None:
        """`clock` gives monotonic seconds."""
        self._processes = processes
        self._clock = clock
        self._count_sockmaps = count_sockmaps
        self._root = root
        self._due = 0.0
        self._owners: dict[int, Process | None] = {}
        self.reading = HiddenReading()

    def refresh(self) -> None:
        """Reads anew where a minute has passed."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + REREAD_SECONDS
        by_path = {f"{self._root}/{pid}/ns/net": inode for inode, pid in self._processes.network_namespaces().items()}
        visited = visit_namespaces(list(by_path)[:MAX_NAMESPACES], _read_here)
        self.reading = self._build([_place(hidden, by_path[path]) for path, hidden in visited.items()])

    def _build(self, namespaces: list[NamespaceHidden]) -> HiddenReading:
        kernel_tls: Counter[tuple[int, int]] = Counter()
        inodes: set[int] = set()
        for hidden in namespaces:
            kernel_tls.update(hidden.kernel_tls)
            inodes.update(listener.inode for listener in hidden.unix)
            inodes.update(socket.inode for socket in hidden.datagrams.sockets)
        self._find_owners(inodes)
        return HiddenReading(
            unix=tuple(
                (listener, self._owners.get(listener.inode)) for hidden in namespaces for listener in hidden.unix
            ),
            datagrams=tuple(
                build_listener(socket, hidden.datagrams, self._owners.get(socket.inode), 1)
                for hidden in namespaces
                for socket in hidden.datagrams.sockets
            ),
            kernel_tls=tuple(sorted(kernel_tls.items())),
            sockmap_programs=self._count_sockmaps(),
        )

    def _find_owners(self, inodes: set[int]) -> None:
        """Processes of new sockets; those of sockets that have gone are forgotten."""
        missing = inodes - self._owners.keys()
        self._owners = {inode: owner for inode, owner in self._owners.items() if inode in inodes}
        if missing:
            scan = self._processes.find_owners(missing)
            for inode in missing:
                self._owners[inode] = choose_owner(self._processes, scan.owners.get(inode, ()))


def _place(hidden: NamespaceHidden, namespace: int) -> NamespaceHidden:
    return replace(hidden, datagrams=replace(hidden.datagrams, namespace=namespace))


def _read_here() -> NamespaceHidden:
    """Of the calling thread's namespace. Raises OSError."""
    sockets: list[TcpSocket] = dump_datagram_sockets()
    with _UNIX_TABLE.open("rb") as lines:
        unix = tuple(parse_unix(lines))
    datagrams = NamespaceSockets(
        namespace=0, addresses=dump_addresses() if sockets else frozenset(), sockets=tuple(sockets)
    )
    return NamespaceHidden(unix=unix, datagrams=datagrams, kernel_tls=count_kernel_tls())
