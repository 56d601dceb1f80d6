"""Reads the TCP, UDP and unix sockets of the whole node, in every network namespace that a process lives in.

`KernelSockets` reads them from the kernel, with one visit per namespace. On cgroups v1, containers differ only by
namespace: all listen on 0.0.0.0:80 in the root cgroup. So the addresses of the namespace come with the sockets.

Requests are NETLINK_SOCK_DIAG dumps (sock_diag(7), include/uapi/linux/inet_diag.h, stable since Linux 3.3, with the
cgroup id of a socket since 5.7; include/uapi/linux/unix_diag.h). What parses them is pure. Unix sockets have no other
source: in the text of /proc/net/unix, a path with a line end can make up another socket.

setns(2) moves the calling thread only. So the work runs in a thread that ends with it and never returns to other work.
It needs CAP_SYS_ADMIN.
"""

import ctypes
import logging
import os
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
_RTM_GETADDR = 22
_RTM_NEWADDR = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_REQUEST_DUMP = 0x301
_ALL_STATES = 0xFFFF_FFFF
_ANY_INTERFACE = bytes(4) + b"\xff" * 8  # And any cookie (INET_DIAG_NOCOOKIE).
_INET_DIAG_ULP_INFO = 19
_INET_DIAG_CGROUP_ID = 21
_INET_ULP_INFO_NAME = 1
_KERNEL_TLS = b"tls\0"
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
SYN_RECEIVED = 3  # A state; those below are bits of states.
ESTABLISHED = 1 << 1
UNCONNECTED = 1 << 7  # TCP_CLOSE: a datagram socket that is bound and talks to anybody.
LISTEN = 1 << 10

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
_REQUEST = struct.Struct("=BBBBI48s")  # struct inet_diag_req_v2: family, protocol, ext, pad, states, id
# struct inet_diag_msg: family, state, timer, retrans; id {sport, dport big-endian; src, dst; if; cookie}; expires,
# rqueue, wqueue, uid, inode
_SOCKET_HEAD = struct.Struct("=BBBB")
_SOCKET_PORTS = struct.Struct("!HH")
_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, section 2.5.5.2.
_SOCKET_TAIL = struct.Struct("=IQIIIII")
_SOCKET_BYTES = 72
_UNIX_REQUEST = struct.Struct("=BBHIIIQ")  # struct unix_diag_req: family, protocol, pad, states, ino, show, cookie
_UNIX_SOCKET = struct.Struct("=BBBBIQ")  # struct unix_diag_msg: family, type, state, pad, ino, cookie
_UNIX_SHOWN = 0x41  # UDIAG_SHOW_NAME, UDIAG_SHOW_UID
_UNIX_NAME, _UNIX_UID = 0, 7
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 16
# A dump of more sockets is cut and the answer says so: 131,072 listeners or connections of 100 bytes are 13 MB.
MAX_SOCKETS = 1 << 17
# The kernel answers a dump at once; only a netlink bug would take longer.
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    """One socket as sock_diag gives it.

    Addresses are textual, mapped IPv4 as IPv4; an unspecified one is `0.0.0.0` or `::`.
    """

    address: str
    port: int
    remote_address: str
    remote_port: int
    inode: int
    cookie: int
    cgroup_id: (
        int  # The cgroup it was created in: what bpf_skb_cgroup_id reports for its connections; 0 before Linux 5.7.
    )
    state: int = field(default=0, compare=False)  # Of TCP.


def dump_sockets(states: int) -> list[TcpSocket]:
    """All TCP sockets, IPv4 and IPv6, in `states` (bits 1 << TCP state), of the calling thread's network namespace.

    Raises OSError where the kernel has no inet_diag. 15 us a hundred sockets in the kernel, 6 us a socket here.
    """
    return _dump_sockets(socket.IPPROTO_TCP, states)


def dump_datagram_sockets() -> list[TcpSocket]:
    """As `dump_sockets`, the UDP sockets that are bound to a port and not connected. Raises OSError."""
    return [found for found in _dump_sockets(socket.IPPROTO_UDP, UNCONNECTED) if found.port and not found.remote_port]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixSocket:
    """One unix socket that has a name."""

    name: bytes  # Without the zero byte behind a path; with the one before an abstract name.
    kind: int  # socket.SOCK_STREAM, ..
    state: int  # As of TCP.
    inode: int
    uid: int | None  # Of its maker; None before Linux 5.3.


