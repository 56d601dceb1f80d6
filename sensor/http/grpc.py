"""Recognises gRPC, gRPC-Web and Connect calls over HTTP, and reads their service, method, messages and status.

Reads request heads, trailers and, where they were copied, bodies. All three protocols frame messages alike, except
unary calls of Connect, whose body is the message, and gRPC-Web as text (base64):

    Length-Prefixed-Message = Compressed-Flag (1 byte) Message-Length (4 bytes, big endian) Message

Status codes are those of google.rpc.Code. gRPC sends them as numbers, Connect by name. `RpcStatus.http` is the HTTP
status that google/rpc/code.proto and Connect's reference map a code to. So an RPC that failed under HTTP 200 counts in
the class of what happened. The codes mapped to 5xx are those that OpenTelemetry's conventions for gRPC call errors of
the server, except CANCELLED (499).

Sources: the gRPC project's "gRPC over HTTP/2" and "gRPC Web" (PROTOCOL-HTTP2.md, PROTOCOL-WEB.md), and the Connect
protocol reference (connectrpc.com/docs/protocol).
"""

import re
from enum import Enum
from typing import Final

import msgspec

from common.rpc_status import RPC_STATUSES
from sensor.http.http1.head import RequestHead

PREFIX_BYTES: Final = 5
# What answers of gRPC are usually of; a request's type may have any suffix.
GRPC_TYPES: Final = frozenset(("application/grpc", "application/grpc+proto", "application/grpc+json"))
MAX_STATUS: Final = 16  # UNAUTHENTICATED, the last of google.rpc.Code.
# OK, and the statuses that libraries never give by themselves (INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS,
# FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, DATA_LOSS; the gRPC project's statuscodes.md): the method itself answered.
METHOD_STATUSES: Final = frozenset((0, 3, 5, 6, 9, 10, 11, 15))
# Flags of a message that is none: trailers of gRPC-Web, and the end of a stream of Connect.
_TRAILERS_FLAG: Final = 0x80
_END_FLAGS: Final = 0x82
_KNOWN_FLAGS: Final = 0x83  # And compressed.

# Trailers of gRPC-Web are read up to here; their status comes first or second, a message may follow.
_TRAILERS_BYTES: Final = 4_096
_TRAILERS_STATUS = re.compile(rb"(?:\A|\n)grpc-status:[ \t]*(\d{1,2})[ \t]*\r?(?:\n|\Z)", re.IGNORECASE)

_HEAD_STATUS = re.compile(rb"\ngrpc-status:[ \t]*(\d{1,2})[ \t]*\r?\n", re.IGNORECASE)

# Path = "/" Service-Name "/" {method name}; a proxy may have put a prefix before it. Schemas other than protobuf's have
# names of other characters.
_PATH = re.compile(r"/([^/]{1,255})/([^/]{1,255})\Z")
CONNECT_VERSION_HEADER: Final = b"connect-protocol-version"
CONNECT_PARAMETER: Final = "connect"
_CONNECT_QUERY = re.compile(r"(?:^|&)connect=v1(?:&|\Z)")


class RpcProtocol(Enum):
    """Which protocol a call speaks; values are OpenTelemetry's rpc.system.name, where gRPC-Web is grpc too."""

    GRPC = "grpc"
    GRPC_WEB = "grpc_web"
    CONNECT = "connectrpc"


class StreamingKind(Enum):
    """How many messages go each way."""

    UNKNOWN = "unknown"
    UNARY = "unary"
    CLIENT = "client_streaming"
    SERVER = "server_streaming"
    BIDIRECTIONAL = "bidirectional_streaming"


class Rpc(msgspec.Struct, frozen=True, gc=False):
    """What a request's head says of the call it is."""

    protocol: RpcProtocol
    service: str  # With its package; empty where the path has none or is unknown.
    method: str
    is_enveloped: bool  # Bodies are messages with a prefix, so that they can be counted.


def recognise_rpc(head: RequestHead) -> Rpc | None:
    """The call that a request is, by its content type and headers; None for plain HTTP."""
    content_type = head.content_type
    if content_type.startswith("application/grpc"):
        rest = content_type[16:]
        if rest == "" or rest[0] == "+":
            return _make(RpcProtocol.GRPC, head, True)
        if rest.startswith("-web"):
            return _make(RpcProtocol.GRPC_WEB, head, not rest.startswith("-web-text"))
        return None
    if content_type.startswith("application/connect+"):
        return _make(RpcProtocol.CONNECT, head, True)
    if head.get(CONNECT_VERSION_HEADER) or ("connect=v1" in head.query and _CONNECT_QUERY.search(head.query)):
        return _make(RpcProtocol.CONNECT, head, False)
    return None


