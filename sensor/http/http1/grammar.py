"""The grammar of HTTP/1: start lines, field lines, chunk sizes and framing, read strictly or leniently.

Takes lines without their line end. Gives parsed lines, the framing of a message (RFC 9112, section 6), and `Fault`s:
the fixed names of what is wrong with a message.

The strict reading is an endpoint's: it stops at the first fault. Its grammar is that of llhttp 9 (`http.ts`, `url.ts`,
`constants.ts`), the parser of Node.js, without lenient flags. That is RFC 9112 with a closed list of methods, no
obs-fold, no bare CR or LF, and targets in ASCII. The lenient reading is an observer's: it notes the fault and goes on
as real servers do, unless nobody could say where the message ends.

A fault is `ambiguous` where two programs that both accept the message may end it at different bytes. That is the raw
material of request smuggling (RFC 9112, section 11.2). `sensor.http.http1.stream` then takes no second request out of
the same flight.

A line that is cut (`is_whole = False`: the stream ended in it) is at fault only where no continuation could make it
right. `Fields` checks lines in the order of the bytes. So a strict verdict does not depend on how the bytes were cut.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import msgspec


class Fault(StrEnum):
    """Fixed words for counters and output; they never hold a byte of the message."""

    # Start lines.
    METHOD = "method"
    TARGET = "target"
    START_LINE = "start_line"
    VERSION = "version"
    VERSION_MISSING = "version_missing"
    STATUS_CODE = "status_code"
    HTTP2_PREFACE = "http2_preface"
    # Lines.
    BARE_LF = "bare_lf"
    BARE_CR = "bare_cr"
    OBS_FOLD = "obs_fold"
    SPACE_BEFORE_FIELDS = "space_before_fields"
    FIELD_LINE = "field_line"
    FRAMING_FIELD_NAME = "framing_field_name"
    FIELD_VALUE = "field_value"
    HEAD_SIZE = "head_size"
    HEAD_CUT = "head_cut"
    # Framing.
    CONTENT_LENGTH_INVALID = "content_length_invalid"
    CONTENT_LENGTH_OVERFLOW = "content_length_overflow"
    CONTENT_LENGTH_DUPLICATE = "content_length_duplicate"
    CONTENT_LENGTH_REPEATED = "content_length_repeated"
    CONTENT_LENGTH_ZEROS = "content_length_zeros"
    LENGTH_AND_CODING = "length_and_coding"
    CODING_UNKNOWN = "coding_unknown"
    CODING_NOT_FINAL = "coding_not_final"
    CODING_IN_HTTP_10 = "coding_in_http_10"
    # Chunks.
    CHUNK_SIZE = "chunk_size"
    CHUNK_SIZE_SPACE = "chunk_size_space"
    CHUNK_OVERFLOW = "chunk_overflow"
    CHUNK_EXTENSION = "chunk_extension"
    CHUNK_END = "chunk_end"
    # Connections.
    DATA_AFTER_CLOSE = "data_after_close"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a fault means to each reading."""

    is_strict: bool = True  # The strict reading stops.
    is_fatal: bool = False  # The lenient reading cannot go on either.
    is_ambiguous: bool = False
    is_smuggling: bool = False  # Told as a sign of smuggling; all ambiguous ones are.


_AMBIGUOUS: Final = Rule(is_ambiguous=True, is_smuggling=True)
_FATAL: Final = Rule(is_fatal=True)
_LOST: Final = Rule(is_fatal=True, is_ambiguous=True, is_smuggling=True)