def dump_unix_sockets() -> list[UnixSocket]:
    """Those of the calling thread's network namespace. Raises OSError."""
    found: list[UnixSocket] = []
    with open_netlink(NETLINK_SOCK_DIAG) as channel:
        body = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFF_FFFF, 0, _UNIX_SHOWN, 0)
        for message in _dump(channel, SOCK_DIAG_BY_FAMILY, body):
            found.extend(parse_unix_sockets(message))
            if len(found) >= MAX_SOCKETS:
                return found[:MAX_SOCKETS]
    return found


def parse_unix_sockets(message: bytes) -> Iterator[UnixSocket]:
    """The sockets with names of one message, without what is cut or foreign."""
    for kind, body in _parts(message):
        if kind != SOCK_DIAG_BY_FAMILY or len(body) < _UNIX_SOCKET.size:
            continue
        family, of_kind, state, _, inode, _ = _UNIX_SOCKET.unpack_from(body)
        attributes = _attributes(body[_UNIX_SOCKET.size :])
        name, uid = attributes.get(_UNIX_NAME, b""), attributes.get(_UNIX_UID, b"")
        if name[:1] != b"\0":
            name = name.partition(b"\0")[0]
        if family == socket.AF_UNIX and name:
            maker = int.from_bytes(uid, sys.byteorder) if len(uid) == 4 else None
            yield UnixSocket(name=name, kind=of_kind, state=state, inode=inode, uid=maker)


def find_socket(
    channel: socket.socket, family: int, local: tuple[bytes, int], remote: tuple[bytes, int]
) -> TcpSocket | None:
    """The connected TCP socket with these ends, addresses of 4 or 16 bytes, in the namespace in which the channel
    (NETLINK_SOCK_DIAG) was opened. 20 us. Raises OSError."""
    ends = struct.pack("!HH", local[1], remote[1]) + local[0].ljust(16, b"\0") + remote[0].ljust(16, b"\0")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES, ends + _ANY_INTERFACE)
    channel.send(_HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body)
    for found in parse_sockets(channel.recv(_RECEIVE_BYTES)):
        # Where it is gone the kernel gives the one that listens there.
        if (found.port, found.remote_port) == (local[1], remote[1]):
            return found
    return None


def count_kernel_tls() -> Counter[tuple[int, int]]:
    """Open connections that the kernel encrypts (kTLS), by (cgroup id, local port). Raises OSError."""
    found: Counter[tuple[int, int]] = Counter()
    for message in _dump_messages(socket.IPPROTO_TCP, ESTABLISHED):
        if _KERNEL_TLS in message:  # Most nodes have none, and then nothing is parsed.
            found.update(parse_kernel_tls(message))
    return found


def _dump_messages(protocol: int, states: int) -> Iterator[bytes]:
    with open_netlink(NETLINK_SOCK_DIAG) as channel:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, protocol, 0, 0, states, bytes(48))
            yield from _dump(channel, SOCK_DIAG_BY_FAMILY, body)


def _dump_sockets(protocol: int, states: int) -> list[TcpSocket]:
    found: list[TcpSocket] = []
    for message in _dump_messages(protocol, states):
        found.extend(parse_sockets(message))
        if len(found) >= MAX_SOCKETS:
            return found[:MAX_SOCKETS]
    return found


