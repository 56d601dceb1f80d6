"""Servers of the Model Context Protocol as assets: states that sensors sent in, `McpServer`s out.

A server is one path of a service. With the older transport (HTTP with SSE) clients read answers at one path and write
requests to another one: all such paths of a service below one directory are one server. Its id is that of its endpoint,
which keeps it when the service or the path gets another name.

What a server lists is known from its own answers, who uses it from sampled calls (sensor/describe/schemas/mcp.py).
Calls, credentials and exposure are those of its endpoints.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Annotated, Any, Final

from pydantic import Field

from collector.core.budget import check_budget
from collector.core.errors import UnknownError
from collector.inventory.endpoints.endpoint import AuthenticationLevel, Endpoint
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.operations import find_operations_of
from collector.inventory.filters import SEARCH_CHARACTERS_MAX, Filter, ListQuery, Page, SpanParameters, Text
from collector.inventory.mcp_states import (
    KINDS,
    McpArgument,
    McpKind,
    McpList,
    McpPin,
    McpSight,
    McpState,
    McpTransport,
    read_routes,
    read_states,
    read_uses,
)
from collector.inventory.query import Cursor, Span
from collector.storage.records import Reader
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

ENDPOINTS_MAX: Final = 2_000
USES_MAX: Final = 1_000  # Shown of one server, most calls first.
# What a whole list without it must be later by: replicas of several versions answer by turns.
GONE_SECONDS: Final = 3_600
# What a session begins with. Without sessions (revision 2026-07-28) a client may ask `server/discover` at each call.
_BEGINNING: Final = "initialize"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpItem:
    """A tool, prompt or resource, or the instructions of a server. `id` is the keyed hash of its name, which is empty
    where it looks like a value. `pins` are those of its texts that any sensor saw, newest first. What the server does
    not say of it is None. Figures are of sampled calls, `sampled_errors` None where no answer was read."""

    kind: McpKind
    id: str
    name: str
    arguments: tuple[McpArgument, ...]
    is_read_only: bool
    is_destructive: bool | None
    is_open_world: bool | None
    pins: tuple[McpPin, ...]
    pins_left_out: int = 0  # Texts that sensors did not keep.
    is_listed: bool = True
    sampled_calls: int = 0
    sampled_errors: int | None = None
    clients: int = 0
    consumers: tuple[str, ...] = ()  # Most calls first.

    @property
    def first_seen(self) -> int:
        """When a list had it first."""
        return min(pin.first_seen for pin in self.pins)

    @property
    def last_seen(self) -> int:
        """When a list had it last."""
        return self.pins[0].last_seen

    @property
    def changed_at(self) -> int:
        """When a list had its newest text first, if it had another one before; else 0."""
        times = [pin.first_seen for pin in self.pins if pin.made_by == self.pins[0].made_by]
        return max(times) if len(times) > 1 else 0

    @property
    def is_listed_tool(self) -> bool:
        """Whether clients may call it as a tool."""
        return self.kind is McpKind.TOOL and self.is_listed

    @property
    def may_destroy(self) -> bool:
        """As the protocol reads what is not said: a tool may, unless it only reads."""
        said = self.is_destructive
        return self.kind is McpKind.TOOL and not self.is_read_only and (said is None or said)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpUse:
    """Sampled calls of one consumer to one tool or prompt. `name` is empty where the server did not list it, or it
    looks like a value. `sampled_errors` is None where no answer was read, as of the transport SSE."""

    consumer: str
    kind: McpKind
    item_id: str
    name: str
    sampled_calls: int
    sampled_errors: int | None
    last_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One server. `name` is as it names itself; `sessions` estimates how often clients began to use it in the span;
    `endpoint_ids` were called in the span, `known_ids` are all of its endpoints; `left_out` counts what it lists and no
    bound let in; `unread_at` is when a list was not read to its end, 0: never since one was."""

    id: str
    name: str
    version: str
    protocol_versions: tuple[str, ...]
    transports: tuple[McpTransport, ...]
    cluster: str
    service: str
    path: str
    endpoint_ids: tuple[str, ...]
    calls_of: Mapping[str, int] = field(default_factory=dict)
    known_ids: frozenset[str] = frozenset()
    route_ids: tuple[int, ...] = ()
    items: tuple[McpItem, ...] = ()
    uses: tuple[McpUse, ...] = ()
    clients: int = 0
    sessions: int = 0
    calls: int = 0
    authentication: AuthenticationLevel = AuthenticationLevel.UNKNOWN
    exposure: ExposureLevel = ExposureLevel.UNKNOWN
    risk: int | None = None
    left_out: int = 0
    unread_at: int = 0
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
        return sum(item.kind is kind and item.is_listed for item in self.items)


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
            and (not self.tool or self.tool in (one.name for one in server.items if one.is_listed_tool))
            and (self.transport is None or self.transport in server.transports)
            and self.exposure in (None, server.exposure)
            and self.auth in (None, server.authentication)
        )


