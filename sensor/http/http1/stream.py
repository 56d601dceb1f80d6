"""Reads one direction of an HTTP/1 connection: bytes and gaps in, the events of its messages out.

Sans-io, for captured packets and decrypted TLS. It never raises on bytes: what is wrong becomes a `Fault`
(sensor.http.http1.grammar). How the bytes are cut changes no event but the cuts of `Data`.

    state       reads                                           then
    START       blank lines, the start line                     LINES
    LINES       field lines                                     by the framing (sensor.http.http1.grammar), or START
    LENGTH      a known number of bytes                         START
    CHUNK       a size line                                     CHUNK_DATA, or TRAILER after size 0
    CHUNK_DATA  a known number of bytes                         CHUNK_END
    CHUNK_END   the line end after them                         CHUNK
    TRAILER     field lines                                     START
    CLOSE       everything                                      the end of the stream
    HELD        nothing, see below                              START, by `release`
    LOST        nothing, until a segment starts like a message  START
    OPAQUE      nothing: another protocol follows
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
from typing import Final

from sensor.http.http1.events import Abandoned, Data, End, EventSink, Head, Started, State, Stopped
from sensor.http.http1.grammar import (
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


def check_cut(state: State, line: bytes, fields: Fields, *, is_request: bool) -> Fault | None:
    """`line` has no line feed; None: a continuation could make it right."""
    if not line:
        return None
    if b"\r" in line[:-1]:
        return Fault.BARE_CR
    body = line.removesuffix(b"\r")
    is_whole = body != line
    match state:
        case State.START:
            read = read_request_line_strictly if is_request else read_status_line_strictly
            start = read(body, is_whole=is_whole)
            return start if isinstance(start, Fault) else None
        case State.LINES | State.TRAILER:
            return fields.check_cut(line)
        case State.CHUNK:
            size = read_chunk_line_strictly(body, is_whole=is_whole)
            return size if isinstance(size, Fault) else None
        case _:
            return None


# Bytes of one head or trailer section. nginx takes 32 KiB, Apache 800 KiB, Node 16 KiB.
MAX_HEAD_BYTES: Final = 256 << 10
MAX_CHUNK_LINE_BYTES: Final = 16 << 10  # Size and extensions; hyper and nginx stop far earlier.
# How a segment starts that starts a message.
_REQUEST_START = re.compile(rb"[A-Z][A-Z\-]{2,31} [/*hH]|CONNECT [^\x00-\x20]")
_RESPONSE_START = re.compile(rb"HTTP/1\.\d \d")


_LINE_STATES: Final = frozenset((State.START, State.LINES, State.CHUNK, State.TRAILER))
_SILENT: Final = frozenset((State.OPAQUE, State.STOPPED))


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
        self.state = State.LOST if is_joined else State.START
        self.position = 0  # Bytes and gaps taken.
        self.fault: Fault | None = None  # That stopped the reading.
        self.unread_bytes = 0  # Of no message: lost, opaque, after a stop.
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
        if self.state is State.LOST:
            self._resume(data)
        while at < size:
            take = self._take_line if self.state in _LINE_STATES else self._take_bytes
            at = take(data, at, events)
        self.position += size

    def skip(self, length: int, events: EventSink) -> bool:
        """Takes a gap; gives whether it was bridged: what comes is where it would be without it."""
        self.position += length
        if self.state in (State.LENGTH, State.CHUNK_DATA):
            bridged = min(length, self._left)
            self._count_gap(bridged)
            self._left -= bridged
            if not self._left:
                self._end_counted(events)
            length -= bridged
            if not length:
                return True
        state = self.state
        if state is State.CLOSE:
            self._count_gap(length)
        elif state not in _SILENT:
            self._gap_bytes += length
            if state is State.HELD:
                self._wire_bytes += length
            else:
                self._abandon(events)
                self.state = State.LOST
        return False

    def release(self, events: EventSink) -> None:
        """The answer to a held request was seen by its sender: the next segment is no part of it."""
        if self.state is State.HELD:
            self._end_held(events)
            self.state = State.LOST

    def interrupt(self, events: EventSink, state: State = State.LOST) -> None:
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
        if self.state is State.CLOSE and is_closed:
            self._end(events, is_complete=not self._gap_bytes)
        elif self.state is State.HELD:
            self._end_held(events)
        elif self.state not in _SILENT:
            if self.state is State.LINES and self._start and self._is_request and not self._is_strict:
                self._faults.append(Fault.HEAD_CUT)  # The start line says what it was.
                self._framing = Framing(Body.UNKNOWN)
                events.append(Head(self._start, self._fields.lines, b"".join(self._head), self._framing))
            self._abandon(events)
        self.state = State.STOPPED

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
        if self.state is State.START and not self._head_bytes and not self._line:
            while at < len(data) and data[at] in b"\r\n":  # RFC 9112, section 2.2: empty lines are ignored here.
                at += 1
            if at == len(data):
                return at
            events.append(Started(self.position + at))
        feed = data.find(b"\n", at)
        end = feed + 1 if feed >= 0 else len(data)
        self._wire_bytes += end - at
        line = self._line + data[at:end] if self._line else data[at:end]
        is_chunk = self.state is State.CHUNK
        limit = MAX_CHUNK_LINE_BYTES if is_chunk else MAX_HEAD_BYTES - self._head_bytes
        if len(line) > limit:
            self._fail(Fault.CHUNK_SIZE if is_chunk else Fault.HEAD_SIZE, events)
        elif feed < 0:
            self._line = line
        else:
            self._line = b""
            self._end_line(line, events)
        return end

    def _end_line(self, raw: bytes, events: EventSink) -> None:
        has_cr = raw.endswith(b"\r\n")
        line = raw[:-2] if has_cr else raw.removesuffix(b"\n")
        found: list[Fault] = []
        if b"\r" in line:
            found.append(Fault.BARE_CR)
            line = line.replace(b"\r", b" ")  # As section 2.2 bids.
        elif not has_cr:
            found.append(Fault.BARE_LF)
        if found and self._note(found, events):
            return
        match self.state:
            case State.START:
                self._head_bytes += len(raw)
                self._head.append(raw)
                self._end_start_line(line, events)
            case State.LINES | State.TRAILER:
                self._head_bytes += len(raw)
                if self.state is State.LINES:
                    self._head.append(raw)
                self._end_field_line(line, events)
            case _:
                self._end_chunk_line(line, events)

    def _end_start_line(self, line: bytes, events: EventSink) -> None:
        result = read_start_line(line, is_request=self._is_request, is_strict=self._is_strict)
        if isinstance(result, Fault):
            self._fail(result, events)
            return
        start, fault = result
        self._start = start
        if fault is not None and self._note([fault], events):
            return
        self.state = State.LINES
        if fault is Fault.VERSION_MISSING:  # HTTP/0.9 has one line, and both line ends were in use.
            self._faults = [fault]
            self._end_head(events)

    def _end_field_line(self, line: bytes, events: EventSink) -> None:
        if line:
            count = len(self._fields.faults)
            self._fields.add(line)
            if len(self._fields.faults) > count:
                self._note(self._fields.faults[count:], events)
        elif self.state is State.TRAILER:
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
                self.state = State.HELD
            case Body.LENGTH:
                self.state = State.LENGTH
            case Body.CHUNKED:
                self.state = State.CHUNK
            case Body.CLOSE:
                self.state = State.CLOSE

    # ---- bodies ----------------------------------------------------------------------------------------------------

    def _take_bytes(self, data: bytes, at: int, events: EventSink) -> int:
        here = len(data) - at
        match self.state:
            case State.LENGTH | State.CHUNK_DATA:
                taken = min(here, self._left)
                self._count(data[at : at + taken], events)
                self._left -= taken
                if not self._left:
                    self._end_counted(events)
                return at + taken
            case State.CHUNK_END:
                return self._end_chunk(data, at, events)
            case State.CLOSE:
                self._count(data[at:], events)
            case State.HELD:
                self._wire_bytes += here
                if self._framing and self._framing.body is Body.UNKNOWN:
                    self._body_bytes += here
            case State.AFTER_LAST:
                if self._is_strict and data[at:].strip(b"\r\n"):
                    self._stop(Fault.DATA_AFTER_CLOSE, events)
                elif not self._is_strict:
                    self.state = State.START
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
        self.state = State.CHUNK_DATA if size else State.TRAILER

    def _end_chunk(self, data: bytes, at: int, events: EventSink) -> int:
        """Takes the line end after a chunk's bytes, which may be cut; gives where it ended."""
        has_cr = self._line == b"\r"
        if not has_cr and data[at] == 0x0D:
            self._line = b"\r"
        elif data[at] == 0x0A and (has_cr or not self._is_strict):
            self._line = b""
            self.state = State.CHUNK
            if not has_cr:
                self._note([Fault.BARE_LF], events)
        else:
            self._fail(Fault.CHUNK_END, events)
            return at
        self._wire_bytes += 1
        return at + 1

    def _end_counted(self, events: EventSink) -> None:
        if self.state is State.CHUNK_DATA:
            self.state = State.CHUNK_END
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
            self.state = State.HELD
        else:
            self._end(events, is_complete=False)
            self.state = State.LOST

    def _stop(self, fault: Fault, events: EventSink) -> None:
        if self._has_read and not self._is_strict:
            self._abandon(events)
            self.state = State.LOST
            return
        self.fault = fault
        self._abandon(events)
        self.state = State.STOPPED
        events.append(Stopped(fault))

    def _end(self, events: EventSink, *, is_complete: bool) -> None:
        framing, faults = self._framing, self._faults
        assert framing is not None
        is_ambiguous = self._is_request and not self._is_strict and any(RULES[fault].is_ambiguous for fault in faults)
        if is_ambiguous and is_complete and self.state is not State.HELD:
            self.state = State.HELD
            return
        events.append(End(self._body_bytes, self._wire_bytes, self._gap_bytes, is_complete, faults))
        self._clear()
        if framing.is_upgrade:
            self.state = State.OPAQUE
        elif framing.is_last and (self._is_strict or not framing.is_interim):
            self.state = State.AFTER_LAST
        else:
            self.state = State.START

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
            self.state = State.START
