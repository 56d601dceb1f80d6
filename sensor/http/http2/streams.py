"""The streams of one HTTP/2 connection: what is gathered while they are open, and the calls that they end as.

Each stream has a state (`sensor.http.http2.states`). The directions are read apart, and one may wait for a hole. Then a
response comes before its request and waits for it.

Programs repeat their heads to the byte. So most streams are *plain*: only known header blocks and DATA that was not
copied. Such a stream keeps its blocks unread. A call with the same blocks as an earlier one shares its `CallPattern`.
Once a pattern has a number, only the figures of its calls are gathered, in `AlikeCalls`. Anything else that happens to
a stream makes it a full one (`Stream.read_blocks`).
"""

import itertools
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sensor.core.calls import Exchange
from sensor.http.bodies import CONNECTION_BYTES_MAX, GatheredBodies, StreamBodies
from sensor.http.grpc import GRPC_TYPES, EnvelopeCounter, Rpc, StreamingKind, infer_streaming, name_grpc
from sensor.http.hpack import HeaderBlock
from sensor.http.http1.head import Malformed
from sensor.http.http2.frames import Frame, Http2Counts
from sensor.http.http2.heads import StreamRequest, StreamResponse, read_request, read_response
from sensor.http.http2.states import NEXT_STATES, StreamInput, StreamState
from sensor.http.websocket import WebSocketCounter

# Open at once; servers allow 100 to 250 as a rule, some any number. The oldest is given up.
MAX_STREAMS: Final = 4_096
# Responses that were read before their requests.
MAX_EARLY: Final = 256
# Streams that a loss left in doubt and that were silent for so long are given up.
DOUBTFUL_SILENCE_NS: Final = 60_000_000_000
# After a reset whose other side may still be heard of with what it sent before.
RESET_PATIENCE_NS: Final = 60_000_000_000
STREAM_BYTES: Final = 1_024  # What an open one is taken to hold: its head and counters.
# Kinds of calls that are alike; past them all are forgotten. What one holds beside its blocks: measured.
MAX_PATTERNS: Final = 128
PATTERN_BYTES: Final = 600
UNCOUNTED: Final = -1
# Numbers of a call in `AlikeCalls.figures`: place of its pattern, started, answered, ended (ns), bytes of request and
# response.
FIGURES: Final = 6
REQUEST: Final = 0
RESPONSE: Final = 1
_INTERIM = range(100, 200)  # RFC 9110, section 15.2.


_OPEN, _REQUEST_ENDED, _RESPONSE_ENDED = StreamState.OPEN, StreamState.REQUEST_ENDED, StreamState.RESPONSE_ENDED
_IDLE, _IDLE_RESET = StreamState.IDLE, StreamState.IDLE_RESET
_CANCELLED, _CLOSED = StreamState.CANCELLED, StreamState.CLOSED
_REQUEST_HEAD, _CLOSE = StreamInput.REQUEST_HEAD, StreamInput.CLOSE
_REQUEST_END, _RESPONSE_END = StreamInput.REQUEST_END, StreamInput.RESPONSE_END
_RESETS: Final = StreamInput.CLIENT_RESET, StreamInput.SERVER_RESET  # By side.


class StreamCall(msgspec.Struct, frozen=True, gc=False):
    """One call, or the closing part of one that was reported early. Private to the node: holds a head."""

    stream: int
    request: StreamRequest | Malformed
    status_code: int  # 0 when aborted before a response, or not known (then `is_lossy`).
    response_content_type: str
    rpc: Rpc | None
    grpc_status: int | None  # None: none was sent, or it is not known.
    streaming: StreamingKind  # Inferred from the messages of this call.
    request_messages: int | None  # Of gRPC and its kin, and WebSocket; None where they cannot be counted.
    response_messages: int | None
    request_bytes: int  # HEADERS, CONTINUATION and DATA frames as on the wire; 0 while not is_final.
    response_bytes: int
    started_ns: int  # First frame of the request.
    answered_ns: int  # Head of the final response; 0 when aborted before.
    ended_ns: int  # 0 while not is_final.
    calls: int  # 1; 0 in the closing part of a call already reported.
    is_final: bool
    is_aborted: bool  # Reset, or closed before the response was complete.
    is_lossy: bool  # Frames may be missing, or the status is not known.
    has_unknown_fields: bool  # Of a head: a credential may be among them, or what the answer was.
    is_inferred: bool  # Path, method or status follow from the place of a field whose name is not known.
    pattern: "CallPattern | None" = None  # Of calls that are like it.
    bodies: StreamBodies | None = None  # Of a sample that is final.

    def __repr__(self) -> str:
        return f"StreamCall(stream={self.stream}, status_code={self.status_code}, heads redacted)"