class McpToolQuery(ListQuery, SpanParameters):
    """Filters and page of the list of what all servers offer."""

    q: Annotated[Text, Filter(None, title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in cluster, service, path, or the names of server and tool.",
    )
    server: Annotated[Text, Filter(None)] = Field(
        default="", max_length=SEARCH_CHARACTERS_MAX, description="Id of one server."
    )
    kind: Annotated[McpKind | None, Filter(None, title="Kind")] = Field(default=None, description="Default: all.")
    may_destroy: Annotated[bool | None, Filter(None, title="May destroy")] = Field(
        default=None, description="Tools that may destroy, or all others. Default: all."
    )
    exposure: Annotated[ExposureLevel | None, Filter(None, title="Exposure")] = Field(
        default=None, description="Of the server. Default: all."
    )
    auth: Annotated[AuthenticationLevel | None, Filter(None, title="Credentials")] = Field(
        default=None, description="How many of the server's successful calls carried credentials. Default: all."
    )

    def fits(self, tool: "McpTool") -> bool:
        """Whether a tool passes the filters."""
        server, item = tool.server, tool.item
        text = f"{server.cluster} {server.service}{server.path} {server.name} {item.name}".lower()
        return (
            all(word in text for word in self.q.lower().split())
            and (not self.server or self.server in (server.id, *server.known_ids))
            and self.kind in (None, item.kind)
            and self.may_destroy in (None, item.may_destroy)
            and self.exposure in (None, server.exposure)
            and self.auth in (None, server.authentication)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTool:
    """A tool, prompt or resource, or instructions, with the server that lists it."""

    server: McpServer
    item: McpItem

    @property
    def place(self) -> str:
        """Where it is in the list: what is listed, by service, path, kind and name."""
        return f"{_place(self.server)}\x1f{self.item.kind}\x1f{self.item.name or '~'}\x1f{self.item.id}"


@dataclass(slots=True)
class _Group:
    """States of one server, one of each route."""

    cluster: str
    service: str
    path: str
    states: list[McpState] = field(default_factory=list)

    def find_endpoints(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(one.endpoint_id for one in self.states))

    @property
    def has_answer(self) -> bool:
        """Whether it is a server: others have callers alone."""
        return any(one.is_answer for one in self.states)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServers:
    """Those called in a span. `left_out` counts routes with states, and servers, beyond what one question reads."""

    servers: tuple[McpServer, ...] = ()
    left_out: int = 0


class McpInventory:
    """Answers from the store. Methods raise StoreError."""

    def __init__(
        self, *, reader: Reader, endpoints: EndpointInventory, order: Sequence[ConsumerColumn] = CONSUMER_ORDER
    ) -> None:
        self._reader, self._endpoints, self._order = reader, endpoints, tuple(order)

    def list_servers(self, query: McpServerQuery, span: Span) -> Page[McpServer]:
        """One page by service and path; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(str)
        found = sorted((_place(one), one) for one in self.read_all(span).servers if query.fits(one))
        left = [pair for pair in found if after is None or pair[0] > str(after.value)]
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last[0], id=last[0]))
        items = self._add_uses([one for _, one in shown], span)
        return Page(items=tuple(items), next_cursor=next_cursor, total=len(found))

    def list_tools(self, query: McpToolQuery, span: Span) -> Page[McpTool]:
        """One page of what all servers offer; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(str)
        all_tools = (McpTool(server=one, item=item) for one in self.read_all(span).servers for item in one.items)
        found = sorted((one for one in all_tools if query.fits(one)), key=lambda one: one.place)
        left = [one for one in found if after is None or one.place > str(after.value)]
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last.place, id=last.place))
        servers = {one.server.id: one.server for one in shown}
        used = {
            (server.id, item.kind, item.id): McpTool(server=server, item=item)
            for server in self._add_uses(list(servers.values()), span)
            for item in server.items
        }
        items = tuple(used[one.server.id, one.item.kind, one.item.id] for one in shown)
        return Page(items=items, next_cursor=next_cursor, total=len(found))

    def find_server(self, server_id: str, parameters: SpanParameters, now: float) -> McpServer:
        """One server by its id, or by that of another of its endpoints. Raises UnknownError."""
        span = parameters.find_span(now)
        servers = sorted(self.read_all(span).servers, key=lambda one: one.id != server_id)
        found = next((one for one in servers if server_id in (one.id, *one.known_ids)), None)
        if found is None:
            raise UnknownError(
                f"No call to an MCP server {server_id[:80]!r} {parameters.word_span()}; look it up in "
                "/api/v1/mcp/servers or ask for a longer span."
            )
        return self._add_uses([found], span)[0]

    def read_all(self, span: Span) -> McpServers:
        """Every server that was called in the span, without who uses it."""
        routes = read_routes(self._reader)
        groups = [one for one in _group(read_states(self._reader, routes)) if one.has_answer]
        if not groups:
            return McpServers(left_out=routes.left_out)
        ids = list(dict.fromkeys(name for group in groups for name in group.find_endpoints()))
        asked = frozenset(ids[:ENDPOINTS_MAX])
        measured = self._endpoints.measure(ids[:ENDPOINTS_MAX], span)
        servers = (_merge(group, measured) for group in groups)
        return McpServers(
            servers=tuple(one for one in servers if one is not None),
            left_out=routes.left_out + sum(asked.isdisjoint(one.find_endpoints()) for one in groups),
        )

    def _add_uses(self, servers: Sequence[McpServer], span: Span) -> list[McpServer]:
        """With who used what, and how often clients began."""
        routes = [route for one in servers for route in one.route_ids]
        by_route: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for row in read_uses(self._reader, routes, span.start, self._order):
            by_route[int(row["route_id"])].append(row)
        ids = [name for one in servers for name in one.endpoint_ids]
        shares: dict[str, float] = defaultdict(float)
        for known in find_operations_of(self._reader, ids).values() if ids else ():
            if known.operation.protocol == "mcp" and known.operation.name == _BEGINNING:
                shares[known.operation.parent_id] += known.share
        return [
            _count_uses(
                server,
                [row for route in server.route_ids for row in by_route[route]],
                sum(shares[name] * calls for name, calls in server.calls_of.items()),
            )
            for server in servers
        ]