RULES: Final = {
    Fault.METHOD: _FATAL,
    Fault.TARGET: Rule(),
    Fault.START_LINE: _FATAL,
    Fault.VERSION: _FATAL,
    Fault.VERSION_MISSING: Rule(is_strict=False),  # HTTP/0.9; llhttp takes it.
    Fault.STATUS_CODE: Rule(),
    Fault.HTTP2_PREFACE: Rule(is_strict=False, is_fatal=True),
    Fault.BARE_LF: _AMBIGUOUS,  # RFC 9112, section 2.2: a recipient MAY take it for a line end, or not.
    Fault.BARE_CR: _AMBIGUOUS,  # The same section: invalid, or replaced by a space.
    Fault.OBS_FOLD: _AMBIGUOUS,  # Section 5.2: a server rejects it or joins the lines.
    Fault.SPACE_BEFORE_FIELDS: _AMBIGUOUS,  # Section 2.2: reject, or drop the line.
    Fault.FIELD_LINE: Rule(),
    Fault.FRAMING_FIELD_NAME: _AMBIGUOUS,  # `Content-Length :`, `Transfer-Encoding<0b>:`; section 5.1.
    Fault.FIELD_VALUE: Rule(),
    Fault.HEAD_SIZE: _FATAL,
    Fault.HEAD_CUT: Rule(is_strict=False),  # The stream ended within it.
    Fault.CONTENT_LENGTH_INVALID: _AMBIGUOUS,  # Section 6.3, rule 5.
    Fault.CONTENT_LENGTH_OVERFLOW: _AMBIGUOUS,
    Fault.CONTENT_LENGTH_DUPLICATE: _AMBIGUOUS,
    Fault.CONTENT_LENGTH_REPEATED: Rule(is_smuggling=True),  # Twice the same: everybody who takes it agrees.
    Fault.CONTENT_LENGTH_ZEROS: Rule(is_strict=False, is_smuggling=True),  # Valid; some read it as octal.
    Fault.LENGTH_AND_CODING: _AMBIGUOUS,  # Section 6.3, rule 3.
    Fault.CODING_UNKNOWN: _AMBIGUOUS,  # Section 6.3, rule 4, and 6.1: chunked is the one coding all know.
    Fault.CODING_NOT_FINAL: _AMBIGUOUS,
    Fault.CODING_IN_HTTP_10: Rule(
        is_strict=False, is_ambiguous=True, is_smuggling=True
    ),  # Section 6.1, last paragraph.
    Fault.CHUNK_SIZE: _LOST,
    Fault.CHUNK_SIZE_SPACE: _AMBIGUOUS,
    Fault.CHUNK_OVERFLOW: _LOST,
    Fault.CHUNK_EXTENSION: _AMBIGUOUS,  # Section 7.1.1; a line feed in it ends the line for some.
    Fault.CHUNK_END: _LOST,
    Fault.DATA_AFTER_CLOSE: Rule(),
}
# Numbers of responses' faults are the same, but a witness of responses loses more by stopping than by going on, and
# nobody smuggles requests in them: the lenient reading of a response treats no fault as ambiguous.


def name_smuggling(faults: list[Fault]) -> list[str]:
    """Those that are signs of smuggling, once each, in order."""
    return list(dict.fromkeys(fault.value for fault in faults if RULES[fault].is_smuggling))


# The methods that llhttp knows, by the protocol they belong to.
_RTSP_METHODS: Final = frozenset(
    b"OPTIONS DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER REDIRECT RECORD GET POST "
    b"FLUSH".split()
)
_HTTP_METHODS: Final = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE PATCH LINK UNLINK COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH "
    b"UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE MKCALENDAR "
    b"PURGE QUERY SOURCE PRI".split()
)
_METHODS: Final = _HTTP_METHODS | _RTSP_METHODS
_PROTOCOL_METHODS: Final = {b"HTTP": _HTTP_METHODS, b"RTSP": _RTSP_METHODS, b"ICE": frozenset((b"SOURCE",))}
# What follows the line `PRI * HTTP/2.0` (RFC 9113, section 3.4).
HTTP2_PREFACE_END: Final = b"\r\nSM\r\n\r\n"
# RFC 9112 section 2.3, plus what llhttp takes.
_STRICT_VERSIONS: Final = frozenset((b"0.9", b"1.0", b"1.1", b"2.0"))
_VERSION_CUT: Final = re.compile(rb"(?:\d\.?)?\Z")  # Which version it is shows once all of it is there.
# Methods of HTTP/0.9 in the field: a lone `GET /path` line. Others are other protocols.
_HTTP09_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST"))

