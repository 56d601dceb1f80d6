"""One stream of HTTP/2 as a call: what is gathered while it is open, and the call that it gives when it ends.

`GatheredBodies` holds the beginnings of both bodies of a sampled stream, without frames and padding. They are bounded
by side and by connection. Bytes that were not copied or found no room end their side, and what came before stays.
Bodies are never logged or exported.
"""

from typing import Any, Final

import msgspec

from sensor.http.grpc import GRPC_TYPES, EnvelopeCounter, Rpc, StreamingKind, infer_streaming, name_grpc
from sensor.http.http1.events import BodyRoom
from sensor.http.http1.head import Malformed
from sensor.http.http2.frames import HEADER_BYTES, Frame
from sensor.http.http2.heads import StreamRequest, StreamResponse
from sensor.http.websocket import WebSocketCounter

# bpf/http2_data.h, STREAM_COPY.
BODY_BYTES_MAX: Final = 65_536
# Of all open streams of a connection.
CONNECTION_BYTES_MAX: Final = 512 << 10
# As the kernel chooses streams (bpf/http2_data.h): the first ones of a connection, then one a second.
FIRST_STREAMS: Final = 20
_SECOND_NS: Final = 1_000_000_000


class StreamSamples:
    """Chooses the streams of a connection whose bodies are kept, where the kernel does not. Mutable."""

    __slots__ = ("_count", "_first_count", "_next_ns", "budget")

    def __init__(self, budget: BodyRoom, first_count: int = FIRST_STREAMS) -> None:
        """`first_count` streams are kept before one a second is."""
        self.budget = budget
        self._first_count = first_count
        self._count = 0
        self._next_ns = 0

    def choose(self, time_ns: int) -> bool:
        """Whether a stream whose first DATA came now is one."""
        if self._count >= self._first_count and time_ns < self._next_ns:
            return False
        if not self.budget.may_begin():
            return False
        self._count += 1
        self._next_ns = time_ns + _SECOND_NS
        return True


class StreamBodies(msgspec.Struct, frozen=True, gc=False):
    """Beginnings of both bodies of a call. Private to the node; ends in `sensor.describe.bodies`."""

    request: bytes
    response: bytes
    is_request_whole: bool
    is_response_whole: bool
    response_coding: bytes  # `content-encoding`.
    head_bytes: int  # Of the response, all that is no payload of DATA.

    def __repr__(self) -> str:
        return f"StreamBodies({len(self.request)} and {len(self.response)} bytes, redacted)"


class GatheredBodies:
    """Mutable state of one open stream."""

    __slots__ = ("_data", "_is_cut", "response_data")

    def __init__(self) -> None:
        self._data = bytearray(), bytearray()
        self._is_cut = [False, False]
        self.response_data = 0  # Bytes of the response's body, copied or not.

    def __len__(self) -> int:
        return len(self._data[0]) + len(self._data[1])

    def add(self, side: int, payload: bytes, room: int) -> int:
        """What comes next of a side; gives how many bytes were kept, none where they are more than there is room."""
        data = self._data[side]
        self.response_data += side * len(payload)
        if self._is_cut[side] or len(payload) > room or len(data) + len(payload) > BODY_BYTES_MAX:
            self._is_cut[side] = True
            return 0
        data += payload
        return len(payload)

    def cut(self, side: int, size: int) -> None:
        """So many bytes of a side did not come."""
        self._is_cut[side] = True
        self.response_data += side * size

    def tell(
        self, *, is_request_whole: bool, is_response_whole: bool, coding: bytes, response_bytes: int
    ) -> StreamBodies:
        """What came; the flags say whether the sides ended as they should, `response_bytes` is all of the response."""
        request, response = self._data
        asked, answered = self._is_cut
        return StreamBodies(
            bytes(request),
            bytes(response),
            is_request_whole and not asked,
            is_response_whole and not answered,
            coding,
            response_bytes - self.response_data,
        )


REQUEST: Final = 0
RESPONSE: Final = 1
_INTERIM = range(100, 200)  # RFC 9110, section 15.2.