def _group(states: Iterable[McpState]) -> list[_Group]:
    """States by server. Some paths have the older transport alone; an opened stream may resume the newer one."""
    # As they are read: of one route there may be one of each process of a sensor.
    found = [_merge_route(list(own)) for _, own in groupby(states, lambda one: one.route_id)]
    newer = {(one.cluster, one.service, one.path) for one in found if McpTransport.STREAMABLE_HTTP in one.transports}
    streams = {one.endpoint_id for one in found if McpTransport.SSE in one.transports}
    groups: dict[tuple[str, str, str], _Group] = {}
    for one in found:
        check_budget()
        path = one.path
        if one.endpoint_id in streams and (one.cluster, one.service, one.path) not in newer:
            path = path.rstrip("/").rpartition("/")[0] + "/"
        key = one.cluster, one.service, path
        groups.setdefault(key, _Group(*key)).states.append(one)
    return list(groups.values())


def _merge_route(states: Sequence[McpState]) -> McpState:
    """What all processes know of one route; `states`: newest first."""
    check_budget()
    lists: dict[McpKind, McpList] = {}
    for one in (found for state in states for found in state.lists):
        known = lists.get(one.kind, one)
        lists[one.kind] = McpList(
            kind=one.kind,
            read_at=max(known.read_at, one.read_at),
            unread_at=max(known.unread_at, one.unread_at),
            left_out=max(known.left_out, one.left_out),
        )
    answers = [one for one in states if one.is_answer] or states
    newest = next((one for one in answers if one.name), answers[0])
    return replace(
        newest,
        protocol_versions=tuple(sorted({text for one in states for text in one.protocol_versions})),
        transports=frozenset(transport for one in states for transport in one.transports),
        items=_merge_sights(sight for one in states for sight in one.items),
        lists=tuple(lists.values()),
        left_out=max(one.left_out for one in states),
    )


