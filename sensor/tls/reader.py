"""From plain text of TLS to exchanges: the events of bpf/tls.c, read as what processes read and wrote.

`sensor.conversations` does the reading, with positions that count plain bytes. Here is what is TLS's own: where both
ends of a connection are read on this node, the client's is left to the server's, as everywhere; and what is known of
each port, for the coverage.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from sensor.calls import Exchange, Role
from sensor.conversations import Conversations, Verdict, is_loopback, unpack_event
from sensor.exchange import name_address
from sensor.health import StageCounter
from sensor.kernel.syscall_abi import SyscallEvent, SyscallKind
from sensor.kernel.tls_abi import Binding, Library
from sensor.streams.exchange import StreamExchange
from sensor.tls.bodies import BodyMeter
from sensor.tls.split import PortReading

# Sessions whose ends are remembered, to know a client's other end; as many as the kernel's program has.
MAX_SESSIONS: Final = 32_768
# Ports of which calls are counted, as in the kernel.
MAX_PORTS: Final = 8_192
# Processes remembered of a port; of those that have gone, the others are met again with their next connections.
MAX_PROCESSES: Final = 1_024
LIBRARY_NAMES: Final = {
    Library.OPENSSL: "OpenSSL",
    Library.GNUTLS: "GnuTLS",
    Library.GO: "Go crypto/tls",
    Library.BORING: "BoringSSL",
    Library.RUSTLS: "rustls",
}

_Tuple = tuple[str, int, str, int]  # Local address and port, remote address and port.
Told = list[Exchange | StreamExchange]


class TlsReader:
    """Mutable state between events. `refuse` tells the kernel that a session (its id) is not, or no longer, HTTP."""

    def __init__(
        self,
        *,
        to_unix_ns: Callable[[int], int],
        refuse: Callable[[SyscallEvent, Verdict], None],
        bodies: BodyMeter | None = None,
    ) -> None:
        """`bodies` says how much of them is kept for reading; without it nothing is."""
        self.stage = StageCounter("tls")
        self._bodies = bodies
        find_room = bodies.find_room if bodies is not None else None
        self._conversations = Conversations(to_unix_ns=to_unix_ns, stage=self.stage, refuse=refuse, find_room=find_room)
        self._sessions: OrderedDict[int, _Tuple] = OrderedDict()  # By id, least recent first.
        self._ends: dict[_Tuple, int] = {}
        # Clients' sessions left to their server's end, oldest first: events may be on their way.
        self._left: dict[int, None] = {}
        self._ports: dict[tuple[int, int], PortReading] = {}
        self._port_numbers: set[int] = set()  # Of `_ports`.
        # Library and process of sessions of which no call was told yet.
        self._uncounted: dict[int, tuple[str, int]] = {}
        self.bound: dict[Binding, int] = dict.fromkeys((Binding.LAST, Binding.NEXT, Binding.DATA, Binding.NESTED), 0)
        self.local_clients = 0  # Calls left to their server's end.
        self.unbound_calls = 0  # Calls told without the addresses of their socket.

    @property
    def gap_bytes(self) -> int:
        """Plain bytes of connections that are read which no event brought."""
        return self._conversations.gap_bytes

    def take(self, records: Iterable[memoryview]) -> Told:
        """Exchanges that these records of the ring completed, in order."""
        out: Told = []
        for record in records:
            event, data = unpack_event(record)
            if event.socket in self._left:
                continue
            if self._bodies is not None:
                self._bodies.now_ns = event.time_ns
            if event.family:
                self._note(event)
            self._conversations.take_event(event, data, out)
        return self._tell(out)

    def poll(self, now_ns: int) -> Told:
        """What waited too long, and early halves of calls that last."""
        return self._tell(self._conversations.poll(now_ns))

    @property
    def ports(self) -> Mapping[tuple[int, int], PortReading]:
        """What was read, by cgroup and port."""
        return self._ports

    def read_port(self, cgroup_id: int, port: int) -> PortReading | None:
        """What was read of it; None where nothing was."""
        return self._ports.get((cgroup_id, port))

    def _note(self, event: SyscallEvent) -> None:
        """The ends of a session, once they are known."""
        if event.socket in self._sessions:
            if event.kind == SyscallKind.CLOSED:
                return  # Its exchange may still be told.
            self._sessions.move_to_end(event.socket)
            return
        while len(self._sessions) >= MAX_SESSIONS:
            number, ends = self._sessions.popitem(last=False)
            if self._ends.get(ends) == number:
                del self._ends[ends]
            self._uncounted.pop(number, None)
        ends = (
            name_address(event.family, event.local_address),
            event.local_port,
            name_address(event.family, event.remote_address),
            event.remote_port,
        )
        self._sessions[event.socket] = ends
        self._ends[ends] = event.socket
        self._uncounted[event.socket] = (LIBRARY_NAMES.get(Library(event.library), ""), event.process)
        for way in self.bound:
            self.bound[way] += bool(event.bound & way)

    def _tell(self, told: Told) -> Told:
        out: Told = []
        for one in told:
            if isinstance(one, StreamExchange):
                if self._is_told(one.exchange):
                    out.append(StreamExchange(replace(one.exchange, is_encrypted=True), one.call))
            elif self._is_told(one):
                out.append(replace(one, is_encrypted=True))
        return out

    def _is_told(self, exchange: Exchange) -> bool:
        if exchange.role is Role.CLIENT and self._is_read_at_server(exchange):
            self._leave(exchange)
            return False
        if not exchange.remote_port:
            self.unbound_calls += exchange.calls
        elif exchange.role is Role.SERVER:
            self._count(exchange)
        return True

    def _is_read_at_server(self, exchange: Exchange) -> bool:
        """Whether the other end of a client's call tells it, on this node. Of a server that is read in turns nobody
        looks at some connections; their calls are estimated."""
        other = _name_other_end(exchange)
        return other in self._ends or (exchange.remote_port in self._port_numbers and is_loopback(other[0]))

    def _leave(self, exchange: Exchange) -> None:
        """A client's call, to its server's end; and its connection where that end is known, so that the kernel tells no
        more of it. Not for a connection's first call, behind which most of those that carry one alone end."""
        self.local_clients += exchange.calls
        if not exchange.call or exchange.connection in self._left or _name_other_end(exchange) not in self._ends:
            return
        for one in self._conversations.leave(exchange.connection):
            self.local_clients += one.exchange.calls if isinstance(one, StreamExchange) else one.calls
        while len(self._left) >= MAX_SESSIONS:
            del self._left[next(iter(self._left))]
        self._left[exchange.connection] = None

    def _count(self, exchange: Exchange) -> None:
        key = (exchange.cgroup_id, exchange.local_port)
        port = self._ports.get(key)
        if port is None:
            if len(self._ports) >= MAX_PORTS:
                return
            port = self._ports[key] = PortReading()
            self._port_numbers.add(exchange.local_port)
        port.calls += exchange.calls
        met = self._uncounted.pop(exchange.connection, None)
        if met is not None:
            library, process = met
            port.connections += 1
            port.libraries.add(library)
            if len(port.processes) >= MAX_PROCESSES:
                port.processes.clear()
            port.processes.add(process)


def _name_other_end(exchange: Exchange) -> _Tuple:
    return exchange.remote_address, exchange.remote_port, exchange.local_address, exchange.local_port
