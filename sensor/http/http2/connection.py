"""One HTTP/2 connection (RFC 9113): frames and bytes of both directions in, its streams as calls out.

Sans-io, and bytes never raise an exception. Each direction has a `FrameReader`. Header blocks are joined from their
frames (section 4.3) and decoded in the order of their direction, whatever happens to them, since each changes the
table.

A new stream of the client is a call. It ends when both sides have sent END_STREAM, with RST_STREAM, with a GOAWAY that
disowns it, or with the connection. After a whole response the rest of a request is awaited for a limited time. Pushed
streams are decoded and not reported.

A gap inside DATA loses nothing else. Any other gap makes the header table of that direction unknown and the open
streams lossy. Later entries of the table are exact again (`sensor.http.hpack`). It is not known whether the open
streams ended meanwhile, so those that stay silent are given up. A connection that was joined late is in the same state.

`take_known` is the fast path for frames that the kernel cut (sensor/ebpf/bpf/http2_follow.h) and that need no reading:
DATA, and known header blocks that still mean the same. It stops at the first thing it does not know. Nearly every frame
of programs that repeat themselves goes through it, so it is written for speed.

A connection may also be matched in the kernel itself (sensor/ebpf/bpf/http2_match.h). `list_repeated` names the header
blocks that the kernel may know, `count_matched` and `adopt_waiting` apply what it reported.
"""

import struct
from typing import Annotated, Final, Protocol

import msgspec

from sensor.http.bodies import StreamSamples
from sensor.http.hpack import HeaderBlock, HpackDecoder, HpackTable, HuffmanStrings, Placeholder
from sensor.http.http1.head import Malformed, RequestHead
from sensor.http.http2.frames import (
    HEADER_BYTES,
    PASSED_OVER,
    Frame,
    FrameEvent,
    FrameFlag,
    FrameKind,
    Http2Counts,
    Lost,
    Setting,
    read_fragment,
    read_goaway,
    read_settings,
)
from sensor.http.http2.heads import StreamRequest, is_request, read_request, read_response
from sensor.http.http2.reader import MAX_PAYLOAD_BYTES, MAX_STREAM, FrameReader
from sensor.http.http2.states import StreamState
from sensor.http.http2.streams import (
    MAX_STREAMS,
    REQUEST,
    RESET_PATIENCE_NS,
    RESPONSE,
    UNCOUNTED,
    AlikeCalls,
    OpenStreams,
    Stream,
    StreamCall,
)
from sensor.http.reassembly import Chunk, Direction, Gap


class BlockPart(msgspec.Struct):
    """A header block that goes on; what it has in common with a frame has the same names."""

    stream: int
    kind: int
    flags: int  # Of its first frame.
    fragments: bytearray
    wire_bytes: int
    time_ns: int  # Of its first frame.

    def __repr__(self) -> str:
        return f"BlockPart(stream={self.stream}, redacted)"