def _merge_sights(sights: Iterable[McpSight]) -> tuple[McpSight, ...]:
    """What the newest sight of each says, with the pins of all."""
    newest: dict[tuple[McpKind, str], McpSight] = {}
    pins: dict[tuple[McpKind, str], dict[tuple[int, str, str], McpPin]] = defaultdict(dict)
    left_out: dict[tuple[McpKind, str], int] = defaultdict(int)
    for sight in sights:
        known = newest.get(sight.key)
        if known is None or sight.last_seen > known.last_seen:
            newest[sight.key] = sight
        _add_pins(pins[sight.key], sight.pins)
        left_out[sight.key] += sight.pins_left_out
    return tuple(
        replace(one, pins=tuple(pins[key].values()), pins_left_out=left_out[key]) for key, one in newest.items()
    )


def _merge(group: _Group, measured: Mapping[str, Endpoint]) -> McpServer | None:
    """One server, unless it was not called in the span."""
    check_budget()
    endpoints = [measured[name] for name in group.find_endpoints() if name in measured]
    answers = [one for one in group.states if one.is_answer]
    if not endpoints:
        return None
    newest = next((one for one in answers if one.name), answers[0])
    endpoints.sort(key=lambda one: (-one.calls, one.id))
    exposures = {one.exposure.level for one in endpoints}
    risks = [one.risk.score for one in endpoints if one.risk is not None]
    left_out: dict[McpKind, int] = {}
    for one in (found for state in group.states for found in state.lists):
        left_out[one.kind] = max(left_out.get(one.kind, 0), one.left_out)
    return McpServer(
        id=min(one.endpoint_id for one in answers),
        name=newest.name,
        version=newest.version,
        protocol_versions=tuple(sorted({text for one in group.states for text in one.protocol_versions})),
        transports=tuple(sorted({transport for one in group.states for transport in one.transports})),
        cluster=group.cluster,
        service=group.service,
        path=group.path,
        endpoint_ids=tuple(one.id for one in endpoints),
        calls_of={one.id: one.calls for one in endpoints},
        known_ids=frozenset(one.endpoint_id for one in group.states),
        route_ids=tuple(sorted({one.route_id for one in group.states})),
        items=_merge_items(group.states),
        calls=sum(one.calls for one in endpoints),
        # Where messages are written; an opened stream is called once a session.
        authentication=endpoints[0].authentication.level,
        exposure=next((level for level in ExposureLevel if level in exposures), ExposureLevel.UNKNOWN),
        risk=max(risks, default=None),
        left_out=sum(left_out.values()) + max(one.left_out for one in group.states),
        unread_at=_find_unread(group.states),
        # Of a route since it is known, not since the span began.
        first_seen=min([one.first_seen for one in answers if one.first_seen] or [one.first_seen for one in endpoints]),
        last_seen=max(one.last_seen for one in endpoints),
    )


