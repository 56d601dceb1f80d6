"""Matches requests and responses of one HTTP/1 connection: chunks and gaps in, `Transaction`s out. Sans-io.

Captured packets and decrypted TLS use the same code. Responses come in the order of their requests (RFC 9112, section
9.3.2), so matching is a queue. Where bytes were lost, positions decide as far as they are known. `Chunk.acknowledged`
is what a client had received when it sent a request. It shows which response cannot be the answer, and which answers
were lost. What cannot be matched becomes a transaction of its own: a response without a request, or a request without
one.

`DecodedSize` measures a compressed body without keeping it: gzip and deflate (RFC 9110, section 8.4.1), also deflate
without its zlib wrapper, as some servers send it. A body that grows past `MAX_DECODED_BYTES` has no size.
"""

import re
import zlib
from collections import deque
from collections.abc import Callable
from typing import Final

from sensor.http.bodies import BODY_BYTES_MAX, LAST_BYTES_MAX, BodyRoom, find_most
from sensor.http.http1.grammar import Expect, Fault, StartLine
from sensor.http.http1.stream import Abandoned, Data, End, Event, Head, MessageReader, MessageState, Started, Stopped
from sensor.http.reassembly import UNKNOWN_POSITION, Chunk, Gap, Piece
from sensor.http.websocket import WebSocket

# A second of CPU; 10 MB of zeros in gzip would make 10 GB.
MAX_DECODED_BYTES: Final = 256 << 20
_STEP_BYTES: Final = 1 << 16
_HEADER_BYTES: Final = 2
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate"))


class DecodedSize:
    """Mutable state of one body."""

    __slots__ = ("_decoder", "_held", "size_bytes")

    def __init__(self) -> None:
        self._decoder: zlib._Decompress | None = None
        self._held = b""  # Of the header's first two bytes, which tell what wraps the rest.
        self.size_bytes: int | None = 0  # None: not what it says, or too long.

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        if self._decoder is None:
            data, self._held = self._held + data, b""
            if len(data) < _HEADER_BYTES:
                self._held = data
                return
            self._decoder = zlib.decompressobj(_ZLIB_OR_GZIP if _is_wrapped(data) else -zlib.MAX_WBITS)
        while data and self.size_bytes is not None and not self._decoder.eof:
            try:
                decoded = self._decoder.decompress(data, _STEP_BYTES)
            except zlib.error:
                self.size_bytes = None
                return
            self.size_bytes += len(decoded)
            if self.size_bytes > MAX_DECODED_BYTES:
                self.size_bytes = None
            data = self._decoder.unconsumed_tail


def _is_wrapped(data: bytes) -> bool:
    """Whether a gzip (RFC 1952, section 2.3.1) or zlib header (RFC 1950, section 2.2) begins here."""
    return data.startswith(b"\x1f\x8b") or (data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0)


def make_decoded_size(content_encoding: bytes | None) -> DecodedSize | None:
    """For a body in this coding; None where it has none that is known."""
    return DecodedSize() if (content_encoding or b"").strip().lower() in _CODINGS else None


# Unanswered requests kept. Browsers and proxies pipeline some tens; the oldest is told unanswered.
MAX_UNANSWERED: Final = 1_024

_RESPONSE_START = re.compile(rb"HTTP/1\.\d \d")
_REQUEST_START = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) ")


class Message:
    """One side of a transaction. Private to the node: its head holds values."""

    __slots__ = ("acknowledged", "body", "decoded", "end", "ended_ns", "faults", "has_gap", "head", "is_complete",
                 "last", "position", "started_ns", "wire_bytes")  # fmt: skip

    def __init__(self, position: int, started_ns: int, acknowledged: int) -> None:
        self.position = position
        self.started_ns = started_ns
        self.ended_ns = started_ns
        self.acknowledged = acknowledged
        self.head: Head | None = None  # None: a body without head, HTTP/0.9.
        self.end: End | None = None
        self.decoded: DecodedSize | None = None  # Where asked for, and the body is compressed.
        self.body = bytearray()  # Its beginning without chunk framing, where asked for.
        self.last = b""  # Of a longer response its last bytes, without framing.
        self.wire_bytes = 0
        self.is_complete = False
        self.has_gap = False  # Bytes of it were lost, or found no room: what comes does not follow on what came.
        self.faults: list[Fault] = []

    @property
    def body_bytes(self) -> int:
        """Of the body without chunk framing."""
        return self.end.body_bytes if self.end is not None else 0

    def finish(self, end: End, time_ns: int) -> None:
        """Its last byte."""
        self.end, self.ended_ns = end, time_ns
        self.wire_bytes = end.wire_bytes
        self.is_complete, self.faults = end.is_complete, end.faults


