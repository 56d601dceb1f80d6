"""Lists every listening TCP socket of the node with the process behind it.

Reads sock_diag in every network namespace and /proc/PID/fd, and gives `Listener`s. They name a service whose cgroup
does not: a socket opened in the root, a slice or a socket unit before its process moved, and everything on cgroups v1.

The table is read again on the caller's timer. It is also read at once for an unknown listener, within a budget of 5 %
of one core (`Budget`). So a service that lives for a second is looked up at its first call.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sensor.enrich.budget import Budget
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sockets import LISTEN, KernelSockets, NamespaceSockets, TcpSocket

ANY_ADDRESSES = frozenset({"0.0.0.0", "::"})
MIN_REST_SECONDS = 0.02
CORE_SHARE = 0.05
# Of so many refreshes one reads the descriptors of all processes, whatever is known: a socket may have been passed on.
FULL_REFRESHES = 6
# Holders of one socket that are looked at: a prefork server has hundreds of equal ones, and the first started comes
# first.
MAX_HOLDERS = 8
# They open sockets for others, and keep them: whoever else holds one is the service.
SOCKET_OPENERS = frozenset({"systemd", "init", "inetd", "xinetd", "launchd", "s6-tcpserver", "einhorn"})

# How well a listener fits: its process can be seen, the lowest bit.
_HAS_PROCESS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One listening socket and its owner."""

    address: str  # Textual; `0.0.0.0` or `::` for any.
    port: int
    inode: int
    cookie: int
    cgroup_id: int  # Where it was created, as its connections report it; 0 before Linux 5.7.
    namespace: int  # Inode number of the network namespace.
    process: Process | None  # None where no readable process holds it.
    holder_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    by_port: dict[int, tuple[Listener, ...]]
    addresses: dict[int, frozenset[str]]  # By namespace.


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLoss:
    """What the last reading could not see."""

    unreadable_namespace_count: int = 0
    unreadable_process_count: int = 0
    left_out_count: int = 0


