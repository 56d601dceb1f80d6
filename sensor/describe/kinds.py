"""Classifies what a call is besides HTTP (RPC, WebSocket, event stream), and what of it could not be read.

Takes the heads of a call of HTTP/1, or the stream of a call of HTTP/2, and gives `CallFacts`. Pure. They hold no values
of the wire except `unknown`, which stays on the node.

A call is a **stream** where it lasts as long as somebody listens. These are WebSockets, server-sent events and RPCs
with more than one message a direction. RPCs whose answer lasted over a second after its head count too, if nobody
counted their messages. The duration of a stream is reported, but never as a latency.
"""

from typing import Final

import msgspec

from sensor.core.calls import RPC_KINDS, CallKind, CallProtocol, Exchange
from sensor.describe.bodies.reader import BodyCall, find_payload
from sensor.http.grpc import (
    MAX_STATUS,
    METHOD_STATUSES,
    EnvelopeCounter,
    Rpc,
    RpcProtocol,
    StreamingKind,
    read_response_status,
    recognise_rpc,
)
from sensor.http.http1.head import EVENT_STREAM, RequestHead
from sensor.http.http2.heads import UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import StreamCall
from sensor.routes.schema_names import Naming, is_full_method

_KINDS: Final = {
    RpcProtocol.GRPC: CallKind.GRPC,
    RpcProtocol.GRPC_WEB: CallKind.GRPC_WEB,
    RpcProtocol.CONNECT: CallKind.CONNECT,
}
_SWITCHING_PROTOCOLS: Final = 101
_WEBSOCKET: Final = b"websocket"
_STREAMING: Final = (StreamingKind.CLIENT, StreamingKind.SERVER, StreamingKind.BIDIRECTIONAL)


class CallFacts(msgspec.Struct, frozen=True, gc=False):
    """What a call is, and what the other stages must know of it. Private to the node."""

    protocol: CallProtocol = CallProtocol()
    naming: Naming = Naming.NONE  # Whether the path ends in the names of an RPC's service and method.
    is_request_unknown: bool = False  # Fields of the request's head are not known: a credential may be among them.
    unknown: bytes = b""  # Where the path is not known: what distinguishes endpoints all the same.

    def __repr__(self) -> str:
        return f"CallFacts({self.protocol.kind.name}, redacted)"


_PLAIN: Final = CallFacts()
_EVENTS: Final = CallFacts(CallProtocol(is_stream=True))


def read_exchange(exchange: Exchange, head: RequestHead, response_content_type: str) -> CallFacts:
    """Facts of a call of HTTP/1. Cost: 0.3 us for plain HTTP."""
    rpc = recognise_rpc(head)
    status_code = exchange.figures.status_code
    if rpc is not None:
        status = read_response_status(exchange.response_head) if rpc.protocol is not RpcProtocol.CONNECT else None
        request, response = _read_messages(exchange, rpc)
        rpc_status = _find_rpc_status(rpc, status_code, response.status if status is None else status)
        protocol = CallProtocol(
            _KINDS[rpc.protocol],
            rpc_status,
            request.messages,
            response.messages,
            is_stream=not exchange.figures.calls,  # Not by counts, which of calls that were no samples nobody knows.
        )
        return CallFacts(protocol, _find_naming(rpc, status_code, rpc_status, response_content_type))
    if status_code == _SWITCHING_PROTOCOLS and _WEBSOCKET in head.get(b"upgrade").lower():
        messages = exchange.request_messages, exchange.response_messages
        return CallFacts(CallProtocol(CallKind.WEBSOCKET, None, *messages, is_stream=True))
    return _EVENTS if response_content_type == EVENT_STREAM else _PLAIN


