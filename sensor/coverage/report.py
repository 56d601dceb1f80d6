"""Builds the coverage report: one `PortCoverage` a (service, address, protocol), also for silent ports and called
hosts.

Takes the kernel's counts, the node's listeners and what the hooks cannot see (`sensor.enrich.hidden`): unix sockets,
datagram sockets, kernel TLS and sockmaps. Pure. Counts are never split and never dropped: the sum over the rows is the
sum of what the kernel counted.

`is_http_like` defines the denominator of the share that is read (docs/use/coverage.md). `REASONS` explains why a
protocol is not read.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec

from common.bounded import BoundedDict
from common.figures import Figure, make_totals
from sensor.core.calls import Service, WorkloadKind
from sensor.coverage.handshakes import add_handshakes
from sensor.coverage.row import (
    NO_HANDSHAKES,
    CoverageRole,
    Handshakes,
    PortCount,
    PortCoverage,
    PortProtocol,
    build_node_row,
)
from sensor.enrich.listeners import Listener

REASONS: Final[dict[PortProtocol, str]] = {
    PortProtocol.HTTP: "",
    PortProtocol.ENCRYPTED: "TLS: encrypted where the sensor reads, so calls are not seen.",
    PortProtocol.HTTP2: "",
    PortProtocol.OTHER: "The first bytes are not HTTP.",
    PortProtocol.SILENT: "No connection since the sensor started.",
    PortProtocol.UNIX: "Unix socket: its bytes never pass the network hooks; connections are those open now.",
    PortProtocol.QUIC: "QUIC (HTTP/3): encrypted datagrams; flows and bytes are counted.",
    PortProtocol.SOCKMAP: "Programs move bytes between sockets (sockmap), past the hooks where the sensor reads.",
    PortProtocol.MISSED: "The sensor knows that it missed something.",
    PortProtocol.LEFT_OUT: "Seen and not reported, by choice.",
    PortProtocol.HTTPS: "TLS, read where its process hands it to {read_by}.",
    PortProtocol.KERNEL_TLS: "Encrypted by the kernel (kTLS), past any library of TLS; connections are those open now.",
}
NO_SERVER_HELLO: Final = "Clients began TLS, and no server answered with it."
NO_LIBRARY: Final = "No library of TLS that can be read was found in its process."
IN_TURNS: Final = "Its processes are read {percent} % of the time, and other calls are estimated."
NOT_READ_NOW: Final = "Its calls are estimated."
SHARED: Final = "{count} services listen on this port in one cgroup; the kernel's count does not distinguish them."
CLOSED: Final = "Nothing listens here any more, or not where the sensor can see it."
KERNEL_TLS: Final = "{count} open connections are encrypted by the kernel (kTLS)."
OWN: Final = "Apidae's own: its calls are excluded, and it is in no share."
FOLDED: Final = "Rows past the {limit} that are listed one by one."


def describe_encryption(handshakes: Handshakes) -> str:
    """Version and protocol of most handshakes, for the reason."""
    parts = [texts[0][0] for texts in (handshakes.versions, handshakes.protocols) if texts]
    return f"Mostly {', '.join(parts)}." if parts else ""


# ALPN names of HTTP (IANA, TLS ALPN Protocol IDs); `h3` is QUIC's.
HTTP_PROTOCOLS: Final = frozenset({"h2", "http/1.1", "http/1.0", "http/0.9", "h3"})
# Where encrypted HTTP is served by registration or habit; asked only where no client named a protocol.
HTTP_PORTS: Final = frozenset({443, 444, 4443, 5443, 6443, 7443, 8443, 9443, 10443, 2376, 2379, 10250})
PORT_HTTPS: Final = 443
# So many sampled hellos of clients without one of the server: none of them was lost by chance.
UNANSWERED_MIN: Final = 3


def is_http_like(protocol: PortProtocol, port: int, handshakes: Handshakes) -> bool:
    """Whether connections of this kind count as HTTP."""
    match protocol:
        case PortProtocol.HTTP | PortProtocol.HTTP2 | PortProtocol.HTTPS:
            return True
        case PortProtocol.ENCRYPTED:
            names = {name for name, _ in handshakes.protocols}
            return bool(names & HTTP_PROTOCOLS) if names else port in HTTP_PORTS
        case PortProtocol.QUIC:
            return port == PORT_HTTPS
        case _:
            return False


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


_READ = frozenset({PortProtocol.HTTP, PortProtocol.HTTP2, PortProtocol.HTTPS})


# Of listening ports that carry HTTP: name, meaning, field of the row, and whether only ports that are read count.
_SHARE: Final = (
    ("http_connections", "Connections of listening ports that carry HTTP.", "connections", False),
    (
        "http_read_connections",
        "Connections of listening ports that carry HTTP and are read.",
        "connections",
        True,
    ),
    ("http_bytes", "Bytes of connections of listening ports that carry HTTP.", "bytes", False),
    ("http_read_bytes", "Bytes of connections of listening ports that carry HTTP and are read.", "bytes", True),
    ("estimated_calls", "Calls over TLS that is not read, estimated from record lengths.", "estimated_calls", False),
    ("late_connections", "Connections that were open before the sensor saw them.", "joined_late", False),
)


def list_share_figures(rows: Iterable[PortCoverage]) -> tuple[Figure, ...]:
    """Of listening ports, totals since the sensor's start."""
    like = [row for row in rows if row.is_http_like and row.role is CoverageRole.LISTENING]
    read = [row for row in like if row.protocol in _READ]
    return make_totals(
        (
            (name, meaning, sum(getattr(row, figure) for row in (read if is_read else like)))
            for name, meaning, figure, is_read in _SHARE
        ),
        "coverage_",
    )