class StreamCall(msgspec.Struct, frozen=True, gc=False):
    """One call, or the closing part of one that was told early. Private to the node: holds a head."""

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
    calls: int  # 1; 0 in the closing part of a call already told.
    is_final: bool
    is_aborted: bool  # Reset, or closed before the response was complete.
    is_lossy: bool  # Frames may be missing, or the status is not known.
    has_unknown_fields: bool  # Of a head: a credential may be among them, or what the answer was.
    is_inferred: bool  # Path, method or status follow from the place of a field whose name is not known.
    pattern: Any = None  # The CallPattern (http2_alike.py) of calls that are like it.
    bodies: StreamBodies | None = None  # Of a sample that is final.

    def __repr__(self) -> str:
        return f"StreamCall(stream={self.stream}, status_code={self.status_code}, heads redacted)"


class Stream:
    """What is known of one open stream."""

    __slots__ = (
        "_has_gone_by",
        "_is_lossy",
        "_losses",
        "_losses_before",
        "answered_ns",
        "bodies",
        "bytes",
        "content_coding",
        "content_type",
        "counters",
        "ended_ns",
        "grpc_status",
        "has_unknown_fields",
        "is_aborted",
        "is_inferred",
        "is_passed",
        "is_request_ended",
        "is_sample",
        "is_status_known",
        "is_told",
        "last_ns",
        "number",
        "request",
        "started_ns",
        "status_code",
        "uncopied",
    )

    def __init__(self, number: int, losses: list[int], losses_before: tuple[int, int] | None = None) -> None:
        """`losses` counts those of both sides so far, and goes on counting: a loss hits all that is open. Where it
        began some time ago, `losses_before` is what they were then."""
        self.number = number
        self._losses = losses
        self._losses_before = losses_before or (losses[REQUEST], losses[RESPONSE])
        self.request: StreamRequest | Malformed | None = None
        self.started_ns = self.last_ns = self.answered_ns = 0
        self.ended_ns = 0  # Of the response, while the request's end is not read yet.
        self.is_request_ended = False
        self.is_passed = False  # When its answer came, before its request, a later stream was known: it may have ended.
        self.status_code = 0
        self.is_status_known = False
        self.content_type, self.content_coding = "", b""
        self.bodies: GatheredBodies | None = None  # Of a sample.
        self.is_sample: bool | None = None  # Chosen by `StreamSamples`; None: not looked at yet.
        self.uncopied = [0, 0]  # Bytes of DATA that were not copied.
        self.grpc_status: int | None = None
        self.bytes = [0, 0]
        self.is_told = self.is_aborted = False
        self._is_lossy = self._has_gone_by = self.has_unknown_fields = self.is_inferred = False
        self.counters: tuple[EnvelopeCounter, EnvelopeCounter] | tuple[WebSocketCounter, WebSocketCounter] | None = None

    def begin(self, request: StreamRequest | Malformed, started_ns: int) -> None:
        """Its request's head."""
        self.request = request
        self.started_ns = started_ns
        self.last_ns = max(self.last_ns, started_ns)
        if not isinstance(request, StreamRequest):
            return
        self.has_unknown_fields = self.has_unknown_fields or bool(request.unknown_fields)
        self.is_inferred = self.is_inferred or request.is_inferred
        if request.rpc is not None and request.rpc.is_enveloped:
            self.counters = EnvelopeCounter(), EnvelopeCounter()
        elif request.protocol == b"websocket":
            self.counters = WebSocketCounter(), WebSocketCounter()
        self._has_gone_by = bool(self.bytes[RESPONSE])  # Some messages, uncounted.

    def take_data(self, side: int, frame: Frame) -> None:
        """A part of the request's or the response's body."""
        self.bytes[side] += frame.wire_bytes
        if frame.time_ns:
            self.last_ns = frame.time_ns
        if frame.payload is None:
            self._skip(side, frame.payload_bytes, frame.is_message)
            return
        if not (frame.is_sampled or self.is_sample):
            self._leave(side, len(frame.payload))
        if self.counters is not None:
            self.counters[side].feed(frame.payload)

    def pass_data(self, side: int, wire_bytes: int, time_ns: int, is_message: bool) -> None:
        """A part of a body that was not copied."""
        self.bytes[side] += wire_bytes
        self.last_ns = time_ns
        if wire_bytes > HEADER_BYTES:
            self._skip(side, wire_bytes - HEADER_BYTES, is_message)

    def _skip(self, side: int, size: int, is_message: bool) -> None:
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
        self.uncopied[side] += size
        if self.bodies is not None and size:
            self.bodies.cut(side, size)

    def take_response(self, response: StreamResponse, time_ns: int) -> None:
        """A response's head, an interim one's, or trailers."""
        self.last_ns = time_ns
        if response.grpc_status is not None:
            self.grpc_status = response.grpc_status
        if not self.answered_ns or (response.has_status and not self.is_status_known):
            self._take_head(response, time_ns)
        if response.unknown_fields:
            self.has_unknown_fields = True

    def _take_head(self, response: StreamResponse, time_ns: int) -> None:
        status = response.status_code
        if not response.has_status and response.inferred_status_code:
            status, self.is_inferred = response.inferred_status_code, True
        if status in _INTERIM:
            return
        self.answered_ns = time_ns
        self.status_code, self.is_status_known = status, status != 0
        self.content_type, self.content_coding = response.content_type, response.content_coding
        if not status:  # Trailers whose head was lost, or a status that is not known.
            self._is_lossy = True

    @property
    def is_lossy(self) -> bool:
        """Frames may be missing, or the status is not known."""
        return self._is_lossy or self._was_lost(REQUEST) or self._was_lost(RESPONSE)

    def give_up(self) -> None:
        """Nobody knows how it ended."""
        self._is_lossy = True

    def _was_lost(self, side: int) -> bool:
        return self._losses[side] != self._losses_before[side]

    def tell(self, *, ended_ns: int, is_aborted: bool) -> StreamCall:
        """The call; `ended_ns` is 0 where it goes on."""
        is_final = ended_ns != 0
        request, rpc = self.request, None
        assert request is not None
        if isinstance(request, StreamRequest):
            rpc = request.rpc
            if rpc is None and (self.grpc_status is not None or self.content_type in GRPC_TYPES):
                rpc = name_grpc(request.head)
        grpc_status = self.grpc_status
        counter = self.counters[RESPONSE] if self.counters is not None else None
        if grpc_status is None and isinstance(counter, EnvelopeCounter) and not self._was_lost(RESPONSE):
            grpc_status = counter.status
        sent, received = self._count_messages(REQUEST), self._count_messages(RESPONSE)
        calls = 0 if self.is_told else 1
        self.is_told = True
        return StreamCall(
            self.number,
            request,
            self.status_code,
            self.content_type,
            rpc,
            grpc_status,
            infer_streaming(sent, received) if rpc is not None else StreamingKind.UNKNOWN,
            sent,
            received,
            self.bytes[REQUEST] if is_final else 0,
            self.bytes[RESPONSE] if is_final else 0,
            self.started_ns,
            self.answered_ns,
            ended_ns,
            calls,
            is_final,
            is_aborted,
            self.is_lossy,
            self.has_unknown_fields,
            self.is_inferred,
            None,
            self._tell_bodies() if is_final and self.bodies is not None else None,
        )

    def _tell_bodies(self) -> StreamBodies:
        assert self.bodies is not None
        is_whole = bool(self.ended_ns) and not self.is_aborted and not self.is_lossy
        return self.bodies.tell(
            is_request_whole=self.is_request_ended,
            is_response_whole=is_whole,
            coding=self.content_coding,
            response_bytes=self.bytes[RESPONSE],
        )

    def _count_messages(self, side: int) -> int | None:
        if self.counters is None or self._was_lost(side) or (side == RESPONSE and self._has_gone_by):
            return None
        return self.counters[side].messages