_URL = rb"!\"$%&'()*+,\-./:;<=>@\[\\\]^_`{|}~0-9A-Za-z"
_AUTHORITY = rb"(?:[0-9A-Za-z\-_.!~*'()%;:&=+$,\[\]]|@(?!@))*"
_REST = rb"(?:\?[?" + _URL + rb"]*)?(?:\#[?\#" + _URL + rb"]*)?"
_PATH = rb"[/*][" + _URL + rb"]*" + _REST
_SERVER = _AUTHORITY + rb"(?:/[" + _URL + rb"]*" + _REST + rb"|\?[?" + _URL + rb"]*(?:\#[?\#" + _URL + rb"]*)?)?"
# Whole targets, and every beginning of one.
_TARGET = re.compile(rb"(?:" + _PATH + rb"|[A-Za-z]+://" + _SERVER + rb")\Z")
_TARGET_CUT = re.compile(rb"(?:" + _PATH + rb"|[A-Za-z]+(?::(?:/(?:/" + _SERVER + rb")?)?)?)?\Z")
_CONNECT_TARGET = re.compile(_SERVER + rb"\Z")

_TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
_TOKEN = re.compile(rb"[" + _TCHAR + rb"]+\Z")
# field-value = *( HTAB / SP / VCHAR / obs-text ), RFC 9110 section 5.5.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
# Field lines of the two above, each with its CRLF; no line is folded.
_FIELD_LINES = re.compile(rb"(?:[" + _TCHAR + rb"]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\Z")
_FIELD_LINE = re.compile(rb"([" + _TCHAR + rb"]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\r\n")
# What some parsers may take for a framing field although its name is not clean.
_FRAMING_LIKE = re.compile(rb"(?i)[\x00-\x20\"']*(?:content[-_]length|transfer[-_]encoding)[^:\x21-\x7e]*(?::|\Z)")
_STATUS_LINE = re.compile(rb"(HTTP|RTSP|ICE)/(\d)\.(\d) (\d{3})(?: (.*)|\Z)", re.DOTALL)
_STATUS_LINE_LENIENT = re.compile(rb"HTTP/(1)\.(\d) (\S{3,8})(?: (.*)|\Z)", re.DOTALL)
_REQUEST_LINE_LENIENT = re.compile(
    rb"([" + _TCHAR + rb"]{1,32})[ \t\v\f]+(\S.*?)[ \t\v\f]+HTTP/(\d)\.(\d)[ \t\v\f]*\Z", re.DOTALL
)

# chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), RFC 9112 section 7.1.1, without the BWS.
_QUOTED = rb'"(?:[\t\x20!\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*'
_EXTENSION = rb";(?![ ]|\Z)[" + _TCHAR + rb"]*(?:=[" + _TCHAR + rb"]*(?:" + _QUOTED + rb'")?)?'
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:" + _EXTENSION + rb")*\Z")
_CHUNK_CUT = re.compile(
    rb"([0-9A-Fa-f]*)\Z|([0-9A-Fa-f]+)(?:" + _EXTENSION + rb")*(?:;|;[" + _TCHAR + rb"]*=[" + _TCHAR + rb"]*" + _QUOTED
    + rb"(?:\\)?)?\Z"
)  # fmt: skip
_CHUNK_LENIENT = re.compile(rb"[ \t]*([0-9A-Fa-f]+)([ \t]*)(;.*)?\Z", re.DOTALL)
# RFC 9112 section 7.1 bids recipients to expect large numbers; no program can hold more than 64 bits.
LENGTH_LIMIT: Final = 1 << 64
# Programs that read lengths as signed numbers see others from here on.
SIGNED_LIMIT: Final = 1 << 63


class StartLine(msgspec.Struct, frozen=True, gc=False):
    """Of a request: method and target; of a response: status code and reason."""

    is_request: bool
    protocol: bytes  # `HTTP`; strictly also `RTSP`, `ICE`, or empty where a request line names none (HTTP/0.9).
    version: bytes  # `1.1`
    method: bytes = b""
    target: bytes = b""
    status_code: int = 0  # 0 where it is no number from 100 on.
    status: bytes = b""  # As sent.
    reason: bytes = b""


