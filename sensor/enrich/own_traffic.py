"""Finds the traffic of this node that is Apidae's own: what the collector serves and calls, and what this sensor does.

A process is the collector's if it holds the memory file whose name the collector sent over the stream
(collector/receiver/own_traffic.py). Names of programs, cgroups, hosts and header fields prove nothing. What such a
process listens on is its own from the first call, also after a restart of the collector.

What it calls on this node is found by the cookie of the client's socket, which the kernel never uses twice. The
collector writes the cookies of its sockets into that file before it connects them. Capture knows which socket a local
client's connection has.
"""

import contextlib
import ipaddress
import os
import re
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

from common.bounded import BoundedDict
from sensor.core.calls import Exchange, Role
from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.listeners import Listener, ListenerTable
from sensor.enrich.processes import ProcessTable

BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")
# What was found out of an end or a process of Apidae's own holds so long: then whether the process still lives is
# looked at, which takes 8 us.
OWN_SECONDS: Final = 0.25
# The same of other processes, and between two tries for an end of which nothing can be read: doubled after each.
FOREIGN_SECONDS: Final = 10.0
FIRST_RETRY_SECONDS: Final = 0.25
MAX_RETRY_SECONDS: Final = 64.0
# A descriptor of a socket of this process is looked for at most so often.
SELF_SECONDS: Final = 1.0
# Ends, processes, connections and cookies remembered; past them what is not Apidae's own is forgotten.
KNOWN_MAX: Final = 16_384
ENDS_MAX: Final = 64
_BOOT_ID: Final = re.compile(r"[0-9a-f-]{36}")
_MARK: Final = re.compile(r"apidae-[0-9a-f]{64}")
_COOKIE: Final = struct.Struct("=Q")
_RING_BYTES_MAX: Final = 1 << 20
_SO_COOKIE: Final = 57  # include/uapi/asm-generic/socket.h; the socket module has no name for it.
_NEVER: Final = float("inf")

