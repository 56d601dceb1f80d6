"""Lines of HTTP/1 messages: start lines, field lines and chunk sizes, read strictly or leniently.

A line comes without its line feed and carriage return. A line that is cut (`is_whole = False`: the stream ended in it)
is at fault only where no continuation could make it right, so that a strict verdict does not depend on how the bytes
were cut.

The strict grammar is that of llhttp 9 (its `http.ts`, `url.ts` and `constants.ts`), the parser of Node.js: RFC 9112
with a closed list of methods, no obs-fold, no bare CR or LF, and targets without bytes beyond ASCII.
"""

import re
from typing import Final

import msgspec

from sensor.protocols.http1_faults import Fault

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
# RFC 9112 section 2.3, plus what llhttp takes.
_STRICT_VERSIONS: Final = frozenset((b"0.9", b"1.0", b"1.1", b"2.0"))
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
# What some parsers may take for a framing field although its name is not clean.
_FRAMING_LIKE = re.compile(rb"(?i)[\x00-\x20\"']*(?:content[-_]length|transfer[-_]encoding)[^:\x21-\x7e]*(?::|\Z)")
_STATUS_LINE = re.compile(rb"(HTTP|RTSP|ICE)/(\d)\.(\d) (\d{3})(?: (.*)|\Z)", re.DOTALL)
_STATUS_LINE_LENIENT = re.compile(rb"HTTP/(1)\.(\d) (\S{3,8})(?: (.*)|\Z)", re.DOTALL)
_REQUEST_LINE_LENIENT = re.compile(rb"([" + _TCHAR + rb"]{1,32})[ \t]+(\S.*?)[ \t]+HTTP/(\d)\.(\d)[ \t]*\Z", re.DOTALL)

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
    protocol: bytes  # `HTTP`; strictly also `RTSP`, `ICE`.
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
        return StartLine(True, b"HTTP", b"0.9", method, target) if is_whole else None
    rest = rest.lstrip(b" ")
    protocol, slash, version = rest.partition(b"/")
    if not slash:
        is_begin = any(known.startswith(protocol) for known in _PROTOCOL_METHODS)
        return None if is_begin and not is_whole else Fault.START_LINE
    if method not in _PROTOCOL_METHODS.get(protocol, ()):
        return Fault.START_LINE
    if not is_whole and len(version) < 3:
        return None if any(known.startswith(version) for known in _STRICT_VERSIONS) else Fault.VERSION
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
                is_begin = not is_whole and any(known.startswith(rest[:4]) for known in _STRICT_VERSIONS)
                return None if is_begin else Fault.VERSION
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