def read_request_line_strictly(line: bytes, *, is_whole: bool = True) -> StartLine | Fault | None:
    """None: cut, and not at fault so far."""
    method, space, rest = line.partition(b" ")
    if not space:
        is_begin = any(known.startswith(method) for known in _METHODS)
        return None if is_begin and not is_whole else Fault.METHOD
    if method not in _METHODS:
        return Fault.METHOD
    target, space, rest = rest.lstrip(b" ").partition(b" ")
    pattern = _CONNECT_TARGET if method == b"CONNECT" else _TARGET if space or is_whole else _TARGET_CUT
    if pattern.match(target) is None:
        return Fault.TARGET
    if not space:
        return StartLine(True, b"", b"0.9", method, target) if is_whole else None
    rest = rest.lstrip(b" ")
    protocol, slash, version = rest.partition(b"/")
    if not slash:
        is_begin = any(known.startswith(protocol) for known in _PROTOCOL_METHODS)
        return None if is_begin and not is_whole else Fault.START_LINE
    if method not in _PROTOCOL_METHODS.get(protocol, ()):
        return Fault.START_LINE
    if not is_whole and len(version) < 3:
        return None if _VERSION_CUT.match(version) else Fault.VERSION
    if version not in _STRICT_VERSIONS:
        return Fault.VERSION
    if method == b"PRI":
        return Fault.HTTP2_PREFACE
    return StartLine(True, protocol, version, method, target)


def read_status_line_strictly(line: bytes, *, is_whole: bool = True) -> StartLine | Fault | None:
    """None: cut, and not at fault so far."""
    match = _STATUS_LINE.match(line)
    if match is not None:
        version = match[2] + b"." + match[3]
        if version not in _STRICT_VERSIONS:
            return Fault.VERSION
        return StartLine(False, match[1], version, b"", b"", _read_code(match[4]), match[4], match[5] or b"")
    # Which part is wrong; a sample that differs from the line in a part shows the part.
    for protocol in _PROTOCOL_METHODS:
        sample = protocol + b"/1.1 200 "
        if line.startswith(protocol + b"/") or (not is_whole and sample.startswith(line)):
            rest = line[len(protocol) + 1 :]
            if rest[:3] not in _STRICT_VERSIONS or rest[3:4] not in (b" ", b""):
                return None if not is_whole and _VERSION_CUT.match(rest) else Fault.VERSION
            is_begin = not is_whole and (rest[4:].isdigit() or not rest[4:]) and len(rest) < 8
            return None if is_begin else Fault.STATUS_CODE
    return Fault.START_LINE


def _read_code(digits: bytes) -> int:
    """0 below 100: no class has such codes (RFC 9110, section 15)."""
    return int(digits) if digits[:1] != b"0" else 0


def read_request_line(line: bytes) -> tuple[StartLine, Fault | None] | Fault:
    """Leniently: any method that is a token, raw spaces in a target, runs of blanks, and HTTP/0.9."""
    match = _REQUEST_LINE_LENIENT.match(line)
    if match is not None:
        method, target, major, minor = match.groups()
        if major != b"1":
            return Fault.HTTP2_PREFACE if method == b"PRI" else Fault.VERSION
        pattern = _CONNECT_TARGET if method == b"CONNECT" else _TARGET
        fault = None if pattern.match(target) else Fault.TARGET
        return StartLine(True, b"HTTP", major + b"." + minor, method, target), fault
    parts = line.split()
    if len(parts) == 2 and parts[0] in _HTTP09_METHODS and parts[1].startswith(b"/"):
        return StartLine(True, b"HTTP", b"0.9", parts[0], parts[1]), Fault.VERSION_MISSING
    return Fault.START_LINE if parts and _TOKEN.match(parts[0]) else Fault.METHOD


def read_status_line(line: bytes) -> tuple[StartLine, Fault | None] | Fault:
    """Leniently: a status that is no number of three digits from 100 on is told as 0."""
    match = _STATUS_LINE_LENIENT.match(line)
    if match is None:
        return Fault.START_LINE
    status = match[3]
    is_number = len(status) == 3 and status.isdigit()
    code = _read_code(status) if is_number else 0
    start = StartLine(False, b"HTTP", b"1." + match[2], b"", b"", code, status, match[4] or b"")
    return start, None if is_number else Fault.STATUS_CODE


def check_field_name(name: bytes) -> Fault | None:
    """Whether it is a token."""
    if _TOKEN.match(name):
        return None
    return Fault.FRAMING_FIELD_NAME if looks_like_framing(name) else Fault.FIELD_LINE