def dump_addresses() -> frozenset[str]:
    """The addresses of all interfaces of the calling thread's network namespace. Raises OSError."""
    found: set[str] = set()
    with open_netlink(socket.NETLINK_ROUTE) as channel:
        for message in _dump(channel, _RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            found.update(parse_addresses(message))
    return frozenset(found)


def parse_sockets(message: bytes) -> Iterator[TcpSocket]:
    """The sockets of one netlink message of any number of parts; what is cut or foreign is passed over."""
    for kind, body in _parts(message):
        if kind != SOCK_DIAG_BY_FAMILY or len(body) < _SOCKET_BYTES:
            continue
        family, state, *_ = _SOCKET_HEAD.unpack_from(body)
        port, remote_port = _SOCKET_PORTS.unpack_from(body, 4)
        _, cookie, *_, inode = _SOCKET_TAIL.unpack_from(body, 40)
        attributes = _attributes(body[_SOCKET_BYTES:])
        yield TcpSocket(
            address=_format_address(family, body[8:24]),
            port=port,
            remote_address=_format_address(family, body[24:40]),
            remote_port=remote_port,
            inode=inode,
            cookie=cookie,
            cgroup_id=_read_cgroup_id(attributes),
            state=state,
        )


def parse_kernel_tls(message: bytes) -> Iterator[tuple[int, int]]:
    """(cgroup id, local port) of the sockets of one message whose upper layer is TLS (INET_DIAG_ULP_INFO)."""
    for kind, body in _parts(message):
        if kind != SOCK_DIAG_BY_FAMILY or len(body) < _SOCKET_BYTES:
            continue
        attributes = _attributes(body[_SOCKET_BYTES:])
        layer = _attributes(attributes.get(_INET_DIAG_ULP_INFO, b""))
        if layer.get(_INET_ULP_INFO_NAME) == _KERNEL_TLS:
            yield _read_cgroup_id(attributes), _SOCKET_PORTS.unpack_from(body, 4)[0]


def _read_cgroup_id(attributes: dict[int, bytes]) -> int:
    return int.from_bytes(attributes.get(_INET_DIAG_CGROUP_ID, b""), sys.byteorder)


def parse_addresses(message: bytes) -> Iterator[str]:
    """The interface addresses of one message of an RTM_GETADDR dump (rtnetlink(7))."""
    for kind, body in _parts(message):
        if kind != _RTM_NEWADDR or len(body) < 8:
            continue
        attributes = _attributes(body[8:])
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
        if len(raw) in (4, 16):
            yield _format_address(body[0], raw.ljust(16, b"\0"))


def open_netlink(protocol: int) -> socket.socket:
    """A netlink channel of the calling thread's network namespace. Raises OSError."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    channel.settimeout(_TIMEOUT_SECONDS)
    return channel


def _dump(channel: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """Sends one dump request and gives its messages until the kernel says it is done."""
    channel.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST_DUMP, 1, 0) + body)
    while True:
        message = channel.recv(_RECEIVE_BYTES)
        yield message
        for part_kind, part in _parts(message):
            if part_kind == _NLMSG_DONE:
                return
            if part_kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", part)[0] if len(part) >= 4 else 0
                raise OSError(
                    code, f"the kernel refused a netlink dump of type {kind}: is inet_diag built in or loadable?"
                )


def _parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each netlink message in a datagram."""
    offset = 0
    while offset + _HEADER.size <= len(message):
        length, kind, *_ = _HEADER.unpack_from(message, offset)
        if length < _HEADER.size or offset + length > len(message):
            return
        yield kind, message[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(body: bytes) -> dict[int, bytes]:
    """The netlink attributes (type, length, value padded to 4) of a message's tail."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            break
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _format_address(family: int, raw: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, raw)


logger = logging.getLogger(__name__)

_CLONE_NEWNET = 0x4000_0000

T = TypeVar("T")


def visit_namespaces(paths: Iterable[str], visit: Callable[[], T]) -> dict[str, T]:
    """`visit()`'s result in each network namespace (`/proc/PID/ns/net`); those that cannot be entered or read are
    left out.
    """
    found: dict[str, T] = {}

    def run() -> None:
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if _set_namespace(fd):
                    found[path] = visit()
            except OSError:
                continue
            except Exception:
                # What one namespace holds keeps no other from being read.
                logger.exception("reading a network namespace failed")
            finally:
                os.close(fd)

    thread = threading.Thread(target=run, name="apidae-netns", daemon=True)
    thread.start()
    thread.join()
    return found


def _set_namespace(fd: int) -> bool:
    """Moves this thread; os.setns is only in Python 3.12 and later."""
    return int(ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET)) == 0


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


class KernelSockets:
    """Sockets of the running kernel."""

    def __init__(self, list_namespaces: Callable[[], Mapping[int, int]], *, root: Path = Path("/proc")) -> None:
        """`list_namespaces`: a process of each network namespace, by the namespace's inode number."""
        self._list_namespaces = list_namespaces
        self._root = root

    def read(self, states: int) -> SocketReading:
        """Never raises: a namespace that cannot be entered is counted; without any right to enter, the own one is
        read.
        """
        by_path = {f"{self._root}/{pid}/ns/net": inode for inode, pid in self._list_namespaces().items()}
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
