"""Assembles the HTTP/2 calls of the whole node: the kernel's frame events and records of matched calls in, calls out.

A connection begins with its first event, whatever that is. It ends when both directions have ended, when the server's
has, or with a reset. `sensor.http.http2.connections` bounds the memory. A connection that is forgotten there is joined
anew.

Account, in the exchange stage: a call is seen and used when it is reported. It is seen and dropped where it was
answered and its request never came. The kernel counts what the ring had no room for (`C_STREAMS_LOST`).
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from common.figures import Figure, make_totals
from sensor.capture.http2.flow import FrameConnection, Piece
from sensor.capture.http2.matched import INSTALL_NS, MatchedStreams, Records
from sensor.capture.packets.exchange import DROP_HEAD_LOST
from sensor.core.calls import Exchange
from sensor.core.config import CaptureWay
from sensor.core.health import StageCounter, take_each
from sensor.ebpf.abi import FRAMES_EVENT, FRAMES_HEAD, STREAM_RECORD, WAITING_STREAM, EventKind, StreamFlag
from sensor.http.http1.head import Malformed, parse_request_head
from sensor.http.http2.connection import Http2Connection, SavedTables
from sensor.http.http2.connections import Http2Connections, NumberedCall
from sensor.http.http2.exchange import OpenCall, StreamExchange, build_stream_exchange
from sensor.http.http2.streams import FIGURES, AlikeCalls, StreamCall
from sensor.http.reassembly import Direction

logger = logging.getLogger(__name__)

# A 101 of HTTP/1 waits so long for the frames that follow it; then it is a call of its own.
UPGRADE_PATIENCE_NS: Final = 2_000_000_000
MAX_UPGRADES: Final = 1_024
# Header tables of the previous sensor wait so long for their connection to be seen again.
SAVED_NS: Final = 600_000_000_000
# All connections are looked at so often for what waits.
POLL_INTERVAL_NS: Final = 100_000_000
_SWITCHING_PROTOCOLS: Final = 101
_H2C = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*\r\n", re.IGNORECASE)

_FRAMES, _BYTES, _LEAVE = int(EventKind.FRAMES), int(EventKind.BYTES), int(EventKind.LEAVE)
_WAITING = int(EventKind.WAITING)
_STREAM: Final = (WAITING_STREAM.names or ()).index("stream")
_NO_RECORDS: Final = np.empty(0, STREAM_RECORD)
_JOINED, _UPGRADED, _RESET = int(StreamFlag.JOINED), int(StreamFlag.UPGRADED), int(StreamFlag.RESET)
_CLIENT_INGRESS, _CLIENT_EGRESS = int(StreamFlag.CLIENT_INGRESS), int(StreamFlag.CLIENT_EGRESS)
_DIRECTIONS: Final = tuple(Direction)  # The kernel's ingress and egress.


class StreamAssembler:
    """Mutable state between events. `to_unix_ns` turns kernel time into unix time."""

    def __init__(
        self, *, to_unix_ns: Callable[[int], int], stage: StageCounter, alike: AlikeCalls | None = None
    ) -> None:
        """`alike` takes the figures of calls whose patterns somebody has numbered; they are reported nowhere else."""
        self._to_unix_ns = to_unix_ns
        self._stage = stage
        self._alike = alike if alike is not None else AlikeCalls()
        self._alike_counts: list[tuple[Exchange, int]] = []
        self._streams = Http2Connections()
        self._connections: dict[int, FrameConnection] = {}
        self._waiting: set[int] = set()  # With pieces that wait for a hole, or ends for what is before them.
        self._upgrades: dict[int, tuple[Exchange, int]] = {}  # (answered with 101, when).
        self._ended: list[StreamExchange] = []  # Of upgrades whose response was read before.
        self._polled_ns = -POLL_INTERVAL_NS
        self.matched = MatchedStreams(self._alike, lambda number: self._streams.find(number))
        self._gone: dict[int, FrameConnection] = {}  # Records of theirs may still come.
        self._saved: dict[int, SavedTables] = {}  # Of the previous sensor.
        self._saved_until_ns = 0
        self.calls = 0  # Told or missed, and not counted by the kernel.
        self._missed = 0
        self.lost_bytes = 0

    def __len__(self) -> int:
        return len(self._connections)

    def save(self, now_ns: int) -> Iterator[tuple[int, SavedTables]]:
        """Header tables by connection, for the next sensor; the last used first."""
        yield from self._streams.save(now_ns)
        yield from self._saved.items()

    def load(self, saved: dict[int, SavedTables], now_ns: int) -> None:
        """What the previous sensor saved; before the first event."""
        self._saved, self._saved_until_ns = saved, now_ns + SAVED_NS

    def take(
        self, records: Iterable[memoryview], matched: Records = _NO_RECORDS, *, now_ns: int = -INSTALL_NS
    ) -> list[StreamExchange]:
        """Calls that these events completed, in order; first those that the kernel `matched`, of STREAM_RECORD.
        `now_ns`: kernel time at which they were read; without it installed blocks are in the kernel at once."""
        for number in self.matched.pop_gone():
            self._gone.pop(number, None)
        out, self._ended = self._ended, []
        used: dict[int, Http2Connection] = {}
        gathered = len(self._alike.figures)
        if len(matched) or self.matched.has_rest:
            self._take_matched(matched, out)
        take_each(records, lambda left: self._take_all(left, used, out), logger)
        for number in used:
            self._tell(self._streams.account(number), out)
            self._install_blocks(number, now_ns + INSTALL_NS)
        if len(self._alike.figures) > gathered:
            self._count_alike(gathered)
        self._count_missed()
        return out

    def _take_all(
        self, records: Iterable[memoryview], used: dict[int, Http2Connection], out: list[StreamExchange]
    ) -> None:
        """`used`: connections of which these events are, and nothing since may have had them forgotten."""
        used.clear()
        calls: list[StreamCall] = []
        alike, forgotten = self._alike, self._streams.forgotten
        unpack, size = FRAMES_HEAD.unpack_from, FRAMES_EVENT.size
        find = self._connections.get
        for record in records:
            time_ns, number, sequence, covered, length, lost, left, kind, way, flags, _ = unpack(record)
            connection = find(number) or self._begin(number, way, flags, record)
            if connection.is_joined and flags & _JOINED == 0:
                self._correct(number, connection, flags)
            if lost != connection.lost:
                self._excuse(number, connection, lost)
            flow = connection.flows[way]
            connection.time_ns = time_ns
            if kind == _FRAMES:
                connection.events += 1
                data = bytes(record[size : size + length])
                start = flow.find_start(sequence, left)
                if start >= 0:  # Just what comes next. Written out: nearly all events are.
                    streams = used.get(number)
                    if streams is None:
                        streams = used[number] = self._streams.use(number)
                    end = start + covered
                    taken, at = streams.take_known(_DIRECTIONS[way], data, start, end, time_ns, calls, alike)
                    if calls:
                        self._tell([(number, call) for call in calls], out)
                        calls.clear()
                    if taken == length:
                        flow.end = end
                    else:
                        frames, read_to = flow.follow(at, end, data[taken:], time_ns)
                        if frames or at < read_to:
                            self._tell(self._streams.take_frames(number, _DIRECTIONS[way], frames, at, read_to), out)
                        if self._streams.forgotten != forgotten:
                            forgotten = self._streams.forgotten
                            used.clear()
                    continue
                pieces = flow.take_frames(sequence, covered, left, data, time_ns)
            elif kind == _BYTES:
                pieces = flow.take_bytes(sequence, bytes(record[size : size + length]), time_ns)
                self._waiting.add(number)
            elif kind == _WAITING:
                self._tell(self._take_waiting(number, record), out)
                used[number] = self._streams.use(number)
                continue
            elif kind == _LEAVE:
                self._streams.close(number, time_ns)
                self._forget(number)
                used.pop(number, None)
                continue
            else:
                self._end(number, connection, way, flags, out)
                used.pop(number, None)
                continue
            used.clear()  # What comes of it may have any of them forgotten.
            self._feed(number, way, pieces, out)

    def pop_alike_counts(self) -> list[tuple[Exchange, int]]:
        """How many calls went to `alike` since the last time, by a call that they are like."""
        counts, self._alike_counts = self._alike_counts, []
        return counts

    def _take_matched(self, records: Records, out: list[StreamExchange]) -> None:
        told: list[NumberedCall] = []
        self._add_alike(self.matched.take(records, told))
        self._tell(told, out)

    def _take_waiting(self, number: int, record: memoryview) -> list[NumberedCall]:
        """Streams that the kernel followed by itself so far."""
        streams = self._streams.use(number)
        waiting = np.frombuffer(record, WAITING_STREAM, offset=FRAMES_EVENT.size)
        calls: list[StreamCall] = []
        for one in waiting[np.argsort(waiting["stream"])].tolist():
            if one[_STREAM] and (opened := self.matched.open_waiting(one)):
                streams.adopt_waiting(opened, calls)
        return [(number, call) for call in calls]

    def _install_blocks(self, number: int, settled_ns: int) -> None:
        """Installs what repeats of a connection whose calls were copied; the kernel knows it from `settled_ns` on."""
        connection, streams = self._connections.get(number), self._streams.find(number)
        if connection is None or streams is None or connection.is_upgraded:
            return
        if self.matched.is_settling(number, connection.time_ns):
            connection.events = 0
            return
        forward, backward = (flow.read_to for flow in connection.flows)
        if forward is None or backward is None:
            return
        read_to = forward, backward
        if not self.matched.is_due(number, connection.events, read_to):
            return
        if all(streams.is_read_to(direction, read_to[direction]) for direction in Direction):
            time_ns = connection.time_ns
            self.matched.install_blocks(
                number, streams, connection.events, read_to, time_ns=time_ns, settled_ns=settled_ns
            )
        connection.events = 0

    def _count_alike(self, first: int) -> None:
        """Of those whose figures lie from `first` on."""
        counts = np.bincount(self._alike.figures[first::FIGURES])
        self._add_alike([(int(place), int(counts[place])) for place in np.flatnonzero(counts)])

    def _add_alike(self, counts: list[tuple[int, int]]) -> None:
        owners = self._alike.owners
        self._alike_counts += [(owners[place], count) for place, count in counts]
        total = sum(count for _, count in counts)
        self.calls += total
        self._stage.see(total)
        self._stage.use(total)

    def _count_missed(self) -> None:
        """Calls of which only the answer was seen, of connections that are over; those of blocks that mean nothing."""
        missed = self._streams.ended.unasked + self.matched.unknown - self._missed
        if missed:
            self._missed += missed
            self.calls += missed
            self._stage.see(missed)
            self._stage.drop(DROP_HEAD_LOST, missed)

    def upgrade(self, exchange: Exchange, now_ns: int) -> bool:
        """Whether this call of HTTP/1 may go on as stream 1 of HTTP/2, and is told as that."""
        if exchange.figures.status_code != _SWITCHING_PROTOCOLS or not _H2C.search(exchange.request_head):
            return False
        if len(self._upgrades) >= MAX_UPGRADES:
            return False
        self._upgrades[exchange.ends.connection] = exchange, now_ns
        connection = self._connections.get(exchange.ends.connection)
        if connection is not None:
            self._open_upgraded(exchange.ends.connection, connection)
        return True

    def poll(self, now_ns: int) -> list[Exchange | StreamExchange]:
        """What waited long enough: early halves of calls, holes, 101s that nothing followed."""
        if now_ns - self._polled_ns < POLL_INTERVAL_NS:
            return []
        out, self._ended = self._ended, []
        self._polled_ns = now_ns
        if self._saved and now_ns >= self._saved_until_ns:
            self._streams.ended.unfit_tables += len(self._saved)
            self._saved.clear()
        for number in list(self._waiting):
            self._poll_waiting(number, now_ns, out)
        self._tell(self._streams.poll(now_ns), out)
        late: list[Exchange | StreamExchange] = []
        while self._upgrades:
            number = next(iter(self._upgrades))
            exchange, since_ns = self._upgrades[number]
            if now_ns - since_ns < UPGRADE_PATIENCE_NS:
                break
            del self._upgrades[number]
            late.append(exchange)
        return [*out, *late]

    def list_open(self, only: int | None = None) -> list[OpenCall]:
        """Calls at servers of this node that have not ended, of all connections or of one."""
        found = []
        for number in self._streams.list_open() if only is None else (only,):
            connection, streams = self._connections.get(number), self._streams.find(number)
            if connection is None or streams is None or streams.client is not Direction.FORWARD:
                continue
            ends = connection.name_ends(number, streams.client)
            heads = [request.head for request in streams.list_requests() if not isinstance(request, Malformed)]
            found += [OpenCall(ends, head) for head in heads]
        return found

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Bytes of HTTP/2 between events, for which the ring had no room."
        return (
            *self._streams.figures(CaptureWay.CGROUP_SKB.value),
            *make_totals([("http2_lost_bytes", text, self.lost_bytes)]),
        )

    def _begin(self, number: int, way: int, flags: int, record: memoryview) -> FrameConnection:
        client = _find_client(flags)
        connection = FrameConnection(
            FRAMES_EVENT.unpack_from(record), client, bool(flags & _JOINED), bool(flags & _UPGRADED)
        )
        self._connections[number] = connection
        self._gone.pop(number, None)
        streams = self._streams.open(number, is_joined=connection.is_joined, client=client)
        if saved := self._saved.pop(number, None):
            streams.load(saved)
        if connection.is_upgraded:
            self._open_upgraded(number, connection)
        return connection

    def _correct(self, number: int, connection: FrameConnection, flags: int) -> None:
        """The client's preface came after the server's first frames."""
        connection.is_joined = False
        client, streams = _find_client(flags), self._streams.find(number)
        if client is not None and streams is not None:
            streams.begin(client)

    def _excuse(self, number: int, connection: FrameConnection, lost: int) -> None:
        """The ring had no room for requests: the kernel has counted them, whether their answers come or not."""
        streams = self._streams.find(number)
        if streams is not None:
            streams.streams.lost += (lost - connection.lost) & 0xFFFF
        connection.lost = lost

    def _open_upgraded(self, number: int, connection: FrameConnection) -> None:
        exchange, _ = self._upgrades.pop(number, (None, 0))
        streams = self._streams.find(number)
        if exchange is None or streams is None:
            return
        head = parse_request_head(exchange.request_head, exchange.is_request_head_truncated)
        if not isinstance(head, Malformed):
            started_ns = exchange.figures.time_unix_ns - self._to_unix_ns(0)
            calls: list[StreamCall] = []
            streams.open_upgraded(head, calls, started_ns=started_ns, request_bytes=exchange.figures.request_bytes)
            self._tell([(number, call) for call in calls], self._ended)

    def _feed(self, number: int, way: int, pieces: Sequence[Piece], out: list[StreamExchange]) -> None:
        direction, take = _DIRECTIONS[way], self._streams.take_piece
        for piece in pieces:
            told = take(number, direction, piece)
            if told:
                self._tell(told, out)

    def _end(self, number: int, connection: FrameConnection, way: int, flags: int, out: list[StreamExchange]) -> None:
        connection.ended[way] = True
        streams = self._streams.find(number)
        client = streams.client if streams is not None else connection.client
        is_over = flags & _RESET or all(connection.ended) or (client is not None and way != client)
        if not is_over and streams is not None and streams.open_streams:
            return
        if any(flow.is_waiting for flow in connection.flows):
            connection.ended = [True, True]
            self._waiting.add(number)
            return
        self._close(number, connection, out)

    def _close(self, number: int, connection: FrameConnection, out: list[StreamExchange]) -> None:
        for way in (0, 1):
            self._feed(number, way, connection.flows[way].finish(), out)
        self._tell(self._streams.close(number, connection.time_ns), out)
        self._forget(number)

    def _poll_waiting(self, number: int, now_ns: int, out: list[StreamExchange]) -> None:
        connection = self._connections.get(number)
        if connection is None:
            self._waiting.discard(number)
            return
        for way in (0, 1):
            self._feed(number, way, connection.flows[way].poll(now_ns), out)
        if not any(flow.is_waiting for flow in connection.flows):
            self._waiting.discard(number)
            if all(connection.ended):
                self._close(number, connection, out)

    def _tell(self, told: Iterable[NumberedCall], out: list[StreamExchange]) -> None:
        for number, call in told:
            connection = self._connections.get(number) or self._gone.get(number)
            if connection is None:
                continue
            streams = self._streams.find(number)
            client = streams.client if streams is not None else connection.client
            if call.calls and not (connection.is_upgraded and call.stream == 1):
                self.calls += 1
                self._stage.see()
                self._stage.use()
            out.append(build_stream_exchange(connection.name_ends(number, client), call, self._to_unix_ns))
        if len(self._connections) > len(self._streams):
            for number in [number for number in self._connections if self._streams.find(number) is None]:
                self._forget(number)

    def _forget(self, number: int) -> None:
        connection = self._connections.pop(number, None)
        self._waiting.discard(number)
        if connection is not None:
            if self.matched.forget(number):
                self._gone[number] = connection
            self.lost_bytes += sum(flow.lost_bytes for flow in connection.flows)


def _find_client(flags: int) -> Direction | None:
    if flags & _CLIENT_INGRESS:
        return Direction.FORWARD
    return Direction.BACKWARD if flags & _CLIENT_EGRESS else None
