"""Unix sockets of one network namespace, of the text of /proc/net/unix (proc(5)): who listens, and how many are
connected to each path now. An accepted socket bears its listener's path.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sensor.printable import make_printable

_ACCEPTS: Final = 1 << 16  # __SO_ACCEPTCON
_STREAM, _SEQUENCED = 1, 5
_CONNECTED: Final = 3
# Listeners of a namespace that are told; a desktop has some hundred.
MAX_LISTENERS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    """One listening stream socket. `path` begins with `@` in the abstract namespace and is printable."""

    path: str
    inode: int
    open_connections: int


def parse_unix(lines: Iterable[bytes]) -> list[UnixListener]:
    """The listeners by path; lines that are no sockets are passed over."""
    listeners: dict[int, str] = {}
    connected: Counter[str] = Counter()
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) < 8:
            continue  # The heading, or a socket without a name.
        try:
            flags, kind, state = int(fields[3], 16), int(fields[4], 16), int(fields[5], 16)
            inode = int(fields[6])
        except ValueError:
            continue
        path = make_printable(fields[7].strip())
        if kind not in (_STREAM, _SEQUENCED):
            continue
        if flags & _ACCEPTS and len(listeners) < MAX_LISTENERS:
            listeners[inode] = path
        elif state == _CONNECTED:
            connected[path] += 1
    found = [
        UnixListener(path=path, inode=inode, open_connections=connected[path]) for inode, path in listeners.items()
    ]
    return sorted(found, key=lambda listener: (listener.path, listener.inode))
