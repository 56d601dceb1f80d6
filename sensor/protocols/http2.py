"""One HTTP/2 connection (RFC 9113): what both directions bring in, its streams as calls out.

Sans-io and never an exception on bytes. Both directions are read by their own `FrameReader`; header blocks are put
together and decoded in the order of their direction, whatever becomes of them, since each changes the table. A client's
new stream is a call; it ends when both sides have said END_STREAM, with RST_STREAM, with a GOAWAY that disowns it, or
with the connection; after a whole response the rest of a request is waited for only so long. Pushed streams are decoded
and not told: nobody asked for them.

The directions are read apart and one may wait for a hole: then a response comes before its request, and waits for it.

What is missing. A gap inside DATA costs nothing. Any other makes the table of that direction unknown (entries after it
are exact again, see `sensor.protocols.hpack.decoder`) and the open streams lossy; whether they ended meanwhile is not
known, so those that stay silent are given up. The same happens to a connection that was joined late.
"""

import itertools
import struct
from typing import Final

import msgspec

from sensor.protocols.hpack.decoder import HpackDecoder
from sensor.protocols.hpack.field import HeaderBlock, Placeholder
from sensor.protocols.hpack.huffman import HuffmanStrings
from sensor.protocols.http1 import Malformed, RequestHead
from sensor.protocols.http2_calls import REQUEST, RESPONSE, Stream, StreamCall
from sensor.protocols.http2_counts import Http2Counts
from sensor.protocols.http2_frames import (
    HEADER_BYTES,
    PASSED_OVER,
    Frame,
    FrameFlag,
    FrameKind,
    Setting,
    read_fragment,
    read_goaway,
    read_settings,
)
from sensor.protocols.http2_heads import StreamRequest, is_request, read_request, read_response
from sensor.protocols.http2_reader import MAX_PAYLOAD_BYTES, FrameEvent, FrameReader, Lost
from sensor.reassembly.connection import Direction
from sensor.reassembly.stream import Chunk, Gap

# Open at once; servers allow 100 to 250 as a rule, some any number. The oldest is given up.
MAX_STREAMS: Final = 4_096
# A header block with its continuations; longer ones are not decoded and their table is lost.
MAX_BLOCK_BYTES: Final = MAX_PAYLOAD_BYTES
# Streams that a loss left in doubt and that were silent for so long are given up.
DOUBTFUL_SILENCE_NS: Final = 60_000_000_000
# Responses that were read before their requests: the directions are read apart, and one may wait for a hole.
MAX_EARLY: Final = 256
STREAM_BYTES: Final = 1_024  # What an open one is taken to hold: its head and counters.

_END_STREAM, _END_HEADERS = int(FrameFlag.END_STREAM), int(FrameFlag.END_HEADERS)
_DATA, _HEADERS = int(FrameKind.DATA), int(FrameKind.HEADERS)
_FORM: Final = int(FrameFlag.END_HEADERS | FrameFlag.PADDED | FrameFlag.PRIORITY)  # Of HEADERS.
_HEADER: Final = struct.Struct(">HBBBI").unpack_from  # Of a frame: its length in two parts, kind, flags, stream.
_NO_FRAGMENTS: Final = bytearray()
_CONTINUATION, _PUSH = int(FrameKind.CONTINUATION), int(FrameKind.PUSH_PROMISE)


class _Part(msgspec.Struct):
    """A header block that goes on; what it has in common with a frame has the same names."""

    stream: int
    kind: int
    flags: int  # Of its first frame.
    fragments: bytearray
    wire_bytes: int
    time_ns: int  # Of its first frame.

    def __repr__(self) -> str:
        return f"_Part(stream={self.stream}, redacted)"


_Block = Frame | _Part


