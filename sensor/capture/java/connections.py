"""Proves the ends of a process's TCP connections by asking the kernel: what the process itself says is not believed.

The kernel finds one connection by its ends, in the network namespace of the process, and names the cgroup in which its
socket was made. That has to be the process's. Where the cgroup says nothing (cgroups v1, or the root, which is
everybody's), one of the process's descriptors has to be the socket.

A connection does not say who opened it. So the other end counts as a caller only where the process listens at
its own end: else it could pass off as its client whomever it calls.

A connection that is gone by now may be one of a port where the process listens. Then its own end is proven, and its
client's only if the kernel still keeps that connection (TIME_WAIT).

Source: sock_diag(7), as sensor.enrich.sockets.
"""

import contextlib
import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final

from sensor.capture.java.ring import UNKNOWN_ENDS, Ends
from sensor.enrich.budget import Budget
from sensor.enrich.sockets import (
    NETLINK_SOCK_DIAG,
    SYN_RECEIVED,
    TcpSocket,
    find_socket,
    open_netlink,
    visit_namespaces,
)

# Of a process whose cgroup says nothing.
DESCRIPTORS_MAX: Final = 16_384
CORE_SHARE: Final = 0.01
_ROOT_CGROUP_ID: Final = 1
_MAPPED: Final = bytes(10) + b"\xff\xff"  # IPv4 within IPv6 (RFC 4291, section 2.5.5.2).
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ProcessConnections:
    """Of one process. Opened by one thread, then used by another."""

    def __init__(self, directory: int, monotonic: Callable[[], float]) -> None:
        """`directory`: the process's in /proc, of which it has a descriptor of its own. Raises OSError where nobody may
        enter its namespace."""
        self._channel = _open_channel(directory)
        self._directory = os.dup(directory)
        self._listing = Budget(clock=monotonic, minimum_rest_seconds=0.0, core_share=CORE_SHARE)
        self._inodes: frozenset[int] = frozenset()

    def prove(self, ends: Ends, cgroup_id: int) -> Ends:
        """What of them is true; 100 us."""
        try:
            found = self._find(ends)
            if found is not None and found.state == SYN_RECEIVED:  # Whoever sent that may have another address.
                return UNKNOWN_ENDS
            is_open = found is not None and found.inode
            if found is not None and is_open and not self._owns(found, cgroup_id):
                return UNKNOWN_ENDS
            listener = self._find(replace(ends, remote_address=bytes(16), remote_port=0))
        except OSError:
            return UNKNOWN_ENDS
        if listener is None or not self._owns(listener, cgroup_id):
            return replace(ends, is_client=True) if is_open else UNKNOWN_ENDS
        if found is not None:  # Closed a moment ago: nobody else has that port.
            return ends
        # As an unknown address is everywhere.
        local = ends.local_address if ends.family == 6 else _MAPPED + ends.local_address[:4]
        return Ends(family=6, local_address=local, local_port=ends.local_port)

    def _find(self, ends: Ends) -> TcpSocket | None:
        family, size = (socket.AF_INET, 4) if ends.family == 4 else (socket.AF_INET6, 16)
        local, remote = ends.local_address[:size], ends.remote_address[:size]
        return find_socket(self._channel, family, (local, ends.local_port), (remote, ends.remote_port))

    def _owns(self, found: TcpSocket, cgroup_id: int) -> bool:
        return found.cgroup_id == cgroup_id if cgroup_id > _ROOT_CGROUP_ID else self._holds(found)

    def close(self) -> None:
        """Gives the descriptors back."""
        self._channel.close()
        os.close(self._directory)

    def _holds(self, found: TcpSocket) -> bool:
        if found.inode not in self._inodes and self._listing.is_open:
            self._listing.run(self._list)
        return found.inode in self._inodes

    def _list(self) -> None:
        inodes: list[int] = []
        with contextlib.suppress(OSError):  # It has ended.
            descriptors = os.open("fd", _DIRECTORY, dir_fd=self._directory)
            try:
                with os.scandir(descriptors) as entries:
                    for entry in islice(entries, DESCRIPTORS_MAX):
                        with contextlib.suppress(OSError):
                            match = _SOCKET.fullmatch(os.readlink(entry.name, dir_fd=descriptors))
                            if match is not None:
                                inodes.append(int(match[1]))
            finally:
                os.close(descriptors)
        self._inodes = frozenset(inodes)


def _open_channel(directory: int) -> socket.socket:
    """In the network namespace of a process. Raises OSError."""
    path = f"/proc/self/fd/{directory}/ns/net"
    if os.stat(path).st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116 - the namespaces themselves.
        return open_netlink(NETLINK_SOCK_DIAG)
    opened = visit_namespaces([path], partial(open_netlink, NETLINK_SOCK_DIAG))
    if path not in opened:
        raise OSError("its network namespace cannot be entered")
    return opened[path]