class CallPattern:
    """What calls of one connection have in common that are the same header blocks. Private to the node: holds heads."""

    __slots__ = ("_call", "blocks", "place", "turn")

    def __init__(self, call: StreamCall, blocks: tuple[HeaderBlock | None, ...]) -> None:
        """`call` is the first of them; `blocks` are kept so that their identities stay their own."""
        self._call = call
        self.blocks = blocks
        self.place = 0  # Where whoever numbered it keeps what they made of it.
        self.turn = 0  # When it was numbered; `place` holds as long as `AlikeCalls.turn` is the same.

    def make_call(
        self, stream: int, started_ns: int, answered_ns: int, ended_ns: int, request_bytes: int, response_bytes: int
    ) -> StreamCall:
        """One of them as a call."""
        of = self._call
        return StreamCall(
            stream,
            of.request,
            of.status_code,
            of.response_content_type,
            of.rpc,
            of.grpc_status,
            of.streaming,
            of.request_messages,
            of.response_messages,
            request_bytes,
            response_bytes,
            started_ns,
            answered_ns,
            ended_ns,
            1,
            True,
            False,
            False,
            of.has_unknown_fields,
            of.is_inferred,
            self,
        )


class AlikeCalls:
    """Mutable state: figures of calls whose patterns are numbered."""

    __slots__ = ("_arrays", "figures", "owners", "turn")

    def __init__(self) -> None:
        self.turn = 1  # No pattern has it from the start.
        self.figures: list[int] = []  # A list takes six numbers in a tenth of the time that an array does.
        self.owners: list[Exchange] = []  # By place: a call that they are like.
        self._arrays: list[npt.NDArray[np.int64]] = []  # Of shape (calls, FIGURES): the same of many at once.

    def __len__(self) -> int:
        return len(self.figures) // FIGURES + sum(map(len, self._arrays))

    def add_figures(self, figures: npt.NDArray[np.int64]) -> None:
        """Figures of many calls, of shape (calls, FIGURES)."""
        self._arrays.append(figures)

    def forget_patterns(self) -> None:
        """No number holds any more; what was gathered under them is to be collected before."""
        assert not self.figures and not self._arrays
        self.turn += 1
        self.owners.clear()

    def number_pattern(self, pattern: CallPattern, owner: Exchange) -> int:
        """The place of a pattern from now on."""
        pattern.place, pattern.turn = len(self.owners), self.turn
        self.owners.append(owner)
        return pattern.place

    def pop_figures(self) -> npt.NDArray[np.int64]:
        """All that was gathered, of shape (calls, FIGURES)."""
        arrays, self._arrays = self._arrays, []
        if self.figures:
            arrays.append(np.array(self.figures, np.int64).reshape(-1, FIGURES))
            self.figures = []
        return np.concatenate(arrays) if arrays else np.empty((0, FIGURES), np.int64)


