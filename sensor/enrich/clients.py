"""Finds the process of this node that is the client of a connection, where its cgroup names nobody.

Such cgroups are the root, a slice and a login session. One reading covers all established sockets and their holders,
and answers by cgroup, address and port. Network namespaces have the same loopback addresses: who is found is in the
cgroup, and where sockets of several have the same end, nobody is. An unknown connection asks for a new reading, within
a budget of 1 % of one core. Until then its client has no name. A connection that closed before the reading never gets
one. Both are counted. Descriptors are read only where a socket is new since the last reading.
"""

import threading
from collections.abc import Callable

from sensor.enrich.budget import Budget
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sockets import ESTABLISHED, KernelSockets

# A reading holds every socket's holder: slower than the listeners' and less often needed.
MIN_REST_SECONDS = 1.0
# Less than for listeners: a connection that is not found has no client's name, a listener no service.
CORE_SHARE = 0.01
# Connections remembered as looked for in vain, until the next reading.
MAX_ABSENT = 16_384
# Of so many ends of a reading's life, one after which all descriptors are read again.
FULL_READINGS = 6


_End = tuple[int, str, int]  # Id of the cgroup that a socket was made in, address, port.


class ClientTable:
    """The processes behind the node's established connections. Thread-safe."""

    def __init__(
        self,
        sockets: KernelSockets,
        processes: ProcessTable,
        *,
        name_process: Callable[[Process], str],
        clock: Callable[[], float],
    ) -> None:
        """`name_process` gives a process's workload; `clock` monotonic seconds."""
        self._name_process = name_process
        self._sockets = sockets
        self._processes = processes
        self._budget = Budget(clock=clock, minimum_rest_seconds=MIN_REST_SECONDS, core_share=CORE_SHARE)
        self._lock = threading.Lock()
        self._by_end: dict[_End, str] = {}
        self._absent: set[_End] = set()
        self._names: dict[int, str] = {}  # By inode, of the last reading.
        self._pids: tuple[int, ...] = ()  # Holders that the last search found.
        self._forget_count = 0

    def find(self, cgroup_id: int, address: str, port: int) -> str:
        """The workload whose socket, made in a cgroup, has the local end `address`:`port`; 0.2 us from the last
        reading, else one reading."""
        end = (cgroup_id, address, port)
        name = self._by_end.get(end)
        if name is None and end not in self._absent:
            with self._lock:
                if self._budget.is_open:
                    self._budget.run(self._read)
                    name = self._by_end.get(end)
                    if name is None and len(self._absent) < MAX_ABSENT:
                        self._absent.add(end)
        return name or ""

    def forget(self) -> None:
        """Ends the life of the last reading: a port may since have another owner. Every so often also of what is known
        of sockets that are still there: a process may have moved."""
        with self._lock:
            self._by_end, self._absent = {}, set()
            self._forget_count += 1
            if self._forget_count % FULL_READINGS == 0:
                self._names = {}

    def _read(self) -> None:
        reading = self._sockets.read(ESTABLISHED)
        sockets = [socket for namespace in reading.namespaces for socket in namespace.sockets if socket.inode]
        missing = {socket.inode for socket in sockets} - self._names.keys()
        if missing:
            self._names |= self._find_names(missing)
        self._names = {socket.inode: self._names[socket.inode] for socket in sockets if socket.inode in self._names}
        by_end: dict[_End, str] = {}
        for socket in sockets:
            name = self._names.get(socket.inode, "")
            end = (socket.cgroup_id, socket.address, socket.port)
            by_end[end] = name if by_end.get(end, name) == name else ""
        self._by_end = by_end
        self._absent = set()

    def _find_names(self, inodes: set[int]) -> dict[int, str]:
        """Workload of a holder of each socket that has one; who held the others is asked first."""
        owners = self._processes.find_any_owners(inodes, first=self._pids)
        self._pids = tuple(set(owners.values()))
        names: dict[int, str] = {}
        for pid in self._pids:
            process = self._processes.process(pid)
            names[pid] = self._name_process(process) if process else ""
        return {inode: names[pid] for inode, pid in owners.items()}