End = tuple[int, int, str]  # Cgroup id, local port, local address; "": not known.
# Local address and port, remote address and port of a server's connection: the cookie of its client's socket; 0 where
# capture does not know it.
FindClient = Callable[[str, int, str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorTraffic:
    """What a collector said of its own traffic. `boot_id` is that of its kernel, and `ends` are where other nodes reach
    it; empty: nothing is known."""

    boot_id: str = ""
    process_mark: str = field(default="", repr=False)
    ends: tuple[tuple[str, int], ...] = ()


NOTHING_OWN: Final = CollectorTraffic()


def read_collector_traffic(*, boot_id: str, process_mark: str, ends: Iterable[tuple[str, int]]) -> CollectorTraffic:
    """What a collector said, without what can be of no use: a mark that is none, ends that more hosts than one have."""
    is_mark = bool(_BOOT_ID.fullmatch(boot_id) and _MARK.fullmatch(process_mark))
    named = {(str(address), port) for text, port in ends if (address := _read_address(text)) and 0 < port < 1 << 16}
    return CollectorTraffic(
        boot_id=boot_id if is_mark else "",
        process_mark=process_mark if is_mark else "",
        ends=tuple(sorted(named)[:ENDS_MAX]),
    )


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address by which other nodes reach a host; None where it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = mapped or address
    is_shared = address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast
    return None if is_shared else address


class _Known(NamedTuple):
    """What was found of a process: whether it is Apidae's own, until when that holds, and when it started."""

    is_own: bool
    until: float
    start_ticks: int


class _Found(NamedTuple):
    """The same of an end; `rest_seconds` until the try after the next, where nothing listens there."""

    is_own: bool
    until: float
    rest_seconds: float = FIRST_RETRY_SECONDS


class _CookieRing:
    """The collector's memory file: how many cookies were written, then the last of them as a ring."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._count = 0

    def read_new(self) -> tuple[int, ...]:
        """Those written since the last time. Raises OSError."""
        (count,) = _COOKIE.unpack(os.pread(self._descriptor, _COOKIE.size, 0).ljust(_COOKIE.size, b"\0"))
        if count == self._count:
            return ()
        self._count = count
        content = os.pread(self._descriptor, _RING_BYTES_MAX, _COOKIE.size)
        return tuple(cookie for (cookie,) in _COOKIE.iter_unpack(content[: len(content) & ~7]) if cookie)

    def close(self) -> None:
        os.close(self._descriptor)


class OwnProcesses:
    """Which processes are Apidae's own: this one, and those that hold the mark. Thread-safe."""

    def __init__(self, processes: ProcessTable, *, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._processes = processes
        self._clock = clock
        self.own_pid = processes.find_self()  # None where the proc tree does not show it.
        self._target = ""
        self._known: dict[int, _Known] = {}
        self._rings: dict[int, _CookieRing] = {}
        self._cookies: dict[int, None] = {}  # In the order in which they were read.
        self._self_read_at = float("-inf")
        self._lock = threading.Lock()
        self.found_count = 0  # Processes that hold the mark: with each there are sockets that were nobody's before.

    def set_mark(self, mark: str) -> None:
        """The mark of the collector on this node from now on; empty: there is none here."""
        target = f"/memfd:{mark} (deleted)" if mark else ""
        with self._lock:
            if target != self._target:
                self._target = target
                self._known = {}
                self._close_rings()

    def is_own(self, pid: int) -> bool:
        """Whether a process is Apidae's own; of one that has ended, whether it was. 0.2 us; the first time the names of
        its open files are read, 2 us each."""
        known = self._known.get(pid)
        if known is not None and self._clock() < known.until:
            return known.is_own
        with self._lock:
            return self._look(pid, known)

    def _look(self, pid: int, known: _Known | None) -> bool:
        if pid == self.own_pid:
            return True
        ticks = self._processes.start_ticks(pid)
        if ticks is None or (known is not None and ticks == known.start_ticks):
            is_own = known is not None and known.is_own
        else:
            is_own = self._find_mark(pid)
        if ticks is not None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {pid: one for pid, one in self._known.items() if one.is_own}
            until = self._clock() + (OWN_SECONDS if is_own else FOREIGN_SECONDS)
            self._known[pid] = _Known(is_own, until, ticks)
        return is_own

    def _find_mark(self, pid: int) -> bool:
        path = self._processes.find_descriptor(pid, self._target) if self._target else None
        if path is None:
            return False
        # Without the right to open it, what the collector calls is shown.
        with contextlib.suppress(OSError):
            self._rings[pid] = _CookieRing(path)
        self.found_count += 1
        return True

    def has_connected(self, cookie: int) -> bool:
        """Whether a socket of this cookie was connected by one of them. 0.1 us where it was, else up to 50 us."""
        if cookie in self._cookies:
            return True
        with self._lock:
            self._read_cookies()
        return cookie in self._cookies

    def list_cookies(self) -> list[int]:
        """Cookies of the sockets that they connected, as many as are remembered."""
        with self._lock:
            self._read_cookies()
        return list(self._cookies)

    def _read_cookies(self) -> None:
        for pid, ring in list(self._rings.items()):
            try:
                self._cookies.update(dict.fromkeys(ring.read_new()))
            except OSError:
                self._rings.pop(pid).close()
        now = self._clock()
        if now - self._self_read_at >= SELF_SECONDS:
            self._self_read_at = now
            self._cookies.update(dict.fromkeys(read_own_cookies()))
        for cookie in list(self._cookies)[: max(0, len(self._cookies) - KNOWN_MAX)]:
            del self._cookies[cookie]

    def forget_ended(self) -> None:
        """Close the files of those that have ended, read to their end."""
        with self._lock:
            ended = [pid for pid in self._rings if self._processes.start_ticks(pid) is None]
            if ended:
                self._read_cookies()
            for pid in ended:
                if pid in self._rings:
                    self._rings.pop(pid).close()

    def _close_rings(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings = {}


class OwnTraffic:
    """Says of calls whether one end of them is Apidae's own. Thread-safe: one thread asks, another refreshes."""

    def __init__(
        self,
        listeners: ListenerTable,
        processes: ProcessTable,
        cgroups: CgroupTree,
        *,
        clock: Callable[[], float],
        boot_id: str | None = None,
    ) -> None:
        """`clock` gives monotonic seconds; `boot_id` is this kernel's, read where it is not given."""
        self._listeners = listeners
        self._processes = processes
        self._cgroups = cgroups
        self._clock = clock
        self._boot_id = read_boot_id() if boot_id is None else boot_id
        self._own = OwnProcesses(processes, clock=clock)
        self._find_client: FindClient = lambda local_address, local_port, remote_address, remote_port: 0
        self._ends: dict[End, _Found] = {}
        # Of clients on this node, by the server's socket.
        self._connections: BoundedDict[int, bool] = BoundedDict(KNOWN_MAX)
        self._found_count = 0  # Of `_own`, when `_connections` was emptied last.
        self._own_listeners: frozenset[int] = frozenset()  # Inodes.
        self._remote_ends: frozenset[tuple[str, int]] = frozenset()
        self._private_addresses: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.cgroup_ids: frozenset[int] = frozenset()  # In which processes of Apidae's own open sockets.

    def identify(self, collector: CollectorTraffic) -> None:
        """What the collector says of itself from now on."""
        is_here = bool(self._boot_id) and collector.boot_id == self._boot_id
        with self._lock:
            self._own.set_mark(collector.process_mark if is_here else "")
            # On the collector's node its ends are known by their process.
            self._remote_ends = frozenset() if is_here else frozenset(collector.ends)
            self._forget_foreign()

    def _forget_foreign(self) -> None:
        self._ends = {end: found for end, found in self._ends.items() if found.is_own}

    def set_client_finder(self, find_client: FindClient) -> None:
        """How capture knows the socket of a client on this node."""
        self._find_client = find_client

    def refresh(self) -> None:
        """The listeners were read anew."""
        self._own.forget_ended()
        listeners = self._listeners.all()
        own = [listener for listener in listeners if self.is_own_listener(listener)]
        cgroup_ids = {listener.cgroup_id for listener in own}
        this = self._processes.process(self._own.own_pid) if self._own.own_pid is not None else None
        if this is not None:
            cgroup_ids.add(self._cgroups.find_id(this.cgroup_path) or 0)
        addresses = self._list_private_addresses(listeners, own)
        with self._lock:
            self.cgroup_ids = frozenset(cgroup_ids - {0})
            self._private_addresses = addresses
            # Others may listen there too by now.
            self._ends = {
                end: found for end, found in self._ends.items() if not found.is_own or self._decide(end, is_own=True)
            }
            own_listeners = frozenset(listener.inode for listener in own)
            if own_listeners != self._own_listeners:
                self._own_listeners = own_listeners
                self._forget_foreign()

    def _list_private_addresses(self, listeners: Sequence[Listener], own: Sequence[Listener]) -> frozenset[str]:
        """Addresses of network namespaces in which nothing but Apidae listens, as in a Pod: who calls from there is in
        it, also through an address translation that hides the client's socket."""
        host = self._processes.find_network_namespace(1)
        if host is None:
            return frozenset()
        shared = {host, *(one.namespace for one in listeners if one not in own)}
        private = {one.namespace for one in own} - shared
        found = {address for namespace in private for address in self._listeners.list_addresses(namespace)}
        return frozenset(address for address in found if _read_address(address) is not None)

    def is_own(self, exchange: Exchange) -> bool:
        """Whether one end of a call is Apidae's own. 0.5 us where neither is."""
        if exchange.ends.process and self._own.is_own(exchange.ends.process):
            return True
        if exchange.ends.role is Role.SERVER:
            if self.is_own_end(exchange.ends.cgroup_id, exchange.ends.local_port, exchange.ends.local_address):
                return True
            if not exchange.ends.peer_cgroup_id:
                return exchange.ends.remote_address in self._private_addresses
            return exchange.ends.peer_cgroup_id in self.cgroup_ids and self._is_own_client(exchange)
        if (exchange.ends.remote_address, exchange.ends.remote_port) in self._remote_ends:
            return True
        return exchange.ends.cgroup_id in self.cgroup_ids and self._own.has_connected(exchange.ends.connection)

    def is_own_end(self, cgroup_id: int, local_port: int, local_address: str) -> bool:
        """Whether what is served at a local end is Apidae's own; without an address, whether it is at every address."""
        end = (cgroup_id, local_port, local_address)
        found = self._ends.get(end)
        if found is not None and (found.until == _NEVER or self._clock() < found.until):
            return found.is_own
        with self._lock:
            return self._look(end, found)

    def list_sockets(self) -> list[int]:
        """Cookies of the sockets whose calls Apidae makes, as far as they are known: its clients', and those of servers
        of which such a call was assessed."""
        return [connection for connection, is_own in list(self._connections.items()) if is_own] + (
            self._own.list_cookies()
        )

    def is_own_listener(self, listener: Listener) -> bool:
        """Whether a listening socket is Apidae's own."""
        return listener.process is not None and self._own.is_own(listener.process.pid)

    def is_own_process(self, pid: int) -> bool:
        """Whether a process is Apidae's own."""
        return self._own.is_own(pid)

    def _is_own_client(self, exchange: Exchange) -> bool:
        if self._found_count != self._own.found_count:
            self._found_count = self._own.found_count
            self._connections.clear()
        is_own = self._connections.get(exchange.ends.connection)
        if is_own is not None:
            return is_own
        remote = (exchange.ends.remote_address, exchange.ends.remote_port)
        # Whom capture takes for the client goes by a hash of addresses and ports, which a stranger could find one for.
        cookie = 0
        if self._listeners.is_local_address(exchange.ends.remote_address):
            cookie = self._find_client(exchange.ends.local_address, exchange.ends.local_port, *remote)
        # Calls over TLS are read after their packets were seen, so asking again would not find more.
        if not cookie and not exchange.ends.is_encrypted:
            return False
        is_own = bool(cookie) and self._own.has_connected(cookie)
        self._connections[exchange.ends.connection] = is_own
        return is_own

    def _look(self, end: End, found: _Found | None) -> bool:
        was_own = found is not None and found.is_own
        if end[2]:
            self._listeners.find(*end)  # Reads anew where nobody is known to listen, or who did has ended.
        is_own = self._decide(end, is_own=was_own)
        rest_seconds = FIRST_RETRY_SECONDS if found is None else min(2 * found.rest_seconds, MAX_RETRY_SECONDS)
        if is_own:
            until, rest_seconds = self._clock() + OWN_SECONDS, FIRST_RETRY_SECONDS
            if end[0]:
                self.cgroup_ids |= {end[0]}
        elif self._listeners.list_fitting(*end):
            until = _NEVER  # Until Apidae listens elsewhere.
        else:
            until = self._clock() + rest_seconds
        if len(self._ends) >= KNOWN_MAX:
            self._ends = {end: one for end, one in self._ends.items() if one.is_own}
        self._ends[end] = _Found(is_own, until, rest_seconds)
        return is_own

    def _decide(self, end: End, *, is_own: bool) -> bool:
        """Whether all that may listen at an end is Apidae's own. Where nobody does any more, `is_own` as it was: calls
        of it may still be on their way."""
        fitting = [one for one in self._listeners.list_fitting(*end) if self._is_living(one)]
        return all(self.is_own_listener(one) for one in fitting) if fitting else is_own

    def _is_living(self, listener: Listener) -> bool:
        """Whether its process has not ended; one that nobody can see counts as living."""
        process = listener.process
        return process is None or self._processes.start_ticks(process.pid) == process.start_ticks


def read_boot_id() -> str:
    """The running kernel's; empty where it cannot be read."""
    try:
        return BOOT_ID_PATH.read_text().strip()
    except OSError:
        return ""


def read_own_cookies() -> list[int]:
    """Cookies of the TCP sockets of this process. 5 us a descriptor."""
    cookies: list[int] = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
                    content = copy.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size)
                    cookies += _COOKIE.unpack(content)
    return cookies
