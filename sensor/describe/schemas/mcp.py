"""Reads what a server of the Model Context Protocol offers: parsed bodies of sampled calls in, one `McpServer` out.

A server names itself in its answer to `initialize`, or in the metadata of each answer (revision 2026-07-28), and lists
its tools, prompts and resources. Answers are known by their form. So it does not matter whether they come with the
response to the request (streamable HTTP) or in a stream that was opened before (HTTP with SSE).

Of descriptions and schemas only keyed hashes leave the node. They show that a text changed, and not what it says. Names
leave it unless they look like values: the server itself lists them, so no caller chose them.

Source: Model Context Protocol, revisions 2024-11-05 to 2026-07-28 (lifecycle, transports, tools, prompts, resources).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import msgspec

from sensor.core.calls import Credentials, NamedEnds, PrincipalKind
from sensor.core.keyed import KeyedHash
from sensor.describe.schemas.operations import MAX_OF_BATCH, Operation

MAX_ITEMS: Final = 512  # Of one server, of all kinds.
MAX_ARGUMENTS: Final = 64  # Of one tool or prompt.
MAX_USES: Final = 512  # Pairs of a caller and what it used, of one server.
MAX_PROTOCOL_VERSIONS: Final = 8
_TEXT_CHARACTERS_MAX: Final = 160  # Of a name of a server.
_PROTOCOL_VERSION: Final = re.compile(r"20\d\d-[01]\d-[0-3]\d\Z")
_VERSION: Final = re.compile(
    r"v?\d{1,5}(?:\.\d{1,5}){0,3}(?:[-+.]?(?:alpha|beta|preview|rc|dev|post|a|b)[.-]?\d{0,4})?\Z"
)
_SERVER_KEY: Final = "io.modelcontextprotocol/serverInfo"  # In the metadata of answers,
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"  # and of requests.
_TYPES: Final = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
_SECOND_NS: Final = 1_000_000_000
USES_NS: Final = 3_600 * _SECOND_NS


class McpItemKind(IntEnum):
    """What a server lists; values are those of the wire."""

    TOOL = 1
    PROMPT = 2
    RESOURCE = 3
    RESOURCE_TEMPLATE = 4


class McpTransport(IntEnum):
    """How messages travel; values are those of the wire."""

    STREAMABLE_HTTP = 1
    SSE = 2


class McpArgument(msgspec.Struct, frozen=True):
    """An argument as the server describes it; `type` is empty of several or none."""

    name: str
    type: str
    is_required: bool


class McpItem(msgspec.Struct, frozen=True, kw_only=True):
    """A tool, prompt or resource as it may be reported. `name` is empty where it may not leave the node."""

    kind: McpItemKind
    name: str
    name_hash: int
    description_hash: int
    schema_hash: int
    arguments: tuple[McpArgument, ...]
    is_read_only: bool
    is_destructive: bool
    is_open_world: bool
    first_seen: int = 0
    last_seen: int = 0


class McpUse(msgspec.Struct, frozen=True, kw_only=True):
    """Sampled calls of one caller to one tool, prompt or resource."""

    principal: int
    principal_kind: PrincipalKind
    credential: int
    client_address: str
    client_workload: str
    item_kind: McpItemKind
    name_hash: int
    calls: int = 0
    errors: int = 0
    last_seen: int = 0


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """What may be reported of one server."""

    key_id: int
    name: str
    version: str
    protocol_versions: tuple[str, ...]
    transports: tuple[McpTransport, ...]
    items: tuple[McpItem, ...]


# Lists in results, by kind: the field of the list, of an item's own name, and a field that each has besides.
_LISTS: Final = (
    (McpItemKind.TOOL, "tools", "name", "inputSchema"),
    (McpItemKind.PROMPT, "prompts", "name", "name"),
    (McpItemKind.RESOURCE, "resources", "uri", "name"),
    (McpItemKind.RESOURCE_TEMPLATE, "resourceTemplates", "uriTemplate", "name"),
)
_USED: Final = {"tool": McpItemKind.TOOL, "prompt": McpItemKind.PROMPT}


def find_results(document: object) -> list[dict[str, Any]]:
    """Results in the answers of a parsed body; of one that was cut what came of them."""
    messages = document[:MAX_OF_BATCH] if isinstance(document, list) else [document]
    results = (one.get("result") for one in messages if isinstance(one, dict))
    return [one for one in results if isinstance(one, dict)]


def is_server(operations: Iterable[Operation], results: Iterable[dict[str, Any]]) -> bool:
    """Whether a served call shows that its server speaks the protocol: no other has these methods and answers."""
    return any(one.protocol == "mcp" and one.kind == "tool" for one in operations) or any(
        _find_introduction(one) is not None or any(True for _ in _list_items(one, McpItemKind.TOOL, is_complete=True))
        for one in results
    )


def is_used(operations: Iterable[Operation]) -> bool:
    """Whether a call asks for something that is counted by caller."""
    return any(one.protocol == "mcp" and one.kind in _USED for one in operations)


class McpNames:
    """Which names may leave, by the vocabulary of the book. `name` of tools and servers, `argument` of fields."""

    def __init__(self, name: Callable[[str], str], argument: Callable[[str], str]) -> None:
        self.name, self.argument = name, argument


@dataclass(slots=True)
class McpTally:
    """One server as it is known so far. Not thread-safe."""

    name: str = ""
    version: str = ""
    left_out: int = 0  # Items that no bound let in.
    protocol_versions: set[str] = field(default_factory=set)
    transports: set[McpTransport] = field(default_factory=set)
    items: dict[tuple[McpItemKind, int], McpItem] = field(default_factory=dict)

    def learn_result(
        self, result: dict[str, Any], names: McpNames, keyed: KeyedHash, time_ns: int, *, is_complete: bool
    ) -> None:
        """An answer of the server: how it names itself, or what it lists. Never raises."""
        introduction = _find_introduction(result)
        if introduction is not None:
            self._learn_introduction(introduction, names)
            self._learn_protocol(result.get("protocolVersion"))
        seconds = time_ns // _SECOND_NS
        for kind, *_ in _LISTS:
            for name, item in _list_items(result, kind, is_complete=is_complete):
                self._learn_item(kind, name, item, names, keyed, seconds)

    def learn_request(self, document: object) -> None:
        """What a request says of the protocol. Never raises."""
        for one in document[:MAX_OF_BATCH] if isinstance(document, list) else [document]:
            params = one.get("params") if isinstance(one, dict) else None
            metadata = params.get("_meta") if isinstance(params, dict) else None
            if isinstance(metadata, dict):
                self._learn_protocol(metadata.get(_VERSION_KEY))

    def _learn_introduction(self, information: dict[str, Any], names: McpNames) -> None:
        name, version = information.get("name"), information.get("version")
        if isinstance(name, str) and 0 < len(name) <= _TEXT_CHARACTERS_MAX:
            self.name = name if names.name(name.replace(" ", ".")) else ""
        self.version = version if isinstance(version, str) and _VERSION.match(version) else ""

    def _learn_protocol(self, version: object) -> None:
        is_one = isinstance(version, str) and _PROTOCOL_VERSION.match(version)
        if is_one and len(self.protocol_versions) < MAX_PROTOCOL_VERSIONS:
            self.protocol_versions.add(str(version))

    def _learn_item(
        self, kind: McpItemKind, name: str, item: dict[str, Any], names: McpNames, keyed: KeyedHash, seconds: int
    ) -> None:
        key = kind, _hash_name(kind, name, keyed)
        known = self.items.get(key)
        if known is None and len(self.items) >= MAX_ITEMS:
            self.left_out += 1
            return
        pins = _pin_item(kind, item, keyed)
        # Most lists are as before: what follows from the same texts is the same.
        if known is not None and (known.description_hash, known.schema_hash) == pins:
            self.items[key] = msgspec.structs.replace(known, last_seen=seconds)
            return
        first_seen = seconds if known is None else known.first_seen
        read = _read_item(kind, item, names, (key[1], *pins))
        self.items[key] = msgspec.structs.replace(read, first_seen=first_seen, last_seen=seconds)

    def write(self, key_id: int) -> McpServer:
        """As it may be reported now."""
        return McpServer(
            key_id=key_id,
            name=self.name,
            version=self.version,
            protocol_versions=tuple(sorted(self.protocol_versions)),
            transports=tuple(sorted(self.transports)),
            items=tuple(self.items.values()),
        )


@dataclass(slots=True)
class McpUses:
    """Who used what of one server. It names callers, so it is kept for about an hour. Not thread-safe."""

    since_ns: int
    left_out: int = 0  # Uses that no bound let in.
    uses: dict[tuple[object, ...], McpUse] = field(default_factory=dict)

    def is_over(self, now_ns: int) -> bool:
        """Whether another one is to follow it."""
        return now_ns - self.since_ns >= USES_NS

    def count(
        self,
        operation: Operation,
        keyed: KeyedHash,
        caller: tuple[Credentials, NamedEnds],
        time_ns: int,
        *,
        has_failed: bool,
    ) -> None:
        """A call of a tool, or for a prompt."""
        kind = _USED.get(operation.kind)
        if kind is None:
            return
        credentials, ends = caller
        fresh = McpUse(
            principal=credentials.principal,
            principal_kind=credentials.principal_kind,
            credential=credentials.credential,
            client_address=ends.client_address,
            client_workload=ends.client_workload,
            item_kind=kind,
            name_hash=_hash_name(kind, operation.name, keyed),
        )
        key = (*msgspec.structs.astuple(fresh)[:7],)
        known = self.uses.get(key, fresh)
        if known is fresh and len(self.uses) >= MAX_USES:
            self.left_out += 1
            return
        self.uses[key] = msgspec.structs.replace(
            known, calls=known.calls + 1, errors=known.errors + has_failed, last_seen=time_ns // _SECOND_NS
        )


def find_transport(
    method: str, status_code: int, operations: Iterable[Operation], *, has_results: bool
) -> McpTransport | None:
    """How the messages of a call travel, where it shows."""
    if method == "GET":
        return McpTransport.SSE if has_results else None  # The stream of streamable HTTP has no answers to requests.
    asks = any(one.protocol == "mcp" and not one.name.startswith("notifications/") for one in operations)
    if status_code == 202:
        return McpTransport.SSE if asks else None
    return McpTransport.STREAMABLE_HTTP if asks and has_results else None


def _find_introduction(result: dict[str, Any]) -> dict[str, Any] | None:
    """How a server names itself in an answer."""
    metadata = result.get("_meta")
    found = metadata.get(_SERVER_KEY) if isinstance(metadata, dict) else None
    if found is None and isinstance(result.get("protocolVersion"), str):
        found = result.get("serverInfo")
    return found if isinstance(found, dict) else None


def _list_items(
    result: dict[str, Any], kind: McpItemKind, *, is_complete: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and descriptions of one list; without the last one of a body that was cut, for it may go on."""
    _, field_name, own, required = next(one for one in _LISTS if one[0] is kind)
    items = result.get(field_name)
    if isinstance(items, list):
        for item in items[: MAX_ITEMS + 1] if is_complete else items[:-1]:
            if isinstance(item, dict) and required in item and isinstance(item.get(own), str) and item[own]:
                yield item[own], item


