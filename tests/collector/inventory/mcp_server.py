"""A server of the Model Context Protocol as a sensor reports it: sampled calls in, states of its schemas out."""

from collections.abc import Sequence
from typing import Any, Final

from collector.receiver.schemas import SchemaRecord
from sensor.core.calls import AuthenticationKind, Credentials, Hop, NamedEnds, PrincipalKind, Role
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from tests.collector.inventory.seed import NOW
from tests.collector.schemas.states import Node
from tests.sensor.records import make_origin

KEY: Final = KeyedHash(1, bytes(16))
INTRODUCTION: Final = {
    "protocolVersion": "2025-06-18",
    "serverInfo": {"name": "weather-server", "version": "1.2.0"},
}


def make_tool(name: str, description: str = "") -> dict[str, Any]:
    """As `tools/list` has it."""
    properties = {"city": {"type": "string", "description": description}}
    schema = {"type": "object", "properties": properties, "required": ["city"]}
    return {"name": name, "description": description, "inputSchema": schema}


def ask(
    node: Node,
    route_id: int,
    method: str,
    result: object,
    *,
    params: object = None,
    address: str = "10.0.0.9",
    verb: str = "POST",
    status: int = 200,
    seconds_ago: int = 60,
) -> None:
    """One sampled call."""
    node.book.hash_by(KEY)
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = {"jsonrpc": "2.0", "id": 1, "result": result}
    asked = BodyDocument("application/json", b"application/json", request, True) if verb == "POST" else None
    media_type = "application/json" if verb == "POST" else "text/event-stream"
    told = BodyDocument(media_type, media_type.encode(), answer, True, has_endpoint_event=verb == "GET")
    credentials = Credentials(AuthenticationKind.NONE, 0, PrincipalKind.UNSPECIFIED, 0, False)
    caller = credentials, NamedEnds(Role.SERVER, Hop.ENDPOINT, address, "", "", "1.1", False)
    fields = (None, None, 0, make_origin(1), 0, "/mcp", False, verb, "", caller)
    time_ns = int(NOW - seconds_ago) * 10**9
    node.book.learn_bodies(
        BodyCall(route_id, status, b"", b"", 0, 0, time_ns, *fields), asked, told if result is not None else None, ()
    )


def tell_server(route_id: int, tools: Sequence[str], name: str = "weather-server") -> list[SchemaRecord]:
    """A server with some tools, of which the first is called."""
    node = Node()
    ask(node, route_id, "initialize", {**INTRODUCTION, "serverInfo": {"name": name, "version": "1.2.0"}})
    ask(node, route_id, "tools/list", {"tools": [make_tool(name) for name in tools]})
    ask(node, route_id, "tools/call", {"content": []}, params={"name": tools[0], "arguments": {"city": "x"}})
    return node.tell()
