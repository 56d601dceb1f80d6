"""Parses HTTP/1.x heads: bytes in, a `RequestHead`, a response's content type, or `Malformed` out. Never raises.

The sensor reads what two other programs have already agreed upon. So the question is what the server took the bytes
for, not whether they are legal. RFC 9112 is the grammar, and the parser is as lenient as real servers:

    head         = start-line CRLF *( field-line CRLF ) CRLF        section 2.1
    request-line = method SP request-target SP HTTP-version         section 3: split on runs of white space
    line end     = CRLF, or LF alone                                section 2.2: "a recipient MAY recognize a single LF"
    obs-fold     = CRLF ( SP / HTAB )                               section 5.2: joined to the line before by one space
    target       = origin-form / absolute-form / authority-form / asterisk-form      section 3.2

The copy limit may cut a head (`is_truncated`). Then its last line may not be whole, and readers of that header must
treat it as cut. Header values stay bytes, names are lower case. A long head that came whole is shortened instead
(`shorten_head`): fields that say who calls what are kept, wherever they stand.

The heads of one client differ in a few lines only. So `_HeaderLines` caches the `Header` of recent lines, with what
`sensor.describe` derived from them. Headers that nothing downstream reads are dropped. A head then costs 2 us instead
of 7 us (scripts/bench describe).

Marks identify client software: which of five header fields a request has, in which order, and the first product of its
User-Agent without its version. Programs write these fields in an order of their own, whatever they request (the idea of
JA4H). The kernel folds the same into a profile (bpf/fields.h), so one profile has one sequence of marks.
"""

import re
from functools import lru_cache
from itertools import islice
from typing import Final

import msgspec

AGENT: Final = b"user-agent"
# The names that are looked at. Of HTTP/2, `connection` is none.
MARK_NAMES: Final = frozenset((b"accept", b"accept-encoding", b"accept-language", b"connection", AGENT))
PRODUCT_BYTES: Final = 16
_PRODUCT: Final = re.compile(rb"[^\x00-\x20/]{0,%d}" % PRODUCT_BYTES)


def read_mark(name: bytes, value: bytes) -> bytes:
    """The mark of a field whose `name` is in MARK_NAMES; `value` without blanks around it. Private to the node."""
    if name != AGENT:
        return name
    product = _PRODUCT.match(value)
    return b"%s %s" % (name, product[0] if product else b"")


# Bytes of a head that are read in their order, and of its first line. nginx takes four buffers of 8 KiB, Node 16 KiB.
# Go takes 1 MiB and Apache 800 KiB: of what is behind, fields that identify are read.
HEAD_BYTES_KEPT: Final = 32 << 10
# nginx takes 100 header lines by default in HTTP/2, Apache 100 (LimitRequestFields), Node 2,000; 32 KiB hold ~10,000 at
# most. Behind these, fields that identify are read.
MAX_HEADERS: Final = 512
# Fields that say which service is called and who calls, the surest first; other names by a word in them.
_IDENTIFYING: Final = (b"host", b"authorization", b"proxy-authorization", b"cookie", b"content-type", b"x-api-key")
_COOKIE_RANK: Final = _IDENTIFYING.index(b"cookie")
_IDENTIFYING_WORD: Final = re.compile(rb"auth|key|token|secret|session|sign|jwt|credential|user|forwarded|real-ip")
# RFC 9110 names no bound; longest registered method (UPDATEREDIRECTREF) has 17 characters.
MAX_METHOD_BYTES: Final = 32
# DNS names have at most 253 characters (RFC 1035, section 2.3.4); a port adds 6.
MAX_HOST_BYTES: Final = 260

