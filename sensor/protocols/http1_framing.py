"""Where an HTTP/1 message ends: its field lines one by one in, its framing out (RFC 9112, section 6).

`Fields` is what a head or trailer section has said so far. Its strict checks are those of llhttp 9, in the order of the
bytes, so that the verdict on a cut head is that of its beginning.
"""

from enum import IntEnum
from typing import Final

import msgspec

from sensor.protocols.http1_faults import Fault
from sensor.protocols.http1_grammar import (
    LENGTH_LIMIT,
    SIGNED_LIMIT,
    StartLine,
    check_field_name,
    check_field_value,
    looks_like_framing,
)

# Node takes 2,000 field lines, nginx and Apache 100; what comes after is not kept.
MAX_FIELDS: Final = 2_000

_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_CONNECTION: Final = frozenset((b"connection", b"proxy-connection"))
_BODILESS_STATUS: Final = frozenset((204, 304))
_SWITCHING: Final = 101


class Body(IntEnum):
    """How a body ends."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3  # With the connection.
    UNKNOWN = 4  # Nobody can say.


class Expect(IntEnum):
    """What a response's framing needs to know of its request."""

    NORMAL = 0
    NO_BODY = 1  # HEAD.
    TUNNEL = 2  # CONNECT.
    BARE = 3  # HTTP/0.9: a body without head.


class Framing(msgspec.Struct, frozen=True, gc=False):
    """The end of one message, and what follows it."""

    body: Body
    length: int = 0
    is_upgrade: bool = False  # What follows is another protocol.
    is_interim: bool = False  # 1xx: the final response follows.
    is_last: bool = False  # The connection ends with it.
    fault: Fault | None = None


