"""How sensors recognise this collector's own traffic: a mark of its process, and where it listens.

The mark is the name of a memory file (memfd_create(2)) that this process holds open. The file has the cookies of the
sockets with which the process calls others. A sensor on the same kernel finds the process that listens at a port, and
compares the names of its open files.

/proc/PID/fd is readable for the process's own user and for root alone. The name is 256 bits of HMAC that only the
holder of the installation key can make. So no program becomes Apidae's own by its name or by what it sends. The name
depends on the kernel's boot id, and stays the same after a restart of the collector.
"""

import contextlib
import hashlib
import hmac
import ipaddress
import logging
import mmap
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collector.core.keys import InstallationKey
from collector.trust.identity import list_outgoing_addresses

BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")
# Of the connections that this process opened last: the sensor reads them within seconds, and a collector opens a few a
# minute.
COOKIES_MAX: Final = 4_096
_CONTEXT: Final = b"apidae collector process "
_COOKIE: Final = struct.Struct("=Q")
_SO_COOKIE: Final = 57  # include/uapi/asm-generic/socket.h; the socket module has no name for it.
_CONNECT_EVENT: Final = "socket.connect"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEnd:
    """A listening socket as other nodes reach it."""

    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraffic:
    """What the welcome says; without `process_mark` sensors take nothing on this collector's node for its own."""

    boot_id: str = ""
    process_mark: str = field(default="", repr=False)
    ends: tuple[OwnEnd, ...] = ()


class ProcessMark:
    """The memory file of this process: one 64-bit number, how many cookies were written, then the last `COOKIES_MAX` of
    them as a ring. Lives until the process ends."""

    def __init__(self, key: InstallationKey, boot_id: str) -> None:
        """Raises OSError where the kernel gives no memory file."""
        self.boot_id = boot_id
        self.name = f"apidae-{hmac.new(key.secret, _CONTEXT + boot_id.encode(), hashlib.sha256).hexdigest()}"
        size = _COOKIE.size * (1 + COOKIES_MAX)
        descriptor = os.memfd_create(self.name, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        self._ring = mmap.mmap(descriptor, size)  # Holds a descriptor of its own.
        os.close(descriptor)
        self._count = 0
        self._lock = threading.Lock()

    def watch_connections(self) -> None:
        """Write the cookie of each socket that this process connects, before it does. Cannot be undone."""
        sys.addaudithook(self._take_event)

    def _take_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == _CONNECT_EVENT and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            # A socket that is closed already fails in its own words.
            with contextlib.suppress(OSError):
                self.note_socket(arguments[0])

    def note_socket(self, client: socket.socket) -> None:
        """Write the cookie of a socket. Raises OSError where it is closed."""
        cookie = client.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size)
        with self._lock:
            at = _COOKIE.size * (1 + self._count % COOKIES_MAX)
            self._ring[at : at + _COOKIE.size] = cookie
            self._count += 1
            # Last: a reader that sees the number sees the cookie.
            self._ring[: _COOKIE.size] = _COOKIE.pack(self._count)


def open_process_mark(key: InstallationKey) -> ProcessMark | None:
    """The mark of this process; None, and a line in the log, where the kernel gives none."""
    try:
        return ProcessMark(key, BOOT_ID_PATH.read_text().strip())
    except OSError as error:
        logger.warning(
            "The sensor on this node cannot recognise this collector's own traffic (%s), and will show it.",
            error.strerror or error,
        )
        return None


def describe_own_traffic(mark: ProcessMark | None, listeners: Iterable[tuple[str, int]]) -> OwnTraffic:
    """What the welcome says. `listeners`: host and port of the listening sockets; those that only this host reaches are
    not named, one that listens on any address is named by this host's addresses on the way out."""
    ends: dict[OwnEnd, None] = {}
    for host, port in listeners:
        address = ipaddress.ip_address(host)
        if address.is_loopback:
            continue
        addresses = list_outgoing_addresses() if address.is_unspecified else [host]
        ends.update((OwnEnd(address=one, port=port), None) for one in addresses)
    if mark is None:
        return OwnTraffic(ends=tuple(ends))
    return OwnTraffic(boot_id=mark.boot_id, process_mark=mark.name, ends=tuple(ends))