# token = 1*tchar, RFC 9110 section 5.6.2.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# absolute-form = absolute-URI: scheme "://" authority path-abempty [ "?" query ], RFC 3986 section 4.3; userinfo is
# dropped.
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?([^/?#]*)([^#]*)")
# uri-host [ ":" port ], RFC 9110 section 7.2: reg-name, IPv4 or IP-literal, wide enough for underscores and raw IPv6.
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~\-]+)(?::(\d{0,5}))?\Z")
# media-type = type "/" subtype, RFC 9110 section 8.3.1; bounded, since the text leaves the node.
_CONTENT_TYPE = re.compile(rb"\ncontent-type[ \t]*:([^\r\n]*)", re.IGNORECASE)
# What is looked at of a value for one, and cached.
_MEDIA_TYPE_BYTES: Final = 128
_MEDIA_TYPE = re.compile(rb"[a-z]{1,20}/[a-z0-9.+\-]{1,64}\Z")

# Server-sent events (HTML standard, section 9.2).
EVENT_STREAM: Final = "text/event-stream"

_DEFAULT_PORTS: Final = frozenset((b"80", b"443", b""))
_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}
# Headers that neither identity nor authentication nor content reads, in the two spellings clients send.
_UNREAD: Final = frozenset(
    spelling
    for name in (
        b"Accept", b"Accept-Charset", b"Accept-Encoding", b"Accept-Language", b"Accept-Ranges", b"Cache-Control",
        b"Connection", b"Content-Encoding", b"Content-Language", b"Content-Length", b"Date", b"Dnt", b"DNT", b"ETag",
        b"Expect", b"Expires", b"If-Match", b"If-Modified-Since", b"If-None-Match", b"If-Range",
        b"If-Unmodified-Since", b"Keep-Alive", b"Last-Modified", b"Location", b"Origin", b"Pragma", b"Priority",
        b"Range", b"Referer", b"Sec-Fetch-Dest", b"Sec-Fetch-Mode", b"Sec-Fetch-Site", b"Sec-Fetch-User",
        b"Sec-Ch-Ua", b"Sec-Ch-Ua-Mobile", b"Sec-Ch-Ua-Platform", b"Sec-GPC", b"Server", b"Te", b"TE", b"Trailer",
        b"Traceparent", b"Tracestate", b"Upgrade-Insecure-Requests", b"User-Agent", b"Vary", b"X-Request-Id",
        b"X-Request-ID",
    )
    for spelling in (name, name.lower())
)  # fmt: skip
UNREAD_NAMES: Final = frozenset(name.lower() for name in _UNREAD)
# Of those, the ones that differ in each request: kept lines of theirs would only push out others.
_UNIQUE: Final = frozenset(
    spelling
    for name in (
        b"Content-Length", b"Date", b"If-Modified-Since", b"If-None-Match", b"Range", b"Referer", b"Traceparent",
        b"Tracestate", b"X-Request-Id", b"X-Request-ID",
    )
    for spelling in (name, name.lower())
)  # fmt: skip
# Lines kept, in each of two generations, and the longest: a hostile client can make them hold 9 MB with their values.
# A browser sends ~10 lines that repeat, a program ~4; a token is a line, and JWTs have up to 2 KB.
_LINE_CACHE_ENTRIES: Final = 1_024
_CACHED_LINE_BYTES: Final = 2_048
# Host and media type values read lately; they repeat, and a hostile client's only push others out.
_VALUE_CACHE_ENTRIES: Final = 1_024


class Malformed(msgspec.Struct, frozen=True):
    """Not a head of HTTP/1.x; `reason` is a fixed word for counters and never holds a byte of the message."""

    reason: str


