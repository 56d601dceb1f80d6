"""Resets TCP connections of any network namespace, in a thread that waits on the kernel's ring of stops.

It uses SOCK_DESTROY of sock_diag(7) (Linux 4.9, CONFIG_INET_DIAG_DESTROY). The client gets a RST and the program
ECONNABORTED, both at once, whatever they wait for. A netlink socket belongs to the network namespace in which it was
made, so one is kept for each. Other namespaces need CAP_SYS_ADMIN, the request itself CAP_NET_ADMIN.

The thread makes a client wait milliseconds only. Some connections are known to user space only, because the head came
in pieces or the token of a known principal is new. The enforcer adds these by `ask`.
"""

import contextlib
import errno
import logging
import queue
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from common.bounded import BoundedDict
from sensor.core.clock import Clock
from sensor.ebpf.abi import StopEvent, StopKind
from sensor.ebpf.enforcement_maps import StopMaps
from sensor.enrich.sockets import find_socket, visit_namespaces

SOCK_DESTROY: Final = 21
_NETLINK_SOCK_DIAG: Final = 4
_NLM_F_REQUEST_ACK: Final = 0x5
_NLMSG_ERROR: Final = 2
_ALL_STATES: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr.
_REQUEST: Final = struct.Struct("=BBBBI")  # struct inet_diag_req_v2 without its id.
_PORTS: Final = struct.Struct("!HH")
_TAIL: Final = struct.Struct("=IQ")  # Interface and cookie of struct inet_diag_sockid.
_TIMEOUT_SECONDS: Final = 1.0
# Namespaces that are kept open; the least used goes.
CHANNELS_LIMIT: Final = 256
CGROUPS_LIMIT: Final = 4_096
_OWN: Final = 0
# Entering it changes nothing, and needs what entering any other needs.
_OWN_NAMESPACE: Final = "/proc/self/ns/net"
_NOT_ENTERING: Final = (
    "the sensor may not enter the network namespaces of containers to reset connections there, and a client must not "
    "hang: CAP_SYS_ADMIN is needed"
)
# Of a connection of which only its ends are known.
UNKNOWN_COOKIE: Final = 0
_NO_COOKIE: Final = (1 << 64) - 1  # INET_DIAG_NOCOOKIE.


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A socket of this node; addresses of 4 or 16 bytes."""

    cookie: int  # Or UNKNOWN_COOKIE.
    cgroup_id: int
    family: int  # 4 or 6.
    local_address: bytes
    local_port: int
    remote_address: bytes
    remote_port: int


def write_request(connection: Connection) -> bytes:
    """The netlink message that destroys a socket; pure."""
    family = socket.AF_INET if connection.family == 4 else socket.AF_INET6
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    body += _PORTS.pack(connection.local_port, connection.remote_port)
    body += connection.local_address.ljust(16, b"\0") + connection.remote_address.ljust(16, b"\0")
    body += _TAIL.pack(0, connection.cookie)
    return _HEADER.pack(_HEADER.size + len(body), SOCK_DESTROY, _NLM_F_REQUEST_ACK, 1, 0) + body


def _find_cookie(channel: socket.socket, connection: Connection) -> int:
    """The cookie of the connected socket with these ends; 0 where there is none. Raises OSError.

    Without its cookie nothing is ever destroyed: where a connection is gone, the kernel finds the socket that listens
    there."""
    family = socket.AF_INET if connection.family == 4 else socket.AF_INET6
    local = connection.local_address, connection.local_port
    found = find_socket(channel, family, local, (connection.remote_address, connection.remote_port))
    return found.cookie if found is not None else 0


def _destroy(channel: socket.socket, request: bytes) -> int:
    """0, or the kernel's error number. Raises OSError where the channel fails."""
    channel.send(request)
    answer = channel.recv(1 << 12)
    _, kind, *_ = _HEADER.unpack_from(answer)
    return -int(struct.unpack_from("=i", answer, _HEADER.size)[0]) if kind == _NLMSG_ERROR else errno.EPROTO


def _reset(channel: socket.socket, connection: Connection) -> int:
    """As `_destroy`, of a connection whose cookie may have to be found first."""
    if connection.cookie == UNKNOWN_COOKIE:
        cookie = _find_cookie(channel, connection)
        if not cookie:
            return errno.ENOENT
        connection = replace(connection, cookie=cookie)
    return _destroy(channel, write_request(connection))


def _open_channel() -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    channel.settimeout(_TIMEOUT_SECONDS)
    return channel


