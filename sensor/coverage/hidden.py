"""What the hooks cannot see and the node can count: unix sockets that listen, datagram sockets, kernel TLS, sockmaps.

`sensor.enrich.hidden` reads them; this is what the report needs of them.
"""

from dataclasses import dataclass, field

from sensor.calls import Service
from sensor.enrich.listeners import Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixPort:
    """Unix stream sockets that listen at one path, by the service that holds them."""

    service: Service
    path: str
    open_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """One reading of the node."""

    unix_ports: tuple[UnixPort, ...] = ()
    datagram_listeners: tuple[Listener, ...] = ()
    kernel_tls: dict[tuple[int, int], int] = field(default_factory=dict)  # Open connections by (cgroup id, local port).
    sockmap_programs: int = 0


NOTHING_HIDDEN = Hidden()
