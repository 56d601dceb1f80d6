"""Writes a call as a JSON object with OpenTelemetry names (semantic conventions 1.44.0).

The default object holds what would leave the node. It is made of a `CallRecord` alone, so it cannot hold what the
sensor's types keep back (docs/use/privacy.md). Names that OpenTelemetry lacks begin with `apidae.`. Fields without a
value are omitted.

`--raw` adds values of the wire, for a user who has the capture file anyway. Of header fields it adds only those listed
here: no credentials and no cookies.
"""

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from common.rpc_status import RPC_STATUSES
from sensor.capture.files.conversation import Call, StreamFields
from sensor.capture.files.flows import FlowTransaction, format_address
from sensor.core.calls import (
    RPC_KINDS,
    STATUS_NOT_READ,
    AuthenticationKind,
    BodyFacts,
    BodyFlag,
    CallKind,
    CallRecord,
)
from sensor.core.clock import format_time
from sensor.describe.attacks.classes import Attack
from sensor.http.http1.grammar import name_smuggling
from sensor.http.http1.head import Malformed
from sensor.http.http1.pairs import Message, Transaction
from sensor.http.http1.stream import Head
from sensor.http.http2.streams import StreamCall
from sensor.routes.segments import format_template
from sensor.sensitive.kinds import DataPlace, list_kinds

Line = dict[str, object]

_NS: Final = 1_000_000_000
# Told by --raw, as `http.request.header.<name>`: a list of values, as the conventions have it.
_REQUEST_HEADERS: Final = (
    b"host", b"referer", b"origin", b"content-type", b"content-length", b"content-encoding", b"transfer-encoding",
    b"connection", b"upgrade", b"expect", b"accept", b"accept-encoding", b"accept-language", b"range", b"via",
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded",
)  # fmt: skip
_RESPONSE_HEADERS: Final = (
    b"content-type", b"content-length", b"content-encoding", b"content-range", b"content-disposition",
    b"transfer-encoding", b"connection", b"upgrade", b"server", b"location", b"via", b"date", b"www-authenticate",
    b"accept-ranges", b"last-modified", b"etag", b"vary", b"cache-control", b"age",
)  # fmt: skip


def build_line(record: CallRecord, *, server_address: str) -> Line:
    """What would leave the node of this call."""
    route, figures, credentials = record.target.route, record.figures, record.credentials
    line: Line = {
        "timestamp": format_time(figures.time_unix_ns),
        "http.request.method": route.method,
        "url.template": format_template(route),
        **_split_host(route.host),
        "http.response.status_code": None if figures.status_code == STATUS_NOT_READ else figures.status_code,
        "network.protocol.name": "http",
        "network.protocol.version": record.ends.protocol_version,
        "server.address": server_address,
        "server.port": route.service.port,
        "client.address": record.ends.client_address,
        "http.request.size": figures.request_bytes,
        "http.response.size": figures.response_bytes,
        "apidae.duration_seconds": figures.duration_ns / _NS,
        "apidae.time_to_first_byte_seconds": figures.time_to_first_byte_ns / _NS,
        "apidae.request.media_type": record.contents.request_content_type,
        "apidae.response.media_type": record.contents.response_content_type,
        "apidae.authentication": list(_name_kinds(credentials.authentication)),
        "apidae.principal.kind": credentials.principal_kind.name.lower() if credentials.principal_kind else "",
        "apidae.principal.hash": _format_hash(credentials.principal),
        "apidae.credential.hash": _format_hash(credentials.credential),
        "apidae.object.hash": _format_hash(record.target.object_hash),
        "apidae.aborted": figures.is_aborted,
        "apidae.lossy": figures.is_lossy,
        "apidae.stream": record.protocol.is_stream,
        "apidae.unknown_fields": record.protocol.has_unknown_fields,
        "apidae.inferred": record.protocol.is_inferred,
        **_name_kind(record),
        **_tell_bodies(record.contents.body),
    }  # fmt: skip
    sized = ("http.request.size", "http.response.size", "apidae.request.messages", "apidae.response.messages",
             "apidae.response.records")  # fmt: skip
    return {name: value for name, value in line.items() if value or name in sized}


