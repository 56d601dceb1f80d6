"""Servers of the Model Context Protocol as assets: states that sensors sent in, `McpServer`s out.

A server is one path of a service. With the older transport (HTTP with SSE) clients read answers at one path and write
requests to another one: all such paths of a service below one directory are one server.

What a server lists is known from its own answers, who uses it from sampled calls (sensor/describe/schemas/mcp.py).
Calls, credentials and exposure are those of its endpoints.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from collector.core.budget import check_budget
from collector.core.errors import UnknownError
from collector.inventory.endpoints.endpoint import AuthenticationLevel, Endpoint
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.operations import find_operations_of
from collector.inventory.filters import SEARCH_CHARACTERS_MAX, Filter, ListQuery, Page, SpanParameters, Text
from collector.inventory.query import Cursor, Span
from collector.storage.records import Reader, select
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

STATES_MAX: Final = 20_000  # Read for one question.
ENDPOINTS_MAX: Final = 2_000
USES_MAX: Final = 1_000  # Shown of one server, most calls first.
_SERVER, _USES = 240, 241  # SchemaPart of the wire.

_STATES: Final = f"""
SELECT n.endpoint_id AS endpoint_id, n.service AS service, n.cluster AS cluster, n.method AS method,
    n.url_template AS template, s.part AS part, s.fields AS fields, s.operations AS operations
FROM schemas AS s FINAL
INNER JOIN endpoint_routes AS n FINAL ON n.route_id = s.route_id
WHERE s.part = {_SERVER} OR (s.part = {_USES} AND s.time >= {{start:UInt32}})
ORDER BY s.time DESC
LIMIT {STATES_MAX}"""


class McpKind(StrEnum):
    """What a server lists."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    RESOURCE_TEMPLATE = "resource_template"


class McpTransport(StrEnum):
    """How messages travel."""

    STREAMABLE_HTTP = "streamable_http"
    SSE = "sse"