# Rows of one report; a node has some dozens. Past it the rows of least bytes are added together, so that totals stay
# exact.
MAX_ROWS = 4_096
# Rows that say what was heard of handshakes, up to 6 KB each: those of most connections. A report is one message.
MAX_HANDSHAKE_ROWS = 256
# Ports remembered for counts whose service has gone.
MEMORY_MAX = 16_384
OTHER_WORKLOAD = "other"
# Of which a way of capture may miss a part.
_LIMITED = (PortProtocol.HTTP, PortProtocol.OTHER)

Rows = dict[tuple[Service, str, PortProtocol, CoverageRole], PortCoverage]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """The listeners of one port that are one service."""

    service: Service
    addresses: tuple[str, ...]
    cgroup_ids: frozenset[int]
    pids: tuple[int, ...] = ()
    is_own: bool = False  # Apidae's.


class PortMemory:
    """Whose a count was: its service may have gone, or have come back in another cgroup."""

    def __init__(self) -> None:
        self._ports: BoundedDict[tuple[int, int, bool], _Port] = BoundedDict(MEMORY_MAX)

    def recall(self, count: PortCount, fitting: list[_Port]) -> list[_Port]:
        """Those that fit now; where none does, the one that did."""
        key = (count.cgroup_id, count.port, count.kind is PortProtocol.QUIC)
        if len(fitting) == 1 and count.cgroup_id:
            self._ports[key] = fitting[0]
        return fitting if fitting or key not in self._ports else [self._ports[key]]


def cover_ports(
    counts: Iterable[PortCount],
    listeners: Sequence[Listener],
    *,
    name_service: Callable[[Listener], Service],
    name_client: Callable[[int], Service],
    unknown_service: Service,
    hidden: Hidden = NOTHING_HIDDEN,
    memory: PortMemory | None = None,
    why_unread: Callable[[int], str] | None = None,
    is_own: Callable[[Listener], bool] | None = None,
) -> list[PortCoverage]:
    """The report, by role, port, service and protocol.

    `name_service` is `NodeIdentity.listener_service`, `name_client` its `client_service`; `unknown_service` stands for
    a port on which nothing listens now, or several services at once (its port is replaced). `why_unread` says why the
    TLS of a process is not read, empty where it is. Ports of which all listeners `is_own` do not count to the share
    that is read. At most `MAX_ROWS`.
    """
    ports = _group_listeners(listeners, name_service, is_own)
    datagram_ports = _group_listeners(hidden.datagram_listeners, name_service)
    rows: Rows = {}
    called: set[tuple[PortProtocol, Service, tuple[str, ...]]] = set()
    plain = {count.port for count in counts if count.kind in (PortProtocol.HTTP, PortProtocol.HTTP2)}
    for count in map(partial(_check_encryption, plain), counts):
        if count.role is CoverageRole.OUTBOUND:
            _add(rows, _build_outbound(count, name_client))
            continue
        is_datagram = count.kind is PortProtocol.QUIC
        present = (datagram_ports if is_datagram else ports).get(count.port, ())
        fitting = _find_fitting(present, count)
        if memory is not None:
            fitting = memory.recall(count, fitting)
        silenced = PortProtocol.QUIC if is_datagram else PortProtocol.SILENT
        called.update((silenced, port.service, port.addresses) for port in fitting)
        is_open = any(
            (port.service, port.addresses) == (one.service, one.addresses) for port in present for one in fitting
        )
        why = _explain_unread(count, fitting, why_unread)
        _add(rows, _build_row(count, fitting, unknown_service, hidden, is_open=is_open, why=why))
    _add_silent(rows, called, ports, PortProtocol.SILENT, unknown_service, hidden)
    quic = {PORT_HTTPS: datagram_ports[PORT_HTTPS]} if PORT_HTTPS in datagram_ports else {}
    _add_silent(rows, called, quic, PortProtocol.QUIC, unknown_service, hidden)
    for row in _list_hidden(hidden, unknown_service):
        _add(rows, row)
    return _bound(_bound_handshakes(sorted(rows.values(), key=_order)), unknown_service)