def _split_host(host: str) -> Line:
    """`url.domain` has no port; an address of IPv6 keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return {"url.domain": name, "url.port": int(port)} if colon and port.isdigit() else {"url.domain": host}


def tell_attack(attack: Attack) -> Line:
    """Class, confidence and keyed hash of the payload: never the payload."""
    return {
        "apidae.attack.class": attack.attack_class.value,
        "apidae.attack.confidence": attack.confidence.name.lower(),
        "apidae.attack.hash": _format_hash(attack.payload_hash),
    }


def _tell_bodies(body: BodyFacts | None) -> Line:
    """Kinds of data in both bodies and the number of records returned."""
    if body is None:
        return {}
    line: Line = {}
    for name, flag, place in (
        ("request.body", BodyFlag.REQUEST_READ, DataPlace.REQUEST_BODY),
        ("response.body", BodyFlag.RESPONSE_READ, DataPlace.RESPONSE_BODY),
        ("request.path", BodyFlag.HEAD_READ, DataPlace.PATH),
        ("request.query", BodyFlag.HEAD_READ, DataPlace.QUERY),
        ("request.header", BodyFlag.HEAD_READ, DataPlace.REQUEST_HEADER),
    ):
        if body.flags & flag:
            kinds = [kind.value.lower() for kind in list_kinds(body.data, place)]
            if kinds or place <= DataPlace.RESPONSE_BODY:
                line[f"apidae.{name}.data_kinds"] = kinds
    if body.flags & (BodyFlag.MEASURED | BodyFlag.ESTIMATED):
        line["apidae.response.records"] = body.records
        line["apidae.response.records_basis"] = "measured" if body.flags & BodyFlag.MEASURED else "estimated"
    return line


def _name_kind(record: CallRecord) -> Line:
    """What the call is besides HTTP."""
    line: Line = {"apidae.kind": record.protocol.kind.name.lower()} if record.protocol.kind is not CallKind.HTTP else {}
    if record.protocol.kind in RPC_KINDS:
        line |= {"rpc.system.name": "connectrpc" if record.protocol.kind is CallKind.CONNECT else "grpc"}
        names = [segment.text for segment in record.target.route.segments[-2:]]
        if len(names) == 2 and all(names):
            line["rpc.method"] = "/".join(names)
    if record.protocol.rpc_status is not None:
        line["rpc.response.status_code"] = RPC_STATUSES[record.protocol.rpc_status].name
    if record.protocol.request_messages is not None:
        line["apidae.request.messages"] = record.protocol.request_messages
    if record.protocol.response_messages is not None:
        line["apidae.response.messages"] = record.protocol.response_messages
    return line


def build_raw_line(flow: FlowTransaction, line: Line | None, *, reason: str) -> Line:
    """`line` with the fields of the wire. Where there is none, `reason` says why the call would not leave the node."""
    call = flow.transaction
    raw: Line = dict(line) if line is not None else {}
    raw.setdefault("timestamp", format_time(_find_start(call)))
    raw |= {
        "network.transport": "tcp",
        "network.type": "ipv4" if len(flow.server[0]) == 4 else "ipv6",
        "server.address": format_address(flow.server[0]),
        "server.port": flow.server[1],
        "client.address": format_address(flow.client[0]),
        "client.port": flow.client[1],
        "network.local.address": format_address(flow.server[0]),
        "network.local.port": flow.server[1],
        "network.peer.address": format_address(flow.client[0]),
        "network.peer.port": flow.client[1],
        "apidae.connection.id": flow.connection,
        "apidae.connection.call": call.number if isinstance(call, Transaction) else call.stream,
    }
    if line is None:
        raw["apidae.not_reported"] = reason
    if isinstance(call, Transaction):
        _add_transaction(raw, call)
    else:
        _add_stream(raw, call)
        if flow.fields is not None:
            _add_stream_fields(raw, flow.fields)
    return raw


def _find_start(call: Call) -> int:
    if not isinstance(call, Transaction):
        return call.started_ns
    first = call.request or call.response
    return first.started_ns if first is not None else 0


@lru_cache(maxsize=1_024)
def _name_kinds(kinds: AuthenticationKind) -> tuple[str, ...]:
    return tuple(kind.name.lower() for kind in AuthenticationKind if kind & kinds and kind.name)


def _add_transaction(raw: Line, transaction: Transaction) -> None:
    request, response = transaction.request, transaction.response
    if request is not None and request.head is not None:
        _add_request(raw, request, request.head)
    if response is not None:
        _add_response(raw, response)
    optional: Line = {
        "apidae.interim": [each.head.start.status_code for each in transaction.interim if each.head is not None],
        "apidae.upgraded": transaction.is_upgraded,
        "apidae.lossy": transaction.is_lossy,
        "apidae.answer_lost": transaction.is_answer_lost,
    }
    raw |= {name: value for name, value in optional.items() if value}


def _add_stream(raw: Line, call: StreamCall) -> None:
    if not isinstance(call.request, Malformed):
        head = call.request.head
        raw |= {"http.request.method": head.method, "url.path": head.path, "http.request.header.host": [head.host]}
        raw["url.original"] = head.path + (f"?{head.query}" if head.query else "")
        if head.query:
            raw["url.query"] = head.query
        if call.request.unknown_fields:
            raw["apidae.request.unknown_fields"] = call.request.unknown_fields
    if call.rpc is not None and call.rpc.method:
        raw["rpc.method"] = f"{call.rpc.service}/{call.rpc.method}"


def _add_stream_fields(raw: Line, fields: StreamFields) -> None:
    """Of both heads what HTTP/1 has too; a field that is not known, for the capture joined late, is left out."""
    for side, listed, head, size in zip(
        ("request", "response"), (_REQUEST_HEADERS, _RESPONSE_HEADERS), fields.heads, fields.body_bytes, strict=True
    ):
        raw[f"http.{side}.body.size"] = size
        known = [
            (name, value)
            for name, value in head
            if isinstance(name, bytes) and isinstance(value, bytes) and name[:1] != b":"
        ]
        _add_headers(raw, side, known, listed)
        if side == "request":
            first = dict(reversed(known))
            _add_who_asks(raw, first.get(b"user-agent"), first.get(b"authorization"))


def _add_request(raw: Line, request: Message, head: Head) -> None:
    start = head.start
    target = _text(start.target)
    path, _, query = target.partition("#")[0].partition("?")
    raw["http.request.method"] = _text(start.method)
    raw["url.original"] = target
    raw["url.path"] = _find_path(path)
    if query:
        raw["url.query"] = query
    raw["network.protocol.version"] = raw["apidae.request.protocol_version"] = _text(start.version)
    raw["http.request.body.size"] = request.body_bytes
    _add_decoded(raw, "request", request)
    raw["apidae.request.complete"] = request.is_complete
    _add_who_asks(raw, head.get(b"user-agent"), head.get(b"authorization"))
    _add_headers(raw, "request", head.fields, _REQUEST_HEADERS)
    _add_faults(raw, "request", request)


def _add_who_asks(raw: Line, agent: bytes | None, authorization: bytes | None) -> None:
    if agent is not None:
        raw["user_agent.original"] = _text(agent)
    user = _read_user(authorization)
    if user:
        raw["user.name"] = user


def _add_response(raw: Line, response: Message) -> None:
    raw["http.response.body.size"] = response.body_bytes
    _add_decoded(raw, "response", response)
    raw["apidae.response.complete"] = response.is_complete
    head = response.head
    if head is None:
        return
    if head.start.status_code:
        raw["http.response.status_code"] = head.start.status_code
    else:
        raw["apidae.response.status"] = _text(head.start.status)
    raw["apidae.response.reason"] = _text(head.start.reason.strip())
    # What the two ends settled on is what the response says (RFC 9110, section 2.5); the request's stands beside it.
    raw["network.protocol.version"] = raw["apidae.response.protocol_version"] = _text(head.start.version)
    _add_headers(raw, "response", head.fields, _RESPONSE_HEADERS)
    _add_faults(raw, "response", response)


def _add_decoded(raw: Line, side: str, message: Message) -> None:
    if message.decoded is not None and message.decoded.size_bytes is not None:
        raw[f"apidae.{side}.body.decoded_size"] = message.decoded.size_bytes


def _add_headers(raw: Line, side: str, fields: Sequence[tuple[bytes, bytes]], names: tuple[bytes, ...]) -> None:
    values: dict[bytes, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(_text(value))
    raw |= {f"http.{side}.header.{name.decode()}": values[name] for name in names if name in values}
    if fields:
        raw[f"apidae.{side}.header_names"] = [_text(name) for name, _ in fields]


def _add_faults(raw: Line, side: str, message: Message) -> None:
    if message.faults:
        raw[f"apidae.{side}.faults"] = [fault.value for fault in message.faults]
    smuggling = name_smuggling(message.faults) if side == "request" else []
    if smuggling:
        raw["http.request.smuggling"] = smuggling


def _find_path(path: str) -> str:
    """Of absolute-form, the part after the authority; of authority-form (CONNECT), nothing."""
    if path.startswith(("/", "*")):
        return path
    _, scheme, rest = path.partition("://")
    if not scheme:
        return ""
    _, slash, path = rest.partition("/")
    return slash + path or "/"


def _read_user(authorization: bytes | None) -> str:
    """The user of Basic credentials, never the password."""
    scheme, _, value = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return ""
    try:
        return _text(base64.b64decode(value.strip(), validate=True).partition(b":")[0])
    except binascii.Error:
        return ""


def _format_hash(value: int) -> str:
    return f"{value:016x}" if value else ""


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