# What a session begins with. Without sessions (revision 2026-07-28) a client may ask `server/discover` at each call.
_BEGINNING: Final = "initialize"
_KINDS: Final = dict(enumerate(McpKind, 1))
_TRANSPORTS: Final = dict(enumerate(McpTransport, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class McpArgument:
    """An argument as the server describes it; `type` is empty of several or none."""

    name: str
    type: str
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class McpItem:
    """A tool, prompt or resource. `id` is the keyed hash of its name, `description_pin` and `schema_pin` are those of
    its texts; `name` is empty where it looks like a value. Figures are of sampled calls."""

    kind: McpKind
    id: str
    name: str
    arguments: tuple[McpArgument, ...]
    is_read_only: bool
    is_destructive: bool
    is_open_world: bool
    description_pin: str
    schema_pin: str
    first_seen: int
    last_seen: int
    sampled_calls: int = 0
    sampled_errors: int = 0
    clients: int = 0

    @property
    def key(self) -> tuple[McpKind, str]:
        """What it is called among those of its server, under any key of hashes."""
        return self.kind, self.name or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class McpUse:
    """Sampled calls of one consumer to one tool or prompt. `name` is empty where the server did not list it, or it
    looks like a value."""

    consumer: str
    kind: McpKind
    item_id: str
    name: str
    sampled_calls: int
    sampled_errors: int
    last_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One server. `name` is as it names itself; `sessions` estimates how often clients began to use it in the span;
    `key_id` names the key of its hashes."""

    id: str
    name: str
    version: str
    protocol_versions: tuple[str, ...]
    transports: tuple[McpTransport, ...]
    cluster: str
    service: str
    path: str
    endpoint_ids: tuple[str, ...]
    key_id: int
    items: tuple[McpItem, ...] = ()
    uses: tuple[McpUse, ...] = ()
    clients: int = 0
    sessions: int = 0
    calls: int = 0
    authentication: AuthenticationLevel = AuthenticationLevel.UNKNOWN
    exposure: ExposureLevel = ExposureLevel.UNKNOWN
    risk: int | None = None
    first_seen: int = 0
    last_seen: int = 0

    @property
    def label(self) -> str:
        """How people find it: its own name, or where it answers."""
        return self.name or f"{self.service}{self.path}"

    @property
    def tools(self) -> int:
        """How many it lists."""
        return self._count(McpKind.TOOL)

    @property
    def prompts(self) -> int:
        """How many it lists."""
        return self._count(McpKind.PROMPT)

    @property
    def resources(self) -> int:
        """How many it lists, templates among them."""
        return self._count(McpKind.RESOURCE) + self._count(McpKind.RESOURCE_TEMPLATE)

    def _count(self, kind: McpKind) -> int:
        return sum(item.kind is kind for item in self.items)


class McpServerQuery(ListQuery, SpanParameters):
    """Filters and page of the list of servers, which Python filters: a server is made of several rows."""

    q: Annotated[Text, Filter(None, title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in cluster, service, path, or the server's own name.",
    )
    tool: Annotated[Text, Filter(None, title="Tool")] = Field(
        default="", max_length=SEARCH_CHARACTERS_MAX, description="Servers that list exactly this tool."
    )
    transport: Annotated[McpTransport | None, Filter(None, title="Transport")] = Field(
        default=None, description="Default: all."
    )
    exposure: Annotated[ExposureLevel | None, Filter(None, title="Exposure")] = Field(
        default=None, description="Default: all."
    )
    auth: Annotated[AuthenticationLevel | None, Filter(None, title="Credentials")] = Field(
        default=None, description="How many of the successful calls carried credentials. Default: all."
    )

    def fits(self, server: McpServer) -> bool:
        """Whether a server passes the filters."""
        text = f"{server.cluster} {server.service}{server.path} {server.name}".lower()
        return (
            all(word in text for word in self.q.lower().split())
            and (not self.tool or any(one.kind is McpKind.TOOL and one.name == self.tool for one in server.items))
            and (self.transport is None or self.transport in server.transports)
            and self.exposure in (None, server.exposure)
            and self.auth in (None, server.authentication)
        )


@dataclass(slots=True)
class _Group:
    """Rows of one server."""

    cluster: str
    service: str
    path: str
    states: list[Mapping[str, Any]] = field(default_factory=list)
    uses: list[Mapping[str, Any]] = field(default_factory=list)
    endpoint_ids: dict[str, None] = field(default_factory=dict)


class McpInventory:
    """Answers from the store. Methods raise StoreError."""

    def __init__(
        self, *, reader: Reader, endpoints: EndpointInventory, order: Sequence[ConsumerColumn] = CONSUMER_ORDER
    ) -> None:
        self._reader, self._endpoints, self._order = reader, endpoints, tuple(order)

    def list_servers(self, query: McpServerQuery, span: Span) -> Page[McpServer]:
        """One page by service and path; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(str)
        found = sorted((_place(one), one) for one in self.read_all(span) if query.fits(one))
        left = [pair for pair in found if after is None or pair[0] > str(after.value)]
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last[0], id=last[0]))
        return Page(items=tuple(one for _, one in shown), next_cursor=next_cursor, total=len(found))

    def find_server(self, server_id: str, parameters: SpanParameters, now: float) -> McpServer:
        """One server by its id. Raises UnknownError."""
        found = next((one for one in self.read_all(parameters.find_span(now)) if one.id == server_id), None)
        if found is None:
            raise UnknownError(
                f"No call to an MCP server {server_id[:80]!r} {parameters.word_span()}; look it up in "
                "/api/v1/mcp/servers or ask for a longer span."
            )
        return found

    def read_all(self, span: Span) -> tuple[McpServer, ...]:
        """Every server that was called in the span."""
        groups = _group(select(self._reader, _STATES, {"start": span.start}))
        if not groups:
            return ()
        ids = list(dict.fromkeys(name for group in groups for name in group.endpoint_ids))[:ENDPOINTS_MAX]
        measured = self._endpoints.measure(ids, span)
        known = find_operations_of(self._reader, ids)
        begun = [
            (one.operation.parent_id, one.share)
            for one in known.values()
            if one.operation.protocol == "mcp" and one.operation.name == _BEGINNING
        ]
        servers = (self._merge(group, measured, begun) for group in groups)
        return tuple(one for one in servers if one is not None)

    def _merge(
        self, group: _Group, measured: Mapping[str, Endpoint], begun: Sequence[tuple[str, float]]
    ) -> McpServer | None:
        check_budget()
        endpoints = [measured[name] for name in group.endpoint_ids if name in measured]
        # Whoever calls a tool somewhere does not make it a server: its own answers do.
        if not endpoints or not any(one["name"] or one["version"] or one["items"] for one in group.states):
            return None
        newest = next((one for one in group.states if one["name"]), group.states[0])
        items = _merge_items(group.states)
        uses = self._merge_uses(group.uses, items)
        # Where messages are written; an opened stream is called once a session.
        busiest = max(endpoints, key=lambda one: one.calls)
        exposures = {one.exposure.level for one in endpoints}
        risks = [one.risk.score for one in endpoints if one.risk is not None]
        return McpServer(
            id=_name_server(group),
            name=newest["name"],
            version=newest["version"],
            protocol_versions=tuple(sorted({text for one in group.states for text in one["protocol_versions"]})),
            transports=tuple(
                sorted({_TRANSPORTS[n] for one in group.states for n in one["transports"] if n in _TRANSPORTS})
            ),
            cluster=group.cluster,
            service=group.service,
            path=group.path,
            endpoint_ids=tuple(one.id for one in sorted(endpoints, key=lambda one: (-one.calls, one.id))),
            key_id=newest["key_id"],
            items=tuple(_add_uses(item, uses) for item in items),
            uses=uses[:USES_MAX],
            clients=len({one.consumer for one in uses}),
            sessions=round(sum(share * one.calls for one in endpoints for name, share in begun if name == one.id)),
            calls=sum(one.calls for one in endpoints),
            authentication=busiest.authentication.level,
            exposure=next((level for level in ExposureLevel if level in exposures), ExposureLevel.UNKNOWN),
            risk=max(risks, default=None),
            first_seen=min(one.first_seen for one in endpoints),
            last_seen=max(one.last_seen for one in endpoints),
        )

    def _merge_uses(self, rows: Iterable[Mapping[str, Any]], items: Iterable[McpItem]) -> tuple[McpUse, ...]:
        names = {(item.kind, item.id): item.name for item in items}
        sums: dict[tuple[str, McpKind, str], list[int]] = {}
        for row in rows:
            kind = _KINDS.get(row["kind"])
            consumer = next((row[column] for column in self._order if row[column]), "")
            if kind is not None and consumer:
                counts = sums.setdefault((consumer, kind, row["id"]), [0, 0, 0])
                counts[0] += row["calls"]
                counts[1] += row["errors"]
                counts[2] = max(counts[2], row["last_seen"])
        found = (
            McpUse(
                consumer=consumer,
                kind=kind,
                item_id=item_id,
                name=names.get((kind, item_id), ""),
                sampled_calls=calls,
                sampled_errors=errors,
                last_seen=last_seen,
            )
            for (consumer, kind, item_id), (calls, errors, last_seen) in sums.items()
        )
        return tuple(sorted(found, key=lambda one: (-one.sampled_calls, one.consumer, one.kind, one.item_id)))