class Resetter:
    """Not thread-safe: of one thread."""

    def __init__(self, proc: Path, list_namespaces: Callable[[], Mapping[int, int]]) -> None:
        """`list_namespaces`: a process in each network namespace, by its inode number."""
        self._proc = proc
        self._list_namespaces = list_namespaces
        self._channels: BoundedDict[int, socket.socket] = BoundedDict(
            CHANNELS_LIMIT, lambda namespace, channel: channel.close()
        )
        self._by_cgroup: BoundedDict[int, int] = BoundedDict(CGROUPS_LIMIT)

    def reset(self, connection: Connection) -> bool:
        """Whether the connection is gone: reset now, or ended before."""
        home = self._by_cgroup.get(connection.cgroup_id)
        found = {errno.ENOENT}
        for namespace in self._order(home):
            channel = self._find_channel(namespace)
            if channel is None:
                continue
            try:
                code = _reset(channel, connection)
            except OSError as error:
                self._forget(namespace)
                found.add(error.errno or errno.EIO)
                continue
            if not code:
                self._by_cgroup.renew(connection.cgroup_id, namespace)
                return True
            found.add(code)
        # Found nowhere although all could be asked: it ended before.
        return found == {errno.ENOENT} and home is not None

    def _order(self, home: int | None) -> list[int]:
        known = [home] if home is not None else []
        rest = [_OWN, *self._channels]
        if home is None:
            rest += list(self._list_namespaces())
        return list(dict.fromkeys([*known, *rest]))

    def _find_channel(self, namespace: int) -> socket.socket | None:
        channel = self._channels.use(namespace)
        if channel is None:
            try:
                channel = _open_channel() if namespace == _OWN else self._open_in(namespace)
            except OSError:
                channel = None
            if channel is not None:
                self._channels[namespace] = channel
        return channel

    def _open_in(self, namespace: int) -> socket.socket | None:
        pid = self._list_namespaces().get(namespace)
        path = f"{self._proc}/{pid}/ns/net"
        return visit_namespaces([path], _open_channel).get(path) if pid else None

    def _forget(self, namespace: int) -> None:
        channel = self._channels.pop(namespace, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Close all channels."""
        for namespace in list(self._channels):
            self._forget(namespace)


def find_obstacle() -> str:
    """Why connections cannot be reset here, tried on one of our own; empty where they can."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname(), _TIMEOUT_SECONDS))
        server, _ = listener.accept()
        stack.enter_context(server)
        (local, local_port), (remote, remote_port) = server.getsockname(), client.getsockname()
        request = write_request(
            Connection(
                cookie=_NO_COOKIE,  # The addresses say it.
                cgroup_id=0,
                family=4,
                local_address=socket.inet_aton(local),
                local_port=local_port,
                remote_address=socket.inet_aton(remote),
                remote_port=remote_port,
            )
        )
        try:
            code = _destroy(stack.enter_context(_open_channel()), request)
        except OSError as error:
            code = error.errno or errno.EIO
    if not code:
        return "" if visit_namespaces([_OWN_NAMESPACE], lambda: True) else _NOT_ENTERING
    name = errno.errorcode.get(code, str(code))
    return (
        f"this kernel does not reset connections for the sensor ({name}), and a client must not hang: "
        f"CONFIG_INET_DIAG_DESTROY and CAP_NET_ADMIN are needed"
    )


logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.05
ASKED_LIMIT: Final = 1_024


def make_connection(event: StopEvent) -> Connection:
    """The socket that an event names."""
    size = 4 if event.family == 4 else 16
    return Connection(
        cookie=event.connection,
        cgroup_id=event.cgroup_id,
        family=event.family,
        local_address=event.local_address[:size],
        local_port=event.local_port,
        remote_address=event.remote_address[:size],
        remote_port=event.remote_port,
    )


class StopWatch:
    """One thread; its figures are read from another, numbers that only grow."""

    def __init__(self, ring: StopMaps, resetter: Resetter, clock: Clock) -> None:
        self._ring = ring
        self._resetter = resetter
        self._clock = clock
        self._asked: queue.Queue[tuple[int, Connection]] = queue.Queue(ASKED_LIMIT)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apidae-stops", daemon=True)
        self.resets: Counter[int] = Counter()  # By slot.
        self.failures: Counter[int] = Counter()
        self.unqueued: Counter[int] = Counter()  # Those that `ask` had no room for.
        self.first_unix_ns: dict[int, int] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is left."""
        self._is_ending.set()
        self._thread.join()
        self._resetter.close()

    def ask(self, slot: int, connection: Connection) -> None:
        """Reset this one soon. Where too many wait, it is counted and left: its next call asks again."""
        try:
            self._asked.put_nowait((slot, connection))
        except queue.Full:
            self.unqueued[slot] += 1
        else:
            self._ring.wake()

    def _run(self) -> None:
        while not self._is_ending.is_set():
            try:
                self._ring.wait(WAIT_SECONDS)
                self._take()
            except Exception:
                # A loop boundary: the packets are dropped by the kernel all the same.
                logger.exception("resetting connections failed")
                self._is_ending.wait(1.0)

    def _take(self) -> None:
        for event in self._ring.read_events():
            self.first_unix_ns.setdefault(event.slot, self._clock.to_unix_ns(event.time_ns))
            if event.kind != StopKind.SPARED:
                self._reset(event.slot, make_connection(event))
        while not self._asked.empty():
            slot, connection = self._asked.get_nowait()
            self.first_unix_ns.setdefault(slot, self._clock.unix_ns())
            self._reset(slot, connection)

    def _reset(self, slot: int, connection: Connection) -> None:
        is_reset = False
        try:
            is_reset = self._resetter.reset(connection)
        except Exception:
            # One connection keeps no other from being reset.
            logger.exception("resetting a connection failed")
        (self.resets if is_reset else self.failures)[slot] += 1
