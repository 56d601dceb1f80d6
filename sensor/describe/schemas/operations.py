"""Finds operations that share one path: GraphQL operations, JSON-RPC methods, MCP tools, SOAP actions, and actions that
a header or a parameter names.

Takes heads and parsed bodies, gives `Operation`s, and never raises.

Sources: GraphQL over HTTP (draft of the GraphQL foundation), JSON-RPC 2.0, Model Context Protocol (2026-07-28, tools,
prompts and resources), SOAP 1.1 section 6.1.1 and SOAP 1.2 part 2 section 6.5.3, the protocols awsJson and awsQuery of
smithy.io.
"""

import re
from typing import Final
from urllib.parse import parse_qs

import msgspec

MAX_OF_BATCH: Final = 32  # Calls of one JSON-RPC batch that are looked at.
MAX_DOCUMENT_CHARACTERS: Final = 4_096  # Of a GraphQL document, until its first operation.
_QUERY_FIELDS_MAX: Final = 32
_GRAPHQL: Final = re.compile(r"(?:^|[\s}])(query|mutation|subscription)\b\s*([_A-Za-z][_0-9A-Za-z]*)?")
_COMMENT: Final = re.compile(r"#[^\n]*")
# Of an anonymous operation: its first field, past an alias.
_FIRST_FIELD: Final = re.compile(r"\{\s*(?:[_A-Za-z][_0-9A-Za-z]*\s*:\s*)?([_A-Za-z][_0-9A-Za-z]*)")
_ACTION: Final = re.compile(rb'action\s*=\s*"([^"]{1,256})"', re.IGNORECASE)
_LAST_PART: Final = re.compile(r"[^/#:]+\Z")
# `DynamoDB_20120810.GetItem`, `GetItem`; as a parameter it is written like this and has this name, in this case.
_CAMEL: Final = re.compile(r"(?:[\w.]{1,128}\.)?([A-Z][A-Za-z0-9]{2,63})\Z", re.ASCII)
_ACTION_PARAMETER: Final = "Action"
# Requests of MCP that name what they call, and where.
_MCP: Final = {"tools/call": ("tool", "name"), "prompts/get": ("prompt", "name"), "resources/read": ("resource", "")}
_MCP_METHODS: Final = frozenset(
    (
        "initialize", "ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list",
        "logging/setLevel", "server/discover", "subscriptions/listen", "completion/complete", "resources/subscribe",
        "resources/unsubscribe",
    )
)  # fmt: skip


class Operation(msgspec.Struct, frozen=True):
    """`protocol`: graphql, json_rpc, mcp, soap, action. `kind`: query, mutation, subscription; tool, prompt, resource,
    method; method; action. `name` is as the client wrote it: private until `sensor.describe.schemas.book` has assessed
    it."""

    protocol: str
    kind: str
    name: str


def find_in_document(document: object, content_type: bytes = b"") -> list[Operation]:
    """Operations that a request's body asks for."""
    if isinstance(document, list):
        return [one for item in document[:MAX_OF_BATCH] for one in _find_one(item)]
    if b"soap+xml" in content_type and (action := _ACTION.search(content_type)):
        return _name_action(action[1])
    return _find_one(document)


def find_in_head(query: str, soap_action: bytes, target: bytes = b"") -> list[Operation]:
    """Operations that a request's head asks for: GraphQL by GET, SOAP 1.1, `Action=`, `X-Amz-Target` (`target`)."""
    if soap_action:
        return _name_action(soap_action.strip(b'" '))
    if target:
        return _find_action(target.decode("latin-1"))
    if not any(f"{name}=" in query for name in ("query", "operationName", _ACTION_PARAMETER)):
        return []
    try:
        fields = parse_qs(query, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        return []
    texts = {name: values[0] for name, values in fields.items()}
    if action := _find_action(texts.get(_ACTION_PARAMETER)):
        return action
    return _find_graphql(texts) if "{" in texts.get("query", "") or "extensions" in texts else []


def has_failed(document: object) -> bool:
    """Whether an answer says that its operation failed, whatever its status."""
    if isinstance(document, list):
        return any(has_failed(item) for item in document[:MAX_OF_BATCH] if isinstance(item, dict))
    return isinstance(document, dict) and bool(document.get("errors") or document.get("error"))


def find_told(document: object, protocol: str, kind: str) -> object | None:
    """What is an operation's own in its request or response: GraphQL's variables or data, a call's params or result,
    an MCP tool's or prompt's arguments; None where there is none, or it is known by its head only."""
    if not isinstance(document, dict):
        return None
    if protocol == "graphql":
        return _first_object(document, ("variables", "data"))
    response = _first_object(document, ("params", "result"))
    if kind in ("tool", "prompt") and isinstance(response, dict) and isinstance(response.get("arguments"), dict):
        arguments: object = response["arguments"]
        return arguments
    return response


def _first_object(document: dict[object, object], names: tuple[str, ...]) -> object | None:
    found = (document.get(name) for name in names)
    return next((one for one in found if isinstance(one, dict | list)), None)


def _find_one(document: object) -> list[Operation]:
    if not isinstance(document, dict):
        return []
    method = document.get("method")
    if isinstance(method, str) and method and (document.get("jsonrpc") == "2.0" or {"params", "id"} <= document.keys()):
        return [_name_call(method, document.get("params"))]
    return _find_action(document.get(_ACTION_PARAMETER)) or _find_graphql(document)


def _find_action(text: object) -> list[Operation]:
    match = _CAMEL.match(text) if isinstance(text, str) else None
    return [Operation("action", "action", match[1])] if match else []


def _name_call(method: str, params: object) -> Operation:
    if method in _MCP:
        kind, field = _MCP[method]
        name = params.get(field) if isinstance(params, dict) and field else None
        return Operation("mcp", kind, name if isinstance(name, str) and name else method)
    if method in _MCP_METHODS or method.startswith("notifications/"):
        return Operation("mcp", "method", method)
    return Operation("json_rpc", "method", method)


def _find_graphql(document: dict[object, object] | dict[str, str]) -> list[Operation]:
    fields: dict[object, object] = dict(document.items())
    text, name = fields.get("query"), fields.get("operationName")
    given = name if isinstance(name, str) else ""
    if not isinstance(text, str) or "{" not in text:
        # A persisted query is named by its hash; who sends one also names the operation.
        is_persisted = isinstance(fields.get("extensions"), dict | str) and bool(given)
        return [Operation("graphql", "query", given)] if is_persisted else []
    text = _COMMENT.sub("", text[:MAX_DOCUMENT_CHARACTERS])
    found = [(kind, own or "") for kind, own in _GRAPHQL.findall(text)]
    for kind, own in found:
        if own and own == given:
            return [Operation("graphql", kind, own)]
    kind, own = found[0] if found and not text.lstrip().startswith("{") else ("query", "")
    if not own:
        first = _FIRST_FIELD.search(text)
        own = first[1] if first else ""
    name = given or own
    return [Operation("graphql", kind, name)] if name else []  # No document of GraphQL, or its field was cut off.


def _name_action(action: bytes) -> list[Operation]:
    last = _LAST_PART.search(action.decode("utf-8", "replace"))
    return [Operation("soap", "action", last[0])] if last else []
