"""Which process of this node is the client of a connection, where its cgroup does not tell (the root, a slice, a
login session).

Takes one reading of all established sockets and their holders, and answers from it by (address, port). A connection
that the reading does not have asks for a new one, within a budget of 5 % of one core; until then its client has no
name, and one that has closed before the reading never gets one. Both are counted.
"""

import threading
from collections.abc import Callable

from sensor.enrich.budget import Budget
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sock_diag import ESTABLISHED
from sensor.enrich.sockets import NodeSockets

# A reading holds every socket's holder: slower than the listeners' and less often needed.
MIN_REST_SECONDS = 1.0
# Connections remembered as looked for in vain, until the next reading.
MAX_ABSENT = 16_384


class ClientTable:
    """The processes behind the node's established connections. Thread-safe."""

    def __init__(
        self,
        sockets: NodeSockets,
        processes: ProcessTable,
        *,
        name_process: Callable[[Process], str],
        clock: Callable[[], float],
    ) -> None:
        """`name_process` gives a process's workload; `clock` monotonic seconds."""
        self._name_process = name_process
        self._sockets = sockets
        self._processes = processes
        self._budget = Budget(clock=clock, minimum_rest_seconds=MIN_REST_SECONDS)
        self._lock = threading.Lock()
        self._by_end: dict[tuple[str, int], str] = {}
        self._absent: set[tuple[str, int]] = set()
        self.found_count = 0
        self.missed_count = 0

    def find(self, address: str, port: int) -> str:
        """The workload whose socket has the local end `address`:`port`; 0.2 us from the last reading, else one
        reading.
        """
        end = (address, port)
        name = self._by_end.get(end)
        if name is None and end not in self._absent:
            with self._lock:
                if self._budget.is_open:
                    self._budget.run(self._read)
                    name = self._by_end.get(end)
                    if name is None and len(self._absent) < MAX_ABSENT:
                        self._absent.add(end)
        if name is None:
            self.missed_count += 1
            return ""
        self.found_count += 1
        return name

    def forget(self) -> None:
        """Ends the life of the last reading: a port may since have another owner."""
        with self._lock:
            self._by_end, self._absent = {}, set()

    def _read(self) -> None:
        reading = self._sockets.read(ESTABLISHED)
        sockets = [socket for namespace in reading.namespaces for socket in namespace.sockets if socket.inode]
        scan = self._processes.find_owners(socket.inode for socket in sockets)
        names: dict[int, str] = {}
        by_end: dict[tuple[str, int], str] = {}
        for socket in sockets:
            for pid in scan.owners.get(socket.inode, ())[:1]:
                if pid not in names:
                    process = self._processes.process(pid)
                    names[pid] = self._name_process(process) if process else ""
                by_end[socket.address, socket.port] = names[pid]
        self._by_end, self._absent = by_end, set()
