"""What calls speak, as people filter by it: names, the bits that summaries keep, the SQL that finds the bit of a row.

A call has one of them: an RPC over HTTP/2 is `grpc`, not `http/2` too. An endpoint has those of all its calls.
Server-sent events show by the media type of the answer, all others by the wire's CallKind or the version.
"""

from enum import StrEnum

EVENT_STREAM = "text/event-stream"
KIND_GRPC, KIND_GRPC_WEB, KIND_CONNECT, KIND_WEBSOCKET = 1, 2, 3, 4  # proto CallKind.


class Protocol(StrEnum):
    """In the order of their bits, which the store keeps: new ones go last."""

    HTTP_1_0 = "http/1.0"
    HTTP_1_1 = "http/1.1"
    HTTP_2 = "http/2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    CONNECT = "connect"
    WEBSOCKET = "websocket"
    SERVER_SENT_EVENTS = "server-sent events"
    # Of operations that share one path (collector/inventory/operations.py): no row of calls has them.
    GRAPHQL = "graphql"
    JSON_RPC = "json-rpc"
    MCP = "mcp"
    SOAP = "soap"


BITS: dict[Protocol, int] = {protocol: 1 << place for place, protocol in enumerate(Protocol)}
RPC_PROTOCOLS = frozenset((Protocol.GRPC, Protocol.GRPC_WEB, Protocol.CONNECT))
RPC_BITS = sum(BITS[protocol] for protocol in RPC_PROTOCOLS)
# By the wire's name of an operation's protocol.
OPERATION_PROTOCOLS = {
    "graphql": Protocol.GRAPHQL,
    "json_rpc": Protocol.JSON_RPC,
    "mcp": Protocol.MCP,
    "soap": Protocol.SOAP,
}
_OF_KINDS = {
    KIND_GRPC: Protocol.GRPC,
    KIND_GRPC_WEB: Protocol.GRPC_WEB,
    KIND_CONNECT: Protocol.CONNECT,
    KIND_WEBSOCKET: Protocol.WEBSOCKET,
}
_OF_VERSIONS = {"1.0": Protocol.HTTP_1_0, "1.1": Protocol.HTTP_1_1, "2": Protocol.HTTP_2}


def find_bit(row: str) -> str:
    """The SQL of the bit of a row of calls, by its alias; 0 where nothing is known of its version."""
    kinds = [(f"{row}.kind = {kind}", protocol) for kind, protocol in _OF_KINDS.items()]
    events = [(f"{row}.response_content_type = '{EVENT_STREAM}'", Protocol.SERVER_SENT_EVENTS)]
    versions = [(f"{row}.protocol_version = '{version}'", protocol) for version, protocol in _OF_VERSIONS.items()]
    cases = ", ".join(f"{condition}, {BITS[protocol]}" for condition, protocol in (*kinds, *events, *versions))
    return f"toUInt32(multiIf({cases}, 0))"


def name_protocols(bits: int) -> tuple[Protocol, ...]:
    """Protocols of some bits, in their order."""
    return tuple(protocol for protocol, bit in BITS.items() if bits & bit)
