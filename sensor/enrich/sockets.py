"""The TCP sockets of the whole node: every network namespace that a process of it lives in.

`NodeSockets` is what the tables of this room ask; `KernelSockets` answers from sock_diag, one visit a namespace;
tests bring a fake. A container on a host that keeps cgroups in v1 is told from its neighbours only by its namespace:
all listen on 0.0.0.0:80 in the root cgroup, but each namespace has addresses of its own. So the addresses come with
the sockets.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sensor.enrich.namespace import visit_namespaces
from sensor.enrich.processes import ProcessTable
from sensor.enrich.sock_diag import TcpSocket, dump_addresses, dump_sockets

# Namespaces visited in one reading, 0.2 ms each; a node has one a Pod or container, a kubelet allows 110 by default.
MAX_NAMESPACES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSockets:
    """What one network namespace has: its inode number, its addresses, and the sockets in the states asked for."""

    namespace: int
    addresses: frozenset[str]
    sockets: tuple[TcpSocket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketReading:
    """All namespaces that could be read, and how many could not."""

    namespaces: tuple[NamespaceSockets, ...]
    unreadable_namespace_count: int


class NodeSockets(Protocol):
    """Where sockets come from."""

    def read(self, states: int) -> SocketReading:
        """Sockets in `states` (bits of sensor.enrich.sock_diag) of every namespace."""
        ...


class KernelSockets:
    """Sockets of the running kernel."""

    def __init__(self, processes: ProcessTable, *, root: Path = Path("/proc")) -> None:
        self._processes = processes
        self._root = root

    def read(self, states: int) -> SocketReading:
        """Never raises: a namespace that cannot be entered is counted; without any right to enter, the own one is
        read.
        """
        by_path = {f"{self._root}/{pid}/ns/net": inode for inode, pid in self._processes.network_namespaces().items()}
        paths = list(by_path)[:MAX_NAMESPACES]
        visited = visit_namespaces(paths, lambda: _read_here(states))
        namespaces = [
            NamespaceSockets(namespace=by_path[path], addresses=addresses, sockets=sockets)
            for path, (addresses, sockets) in visited.items()
        ]
        if not namespaces:
            namespaces.extend(_read_own(states))
        return SocketReading(
            namespaces=tuple(namespaces), unreadable_namespace_count=max(0, len(by_path) - len(namespaces))
        )


def _read_here(states: int) -> tuple[frozenset[str], tuple[TcpSocket, ...]]:
    """(addresses, sockets) of the calling thread's namespace. Raises OSError."""
    sockets = tuple(dump_sockets(states))
    return (dump_addresses() if sockets else frozenset()), sockets


def _read_own(states: int) -> list[NamespaceSockets]:
    try:
        addresses, sockets = _read_here(states)
        inode = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - follows the link to the namespace itself.
    except OSError:
        return []
    return [NamespaceSockets(namespace=inode, addresses=addresses, sockets=sockets)]
