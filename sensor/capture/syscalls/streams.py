"""Turns the bytes that processes read and wrote into exchanges, for capture by system calls and for TLS.

Takes events of bpf/syscalls.c in ring order. A connection of HTTP/1 has an `Http1Connection`, one that begins with the
preface of HTTP/2 an `Http2Connection`, because the kernel cuts no frames here. TCP's sequence numbers place what each
system call moved. So bytes that nobody saw are gaps of known size: sendfile, io_uring, a full ring, or bytes past an
event's limit. Within DATA of HTTP/2 a gap loses nothing else. Any other gap makes the connection one that was joined
late.

An event is made when its system call returns. So events of two threads on one connection may come in another order than
their bytes. A read waits for what its end had written by then, for `PATIENCE_NS` at most.

Account: `seen` counts calls reported here and calls dropped because their request head was never whole.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from common.figures import Figure, list_figures, total
from common.token_bucket import TokenBucket
from sensor.capture.packets.exchange import DROP_HEAD_LOST, EARLY_AFTER_NS, Upgrades
from sensor.core.addresses import name_address
from sensor.core.calls import CallFigures, Ends, Exchange, RawBodies, Role
from sensor.core.health import StageCounter
from sensor.coverage.unread import REFUSALS, UnreadEnd, UnreadReason, UnreadTotals
from sensor.ebpf.abi import SYSCALL_EVENT, Binding, Moved, SyscallEvent, SyscallKind
from sensor.http.bodies import BodyRoom, StreamSamples
from sensor.http.http1.grammar import Fault
from sensor.http.http1.head import shorten_head
from sensor.http.http1.pairs import Http1Connection, Message, Transaction
from sensor.http.http2.connections import Http2Connections, NumberedCall
from sensor.http.http2.exchange import StreamExchange, build_stream_exchange
from sensor.http.http2.frames import PREFACE
from sensor.http.reassembly import Chunk, Direction, Gap
from sensor.http.websocket import WebSocket

# What a connection of HTTP/2 begins with, as far as its first bytes are looked at.
BEGINNING: Final = PREFACE[:7]
# All connections are looked at so often for answers that last.
POLL_INTERVAL_NS: Final = 100_000_000


READ, WRITE = int(SyscallKind.READ), int(SyscallKind.WRITE)
# Of TCP's numbers.
HALF: Final = 1 << 31
MODULUS: Final = 1 << 32


class Side:
    """One direction: where it is in TCP's numbers and in its stream."""

    __slots__ = ("begun", "position", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence  # Of the next byte.
        self.position = 0
        self.begun = b""  # The first bytes, until they say which end is the client.

    def locate(self, sequence: int) -> int:
        """Position of a number near the current one."""
        return self.position + (sequence - self.sequence + HALF) % MODULUS - HALF


class Connection:
    """One connection as one end sees it."""

    __slots__ = ("calls", "ends", "event", "followed", "http1", "is_http2", "request_kind", "sides", "told",
                 "undecided", "waiting")  # fmt: skip

    def __init__(self, event: SyscallEvent, room: BodyRoom | None) -> None:
        self.event = event  # The first, for its addresses.
        self.http1 = Http1Connection(bodies=room, goes_on=True)
        # By kind of event: this one's, and the one that it tells of.
        self.sides = {event.kind: Side(event.sequence), READ + WRITE - event.kind: Side(event.other)}
        self.request_kind = 0  # READ at a server, WRITE at a client; 0: not known yet.
        self.undecided: list[tuple[SyscallEvent, bytes]] = []  # Until it is.
        self.waiting: deque[tuple[SyscallEvent, bytes]] = deque()  # Reads.
        self.calls = 0
        self.is_http2 = False
        self.ends: Ends | None = None  # Once they were needed.
        self.told: Transaction | None = None  # Told before its end.
        self.followed: WebSocket | None = None  # What it was upgraded to, where its messages are counted.


# As many as the kernel's program remembers is far above what a node has busy at once; some 3 KB each.
MAX_CONNECTIONS: Final = 16_384
PATIENCE_NS: Final = 50_000_000
# Reads and writes of WebSockets that are counted a second, of all connections: some 15 us each. Of those beyond them
# only bytes and duration are known.
FRAMES_PER_SECOND: Final = 1_000
FRAMES_BURST: Final = 2_000
# Reads that wait for what was written before them, of one connection; one is the rule.
MAX_WAITING: Final = 64
# As capture by packets cuts it (bpf/conn.h, RESPONSE_COPY).
RESPONSE_HEAD_BYTES: Final = 1_024
# Longer than any frame of HTTP/2: what is missing where nobody looked.
_CUT_BYTES: Final = 1 << 25
DROP_CUT: Final = "looked_away"
# What the cgroup of the root is called everywhere: it names nobody, so a local client is found by its socket.
_ROOT_CGROUP_ID: Final = 1
_RESPONSE_START: Final = b"HTTP/1."

_EOF, _SHUT, _CUT = int(SyscallKind.EOF), int(SyscallKind.SHUT), int(SyscallKind.CUT)
_CLOSED: Final = int(SyscallKind.CLOSED)

Told = list[Exchange | StreamExchange]


class Verdict(Enum):
    """Why the kernel need not send more of a connection."""

    OTHER = "other"
    UPGRADED = "upgraded"
    FOLLOWED = "followed"  # It is upgraded, and its bytes are still wanted.
    LEFT = "left"  # To its server's end, which is read on this node.


@dataclass(slots=True)
class ConversationCounts:
    """What was missed of connections that are read by what their processes read and wrote."""

    gap_bytes: int = total("Bytes of connections that are read which no event brought.")
    evicted_connections: int = total("Connections forgotten for room.")


class Conversations:
    """Mutable state between events. `to_unix_ns` turns kernel time into unix time; `refuse` tells the kernel."""

    def __init__(
        self,
        *,
        to_unix_ns: Callable[[int], int],
        stage: StageCounter,
        refuse: Callable[[SyscallEvent, Verdict], None],
        find_room: Callable[[int], BodyRoom] | None = None,
        is_encrypted: bool = False,
    ) -> None:
        """`find_room` gives where the bodies of a cgroup's calls are kept; without it none is. `is_encrypted`: TLS
        carries the calls."""
        self._is_encrypted = is_encrypted
        self.unread = UnreadTotals()
        self._find_room = find_room
        self._to_unix_ns = to_unix_ns
        self._stage = stage
        self._refuse = refuse
        self._streams = Http2Connections()  # By socket.
        self._streams_polled_ns = 0
        self._connections: OrderedDict[int, Connection] = OrderedDict()  # By socket, least recent first.
        self._open: dict[int, int] = {}  # Start of answers that go on, by socket.
        self._holding: set[int] = set()
        self._upgrades = Upgrades()
        self._now_ns = 0  # Of the event in hand.
        self._frames = TokenBucket(FRAMES_PER_SECOND, FRAMES_BURST, lambda: self._now_ns / 1e9)
        self.counts = ConversationCounts()

    def figures(self, prefix: str, capture: str) -> tuple[Figure, ...]:
        """For metrics; `capture`: the label of who reads them."""
        return (*list_figures(self.counts, prefix), *self._streams.figures(capture))

    def poll(self, now_ns: int) -> list[Exchange | StreamExchange]:
        """What waited too long, and early halves of calls whose answer has lasted over a second at kernel time."""
        out: Told = []
        for socket in list(self._holding):
            connection = self._connections[socket]
            if now_ns - connection.waiting[0][0].time_ns > PATIENCE_NS:
                self._tell_waiting(connection, None, out)
        for socket, started_ns in list(self._open.items()):
            if now_ns - started_ns >= EARLY_AFTER_NS:
                del self._open[socket]
                self._tell_early(self._connections[socket], out)
        if len(self._streams) and now_ns - self._streams_polled_ns >= POLL_INTERVAL_NS:
            self._streams_polled_ns = now_ns
            self._add_stream_calls(self._streams.poll(now_ns), out)
        return out

    def leave(self, socket: int) -> Told:
        """Forgets a connection, whose events are not wanted any more; gives what was under way on HTTP/2."""
        connection = self._connections.get(socket)
        if connection is None:
            return []
        self._refuse(connection.event, Verdict.LEFT)
        out: Told = []
        self._add_stream_calls(self._streams.close(socket, 0), out)
        self._upgrades.resume(socket)
        self._forget(connection)
        return out

    def take_event(self, event: SyscallEvent, data: bytes, out: Told) -> None:
        """What an event says; exchanges that it completed are added to `out`, in order."""
        connection = self._find(event, out)
        if event.kind > WRITE:
            if connection is not None and event.kind == _CUT:
                self._cut(connection, event, out)
            elif connection is not None:
                self._end(connection, event, out)
            return
        if connection is None:
            room = self._find_room(event.cgroup_id) if self._find_room is not None else None
            connection = self._connections[event.socket] = Connection(event, room)
        self._connections.move_to_end(event.socket)
        if event.kind == WRITE:
            if connection.waiting:
                # What was written between a read and this is lost: writes are told in their order.
                self._tell_waiting(connection, connection.sides[WRITE].locate(event.sequence), out)
            self._read(connection, event, data, out)
            if connection.waiting:
                self._tell_waiting(connection, connection.sides[WRITE].position, out)
        elif connection.waiting or self._must_wait(connection, event):
            connection.waiting.append((event, data))
            self._holding.add(event.socket)
            if len(connection.waiting) > MAX_WAITING:
                self._tell_waiting(connection, None, out)
        else:
            self._read(connection, event, data, out)

    def _find(self, event: SyscallEvent, out: Told) -> Connection | None:
        """The connection of an event. A socket's number is used again once it is closed."""
        connection = self._connections.get(event.socket)
        if connection is None:
            while len(self._connections) >= MAX_CONNECTIONS:
                self.counts.evicted_connections += 1
                self._give_up(next(iter(self._connections.values())), out)
            return None
        first = connection.event
        if not first.family and event.family:  # A session of TLS, told before it was known which socket it is of.
            connection.event, connection.ends = event._replace(kind=first.kind), None
            return connection
        is_peer_same = first.remote_port == event.remote_port and first.remote_address == event.remote_address
        # A socket that closes has no port of its own any more.
        if is_peer_same and (first.local_port == event.local_port or not (first.local_port and event.local_port)):
            return connection
        self._give_up(connection, out)
        return None

    @staticmethod
    def _must_wait(connection: Connection, event: SyscallEvent) -> bool:
        """Whether this end had written more than was told when it read this."""
        written = connection.sides[WRITE]
        return event.kind == READ and written.locate(event.other) > written.position

    def _tell_waiting(self, connection: Connection, written: int | None, out: Told) -> None:
        """The reads that waited for what was written up to here; None: all."""
        waiting, side = connection.waiting, connection.sides[WRITE]
        while waiting and (written is None or side.locate(waiting[0][0].other) <= written):
            self._read(connection, *waiting.popleft(), out)
        if not waiting:
            self._holding.discard(connection.event.socket)

    def _read(self, connection: Connection, event: SyscallEvent, data: bytes, out: Told) -> None:
        side = connection.sides[event.kind]
        if not connection.request_kind:
            side.begun += data[: len(_RESPONSE_START)]
            self._find_client(connection, event.kind, side.begun)
            connection.undecided.append((event, data))
            if connection.request_kind:
                undecided, connection.undecided = connection.undecided, []
                for each in undecided:
                    self._read_located(connection, *each, out)
            return
        self._read_located(connection, event, data, out)

    def _read_located(self, connection: Connection, event: SyscallEvent, data: bytes, out: Told) -> None:
        side = connection.sides[event.kind]
        missing = side.locate(event.sequence) - side.position
        if missing < 0 and side.position:  # Two threads at one direction: what came late was told as a gap.
            data, missing = data[-missing:], 0
        elif missing < 0:  # It was under way when the first event of the other direction was made.
            side.sequence, missing = event.sequence, 0
        if missing:
            self._miss(connection, event.kind, missing, out)
        if data:
            # Of a read it is not what its sender had received but no more than that: what answers it comes later.
            received = connection.sides[READ + WRITE - event.kind].locate(event.other)
            chunk = Chunk(side.position, data, event.time_ns, received)
            self._advance(connection, chunk, event.kind == connection.request_kind, out)
            side.position += len(data)
        side.sequence = (event.sequence + len(data)) % MODULUS
        rest = event.size - event.length
        if rest > 0:
            self._miss(connection, event.kind, rest, out)
            side.sequence = (side.sequence + rest) % MODULUS

    def _miss(self, connection: Connection, kind: int, size: int, out: Told) -> None:
        """Bytes of a direction that no event brought."""
        side = connection.sides[kind]
        self.counts.gap_bytes += size
        self._advance(connection, Gap(side.position, size), kind == connection.request_kind, out)
        side.position += size

    def _advance(self, connection: Connection, piece: Chunk | Gap, is_request: bool, out: Told) -> None:
        """What comes next of a direction."""
        if connection.followed is not None:
            self._follow(connection, connection.followed, piece, is_request)
        elif connection.is_http2:
            direction = Direction.FORWARD if is_request else Direction.BACKWARD
            told = self._streams.take_piece(connection.event.socket, direction, piece)
            connection.calls += len(told)
            self._add_stream_calls(told, out)
        else:
            self._tell(connection, connection.http1.take_piece(piece, is_request=is_request), out)

    def _follow(self, connection: Connection, followed: WebSocket, piece: Chunk | Gap, is_request: bool) -> None:
        if isinstance(piece, Gap):
            followed.skip(piece.length, is_request=is_request)
            return
        followed.feed(piece.data, piece.time_ns, is_request=is_request)
        self._now_ns = max(self._now_ns, piece.time_ns)
        if not self._frames.take():
            followed.lose()
            self._refuse(connection.event, Verdict.UPGRADED)

    def _find_client(self, connection: Connection, kind: int, begun: bytes) -> None:
        """The kernel sends what starts like a message: a response, or else a request."""
        if begun[: len(_RESPONSE_START)] == _RESPONSE_START:
            connection.request_kind = READ + WRITE - kind
        elif not _RESPONSE_START.startswith(begun):
            first = begun[: len(BEGINNING)]
            if first == BEGINNING:
                connection.request_kind = kind
                find_room, cgroup_id = self._find_room, connection.event.cgroup_id
                connection.is_http2 = True
                socket = connection.event.socket
                http2 = self._streams.open(socket, is_joined=False, client=Direction.FORWARD)
                http2.samples = StreamSamples(find_room(cgroup_id)) if find_room is not None else None
            elif not BEGINNING.startswith(first):
                connection.request_kind = kind

    def _tell(self, connection: Connection, done: list[Transaction], out: Told) -> None:
        for transaction in done:
            exchange = self._build(connection, transaction, is_final=True)
            if exchange is not None:
                out.append(self._begin_following(connection, exchange) if transaction.is_upgraded else exchange)
        http1, socket = connection.http1, connection.event.socket
        answering = http1.answering
        if answering is not None and answering is not connection.told and answering.response is not None:
            self._open[socket] = answering.response.started_ns
        elif self._open:
            self._open.pop(socket, None)
        if http1.is_upgraded:
            self._refuse(connection.event, Verdict.UPGRADED)
        elif not connection.calls and all(http1.stopped):
            self._refuse(connection.event, Verdict.OTHER)

    def _begin_following(self, connection: Connection, exchange: Exchange) -> Exchange:
        """A call that was upgraded: that of a WebSocket is reported at its beginning and at its end. Capture by system
        calls has no end of what it does not read."""
        began = self._upgrades.begin(exchange) if self._is_encrypted else exchange
        if began is exchange:
            return exchange
        connection.followed = WebSocket()
        if connection.http1.is_upgraded:  # Frames came with the heads, and nobody counted them.
            connection.followed.lose()
        else:
            self._refuse(connection.event, Verdict.FOLLOWED)
        return began

    def _tell_early(self, connection: Connection, out: Told) -> None:
        answering = connection.http1.answering
        if answering is not None and answering.request is not None:
            exchange = self._build(connection, answering, is_final=False)
            if exchange is not None:
                connection.told = answering
                out.append(exchange)

    def _end(self, connection: Connection, event: SyscallEvent, out: Told) -> None:
        """A side said its last. The server's ends a response without framing; the socket's end ends all."""
        if connection.waiting:
            self._tell_waiting(connection, None, out)
        is_server = connection.request_kind == READ
        is_closed = event.kind == (_SHUT if is_server else _EOF)
        if not is_closed and event.kind != _CLOSED:
            return
        # What was moved before and found the ring full; the FIN counts as a byte of TCP's.
        for kind, sequence in ((READ, event.other), (WRITE, event.sequence)):
            missing = connection.sides[kind].locate(sequence) - connection.sides[kind].position
            if connection.request_kind and missing > 1:
                self._miss(connection, kind, missing, out)
        self._finish(connection, out, event.time_ns, is_closed=is_closed)

    def _cut(self, connection: Connection, event: SyscallEvent, out: Told) -> None:
        """Nobody looked for a while. HTTP/1 begins anew with its next request, and the call that was under way is
        dropped; HTTP/2 goes on as a connection that was joined late."""
        if connection.waiting:
            self._tell_waiting(connection, None, out)
        if connection.followed is not None:
            connection.followed.lose()
            for kind, sequence in ((READ, event.other), (WRITE, event.sequence)):
                connection.sides[kind].sequence = sequence
            return
        if not connection.is_http2:
            for _ in connection.http1.finish(is_closed=False):
                self._stage.see()
                self._stage.drop(DROP_CUT)
            self._forget(connection)
            return
        for kind, sequence in ((READ, event.other), (WRITE, event.sequence)):
            side = connection.sides[kind]
            self._advance(connection, Gap(side.position, _CUT_BYTES), kind == connection.request_kind, out)
            side.position += _CUT_BYTES
            side.sequence = sequence

    def _finish(self, connection: Connection, out: Told, time_ns: int, *, is_closed: bool) -> None:
        followed = connection.followed
        if followed is not None:
            messages = [one.messages for one in followed.counters]
            end_ns = self._to_unix_ns(time_ns)
            ended = self._upgrades.finish(connection.event.socket, end_ns, followed.bytes, messages)
            out += [ended] if ended is not None else []
        elif connection.is_http2:
            self._add_stream_calls(self._streams.close(connection.event.socket, 0), out)
        else:
            self._tell(connection, connection.http1.finish(is_closed=is_closed), out)
        self._forget(connection)

    def _give_up(self, connection: Connection, out: Told) -> None:
        """Nobody saw how it ended, nor whether what was open was answered."""
        self._upgrades.resume(connection.event.socket)
        if connection.is_http2:
            self._add_stream_calls(self._streams.give_up(connection.event.socket), out)
        else:
            self._tell(connection, connection.http1.finish(is_closed=False, is_lost=True), out)
        self._forget(connection)

    def _note_answer(self, connection: Connection, transaction: Transaction) -> None:
        """An answer that no request explains. The first of a connection may be of one that was joined within a call."""
        has_stopped = connection.http1.stopped[0] is not None
        head = transaction.response.head if transaction.response is not None else None
        if head is not None and head.start.status_code not in REFUSALS and (transaction.number or has_stopped):
            self._note_unread(connection, UnreadReason.POSITION, calls=1, size=0)

    def _note_unread(self, connection: Connection, reason: UnreadReason, *, calls: int, size: int) -> None:
        ends = _find_ends(connection)
        if ends.role is Role.SERVER and ends.remote_port and (calls or size):
            end = UnreadEnd(ends.cgroup_id, ends.local_port, ends.remote_address, reason, self._is_encrypted)
            self.unread.add(end, calls=calls, size=size)

    def _forget(self, connection: Connection) -> None:
        socket = connection.event.socket
        if not connection.is_http2 and not connection.http1.is_upgraded:
            self._note_unread(connection, UnreadReason.POSITION, calls=0, size=connection.http1.unread_request_bytes)
        del self._connections[socket]
        self._open.pop(socket, None)
        self._holding.discard(socket)

    def _add_stream_calls(self, told: list[NumberedCall], out: Told) -> None:
        """Exchanges of calls of HTTP/2."""
        for socket, call in told:
            connection = self._connections.get(socket)
            if connection is None:
                continue
            self._stage.see(call.calls)
            self._stage.use(call.calls)
            out.append(build_stream_exchange(_find_ends(connection), call, self._to_unix_ns))

    def _build(self, connection: Connection, transaction: Transaction, *, is_final: bool) -> Exchange | None:
        """The exchange of a transaction; None where no whole request head was seen, which is counted."""
        request, response = transaction.request, transaction.response
        is_rest = transaction is connection.told
        if is_final:
            self._stage.see()
        if request is None or request.head is None or Fault.HEAD_CUT in request.faults:
            if is_final:
                self._stage.drop(DROP_HEAD_LOST)
                self._note_answer(connection, transaction)
            return None
        if is_final:
            self._stage.use()
        connection.calls += not is_rest
        raw = request.head.raw
        head = shorten_head(raw)
        if is_final and len(head) < len(raw):
            self._note_unread(connection, UnreadReason.HEAD, calls=1, size=len(raw) - len(head))
        status_code, response_head, response_bytes = 0, b"", 0
        first_ns = last_ns = request.started_ns
        if response is not None:
            if response.head is not None:
                status_code, response_head = response.head.start.status_code, response.head.raw[:RESPONSE_HEAD_BYTES]
            response_bytes = response.wire_bytes + sum(interim.wire_bytes for interim in transaction.interim)
            first_ns, last_ns = response.started_ns, max(response.ended_ns, request.ended_ns)
        is_complete = response is not None and (response.is_complete or not is_final)
        figures = CallFigures(
            self._to_unix_ns(request.started_ns),
            status_code,
            request.wire_bytes if is_final else 0,
            response_bytes if is_final else 0,
            max(first_ns - request.started_ns, 0),
            max(last_ns - request.started_ns, 0) if is_final else 0,
            0 if is_rest else 1,
            is_final,
            not is_complete and not transaction.is_lossy,
            transaction.is_lossy,
        )
        return Exchange(
            _find_ends(connection),
            figures,
            connection.calls - 1,
            head,
            len(head) < len(raw),
            response_head,
            bodies=join_bodies(request, response) if is_final else None,
        )


def unpack_event(record: memoryview) -> Moved:
    """The event and its data, of one record of the ring."""
    event = SyscallEvent._make(SYSCALL_EVENT.unpack_from(record))
    return event, bytes(record[SYSCALL_EVENT.size : SYSCALL_EVENT.size + event.length])


def join_bodies(request: Message, response: Message | None) -> RawBodies | None:
    """Their beginnings, whose chunks were undone; None where nothing was kept."""
    told = response.body if response is not None else bytearray()
    if not request.body and not told:
        return None
    return RawBodies(
        bytes(request.body),
        bytes(told),
        whole=(_is_whole(request), response is not None and _is_whole(response)),
        response_last=response.last if response is not None else b"",
    )


def _is_whole(message: Message) -> bool:
    return message.is_complete and len(message.body) == message.body_bytes


def _find_ends(connection: Connection) -> Ends:
    if connection.ends is None:
        connection.ends = _name_ends(connection)
    return connection.ends


def _name_ends(connection: Connection) -> Ends:
    event, is_server = connection.event, connection.request_kind == READ
    remote_address, remote_port = name_address(event.family, event.remote_address), event.remote_port
    if is_server and event.bound & Binding.CLIENT:  # It passes itself off as one.
        remote_address, remote_port = name_address(0, bytes(16)), 0
    return Ends(
        event.socket,
        Role.SERVER if is_server else Role.CLIENT,
        event.cgroup_id,
        _ROOT_CGROUP_ID if is_loopback(remote_address) else 0,
        name_address(event.family, event.local_address),
        event.local_port,
        remote_address,
        remote_port,
        event.process,
    )


def is_loopback(address: str) -> bool:
    """Whether it is one of this host's own (or of a container's), which no other host reaches."""
    return address.startswith("127.") or address == "::1"
