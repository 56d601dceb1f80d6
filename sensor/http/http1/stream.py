"""Reads one direction of an HTTP/1 connection: bytes and gaps in, the events of its messages out.

Sans-io, for captured packets and decrypted TLS. It never raises on bytes: what is wrong becomes a `Fault`
(sensor.http.http1.grammar). How the bytes are cut changes no event but the cuts of `Data`.

    state       reads                                           then
    START       blank lines, the start line                     LINES
    PREFACE     strictly the rest of HTTP/2's preface           STOPPED
    LINES       field lines                                     by the framing (sensor.http.http1.grammar), or START
    LENGTH      a known number of bytes                         START
    CHUNK       a size line                                     CHUNK_DATA, or TRAILER after size 0
    CHUNK_DATA  a known number of bytes                         CHUNK_END
    CHUNK_END   the line end after them                         CHUNK
    TRAILER     field lines                                     START
    CLOSE       everything                                      the end of the stream
    HELD        nothing, see below                              START, by `release`
    LOST        nothing, until a segment starts like a message  START
    OPAQUE      nothing: another protocol follows (`is_tunnel`: what does not read as a message is of one)
    AFTER_LAST  what follows the last message                   strictly STOPPED, leniently START
    STOPPED     nothing: the fault is fatal, strictly any fault

**Held.** After a request with an `ambiguous` fault, two programs may see its end at different bytes. A second request
in the same flight might be an invention, so these bytes count to the first request. Reading goes on with the first
segment that the client sent after it had seen the answer. The code that pairs requests with responses calls `release`
then.

**Lost.** A gap inside a body of known length is counted and bridged, up to the body's end. Any other gap loses the
place: the open message ends incomplete, and reading goes on where a segment starts like a message.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

import msgspec

from sensor.http.http1.grammar import (
    HTTP2_PREFACE_END,
    RULES,
    Body,
    Expect,
    Fault,
    Fields,
    Framing,
    StartLine,
    read_chunk_line,
    read_chunk_line_strictly,
    read_request_line,
    read_request_line_strictly,
    read_status_line,
    read_status_line_strictly,
)
from sensor.http.http1.head import METHODS


class Started(msgspec.Struct, frozen=True, gc=False):
    """The first byte of a message."""

    position: int


class Head(msgspec.Struct, frozen=True, gc=False):
    """A whole head. Private to the node: holds values."""

    start: StartLine
    fields: list[tuple[bytes, bytes]]  # (name as sent, value), in order.
    raw: bytes
    framing: Framing

    def get(self, name: bytes) -> bytes | None:
        """Value of the first field of this name (lower case)."""
        for key, value in self.fields:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None

    def __repr__(self) -> str:
        return f"Head({len(self.fields)} fields, redacted)"


class Data(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a body without their chunks' framing."""

    data: bytes

    def __repr__(self) -> str:
        return f"Data({len(self.data)} bytes)"


class End(msgspec.Struct, frozen=True, gc=False):
    """The end of a message whose head was given."""

    body_bytes: int  # Without chunk framing; gaps included.
    wire_bytes: int  # Of head, body and trailers.
    gap_bytes: int
    is_complete: bool  # It ended as its framing says; of its body bytes may be missing.
    faults: list[Fault]


class Abandoned(msgspec.Struct, frozen=True, gc=False):
    """A message whose head was never read whole: the place was lost, or the stream ended."""

    wire_bytes: int


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """Nothing more is read of this direction."""

    fault: Fault


Event = Started | Head | Data | End | Abandoned | Stopped


class EventSink(Protocol):
    """Takes events; a list is one."""

    def append(self, event: Event, /) -> None:
        """Takes the next."""
        ...


class MessageState(Enum):
    """Of the reading of one direction."""

    START = "start"
    PREFACE = "preface"
    LINES = "lines"
    LENGTH = "length"
    CHUNK = "chunk"
    CHUNK_DATA = "chunk_data"
    CHUNK_END = "chunk_end"
    TRAILER = "trailer"
    CLOSE = "close"
    HELD = "held"
    LOST = "lost"
    OPAQUE = "opaque"
    AFTER_LAST = "after_last"
    STOPPED = "stopped"


def read_start_line(line: bytes, *, is_request: bool, is_strict: bool) -> tuple[StartLine, Fault | None] | Fault:
    """The start line and what is noted of it, or why it is none."""
    if not is_strict:
        return read_request_line(line) if is_request else read_status_line(line)
    start = read_request_line_strictly(line) if is_request else read_status_line_strictly(line)
    assert start is not None
    return start if isinstance(start, Fault) else (start, None)