class Stream(msgspec.Struct, gc=False):
    """What is known of one open stream. Private to the node: holds a head."""

    number: int
    request: HeaderBlock | None  # Its head; None in the IDLE states.
    state: StreamState
    started_ns: int
    last_ns: int
    losses: list[int]  # Of requests and responses of the connection so far: one hits all that is open.
    losses_before: tuple[int, int]  # The same when it began.
    is_plain: bool = False  # Its blocks are not read yet, and none of its DATA was copied.
    request_bytes: int = 0  # On the wire.
    response_bytes: int = 0
    # While it is plain: DATA frames of one message each; UNCOUNTED once there is another with a payload.
    request_messages: int = 0
    response_messages: int = 0
    answered_ns: int = 0
    ended_ns: int = 0  # Of the response.
    head: HeaderBlock | None = None  # Of the response of a plain one.
    trailers: HeaderBlock | None = None
    # From here on nothing is set while it is plain.
    answer: StreamResponse | None = None
    status_code: int = 0
    grpc_status: int | None = None
    has_unknown_fields: bool = False  # Of its response.
    is_inferred: bool = False
    is_doubtful: bool = False  # Its status is not known, or how it ended.
    is_reported: bool = False  # Early.
    is_late: bool = False  # A later stream was known when its response came, before its request: it may have ended.
    is_sample: bool | None = None  # Chosen by `StreamSamples`; None: not looked at yet.
    bodies: GatheredBodies | None = None  # Of a sample.
    uncopied: list[int] | None = None  # Bytes of DATA that were not copied, by side.
    counters: tuple[EnvelopeCounter, EnvelopeCounter] | tuple[WebSocketCounter, WebSocketCounter] | None = None

    def __repr__(self) -> str:
        return f"Stream({self.number}, {self.state.name}, redacted)"

    @property
    def is_lossy(self) -> bool:
        """Frames may be missing, or the status is not known."""
        return self.is_doubtful or self.was_lost(REQUEST) or self.was_lost(RESPONSE)

    def was_lost(self, side: int) -> bool:
        """Whether frames of a side may have been missed since it began."""
        return self.losses[side] != self.losses_before[side]

    def read_blocks(self) -> None:
        """Makes a plain stream a full one."""
        self.is_plain = False
        self.begin_counting()
        for side, messages in ((REQUEST, self.request_messages), (RESPONSE, self.response_messages)):
            self.note_uncopied(side, messages)
        for block in (self.head, self.trailers):
            if block is not None:
                self._apply_response(read_response(block), self.answered_ns)

    def begin_counting(self) -> None:
        """Messages are counted from here on, where its request shows that there are any."""
        assert self.request is not None
        request = read_request(self.request)
        self.uncopied = self.uncopied or [0, 0]
        if not isinstance(request, StreamRequest):
            return
        if request.rpc is not None and request.rpc.is_enveloped:
            self.counters = EnvelopeCounter(), EnvelopeCounter()
        elif request.protocol == b"websocket":
            self.counters = WebSocketCounter(), WebSocketCounter()

    def note_uncopied(self, side: int, messages: int) -> None:
        """So many messages of a side were not copied; UNCOUNTED: other DATA was not."""
        # How many bytes nobody needs to know: a body without its beginning is not read.
        assert self.uncopied is not None
        self.uncopied[side] += abs(messages)
        counter = self.counters[side] if self.counters is not None else None
        if messages > 0 and isinstance(counter, EnvelopeCounter):
            counter.pass_messages(messages)
        elif messages and counter is not None:
            counter.skip(1)  # Within no message: they are not counted from here on.

    def take_data(self, side: int, frame: Frame) -> None:
        """A part of the request's or the response's body."""
        payload = frame.payload
        if payload is None:
            self.pass_data(side, frame.wire_bytes, frame.payload_bytes, frame.is_message, frame.time_ns)
            return
        if self.is_plain:
            self.read_blocks()
        if side == REQUEST:
            self.request_bytes += frame.wire_bytes
        else:
            self.response_bytes += frame.wire_bytes
        self.last_ns = frame.time_ns or self.last_ns
        if payload and not (frame.is_sampled or self.is_sample):
            self._leave(side, len(payload))
        if self.counters is not None:
            self.counters[side].feed(payload)

    def pass_data(self, side: int, wire_bytes: int, size: int, is_message: bool, time_ns: int) -> None:
        """A part of a body that was not copied, of `size` bytes."""
        if self.is_plain:
            self.read_blocks()
        if side == REQUEST:
            self.request_bytes += wire_bytes
        else:
            self.response_bytes += wire_bytes
        self.last_ns = time_ns or self.last_ns
        if not size:
            return
        self._leave(side, size)
        if self.counters is None:
            return
        counter = self.counters[side]
        if is_message and isinstance(counter, EnvelopeCounter):
            counter.pass_messages(1)
        else:
            counter.skip(size)

    def _leave(self, side: int, size: int) -> None:
        """Bytes that are not kept."""
        self.uncopied = self.uncopied or [0, 0]
        self.uncopied[side] += size
        if self.bodies is not None:
            self.bodies.cut_side(side, size)

    def take_response(self, block: HeaderBlock, wire_bytes: int, time_ns: int) -> None:
        """A response's head, an interim one's, or trailers."""
        if self.is_plain:
            self.read_blocks()
        self.response_bytes += wire_bytes
        self.last_ns = time_ns
        self._apply_response(read_response(block), time_ns)

    def _apply_response(self, response: StreamResponse, time_ns: int) -> None:
        if response.grpc_status is not None:
            self.grpc_status = response.grpc_status
        if response.unknown_fields:
            self.has_unknown_fields = True
        if self.answer is not None and (self.status_code or not response.has_status):
            return
        status = response.status_code
        if not response.has_status and response.inferred_status_code:
            status, self.is_inferred = response.inferred_status_code, True
        if status in _INTERIM:
            return
        self.answered_ns, self.answer, self.status_code = time_ns, response, status
        if not status:  # Trailers whose head was lost, or a status that is not known.
            self.is_doubtful = True

    def make_call(self, *, ended_ns: int, is_aborted: bool = False, is_request_whole: bool = False) -> StreamCall:
        """The call; `ended_ns` is 0 where it goes on."""
        if self.is_plain:
            self.read_blocks()
        assert self.request is not None
        is_final = ended_ns != 0
        request, rpc, answer = read_request(self.request), None, self.answer
        content_type = answer.content_type if answer is not None else ""
        has_unknown_fields, is_inferred = self.has_unknown_fields, self.is_inferred
        if isinstance(request, StreamRequest):
            has_unknown_fields |= request.unknown_fields > 0
            is_inferred |= request.is_inferred
            rpc = request.rpc
            if rpc is None and (self.grpc_status is not None or content_type in GRPC_TYPES):
                rpc = name_grpc(request.head)
        grpc_status = self.grpc_status
        counter = self.counters[RESPONSE] if self.counters is not None else None
        if grpc_status is None and isinstance(counter, EnvelopeCounter) and not self.was_lost(RESPONSE):
            grpc_status = counter.status
        sent = self._count_messages(REQUEST, self.request_messages)
        received = self._count_messages(RESPONSE, self.response_messages)
        is_lossy, bodies = self.is_lossy, None
        if is_final and self.bodies is not None:
            bodies = self.bodies.make_bodies(
                is_request_whole=is_request_whole,
                is_response_whole=not is_aborted and not is_lossy,
                coding=answer.content_coding if answer is not None else b"",
                response_bytes=self.response_bytes,
            )
        calls = 0 if self.is_reported else 1
        self.is_reported = True
        return StreamCall(
            self.number,
            request,
            self.status_code,
            content_type,
            rpc,
            grpc_status,
            infer_streaming(sent, received) if rpc is not None else StreamingKind.UNKNOWN,
            sent,
            received,
            self.request_bytes if is_final else 0,
            self.response_bytes if is_final else 0,
            self.started_ns,
            self.answered_ns,
            ended_ns,
            calls,
            is_final,
            is_aborted,
            is_lossy,
            has_unknown_fields,
            is_inferred,
            None,
            bodies,
        )

    def _count_messages(self, side: int, messages: int) -> int | None:
        if self.counters is None or messages == UNCOUNTED or self.was_lost(side):
            return None
        return self.counters[side].messages


