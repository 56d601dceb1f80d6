"""Holds the HTTP/2 connections of a sensor by number, within bounds: the least recently used is forgotten first.

A forgotten connection that goes on is joined anew. Its calls are seen, with what its tables hold by then. So a client
that opens many connections or fills their tables may cost others knowledge, but not memory.
"""

from collections.abc import Iterator
from typing import Final

from common.figures import Figure, list_figures, make_gauges, make_totals, sum_accounts
from sensor.http.hpack import HuffmanStrings
from sensor.http.http2.connection import Http2Connection, SavedTables
from sensor.http.http2.frames import Frame, Http2Counts
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Chunk, Direction, Gap

# An idle one is 1.4 KB of objects, not counted below.
MAX_CONNECTIONS: Final = 16_384
# What all of them hold: tables, kept blocks, parts of frames, open calls. A usual one holds 5 to 15 KB.
MAX_HELD_BYTES: Final = 64 << 20
DEFAULT_EARLY_AFTER_NS: Final = 1_000_000_000

NumberedCall = tuple[int, StreamCall]  # (connection, call).


class Http2Connections:
    """Mutable state. `strings` is shared by all decoders."""

    __slots__ = ("_connections", "_held", "_held_total", "_strings", "ended", "forgotten")

    def __init__(self) -> None:
        self._strings = HuffmanStrings()
        self._connections: dict[int, Http2Connection] = {}  # The longest unused first.
        self._held: dict[int, int] = {}
        self._held_total = 0
        self.forgotten = 0  # Connections given up for room; their open calls were told.
        self.ended = Http2Counts()  # Of the connections that are over.

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def held_bytes(self) -> int:
        """Of all of them together."""
        return self._held_total

    def find(self, number: int) -> Http2Connection | None:
        """A connection that is known."""
        return self._connections.get(number)

    def open(self, number: int, *, is_joined: bool, client: Direction | None) -> Http2Connection:
        """A connection that begins, or is first met; see `Http2Connection`. Its number is not in use."""
        connection = self._connections[number] = Http2Connection(self._strings, is_joined=is_joined, client=client)
        self._held_total -= self._held.get(number, 0)
        self._held[number] = 0
        return connection

    def take_piece(self, number: int, direction: Direction, piece: Chunk | Gap | Frame) -> list[NumberedCall]:
        """What comes next of a connection; one that is not known is joined. Gives the calls that ended."""
        calls: list[StreamCall] = []
        connection = self.use(number)
        connection.take_piece(direction, piece, calls)
        return self._account(number, connection, calls)

    def take_frames(
        self, number: int, direction: Direction, frames: list[Frame], start: int, end: int
    ) -> list[NumberedCall]:
        """The same for frames that the kernel cut; see `Http2Connection.take_frames`."""
        calls: list[StreamCall] = []
        connection = self.use(number)
        connection.take_frames(direction, frames, start, end, calls)
        return self._account(number, connection, calls)

    def use(self, number: int) -> Http2Connection:
        """A connection that becomes the one used last; one that is not known is joined. After it has taken something,
        `account` is due, once for any number of times."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return self.open(number, is_joined=True, client=None)
        self._connections[number] = connection  # Used last.
        return connection

    def account(self, number: int) -> list[NumberedCall]:
        """Measures what a connection holds; gives the calls of those that had to be forgotten."""
        connection = self._connections.get(number)
        return self._account(number, connection, []) if connection is not None else []

    def _account(self, number: int, connection: Http2Connection, calls: list[StreamCall]) -> list[NumberedCall]:
        held = connection.held_bytes
        self._held_total += held - self._held[number]
        self._held[number] = held
        told = [(number, call) for call in calls] if calls else []
        while self._held_total > MAX_HELD_BYTES or len(self._connections) > MAX_CONNECTIONS:
            self.forgotten += 1
            told += self.give_up(next(iter(self._connections)))
        return told

    def list_open(self) -> list[int]:
        """Connections with calls that have not ended."""
        return [number for number, connection in self._connections.items() if connection.open_streams]

    def close(self, number: int, time_ns: int) -> list[NumberedCall]:
        """A connection ended at `time_ns` (0: when it was last heard of); gives the calls that were open."""
        calls: list[StreamCall] = []
        connection = self._connections.pop(number, None)
        if connection is not None:
            self._held_total -= self._held.pop(number)
            connection.close(time_ns, calls)
            self.ended = sum_accounts(Http2Counts, (self.ended, connection.counts))
        return [(number, call) for call in calls]

    def give_up(self, number: int) -> list[NumberedCall]:
        """The same of a connection of which nobody saw how it ended."""
        connection = self._connections.get(number)
        if connection is not None:
            connection.note_loss()
        return self.close(number, 0)

    def save(self, now_ns: int) -> Iterator[tuple[int, SavedTables]]:
        """Header tables by connection, where another reader can continue with them; the last used first."""
        for number, connection in reversed(self._connections.items()):
            saved = connection.save(now_ns)
            if saved is not None:
                yield number, saved

    def figures(self, capture: str) -> tuple[Figure, ...]:
        """Of all connections, those that are over and those that go on; `capture`: the label of who reads them."""
        going_on = (connection.counts for connection in self._connections.values())
        followed = ("http2_connections", "Connections of HTTP/2 that are followed.", len(self._connections))
        forgotten = ("http2_forgotten_connections", "Connections of HTTP/2 forgotten for room.", self.forgotten)
        return (
            *list_figures(sum_accounts(Http2Counts, (self.ended, *going_on)), "http2_", capture=capture),
            *make_gauges([followed], capture=capture),
            *make_totals([forgotten], capture=capture),
        )

    def poll(self, now_ns: int, early_after_ns: int = DEFAULT_EARLY_AFTER_NS) -> list[NumberedCall]:
        """Early halves of calls whose response lasts, and calls given up after a loss."""
        told: list[NumberedCall] = []
        for number, connection in self._connections.items():
            if connection.open_streams:
                calls: list[StreamCall] = []
                connection.poll(now_ns, early_after_ns, calls)
                told += [(number, call) for call in calls]
        return told