def read_chunk_size(line: bytes, *, is_strict: bool) -> tuple[int, Fault | None] | Fault:
    """The size of a chunk and what is noted of its line, or why it is none."""
    if not is_strict:
        return read_chunk_line(line)
    size = read_chunk_line_strictly(line)
    assert size is not None
    return size if isinstance(size, Fault) else (size, None)


def check_cut(state: MessageState, line: bytes, fields: Fields, *, is_request: bool) -> Fault | None:
    """`line` has no line feed; None: a continuation could make it right."""
    if not line:
        return None
    if b"\r" in line[:-1]:
        return Fault.BARE_CR
    body = line.removesuffix(b"\r")
    is_whole = body != line
    match state:
        case MessageState.START:
            read = read_request_line_strictly if is_request else read_status_line_strictly
            start = read(body, is_whole=is_whole)
            return start if isinstance(start, Fault) else None
        case MessageState.LINES | MessageState.TRAILER:
            return fields.check_cut(line)
        case MessageState.CHUNK:
            size = read_chunk_line_strictly(body, is_whole=is_whole)
            return size if isinstance(size, Fault) else None
        case _:
            return None


# Bytes of one head or trailer section. nginx takes 32 KiB, Apache 800 KiB, Node 16 KiB.
MAX_HEAD_BYTES: Final = 256 << 10
# Of a head that is taken as a whole. Thousands of messages with other line ends may come at once, and for each of them
# the end of such a head is looked for.
PLAIN_HEAD_BYTES: Final = 8 << 10
MAX_CHUNK_LINE_BYTES: Final = 16 << 10  # Size and extensions; hyper and nginx stop far earlier.
# How a segment starts that starts a message. What ends as a method does may be its rest (`OST`), where bytes were lost.
_REST = b"|".join(sorted({name[cut:] for name in METHODS for cut in range(1, len(name) - 2)} - METHODS.keys()))
_REQUEST_START = re.compile(rb"(?!(?:%b) )[A-Z][A-Z\-]{2,31} [/*hH]|CONNECT [^\x00-\x20]" % _REST)
_RESPONSE_START = re.compile(rb"HTTP/1\.\d \d")
# What a start line begins with that is not whole yet: method (RFC 9110, section 5.6.2) and target, or version.
_REQUEST_BEGUN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: [^\x00-\x1f\x7f]*\r?)?\Z")
_RESPONSE_BEGUN = re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\..*)?)?)?)?)?)?\Z", re.DOTALL)


_LINE_STATES: Final = frozenset((MessageState.START, MessageState.LINES, MessageState.CHUNK, MessageState.TRAILER))
_SILENT: Final = frozenset((MessageState.OPAQUE, MessageState.STOPPED))


def _expect_normal(start: StartLine) -> Expect:
    return Expect.NORMAL