def looks_like_framing(line: bytes) -> bool:
    """Whether a parser that skips blanks or control characters may read a framing field here."""
    return _FRAMING_LIKE.match(line) is not None


def check_field_value(value: bytes) -> Fault | None:
    """Whether it has visible characters and blanks only."""
    return None if _VALUE.match(value) else Fault.FIELD_VALUE


def is_target(target: bytes, *, is_connect: bool = False) -> bool:
    """Whether the strict grammar takes it."""
    return (_CONNECT_TARGET if is_connect else _TARGET).match(target) is not None


def read_chunk_line_strictly(line: bytes, *, is_whole: bool = True) -> int | Fault | None:
    """Size of the chunk. None: cut, and not at fault so far."""
    match = (_CHUNK if is_whole else _CHUNK_CUT).match(line)
    if match is None:
        digits = re.match(rb"[0-9A-Fa-f]+", line)
        has_extension = digits is not None and line[digits.end() : digits.end() + 1] == b";"
        return Fault.CHUNK_EXTENSION if has_extension else Fault.CHUNK_SIZE
    size = int(match[1] or (match[2] if not is_whole else None) or b"0", 16)
    if size >= LENGTH_LIMIT:
        return Fault.CHUNK_OVERFLOW
    return size if is_whole else None


def read_chunk_line(line: bytes) -> tuple[int, Fault | None] | Fault:
    """Leniently: blanks around the size, and any extension."""
    match = _CHUNK_LENIENT.match(line)
    if match is None:
        return Fault.CHUNK_SIZE
    size = int(match[1], 16) if len(match[1]) <= 64 else LENGTH_LIMIT
    if size >= SIGNED_LIMIT:
        return Fault.CHUNK_OVERFLOW
    if _CHUNK.match(line):
        return size, None
    return size, Fault.CHUNK_EXTENSION if match[3] else Fault.CHUNK_SIZE_SPACE


# Node takes 2,000 field lines, Apache 100, others as many as a head holds; of what comes after only framing is read.
MAX_FIELDS: Final = 2_000

_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_CONNECTION: Final = frozenset((b"connection", b"proxy-connection"))
# Lengths of the names that `Fields._note` looks for.
_FRAMING_NAME_BYTES: Final = frozenset(map(len, (_LENGTH, _CODING, b"upgrade", *_CONNECTION)))
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

    def add_line(self, line: bytes) -> None:
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
        elif self._is_strict and Fault.HEAD_SIZE not in self.faults:
            self.faults.append(Fault.HEAD_SIZE)
        self._note(name.lower(), value)

    def add_plain_lines(self, block: bytes) -> bool:
        """Takes all lines of a section that has none so far, as `add_line` does one by one, and says so; where one of
        them is not plain, takes none. `block`: lines with their CRLFs. 2 us for eight."""
        if _FIELD_LINES.match(block) is None:
            return False
        lines = [(name, value.rstrip(b" \t")) for name, value in _FIELD_LINE.findall(block)]
        if len(lines) > MAX_FIELDS:
            return False
        self.lines = lines
        for name, value in lines:
            if len(name) in _FRAMING_NAME_BYTES:
                self._note(name.lower(), value)
        return True

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
        if status == _SWITCHING:
            return Framing(Body.NONE, is_upgrade=True)
        if expect is Expect.TUNNEL and 200 <= status < 300:
            return self._decide_tunnel()
        is_interim = 100 <= status < 200
        if is_interim or status in _BODILESS_STATUS or expect is Expect.NO_BODY:
            return Framing(Body.NONE, is_interim=is_interim, is_last=not self._keeps_alive(start))
        if self.is_chunked:
            return Framing(Body.CHUNKED, is_last=not self._keeps_alive(start))
        if self.codings or self.length is None:
            return Framing(Body.CLOSE, is_last=True)
        return self._decide_length(start, is_upgrade=False)

    def _decide_tunnel(self) -> Framing:
        """RFC 9110, section 9.3.6: what is framed there is ignored. A server that frames it all the same opens no
        tunnel."""
        if self.is_chunked and not self._is_strict:
            return Framing(Body.CHUNKED, is_upgrade=True)
        length = 0 if self._is_strict or self.codings else self.length or 0
        return Framing(Body.LENGTH if length else Body.NONE, length, is_upgrade=True)

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