def read_stream(connection: int, call: StreamCall, request: StreamRequest) -> CallFacts:
    """Facts of a call of HTTP/2; `connection` is its number on this node."""
    kind, naming, rpc_status = CallKind.HTTP, Naming.NONE, None
    if call.rpc is not None:
        kind = _KINDS[call.rpc.protocol]
        rpc_status = _find_rpc_status(call.rpc, call.status_code, call.grpc_status)
        naming = _find_naming(call.rpc, call.status_code, rpc_status, call.response_content_type)
    elif request.protocol == _WEBSOCKET:
        kind = CallKind.WEBSOCKET
    is_stream = kind is CallKind.WEBSOCKET or call.response_content_type == EVENT_STREAM
    if kind in RPC_KINDS:
        is_stream = call.streaming in _STREAMING or not call.calls
    protocol = CallProtocol(
        kind,
        rpc_status,
        call.request_messages,
        call.response_messages,
        is_stream,
        call.has_unknown_fields,
        call.is_inferred,
    )
    unknown = _name_unknown(connection, request) if request.head.path == UNKNOWN_PATH else b""
    return CallFacts(protocol, naming, request.unknown_fields > 0, unknown)


class _Messages(msgspec.Struct, frozen=True, gc=False):
    """Of one body: how many, and the status that gRPC-Web puts behind them; None where they were not read."""

    messages: int | None = None
    status: int | None = None


_NOT_READ: Final = _Messages()


def _read_messages(exchange: Exchange, rpc: Rpc) -> tuple[_Messages, _Messages]:
    """What both bodies of a call of HTTP/1 are made of, where they were copied whole: of samples."""
    if exchange.bodies is None or not rpc.is_enveloped:
        return _NOT_READ, _NOT_READ
    figures = exchange.figures
    call = BodyCall(
        route_id=0,
        status_code=figures.status_code,
        request_head=exchange.request_head,
        response_head=exchange.response_head,
        request_bytes=figures.request_bytes,
        response_bytes=figures.response_bytes,
        time_ns=figures.time_unix_ns,
        bodies=exchange.bodies,
    )
    return _count_messages(call, is_request=True), _count_messages(call, is_request=False)


def _count_messages(call: BodyCall, *, is_request: bool) -> _Messages:
    payload = find_payload(call, is_request=is_request)
    if payload is None or not payload.is_complete or payload.content_encoding:
        return _NOT_READ
    counter = EnvelopeCounter()
    counter.feed(payload.data)
    return _Messages(counter.messages, counter.status)


def _find_rpc_status(rpc: Rpc, status_code: int, status: int | None) -> int | None:
    """A unary call of Connect succeeds with 200 and nothing else; the code of one that fails is in its body."""
    if rpc.protocol is RpcProtocol.CONNECT:
        return 0 if status_code == 200 and not rpc.is_enveloped else None
    return status if status is None or 0 <= status <= MAX_STATUS else None


def _find_naming(rpc: Rpc, status_code: int, status: int | None, response_content_type: str) -> Naming:
    """What the answer to an RPC shows about the names in its path."""
    if not rpc.method:
        return Naming.NONE
    if rpc.protocol is RpcProtocol.CONNECT:
        if status_code != 200:
            return Naming.NONE
        if rpc.is_enveloped:
            return Naming.SERVED if response_content_type.startswith("application/connect+") else Naming.NONE
        # Answers to unary calls look like those of any HTTP server, so the names must show what they are.
        return Naming.ANSWERED if is_full_method(rpc.service, rpc.method) else Naming.NONE
    if status is not None:
        return Naming.SERVED if status in METHOD_STATUSES else Naming.NONE
    is_answered = status_code == 200 and response_content_type.startswith("application/grpc")
    return Naming.ANSWERED if is_answered else Naming.NONE


def _name_unknown(connection: int, request: StreamRequest) -> bytes:
    """Equal for requests of one connection that are equal in method, path and host, and for no others
    (sensor.http.http2.heads)."""
    head = request.head
    return repr((connection, head.method, head.path, head.host, request.unknown)).encode("utf-8", "replace")
