"""Turns header blocks of HTTP/2 into heads: a `HeaderBlock` in, a `RequestHead` as for HTTP/1 or a response's facts
out.

Method, path, host and status are pseudo-header fields and come before all others (RFC 9113, section 8.3). So
`sensor.describe` and `sensor.routes.templating` read the same type for both versions.

A decoder that joined late leaves placeholders. `unknown_fields` counts them, because a credential may be among them.
Where path, method or host are not known, `unknown` holds the unknown fields at the places of pseudo-header fields. Two
requests of one connection with equal `unknown` and equal known parts are equal in all three. So unknown endpoints are
kept apart, and two endpoints are never taken for one.

Where only the name of a field is unknown, place and value can show it. Only pseudo-header fields stand before a
pseudo-header field, and among their values only a path starts with a slash. Such a head is marked `is_inferred`.
"""

from typing import Final

import msgspec

from sensor.http.grpc import Rpc, read_status, recognise_rpc
from sensor.http.hpack import Field, HeaderBlock, Placeholder, Text
from sensor.http.http1.head import (
    AGENT,
    MARK_NAMES,
    MAX_HEADERS,
    MAX_HOST_BYTES,
    METHODS,
    UNREAD_NAMES,
    Header,
    Malformed,
    RequestHead,
    bound_headers,
    normalize_host,
    read_mark,
    read_media_type,
    read_method,
)

VERSION: Final = "2"
# What stands for text that is not known; the method's is OpenTelemetry's name for it.
UNKNOWN_PATH: Final = "<unknown>"
UNKNOWN_METHOD: Final = "_OTHER"

# Headers kept in each of two generations, and the longest, as for the lines of HTTP/1.
_CACHE_ENTRIES: Final = 1_024
_CACHED_BYTES: Final = 2_048
_MEDIA_TYPE_BYTES: Final = 128

# Where the fields that are read by name go to.
_METHOD, _PATH, _AUTHORITY, _SCHEME, _PROTOCOL, _STATUS, _HOST, _CONTENT_TYPE, _SLOTS = range(9)
_UNREAD: Final = _SLOTS
_FREE: Final = _SLOTS + 1  # Kept, and read by nobody but who looks for attacks.
_SHAPE: Final = _SLOTS + 2  # Of which the mark is read.
_AGENT: Final = _SLOTS + 3  # Kept as a free one, and its mark read.
_PSEUDO_SLOTS: Final = _HOST  # Those before it begin with a colon.
_ROLES: Final[dict[Text, int]] = {
    b":method": _METHOD,
    b":path": _PATH,
    b":authority": _AUTHORITY,
    b":scheme": _SCHEME,
    b":protocol": _PROTOCOL,
    b":status": _STATUS,
    b"host": _HOST,
    b"content-type": _CONTENT_TYPE,
    **dict.fromkeys(UNREAD_NAMES - {b"host", b"content-type"}, _UNREAD),
    **dict.fromkeys(MARK_NAMES - {b"connection"}, _SHAPE),
    AGENT: _AGENT,
    b"referer": _FREE,
}


class StreamRequest(msgspec.Struct, frozen=True, gc=False):
    """A request's head. Private to the node: holds values."""

    head: RequestHead
    rpc: Rpc | None
    protocol: bytes  # `:protocol` of an extended CONNECT (RFC 8441), `websocket` above all; else empty.
    unknown: tuple[Field, ...]  # Empty where method, path and host are known.
    unknown_fields: int  # Of all its fields.
    is_inferred: bool  # Path or method follow from place and value of a field whose name is unknown.

    def __repr__(self) -> str:
        return f"StreamRequest({self.head!r}, unknown_fields={self.unknown_fields})"


class StreamResponse(msgspec.Struct, frozen=True, gc=False):
    """What is read of a response's head, or of its trailers."""

    has_status: bool
    status_code: int  # 0 where it is not known, or no number from 100 on.
    content_type: str
    grpc_status: int | None
    unknown_fields: int
    inferred_status_code: int  # If this is a head and no trailers: of a first field whose name is unknown; else 0.
    content_coding: bytes  # `content-encoding`.


