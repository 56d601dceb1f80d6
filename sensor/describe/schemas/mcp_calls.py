"""Finds what one sampled call shows of a server of the Model Context Protocol: parsed bodies in, one `McpCall` out.

Services store and return documents of their users, so the form of an answer alone shows no server. Answers are read
where the same call asks for something of the protocol (streamable HTTP), and in a stream of events that a GET opened
(HTTP with SSE). An answer has `jsonrpc` "2.0", an id and a result. All answers of a call are read, whatever their ids:
nobody knows which of them a client takes.

Nothing raises. Source: Model Context Protocol, revisions 2024-11-05 to 2026-07-28 (base protocol, transports).
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, Final

import msgspec

from sensor.describe.bodies.documents import EVENTS
from sensor.describe.bodies.reader import BodyCall, BodyDocument, Calls, list_calls
from sensor.describe.schemas.operations import Operation, find_in_document

_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"  # In the metadata of requests,
_SERVER_KEY: Final = "io.modelcontextprotocol/serverInfo"  # and of answers.
_ACCEPTED: Final = 202
OTHER_ITEM: Final = 0  # Hash of names that are not listed, or more than are kept.


class McpItemKind(IntEnum):
    """What a server lists; values are those of the wire."""

    TOOL = 1
    PROMPT = 2
    RESOURCE = 3
    RESOURCE_TEMPLATE = 4
    INSTRUCTIONS = 5


class McpTransport(IntEnum):
    """How messages travel; values are those of the wire."""

    STREAMABLE_HTTP = 1
    SSE = 2


# Lists in results, by kind: the field of the list, of an item's own name, and a field that each has besides.
LISTS: Final = (
    (McpItemKind.TOOL, "tools", "name", "inputSchema"),
    (McpItemKind.PROMPT, "prompts", "name", "name"),
    (McpItemKind.RESOURCE, "resources", "uri", "name"),
    (McpItemKind.RESOURCE_TEMPLATE, "resourceTemplates", "uriTemplate", "name"),
)
# What is asked for by which method.
_ASKED: Final = {
    "tools/list": McpItemKind.TOOL,
    "prompts/list": McpItemKind.PROMPT,
    "resources/list": McpItemKind.RESOURCE,
    "resources/templates/list": McpItemKind.RESOURCE_TEMPLATE,
    "initialize": McpItemKind.INSTRUCTIONS,
    "server/discover": McpItemKind.INSTRUCTIONS,
}
_USED: Final = {"tool": McpItemKind.TOOL, "prompt": McpItemKind.PROMPT}


class McpAnswer(msgspec.Struct, frozen=True, gc=False):
    """A result. `is_whole`: it was read to its end; `is_first`: nobody asked for a later page of a list."""

    result: dict[str, Any]
    is_whole: bool
    is_first: bool

    def __repr__(self) -> str:
        return f"McpAnswer(is_whole={self.is_whole}, redacted)"


class McpUsed(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool or for a prompt, by the name that the client wrote, with its arguments."""

    kind: McpItemKind
    name: str
    is_answered: bool
    has_failed: bool
    arguments: object = None

    def __repr__(self) -> str:
        return f"McpUsed(kind={self.kind}, redacted)"


class McpCall(msgspec.Struct, frozen=True):
    """What one call shows. `is_server`: its server surely speaks the protocol; `unread`: kinds of lists that were
    asked for and served, and not read to their end; `versions`: as client and server wrote them."""

    answers: tuple[McpAnswer, ...]
    unread: tuple[McpItemKind, ...]
    uses: tuple[McpUsed, ...]
    versions: tuple[object, ...]
    transport: McpTransport | None
    is_server: bool

    def __repr__(self) -> str:
        return f"McpCall(is_server={self.is_server}, redacted)"


class _Request(msgspec.Struct, frozen=True, gc=False):
    """One request of the protocol that waits for an answer."""

    id: object
    operation: Operation
    params: dict[str, Any]

    def __repr__(self) -> str:
        return "_Request(redacted)"


def read_mcp_call(call: BodyCall, request: BodyDocument | None, response: BodyDocument | None) -> McpCall | None:
    """None where nothing of the protocol shows. `request` and `response` as they were parsed. Cost: 5 us of others."""
    if call.method == "GET":
        return _read_stream(response) if response is not None and response.media_type == EVENTS else None
    asked = list_calls(request).told if request is not None else []
    requests = tuple(_find_requests(asked))
    if not requests:
        return None
    if any("result" in one for one in asked):
        return None  # Who answers in the same body may hear its own answer: a service that repeats what it gets.
    by_id = {one.id: one for one in requests}
    answers: list[McpAnswer] = []
    answered: dict[object, bool] = {}  # Whether the call of this id failed,
    results: dict[object, dict[str, Any]] = {}  # or what it gave.
    told, cut, is_broken = list_calls(response) if response is not None else Calls([])
    for one in told:
        key = one.get("id")
        if _is_answer(one):
            result, waiting = one["result"], by_id.get(key)
            answers.append(McpAnswer(result, True, waiting is None or "cursor" not in waiting.params))
            answered[key] = result.get("isError") is True
            if waiting is not None:
                results[key] = result
        elif isinstance(key, str | int) and isinstance(one.get("error"), dict):
            answered[key] = True
    left = [one.id for one in requests if one.id not in answered]
    if cut is not None and left and isinstance(result := cut.get("result"), dict):
        # Its id may stand behind the cut, as servers like to write the result first.
        answers.append(McpAnswer(result, False, False))
        key = cut.get("id")
        results[key if isinstance(key, str | int) and key in by_id else left[0]] = result
    is_accepted = call.status_code == _ACCEPTED
    tools = [one.id for one in requests if one.operation.kind == "tool"]
    has_tool = any(is_accepted or key in answered or key in results for key in tools)
    return McpCall(
        answers=tuple(answers),
        unread=() if is_accepted else tuple(_find_unread(requests, answered, response, is_broken=is_broken)),
        uses=tuple(_find_uses(requests, answered)),
        versions=(*_find_versions(call, requests),) if answers else (),
        transport=McpTransport.SSE if is_accepted else McpTransport.STREAMABLE_HTTP if answers else None,
        is_server=has_tool or any(_is_asked_of_server(by_id[key], one) for key, one in results.items()),
    )