def note_limitation(rows: Sequence[PortCoverage], limitation: str) -> Sequence[PortCoverage]:
    """The report with what the way of capture does not see at each port that is read or not recognised; rows as they
    are without any."""
    if not limitation:
        return rows
    return [
        replace(row, reason=f"{limitation} {row.reason}".strip()) if row.protocol in _LIMITED else row for row in rows
    ]


def _group_listeners(
    listeners: Sequence[Listener],
    name_service: Callable[[Listener], Service],
    is_own: Callable[[Listener], bool] | None = None,
) -> dict[int, list[_Port]]:
    """By port, the listeners of one service together: IPv4 and IPv6, SO_REUSEPORT."""
    groups: dict[tuple[int, Service], list[Listener]] = {}
    for listener in listeners:
        groups.setdefault((listener.port, name_service(listener)), []).append(listener)
    ports: dict[int, list[_Port]] = {}
    for (number, service), members in groups.items():
        port = _Port(
            service=service,
            addresses=tuple(sorted({listener.address for listener in members})),
            cgroup_ids=frozenset(listener.cgroup_id for listener in members),
            pids=tuple(sorted({listener.process.pid for listener in members if listener.process is not None})),
            is_own=is_own is not None and all(is_own(listener) for listener in members),
        )
        ports.setdefault(number, []).append(port)
    return ports


def _find_fitting(ports: Sequence[_Port], count: PortCount) -> list[_Port]:
    """The services that a count may be of: those of its cgroup, else those whose cgroup is not known."""
    if not count.cgroup_id:
        return list(ports)
    exact = [port for port in ports if count.cgroup_id in port.cgroup_ids]
    return exact or [port for port in ports if 0 in port.cgroup_ids]


def _add_silent(
    rows: Rows,
    called: set[tuple[PortProtocol, Service, tuple[str, ...]]],
    ports: dict[int, list[_Port]],
    protocol: PortProtocol,
    unknown_service: Service,
    hidden: Hidden,
) -> None:
    for port in (port for group in ports.values() for port in group):
        if (protocol, port.service, port.addresses) not in called:
            silent = PortCount(port=port.service.port, kind=protocol, connections=0, bytes=0)
            _add(rows, _build_row(silent, [port], unknown_service, hidden, is_open=True))


def _check_encryption(plain: Collection[int], count: PortCount) -> PortCount:
    """The count, of other bytes if clients began TLS on a port that is plain or where no server ever answered so."""
    heard = count.handshakes
    is_refused = count.kind is PortProtocol.ENCRYPTED and heard.count and not heard.versions
    if not is_refused or (count.port not in plain and heard.count < UNANSWERED_MIN):
        return count
    return replace(count, kind=PortProtocol.OTHER, exchanges=0)


def _explain_unread(count: PortCount, fitting: Sequence[_Port], why_unread: Callable[[int], str] | None) -> str:
    """Why the process that listens is not read."""
    if count.kind is not PortProtocol.ENCRYPTED or why_unread is None:
        return ""
    reasons = [why for port in fitting for pid in port.pids if (why := why_unread(pid))]
    return next((why for why in reasons if why != NO_LIBRARY), NO_LIBRARY if reasons else "")


def _build_row(
    count: PortCount,
    fitting: Sequence[_Port],
    unknown_service: Service,
    hidden: Hidden,
    *,
    is_open: bool,
    why: str = "",
) -> PortCoverage:
    reasons = [REASONS[count.kind].format(read_by=count.read_by)]
    if count.kind is PortProtocol.HTTPS:
        reasons.append(describe_encryption(count.handshakes))
        reasons.append(count.read_note)
        if count.read_share < 1:
            reasons.append(IN_TURNS.format(percent=round(100 * count.read_share)) if count.read_share else NOT_READ_NOW)
    if count.kind is PortProtocol.ENCRYPTED:
        kernel_tls = hidden.kernel_tls.get((count.cgroup_id, count.port), 0)
        reasons += [why, describe_encryption(count.handshakes)]
        reasons.append(KERNEL_TLS.format(count=kernel_tls) if kernel_tls else "")
    if count.kind is PortProtocol.OTHER and count.handshakes.count:
        reasons.append(NO_SERVER_HELLO)
    if len(fitting) == 1:
        service, addresses = fitting[0].service, fitting[0].addresses
    else:
        service = msgspec.structs.replace(unknown_service, port=count.port)
        addresses = tuple(sorted({address for port in fitting for address in port.addresses}))
        reasons.append(SHARED.format(count=len(fitting)) if fitting else "")
    reasons.append("" if is_open else CLOSED)
    is_own = bool(fitting) and all(port.is_own for port in fitting)
    reasons.append(OWN if is_own else "")
    row = _describe_port(count, service, ", ".join(addresses), " ".join(reason for reason in reasons if reason))
    return replace(row, is_http_like=False) if is_own else row