def _group(rows: Iterable[Mapping[str, Any]]) -> list[_Group]:
    """Rows by server: first what servers list, as that shows the transport, then who uses them."""
    groups: dict[tuple[str, str, str], _Group] = {}
    of_endpoint: dict[str, _Group] = {}
    uses: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        check_budget()
        if row["part"] == _USES:
            uses[row["endpoint_id"]] += json.loads(row["operations"])
            continue
        state = json.loads(row["fields"])
        path = row["template"]
        if McpTransport.SSE in [_TRANSPORTS.get(number) for number in state["transports"]]:
            path = path.rstrip("/").rpartition("/")[0] + "/"
        key = row["cluster"], row["service"], path
        group = groups.setdefault(key, _Group(*key))
        group.states.append(state)
        group.endpoint_ids[row["endpoint_id"]] = None
        of_endpoint[row["endpoint_id"]] = group
    for endpoint_id, found in uses.items():
        if endpoint_id in of_endpoint:
            of_endpoint[endpoint_id].uses += found
    return list(groups.values())


def _merge_items(states: Iterable[Mapping[str, Any]]) -> list[McpItem]:
    """Of several processes: the newest sight of each holds."""
    found: dict[tuple[McpKind, str], McpItem] = {}
    for state in states:
        for row in state["items"]:
            if row["kind"] not in _KINDS:
                continue
            item = _read_item(row)
            known = found.get(item.key)
            if known is None:
                found[item.key] = item
                continue
            newest = max(known, item, key=lambda one: one.last_seen)
            found[item.key] = replace(newest, first_seen=min(known.first_seen, item.first_seen))
    return sorted(found.values(), key=lambda one: (list(McpKind).index(one.kind), one.name or "~", one.id))


def _read_item(row: Mapping[str, Any]) -> McpItem:
    is_read_only, is_destructive, is_open_world = row["hints"]
    return McpItem(
        kind=_KINDS[row["kind"]],
        id=row["id"],
        name=row["name"],
        arguments=tuple(
            McpArgument(name=name, type=kind, is_required=needed) for name, kind, needed in row["arguments"]
        ),
        is_read_only=is_read_only,
        is_destructive=bool(is_destructive),
        is_open_world=bool(is_open_world),
        description_pin=row["description"],
        schema_pin=row["schema"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
    )


def _add_uses(item: McpItem, uses: Iterable[McpUse]) -> McpItem:
    own = [one for one in uses if (one.kind, one.item_id) == (item.kind, item.id)]
    return replace(
        item,
        sampled_calls=sum(one.sampled_calls for one in own),
        sampled_errors=sum(one.sampled_errors for one in own),
        clients=len({one.consumer for one in own}),
    )


def _name_server(group: _Group) -> str:
    """Stable for as long as its service and path are."""
    place = "\x1f".join((group.cluster, group.service, group.path))
    return hashlib.blake2b(place.encode(), digest_size=8).hexdigest()


def _place(server: McpServer) -> str:
    return f"{server.service}\x1f{server.path}\x1f{server.cluster}\x1f{server.id}"