class Http2Connection:
    """Mutable state of one connection. `strings` may serve all of a sensor."""

    __slots__ = (
        "_client",
        "_decoders",
        "_early",
        "_events",
        "_is_complete",
        "_is_doubtful",
        "_is_lost",
        "_losses",
        "_max_stream",
        "_parts",
        "_readers",
        "_streams",
        "_strings",
        "counts",
    )

    def __init__(self, strings: HuffmanStrings, *, is_joined: bool, client: Direction | None = None) -> None:
        """`is_joined`: the first bytes of the connection were missed; a client's preface corrects that.

        `client` is the direction in which the client sends; where it is None it is found out.
        """
        self._strings = strings
        self._client = client
        self._is_complete = [not is_joined, not is_joined]  # No header block was missed.
        self._is_lost = [False, False]  # One may have been, by a loss.
        forward, backward = (
            FrameReader(is_client=None if client is None else client == direction, is_joined=is_joined)
            for direction in Direction
        )
        self._readers = forward, backward
        self._decoders: list[HpackDecoder | None] = [None, None]
        self._parts: list[_Part | None] = [None, None]
        self._streams: dict[int, Stream] = {}  # The oldest, lowest first.
        self._losses = [0, 0]  # Of requests and responses.
        self._early: dict[int, Stream] = {}  # All above `_max_stream`, the oldest first.
        self._max_stream = 0
        self._is_doubtful = False
        self._events: list[FrameEvent] = []
        self.counts = Http2Counts()

    @property
    def client(self) -> Direction | None:
        """The direction in which the client sends, once it is known."""
        return self._client

    @property
    def readers(self) -> tuple[FrameReader, FrameReader]:
        """Of the two directions, for their counts."""
        return self._readers

    @property
    def open_streams(self) -> int:
        """Calls that have not ended."""
        return len(self._streams)

    @property
    def held_bytes(self) -> int:
        """About what it holds of the connection; objects around it apart."""
        # Written out: it is asked for after each piece.
        forward, backward = self._readers
        total = (len(self._streams) + len(self._early)) * STREAM_BYTES + forward.held_bytes + backward.held_bytes
        for decoder in self._decoders:
            if decoder is not None:
                total += decoder.held_bytes
        for part in self._parts:
            if part is not None:
                total += len(part.fragments)
        return total

    def take(self, direction: Direction, piece: Chunk | Gap | Frame, calls: list[StreamCall]) -> None:
        """What comes next in one direction; appends the calls that it ended. Cost: docs/http2.md."""
        events = self._events
        self._readers[direction].take(piece, events)
        for event in events:
            if type(event) is Frame:
                self._take_frame(direction, event, calls)
            elif type(event) is Lost:
                self._lose(direction)
            elif self._client in (None, direction):
                self.begin(direction)
        events.clear()

    def take_frames(
        self, direction: Direction, frames: list[Frame], start: int, end: int, calls: list[StreamCall]
    ) -> None:
        """The same for frames that the kernel cut out of what lies from position `start` to `end`; it passed over all
        else there. Half of the cost of taking them one by one."""
        if self._readers[direction].follow(frames, start, end):
            for frame in frames:
                self._take_frame(direction, frame, calls)
            return
        for frame in frames:
            start = frame.position + frame.wire_bytes
            self.take(direction, frame, calls)
        if start < end:
            self.take(direction, Frame(start, end - start, 0, PASSED_OVER, 0, 0, None, 0), calls)

    def take_known(
        self, direction: Direction, data: bytes, start: int, end: int, time_ns: int, calls: list[StreamCall]
    ) -> tuple[int, int]:
        """Takes the frames at the beginning of `data` that need no reading: DATA, and header blocks that were met
        before and still mean the same. `data` is what the kernel cut out of the stream from position `start` to `end`.

        Gives how many bytes of it were taken, and the position behind them. A fifth of the cost of `take_frames`.
        """
        decoder = self._decoders[direction]
        reader = self._readers[direction]
        if decoder is None or self._client is None or self._parts[direction] is not None or not reader.is_at(start):
            return 0, start
        at, size, position, side = 0, len(data), start, int(direction != self._client)
        find_block, count, blocks = decoder.known.get, 0, 0
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, number = _HEADER(data, at)
            wire_bytes = HEADER_BYTES + (high << 8 | low)
            if kind == _DATA:
                stream = self._streams.get(number) or self._early.get(number)
                if stream is not None:
                    stream.pass_data(side, wire_bytes, time_ns)
                    if flags & _END_STREAM:
                        self._end_side(stream, side, time_ns, calls)
                at += HEADER_BYTES
            elif kind == _HEADERS and flags & _FORM == _END_HEADERS:
                block = find_block(data[at + HEADER_BYTES : at + wire_bytes])
                if block is None:
                    break
                blocks += 1
                part = _Part(number, kind, flags, _NO_FRAGMENTS, wire_bytes, time_ns)
                if side == REQUEST:
                    self._take_request(part, block, calls)
                else:
                    self._take_response(part, block, calls)
                at += wire_bytes
            else:
                break
            position += wire_bytes
            count += 1
        self.counts.blocks += blocks
        if at == size:
            position = end  # And what was passed over.
        reader.pass_frames(count, position)
        return at, position

    def _take_frame(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        if self._parts[direction] is not None and frame.kind != _CONTINUATION:
            self._lose(direction)  # Section 6.10: nothing may stand between.
            self.counts.cut_blocks += 1
        take = _HANDLERS.get(frame.kind)
        if take is not None:
            take(self, direction, frame, calls)

    def begin(self, client: Direction) -> None:
        """The client's preface was seen: a server sends no header block before it has it, so none was missed."""
        self._client = client
        self._is_complete = [not lost for lost in self._is_lost]

    def open_upgraded(self, head: RequestHead, *, started_ns: int, request_bytes: int) -> None:
        """Stream 1 of a connection that began as HTTP/1.1 (`Upgrade: h2c`, RFC 7540 section 3.2): its request is over.

        Call it before the first frame; what follows in both directions starts anew there.
        """
        stream = self._open(1, StreamRequest(head, None, b"", (), 0, False), started_ns, [])
        stream.bytes[REQUEST] = request_bytes
        stream.is_request_ended = True

    def poll(self, now_ns: int, early_after_ns: int, calls: list[StreamCall]) -> None:
        """Appends the early halves of calls whose response has lasted for so long, and gives up doubtful ones."""
        for stream in list(self._streams.values()):
            if stream.ended_ns and now_ns - stream.ended_ns >= early_after_ns:
                self._end(stream, now_ns, calls)
            elif self._is_doubtful and stream.is_lossy and now_ns - stream.last_ns >= DOUBTFUL_SILENCE_NS:
                self._give_up(stream, calls)
            elif stream.answered_ns and not stream.is_told and now_ns - stream.answered_ns >= early_after_ns:
                self.counts.told += 1
                calls.append(stream.tell(ended_ns=0, is_aborted=False))

    def close(self, time_ns: int, calls: list[StreamCall]) -> None:
        """The connection ended (0: when each stream was last heard of), and with it all that is open."""
        for stream in list(self._streams.values()):
            self._end(stream, time_ns or stream.last_ns, calls)
        self.counts.orphan_responses += len(self._early)
        self._early.clear()

    def _forget(self, direction: Direction) -> None:
        """A header block may have been missed."""
        self._is_complete[direction], self._is_lost[direction] = False, True
        self._parts[direction] = None
        decoder = self._decoders[direction]
        if decoder is not None:
            decoder.forget()

    def _lose(self, direction: Direction) -> None:
        """Frames may have been missed."""
        self.counts.losses += 1
        self._forget(direction)
        self._is_doubtful = bool(self._streams)
        for side in (REQUEST, RESPONSE) if self._client is None else (int(direction != self._client),):
            self._losses[side] += 1

    def _take_data(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        stream = self._streams.get(frame.stream) or self._early.get(frame.stream)
        if stream is None:
            return
        side = int(direction != self._client)
        stream.take_data(side, frame)
        if frame.flags & _END_STREAM:
            self._end_side(stream, side, frame.time_ns or stream.last_ns, calls)

    def _take_headers(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        """HEADERS or PUSH_PROMISE."""
        if frame.payload is None:
            self._drop_block(direction)
            return
        fragment = read_fragment(frame.kind, frame.flags, frame.payload)
        if frame.flags & _END_HEADERS:
            self._take_block(direction, frame, fragment, calls)
        else:
            self._parts[direction] = _Part(
                frame.stream, frame.kind, frame.flags, bytearray(fragment), frame.wire_bytes, frame.time_ns
            )

    def _take_continuation(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        part = self._parts[direction]
        if part is None or part.stream != frame.stream:
            # After a loss, the rest of a block that began before it.
            self._forget(direction)
            self.counts.cut_blocks += 1
            return
        if frame.payload is None or len(part.fragments) + len(frame.payload) > MAX_BLOCK_BYTES:
            self._drop_block(direction)
            return
        part.fragments += frame.payload
        part.wire_bytes += frame.wire_bytes
        if frame.flags & _END_HEADERS:
            self._parts[direction] = None
            self._take_block(direction, part, bytes(part.fragments), calls)

    def _drop_block(self, direction: Direction) -> None:
        """It is too long to be kept."""
        self.counts.blocks += 1
        self.counts.long_blocks += 1
        self._lose(direction)

    def _take_block(self, direction: Direction, part: _Block, data: bytes, calls: list[StreamCall]) -> None:
        self.counts.blocks += 1
        decoder = self._decoders[direction]
        if decoder is None:
            decoder = HpackDecoder(self._strings, is_complete=self._is_complete[direction])
            self._decoders[direction] = decoder
        block = decoder.decode(data)
        if block.error:
            self.counts.broken_blocks += 1
            self._lose(direction)
            return
        if part.kind == _PUSH:
            self.counts.pushed_blocks += 1
            return
        if self._client is None:
            verdict = is_request(block)
            if verdict is None:
                self.counts.undirected_blocks += 1
                return
            self._client = direction if verdict else Direction(1 - direction)
        if direction == self._client:
            self._take_request(part, block, calls)
        else:
            self._take_response(part, block, calls)

    def _take_request(self, part: _Block, block: HeaderBlock, calls: list[StreamCall]) -> None:
        stream = self._streams.get(part.stream)
        if stream is not None:  # Trailers.
            stream.bytes[REQUEST] += part.wire_bytes
            stream.last_ns = part.time_ns
            if part.flags & _END_STREAM:
                self._end_side(stream, REQUEST, part.time_ns, calls)
            return
        is_trailers = is_request(block) is None and not any(isinstance(name, Placeholder) for name, _ in block.fields)
        if part.stream <= self._max_stream or not part.stream & 1 or is_trailers:
            self.counts.late_requests += 1
            return
        self.counts.requests += 1
        stream = self._open(part.stream, read_request(block), part.time_ns, calls)
        stream.bytes[REQUEST] += part.wire_bytes
        if part.flags & _END_STREAM or stream.is_aborted:
            self._end_side(stream, REQUEST, part.time_ns, calls)

    def _open(
        self, number: int, request: StreamRequest | Malformed, started_ns: int, calls: list[StreamCall]
    ) -> Stream:
        self._max_stream = number
        for reader in self._readers:
            reader.max_stream = number
        if len(self._streams) >= MAX_STREAMS:
            self._give_up(next(iter(self._streams.values())), calls)
        stream = self._early.pop(number, None) or Stream(number, self._losses)
        stream.begin(request, started_ns)
        self._streams[number] = stream
        if self._early:  # Streams are opened in order, so those before this one never will be.
            for passed in [early for early in self._early if early < number]:
                del self._early[passed]
                self.counts.orphan_responses += 1
        return stream

    def _take_response(self, part: _Block, block: HeaderBlock, calls: list[StreamCall]) -> None:
        stream = self._streams.get(part.stream) or self._find_early(part.stream)
        if stream is None:
            return
        stream.bytes[RESPONSE] += part.wire_bytes
        stream.take_response(read_response(block), part.time_ns)
        if part.flags & _END_STREAM:
            self._end_side(stream, RESPONSE, part.time_ns, calls)

    def _find_early(self, number: int) -> Stream | None:
        """A stream whose request was not read yet; None where it was, or none is to come."""
        if not number & 1:
            self.counts.pushed_blocks += 1
            return None
        if number <= self._max_stream:
            self.counts.orphan_responses += 1
            return None
        stream = self._early.get(number)
        if stream is None:
            if len(self._early) >= MAX_EARLY:
                del self._early[next(iter(self._early))]
                self.counts.orphan_responses += 1
            stream = self._early[number] = Stream(number, self._losses)
        return stream

    def _take_reset(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None and direction != self._client and frame.stream > self._max_stream and frame.stream & 1:
            stream = self._find_early(frame.stream)
        if stream is not None:
            self._end(stream, frame.time_ns, calls)

    def _take_settings(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        """Of these only the size of frames is needed: what becomes of the table, its encoder says in the blocks."""
        other = self._readers[1 - direction]
        for identifier, value in read_settings(frame.payload or b""):
            if identifier == Setting.MAX_FRAME_SIZE:
                other.max_frame_bytes = max(other.max_frame_bytes, value)

    def _take_goaway(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        if direction == self._client or frame.payload is None:
            return
        last, _ = read_goaway(frame.payload)
        newest_first = itertools.takewhile(lambda number: number > last, reversed(self._streams))
        for number in reversed(list(newest_first)):
            self._end(self._streams[number], frame.time_ns, calls)

    def _give_up(self, stream: Stream, calls: list[StreamCall]) -> None:
        self.counts.given_up += 1
        stream.give_up()
        self._end(stream, stream.last_ns, calls)

    def _end_side(self, stream: Stream, side: int, time_ns: int, calls: list[StreamCall]) -> None:
        """END_STREAM of one side."""
        if side == RESPONSE:
            stream.ended_ns = stream.ended_ns or time_ns
        else:
            stream.is_request_ended = True
        if stream.ended_ns and stream.is_request_ended:
            self._end(stream, stream.ended_ns, calls)

    def _end(self, stream: Stream, time_ns: int, calls: list[StreamCall]) -> None:
        """Nothing more comes of it: aborted, unless its response was whole."""
        if not stream.ended_ns:
            stream.ended_ns, stream.is_aborted = time_ns, True
        if stream.request is None:  # It is told once its request is read.
            return
        del self._streams[stream.number]
        self.counts.told += not stream.is_told
        calls.append(stream.tell(ended_ns=stream.ended_ns, is_aborted=stream.is_aborted))


_HANDLERS: Final = {
    int(FrameKind.DATA): Http2Connection._take_data,
    int(FrameKind.HEADERS): Http2Connection._take_headers,
    int(FrameKind.RST_STREAM): Http2Connection._take_reset,
    int(FrameKind.SETTINGS): Http2Connection._take_settings,
    int(FrameKind.PUSH_PROMISE): Http2Connection._take_headers,
    int(FrameKind.GOAWAY): Http2Connection._take_goaway,
    int(FrameKind.CONTINUATION): Http2Connection._take_continuation,
}