class _Headers:
    """Fields to headers, each read once while it is among the lately met; a field met again is carried over."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[Field, Header] = {}
        self._old: dict[Field, Header] = {}

    def find(self, name: bytes, value: bytes, field: Field) -> Header:
        header = self._new.get(field)
        if header is not None:
            return header
        header = self._old.get(field) or Header(name, value)
        if len(value) + len(name) <= _CACHED_BYTES:
            if len(self._new) >= _CACHE_ENTRIES:
                self._old, self._new = self._new, {}
            self._new[field] = header
        return header


_headers: Final = _Headers()


def read_request(block: HeaderBlock) -> StreamRequest | Malformed:
    """The head of a request; a block that was read before costs nothing."""
    reading = block.reading
    if not isinstance(reading, (StreamRequest, Malformed)):
        reading = block.reading = _read_request(block)
    return reading


def _read_request(block: HeaderBlock) -> StreamRequest | Malformed:
    slots: list[bytes | None] = [None] * _SLOTS
    headers: list[Header] = []
    free: list[tuple[bytes, bytes]] = []
    own_marks: list[bytes] = []
    unknown_fields, is_agent_unknown = 0, False
    role_of, find = _ROLES.get, _headers.find
    for field in block.fields:
        name, value = field
        role = role_of(name)
        if role == _UNREAD:
            continue
        if role == _SHAPE and type(name) is bytes:
            own_marks.append(name)
            continue
        if type(name) is not bytes or type(value) is not bytes:
            unknown_fields += role != _FREE and role != _AGENT
            is_agent_unknown |= role == _AGENT
        elif role is None:
            free.append((name, value))
            headers.append(find(name, value, field))
        elif role >= _HOST:
            free.append((name, value))
            if role == _AGENT:
                own_marks.append(read_mark(name, value.strip(b" \t")))
            elif role != _FREE and slots[role] is None:
                slots[role] = value
        elif slots[role] is None:
            slots[role] = value
    known_marks = () if unknown_fields or is_agent_unknown else tuple(own_marks)
    return _make_request(block, slots, bound_headers(headers), tuple(free[:MAX_HEADERS]), unknown_fields, known_marks)


def _make_request(
    block: HeaderBlock,
    slots: list[bytes | None],
    headers: list[Header],
    free_fields: tuple[tuple[bytes, bytes], ...],
    unknown_fields: int,
    own_marks: tuple[bytes, ...],
) -> StreamRequest | Malformed:
    is_inferred = bool(unknown_fields) and _infer(block, slots)
    authority = slots[_AUTHORITY] or slots[_HOST]
    unknown = _find_unknown(block) if unknown_fields else ()
    method = _read_method(slots[_METHOD], bool(unknown))
    if method is None:
        return Malformed("method")
    target = _read_path(slots[_PATH], bool(unknown), method)
    if target is None:
        return Malformed("target")
    path, query = target
    head = RequestHead(
        method,
        path,
        query,
        VERSION,
        normalize_host(authority[: MAX_HOST_BYTES + 1]) if authority else "",
        read_media_type((slots[_CONTENT_TYPE] or b"")[:_MEDIA_TYPE_BYTES]),
        headers,
        False,
        free_fields,
        own_marks,
    )
    if slots[_METHOD] is not None and slots[_PATH] is not None and authority is not None:
        unknown = ()
    return StreamRequest(head, recognise_rpc(head), slots[_PROTOCOL] or b"", unknown, unknown_fields, is_inferred)


def _read_method(raw: bytes | None, has_unknown: bool) -> str | None:
    if raw is None:
        return UNKNOWN_METHOD if has_unknown else None
    return METHODS.get(raw) or read_method(raw)


def _read_path(raw: bytes | None, has_unknown: bool, method: str) -> tuple[str, str] | None:
    """(path, query); None where it is no `:path`."""
    if raw is None:
        if has_unknown:
            return UNKNOWN_PATH, ""
        return ("", "") if method == "CONNECT" else None
    if raw[:1] != b"/" and raw != b"*":
        return None
    # A fragment is never sent; servers that get one cut it.
    path, _, query = raw.partition(b"#")[0].partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")


def _infer(block: HeaderBlock, slots: list[bytes | None]) -> bool:
    """Fills path and method from fields whose names are unknown; whether there was one."""
    last = max((place for place, (name, _) in enumerate(block.fields) if _is_pseudo(name)), default=0)
    is_inferred = False
    for name, value in block.fields[:last]:
        if isinstance(name, Placeholder) and isinstance(value, bytes):
            slot = _PATH if value[:1] == b"/" else _METHOD if value in METHODS else None
            if slot is not None and slots[slot] is None:
                slots[slot] = value
                is_inferred = True
    return is_inferred


def _is_pseudo(name: Text) -> bool:
    return isinstance(name, bytes) and name[:1] == b":"


def _find_unknown(block: HeaderBlock) -> tuple[Field, ...]:
    """Unknown fields before the first that is known to be none of the pseudo-header fields."""
    found = []
    for field in block.fields:
        if isinstance(field[0], Placeholder):
            found.append(field)
        elif not _is_pseudo(field[0]):
            break
    return tuple(found)


def is_request(block: HeaderBlock) -> bool | None:
    """Whether a block is a request's head or a response's; None where its fields do not show it."""
    for name, _ in block.fields:
        role = _ROLES.get(name)
        if role is not None and role < _PSEUDO_SLOTS:
            return role != _STATUS
    return None


def read_response(block: HeaderBlock) -> StreamResponse:
    """The facts of a response's head or trailers; a block that was read before costs nothing."""
    reading = block.reading
    if not isinstance(reading, StreamResponse):
        reading = block.reading = _read_response(block)
    return reading


def _read_response(block: HeaderBlock) -> StreamResponse:
    status: bytes | None = None
    content_type, content_coding, grpc_status = "", b"", None
    unknown_fields = 0
    for name, value in block.fields:
        if type(name) is not bytes or type(value) is not bytes:
            unknown_fields += 1
        elif name == b":status":
            status = value
        elif name == b"content-type":
            content_type = read_media_type(value[:_MEDIA_TYPE_BYTES])
        elif name == b"content-encoding":
            content_coding = value[:_MEDIA_TYPE_BYTES]
        elif name == b"grpc-status":
            grpc_status = read_status(value)
    return StreamResponse(
        status is not None,
        _read_status(status),
        content_type,
        grpc_status,
        unknown_fields,
        _infer_status(block),
        content_coding,
    )


def _read_status(value: Text | None) -> int:
    if not isinstance(value, bytes) or len(value) != 3 or not value.isdigit() or value[:1] == b"0":
        return 0
    return int(value)


def _infer_status(block: HeaderBlock) -> int:
    """The only pseudo-header field of a response comes first."""
    name, value = block.fields[0] if block.fields else (b"", b"")
    return _read_status(value) if isinstance(name, Placeholder) else 0
