"""Counts calls between two ends that are both read on this node once, at the server's end.

Takes events in the order of the ring. An answer is read after its request, so the server's end is known by the time a
client's call is whole. The decision is made then, because later the number of the server's socket may belong to another
connection.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from common.bounded import BoundedDict
from sensor.core.addresses import name_address
from sensor.core.calls import Exchange, Role
from sensor.ebpf.abi import SyscallEvent, SyscallKind
from sensor.http.http2.exchange import StreamExchange

# Connections whose ends are remembered, to know a client's other end.
MAX_ENDS: Final = 32_768

_RawEnds = tuple[bytes, int, bytes, int]  # Local address and port, remote address and port.
_Ends = tuple[str, int, str, int]


class LocalClients:
    """Mutable state between events."""

    def __init__(
        self,
        leave: Callable[[int], list[Exchange | StreamExchange]],
        *,
        is_served_here: Callable[[Exchange], bool] = lambda exchange: False,
        on_forgotten: Callable[[int], None] = lambda connection: None,
    ) -> None:
        """`leave` ends the reading of a connection and gives what was under way. `is_served_here`: whether a client's
        call is reported at a server's end of which nothing was read. `on_forgotten` gets each connection whose ends are
        remembered no more."""
        self._leave_connection = leave
        self._is_served_here = is_served_here
        self._on_forgotten = on_forgotten
        self._ends: OrderedDict[int, tuple[_RawEnds, _Ends]] = OrderedDict()  # By connection, least recent first.
        self._connections: dict[_Ends, int] = {}
        # Clients' connections left to their server's end, oldest first: events may be on their way.
        self._left: BoundedDict[int, _RawEnds] = BoundedDict(MAX_ENDS)
        self.calls = 0  # Left to their server's end.

    def note_ends(self, event: SyscallEvent) -> bool:
        """Remembers the ends of an event's connection; whether none of this connection were known before."""
        if not event.family or event.kind == SyscallKind.CLOSED:
            return False  # Not known yet; or gone, and its last exchange may still come.
        raw, known = _take_ends(event), self._ends.get(event.socket)
        if known is not None and known[0] == raw:
            self._ends.move_to_end(event.socket)
            return False
        if known is not None:  # The kernel uses a socket's number again.
            self._forget(event.socket)
        while len(self._ends) >= MAX_ENDS:
            oldest = next(iter(self._ends))
            self._forget(oldest)
            self._on_forgotten(oldest)
        ends = (
            name_address(event.family, event.local_address),
            event.local_port,
            name_address(event.family, event.remote_address),
            event.remote_port,
        )
        self._ends[event.socket] = raw, ends
        self._connections[ends] = event.socket
        return known is None

    def is_left(self, event: SyscallEvent) -> bool:
        """Whether an event is of a client's connection that was left to its server's end."""
        return bool(self._left) and self._left.get(event.socket) == _take_ends(event)

    def drop_left(self, told: list[Exchange | StreamExchange]) -> list[Exchange | StreamExchange]:
        """Those that no server's end reports."""
        return [one for one in told if not self._leave(one)]

    def _leave(self, read: Exchange | StreamExchange) -> bool:
        """Whether a call is a client's that its server's end reports; counts it then. From its second call on the
        connection is read no more, where that end is known: most of those that carry one call end behind it."""
        exchange = read.exchange if isinstance(read, StreamExchange) else read
        if exchange.ends.role is not Role.CLIENT:
            return False
        other = (
            exchange.ends.remote_address,
            exchange.ends.remote_port,
            exchange.ends.local_address,
            exchange.ends.local_port,
        )
        is_read = other in self._connections
        if not is_read and not self._is_served_here(exchange):
            return False
        self.calls += exchange.figures.calls
        raw, ends = self._ends.get(exchange.ends.connection, (None, None))
        is_same = ends == (*other[2:], *other[:2])  # Or its socket's number is another connection's by now.
        if (
            is_read
            and exchange.call
            and raw is not None
            and is_same
            and self._left.get(exchange.ends.connection) != raw
        ):
            for one in self._leave_connection(exchange.ends.connection):
                self.calls += one.exchange.figures.calls if isinstance(one, StreamExchange) else one.figures.calls
            self._left[exchange.ends.connection] = raw
        return True

    def _forget(self, connection: int) -> None:
        _, ends = self._ends.pop(connection)
        if self._connections.get(ends) == connection:
            del self._connections[ends]


def _take_ends(event: SyscallEvent) -> _RawEnds:
    return event.local_address, event.local_port, event.remote_address, event.remote_port
