"""HTTP/1.x message heads: bytes in, a `RequestHead` or `ResponseHead` out, or `Malformed` with a reason. Never raises.

The sensor is not an endpoint. It reads what two other programs have already agreed upon, so the question is never "is
this legal?" but "what did the server take this for?". RFC 9112 is the grammar; where servers in the field are more
lenient than it, so are we:

    head         = start-line CRLF *( field-line CRLF ) CRLF        section 2.1
    request-line = method SP request-target SP HTTP-version section 3: servers split on runs of white space, so do we
    line end     = CRLF, or LF alone                                section 2.2: "a recipient MAY recognize a single LF"
    obs-fold     = CRLF ( SP / HTAB ) section 5.2: joined to the line before it by one space
    target       = origin-form / absolute-form / authority-form / asterisk-form      section 3.2

A head may be cut by the copy limit (`is_truncated`): then its last line is not trusted to be whole, and whoever reads
that header must treat it as cut. Header values stay bytes; names are lower case. Headers that nothing downstream reads
are dropped while parsing, which is what keeps the cost of one head near 3 us (scripts/bench describe).
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

# nginx takes 100 header lines by default in HTTP/2, Apache 100 (LimitRequestFields), Node 2,000; an 8 KiB head holds
# ~2,700 at most.
MAX_HEADERS: Final = 512
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
_MEDIA_TYPE = re.compile(rb"[a-z]{1,20}/[a-z0-9.+\-]{1,64}\Z")

_DEFAULT_PORTS: Final = frozenset((b"80", b"443", b""))
_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}
# Headers that neither identity nor authentication nor content reads, in the two spellings clients send.
_UNREAD: Final = frozenset(
    spelling
    for name in (
        b"Accept", b"Accept-Charset", b"Accept-Encoding", b"Accept-Language", b"Accept-Ranges", b"Cache-Control",
        b"Connection",
        b"Content-Encoding", b"Content-Language", b"Date", b"Dnt", b"DNT", b"ETag", b"Expect", b"Expires", b"If-Match",
        b"If-Modified-Since", b"If-None-Match", b"If-Range", b"If-Unmodified-Since", b"Keep-Alive", b"Last-Modified",
        b"Location",
        b"Origin", b"Pragma", b"Priority", b"Range", b"Referer", b"Sec-Fetch-Dest", b"Sec-Fetch-Mode",
        b"Sec-Fetch-Site",
        b"Sec-Fetch-User", b"Sec-Ch-Ua", b"Sec-Ch-Ua-Mobile", b"Sec-Ch-Ua-Platform", b"Sec-GPC", b"Server", b"Te",
        b"TE", b"Trailer",
        b"Traceparent", b"Tracestate", b"Upgrade-Insecure-Requests", b"User-Agent", b"Vary", b"X-Request-Id",
        b"X-Request-ID",
    )
    for spelling in (name, name.lower())
)  # fmt: skip
# Raw spelling -> lower case, filled as names are met. Dropped whole when full: names come from clients.
_NAME_CACHE_ENTRIES: Final = 4_096
# Host and media type values read lately; they repeat, and a hostile client's only push others out.
_VALUE_CACHE_ENTRIES: Final = 1_024


class Malformed(msgspec.Struct, frozen=True):
    """Not a head of HTTP/1.x; `reason` is a fixed word for counters and never holds a byte of the message."""

    reason: str


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a request head that are read downstream. Private to the node: holds values."""

    method: str
    target: str  # As sent; latin-1.
    path: str  # Without query and fragment, still percent-encoded; `*` for asterisk-form, empty for CONNECT.
    query: str
    version: str  # `1.0` or `1.1`.
    host: str  # Lower case, default port removed; empty when none was sent or it is no host name.
    headers: tuple[tuple[bytes, bytes], ...]  # Lower-case name, value; in order, duplicates kept, unread ones dropped.
    is_last_header_cut: (
        bool  # By the copy limit: the last header of `headers` may be cut, or what follows it is missing.
    )

    def get(self, name: bytes) -> bytes:
        """Value of the first header `name` (lower case), or empty."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def __repr__(self) -> str:
        return f"RequestHead(method={self.method!r}, version={self.version!r}, {len(self.headers)} headers, redacted)"


class _HeadLines:
    """Splits a head into its lines; keeps the cache of header names, which is why it is an object."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}

    def split(self, data: bytes, is_truncated: bool) -> tuple[list[bytes], bool]:
        """Lines up to the empty one, and whether the last of them was cut by the copy limit."""
        end = data.find(b"\r\n\r\n")
        head = data if end < 0 else data[:end]
        lines = head.split(b"\r\n")
        is_plain = head.count(b"\n") == len(lines) - 1 and b"\r\n " not in head and b"\r\n\t" not in head
        if end >= 0 and is_plain and lines[0]:
            return lines, False
        return self._split_lenient(data, is_truncated)

    @staticmethod
    def _split_lenient(data: bytes, is_truncated: bool) -> tuple[list[bytes], bool]:
        lines: list[bytes] = []
        is_cut = is_truncated
        rest = data.lstrip(b"\r\n")  # RFC 9112 section 2.2: ignore empty lines before the request-line.
        for raw in rest.split(b"\n"):
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if not line:
                if lines:
                    is_cut = is_cut and not rest.partition(b"\n")[1]
                    break
                continue
            if line[0] in b" \t" and len(lines) > 1:
                lines[-1] += b" " + line.strip(b" \t")
            else:
                lines.append(line)
        else:
            return lines, is_truncated
        return lines, False

    def read_headers(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Name and value of each field-line after the first; lines without a colon are skipped, as servers do."""
        names = self._names
        headers: list[tuple[bytes, bytes]] = []
        for line in lines[1:MAX_HEADERS]:
            raw, colon, value = line.partition(b":")
            if raw in _UNREAD or not colon:
                continue
            name = names.get(raw)
            if name is None:
                name = raw.strip(b" \t").lower()
                if len(names) >= _NAME_CACHE_ENTRIES:
                    names.clear()
                names[raw] = name
            headers.append((name, value.strip(b" \t")))
        return headers


_lines: Final = _HeadLines()


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


def _read_method(raw: bytes) -> str | None:
    known = _METHODS.get(raw)
    if known is not None:
        return known
    return raw.decode("ascii") if len(raw) <= MAX_METHOD_BYTES and _TOKEN.match(raw) else None


def _split_target(method: str, raw: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(authority, path, query) of a request-target; None when it has none of the four forms."""
    if raw[:1] == b"/":
        path, _, query = raw.partition(b"?")
        if b"#" in raw:
            path, query = path.partition(b"#")[0], query.partition(b"#")[0]
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


def parse_request_head(data: bytes, is_truncated: bool) -> RequestHead | Malformed:
    """Reads the request head at the start of `data`; bytes after its empty line are ignored.

    `is_truncated` says that the copy ended before the head did. Cost: ~3 us for 250 bytes with seven headers.
    """
    lines, is_cut = _lines.split(data, is_truncated)
    if not lines:
        return Malformed("empty")
    start = _read_request_line(lines[0], is_cut and len(lines) == 1)
    if isinstance(start, str):
        return Malformed(start)
    raw_method, raw_target, version = start
    method = _read_method(raw_method)
    if method is None:
        return Malformed("method")
    target = _split_target(method, raw_target)
    if target is None:
        return Malformed("target")
    headers = _lines.read_headers(lines)
    host = target[0]
    if not host:
        for name, value in headers:
            if name == b"host":
                host = value
                break
    return RequestHead(
        method=method,
        target=raw_target.decode("latin-1"),
        path=target[1].decode("latin-1"),
        query=target[2].decode("latin-1"),
        version=version,
        host=normalize_host(host) if host else "",
        headers=tuple(headers),
        is_last_header_cut=is_cut,
    )


def read_response_content_type(data: bytes) -> str:
    """Media type of the response head at the start of `data` (which may be cut); empty when it has none.

    All that is read of a response head: its status and framing are the kernel's. Cost: 1 us.
    """
    end = data.find(b"\r\n\r\n")
    match = _CONTENT_TYPE.search(data, 0, end + 2 if end >= 0 else len(data))
    return read_media_type(match[1]) if match else ""