def _find_unread(states: Iterable[McpState]) -> int:
    """When a list was not read to its end, unless one of its kind was read whole since."""
    read: dict[McpKind, int] = defaultdict(int)
    unread: dict[McpKind, int] = defaultdict(int)
    for one in (found for state in states for found in state.lists):
        read[one.kind] = max(read[one.kind], one.read_at)
        unread[one.kind] = max(unread[one.kind], one.unread_at)
    return max((at for kind, at in unread.items() if at > read[kind]), default=0)


def _merge_items(states: Sequence[McpState]) -> tuple[McpItem, ...]:
    """Of all routes, and whether the newest whole list has them."""
    read_at: dict[McpKind, int] = defaultdict(int)
    for one in (found for state in states for found in state.lists):
        read_at[one.kind] = max(read_at[one.kind], one.read_at)
    sights = _merge_sights(sight for state in states for sight in state.items)
    found = (
        McpItem(
            kind=one.kind,
            id=one.id,
            name=one.name,
            arguments=one.arguments,
            is_read_only=one.is_read_only,
            is_destructive=one.is_destructive,
            is_open_world=one.is_open_world,
            pins=tuple(sorted(one.pins, key=_rank_pin)),
            pins_left_out=one.pins_left_out,
            is_listed=one.last_seen >= read_at[one.kind] - GONE_SECONDS,
        )
        for one in sights
    )
    order = list(McpKind)
    return tuple(sorted(found, key=lambda one: (not one.is_listed, order.index(one.kind), one.name or "~", one.id)))


def _rank_pin(pin: McpPin) -> tuple[int, int, str, str]:
    return -pin.last_seen, -pin.first_seen, pin.description_hash, pin.schema_hash


def _add_pins(known: dict[tuple[int, str, str], McpPin], pins: Iterable[McpPin]) -> None:
    for pin in pins:
        key = pin.made_by, pin.description_hash, pin.schema_hash
        before = known.get(key, pin)
        first_seen, last_seen = min(before.first_seen, pin.first_seen), max(before.last_seen, pin.last_seen)
        known[key] = replace(pin, first_seen=first_seen, last_seen=last_seen)


def _count_uses(server: McpServer, rows: Iterable[Mapping[str, Any]], sessions: float) -> McpServer:
    """Rows of all its routes."""
    names = {(item.kind, item.id): item.name for item in server.items}
    sums: dict[tuple[str, McpKind, str], list[int]] = {}
    for row in rows:
        kind = KINDS.get(int(row["kind"]))
        if kind is not None:
            counts = sums.setdefault((row["consumer"], kind, row["id"]), [0, 0, 0, 0])
            for place, name in enumerate(("calls", "errors", "answered")):
                counts[place] += int(row[name])
            counts[3] = max(counts[3], int(row["last_seen"]))
    uses = sorted(
        (
            McpUse(
                consumer=consumer,
                kind=kind,
                item_id=item_id,
                name=names.get((kind, item_id), ""),
                sampled_calls=calls,
                sampled_errors=errors if answered or errors else None,
                last_seen=last_seen,
            )
            for (consumer, kind, item_id), (calls, errors, answered, last_seen) in sums.items()
        ),
        key=lambda one: (-one.sampled_calls, one.consumer, one.kind, one.item_id),
    )
    by_item: dict[tuple[McpKind, str], list[McpUse]] = defaultdict(list)
    for use in uses:
        by_item[use.kind, use.item_id].append(use)
    return replace(
        server,
        items=tuple(_use_item(item, by_item.get((item.kind, item.id), ())) for item in server.items),
        uses=tuple(uses[:USES_MAX]),
        clients=len({one.consumer for one in uses}),
        sessions=round(sessions),
    )


def _use_item(item: McpItem, uses: Sequence[McpUse]) -> McpItem:
    consumers = tuple(dict.fromkeys(one.consumer for one in uses))
    errors = [one.sampled_errors for one in uses if one.sampled_errors is not None]
    return replace(
        item,
        sampled_calls=sum(one.sampled_calls for one in uses),
        sampled_errors=sum(errors) if errors else None,
        clients=len(consumers),
        consumers=consumers,
    )


def _place(server: McpServer) -> str:
    return f"{server.service}\x1f{server.path}\x1f{server.cluster}\x1f{server.id}"
