"""Reads one direction of an HTTP/2 connection: bytes and gaps by position, or frames that the kernel cut, in, frames
out.

Sans-io, for captured packets, the kernel's walker and decrypted TLS. How the bytes are cut changes only the parts of
DATA frames, which are given as they come and not kept.

    state    reads                                           then
    START    the preface, in the client's direction          HEADER, or LOST where it is missing
    HEADER   nine bytes                                      PAYLOAD or DATA
    PAYLOAD  a whole payload; too long a one is not kept     HEADER
    DATA     a known number of bytes, given in parts         HEADER
    LOST     the search for a frame (`BoundarySearch`)       HEADER

A gap inside a payload that is not needed, such as DATA, is bridged, because its length is known. Any other gap loses
the place, and so does a frame over which a peer would end the connection. The reader then gives `Lost`, counts what it
skips and searches for the next frame. A frame from the kernel carries its position, so it ends a search at once.

`BoundarySearch` follows chains. A frame's header gives the place of the next one. Nine random bytes pass for a header
once in five million. A chain is believed when

- it has three headers in a row, or
- it has two headers, and the second frame ends where the bytes end (peers send whole frames, then wait), or
- it starts where a segment starts, and its frame ends where the bytes end.

All chains are followed at once, each byte is looked at once, and memory is bounded. Only bytes that imitate frames,
such as HTTP/2 as the payload of HTTP/2, can mislead the search.
"""

import re
from enum import Enum
from typing import Final

from sensor.http.http2.frames import (
    DEFAULT_MAX_FRAME_BYTES,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    PREFACE,
    ErrorCode,
    Frame,
    FrameEvent,
    FrameFlag,
    FrameKind,
    Http2Counts,
    Lost,
    Prefaced,
    check_header,
    check_payload,
    is_plausible,
    unpack_header,
)
from sensor.http.reassembly import Chunk, Gap

# Kept while searching, so that the first frames of a chain are not lost. A chain whose start fell out still counts.
MAX_KEPT_BYTES: Final = 64 << 10
# Followed at once; hostile bytes can start one at every place, then the oldest is given up.
MAX_CHAINS: Final = 64
CHAIN_HEADERS: Final = 3
# How far above the highest stream seen a new one may be. Streams count up by two, and a gap hides only so many.
STREAMS_AHEAD: Final = 8_192
MAX_STREAM: Final = (1 << 31) - 1

# All that can be said of a header by its bytes alone: length where the kind has one, kind, flags, and an odd stream or
# none. What else must hold is asked of the few places that match.
_ODD: Final = b"[" + b"".join(b"\\x%02x" % byte for byte in range(1, 256, 2)) + b"]"
_CANDIDATE = re.compile(
    rb"(?s)(?="
    rb"(?:...(?:\x00[\x00\x01\x08\x09]|\x01[\x00\x01\x04\x05\x08\x09\x0c\x0d\x20\x21\x24\x25\x28\x29\x2c\x2d]"
    rb"|\x05[\x00\x04\x08\x0c]|\x09[\x00\x04])|\x00\x00(?:\x05\x02|\x04\x03|\x04\x08)\x00)[\x00-\x7f].." + _ODD + rb"|"
    rb"\x00(?:\x00.\x04[\x00\x01]|\x00\x08\x06[\x00\x01]|..\x07\x00|\x00\x04\x08\x00)\x00\x00\x00\x00)"
)


class _Chain:
    __slots__ = ("count", "is_segment_start", "next", "start")

    def __init__(self, start: int, is_segment_start: bool) -> None:
        self.start = start  # Position of its first header.
        self.is_segment_start = is_segment_start
        self.next = start  # Position where the next header is due.
        self.count = 0  # Headers so far.


