"""The open connections of one listener, bounded, so that clients that open many and send nothing exclude nobody.

A connection *waits* while its client must act: finish a handshake, send a request, read a response. It is *served*
while the collector works for it. Past a bound, the connection that waits longest is closed for a new one. So a new
client is never refused for what others do. A health probe sends its request at once, is served, and is not closed for
anybody. There is no room only where every connection is being served.

`accept_connections` is the loop that takes connections from a socket. Used in one event loop.
"""

import asyncio
import ipaddress
import itertools
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from common.figures import total

_SUBNET_BITS: Final = 64  # Whoever has one IPv6 address has all of its /64.
# Between two turns of the loop. Where threads compete for the interpreter a turn takes milliseconds, and with one
# connection a turn whoever came behind a thousand others waited for seconds.
TAKEN_AT_ONCE: Final = 64
# Where the process has no descriptor left, until another try.
OUT_OF_SOCKETS_SECONDS: Final = 0.1


@dataclass(slots=True, eq=False, kw_only=True)
class Connection:
    """One connection. `end` closes it at once, whatever it is doing."""

    host: str
    port: int
    end: Callable[[], object]
    network: str = field(init=False)  # Whom it is counted for.

    def __post_init__(self) -> None:
        self.network = find_network(self.host)


@dataclass(slots=True)
class ConnectionCounts:
    """seen = refused + displaced + those that closed by themselves + those that are open."""

    seen: int = total("Connections that clients opened.")
    refused: int = total("Connections that were refused: each of the most that may be open was being served.")
    displaced: int = total("Connections that were closed, longest idle first, to make room for others.")


class ConnectionTable:
    """Connections from `open` to `close`."""

    def __init__(self, *, limit: int, waiting_limit: int) -> None:
        """`limit`: open at once. `waiting_limit`: of these, waiting for clients of one network at once."""
        self._limit = limit
        self._waiting_limit = waiting_limit
        self._open: set[Connection] = set()
        self._waiting: OrderedDict[Connection, None] = OrderedDict()  # Those that wait longest first.
        self._waiting_of: dict[str, OrderedDict[Connection, None]] = {}  # The same by network.
        self.counts = ConnectionCounts()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def open(self, connection: Connection) -> bool:
        """Take a new connection, which waits. False where there is no room: it is counted as refused."""
        self.counts.seen += 1
        own = self._waiting_of.get(connection.network, ())
        if len(own) >= self._waiting_limit:
            self._displace(next(iter(own)))
        elif len(self._open) >= self._limit and not self.displace_longest():
            self.counts.refused += 1
            return False
        self._open.add(connection)
        self.wait(connection)
        return True

    def wait(self, connection: Connection) -> None:
        """It waits for its client from now on, or goes on waiting."""
        if connection in self._open:
            self._waiting.setdefault(connection)
            self._waiting_of.setdefault(connection.network, OrderedDict()).setdefault(connection)

    def serve(self, connection: Connection) -> None:
        """We work for it from now on: it is not closed for others."""
        if connection in self._waiting:
            del self._waiting[connection]
            own = self._waiting_of[connection.network]
            del own[connection]
            if not own:
                del self._waiting_of[connection.network]

    def close(self, connection: Connection) -> None:
        """It is gone. May be called again."""
        self.serve(connection)
        self._open.discard(connection)

    def displace_longest(self) -> bool:
        """Close the connection that waits longest; False where none waits."""
        if not self._waiting:
            return False
        self._displace(next(iter(self._waiting)))
        return True

    def _displace(self, connection: Connection) -> None:
        self.close(connection)
        self.counts.displaced += 1
        connection.end()


def find_network(host: str) -> str:
    """An IPv4 address itself; of an IPv6 address its /64, or the IPv4 address that it stands for."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _SUBNET_BITS), strict=False))


async def accept_connections(
    listener: socket.socket,
    table: ConnectionTable,
    take: Callable[[socket.socket, Connection], Coroutine[Any, Any, None]],
    on_refused: Callable[[Connection | None, str], None],
) -> None:
    """Take connections of a listening socket until cancelled, each in a task of its own; at the end their tasks are
    cancelled. `take` owns the socket and calls `table.close`. `on_refused` gets a connection for which there is no
    room, or None where the system gave none, and why."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    # Of tasks that did not begin; those that are cancelled do not close theirs.
    unbegun: set[socket.socket] = set()

    async def begin(accepted: socket.socket, connection: Connection) -> None:
        unbegun.discard(accepted)
        await take(accepted, connection)

    def finish(accepted: socket.socket, task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if accepted in unbegun:
            unbegun.discard(accepted)
            accepted.close()

    try:
        for turn in itertools.count(1):
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:
                on_refused(None, error.strerror or type(error).__name__)
                table.displace_longest()
                await asyncio.sleep(OUT_OF_SOCKETS_SECONDS)
                continue
            connection = Connection(host=address[0], port=address[1], end=accepted.close)
            if not table.open(connection):
                on_refused(connection, f"{len(table)} connections are open")
                accepted.close()
                continue
            unbegun.add(accepted)
            task = asyncio.create_task(begin(accepted, connection))
            connection.end = task.cancel
            tasks.add(task)
            task.add_done_callback(partial(finish, accepted))
            if turn % TAKEN_AT_ONCE == 0:
                await asyncio.sleep(0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