class MessageReader:
    """Mutable state of one direction. `expect` says, of a head read whole, what its framing owes to its request; events
    are appended before the next byte is read, so it may depend on them."""

    def __init__(
        self,
        *,
        is_request: bool,
        is_strict: bool = False,
        expect: Callable[[StartLine], Expect] = _expect_normal,
        has_data: bool = False,
        is_joined: bool = False,
    ) -> None:
        self._is_request = is_request
        self._is_strict = is_strict
        self._expect = expect
        self._has_data = has_data  # Whether `Data` is given; else bodies are only counted.
        # Joined late: the first bytes may be of anything.
        self.state = MessageState.LOST if is_joined else MessageState.START
        self.position = 0  # Bytes and gaps taken.
        self.fault: Fault | None = None  # That stopped the reading.
        self.unread_bytes = 0  # Of no message: lost, opaque, after a stop.
        self.is_tunnel = False  # An upgrade was granted, and HTTP/1 may go on.
        self._has_read = False  # A head, so the stream is HTTP/1.
        self._line = b""  # Cut.
        self._framing: Framing | None = None
        self._gap_bytes = 0
        self._clear()

    @property
    def has_body_bytes(self) -> bool:
        """Of the message being read."""
        return bool(self._body_bytes)

    def feed(self, data: bytes, events: EventSink) -> None:
        """Takes what comes next: the bytes of one segment or record."""
        at, size = 0, len(data)
        if self.state is MessageState.LOST:
            self._resume(data)
        while at < size:
            take = self._take_line if self.state in _LINE_STATES else self._take_bytes
            at = take(data, at, events)
        self.position += size

    def skip(self, length: int, events: EventSink) -> bool:
        """Takes a gap; gives whether it was bridged: what comes is where it would be without it."""
        self.position += length
        if self.state in (MessageState.LENGTH, MessageState.CHUNK_DATA):
            bridged = min(length, self._left)
            self._count_gap(bridged)
            self._left -= bridged
            if not self._left:
                self._end_counted(events)
            length -= bridged
            if not length:
                return True
        state = self.state
        if state is MessageState.CLOSE:
            self._count_gap(length)
        elif state not in _SILENT:
            self._gap_bytes += length
            if state is MessageState.HELD:
                self._wire_bytes += length
            else:
                self._abandon(events)
                self.state = MessageState.LOST
        return False

    def release(self, events: EventSink) -> None:
        """The answer to a held request was seen by its sender: the next segment is no part of it."""
        if self.state is MessageState.HELD:
            self._end_held(events)
            self.state = MessageState.LOST

    def interrupt(self, events: EventSink, state: MessageState = MessageState.LOST) -> None:
        """Ends what is open: what comes is of another message (LOST) or another protocol (OPAQUE)."""
        if self.state not in _SILENT:
            self._abandon(events)
            self.state = state

    def finish(self, events: EventSink, *, is_closed: bool = True) -> None:
        """The stream ends here; `is_closed` by its sender, which completes a body that lasts as long as it."""
        if self._is_strict:
            fault = check_cut(self.state, self._line, self._fields, is_request=self._is_request)
            if fault is not None:
                self._stop(fault, events)
                return
        if self.state is MessageState.CLOSE and is_closed:
            self._end(events, is_complete=not self._gap_bytes)
        elif self.state is MessageState.HELD:
            self._end_held(events)
        elif self.state not in _SILENT:
            if self.state is MessageState.LINES and self._start and self._is_request and not self._is_strict:
                self._faults.append(Fault.HEAD_CUT)  # The start line says what it was.
                self._framing = Framing(Body.UNKNOWN)
                events.append(Head(self._start, self._fields.lines, b"".join(self._head), self._framing))
            self._abandon(events)
        self.state = MessageState.STOPPED

    def _clear(self) -> None:
        self._fields = Fields(is_request=self._is_request, is_strict=self._is_strict)
        self._start: StartLine | None = None
        self._framing = None
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._faults: list[Fault] = []
        self._left = 0
        self._body_bytes = self._wire_bytes = self._gap_bytes = 0

    # ---- lines -----------------------------------------------------------------------------------------------------

    def _take_line(self, data: bytes, at: int, events: EventSink) -> int:
        """Takes up to the next line feed; gives where it ended."""
        if self.state is MessageState.START and not self._head_bytes and not self._line:
            while at < len(data) and data[at] in b"\r\n":  # RFC 9112, section 2.2: empty lines are ignored here.
                at += 1
            if at == len(data):
                return at
            events.append(Started(self.position + at))
            if (end := self._take_plain_head(data, at, events)) > at:
                return end
        feed = data.find(b"\n", at)
        end = feed + 1 if feed >= 0 else len(data)
        self._wire_bytes += end - at
        line = self._line + data[at:end] if self._line else data[at:end]
        is_chunk = self.state is MessageState.CHUNK
        limit = MAX_CHUNK_LINE_BYTES if is_chunk else MAX_HEAD_BYTES - self._head_bytes
        if len(line) > limit:
            self._fail(Fault.CHUNK_SIZE if is_chunk else Fault.HEAD_SIZE, events)
        elif feed < 0:
            self._line = line
            if self.is_tunnel and self.state is MessageState.START and not self._may_begin(line):
                self._fail(Fault.START_LINE, events)
        else:
            self._line = b""
            self._end_line(line, events)
        return end

    def _take_plain_head(self, data: bytes, at: int, events: EventSink) -> int:
        """Takes a head that is whole and has no fault, as line by line and five times as fast; gives where it ended.
        Gives `at`, with nothing taken, where it is another one."""
        first = data.find(b"\n", at) - 1
        if first < at or data[first : first + 1] != b"\r":
            return at
        end = data.find(b"\r\n\r\n", first, at + PLAIN_HEAD_BYTES) + 4
        line = data[at:first]
        if end < 4 or b"\r" in line:
            return at
        start = read_start_line(line, is_request=self._is_request, is_strict=self._is_strict)
        if isinstance(start, Fault) or start[1] is not None:
            return at
        if not self._fields.add_plain_lines(data[first + 2 : end - 2]) or self._fields.faults:
            self._clear()
            return at
        self._start, self._head, self._head_bytes = start[0], [data[at:end]], end - at
        self._wire_bytes += end - at
        self.state = MessageState.LINES
        self._end_head(events)
        return end

    def _may_begin(self, line: bytes) -> bool:
        return (_REQUEST_BEGUN if self._is_request else _RESPONSE_BEGUN).match(line) is not None

    def _end_line(self, raw: bytes, events: EventSink) -> None:
        has_cr = raw.endswith(b"\r\n")
        line = raw[:-2] if has_cr else raw.removesuffix(b"\n")
        found: list[Fault] = []
        if b"\r" in line:
            found.append(Fault.BARE_CR)
            line = line.replace(b"\r", b" ")  # As section 2.2 bids.
        elif not has_cr and not self._is_bare_request(line):
            found.append(Fault.BARE_LF)
        if found and self._note(found, events):
            return
        match self.state:
            case MessageState.START:
                self._head_bytes += len(raw)
                self._head.append(raw)
                self._end_start_line(line, events)
            case MessageState.LINES | MessageState.TRAILER:
                self._head_bytes += len(raw)
                if self.state is MessageState.LINES:
                    self._head.append(raw)
                self._end_field_line(line, events)
            case _:
                self._end_chunk_line(line, events)

    def _is_bare_request(self, line: bytes) -> bool:
        """Whether the strict reading takes a line feed alone: after a request line of HTTP/0.9 only."""
        if self.state is not MessageState.START or not (self._is_strict and self._is_request):
            return False
        start = read_request_line_strictly(line)
        return isinstance(start, StartLine) and not start.protocol

    def _end_start_line(self, line: bytes, events: EventSink) -> None:
        result = read_start_line(line, is_request=self._is_request, is_strict=self._is_strict)
        if result is Fault.HTTP2_PREFACE and self._is_strict:
            self.state, self._left = MessageState.PREFACE, len(HTTP2_PREFACE_END)
            return
        if isinstance(result, Fault):
            self._fail(result, events)
            return
        start, fault = result
        self._start = start
        if fault is not None and self._note([fault], events):
            return
        self.state = MessageState.LINES
        if fault is Fault.VERSION_MISSING:  # HTTP/0.9 has one line, and both line ends were in use.
            self._faults = [fault]
            self._end_head(events)

    def _end_field_line(self, line: bytes, events: EventSink) -> None:
        if line:
            count = len(self._fields.faults)
            self._fields.add_line(line)
            if len(self._fields.faults) > count:
                self._note(self._fields.faults[count:], events)
        elif self.state is MessageState.TRAILER:
            self._end(events, is_complete=True)
        else:
            self._end_head(events)

    def _end_head(self, events: EventSink) -> None:
        assert self._start is not None
        framing = self._fields.decide(self._start, self._expect(self._start))
        if framing.fault is not None and self._is_strict:
            self._fail(framing.fault, events)
            return
        self._framing = framing
        self._has_read = True
        if framing.fault is not None:
            self._faults.append(framing.fault)
        if self._fields.is_chunked and self._start.version == b"1.0" and self._is_request and not self._is_strict:
            self._faults.append(Fault.CODING_IN_HTTP_10)
        # What a trailer section says is checked against what the head said.
        fields, self._fields.lines = self._fields.lines, []
        events.append(Head(self._start, fields, b"".join(self._head), framing))
        self._head, self._head_bytes, self._left = [], 0, framing.length
        match framing.body:
            case Body.NONE:
                self._end(events, is_complete=True)
            case Body.UNKNOWN:
                self.state = MessageState.HELD
            case Body.LENGTH:
                self.state = MessageState.LENGTH
            case Body.CHUNKED:
                self.state = MessageState.CHUNK
            case Body.CLOSE:
                self.state = MessageState.CLOSE

    # ---- bodies ----------------------------------------------------------------------------------------------------

    def _take_bytes(self, data: bytes, at: int, events: EventSink) -> int:
        here = len(data) - at
        match self.state:
            case MessageState.LENGTH | MessageState.CHUNK_DATA:
                taken = min(here, self._left)
                self._count(data[at : at + taken], events)
                self._left -= taken
                if not self._left:
                    self._end_counted(events)
                return at + taken
            case MessageState.CHUNK_END:
                return self._end_chunk(data, at, events)
            case MessageState.PREFACE:
                return self._end_preface(data, at, events)
            case MessageState.CLOSE:
                self._count(data[at:], events)
            case MessageState.HELD:
                self._wire_bytes += here
                if self._framing and self._framing.body is Body.UNKNOWN:
                    self._body_bytes += here
            case MessageState.AFTER_LAST:
                if self._is_strict and data[at:].strip(b"\r\n"):
                    self._stop(Fault.DATA_AFTER_CLOSE, events)
                elif not self._is_strict:
                    self.state = MessageState.START
                    return at
            case _:
                self.unread_bytes += here
        return len(data)

    def _end_chunk_line(self, line: bytes, events: EventSink) -> None:
        result = read_chunk_size(line, is_strict=self._is_strict)
        if isinstance(result, Fault):
            self._fail(result, events)
            return
        size, fault = result
        if fault is not None and self._note([fault], events):
            return
        self._left = size
        self.state = MessageState.CHUNK_DATA if size else MessageState.TRAILER

    def _end_chunk(self, data: bytes, at: int, events: EventSink) -> int:
        """Takes the line end after a chunk's bytes, which may be cut; gives where it ended."""
        has_cr = self._line == b"\r"
        if not has_cr and data[at] == 0x0D:
            self._line = b"\r"
        elif data[at] == 0x0A and (has_cr or not self._is_strict):
            self._line = b""
            self.state = MessageState.CHUNK
            if not has_cr:
                self._note([Fault.BARE_LF], events)
        else:
            self._fail(Fault.CHUNK_END, events)
            return at
        self._wire_bytes += 1
        return at + 1

    def _end_preface(self, data: bytes, at: int, events: EventSink) -> int:
        """Takes the next byte of the rest of HTTP/2's preface; gives where it ended."""
        expected = HTTP2_PREFACE_END[-self._left]
        self._left -= 1
        self._wire_bytes += 1
        if data[at] != expected:
            self._fail(Fault.VERSION, events)
        elif not self._left:
            self._fail(Fault.HTTP2_PREFACE, events)
        return at + 1

    def _end_counted(self, events: EventSink) -> None:
        if self.state is MessageState.CHUNK_DATA:
            self.state = MessageState.CHUNK_END
        else:
            self._end(events, is_complete=True)

    def _count(self, data: bytes, events: EventSink) -> None:
        self._body_bytes += len(data)
        self._wire_bytes += len(data)
        if self._has_data and data:
            events.append(Data(data))

    def _count_gap(self, length: int) -> None:
        self._body_bytes += length
        self._wire_bytes += length
        self._gap_bytes += length

    # ---- ends ------------------------------------------------------------------------------------------------------

    def _note(self, faults: list[Fault], events: EventSink) -> bool:
        """Keeps the faults; True where reading cannot go on."""
        self._faults += [fault for fault in faults if fault not in self._faults]
        for fault in faults:
            rule = RULES[fault]
            if rule.is_fatal or (self._is_strict and rule.is_strict):
                self._fail(fault, events)
                return True
        return False

    def _fail(self, fault: Fault, events: EventSink) -> None:
        """A fault that nobody can read past."""
        self._line = b""
        if fault not in self._faults:
            self._faults.append(fault)
        if self._framing is None or self._is_strict:
            self._stop(fault, events)
        elif self._is_request:
            self.state = MessageState.HELD
        else:
            self._end(events, is_complete=False)
            self.state = MessageState.LOST

    def _stop(self, fault: Fault, events: EventSink) -> None:
        if self.is_tunnel:
            self._abandon(events)
            self.state = MessageState.OPAQUE
            return
        if self._has_read and not self._is_strict:
            self._abandon(events)
            self.state = MessageState.LOST
            return
        self.fault = fault
        self._abandon(events)
        self.state = MessageState.STOPPED
        events.append(Stopped(fault))

    def _end(self, events: EventSink, *, is_complete: bool) -> None:
        framing, faults = self._framing, self._faults
        assert framing is not None
        is_ambiguous = self._is_request and not self._is_strict and any(RULES[fault].is_ambiguous for fault in faults)
        if is_ambiguous and is_complete and self.state is not MessageState.HELD:
            self.state = MessageState.HELD
            return
        events.append(End(self._body_bytes, self._wire_bytes, self._gap_bytes, is_complete, faults))
        self._clear()
        if framing.is_upgrade and not self.is_tunnel:
            self.state = MessageState.OPAQUE
        elif framing.is_last and (self._is_strict or not framing.is_interim):
            self.state = MessageState.AFTER_LAST
        else:
            self.state = MessageState.START

    def _end_held(self, events: EventSink) -> None:
        is_complete = not self._gap_bytes and not any(RULES[fault].is_fatal for fault in self._faults)
        self._end(events, is_complete=is_complete)

    def _abandon(self, events: EventSink) -> None:
        """Ends what is open without its end."""
        self._line = b""
        if self._framing is not None:
            self._end(events, is_complete=False)
        elif self._wire_bytes:
            events.append(Abandoned(self._wire_bytes))
            self._clear()

    def _resume(self, data: bytes) -> None:
        if (_REQUEST_START if self._is_request else _RESPONSE_START).match(data):
            self._clear()
            self.state = MessageState.START