class BoundarySearch:
    """Mutable state of one search; `kept` are the bytes before `position`, the newest last."""

    __slots__ = ("_chains", "_max_stream", "_segment_start", "kept", "position")

    def __init__(self, position: int, max_stream: int) -> None:
        """`position` is that of the next byte; `max_stream` the highest stream seen, 0 where none was."""
        self.position = position
        self.kept = bytearray()
        self._max_stream = max_stream + STREAMS_AHEAD if max_stream else MAX_STREAM
        self._chains: list[_Chain] = []
        self._segment_start = position

    def add_segment(self, data: bytes) -> int | None:
        """Takes the bytes of one segment; gives the position of a frame's start within `kept`, or None.

        Cost: ~0.1 us a byte; of bytes that imitate headers up to ~2 us.
        """
        # A header may have begun in the segment before.
        first_new = max(self.position - HEADER_BYTES + 1, self.position - len(self.kept))
        self._segment_start = self.position
        self.kept += data
        self.position += len(data)
        base = self.position - len(self.kept)
        found = self._follow(base)
        if found is None:
            found = self._start_chains(first_new, base)
        self._trim()
        return found

    def _start_chains(self, first_new: int, base: int) -> int | None:
        for match in _CANDIDATE.finditer(self.kept, first_new - base):
            start = base + match.start()
            chain = _Chain(start, start == self._segment_start)
            if self._advance(chain, base):
                if self._is_believed(chain):
                    return self._place(chain, base)
                if len(self._chains) >= MAX_CHAINS:
                    del self._chains[0]
                self._chains.append(chain)
        return None

    def _follow(self, base: int) -> int | None:
        """Goes on with the chains that there are."""
        self._chains = [chain for chain in self._chains if self._advance(chain, base)]
        for chain in self._chains:
            if self._is_believed(chain):
                return self._place(chain, base)
        return None

    def _advance(self, chain: _Chain, base: int) -> bool:
        """Reads the headers that are due; False where one is none."""
        while chain.next + HEADER_BYTES <= self.position and chain.count < CHAIN_HEADERS:
            at = chain.next - base
            header = bytes(self.kept[at : at + HEADER_BYTES])
            if not is_plausible(header, self._max_stream):
                return False
            chain.count += 1
            chain.next += HEADER_BYTES + unpack_header(header, 0)[0]
        return True

    def _is_believed(self, chain: _Chain) -> bool:
        needed = CHAIN_HEADERS
        if chain.next == self.position:
            needed = 1 if chain.is_segment_start else 2
        return chain.count >= needed

    def _place(self, chain: _Chain, base: int) -> int:
        """The chain's first header, or the place after all its frames where that fell out."""
        return chain.start if chain.start >= base else chain.next

    def _trim(self) -> None:
        excess = len(self.kept) - MAX_KEPT_BYTES
        if excess > 0:
            del self.kept[:excess]


# Of one frame that is kept whole. Longer ones hold header blocks beyond what servers take (Go 1 MiB, nginx 32 KiB), or
# unknown extensions: they are told without their payload.
MAX_PAYLOAD_BYTES: Final = 256 << 10

# Frames that are none, after which nothing is looked for any more: a peer ends the connection at the first, and more of
# them could cost a search each. What the kernel cuts is still taken.
MAX_FAULTS: Final = 64

_DATA, _END_STREAM, _PADDED = int(FrameKind.DATA), int(FrameFlag.END_STREAM), int(FrameFlag.PADDED)
_HEADERS, _PUSH_PROMISE = int(FrameKind.HEADERS), int(FrameKind.PUSH_PROMISE)
_EXTRA: Final = int(FrameFlag.PADDED | FrameFlag.PRIORITY)  # Of HEADERS: there is more than the fragment.
_KINDS: Final = len(FrameKind)


class ReaderState(Enum):
    """Of the reading of one direction; see the table above."""

    START = "start"
    HEADER = "header"
    PAYLOAD = "payload"
    DATA = "data"
    LOST = "lost"


_IN_HEADER, _IN_DATA, _IN_PAYLOAD = ReaderState.HEADER, ReaderState.DATA, ReaderState.PAYLOAD


