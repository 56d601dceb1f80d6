"""What the sensor reads of each listening port, and what it does not and why: blind spots are listed, never silent.

Takes the kernel's counts by port and protocol and the node's listeners, and gives one `PortCoverage` a (service,
address, protocol), silent ports included. Pure. Counts are never split and never dropped: the sum over the rows is
the sum of what the kernel counted.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sensor.calls import Service, WorkloadKind
from sensor.enrich.listeners import Listener

# Rows of one report; a node has some dozens. Past it the rows of least bytes are added together, so that totals stay
# exact.
MAX_ROWS = 4_096
OTHER_WORKLOAD = "other"


class PortProtocol(enum.IntEnum):
    """What the first bytes of a port's connections were; values are those of the wire."""

    HTTP = 1
    ENCRYPTED = 2
    HTTP2 = 3
    OTHER = 4
    SILENT = 5


# Why a protocol is not read, in words.
REASONS: dict[PortProtocol, str] = {
    PortProtocol.HTTP: "",
    PortProtocol.ENCRYPTED: "TLS: encrypted where the sensor reads, so calls are not seen.",
    PortProtocol.HTTP2: "",
    PortProtocol.OTHER: "The first bytes are not HTTP.",
    PortProtocol.SILENT: "No connection since the sensor started.",
}
_SHARED = "{count} services listen on this port in several namespaces; the kernel's count does not tell them apart."
_CLOSED = "Nothing listens here any more, or not where the sensor can see it."


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCount:
    """The kernel's totals since the sensor's start of one (port, protocol)."""

    port: int
    kind: PortProtocol
    connections: int
    bytes: int  # Both directions.
    cgroup_id: int = 0  # Of the listener; 0 where the kernel counts by port alone.


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCoverage:
    """One row of the report, as the wire's PortCoverage."""

    service: Service
    protocol: PortProtocol
    connections: int
    bytes: int
    address: str  # Where it listens: `0.0.0.0`, or several with `, ` between; empty where nothing listens now.
    reason: str  # Why it is not read; empty where it is.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """The listeners of one port that are one service."""

    service: Service
    addresses: tuple[str, ...]
    cgroup_ids: frozenset[int]


def cover_ports(
    counts: Iterable[PortCount],
    listeners: Sequence[Listener],
    *,
    name_service: Callable[[Listener], Service],
    unknown_service: Service,
) -> list[PortCoverage]:
    """The report, by port, service and protocol.

    `name_service` is `NodeIdentity.listener_service`; `unknown_service` stands for a port on which nothing listens
    now, or several services at once (its port is replaced). At most `MAX_ROWS`.
    """
    ports = _group_listeners(listeners, name_service)
    rows: dict[tuple[Service, str, PortProtocol], PortCoverage] = {}
    called: set[tuple[Service, tuple[str, ...]]] = set()
    for count in counts:
        fitting = [port for port in ports.get(count.port, ()) if _may_be(port, count)]
        called.update((port.service, port.addresses) for port in fitting)
        _add(rows, _build_row(count, fitting, unknown_service))
    for port in (port for group in ports.values() for port in group):
        if (port.service, port.addresses) not in called:
            silent = PortCount(port=port.service.port, kind=PortProtocol.SILENT, connections=0, bytes=0)
            _add(rows, _build_row(silent, [port], unknown_service))
    return _bound(sorted(rows.values(), key=_order), unknown_service)


def note_limitation(rows: Sequence[PortCoverage], limitation: str) -> Sequence[PortCoverage]:
    """The report with what the way of capture does not see at each port that is read; rows as they are without any."""
    if not limitation:
        return rows
    return [
        replace(row, reason=f"{limitation} {row.reason}".strip()) if row.protocol is PortProtocol.HTTP else row
        for row in rows
    ]


def _group_listeners(
    listeners: Sequence[Listener], name_service: Callable[[Listener], Service]
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
        )
        ports.setdefault(number, []).append(port)
    return ports


def _may_be(port: _Port, count: PortCount) -> bool:
    return not count.cgroup_id or count.cgroup_id in port.cgroup_ids or 0 in port.cgroup_ids


def _build_row(count: PortCount, fitting: Sequence[_Port], unknown_service: Service) -> PortCoverage:
    reasons = [REASONS[count.kind]]
    if len(fitting) == 1:
        service, addresses = fitting[0].service, fitting[0].addresses
    else:
        service = _replace_port(unknown_service, count.port)
        addresses = tuple(sorted({address for port in fitting for address in port.addresses}))
        reasons.append(_SHARED.format(count=len(fitting)) if fitting else _CLOSED)
    return PortCoverage(
        service=service,
        protocol=count.kind,
        connections=count.connections,
        bytes=count.bytes,
        address=", ".join(addresses),
        reason=" ".join(reason for reason in reasons if reason),
    )


def _add(rows: dict[tuple[Service, str, PortProtocol], PortCoverage], row: PortCoverage) -> None:
    """Puts the row into the report, or its figures into the row of the same service, address and protocol."""
    key = (row.service, row.address, row.protocol)
    rows[key] = _sum(rows[key], row) if key in rows else row


def _sum(row: PortCoverage, more: PortCoverage) -> PortCoverage:
    return PortCoverage(
        service=row.service,
        protocol=row.protocol,
        connections=row.connections + more.connections,
        bytes=row.bytes + more.bytes,
        address=row.address,
        reason=row.reason,
    )


def _bound(rows: list[PortCoverage], unknown_service: Service) -> list[PortCoverage]:
    """At most `MAX_ROWS`: the rest is one row a protocol, of port 0."""
    if len(rows) <= MAX_ROWS:
        return rows
    by_bytes = sorted(rows, key=lambda row: -row.bytes)
    kept, folded = by_bytes[: MAX_ROWS - len(PortProtocol)], by_bytes[MAX_ROWS - len(PortProtocol) :]
    other: dict[tuple[Service, str, PortProtocol], PortCoverage] = {}
    for row in folded:
        service = Service(
            cluster=unknown_service.cluster,
            namespace="",
            workload=OTHER_WORKLOAD,
            workload_kind=WorkloadKind.UNSPECIFIED,
            host_name=unknown_service.host_name,
            port=0,
        )
        reason = f"Ports past the {MAX_ROWS} that are listed one by one."
        _add(
            other,
            PortCoverage(
                service=service,
                protocol=row.protocol,
                connections=row.connections,
                bytes=row.bytes,
                address="",
                reason=reason,
            ),
        )
    return sorted([*kept, *other.values()], key=_order)


def _replace_port(service: Service, port: int) -> Service:
    return Service(
        cluster=service.cluster,
        namespace=service.namespace,
        workload=service.workload,
        workload_kind=service.workload_kind,
        host_name=service.host_name,
        port=port,
    )


def _order(row: PortCoverage) -> tuple[int, str, int, str]:
    return row.service.port, row.service.workload, row.protocol, row.address