class ListenerTable:
    """The listeners of one node. Thread-safe; readers never wait for a reading they did not ask for."""

    def __init__(self, sockets: KernelSockets, processes: ProcessTable, *, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._sockets = sockets
        self._processes = processes
        self._budget = Budget(clock=clock, minimum_rest_seconds=MIN_REST_SECONDS, core_share=CORE_SHARE)
        self._lock = threading.Lock()
        self._snapshot = _Snapshot(by_port={}, addresses={})
        self._refresh_count = 0
        self._settled: set[int] = set()  # Inodes that two refreshes have found.
        self.loss = ListenerLoss()

    def all(self) -> list[Listener]:
        """Every listener of the last reading, by port and address."""
        found = [listener for listeners in self._snapshot.by_port.values() for listener in listeners]
        return sorted(found, key=lambda listener: (listener.port, listener.address, listener.inode))

    def known(self, cgroup_id: int, port: int, address: str) -> Listener | None:
        """The listener of a connection to `address`:`port`, from the last reading only."""
        snapshot = self._snapshot
        fitting = [
            (_fit(listener, cgroup_id, address or listener.address, snapshot.addresses), -listener.inode, listener)
            for listener in snapshot.by_port.get(port, ())
        ]
        best = max(fitting, default=None, key=lambda entry: entry[:2])
        return best[2] if best and best[0] > 0 else None

    def list_fitting(self, cgroup_id: int, port: int, address: str) -> list[Listener]:
        """All listeners that may be that of a connection to `address`:`port`, from the last reading: more than one
        where nothing distinguishes them. Without an address, those at every address."""
        snapshot = self._snapshot
        # Whether its process can be seen says nothing of which one it is.
        fitting = [
            (_fit(listener, cgroup_id, address or listener.address, snapshot.addresses) & ~_HAS_PROCESS, listener)
            for listener in snapshot.by_port.get(port, ())
        ]
        best = max((fit for fit, _ in fitting), default=0) if address else 1
        return [listener for fit, listener in fitting if fit and fit >= best]

    def is_local_address(self, address: str) -> bool:
        """Whether an address is one of this node, in any network namespace in which somebody listens."""
        return address.startswith("127.") or any(address in known for known in self._snapshot.addresses.values())

    def list_addresses(self, namespace: int) -> frozenset[str]:
        """The addresses of a network namespace in which somebody listens."""
        return self._snapshot.addresses.get(namespace, frozenset())

    def list_beside(self, others: frozenset[str]) -> frozenset[str]:
        """Addresses of network namespaces that have one of `others` too: of the node's own, where `others` are the
        addresses by which the cluster knows the node. Loopback and link-local ones are of every namespace, so of none.
        """
        known = self._snapshot.addresses.values()
        beside = frozenset[str]().union(*(addresses for addresses in known if not addresses.isdisjoint(others)))
        return frozenset(address for address in beside if not address.startswith(("127.", "169.254.", "fe80:", "::1")))

    def find(self, cgroup_id: int, port: int, address: str) -> Listener | None:
        """As `known`; a listener that is missing, or whose process is not known or has ended, is looked for once
        more.
        """
        listener = self.known(cgroup_id, port, address)
        if listener is not None and listener.process is not None and self._is_alive(listener.process):
            return listener
        with self._lock:
            if self._budget.is_open:
                self._budget.run(self._read_changes)
        return self.known(cgroup_id, port, address) or listener

    def refresh(self) -> None:
        """Reads the sockets, and who holds them where a socket is younger than two refreshes or its owner has ended:
        a process may move to its own cgroup after it listened. Every sixth time everything is read anew: 32 ms on a
        node of 500 processes with 8,400 descriptors and 84 listeners.
        """
        with self._lock:
            before = {listener.inode for listener in self.all()}
            is_full = self._refresh_count % FULL_REFRESHES == 0
            self._refresh_count += 1
            self._read(keep={} if is_full else self._keep(self._settled))
            self._settled = before & {listener.inode for listener in self.all()}

    def _is_alive(self, process: Process) -> bool:
        return self._processes.start_ticks(process.pid) == process.start_ticks

    def _read_changes(self) -> None:
        """Reads the sockets, and the descriptors of the node only where a socket is new or its owner has ended.

        A socket that no readable process holds is looked for again only by `refresh`.
        """
        self._read(keep=self._keep({listener.inode for listener in self.all()}))

    def _keep(self, inodes: set[int]) -> dict[int, Listener]:
        """Of these the ones whose owner lives, or that had none."""
        return {
            listener.inode: listener
            for listener in self.all()
            if listener.inode in inodes and (listener.process is None or self._is_alive(listener.process))
        }

    def _read(self, *, keep: dict[int, Listener]) -> None:
        reading = self._sockets.read(LISTEN)
        inodes = {socket.inode for namespace in reading.namespaces for socket in namespace.sockets}
        missing = inodes - keep.keys()
        scan = self._processes.find_owners(missing) if missing else None
        owners = {inode: choose_owner(self._processes, pids) for inode, pids in scan.owners.items()} if scan else {}
        by_port: dict[int, list[Listener]] = {}
        for namespace in reading.namespaces:
            for socket in namespace.sockets:
                kept = keep.get(socket.inode)
                process = kept.process if kept else owners.get(socket.inode)
                holders = kept.holder_count if kept else len(scan.owners.get(socket.inode, ()) if scan else ())
                by_port.setdefault(socket.port, []).append(build_listener(socket, namespace, process, holders))
        self._snapshot = _Snapshot(
            by_port={port: tuple(listeners) for port, listeners in by_port.items()},
            addresses={namespace.namespace: namespace.addresses for namespace in reading.namespaces},
        )
        self.loss = ListenerLoss(
            unreadable_namespace_count=reading.unreadable_namespace_count,
            unreadable_process_count=scan.unreadable_process_count if scan else self.loss.unreadable_process_count,
            left_out_count=scan.left_out_count if scan else self.loss.left_out_count,
        )


def choose_owner(processes: ProcessTable, pids: tuple[int, ...]) -> Process | None:
    """Of the holders of one socket the one that serves: not who opened it for others, and the parent before its
    workers.
    """
    holders = [process for pid in pids[:MAX_HOLDERS] if (process := processes.process(pid))]
    serving = [process for process in holders if process.executable not in SOCKET_OPENERS] or holders
    return min(serving, default=None, key=lambda process: (process.start_ticks, process.pid))


def build_listener(
    socket: TcpSocket, namespace: NamespaceSockets, process: Process | None, holder_count: int
) -> Listener:
    """The listener of a socket."""
    return Listener(
        address=socket.address,
        port=socket.port,
        inode=socket.inode,
        cookie=socket.cookie,
        cgroup_id=socket.cgroup_id,
        namespace=namespace.namespace,
        process=process,
        holder_count=holder_count,
    )


def _fit(listener: Listener, cgroup_id: int, address: str, addresses: dict[int, frozenset[str]]) -> int:
    """How well a listener answers for a connection to `address`; 0 = cannot be the one.

    A connection inherits the cgroup of its listener, so where the kernel gives the listener's they must be equal. An
    address bound exactly is worth more than any address, which is worth more in the namespace that has the address
    than in another.
    """
    if listener.cgroup_id and cgroup_id and listener.cgroup_id != cgroup_id:
        return 0
    if listener.address == address:
        bound = 8
    elif listener.address in ANY_ADDRESSES:
        bound = 4
    else:
        return 0
    is_local = address in addresses.get(listener.namespace, frozenset())
    return bound + (2 if is_local else 0) + (_HAS_PROCESS if listener.process is not None else 0)