class SavedTables(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Both header tables of a connection on which no call was open. A stream's number is higher than all before it, and
    each header block belongs to a stream. So where the first block that another reader sees is the request of the next
    stream, no block was sent in between, and the tables are as they were."""

    client: Direction
    last_stream: Annotated[int, msgspec.Meta(ge=1, le=MAX_STREAM)]
    tables: tuple[HpackTable, HpackTable]  # By direction.


class StreamObserver(Protocol):
    """`side` is `REQUEST` or `RESPONSE` of sensor.http.http2.streams."""

    def see_head(self, stream: int, side: int, block: HeaderBlock) -> None:
        """A head of a call that is open, interim ones and trailers too."""
        ...

    def see_data(self, stream: int, side: int, size: int) -> None:
        """So many bytes of a body, without frames and padding."""
        ...


# A header block with its continuations; longer ones are not decoded and their table is lost.
MAX_BLOCK_BYTES: Final = MAX_PAYLOAD_BYTES

_END_STREAM, _END_HEADERS = int(FrameFlag.END_STREAM), int(FrameFlag.END_HEADERS)
_FORM: Final = int(FrameFlag.END_HEADERS | FrameFlag.PADDED | FrameFlag.PRIORITY)  # Of HEADERS.
_HEADERS: Final = int(FrameKind.HEADERS)
_HEADER: Final = struct.Struct(">HBBBI").unpack_from  # Of a frame: its length in two parts, kind, flags, stream.
_STREAM: Final = (1 << 31) - 1
_MESSAGE: Final = 0x20  # FRAME_MESSAGE in bpf/events.h: DATA that is one message of gRPC.
_NOT_DATA: Final = ~_MESSAGE
_INTERIM_BELOW: Final = 200
_OPEN, _REQUEST_ENDED = StreamState.OPEN, StreamState.REQUEST_ENDED
_CONTINUATION, _PUSH = int(FrameKind.CONTINUATION), int(FrameKind.PUSH_PROMISE)
_Block = Frame | BlockPart
# What stands for a block that was not read; no decoder gives a placeholder of this epoch.
_UNREAD_FIELD: Final = Placeholder(-1, 0, False), Placeholder(-1, 0, True)

# (direction, its bytes, what they mean, whether it begins a request).
Repeated = tuple[Direction, bytes, HeaderBlock, bool]


class Http2Connection:
    """Mutable state of one connection. `strings` may serve all of a sensor."""

    __slots__ = (
        "_client",
        "_counted_from",
        "_decoders",
        "_events",
        "_is_complete",
        "_is_cut",
        "_is_lost",
        "_open",
        "_parts",
        "_passed_stream",
        "_readers",
        "_saved",
        "_strings",
        "counts",
        "observer",
        "samples",
    )

    def __init__(self, strings: HuffmanStrings, *, is_joined: bool, client: Direction | None = None) -> None:
        """`is_joined`: the first bytes of the connection were missed; a client's preface corrects that.

        `client` is the direction in which the client sends; where it is None it is found out.
        """
        self._strings = strings
        self._client = client
        self._is_complete = [not is_joined, not is_joined]  # No header block was missed.
        self._is_lost = [False, False]  # One may have been, by a loss.
        self._is_cut = False  # The kernel cuts frames out, and does not tell of each at once.
        self.counts = Http2Counts()
        forward, backward = (
            FrameReader(
                is_client=None if client is None else client == direction, is_joined=is_joined, counts=self.counts
            )
            for direction in Direction
        )
        self._readers = forward, backward
        self._decoders: list[HpackDecoder | None] = [None, None]
        self._parts: list[BlockPart | None] = [None, None]
        self._events: list[FrameEvent] = []
        self.samples: StreamSamples | None = None  # Where nobody chose before which bodies are kept.
        self.observer: StreamObserver | None = None  # Of what is read frame by frame, not of `take_known`.
        self._open = OpenStreams(self.counts)
        self._passed_stream = 0  # The highest that was read elsewhere.
        # All requests after this stream were seen; None where one before the first that was seen may be open.
        self._counted_from: int | None = None if is_joined else -1
        self._saved: SavedTables | None = None  # Of another reader, until the first block.

    @property
    def client(self) -> Direction | None:
        """The direction in which the client sends, once it is known."""
        return self._client

    @property
    def open_streams(self) -> int:
        """Calls that have not ended."""
        return len(self._open.streams)

    def list_requests(self) -> list[StreamRequest | Malformed]:
        """Requests of calls that have not ended, the oldest first."""
        return self._open.list_requests()

    @property
    def held_bytes(self) -> int:
        """About what it holds of the connection; objects around it apart."""
        # Written out: it is asked for after each piece.
        forward, backward = self._readers
        total = self._open.held_bytes + forward.held_bytes + backward.held_bytes
        for decoder in self._decoders:
            if decoder is not None:
                total += decoder.held_bytes
        for part in self._parts:
            if part is not None:
                total += len(part.fragments)
        return total

    def take_piece(self, direction: Direction, piece: Chunk | Gap | Frame, calls: list[StreamCall]) -> None:
        """What comes next in one direction; appends the calls that it ended. Cost: docs/internals/http2.md."""
        events = self._events
        self._readers[direction].read_piece(piece, events)
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
        self._is_cut = True
        if self._readers[direction].pass_cut_frames(frames, start, end):
            for frame in frames:
                self._take_frame(direction, frame, calls)
        else:
            for frame in frames:
                start = frame.position + frame.wire_bytes
                self.take_piece(direction, frame, calls)
            if start < end:
                self.take_piece(direction, Frame(start, end - start, 0, PASSED_OVER, 0, 0, None, 0), calls)
        self._open.settle_side(self._find_side(direction), calls)

    def take_known(
        self,
        direction: Direction,
        data: bytes,
        start: int,
        end: int,
        time_ns: int,
        calls: list[StreamCall],
        alike: AlikeCalls | None = None,
    ) -> tuple[int, int]:
        """Takes the frames at the beginning of `data` that need no reading. `data` is what the kernel cut out of the
        stream from position `start` to `end`. Calls whose patterns are numbered go to `alike`, others are appended to
        `calls`.

        Gives how many bytes of it were taken, and the position behind them. A tenth of the cost of `take_frames`.
        """
        decoder = self._decoders[direction]
        reader = self._readers[direction]
        if decoder is None or self._client is None or self._parts[direction] is not None or not reader.is_at(start):
            return 0, start
        if direction == self._client:
            taken, position = self._take_known_requests(decoder.known, data, start, time_ns, calls)
            self.raise_stream()
        else:
            taken, position = self._take_known_responses(decoder, data, start, time_ns, calls, alike)
        if taken == len(data):
            position = end  # And what was passed over.
            if self._open.resetting:
                self._open.settle_side(self._find_side(direction), calls)
        reader.pass_frames(position)
        return taken, position

    def _take_known_requests(
        self, known: dict[bytes, HeaderBlock], data: bytes, position: int, time_ns: int, calls: list[StreamCall]
    ) -> tuple[int, int]:
        open_ = self._open
        streams, size = open_.streams, len(data)
        at = requests = 0
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, number = _HEADER(data, at)
            length = high << 8 | low
            wire_bytes = HEADER_BYTES + length
            number &= _STREAM
            if not kind & _NOT_DATA:
                stream = streams.get(number)
                if stream is not None:
                    if stream.is_plain:
                        stream.request_bytes += wire_bytes
                        if length and stream.request_messages != UNCOUNTED:
                            stream.request_messages = stream.request_messages + 1 if kind else UNCOUNTED
                        stream.last_ns = time_ns
                    else:
                        stream.pass_data(REQUEST, wire_bytes, length, kind == _MESSAGE, time_ns)
                    if not flags & _END_STREAM:
                        pass
                    elif stream.state is _OPEN:  # As the table has it; nearly all are.
                        stream.state = _REQUEST_ENDED
                    else:
                        open_.end_side(stream, REQUEST, time_ns, calls)
                elif number in open_.early:
                    break
                at += HEADER_BYTES
            elif kind == _HEADERS and flags & _FORM == _END_HEADERS:
                block = known.get(data[at + HEADER_BYTES : at + wire_bytes])
                if block is None or not (_opens_call(block) if block.is_plain is None else block.is_plain):
                    break
                if number <= open_.max_stream or not number & 1 or open_.early or len(streams) >= MAX_STREAMS:
                    break
                state = _REQUEST_ENDED if flags & _END_STREAM else _OPEN
                streams[number] = Stream(
                    number, block, state, time_ns, time_ns, open_.loss_counts, open_.losses, True, wire_bytes
                )
                open_.max_stream = number
                requests += 1
                at += wire_bytes
            else:
                break
            position += wire_bytes
        self.counts.requests += requests
        self.counts.blocks += requests
        return at, position

    def _take_known_responses(
        self,
        decoder: HpackDecoder,
        data: bytes,
        position: int,
        time_ns: int,
        calls: list[StreamCall],
        alike: AlikeCalls | None,
    ) -> tuple[int, int]:
        open_ = self._open
        streams, size, known = open_.streams, len(data), decoder.known
        at = blocks = 0
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, number = _HEADER(data, at)
            length = high << 8 | low
            wire_bytes = HEADER_BYTES + length
            stream = streams.get(number & _STREAM)
            if not kind & _NOT_DATA:
                if stream is None:
                    if number & _STREAM in open_.early:
                        break
                elif stream.is_plain:
                    stream.response_bytes += wire_bytes
                    if length and stream.response_messages != UNCOUNTED:
                        stream.response_messages = stream.response_messages + 1 if kind else UNCOUNTED
                    stream.last_ns = time_ns
                else:
                    stream.pass_data(RESPONSE, wire_bytes, length, kind == _MESSAGE, time_ns)
                at += HEADER_BYTES
            elif kind == _HEADERS and flags & _FORM == _END_HEADERS:
                if stream is None:
                    break
                raw = data[at + HEADER_BYTES : at + wire_bytes]
                block = known.get(raw) or decoder.repeat(raw)
                if block is None:
                    break
                # What it adds to the table is there: whatever it says, it is taken.
                blocks += 1
                if not stream.is_plain or not _continues_plain(stream, block):
                    stream.take_response(block, wire_bytes, time_ns)
                else:
                    if stream.head is None:
                        stream.head, stream.answered_ns = block, time_ns
                    else:
                        stream.trailers = block
                    stream.response_bytes += wire_bytes
                    stream.last_ns = time_ns
                at += wire_bytes
            else:
                break
            position += wire_bytes
            if flags & _END_STREAM and stream is not None:
                if stream.is_plain:
                    open_.end_plain(stream, time_ns, calls, alike)
                else:
                    open_.end_side(stream, RESPONSE, time_ns, calls)
        self.counts.blocks += blocks
        return at, position

    @property
    def streams(self) -> OpenStreams:
        """Calls that have not ended, and patterns of those that have."""
        return self._open

    def list_repeated(self, most_bytes: int) -> list[Repeated]:
        """Header blocks, up to so long, that change no table and mean the same until another block does; of patterns
        whose blocks are all such."""
        found: dict[int, Repeated] = {}
        for direction, decoder in zip(Direction, self._decoders, strict=True):
            if decoder is None or self._client is None:
                return []
            is_client = direction == self._client
            for data, block in decoder.known.items():
                if len(data) <= most_bytes and (block.is_plain or not is_client):
                    found[id(block)] = direction, data, block, is_client
        patterns = [[block for block in pattern.blocks if block is not None] for pattern in self._open.patterns]
        whole = [blocks for blocks in patterns if all(id(block) in found for block in blocks)]
        return [found[number] for number in {id(block) for blocks in whole for block in blocks}]

    def count_matched(self, calls: int, blocks: int, stream: int) -> None:
        """So many calls of so many blocks each were reported elsewhere; `stream` is the highest of them."""
        self.counts.requests += calls
        self.counts.blocks += calls * blocks
        self.counts.told += calls
        self.raise_stream(stream)

    def adopt_waiting(self, stream: Stream, calls: list[StreamCall]) -> None:
        """A stream that was matched up to here and goes on by its frames; appends what had to end for room."""
        self.counts.requests += 1
        self.counts.blocks += 1 + (stream.head is not None) + (stream.trailers is not None)
        self._open.adopt_stream(stream, calls)
        self.raise_stream()

    def is_read_to(self, direction: Direction, position: int) -> bool:
        """Whether all blocks of a direction were decoded up to there, and no frame is open."""
        return self._parts[direction] is None and self._readers[direction].is_at(position)

    def raise_stream(self, stream: int = 0) -> None:
        """Streams up to this one were read, here or elsewhere."""
        self._passed_stream = max(self._passed_stream, stream, self._open.max_stream)
        forward, backward = self._readers
        forward.max_stream = backward.max_stream = self._passed_stream

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
        self._counted_from = -1
        self._is_complete = [not lost for lost in self._is_lost]

    def open_upgraded(self, head: RequestHead, calls: list[StreamCall], *, started_ns: int, request_bytes: int) -> None:
        """Stream 1 of a connection that began as HTTP/1.1 (`Upgrade: h2c`, RFC 7540 section 3.2): its request is over.

        Its response may have been read already. What follows in both directions starts anew behind the first frame.
        """
        block = HeaderBlock([], reading=StreamRequest(head, None, b"", (), 0, False))
        self._open.open_stream(1, block, started_ns, calls, wire_bytes=request_bytes, is_ended=True)
        self.raise_stream()

    def poll(self, now_ns: int, early_after_ns: int, calls: list[StreamCall]) -> None:
        """Appends the early halves of calls whose response has lasted for so long, and gives up doubtful ones."""
        self._open.poll(now_ns, early_after_ns, calls)

    def note_loss(self) -> None:
        """Nobody knows what came of the calls that are open."""
        self._open.note_loss((REQUEST, RESPONSE))

    def close(self, time_ns: int, calls: list[StreamCall]) -> None:
        """The connection ended (0: when each stream was last heard of), and with it all that is open."""
        self._open.close(time_ns, calls)
        self.counts.unfit_tables += self._saved is not None

    def save(self, now_ns: int) -> SavedTables | None:
        """Both tables for another reader; None where a block may be under way that it would not miss: of a stream that
        is open, that nobody saw, or that was cut within the last minute."""
        if self._saved is not None:
            return self._saved  # No block was seen yet.
        self.raise_stream()
        forward, backward = self._decoders
        open_, last = self._open, self._passed_stream
        is_seen = self._counted_from is not None and 2 * self.counts.requests == last - self._counted_from
        is_open = open_.streams or open_.early or self.counts.given_up or now_ns - open_.cut_ns < RESET_PATIENCE_NS
        if not is_seen or is_open or forward is None or backward is None or self._client is None:
            return None
        return SavedTables(self._client, last, (forward.save(), backward.save()))

    def load(self, saved: SavedTables) -> None:
        """What another reader saved; before the first block."""
        self._saved = saved

    def _use_saved(self, saved: SavedTables, direction: Direction, stream: int) -> None:
        """The first block was seen, of this stream."""
        self._saved = None
        if direction != saved.client or stream != saved.last_stream + 2:
            self.counts.unfit_tables += 1
            return
        self.counts.loaded_tables += 1
        self._client, self._counted_from = saved.client, saved.last_stream
        self._decoders = [HpackDecoder.load(self._strings, table) for table in saved.tables]

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
        self._open.note_loss((REQUEST, RESPONSE) if self._client is None else (int(direction != self._client),))

    def _take_data(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        stream = self._open.find_any(frame.stream)
        if stream is None:
            return
        side = int(direction != self._client)
        samples = self.samples
        if samples is not None and frame.payload and stream.is_sample is None:
            stream.is_sample = samples.choose(frame.time_ns)
        stream.take_data(side, frame)
        if self.observer is not None:
            self.observer.see_data(frame.stream, side, frame.payload_bytes)
        if (frame.is_sampled or stream.is_sample) and frame.payload is not None:
            kept = self._open.gather_payload(stream, side, frame.payload)
            if samples is not None:
                samples.budget.spend(kept)
        if frame.flags & _END_STREAM:
            self._open.end_side(stream, side, frame.time_ns or stream.last_ns, calls)

    def _take_headers(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        """HEADERS or PUSH_PROMISE."""
        if frame.payload is None:
            self._drop_block(direction, frame, calls)
            return
        fragment = read_fragment(frame.kind, frame.flags, frame.payload)
        if frame.flags & _END_HEADERS:
            self._take_block(direction, frame, fragment, calls)
        else:
            self._parts[direction] = BlockPart(
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
            self._drop_block(direction, part, calls)
            return
        part.fragments += frame.payload
        part.wire_bytes += frame.wire_bytes
        if frame.flags & _END_HEADERS:
            self._parts[direction] = None
            self._take_block(direction, part, bytes(part.fragments), calls)

    def _drop_block(self, direction: Direction, part: _Block, calls: list[StreamCall]) -> None:
        """It is too long to be kept, or was kept down: its stream is known, and whether anything follows there."""
        self.counts.blocks += 1
        self.counts.long_blocks += 1
        self._lose(direction)
        if self._client is None or part.kind == _PUSH:
            return
        block = HeaderBlock([_UNREAD_FIELD])
        if direction == self._client:
            self._take_request(part, block, calls)
        else:
            self._take_response(part, block, calls)

    def _take_block(self, direction: Direction, part: _Block, data: bytes, calls: list[StreamCall]) -> None:
        self.counts.blocks += 1
        if self._saved is not None:
            self._use_saved(self._saved, direction, part.stream)
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
        stream = self._open.streams.get(part.stream)
        is_ended = bool(part.flags & _END_STREAM)
        if stream is not None:  # Trailers.
            stream.request_bytes += part.wire_bytes
            stream.last_ns = part.time_ns
            if is_ended:
                self._open.end_side(stream, REQUEST, part.time_ns, calls)
            return
        if part.stream <= self._open.max_stream or not part.stream & 1 or _is_trailers(block):
            self.counts.late_blocks += 1
            return
        self.counts.requests += 1
        if self.observer is not None:
            self.observer.see_head(part.stream, REQUEST, block)
        self._open.open_stream(part.stream, block, part.time_ns, calls, wire_bytes=part.wire_bytes, is_ended=is_ended)
        for reader in self._readers:
            reader.max_stream = part.stream

    def _take_response(self, part: _Block, block: HeaderBlock, calls: list[StreamCall]) -> None:
        stream = self._open.streams.get(part.stream) or self._open.find_early(part.stream)
        if stream is None:
            return
        stream.take_response(block, part.wire_bytes, part.time_ns)
        if self.observer is not None:
            self.observer.see_head(part.stream, RESPONSE, block)
        if part.flags & _END_STREAM:
            self._open.end_side(stream, RESPONSE, part.time_ns, calls)

    def _find_side(self, direction: Direction) -> int:
        return REQUEST if direction == self._client else RESPONSE

    def _take_reset(self, direction: Direction, frame: Frame, calls: list[StreamCall]) -> None:
        stream = self._open.streams.get(frame.stream)
        if stream is None and direction != self._client and frame.stream & 1:
            is_new = frame.stream > self._open.max_stream
            stream = self._open.find_early(frame.stream) if is_new else self._open.early.get(frame.stream)
        if stream is not None:
            side = self._find_side(direction)
            self._open.reset_stream(stream, side, frame.time_ns, calls, is_cut=self._is_cut)

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
        self._open.close_above(last, frame.time_ns, calls)


def _is_trailers(block: HeaderBlock) -> bool:
    """Whether a block of the client's is surely no head of a request."""
    return is_request(block) is None and not any(isinstance(name, Placeholder) for name, _ in block.fields)


def _opens_call(block: HeaderBlock) -> bool:
    """Whether it is a request's head with nothing odd about it."""
    request = read_request(block)
    block.is_plain = type(request) is StreamRequest and not request.protocol and not _is_trailers(block)
    return block.is_plain


def _continues_plain(stream: Stream, block: HeaderBlock) -> bool:
    """Whether it is what comes next of most responses: a final head with its status, or trailers."""
    if stream.head is not None:
        return stream.trailers is None
    if block.is_plain is None:
        block.is_plain = read_response(block).status_code >= _INTERIM_BELOW
    return block.is_plain


_HANDLERS: Final = {
    int(FrameKind.DATA): Http2Connection._take_data,
    int(FrameKind.HEADERS): Http2Connection._take_headers,
    int(FrameKind.RST_STREAM): Http2Connection._take_reset,
    int(FrameKind.SETTINGS): Http2Connection._take_settings,
    int(FrameKind.PUSH_PROMISE): Http2Connection._take_headers,
    int(FrameKind.GOAWAY): Http2Connection._take_goaway,
    int(FrameKind.CONTINUATION): Http2Connection._take_continuation,
}