def _read_stream(response: BodyDocument) -> McpCall | None:
    """Answers in a stream that a GET opened. Of streamable HTTP that is a stream which was resumed."""
    told, cut, is_broken = list_calls(response)
    answers = [McpAnswer(one["result"], True, True) for one in told if _is_answer(one)]
    if response.has_endpoint_event and cut is not None and isinstance(cut.get("result"), dict):
        answers.append(McpAnswer(cut["result"], False, False))
    # Nobody knows what a message holds that is not read: the worst are tools.
    unread = (McpItemKind.TOOL,) if is_broken and response.has_endpoint_event else ()
    if not answers and not unread:
        return None
    transport = McpTransport.SSE if response.has_endpoint_event else None
    return McpCall(tuple(answers), unread, (), (), transport, any(_is_of_server(one.result) for one in answers))


def _is_answer(message: dict[str, Any]) -> bool:
    return (
        message.get("jsonrpc") == "2.0"
        and isinstance(message.get("id"), str | int)
        and isinstance(message.get("result"), dict)
        and "method" not in message
    )


def _find_requests(messages: Sequence[dict[str, Any]]) -> Iterator[_Request]:
    """Notifications have no id, and are not answered."""
    for message in messages:
        key, params = message.get("id"), message.get("params")
        if message.get("jsonrpc") != "2.0" or not isinstance(key, str | int):
            continue
        for operation in find_in_document(message):
            if operation.protocol == "mcp":
                yield _Request(key, operation, params if isinstance(params, dict) else {})


def _find_uses(requests: Sequence[_Request], answered: dict[object, bool]) -> Iterator[McpUsed]:
    for one in requests:
        kind = _USED.get(one.operation.kind)
        if kind is not None:
            is_answered, has_failed = one.id in answered, answered.get(one.id, False)
            yield McpUsed(kind, one.operation.name, is_answered, has_failed, one.params.get("arguments"))


def _find_unread(
    requests: Sequence[_Request], answered: dict[object, bool], response: BodyDocument | None, *, is_broken: bool
) -> Iterator[McpItemKind]:
    """Lists of which not all was read. Where the answer ended without one, it comes in another stream. What does not
    parse may be the answer that a client takes, whatever else has its id."""
    if response is not None and response.is_complete and not _is_opaque(response) and not is_broken:
        return
    for one in requests:
        kind = _ASKED.get(one.operation.name) if one.operation.kind == "method" else None
        if kind is not None and (is_broken or one.id not in answered):
            yield kind


def _is_opaque(response: BodyDocument) -> bool:
    """Whether the media type is one that is not read."""
    return not isinstance(response.tree, dict | list)


def _find_versions(call: BodyCall, requests: Sequence[_Request]) -> Iterator[object]:
    """What a request says of the protocol, in its head or in its metadata."""
    if call.mcp_version:
        yield call.mcp_version.decode("latin-1")
    for one in requests:
        metadata = one.params.get("_meta")
        if isinstance(metadata, dict):
            yield metadata.get(_VERSION_KEY)


def _is_asked_of_server(request: _Request, result: dict[str, Any]) -> bool:
    """Whether a server gave what was asked for, or named itself."""
    kind = _ASKED.get(request.operation.name) if request.operation.kind == "method" else None
    fields = [field_name for one, field_name, *_ in LISTS if one is kind]
    return any(isinstance(result.get(name), list) for name in fields) or find_introduction(result) is not None


def _is_of_server(result: dict[str, Any]) -> bool:
    """Whether no other protocol has such an answer, whatever was asked."""
    return find_introduction(result) is not None or any(
        True for _ in list_items(result, McpItemKind.TOOL, is_whole=True)
    )


def find_introduction(result: dict[str, Any]) -> dict[str, Any] | None:
    """How a server names itself in an answer."""
    metadata = result.get("_meta")
    found = metadata.get(_SERVER_KEY) if isinstance(metadata, dict) else None
    is_first = isinstance(result.get("protocolVersion"), str) or isinstance(result.get("supportedVersions"), list)
    if found is None and is_first:
        found = result.get("serverInfo")
    return found if isinstance(found, dict) else None


def list_items(result: dict[str, Any], kind: McpItemKind, *, is_whole: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and descriptions of one list; without the last one of a body that was cut, for it may go on."""
    _, field_name, own, needed = next(one for one in LISTS if one[0] is kind)
    items = result.get(field_name)
    if not isinstance(items, list):
        return
    for item in items if is_whole else items[:-1]:
        if isinstance(item, dict) and needed in item and isinstance(item.get(own), str) and item[own]:
            yield item[own], item