_Key = tuple[int, int, int, int, int]


def _make_key(stream: Stream) -> _Key:
    """All that a plain call depends on but for times and sizes."""
    return (
        id(stream.request),
        id(stream.head),
        id(stream.trailers),
        stream.request_messages,
        stream.response_messages,
    )


class OpenStreams:
    """Mutable state of one connection."""

    __slots__ = (
        "_gathered_bytes",
        "_is_doubtful",
        "_patterns",
        "counts",
        "cut_ns",
        "early",
        "loss_counts",
        "losses",
        "lost",
        "max_stream",
        "reach",
        "resetting",
        "streams",
    )

    def __init__(self, counts: Http2Counts) -> None:
        self.streams: dict[int, Stream] = {}  # The oldest, lowest first.
        self.early: dict[int, Stream] = {}  # In the IDLE states; the oldest first.
        self.max_stream = 0
        self.reach = 0  # Streams this far below `max_stream` may still come: the kernel follows some by itself.
        self.resetting: dict[int, int] = {}  # Streams that were reset, and the side whose DATA may wait in the kernel.
        self.loss_counts = [0, 0]  # Of requests and responses, for streams to look at.
        self.losses = 0, 0  # The same; another object after each.
        self.cut_ns = -RESET_PATIENCE_NS  # When a call ended last whose request or response was not whole.
        self.counts = counts
        self.lost = 0  # Streams whose requests are counted elsewhere as lost, and whose answers were not met yet.
        self._is_doubtful = False
        self._patterns: dict[_Key, CallPattern] = {}
        self._gathered_bytes = 0  # Of bodies.

    @property
    def held_bytes(self) -> int:
        """About what it holds."""
        open_bytes = (len(self.streams) + len(self.early)) * STREAM_BYTES
        return open_bytes + len(self._patterns) * PATTERN_BYTES + self._gathered_bytes

    @property
    def patterns(self) -> Iterable[CallPattern]:
        """Kinds of calls that were met."""
        return self._patterns.values()

    def list_requests(self) -> list[StreamRequest | Malformed]:
        """Requests of the open streams, the oldest first."""
        blocks = [stream.request for stream in self.streams.values()]
        return [read_request(block) for block in blocks if block is not None]

    def find_any(self, number: int) -> Stream | None:
        """An open stream, or one that was answered before its request was read."""
        return self.streams.get(number) or self.early.get(number)

    def find_early(self, number: int) -> Stream | None:
        """A stream whose request was not read yet; None where it was, or none is to come."""
        if not number & 1:
            self.counts.pushed_blocks += 1
            return None
        if number <= self.max_stream - self.reach:
            self.counts.orphan_responses += 1
            return None
        stream = self.early.get(number)
        if stream is None:
            if len(self.early) >= MAX_EARLY:
                self._drop_early(next(iter(self.early)))
            stream = self.early[number] = Stream(number, None, _IDLE, 0, 0, self.loss_counts, self.losses)
            stream.is_late = number <= self.max_stream
        return stream

    def open_stream(
        self,
        number: int,
        request: HeaderBlock,
        time_ns: int,
        calls: list[StreamCall],
        *,
        wire_bytes: int,
        is_ended: bool,
    ) -> Stream:
        """A new one; the oldest goes where there are too many. `is_ended`: the request is its head alone."""
        self.max_stream = number
        self._make_room(calls)
        early = self.early.pop(number, None)
        state = _REQUEST_ENDED if is_ended else _OPEN
        stream = early or Stream(number, request, state, time_ns, time_ns, self.loss_counts, self.losses)
        stream.request = request
        stream.begin_counting()
        stream.request_bytes = wire_bytes
        self.streams[number] = stream
        if self.early:  # Streams are opened in order, so those before this one never will be.
            self._drop_early(*[one for one in self.early if one < number - self.reach])
        if early is not None:
            early.started_ns, early.last_ns = time_ns, max(early.last_ns, time_ns)
            if early.response_bytes:  # Some messages have gone by uncounted.
                early.response_messages = UNCOUNTED
            self.advance(early, _REQUEST_HEAD, time_ns, calls)
            if is_ended and early.state is not _CLOSED:
                self.advance(early, _REQUEST_END, time_ns, calls)
        return stream

    def advance(self, stream: Stream, event: StreamInput, time_ns: int, calls: list[StreamCall]) -> None:
        """Puts a stream into its next state, and appends its call if that ended it."""
        state = stream.state
        following = NEXT_STATES[state][event]
        if following is None:
            self.counts.illegal_inputs += 1
            return
        stream.state = following
        if event >= _RESPONSE_END and not stream.ended_ns:
            stream.ended_ns = time_ns
        if following is _IDLE_RESET:
            self.cut_ns = max(self.cut_ns, time_ns)
        elif following is _CLOSED:
            is_whole = state is _RESPONSE_ENDED or (state is _REQUEST_ENDED and event is _RESPONSE_END)
            is_request_whole = event is _REQUEST_END or state is _REQUEST_ENDED or state is _CANCELLED
            if not is_whole or not is_request_whole:
                self.cut_ns = max(self.cut_ns, time_ns)
            del self.streams[stream.number]
            self.resetting.pop(stream.number, None)
            self.counts.told += not stream.is_reported
            calls.append(
                stream.make_call(ended_ns=stream.ended_ns, is_aborted=not is_whole, is_request_whole=is_request_whole)
            )
            if stream.bodies is not None:
                self._gathered_bytes -= len(stream.bodies)

    def end_side(self, stream: Stream, side: int, time_ns: int, calls: list[StreamCall]) -> None:
        """END_STREAM of one side."""
        self.advance(stream, _REQUEST_END if side == REQUEST else _RESPONSE_END, time_ns, calls)

    def reset_stream(self, stream: Stream, side: int, time_ns: int, calls: list[StreamCall], *, is_cut: bool) -> None:
        """RST_STREAM of one side. Where the kernel cuts the frames (`is_cut`), it reports DATA with what comes after it
        in its direction. So the other side may have sent some that was not read yet, and the call ends after it."""
        is_last = not is_cut or (side == REQUEST and not stream.answered_ns)
        self.advance(stream, _CLOSE if is_last else _RESETS[side], time_ns, calls)
        if stream.number in self.streams:
            self.resetting.setdefault(stream.number, 1 - side)

    def settle_side(self, side: int, calls: list[StreamCall]) -> None:
        """All that a side sent up to some place was read, and with it what it sent before a reset."""
        for number in [number for number, waiting in self.resetting.items() if waiting == side]:
            self._close_stream(number, 0, calls)

    def gather_payload(self, stream: Stream, side: int, payload: bytes) -> int:
        """Keeps DATA of a sample, which was taken; returns how many bytes were kept."""
        if stream.request is None:
            return 0  # Its response came first, around a hole: no sample.
        if stream.bodies is None:
            stream.bodies = GatheredBodies()
            for passed, size in enumerate(stream.uncopied or ()):
                if size:
                    stream.bodies.cut_side(passed, size)
        kept = stream.bodies.add_payload(side, payload, CONNECTION_BYTES_MAX - self._gathered_bytes)
        self._gathered_bytes += kept
        return kept

    def close_above(self, last: int, time_ns: int, calls: list[StreamCall]) -> None:
        """The server handles none of those above `last`."""
        newest_first = itertools.takewhile(lambda number: number > last, reversed(self.streams))
        for number in reversed(list(newest_first)):
            self._close_stream(number, time_ns, calls)

    def note_loss(self, sides: tuple[int, ...]) -> None:
        """Frames of these sides may have been missed."""
        self._is_doubtful = bool(self.streams)
        for side in sides:
            self.loss_counts[side] += 1
        self.losses = self.loss_counts[REQUEST], self.loss_counts[RESPONSE]

    def poll(self, now_ns: int, early_after_ns: int, calls: list[StreamCall]) -> None:
        """Appends the early halves of calls whose response has lasted for so long, and gives up doubtful ones."""
        for stream in list(self.streams.values()):
            is_waiting = stream.answered_ns and stream.number in self.resetting
            if stream.ended_ns and now_ns - stream.ended_ns >= (RESET_PATIENCE_NS if is_waiting else early_after_ns):
                self.advance(stream, _CLOSE, now_ns, calls)
            elif self._is_doubtful and stream.is_lossy and now_ns - stream.last_ns >= DOUBTFUL_SILENCE_NS:
                self._give_up(stream.number, calls)
            elif stream.answered_ns and not stream.is_reported and now_ns - stream.answered_ns >= early_after_ns:
                self.counts.told += 1
                calls.append(stream.make_call(ended_ns=0))

    def close(self, time_ns: int, calls: list[StreamCall]) -> None:
        """The connection ended (0: when each stream was last heard of), and with it all that is open."""
        for number in list(self.streams):
            self._close_stream(number, time_ns, calls)
        self._drop_early(*self.early)

    def adopt_stream(self, stream: Stream, calls: list[StreamCall]) -> None:
        """A plain one that was read elsewhere up to here; its request may be older than others that are open."""
        number, max_stream = stream.number, max(self.max_stream, stream.number)
        stream.losses, stream.losses_before = self.loss_counts, self.losses
        if number in self.early:  # Its answer was read first.
            assert stream.request is not None
            early = self.open_stream(
                number, stream.request, stream.started_ns, calls, wire_bytes=stream.request_bytes, is_ended=False
            )
            early.response_bytes += stream.response_bytes
            early.note_uncopied(REQUEST, stream.request_messages)
            early.note_uncopied(RESPONSE, stream.response_messages)
            early.last_ns = max(early.last_ns, stream.last_ns)
            if stream.state is _REQUEST_ENDED and early.state is not _CLOSED:
                self.advance(early, _REQUEST_END, stream.last_ns, calls)
        else:
            self._make_room(calls)
            self.streams[number] = stream
        if number < max_stream:
            self.streams = dict(sorted(self.streams.items()))
        self.max_stream = max_stream

    def end_plain(self, stream: Stream, time_ns: int, calls: list[StreamCall], alike: AlikeCalls | None = None) -> None:
        """The response of a plain stream is whole. Its figures go to `alike` if its pattern is numbered there, else its
        call is appended to `calls`."""
        if stream.state is not _REQUEST_ENDED or stream.head is None or stream.losses_before is not self.losses:
            self.advance(stream, _RESPONSE_END, time_ns, calls)
            return
        pattern = self._patterns.get(_make_key(stream))
        if pattern is None:
            self._add_pattern(stream, time_ns, calls)
            return
        del self.streams[stream.number]
        self.counts.told += 1
        if alike is not None and pattern.turn == alike.turn:
            alike.figures += (
                pattern.place,
                stream.started_ns,
                stream.answered_ns,
                time_ns,
                stream.request_bytes,
                stream.response_bytes,
            )
        else:
            calls.append(
                pattern.make_call(
                    stream.number,
                    stream.started_ns,
                    stream.answered_ns,
                    time_ns,
                    stream.request_bytes,
                    stream.response_bytes,
                )
            )

    def end_matched(self, stream: Stream, time_ns: int, calls: list[StreamCall]) -> None:
        """Appends the call of a plain stream that was read elsewhere, and counted, up to its end."""
        stream.losses, stream.losses_before = self.loss_counts, self.losses
        self.streams[stream.number] = stream
        self.counts.told -= 1
        self.end_plain(stream, time_ns, calls)

    def _add_pattern(self, stream: Stream, time_ns: int, calls: list[StreamCall]) -> None:
        """Ends the first of its kind and appends its call."""
        key, blocks = _make_key(stream), (stream.request, stream.head, stream.trailers)
        self.advance(stream, _RESPONSE_END, time_ns, calls)
        call = calls.pop()
        if not call.is_lossy:
            pattern = CallPattern(call, blocks)
            if len(self._patterns) >= MAX_PATTERNS:
                self._patterns.clear()
            self._patterns[key] = pattern
            call = msgspec.structs.replace(call, pattern=pattern)
        calls.append(call)

    def _make_room(self, calls: list[StreamCall]) -> None:
        if len(self.streams) >= MAX_STREAMS:
            self._give_up(next(iter(self.streams)), calls)

    def _drop_early(self, *numbers: int) -> None:
        """These were answered, and what was asked will not be known; or they had ended before."""
        self.counts.orphan_responses += len(numbers)
        missed = sum(not self.early.pop(number).is_late for number in numbers)
        counted = min(missed, self.lost)
        self.lost -= counted
        self.counts.unasked += missed - counted

    def _close_stream(self, number: int, time_ns: int, calls: list[StreamCall]) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self.advance(stream, _CLOSE, time_ns or stream.last_ns, calls)

    def _give_up(self, number: int, calls: list[StreamCall]) -> None:
        stream = self.streams[number]
        self.counts.given_up += 1
        stream.is_doubtful = True
        self.advance(stream, _CLOSE, stream.last_ns, calls)
