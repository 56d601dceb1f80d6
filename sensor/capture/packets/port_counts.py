"""Reads the maps of the coverage: what was seen of each listening port, and of each host that is called encrypted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from sensor.core.addresses import name_address
from sensor.core.calls import Exchange, Handshake, Role
from sensor.coverage.handshakes import End, HandshakeTable
from sensor.coverage.row import NO_HANDSHAKES, CoverageRole, Handshakes, PortCount, PortProtocol
from sensor.ebpf.abi import (
    PEER_KEY,
    PEERS_SIZE,
    PORT_COUNT,
    PORT_KEY,
    PORTS_SIZE,
    ConnectionKind,
    EventKind,
    KernelEvent,
)
from sensor.ebpf.bpf_syscall import read_batch
from sensor.http.http2.exchange import StreamExchange

_PROTOCOLS: Final = {
    ConnectionKind.HTTP: PortProtocol.HTTP,
    ConnectionKind.UPGRADED: PortProtocol.HTTP,
    ConnectionKind.ENCRYPTED: PortProtocol.ENCRYPTED,
    ConnectionKind.HTTP2: PortProtocol.HTTP2,
    ConnectionKind.OTHER: PortProtocol.OTHER,
    ConnectionKind.NEW: PortProtocol.OTHER,
    ConnectionKind.QUIC: PortProtocol.QUIC,
}
OPENED_MAX: Final = 4_096  # Handshakes that wait; one read brings far fewer, so only of a reader that takes none.
_NO_COUNT: Final = (0,) * 6  # Fields of PORT_COUNT.

_Count = tuple[End, int, bytes]  # Of whom, ConnectionKind, a PORT_COUNT.


def read_port_counts(
    ports_fd: int,
    peers_fd: int | None = None,
    handshakes: HandshakeTable | None = None,
    streams: "StreamCalls | None" = None,
    now_ns: int = 0,
) -> list[PortCount]:
    """The counts of the maps `ports` and, where there is one, `peers`, with what was heard of handshakes, and the calls
    of HTTP/2, which the kernel does not count. `now_ns`: by the clock of the kernel's events.
    """
    totals: dict[tuple[PortProtocol, End], tuple[int, ...]] = {}  # Fields of PORT_COUNT.
    for end, kind, value in [*_read_ports(ports_fd), *(_read_peers(peers_fd) if peers_fd is not None else ())]:
        protocol = _PROTOCOLS.get(ConnectionKind(kind), PortProtocol.OTHER)
        before = totals.get((protocol, end), _NO_COUNT)
        totals[protocol, end] = tuple(map(sum, zip(before, PORT_COUNT.unpack(value), strict=True)))
    counts = []
    for (protocol, end), count in sorted(totals.items()):
        heard = NO_HANDSHAKES
        if handshakes is not None and protocol is PortProtocol.ENCRYPTED:
            heard = handshakes.find(end, now_ns)
        counts.append(_build(protocol, end, count, heard, streams))
    return counts


def _read_ports(map_fd: int) -> Iterator[_Count]:
    for key, value in read_batch(map_fd, PORT_KEY.size, PORT_COUNT.size, PORTS_SIZE):
        cgroup_id, port, kind = PORT_KEY.unpack(key)
        yield (cgroup_id, CoverageRole.LISTENING, port, ""), kind, value


def _read_peers(map_fd: int) -> Iterator[_Count]:
    for key, value in read_batch(map_fd, PEER_KEY.size, PORT_COUNT.size, PEERS_SIZE):
        cgroup_id, address, port, family, kind = PEER_KEY.unpack(key)
        yield (cgroup_id, CoverageRole.OUTBOUND, port, name_address(family, address)), kind, value


def _build(
    protocol: PortProtocol,
    end: End,
    count: Sequence[int],
    heard: Handshakes,
    streams: "StreamCalls | None",
) -> PortCount:
    cgroup_id, role, port, address = end
    connections, size, late, calls, lost, exchanges = count
    if streams is not None and protocol is PortProtocol.HTTP2:
        calls += streams.count(cgroup_id, port)
    return PortCount(
        port=port,
        kind=protocol,
        connections=connections,
        bytes=size,
        cgroup_id=cgroup_id,
        role=role,
        address=address,
        joined_late=late,
        calls=calls,
        lost_calls=lost,
        exchanges=exchanges,
        handshakes=heard,
    )


class StreamCalls:
    """Calls of HTTP/2 by the port of the server's end, as they are reported; bounded as the map `ports`."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, int], int] = {}

    def add(self, exchanges: Iterable[Exchange | StreamExchange]) -> None:
        """Counts those of server ends."""
        for exchange in (one.exchange for one in exchanges if isinstance(one, StreamExchange)):
            self._add(exchange, exchange.figures.calls)

    def add_alike(self, counts: Iterable[tuple[Exchange, int]]) -> None:
        """So many calls that are like one."""
        for exchange, count in counts:
            self._add(exchange, count)

    def _add(self, exchange: Exchange, calls: int) -> None:
        key = (exchange.ends.cgroup_id, exchange.ends.local_port)
        if exchange.ends.role is Role.SERVER and (key in self._calls or len(self._calls) < PORTS_SIZE):
            self._calls[key] = self._calls.get(key, 0) + calls

    def count(self, cgroup_id: int, port: int) -> int:
        """Calls so far."""
        return self._calls.get((cgroup_id, port), 0)


def take_first_bytes(
    handshakes: HandshakeTable,
    opened: list[Handshake],
    to_unix_ns: Callable[[int], int],
    event: KernelEvent,
    data: bytes,
) -> None:
    """Puts the first bytes of an encrypted connection to what was heard of its end, and one that a workload of this
    node opened into `opened`."""
    remote = name_address(event.family, event.remote_address)
    end: End = (event.cgroup_id, CoverageRole.LISTENING, event.local_port, "")
    if event.role == Role.CLIENT:
        end = (event.cgroup_id, CoverageRole.OUTBOUND, event.remote_port, remote)
    if event.kind == EventKind.SERVER_HELLO:
        handshakes.take_server(end, data, event.time_ns)
        return
    hello = handshakes.take_client(end, remote if event.role == Role.SERVER else "", data)
    if event.role == Role.CLIENT and len(opened) < OPENED_MAX:
        opened.append(
            Handshake(
                time_unix_ns=to_unix_ns(event.time_ns),
                cgroup_id=event.cgroup_id,
                local_address=name_address(event.family, event.local_address),
                local_port=event.local_port,
                remote_address=remote,
                remote_port=event.remote_port,
                server_name=hello.server_name if hello is not None and not hello.is_encrypted_hello else "",
            )
        )