def _pin_item(kind: McpItemKind, item: dict[str, Any], keyed: KeyedHash) -> tuple[int, int]:
    """Hashes of what describes it, and of its schemas."""
    if kind is McpItemKind.TOOL:
        schemas = [item.get("inputSchema"), item.get("outputSchema")]
    else:
        schemas = [item.get("arguments"), item.get("mimeType")]
    described = [item.get(name) for name in ("name", "title", "description", "annotations")]
    return _hash(described, keyed), _hash(schemas, keyed)


def _read_item(kind: McpItemKind, item: dict[str, Any], names: McpNames, hashes: tuple[int, int, int]) -> McpItem:
    """`hashes`: of the name, the description and the schemas."""
    hints = item.get("annotations")
    hints = hints if isinstance(hints, dict) else {}
    name = item.get("name")  # Of a resource what people call it; its URI is data.
    name_hash, description_hash, schema_hash = hashes
    return McpItem(
        kind=kind,
        name=names.name(name) if isinstance(name, str) else "",
        name_hash=name_hash,
        description_hash=description_hash,
        schema_hash=schema_hash,
        arguments=tuple(_list_arguments(kind, item, names)),
        is_read_only=hints.get("readOnlyHint") is True,
        is_destructive=hints.get("destructiveHint") is True,
        is_open_world=hints.get("openWorldHint") is True,
    )


def _list_arguments(kind: McpItemKind, item: dict[str, Any], names: McpNames) -> Iterator[McpArgument]:
    if kind is McpItemKind.PROMPT:
        listed = item.get("arguments")
        for one in listed[:MAX_ARGUMENTS] if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield McpArgument(names.argument(one["name"]), "string", one.get("required") is True)
        return
    schema = item.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict):
        return
    required = schema.get("required")
    required = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
    for name, described in list(properties.items())[:MAX_ARGUMENTS]:
        given = described.get("type") if isinstance(described, dict) else None
        kind_name = given if isinstance(given, str) and given in _TYPES else ""
        yield McpArgument(names.argument(name), kind_name, name in required)


def _hash_name(kind: McpItemKind, name: str, keyed: KeyedHash) -> int:
    return keyed.compute(f"mcp\n{kind.value}\n{name}".encode("utf-8", "surrogatepass"))


def _hash(value: object, keyed: KeyedHash) -> int:
    """Of what JSON says, not of how it is written: order of keys and blanks do not matter."""
    try:
        return keyed.compute(b"mcp\n" + msgspec.json.encode(value, order="deterministic"))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return keyed.compute(b"mcp\n" + repr(value).encode("utf-8", "backslashreplace"))