class Transaction:
    """One request and its response; either may be missing."""

    __slots__ = ("interim", "is_answer_lost", "is_lossy", "is_upgraded", "number", "request", "response", "socket")

    def __init__(self, request: Message | None) -> None:
        self.request = request
        self.response: Message | None = None
        self.interim: list[Message] = []
        self.is_lossy = False  # Bytes were lost within it or beside it.
        self.is_answer_lost = False  # It was sent and not seen.
        self.is_upgraded = False
        self.number = 0  # 0, 1, 2 .. within the connection.
        self.socket: WebSocket | None = None  # What it was upgraded to, where somebody followed that.


class _Sink:
    """Hands each event on."""

    __slots__ = ("append",)

    def __init__(self, append: Callable[[Event], None]) -> None:
        self.append = append


class Http1Connection:
    """Mutable state of one connection."""

    def __init__(
        self,
        *,
        is_joined: bool = False,
        has_decoded_sizes: bool = False,
        bodies: BodyRoom | None = None,
        goes_on: bool = False,
    ) -> None:
        """`is_joined`: the beginning was missed. `has_decoded_sizes`: of compressed bodies, which costs decoding.
        `bodies`: where the beginnings of bodies find room; without it none is kept. `goes_on`: what follows a granted
        upgrade is read as long as it is HTTP/1."""
        self._goes_on = goes_on
        has_data = has_decoded_sizes or bodies is not None
        self._requests = MessageReader(is_request=True, has_data=has_data, is_joined=is_joined)
        self._responses = MessageReader(is_request=False, expect=self._expect, has_data=has_data, is_joined=is_joined)
        self._bodies = bodies
        self._has_decoded_sizes = has_decoded_sizes
        self._queue: deque[Transaction] = deque()  # Not told yet, oldest first.
        self._request: Message | None = None  # Being read.
        self._response: Message | None = None
        self._answering: Transaction | None = None  # What the response being read answers.
        self._bare: Message | None = None
        self._count = 0
        self._time_ns = 0  # Of the chunk being read, and what its sender had received.
        self._acknowledged = UNKNOWN_POSITION
        self._ends = [0, 0]  # Position told so far, of responses and of requests.
        self._start = 0  # Position in the stream of what its reader calls 0.
        self._request_sink = _Sink(self._take_request_event)
        self._response_sink = _Sink(self._take_response_event)
        self._is_shaken = False  # Bytes were lost since a request and its answer were last matched for certain.
        self.heads_lost = 0  # Messages whose head was never whole.

    @property
    def unread_bytes(self) -> int:
        """Of no message: lost, after a stop, of another protocol."""
        return self._requests.unread_bytes + self._responses.unread_bytes

    @property
    def unread_request_bytes(self) -> int:
        """Those that the client sent."""
        return self._requests.unread_bytes

    @property
    def stopped(self) -> tuple[Fault | None, Fault | None]:
        """What ended the reading of requests and of responses."""
        return self._requests.fault, self._responses.fault

    @property
    def answering(self) -> Transaction | None:
        """Whose final response is being read; its head is there."""
        return self._answering

    @property
    def is_upgraded(self) -> bool:
        """What follows is another protocol."""
        return MessageState.OPAQUE in (self._responses.state, self._requests.state)

    def take_piece(self, piece: Piece, *, is_request: bool) -> list[Transaction]:
        """Takes the next piece of a direction; gives the transactions that are over."""
        if isinstance(piece, Gap):
            self._take_gap(piece, is_request)
        else:
            self._time_ns, self._acknowledged = piece.time_ns, piece.acknowledged
            reader = self._requests if is_request else self._responses
            self._start = piece.position - reader.position
            # Its sender had received more than was seen of the other direction (FIN counts as a byte).
            self._is_shaken |= piece.acknowledged > self._ends[1 - is_request] + 1
            self._ends[is_request] = piece.position + len(piece.data)
            feed = self._feed_request if is_request else self._feed_response
            feed(piece)
        if self._goes_on and self.is_upgraded and self._queue:  # They were taken for requests, and are not.
            self._queue = deque(each for each in self._queue if each.response is not None)
        return self._take_done()

    def finish(self, *, is_closed: bool = True, is_lost: bool = False) -> list[Transaction]:
        """Nothing more comes; `is_closed` by the server, which ends a body that lasts as long as the connection;
        `is_lost`: it was not seen how the connection ended. What was not answered then may have been."""
        self._responses.finish(self._response_sink, is_closed=is_closed)
        self._requests.finish(self._request_sink)
        if self._bare is not None:
            self._bare.is_complete = is_closed
        rest = list(self._queue)
        self._queue.clear()
        for each in rest:
            each.is_lossy |= each.response is None and (is_lost or self._is_shaken)
        return [self._number(each) for each in rest]

    # ---- feeding ---------------------------------------------------------------------------------------------------

    def _take_gap(self, gap: Gap, is_request: bool) -> None:
        hit = self._queue[-1] if is_request and self._request is not None and self._queue else self._answering
        if hit is not None:
            hit.is_lossy = True
        message = self._request if is_request else self._response
        if message is not None:
            message.has_gap = True
        self._ends[is_request] = gap.position + gap.length
        if is_request:
            is_bridged = self._requests.skip(gap.length, self._request_sink)
        else:
            is_bridged = self._responses.skip(gap.length, self._response_sink)
        self._is_shaken |= not is_bridged

    def _feed_request(self, chunk: Chunk) -> None:
        reader = self._requests
        if reader.state is MessageState.HELD and self._was_answer_seen(chunk):
            reader.release(self._request_sink)
        elif reader.state is MessageState.LENGTH and self._was_body_refused(chunk):
            reader.interrupt(self._request_sink)
        reader.feed(chunk.data, self._request_sink)

    def _was_answer_seen(self, chunk: Chunk) -> bool:
        """The client sent this after it had received (some of) the answer to the request that is held."""
        answer = self._queue[-1].response if self._queue else None
        if answer is None:
            return not self._queue
        if chunk.acknowledged == UNKNOWN_POSITION:
            return answer.end is not None
        return chunk.acknowledged > answer.position

    def _was_body_refused(self, chunk: Chunk) -> bool:
        """A body that was announced (Expect: 100-continue), refused, and never sent: the next request follows."""
        request = self._request
        if request is None or self._requests.has_body_bytes or not self._queue:
            return False
        answer = self._queue[-1].response
        return answer is not None and answer.end is not None and _REQUEST_START.match(chunk.data) is not None

    def _feed_response(self, chunk: Chunk) -> None:
        reader = self._responses
        if self._bare is not None or self._is_bare_next(chunk):
            self._take_bare(chunk)
            return
        if _RESPONSE_START.match(chunk.data) and self._is_next_due(reader.state, chunk.position):
            reader.interrupt(self._response_sink)
        reader.feed(chunk.data, self._response_sink)

    def _is_next_due(self, state: MessageState, position: int) -> bool:
        """Whether a segment that starts like a response is one, although the response before has not ended."""
        if state is MessageState.CLOSE and len(self._queue) > 1:  # Without framing, on a connection that goes on.
            return True
        # An answer to a request that was not seen (perhaps HEAD, so without a body), which its client had in full.
        is_doubtful = self._answering is not None and self._answering.request is None
        return is_doubtful and any(
            each.request is not None and each.request.acknowledged == position for each in self._queue
        )

    def _is_bare_next(self, chunk: Chunk) -> bool:
        """HTTP/0.9 answers with a body alone."""
        waiting = self._next_waiting()
        request = waiting.request if waiting is not None else None
        return (
            request is not None
            and request.head is not None
            and request.head.start.version == b"0.9"
            and self._responses.state in (MessageState.START, MessageState.AFTER_LAST, MessageState.STOPPED)
            and not chunk.data.startswith(b"HTTP/")
        )

    def _take_bare(self, chunk: Chunk) -> None:
        if self._bare is None:
            waiting = self._next_waiting()
            assert waiting is not None
            self._bare = waiting.response = Message(chunk.position, chunk.time_ns, chunk.acknowledged)
        self._bare.wire_bytes += len(chunk.data)
        self._bare.finish(End(self._bare.wire_bytes, self._bare.wire_bytes, 0, False, self._bare.faults), chunk.time_ns)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _take_request_event(self, event: Event) -> None:
        match event:
            case Started():
                self._request = Message(self._start + event.position, self._time_ns, self._acknowledged)
            case Head():
                assert self._request is not None
                self._set_head(self._request, event)
                self._queue.append(Transaction(self._request))
            case Data():
                self._take_data(self._request, event.data)
            case End():
                assert self._request is not None
                self._request.finish(event, self._time_ns)
                self._request = None
            case Abandoned():
                self.heads_lost += 1
                self._is_shaken = True
                self._request = None
            case Stopped():
                pass

    # ---- responses -------------------------------------------------------------------------------------------------

    def _expect(self, start: StartLine) -> Expect:
        """What the response whose head was read owes to its request."""
        waiting = self._find_waiting()
        head = waiting.request.head if waiting is not None and waiting.request is not None else None
        if head is None:
            return Expect.NORMAL
        return {b"HEAD": Expect.NO_BODY, b"CONNECT": Expect.TUNNEL}.get(head.start.method, Expect.NORMAL)

    def _take_response_event(self, event: Event) -> None:
        match event:
            case Started():
                self._response = Message(self._start + event.position, self._time_ns, self._acknowledged)
            case Head():
                self._start_answer(event)
            case Data():
                self._take_data(self._response, event.data)
            case End():
                assert self._response is not None
                self._response.finish(event, self._time_ns)
                self._is_shaken |= not event.is_complete
                self._response = self._answering = None
            case Abandoned():
                self._lose_answer()
            case Stopped():
                pass

    def _start_answer(self, head: Head) -> None:
        response = self._response
        assert response is not None
        self._set_head(response, head)
        if self._is_shaken:
            self._match_again(response)
        waiting = self._find_waiting()
        if waiting is None:
            if head.framing.is_interim:
                return
            if self._responses.is_tunnel:  # Nothing was asked: it only looks like an answer.
                self._requests.interrupt(self._request_sink, MessageState.OPAQUE)
                return
            waiting = Transaction(None)
            waiting.is_lossy = self._is_shaken
            # Before the requests that it does not answer.
            self._queue.appendleft(waiting)
        if head.framing.is_interim:
            waiting.interim.append(response)
            return
        waiting.response = response
        waiting.is_lossy |= self._is_shaken
        self._answering = waiting
        is_open = self._goes_on and self._requests.state is not MessageState.LOST
        self._requests.is_tunnel = self._responses.is_tunnel = head.framing.is_upgrade and is_open
        if head.framing.is_upgrade:
            waiting.is_upgraded = True
            if not is_open:
                self._requests.interrupt(self._request_sink, MessageState.OPAQUE)

    def _lose_answer(self) -> None:
        """A response whose head was cut: it was the answer of the request that waits."""
        self.heads_lost += 1
        self._is_shaken = True
        waiting = self._find_waiting()
        if waiting is not None:
            waiting.is_lossy = waiting.is_answer_lost = True
        self._response = None

    def _match_again(self, response: Message) -> None:
        """After a loss: the request that was sent when all before this response had been received is answered by it.

        Those before it were answered by what was lost. Where there is no such request (it was pipelined, or lost), the
        order is all there is, and what it gives is told as lossy.
        """
        waiting = [each for each in self._queue if each.response is None and not each.is_answer_lost]
        for place, each in enumerate(waiting):
            if each.request is not None and each.request.acknowledged == response.position:
                for earlier in waiting[:place]:
                    earlier.is_lossy = earlier.is_answer_lost = True
                self._is_shaken = False
                return

    def _next_waiting(self) -> Transaction | None:
        """The oldest request whose final response may still come."""
        return next((each for each in self._queue if each.response is None and not each.is_answer_lost), None)

    def _find_waiting(self) -> Transaction | None:
        """The request that the response being read answers; None: one that was not seen."""
        waiting, response = self._next_waiting(), self._response
        if waiting is None or waiting.request is None or response is None:
            return None
        known = waiting.request.acknowledged
        # The client had received beyond this response's start before it sent the request.
        is_too_early = known != UNKNOWN_POSITION and known > response.position
        return None if is_too_early else waiting

    # ---- telling ---------------------------------------------------------------------------------------------------

    def _take_done(self) -> list[Transaction]:
        done = []
        while self._queue:
            first = self._queue[0]
            if len(self._queue) <= MAX_UNANSWERED and not self._is_done(first):
                break
            self._queue.popleft()
            done.append(self._number(first))
        return done

    def _is_done(self, each: Transaction) -> bool:
        response, request = each.response, each.request
        is_read = response is not None and response.end is not None and response is not self._bare
        return (is_read or each.is_answer_lost) and (request is None or request.end is not None)

    def _number(self, each: Transaction) -> Transaction:
        each.number = self._count
        self._count += 1
        for message in (each.request, each.response):
            if message is not None and self._bodies is not None:
                self._bodies.release(message.body)
        return each

    def _set_head(self, message: Message, head: Head) -> None:
        message.head = head
        if self._has_decoded_sizes:
            message.decoded = make_decoded_size(head.get(b"content-encoding"))

    def _take_data(self, message: Message | None, data: bytes) -> None:
        if message is None:
            return
        if message.decoded is not None:
            message.decoded.feed(data)
        if self._bodies is None:
            return
        if not message.has_gap:
            most = self._find_most(message, len(data))
            message.has_gap = not self._bodies.add_data(message.body, data, most)
        if message.has_gap and message is self._response and message.body:
            message.last = (message.last + data[-LAST_BYTES_MAX:])[-LAST_BYTES_MAX:]

    def _find_most(self, message: Message, size: int) -> int:
        """How much is kept of a body of which so many bytes more have come."""
        if message is not self._response or len(message.body) + size <= BODY_BYTES_MAX:
            return BODY_BYTES_MAX
        request = self._answering.request if self._answering is not None else None
        return BODY_BYTES_MAX if request is None else find_most(request.body)