def name_grpc(head: RequestHead) -> Rpc:
    """The call of a request whose answer showed that it is gRPC, where its own content type is not known."""
    return _make(RpcProtocol.GRPC, head, False)


def _make(protocol: RpcProtocol, head: RequestHead, is_enveloped: bool) -> Rpc:
    match = _PATH.search(head.path)
    service, method = match.groups() if match is not None else ("", "")
    return Rpc(protocol, service, method, is_enveloped)


def read_status(value: bytes) -> int | None:
    """`grpc-status` as a number; None where it is none of google.rpc.Code."""
    if not value.isdigit() or len(value) > 2:
        return None
    status = int(value)
    return status if status <= MAX_STATUS else None


def read_response_status(head: bytes) -> int | None:
    """`grpc-status` in a response head of HTTP/1, where a call of gRPC-Web that fails at once has it; else None."""
    match = _HEAD_STATUS.search(head)
    return read_status(match[1]) if match is not None else None


def infer_streaming(request_messages: int | None, response_messages: int | None) -> StreamingKind:
    """The kind that one call's counts show. It is a lower bound: a stream may hold a single message, or none.

    Of several calls of one method the widest is nearest to the truth.
    """
    if request_messages is None or response_messages is None:
        return StreamingKind.UNKNOWN
    return _KINDS[request_messages > 1, response_messages > 1]


_KINDS: Final = {
    (False, False): StreamingKind.UNARY,
    (True, False): StreamingKind.CLIENT,
    (False, True): StreamingKind.SERVER,
    (True, True): StreamingKind.BIDIRECTIONAL,
}


class EnvelopeCounter:
    """Counts the messages of one body, cut anywhere. Bytes that were not copied are bridged within a message.

    Of the messages nothing is kept.
    """

    __slots__ = ("_held", "_left", "_trailers", "messages", "status")

    def __init__(self) -> None:
        self.messages: int | None = 0  # None once the place in the body was lost.
        self.status: int | None = None  # `grpc-status` of the trailers that gRPC-Web puts into the body.
        self._trailers: bytearray | None = None  # While they are read.
        self._held = b""  # Of a prefix.
        self._left = 0  # Bytes of a message to come.

    def feed(self, data: bytes) -> None:
        """Bytes of the body."""
        if self.messages is None:
            return
        at, end = 0, len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                self._left -= size
                if self._trailers is not None:
                    self._read_trailers(data[at : at + size])
                at += size
                continue
            if not self._held and end - at >= PREFIX_BYTES:
                prefix, at = data[at : at + PREFIX_BYTES], at + PREFIX_BYTES
            else:
                wanted = PREFIX_BYTES - len(self._held)
                prefix = self._held + data[at : at + wanted]
                at += wanted
                if len(prefix) < PREFIX_BYTES:
                    self._held = prefix
                    return
                self._held = b""
            if prefix[0] & ~_KNOWN_FLAGS:
                self.messages = None
                return
            if not prefix[0] & _END_FLAGS:
                self.messages += 1
            self._left = int.from_bytes(prefix[1:])
            self._trailers = bytearray() if prefix[0] == _TRAILERS_FLAG else None

    def _read_trailers(self, data: bytes) -> None:
        assert self._trailers is not None
        self._trailers += data[: _TRAILERS_BYTES - len(self._trailers)]
        if not self._left:
            match = _TRAILERS_STATUS.search(self._trailers)
            self.status = read_status(match[1]) if match is not None else None
            self._trailers = None

    def pass_messages(self, count: int) -> None:
        """So many whole messages were not copied; none where the place is within another."""
        if self._left or self._held:
            self.messages = None
        elif self.messages is not None:
            self.messages += count

    def skip(self, length: int) -> None:
        """`length` bytes of the body were not copied."""
        if length <= self._left:
            self._left -= length
            self._trailers = None
        elif length:
            self.messages = None


def find_outcome(status_code: int, rpc_status: int | None) -> int:
    """The HTTP status that says how a call ended: that of its RPC status, where it has one."""
    return status_code if rpc_status is None else RPC_STATUSES[rpc_status].http