class Header:
    """One header field. Heads that hold the same line share it, and nobody changes it."""

    __slots__ = ("mark", "name", "text", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name  # Lower case.
        self.value = value
        self.text: str | None = None  # Of `host` and `content-type`: what is read of them.
        self.mark = b""  # Of a field of which no more than this is read (sensor.http.http1.head).
        if name == b"host":
            self.text = normalize_host(value[: MAX_HOST_BYTES + 1]) if value else ""
        elif name == b"content-type":
            self.text = read_media_type(value[:_MEDIA_TYPE_BYTES])

    def __repr__(self) -> str:
        return f"Header(name={self.name!r}, value redacted)"


# Stands for every header that nobody reads.
UNREAD_HEADER: Final = Header(b"", b"")


def _read_unread(name: bytes, value: bytes) -> Header:
    """The header of a field that nobody reads, but for its mark."""
    if name not in MARK_NAMES:
        return UNREAD_HEADER
    header = Header(b"", b"")
    header.mark = read_mark(name, value)
    return header


_BLANKS: Final = (b" ", b"\t")


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The parts of a request head that are read downstream. Private to the node: holds values."""

    method: str
    path: str  # Without query and fragment, still percent-encoded; `*` for asterisk-form, empty for CONNECT.
    query: str
    version: str  # `1.0` or `1.1`.
    host: str  # Lower case, default port removed; empty when none was sent or it is no host name.
    content_type: str  # Media type, lower case, no parameters; empty when none was sent.
    headers: list[Header]  # In order, duplicates kept; without unread ones, `host` and `content-type`.
    is_last_header_cut: bool  # By the copy limit: the last of `headers` may be cut, or what follows it is missing.
    # Of HTTP/2, whose heads come in no text: all fields in which payloads travel, those not in `headers` too.
    free_fields: tuple[tuple[bytes, bytes], ...] = ()
    marks: tuple[bytes, ...] = ()  # Of the client's software; empty too where parts of the head are not known.

    def get(self, name: bytes) -> bytes:
        """Value of the first header `name` (lower case), or empty."""
        for header in self.headers:
            if header.name == name:
                return header.value
        return b""

    def __repr__(self) -> str:
        return f"RequestHead(method={self.method!r}, version={self.version!r}, {len(self.headers)} headers, redacted)"


class _HeaderLines:
    """Field-lines to headers, each line read once while it is among the lately met.

    Two generations: when the new one is full it becomes the old one, which is dropped. A line that is met again is
    carried over, so that lines which come once cannot push out those which repeat.
    """

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[bytes, Header] = {}
        self._old: dict[bytes, Header] = {}

    def find(self, line: bytes) -> Header | None:
        """The header of one line; None where it is no line of its own: it holds a line feed or continues another.

        A line without a colon is skipped, as servers do, and so gives the header that nobody reads.
        """
        header = self._new.get(line)
        if header is not None:
            return header
        header = self._old.get(line)
        if header is None:
            raw, colon, value = line.partition(b":")
            if b"\n" in line or line[:1] in _BLANKS:
                return None
            if raw in _UNIQUE or not colon:
                return UNREAD_HEADER
            name, value = raw.strip(b" \t").lower(), value.strip(b" \t")
            header = _read_unread(name, value) if raw in _UNREAD or name in MARK_NAMES else Header(name, value)
        if len(line) <= _CACHED_LINE_BYTES:
            if len(self._new) >= _LINE_CACHE_ENTRIES:
                self._old, self._new = self._new, {}
            self._new[line] = header
        return header


def _split_lenient(data: bytes, is_truncated: bool) -> tuple[list[bytes], bool]:
    lines: list[bytes] = []
    rest = data.lstrip(b"\r\n")  # RFC 9112 section 2.2: ignore empty lines before the request-line.
    for raw in rest.split(b"\n"):
        line = raw[:-1] if raw.endswith(b"\r") else raw
        if not line:
            if lines:
                return lines, False
            continue
        if line[0] in b" \t" and len(lines) > 1:
            lines[-1] += b" " + line.strip(b" \t")
        else:
            lines.append(line.lstrip(b" \t") if lines else line)
    return lines, is_truncated


def _rank_name(name: bytes) -> int | None:
    """How well a field of this name (lower case) identifies, 0 best; None: not at all."""
    if name in _IDENTIFYING:
        return _IDENTIFYING.index(name)
    return len(_IDENTIFYING) if _IDENTIFYING_WORD.search(name) else None


def bound_headers(headers: list[Header]) -> list[Header]:
    """The first MAX_HEADERS, and as many of those behind them that identify."""
    if len(headers) <= MAX_HEADERS:
        return headers
    ranked = [(rank, header) for header in headers[MAX_HEADERS:] if (rank := _rank_name(header.name)) is not None]
    ranked.sort(key=lambda one: one[0])
    return headers[:MAX_HEADERS] + [header for _, header in ranked[:MAX_HEADERS]]


def shorten_head(data: bytes) -> bytes:
    """A request head of at most twice HEAD_BYTES_KEPT: the first line, fields in their order as far as there is room,
    and behind them those that identify. `data` is the whole head, or as much of it as was copied. Cost: 20 ns a byte,
    of heads beyond HEAD_BYTES_KEPT alone."""
    if len(data) <= HEAD_BYTES_KEPT:
        return data
    lines = [line.removesuffix(b"\r") for line in data.lstrip(b"\r\n").split(b"\n")]
    first, fields = lines[0], lines[1:-1]  # The last is empty, or cut.
    is_whole = not lines[-1] and bool(fields) and not fields[-1]
    if len(first) > HEAD_BYTES_KEPT:
        version = first.rpartition(b" ")[2]
        first = first[:HEAD_BYTES_KEPT] + (b" " + version if version.startswith(b"HTTP/") else b"")
    kept, left, rest = [first], HEAD_BYTES_KEPT - len(first), []
    for line in fields:
        if not line:
            continue
        if len(line) + 2 <= left:
            kept.append(line)
            left -= len(line) + 2
        elif (rank := _rank_name(line.partition(b":")[0].strip(b" \t").lower())) is not None:
            rest.append((rank, line))
    rest.sort(key=lambda one: one[0])
    left = HEAD_BYTES_KEPT
    for rank, line in rest:
        if len(line) + 2 > left:  # Whole cookies are known one by one, a part of another value says nothing.
            line = line[: left - 2].rpartition(b";")[0] if rank == _COOKIE_RANK and left > 2 else b""
        if line:
            kept.append(line)
            left -= len(line) + 2
    return b"\r\n".join(kept) + (b"\r\n\r\n" if is_whole else b"\r\n")


@lru_cache(maxsize=_VALUE_CACHE_ENTRIES)
def normalize_host(raw: bytes) -> str:
    """Host authority in lower case without a default port or trailing dot; empty when it is not one."""
    if len(raw) > MAX_HOST_BYTES:
        return ""
    match = _HOST.match(raw.strip())
    if match is None:
        return ""
    name, port = match.groups()
    host = name.lower().rstrip(b".").decode("ascii")
    return host if port is None or port in _DEFAULT_PORTS else f"{host}:{port.decode('ascii')}"


@lru_cache(maxsize=_VALUE_CACHE_ENTRIES)
def read_media_type(raw: bytes) -> str:
    """`type/subtype` in lower case without parameters; empty when it is none."""
    media = raw.partition(b";")[0].strip(b" \t").lower()
    return media.decode("ascii") if _MEDIA_TYPE.match(media) else ""


def _read_version(raw: bytes) -> str | None:
    known = _VERSIONS.get(raw)
    if known is not None:
        return known
    # RFC 9112 section 2.3: a minor version above 1 is handled as 1.1.
    if len(raw) == 8 and raw[:7].upper() == b"HTTP/1." and raw[7:].isdigit():
        return "1.0" if raw[7:] == b"0" else "1.1"
    return None


def read_method(raw: bytes) -> str | None:
    """A method that is none of `METHODS`."""
    return raw.decode("ascii") if len(raw) <= MAX_METHOD_BYTES and _TOKEN.match(raw) else None


def _split_target(method: str, raw: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(authority, path, query) of a request-target; None when it has none of the four forms."""
    if raw.startswith(b"/"):
        if b"#" in raw:
            raw = raw.partition(b"#")[0]
        path, _, query = raw.partition(b"?")
        return b"", path, query
    if method == "CONNECT":
        return raw, b"", b""
    if raw == b"*":
        return b"", b"*", b""
    match = _ABSOLUTE.match(raw)
    if match is None:
        return None
    authority, rest = match.groups()
    path, _, query = rest.partition(b"?")
    return authority, path or b"/", query


def _read_request_line(line: bytes, is_cut: bool) -> tuple[bytes, bytes, str] | str:
    """(method, target, version), or the reason why it is no request-line."""
    parts = line.split(b" ")
    if len(parts) == 3 and parts[2] in _VERSIONS and not is_cut:
        return parts[0], parts[1], _VERSIONS[parts[2]]
    if len(parts) != 3:
        parts = line.split()
        if len(parts) > 3:  # A target with raw spaces, as lenient servers take it.
            parts = [parts[0], line.split(None, 1)[1].rsplit(None, 1)[0], parts[-1]]
    if is_cut:
        # The copy ended inside the target: usable only when the cut fell into its query.
        if len(parts) >= 2 and b"?" in parts[1]:
            return parts[0], parts[1], "1.1"
        return "request_line_truncated"
    if len(parts) != 3:
        return "request_line"
    version = _read_version(parts[2])
    return "version" if version is None else (parts[0], parts[1], version)


_lines: Final = _HeaderLines()


def parse_request_head(data: bytes, is_truncated: bool) -> RequestHead | Malformed:
    """Reads the request head at the start of `data`; bytes after its empty line are ignored.

    `is_truncated` says that the copy ended before the head did. Cost: ~2 us for 250 bytes with seven headers.
    """
    # Nearly every head is plain: it ends within the copy, and so does each line at its CRLF.
    end = data.find(b"\r\n\r\n")
    if end > 0:
        lines = data[:end].split(b"\r\n")
        if lines[0] and b"\n" not in lines[0]:
            head = _read_lines(lines, False)
            if head is not None:
                return head
    lines, is_cut = _split_lenient(data, is_truncated)
    return (_read_lines(lines, is_cut) if lines else None) or Malformed("empty")


def _read_lines(lines: list[bytes], is_cut: bool) -> RequestHead | Malformed | None:
    """The head of these lines; None where one of them is no line of its own."""
    start = _read_request_line(lines[0], is_cut and len(lines) == 1)
    if isinstance(start, str):
        return Malformed(start)
    raw_method, raw_target, version = start
    method = METHODS.get(raw_method) or read_method(raw_method)
    if method is None:
        return Malformed("method")
    target = _split_target(method, raw_target)
    if target is None:
        return Malformed("target")
    authority, path, query = target
    host: str | None = normalize_host(authority[: MAX_HOST_BYTES + 1]) if authority else None
    content_type: str | None = None
    headers: list[Header] = []
    own_marks: list[bytes] = []
    find = _lines.find
    for line in islice(lines, 1, None):
        header = find(line)
        if header is UNREAD_HEADER:
            continue
        if header is None:
            return None
        if header.mark:
            own_marks.append(header.mark)
        elif header.text is None:
            headers.append(header)
        elif header.name == b"content-type":
            content_type = content_type if content_type is not None else header.text
        elif host is None:
            host = header.text
    return RequestHead(
        method,
        path.decode("latin-1"),
        query.decode("latin-1") if query else "",
        version,
        host or "",
        content_type or "",
        bound_headers(headers),
        is_cut,
        (),
        () if is_cut else tuple(own_marks),
    )


def read_response_content_type(data: bytes) -> str:
    """Media type of the response head at the start of `data` (which may be cut); empty when it has none.

    All that is read of a response head: its status and framing are the kernel's. Cost: 0.4 us in the two usual
    spellings, 1 us in others.
    """
    end = data.find(b"\r\n\r\n")
    end = end + 2 if end >= 0 else len(data)
    start = data.find(b"\r\nContent-Type: ", 0, end)
    if start < 0:
        start = data.find(b"\r\ncontent-type: ", 0, end)
    if start >= 0:
        stop = data.find(b"\r", start + 2, end)
        return read_media_type(data[start + 16 : stop if stop >= 0 else end])
    match = _CONTENT_TYPE.search(data, 0, end)
    return read_media_type(match[1]) if match else ""