class Fields:
    """What the field lines of one section have said."""

    __slots__ = (
        "_is_request",
        "_is_strict",
        "codings",
        "faults",
        "has_coding_field",
        "has_upgrade",
        "is_chunked",
        "length",
        "lines",
        "tokens",
    )

    def __init__(self, *, is_request: bool, is_strict: bool) -> None:
        self._is_request = is_request
        self._is_strict = is_strict
        self.lines: list[tuple[bytes, bytes]] = []  # (name as sent, value without outer blanks), in order.
        self.faults: list[Fault] = []
        self.length: int | None = None
        self.has_coding_field = False
        self.codings: list[bytes] = []
        self.is_chunked = False  # chunked is the last coding.
        self.has_upgrade = False
        self.tokens: set[bytes] = set()  # Of Connection, lower case.

    def add(self, line: bytes) -> None:
        """Takes one line; what is wrong with it is appended to `faults`."""
        if line[:1] in (b" ", b"\t"):
            self._fold(line)
            return
        name, colon, value = line.partition(b":")
        fault = (check_field_name(name) if colon else None) or (None if colon else Fault.FIELD_LINE)
        if fault is not None:
            self.faults.append(Fault.FRAMING_FIELD_NAME if looks_like_framing(line) else fault)
            return
        fault = check_field_value(value)
        if fault is not None:
            self.faults.append(fault)
        value = value.strip(b" \t")
        if len(self.lines) < MAX_FIELDS:
            self.lines.append((name, value))
        elif Fault.HEAD_SIZE not in self.faults:
            self.faults.append(Fault.HEAD_SIZE)
        self._note(name.lower(), value)

    def check_cut(self, line: bytes) -> Fault | None:
        """Whether a line that is cut is at fault already; strict reading only."""
        if line[:1] in (b" ", b"\t"):
            return Fault.OBS_FOLD
        if line == b"\r" or not line:
            return None
        name, colon, value = line.partition(b":")
        fault = check_field_name(name)
        if fault is not None or not colon:
            return fault
        cut = Fields(is_request=self._is_request, is_strict=True)
        cut.length, cut.has_coding_field, cut.is_chunked = self.length, self.has_coding_field, self.is_chunked
        value = value.removesuffix(b"\r")
        fault = check_field_value(value)
        lower = name.lower()
        value = value.strip(b" \t")
        if lower == _LENGTH and not value:
            cut.has_coding_field = self.has_coding_field
            return Fault.LENGTH_AND_CODING if self.has_coding_field else fault
        if lower != _CODING:
            cut._note(lower, value)
        elif self.length is not None:
            return Fault.LENGTH_AND_CODING
        return cut.faults[0] if cut.faults else fault

    def decide(self, start: StartLine, expect: Expect) -> Framing:
        """The framing of a message with these fields. Strictly an upgrade asked for is one; leniently, one granted."""
        is_upgrade = self.has_upgrade and b"upgrade" in self.tokens
        if start.is_request:
            return self._decide_request(start, is_upgrade and self._is_strict, expect)
        status = start.status_code
        if status == _SWITCHING or (expect is Expect.TUNNEL and 200 <= status < 300):
            return Framing(Body.NONE, is_upgrade=True)
        is_interim = 100 <= status < 200
        if is_interim or status in _BODILESS_STATUS or expect is Expect.NO_BODY:
            return Framing(Body.NONE, is_interim=is_interim, is_last=not self._keeps_alive(start))
        if self.is_chunked:
            return Framing(Body.CHUNKED, is_last=not self._keeps_alive(start))
        if self.codings or self.length is None:
            return Framing(Body.CLOSE, is_last=True)
        return self._decide_length(start, is_upgrade=False)

    def _decide_request(self, start: StartLine, is_upgrade: bool, expect: Expect) -> Framing:
        is_connect = start.method == b"CONNECT"
        has_body = self.is_chunked or bool(self.length)
        if expect is Expect.NO_BODY:
            return Framing(Body.NONE, is_upgrade=is_upgrade or is_connect, is_last=not self._keeps_alive(start))
        if is_connect or (is_upgrade and not has_body):
            return Framing(Body.NONE, is_upgrade=self._is_strict)
        if self.is_chunked:
            return Framing(Body.CHUNKED, is_upgrade=is_upgrade, is_last=not self._keeps_alive(start))
        if self.codings:
            return Framing(Body.UNKNOWN, fault=Fault.CODING_UNKNOWN)
        return self._decide_length(start, is_upgrade=is_upgrade)

    def _decide_length(self, start: StartLine, *, is_upgrade: bool) -> Framing:
        length = self.length or 0
        is_last = not self._keeps_alive(start)
        return Framing(Body.LENGTH if length else Body.NONE, length, is_upgrade=is_upgrade, is_last=is_last)

    def _keeps_alive(self, start: StartLine) -> bool:
        # RFC 9112 section 9.3. llhttp asks for a major and a minor version above 0, so for none of 2.0 either.
        if start.version in (b"0.9", b"1.0", b"2.0"):
            return b"keep-alive" in self.tokens
        return b"close" not in self.tokens

    def _fold(self, line: bytes) -> None:
        if not self.lines:
            self.faults.append(Fault.SPACE_BEFORE_FIELDS)
            return
        self.faults.append(Fault.OBS_FOLD)
        name, value = self.lines[-1]
        more = line.strip(b" \t")
        if not more:
            return
        value = value + b" " + more if value else more
        self.lines[-1] = (name, value)
        lower = name.lower()
        if lower == _LENGTH:
            self.length = None
        elif lower != _CODING:
            return
        self._note(lower, value)

    def _note(self, name: bytes, value: bytes) -> None:
        """What a whole field means for framing; `name` is lower case."""
        if name == _LENGTH:
            self._note_length(value)
        elif name == _CODING:
            self._note_coding(value)
        elif name in _CONNECTION:
            self.tokens.update(token.strip(b" \t").lower() for token in value.split(b","))
        elif name == b"upgrade" and value:
            self.has_upgrade = True

    def _note_length(self, value: bytes) -> None:
        if self.has_coding_field:
            self.faults.append(Fault.LENGTH_AND_CODING)
        if not value.isdigit():
            # A list of equal numbers, as some proxies join two fields (RFC 9110, section 8.6).
            parts = {part.strip(b" \t") for part in value.split(b",")}
            first = next(iter(parts))
            is_repeated = len(parts) == 1 and first.isdigit()
            self.faults.append(Fault.CONTENT_LENGTH_REPEATED if is_repeated else Fault.CONTENT_LENGTH_INVALID)
            if not is_repeated:
                return
            value = first
        length = int(value) if len(value) <= 64 else LENGTH_LIMIT
        if length >= (LENGTH_LIMIT if self._is_strict else SIGNED_LIMIT):
            self.faults.append(Fault.CONTENT_LENGTH_OVERFLOW)
            return
        if len(value) > 1 and value.startswith(b"0"):
            self.faults.append(Fault.CONTENT_LENGTH_ZEROS)
        if self.length is None:
            self.length = length
        else:
            is_same = self.length == length
            self.faults.append(Fault.CONTENT_LENGTH_REPEATED if is_same else Fault.CONTENT_LENGTH_DUPLICATE)

    def _note_coding(self, value: bytes) -> None:
        if self.length is not None:
            self.faults.append(Fault.LENGTH_AND_CODING)
        if not value:
            self.has_coding_field |= not self._is_strict  # llhttp takes an empty field for none.
            return
        self.has_coding_field = True
        if self.is_chunked and self._is_request:
            self.faults.append(Fault.CODING_NOT_FINAL)
        codings = [coding.strip(b" \t").lower() for coding in value.split(b",")]
        if self._is_request and b"chunked" in codings[:-1]:
            self.faults.append(Fault.CODING_NOT_FINAL)
        self.codings += codings
        self.is_chunked = codings[-1] == b"chunked"
