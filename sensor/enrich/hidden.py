"""Lists what bypasses the network hooks or cannot be read there: unix sockets, datagram sockets, kernel TLS, sockmaps.

Once a minute, one reading enters every network namespace (setns), and reads sock_diag. Owners of new sockets are looked
up in /proc/PID/fd. An accepted unix socket has its listener's path, so open connections are counted by path.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sensor.core.printable import make_printable
from sensor.enrich.listeners import Listener, build_listener, choose_owner
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sockets import (
    ESTABLISHED,
    LISTEN,
    MAX_NAMESPACES,
    NamespaceSockets,
    TcpSocket,
    UnixSocket,
    count_kernel_tls,
    dump_addresses,
    dump_datagram_sockets,
    dump_unix_sockets,
    visit_namespaces,
)

# Listeners of a namespace that are reported; a desktop has some hundred.
MAX_LISTENERS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    """One listening stream socket. `path` begins with `@` in the abstract namespace and is printable."""

    path: str
    inode: int
    open_connections: int


def list_unix_listeners(sockets: Iterable[UnixSocket]) -> list[UnixListener]:
    """The listeners by path, with what is connected to them."""
    listeners: dict[int, str] = {}
    connected: Counter[str] = Counter()
    for one in sockets:
        if one.kind not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            continue
        path = make_printable(b"@" + one.name[1:] if one.name[:1] == b"\0" else one.name)
        if 1 << one.state == LISTEN and len(listeners) < MAX_LISTENERS:
            listeners[one.inode] = path
        elif 1 << one.state == ESTABLISHED:
            connected[path] += 1
    found = [
        UnixListener(path=path, inode=inode, open_connections=connected[path]) for inode, path in listeners.items()
    ]
    return sorted(found, key=lambda listener: (listener.path, listener.inode))


REREAD_SECONDS = 60.0


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
            inodes.update(one.inode for one in hidden.datagrams.sockets)
        self._find_owners(inodes)
        return HiddenReading(
            unix=tuple(
                (listener, self._owners.get(listener.inode)) for hidden in namespaces for listener in hidden.unix
            ),
            datagrams=tuple(
                build_listener(one, hidden.datagrams, self._owners.get(one.inode), 1)
                for hidden in namespaces
                for one in hidden.datagrams.sockets
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
    unix = tuple(list_unix_listeners(dump_unix_sockets()))
    datagrams = NamespaceSockets(
        namespace=0, addresses=dump_addresses() if sockets else frozenset(), sockets=tuple(sockets)
    )
    return NamespaceHidden(unix=unix, datagrams=datagrams, kernel_tls=count_kernel_tls())