def _build_outbound(count: PortCount, name_client: Callable[[int], Service]) -> PortCoverage:
    service = msgspec.structs.replace(name_client(count.cgroup_id), port=count.port)
    reason = f"{REASONS[count.kind]} {describe_encryption(count.handshakes)}".strip()
    return _describe_port(count, service, count.address, reason)


def _describe_port(count: PortCount, service: Service, address: str, reason: str) -> PortCoverage:
    return PortCoverage(
        service=service,
        protocol=count.kind,
        role=count.role,
        address=address,
        reason=reason,
        is_http_like=is_http_like(count.kind, count.port, count.handshakes),
        connections=count.connections,
        bytes=count.bytes,
        joined_late=count.joined_late,
        calls=count.calls,
        lost_calls=count.lost_calls,
        estimated_calls=count.exchanges,
        handshakes=count.handshakes,
    )


def _list_hidden(hidden: Hidden, unknown_service: Service) -> Iterable[PortCoverage]:
    for port in hidden.unix_ports:
        yield PortCoverage(
            service=port.service,
            protocol=PortProtocol.UNIX,
            connections=port.open_connections,
            bytes=0,
            address=port.path,
            reason=REASONS[PortProtocol.UNIX],
        )
    for protocol, connections, address in (
        (PortProtocol.SOCKMAP, 0, f"{hidden.sockmap_programs} programs" if hidden.sockmap_programs else ""),
        (PortProtocol.KERNEL_TLS, sum(hidden.kernel_tls.values()), "kernel TLS" if hidden.kernel_tls else ""),
    ):
        if address:
            yield build_node_row(
                unknown_service, address, REASONS[protocol], connections=connections, protocol=protocol
            )


def _add(rows: Rows, row: PortCoverage) -> None:
    """Puts the row into the report, or its figures into the row of the same service, address and protocol."""
    rows[row.key] = _sum(rows[row.key], row) if row.key in rows else row


def _sum(row: PortCoverage, more: PortCoverage) -> PortCoverage:
    return replace(
        row,
        connections=row.connections + more.connections,
        bytes=row.bytes + more.bytes,
        joined_late=row.joined_late + more.joined_late,
        calls=row.calls + more.calls,
        lost_calls=row.lost_calls + more.lost_calls,
        estimated_calls=row.estimated_calls + more.estimated_calls,
        uncaptured_ms=row.uncaptured_ms + more.uncaptured_ms,
        is_http_like=row.is_http_like or more.is_http_like,
        handshakes=add_handshakes(row.handshakes, more.handshakes),
    )


def _bound_handshakes(rows: list[PortCoverage]) -> list[PortCoverage]:
    """At most `MAX_HANDSHAKE_ROWS` with what was heard; the others keep all else."""
    heard = sorted((row for row in rows if row.handshakes.count), key=lambda row: -row.connections)
    silenced = {row.key for row in heard[MAX_HANDSHAKE_ROWS:]}
    return [replace(row, handshakes=NO_HANDSHAKES) if row.key in silenced else row for row in rows]


def _bound(rows: list[PortCoverage], unknown_service: Service) -> list[PortCoverage]:
    """At most `MAX_ROWS`: the rest is one row a protocol, role and likeness, of port 0."""
    if len(rows) <= MAX_ROWS:
        return rows
    reserve = 2 * len(PortProtocol) * len(CoverageRole)
    by_bytes = sorted(rows, key=lambda row: -row.bytes)
    kept, folded = by_bytes[: MAX_ROWS - reserve], by_bytes[MAX_ROWS - reserve :]
    other: Rows = {}
    for row in folded:
        service = Service(
            cluster=unknown_service.cluster,
            namespace="",
            workload=OTHER_WORKLOAD,
            workload_kind=WorkloadKind.UNSPECIFIED,
            host_name=unknown_service.host_name,
            port=0,
        )
        address = "like HTTP" if row.is_http_like else ""
        _add(other, replace(row, service=service, address=address, reason=FOLDED.format(limit=MAX_ROWS)))
    return sorted([*kept, *other.values()], key=_order)


def _order(row: PortCoverage) -> tuple[int, int, str, int, str]:
    return row.role, row.service.port, row.service.workload, row.protocol, row.address
