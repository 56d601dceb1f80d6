"""Assembles kernel events into exchanges: the parts of a head, the two heads of a call, and its figures.

Takes events in ring order and gives `Exchange`s. The kernel has already matched requests with responses and numbered
the calls of each connection. What is pending is keyed by (connection, call) and bounded.

A call is given once, when it ends. A call whose response lasts over a second, such as a download or server-sent events,
is given early with `is_final = False`. Its bytes and durations follow at its end in a second exchange with `calls = 0`.
The early half of server-sent events that a GET asked for has what came of their body.

A WebSocket of HTTP/1 is given at its 101, and again at the end of its connection with bytes, messages and duration,
then with `calls = 0`. The number of open ones is bounded: of the one that was open longest only the first part is
given.

Account: `seen` counts calls whose end arrived here and calls given up. Each is used (given) or dropped for a reason.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sensor.core.addresses import name_address
from sensor.core.calls import NO_HASHES, CallFigures, Ends, Exchange, KernelHashes, Role
from sensor.core.health import StageCounter, take_each
from sensor.coverage.unread import UnreadEnd, UnreadReason, UnreadTotals
from sensor.ebpf.abi import EVENT, EventFlag, EventKind, EventMark, KernelEvent
from sensor.ebpf.pieces import Pieces
from sensor.http.http1.head import HEAD_BYTES_KEPT, shorten_head

# Connections remembered, and their heads together; a usual one has half a kilobyte.
OPEN_MAX: Final = 16_384
HEAD_BYTES_MAX: Final = 16 << 20
NO_MESSAGES: Final = (1 << 64) - 1  # As bpf/upgraded.h.
_SWITCHING_PROTOCOLS: Final = 101
# A stream of events may last for days, and how it begins says what it is (sensor/describe/schemas/mcp.py).
_EVENTS: Final = re.compile(rb"\ncontent-type:[ \t]*text/event-stream", re.IGNORECASE)
_WEBSOCKET: Final = re.compile(rb"\nupgrade:[ \t]*websocket", re.IGNORECASE)


class Upgrades:
    """By connection. Not thread-safe."""

    def __init__(self) -> None:
        self._open: dict[int, Exchange] = {}  # The oldest first.
        self._head_bytes = 0
        self.forgotten_count = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, exchange: Exchange) -> Exchange:
        """A call that ended HTTP on its connection: that of a WebSocket is not over by that."""
        if exchange.figures.status_code != _SWITCHING_PROTOCOLS or not _WEBSOCKET.search(exchange.request_head):
            return exchange
        self._open[exchange.ends.connection] = exchange
        self._head_bytes += len(exchange.request_head)
        while len(self._open) > OPEN_MAX or self._head_bytes > HEAD_BYTES_MAX:
            self.forgotten_count += 1
            self._take(next(iter(self._open)))
        figures = msgspec.structs.replace(
            exchange.figures, request_bytes=0, response_bytes=0, duration_ns=0, is_final=False
        )
        return msgspec.structs.replace(exchange, figures=figures)

    def end(self, event: KernelEvent, end_unix_ns: int) -> Exchange | None:
        """The second part of the call whose connection ended; None where nothing is known of it."""
        messages = tuple(None if count == NO_MESSAGES else count for count in (event.profile, event.host))
        return self.finish(event.connection, end_unix_ns, (event.request_bytes, event.response_bytes), messages)

    def finish(
        self, connection: int, end_unix_ns: int, sizes: Sequence[int], messages: Sequence[int | None]
    ) -> Exchange | None:
        """The same, by what the client and the server sent after the 101."""
        exchange = self._take(connection)
        if exchange is None:
            return None
        figures = exchange.figures
        return msgspec.structs.replace(
            exchange,
            figures=msgspec.structs.replace(
                figures,
                request_bytes=figures.request_bytes + sizes[0],
                response_bytes=figures.response_bytes + sizes[1],
                duration_ns=max(end_unix_ns - figures.time_unix_ns, 0),
                calls=0,
            ),
            request_messages=messages[0],
            response_messages=messages[1],
        )

    def resume(self, connection: int) -> Exchange | None:
        """The second part of a call whose connection went on with HTTP/1.1 after all."""
        exchange = self._take(connection)
        if exchange is None:
            return None
        return msgspec.structs.replace(exchange, figures=msgspec.structs.replace(exchange.figures, calls=0))

    def _take(self, connection: int) -> Exchange | None:
        exchange = self._open.pop(connection, None)
        if exchange is not None:
            self._head_bytes -= len(exchange.request_head)
        return exchange


logger = logging.getLogger(__name__)

EARLY_AFTER_NS: Final = 1_000_000_000
# Outstanding requests remembered: a busy proxy has some thousands. The oldest is given up: nobody sees how it ends.
PENDING_MAX: Final = 16_384
# Their heads together; a hostile client could send long heads on every connection it opens.
PENDING_BYTES_MAX: Final = 16 << 20

DROP_HEAD_LOST: Final = "request_head_lost"

# Plain ints: comparing with enum members costs as much as the rest of the bookkeeping.
_REQUEST, _FORGET = int(EventKind.REQUEST_HEAD), int(EventKind.FORGET)
_UPGRADE_END, _UPGRADED = int(EventKind.UPGRADE_END), int(EventFlag.UPGRADED)
_FIRST_BYTES = range(EventKind.CLIENT_HELLO, EventKind.SERVER_HELLO + 1)
_BODIES = frozenset((int(EventKind.REQUEST_BODY), int(EventKind.RESPONSE_BODY)))
_FIRST, _LAST, _ENDED = int(EventFlag.FIRST), int(EventFlag.LAST), int(EventFlag.ENDED)
_ABORTED, _LOSSY, _TRUNCATED = int(EventFlag.ABORTED), int(EventFlag.LOSSY), int(EventFlag.TRUNCATED)
_AMBIGUOUS = int(EventMark.AMBIGUOUS)
_ROLES = {int(role): role for role in Role}


def _join(head: bytes, event: KernelEvent, data: bytes) -> tuple[bool, bytes]:
    """A head with its next part; False, and without it, where the ring had no room for one before."""
    if event.flags & _FIRST:
        return True, data
    if event.flags & _TRUNCATED and not data:
        return True, head
    return (True, head + data) if event.position == len(head) else (False, head)


_Key = tuple[int, int]  # (connection, call)


@dataclass(slots=True)
class _Pending:
    """One call that has not ended."""

    head: KernelEvent | None = None  # Of the last part of the request head.
    request: bytes = b""
    response: bytes = b""
    is_complete: bool = False
    is_truncated: bool = False
    was_reported: bool = False


class ExchangeAssembler:
    """Mutable state between events. `to_unix_ns` turns kernel time into unix time."""

    def __init__(
        self,
        *,
        to_unix_ns: Callable[[int], int],
        stage: StageCounter,
        take_first_bytes: Callable[[KernelEvent, bytes], None],
        pieces: Pieces | None = None,
    ) -> None:
        """`take_first_bytes` gets those of connections that are not HTTP/1; `pieces` keeps the bodies of calls that go
        on, and of those that a record will report."""
        self._take_first_bytes = take_first_bytes
        self._to_unix_ns = to_unix_ns
        self._pieces = pieces or Pieces()
        self._stage = stage
        self._pending: dict[_Key, _Pending] = {}  # Insertion order is age: the first is the oldest.
        self._pending_bytes = 0
        self._calls: dict[int, list[int]] = {}  # Pending calls of each connection, ascending.
        self.upgrades = Upgrades()
        self.unread = UnreadTotals()
        self._open: dict[_Key, KernelEvent] = {}  # Response heads whose bodies go on, oldest first.
        self._doubtful_ns = -1

    def doubt(self, time_ns: int) -> None:
        """Events were lost: the calls that began up to this kernel time may have ended, and then the kernel has counted
        them."""
        self._doubtful_ns = time_ns

    def take(self, records: Iterable[memoryview]) -> list[Exchange]:
        """Exchanges that these records completed, in order."""
        out: list[Exchange] = []
        take_each(records, lambda left: self._take_all(left, out), logger)
        return out

    def _take_all(self, records: Iterable[memoryview], out: list[Exchange]) -> None:
        make, unpack, size = KernelEvent._make, EVENT.unpack_from, EVENT.size
        for record in records:
            event = make(unpack(record))
            length = event.length
            data = bytes(record[size : size + length]) if length else b""
            if event.kind == _REQUEST:
                self._take_request(event, data, out)
            elif event.kind in _BODIES:
                self._pieces.take(event, data)
            elif event.kind == _FORGET:
                for call in list(self._calls.get(event.connection, ())):
                    self._remove((event.connection, call))
            elif event.kind == _UPGRADE_END:
                ended = self.upgrades.end(event, self._to_unix_ns(event.end_time_ns))
                if ended is not None:
                    out.append(ended)
            elif event.kind in _FIRST_BYTES:
                self._take_first_bytes(event, data)
            else:
                self._take_answer(event, data, out)

    def poll(self, now_ns: int) -> list[Exchange]:
        """Early halves of calls whose response has lasted over a second at kernel time `now_ns`."""
        out: list[Exchange] = []
        while self._open:
            key = next(iter(self._open))
            event = self._open[key]
            if now_ns - event.time_ns < EARLY_AFTER_NS:
                break
            del self._open[key]
            pending = self._pending.get(key)
            if pending is not None and pending.is_complete:
                pending.was_reported = True
                exchange = self._build(pending, event, calls=1, is_final=False)
                if pending.request.startswith(b"GET ") and _EVENTS.search(pending.response):
                    exchange = msgspec.structs.replace(exchange, bodies=self._pieces.copy(*key))
                out.append(exchange)
        return out

    def _take_request(self, event: KernelEvent, data: bytes, out: list[Exchange]) -> None:
        key = (event.connection, event.call)
        pending = self._pending.get(key)
        if pending is None:
            self._make_room(out)
            pending = self._pending[key] = _Pending()
            self._calls.setdefault(event.connection, []).append(event.call)
        before = pending.request
        is_whole, pending.request = _join(before, event, data)
        self._pending_bytes += len(pending.request) - len(before)
        pending.head = event
        pending.is_truncated = bool(event.flags & _TRUNCATED)
        pending.is_complete = is_whole and bool(event.flags & _LAST)
        if pending.is_complete and len(pending.request) > HEAD_BYTES_KEPT:
            self._shorten_head(pending, event)

    def _shorten_head(self, pending: _Pending, event: KernelEvent) -> None:
        short = shorten_head(pending.request)
        left_out = len(pending.request) - len(short)
        self._pending_bytes -= left_out
        pending.request = short
        if event.role == Role.SERVER:
            address = name_address(event.family, event.remote_address)
            end = UnreadEnd(event.cgroup_id, event.local_port, address, UnreadReason.HEAD)
            # The kernel has counted the head where it did not copy all of it.
            self.unread.add(end, calls=not pending.is_truncated, size=left_out)
        pending.is_truncated = True

    def _take_answer(self, event: KernelEvent, data: bytes, out: list[Exchange]) -> None:
        key = (event.connection, event.call)
        pending = self._pending.get(key)
        if pending is not None and data:
            before = pending.response
            _, pending.response = _join(before, event, data)
            self._pending_bytes += len(pending.response) - len(before)
        if not event.flags & _ENDED:
            if event.flags & _LAST and pending is not None:
                self._open[key] = event
            return
        self._stage.see()
        if pending is None or not pending.is_complete:
            self._stage.drop(DROP_HEAD_LOST)
        else:
            self._stage.use()
            if self.upgrades and (earlier := self.upgrades.resume(event.connection)):
                out.append(earlier)
            exchange = self._build(pending, event, calls=0 if pending.was_reported else 1, is_final=True)
            out.append(self.upgrades.begin(exchange) if event.flags & _UPGRADED else exchange)
        self._forget_through(event.connection, event.call, out)

    def _make_room(self, out: list[Exchange]) -> None:
        """Gives up the oldest while there are too many: its host may have vanished without a word, or it is still
        waiting. It is reported as one that was not read to its end, unless that may have been lost at the ring."""
        while self._pending and (len(self._pending) >= PENDING_MAX or self._pending_bytes > PENDING_BYTES_MAX):
            key, pending = next(iter(self._pending.items()))
            head = pending.head
            if pending.is_complete and head and not pending.was_reported and head.time_ns > self._doubtful_ns:
                self._stage.see()
                self._stage.use()
                out.append(self._build(pending, head, calls=1, is_final=True, is_given_up=True))
            self._remove(key)

    def _forget_through(self, connection: int, call: int, out: list[Exchange]) -> None:
        """Calls end in order: an older one still pending had its end lost at the ring. Where its answer came, it is
        reported without an end; else the kernel has counted it there."""
        numbers = self._calls.get(connection)
        if numbers is None:
            return
        if len(numbers) == 1 and numbers[0] == call:  # Nearly always.
            self._remove((connection, call))
            return
        for older in [number for number in numbers if number <= call]:
            if older < call:
                self._report_endless((connection, older), out)
            self._remove((connection, older))

    def _report_endless(self, key: _Key, out: list[Exchange]) -> None:
        event, pending = self._open.get(key), self._pending[key]
        if event is not None and pending.is_complete:
            out.append(self._build(pending, event, calls=1, is_final=False))
        elif not pending.was_reported:
            return
        self._stage.see()
        self._stage.use()

    def _remove(self, key: _Key) -> None:
        pending = self._pending.pop(key, None)
        if self._open:
            self._open.pop(key, None)
        if pending is None:
            return
        self._pending_bytes -= len(pending.request) + len(pending.response)
        calls = self._calls[key[0]]
        calls.remove(key[1])
        if not calls:
            del self._calls[key[0]]

    def _build(
        self, pending: _Pending, event: KernelEvent, *, calls: int, is_final: bool, is_given_up: bool = False
    ) -> Exchange:
        head = pending.head
        assert head is not None
        started_ns = event.request_time_ns or head.time_ns
        answered_ns = event.response_time_ns
        return Exchange(
            Ends(
                event.connection,
                _ROLES.get(event.role, Role.SERVER),
                event.cgroup_id,
                event.peer_cgroup_id,
                name_address(head.family, head.local_address),
                event.local_port,
                name_address(head.family, head.remote_address),
                event.remote_port,
            ),
            CallFigures(
                self._to_unix_ns(started_ns),
                event.status,
                event.request_bytes if is_final else 0,
                event.response_bytes if is_final else 0,
                max(answered_ns - started_ns, 0) if answered_ns else 0,
                max(event.end_time_ns - started_ns, 0) if is_final and event.end_time_ns else 0,
                calls,
                is_final,
                bool(event.flags & _ABORTED),
                is_given_up or bool(event.flags & _LOSSY),
                bool((head.marks | event.marks) & _AMBIGUOUS),
            ),
            event.call,
            pending.request,
            pending.is_truncated,
            pending.response,
            KernelHashes(head.profile, head.host, head.credential) if head.profile else NO_HASHES,
            self._pieces.pop(event.connection, event.call) if is_final else None,
        )