class FrameReader:
    """Mutable state of one direction."""

    __slots__ = (
        "_data_left",
        "_faults",
        "_flags",
        "_held",
        "_is_client",
        "_is_joined",
        "_kind",
        "_left",
        "_pad_is_due",
        "_position",
        "_search",
        "_start",
        "_stream",
        "counts",
        "max_frame_bytes",
        "max_stream",
        "state",
    )

    def __init__(self, *, is_client: bool | None, is_joined: bool, counts: Http2Counts | None = None) -> None:
        """`is_joined`: the first byte is not the first of the connection. `is_client`: who sends; None: unknown.
        `counts`: of the connection."""
        self.counts = Http2Counts() if counts is None else counts
        self._faults = 0
        self.max_stream = 0  # The highest that the connection has met; its owner raises it.
        # As the peer's SETTINGS allow; unlimited where they may have been missed.
        self.max_frame_bytes = MAX_FRAME_BYTES if is_joined else DEFAULT_MAX_FRAME_BYTES
        self.state = ReaderState.START
        self._is_client = is_client
        self._is_joined = is_joined
        self._position: int | None = None  # Of the next byte.
        self._held = bytearray()  # Of the preface, a header or a payload that is not whole.
        self._start = 0  # Position of what is read now and was not told.
        self._kind = self._flags = self._stream = 0  # Of the frame that is read.
        self._left = 0  # Bytes of its payload to come.
        self._data_left = 0  # Of those, without padding.
        self._pad_is_due = False  # The next byte is the length of the padding.
        self._search: BoundarySearch | None = None

    @property
    def held_bytes(self) -> int:
        """Kept of the stream now."""
        return len(self._held) + (len(self._search.kept) if self._search is not None else 0)

    def read_piece(self, piece: Chunk | Gap | Frame, events: list[FrameEvent]) -> None:
        """Reads what comes next; appends what it told. Pieces are in order; what was had before is ignored."""
        if self._position is None:
            self._position = piece.position
        missing = piece.position - self._position
        if missing > 0:
            self._skip(missing, events)
        if isinstance(piece, Chunk):
            data = piece.data if missing >= 0 else piece.data[-missing:]
            if data:
                self._position += len(data)
                self._feed(data, piece.time_ns, events)
        elif isinstance(piece, Gap):
            length = piece.length + min(missing, 0)
            if length > 0:
                self._skip(length, events)
        elif missing >= 0:
            self._take_frame(piece, events)

    def pass_cut_frames(self, frames: list[Frame], start: int, end: int) -> bool:
        """Whether frames that the kernel cut are just what comes next, from `start` on; then `end` is read. What lies
        between them is passed over. Else nothing is done, and they are to be taken one by one."""
        if self.state is not _IN_HEADER or self._held or self._position != start:
            return False
        for frame in frames:
            kind, payload = frame.kind, frame.payload
            is_checked = kind == _PUSH_PROMISE or (kind == _HEADERS and frame.flags & _EXTRA)
            if is_checked and payload is not None and check_payload(kind, frame.flags, payload):
                return False
        self._position = end
        return True

    def is_at(self, position: int) -> bool:
        """Whether the next frame is due at `position`."""
        return self.state is _IN_HEADER and not self._held and self._position == position

    def pass_frames(self, position: int) -> None:
        """Frames were read otherwise; the next is due at `position`."""
        self._position = position

    def _take_frame(self, frame: Frame, events: list[FrameEvent]) -> None:
        """A frame that the kernel cut; padding and the like were not checked there."""
        if self.state is not _IN_HEADER or self._held:
            if self.state is ReaderState.LOST:
                self._resume()
            elif self.state is ReaderState.START:
                self.state = ReaderState.HEADER
            else:
                self._lose(ErrorCode.NO_ERROR, events)
                self._resume()
        self._position = frame.position + frame.wire_bytes
        payload = frame.payload
        if payload is not None:
            error = check_payload(frame.kind, frame.flags, payload)
            if error:
                self._lose(error, events)
                return
        events.append(frame)

    def _skip(self, length: int, events: list[FrameEvent]) -> None:
        """Bytes that were never seen."""
        assert self._position is not None
        self.counts.gap_bytes += length
        self._position += length
        if self.state is ReaderState.DATA:
            bridged = min(length, self._left)
            self._pad_is_due = False  # If it was, the padding counts as data.
            self._tell_data(bridged, min(bridged, self._data_left), None, 0, self._position - length + bridged, events)
            length -= bridged
        elif self.state is ReaderState.PAYLOAD and length <= self._left and not self._is_kept:
            self._left -= length
            length = 0
            if not self._left:
                self._tell_payload(None, 0, self._position, events)
        if length:
            self._lose(ErrorCode.NO_ERROR, events)

    def _feed(self, data: bytes, time_ns: int, events: list[FrameEvent]) -> None:
        if self.state is ReaderState.START:
            data = self._read_preface(data, events)
        at = 0
        while at < len(data):
            state = self.state
            if state is _IN_HEADER:
                if not self._held:
                    at = self._read_whole_frames(data, at, time_ns, events)
                if at < len(data):
                    at = self._read_header(data, at, time_ns, events)
            elif state is _IN_DATA:
                at = self._read_data(data, at, time_ns, events)
            elif state is _IN_PAYLOAD:
                at = self._read_payload(data, at, time_ns, events)
            else:
                data, at = self._look(data[at:]), 0

    def _read_preface(self, data: bytes, events: list[FrameEvent]) -> bytes:
        """Gives what is to be read as frames."""
        data = bytes(self._held) + data
        self._held.clear()
        if self._is_client is False and not self._is_joined:
            self.state = ReaderState.HEADER
        elif data.startswith(PREFACE):
            self.state = ReaderState.HEADER
            events.append(Prefaced())
            return data[len(PREFACE) :]
        elif PREFACE.startswith(data):
            self._held += data
            return b""
        elif self._is_joined:
            self.state = ReaderState.LOST
        elif self._is_client is None:  # Then it is the server's, which has none.
            self.state = ReaderState.HEADER
        else:
            self._lose(ErrorCode.PROTOCOL_ERROR, events)
        return data

    def _read_whole_frames(self, data: bytes, at: int, time_ns: int, events: list[FrameEvent]) -> int:
        """Nearly all frames: those that lie whole in one segment. Stops at one that does not, or is none."""
        assert self._position is not None
        size = len(data)
        base, most = self._position - size, self.max_frame_bytes
        while size - at >= HEADER_BYTES:
            length, kind, flags, stream = unpack_header(data, at)
            start = at + HEADER_BYTES
            end = start + length
            if end > size or check_header(kind, flags, stream, length, most):
                break
            payload: bytes | None = None
            if kind == _DATA:
                if flags & _PADDED:
                    break
                payload = data[start:end]
            elif kind < _KINDS and length <= MAX_PAYLOAD_BYTES:
                payload = data[start:end]
                if check_payload(kind, flags, payload):
                    break
            body = length if kind == _DATA else 0
            events.append(Frame(base + at, HEADER_BYTES + length, time_ns, kind, flags, stream, payload, body))
            at = end
        return at

    def _read_header(self, data: bytes, at: int, time_ns: int, events: list[FrameEvent]) -> int:
        assert self._position is not None
        held = self._held
        if held or len(data) - at < HEADER_BYTES:
            wanted = HEADER_BYTES - len(held)
            held += data[at : at + wanted]
            at = min(at + wanted, len(data))
            if len(held) < HEADER_BYTES:
                return at
            length, self._kind, self._flags, self._stream = unpack_header(held, 0)
            held.clear()
        else:
            length, self._kind, self._flags, self._stream = unpack_header(data, at)
            at += HEADER_BYTES
        self._start = self._position - len(data) + at - HEADER_BYTES
        kind, flags = self._kind, self._flags
        error = check_header(kind, flags, self._stream, length, self.max_frame_bytes)
        self._pad_is_due = kind == _DATA and bool(flags & _PADDED)
        if self._pad_is_due and not length:
            error = ErrorCode.FRAME_SIZE_ERROR
        if error:
            self._lose(error, events)
            return at
        self._left = self._data_left = length
        self.state = _IN_DATA if kind == _DATA else _IN_PAYLOAD
        if not length:
            if kind == _DATA:
                self._tell_data(0, 0, b"", time_ns, self._start + HEADER_BYTES, events)
            else:
                self._tell_payload(b"" if kind < _KINDS else None, time_ns, self._start + HEADER_BYTES, events)
        return at

    def _read_data(self, data: bytes, at: int, time_ns: int, events: list[FrameEvent]) -> int:
        assert self._position is not None
        if self._pad_is_due:
            self._pad_is_due = False
            pad = data[at]
            at += 1
            self._left -= 1
            self._data_left = self._left - pad
            if self._data_left < 0:
                self._lose(ErrorCode.PROTOCOL_ERROR, events)
                return at
        size = min(self._left, len(data) - at)
        if size or not self._left:
            body = min(size, self._data_left)
            end = self._position - len(data) + at + size
            self._tell_data(size, body, data[at : at + body], time_ns, end, events)
        return at + size

    def _tell_data(
        self, size: int, body: int, payload: bytes | None, time_ns: int, end: int, events: list[FrameEvent]
    ) -> None:
        """A part of a DATA frame: `size` bytes up to position `end`, `body` of them no padding."""
        self._left -= size
        self._data_left -= body
        flags = self._flags
        if self._left:
            flags &= ~_END_STREAM
        else:
            self.state = _IN_HEADER
        events.append(Frame(self._start, end - self._start, time_ns, _DATA, flags, self._stream, payload, body))
        self._start = end

    @property
    def _is_kept(self) -> bool:
        return self._kind < _KINDS and self._left + len(self._held) <= MAX_PAYLOAD_BYTES

    def _read_payload(self, data: bytes, at: int, time_ns: int, events: list[FrameEvent]) -> int:
        assert self._position is not None
        size = min(self._left, len(data) - at)
        is_kept = self._is_kept
        self._left -= size
        end = self._position - len(data) + at + size
        if not is_kept:
            if not self._left:
                self._tell_payload(None, time_ns, end, events)
        elif self._left:
            self._held += data[at : at + size]
        elif self._held:
            payload = bytes(self._held) + data[at : at + size]
            self._held.clear()
            self._tell_payload(payload, time_ns, end, events)
        else:
            self._tell_payload(data[at : at + size], time_ns, end, events)
        return at + size

    def _tell_payload(self, payload: bytes | None, time_ns: int, end: int, events: list[FrameEvent]) -> None:
        self.state = _IN_HEADER
        if payload is not None:
            error = check_payload(self._kind, self._flags, payload)
            if error:
                self._lose(error, events)
                return
        start = self._start
        events.append(Frame(start, end - start, time_ns, self._kind, self._flags, self._stream, payload, 0))

    def _lose(self, error: ErrorCode, events: list[FrameEvent]) -> None:
        assert self._position is not None
        if self.state is ReaderState.LOST:
            self._search = None  # What was kept does not lead on to what comes.
            return
        self.counts.lost_places += 1
        if error:
            self._faults += 1
            self.counts.faults += 1
        self._held.clear()
        self.state = ReaderState.LOST
        events.append(Lost(self._position, error))

    def _look(self, data: bytes) -> bytes:
        """Gives what is to be read as frames, once a frame was found."""
        assert self._position is not None
        search = self._search
        if self._faults >= MAX_FAULTS:
            self.counts.skipped_bytes += len(data)
            return b""
        if search is None:
            search = self._search = BoundarySearch(self._position - len(data), self.max_stream)
        self.counts.skipped_bytes += len(data)
        found = search.add_segment(data)
        if found is None:
            return b""
        self._resume()
        ahead = found - self._position
        if ahead > 0:  # Inside of a frame whose start is not kept: passed over like an extension's.
            self._kind, self._left, self._start, self.state = _KINDS, ahead, self._position, ReaderState.PAYLOAD
            return b""
        rest = bytes(search.kept[len(search.kept) + ahead :])
        self.counts.skipped_bytes -= len(rest)
        return rest

    def _resume(self) -> None:
        self._search = None
        self.state = ReaderState.HEADER
