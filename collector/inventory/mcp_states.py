"""What sensors sent about servers of the Model Context Protocol: rows of the store in, `McpState`s and uses out.

A state is what one process of a sensor knows of one route (collector/receiver/mcp.py writes it). Large columns are read
of those routes alone that have one, and of so many at once that a statement stays small.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.core.budget import check_budget
from collector.storage.records import Reader, select
from common.consumer_order import ConsumerColumn

ROUTES_MAX: Final = 10_000  # Read for one question; further ones are counted.
STATES_OF_ROUTE: Final = 64  # Newest first; a process of a sensor has one.
USES_OF_ROUTE: Final = 2_000  # Pairs of a consumer and a tool, most calls first.
CHARACTERS_AT_ONCE: Final = 32 * 1024 * 1024  # Of states that one statement reads.
_SERVER, _USES = 240, 241  # SchemaPart of the wire.

# Narrow columns first: most routes have no such state.
_SIZES: Final = f"""
SELECT route_id, sum(length(fields)) AS size, count() OVER () AS routes FROM schemas WHERE part = {_SERVER}
GROUP BY route_id ORDER BY route_id LIMIT {ROUTES_MAX}"""

# PREWHERE by columns of the key, which versions of a row share: large columns are read of these rows alone.
_STATES: Final = f"""
SELECT route_id, fields, toUnixTimestamp(time) AS told_at FROM schemas FINAL
PREWHERE part = {_SERVER} AND route_id IN {{routes:Array(UInt64)}}
ORDER BY route_id, time DESC, node, boot_id, generation
LIMIT {STATES_OF_ROUTE} BY route_id"""

_PLACES: Final = """
SELECT n.route_id AS route_id, n.endpoint_id AS endpoint_id, n.cluster AS cluster, n.service AS service,
    n.url_template AS path, toUnixTimestamp(r.since) AS first_seen
FROM endpoint_routes AS n FINAL
LEFT JOIN (
    SELECT route_id, min(first_seen) AS since FROM routes WHERE route_id IN {routes:Array(UInt64)} GROUP BY route_id
) AS r ON r.route_id = n.route_id
WHERE n.route_id IN {routes:Array(UInt64)}"""

_USE: Final = (
    "principal String, credential String, client_address String, client_workload String, kind UInt8, id String, "
    "calls UInt64, errors UInt64, answered UInt64, last_seen UInt32"
)
_ANSWERING: Final = f"""
SELECT DISTINCT endpoint_id FROM endpoint_routes FINAL
WHERE endpoint_id IN {{ids:Array(String)}} AND route_id IN (
    SELECT route_id FROM schemas
    PREWHERE part = {_SERVER} AND route_id IN (
        SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id IN {{ids:Array(String)}}
    )
    WHERE (JSONLength(fields, 'items') > 0 OR JSONExtractString(fields, 'name') != ''
        OR JSONExtractString(fields, 'version') != '')
)"""


class McpKind(StrEnum):
    """What a server lists, and what it wants each model to know."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    RESOURCE_TEMPLATE = "resource_template"
    INSTRUCTIONS = "instructions"


class McpTransport(StrEnum):
    """How messages travel."""

    STREAMABLE_HTTP = "streamable_http"
    SSE = "sse"


KINDS: Final = dict(enumerate(McpKind, 1))
_TRANSPORTS: Final = dict(enumerate(McpTransport, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class McpArgument:
    """An argument as the server describes it; `type` is empty of several or none."""

    name: str
    type: str
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class McpPin:
    """Keyed hashes of the texts of a tool or prompt, and when a list had them. Only pins of one key and one version are
    compared."""

    key_id: int
    version: int
    description_hash: str
    schema_hash: str
    first_seen: int
    last_seen: int

    @property
    def made_by(self) -> int:
        """Key and version as one number."""
        return self.version << 32 | self.key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSight:
    """A tool, prompt or resource as one process saw it; `pins_left_out` counts texts that it did not keep."""

    kind: McpKind
    id: str
    name: str
    arguments: tuple[McpArgument, ...]
    is_read_only: bool
    is_destructive: bool | None
    is_open_world: bool | None
    pins: tuple[McpPin, ...]
    pins_left_out: int

    @property
    def key(self) -> tuple[McpKind, str]:
        """What it is called among those of its server, under any key of hashes."""
        return self.kind, self.name or self.id

    @property
    def last_seen(self) -> int:
        """When a list had it last."""
        return max(pin.last_seen for pin in self.pins)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpList:
    """How far the lists of one kind were read: when one was read whole, and when one was not read to its end (0:
    never); items that no bound let in."""

    kind: McpKind
    read_at: int
    unread_at: int
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class McpState:
    """What one process knows of one route. `first_seen`: of the route, 0 where that is not known."""

    route_id: int
    endpoint_id: str
    cluster: str
    service: str
    path: str
    first_seen: int
    name: str
    version: str
    protocol_versions: tuple[str, ...]
    transports: frozenset[McpTransport]
    items: tuple[McpSight, ...]
    lists: tuple[McpList, ...]
    left_out: int  # Items that the collector had no room for.

    @property
    def is_answer(self) -> bool:
        """Whether the server itself said something: whoever calls a tool somewhere makes no server of it."""
        return bool(self.name or self.version or self.items)


@dataclass(frozen=True, slots=True)
class McpRoutes:
    """Routes with states, in groups whose states are read at once; `left_out` counts those beyond ROUTES_MAX."""

    groups: tuple[tuple[int, ...], ...] = ()
    left_out: int = 0


def read_routes(reader: Reader) -> McpRoutes:
    """All that have states. Raises StoreError."""
    rows = list(select(reader, _SIZES))
    return McpRoutes(tuple(_pack(rows)), int(rows[0]["routes"]) - len(rows)) if rows else McpRoutes()


def read_states(reader: Reader, routes_read: McpRoutes) -> Iterator[McpState]:
    """All that are kept of these routes, of one the newest first. Raises StoreError."""
    for routes in routes_read.groups:
        places = {int(row["route_id"]): row for row in select(reader, _PLACES, {"routes": list(routes)})}
        for row in select(reader, _STATES, {"routes": list(routes)}):
            check_budget()
            place = places.get(int(row["route_id"]))
            if place is not None:
                yield _read_state(place, json.loads(row["fields"]), int(row["told_at"]))


def read_uses(
    reader: Reader, routes: Sequence[int], start: int, order: Sequence[ConsumerColumn]
) -> list[Mapping[str, Any]]:
    """Sampled calls since `start` by route, consumer and what it used. Raises StoreError."""
    if not routes:
        return []
    names = ", ".join(f"nullIf(one.{column}, '')" for column in order)
    statement = f"""
SELECT s.route_id AS route_id, coalesce({names}, '') AS consumer, one.kind AS kind, one.id AS id,
    sum(one.calls) AS calls, sum(one.errors) AS errors, sum(one.answered) AS answered, max(one.last_seen) AS last_seen
FROM schemas AS s FINAL
ARRAY JOIN JSONExtract(s.operations, 'Array(Tuple({_USE}))') AS one
PREWHERE s.part = {_USES} AND s.route_id IN {{routes:Array(UInt64)}}
WHERE s.time >= {{start:UInt32}} AND consumer != ''
GROUP BY route_id, consumer, kind, id
ORDER BY route_id, calls DESC, consumer, kind, id
LIMIT {USES_OF_ROUTE} BY route_id"""
    return list(select(reader, statement, {"routes": list(routes), "start": start}))


def find_answering(reader: Reader, ids: Sequence[str]) -> frozenset[str]:
    """Which of these endpoints answered as servers. Raises StoreError."""
    return frozenset(row["endpoint_id"] for row in select(reader, _ANSWERING, {"ids": list(ids)}))


def _pack(sizes: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, ...]]:
    routes: list[int] = []
    total = 0
    for row in sizes:
        if routes and total + int(row["size"]) > CHARACTERS_AT_ONCE:
            yield tuple(routes)
            routes, total = [], 0
        routes.append(int(row["route_id"]))
        total += int(row["size"])
    if routes:
        yield tuple(routes)


def _read_state(place: Mapping[str, Any], state: Mapping[str, Any], told_at: int) -> McpState:
    """`told_at`: when the collector got it, by its own clock; a sensor's may be ahead, and saw nothing later."""
    made_by = state["key_id"], state.get("pin_version", 0)
    return McpState(
        route_id=int(place["route_id"]),
        endpoint_id=place["endpoint_id"],
        cluster=place["cluster"],
        service=place["service"],
        path=place["path"],
        first_seen=int(place["first_seen"]),
        name=state["name"],
        version=state["version"],
        protocol_versions=tuple(state["protocol_versions"]),
        transports=frozenset(_TRANSPORTS[number] for number in state["transports"] if number in _TRANSPORTS),
        items=tuple(_read_item(row, made_by, told_at) for row in state["items"] if row["kind"] in KINDS),
        lists=tuple(
            McpList(
                kind=KINDS[row["kind"]],
                read_at=min(row["read"], told_at),
                unread_at=min(row["unread"], told_at),
                left_out=row["left_out"],
            )
            for row in state.get("lists", ())
            if row["kind"] in KINDS
        ),
        left_out=state.get("left_out", 0),
    )


def _read_item(row: Mapping[str, Any], made_by: tuple[int, int], told_at: int) -> McpSight:
    is_read_only, is_destructive, is_open_world = row["hints"]
    pins = row.get("pins") or [[row["description"], row["schema"], row["first_seen"], row["last_seen"]]]
    return McpSight(
        kind=KINDS[row["kind"]],
        id=row["id"],
        name=row["name"],
        arguments=tuple(
            McpArgument(name=name, type=kind, is_required=needed) for name, kind, needed in row["arguments"]
        ),
        is_read_only=is_read_only,
        is_destructive=is_destructive,
        is_open_world=is_open_world,
        pins=tuple(
            McpPin(
                key_id=made_by[0],
                version=made_by[1],
                description_hash=description,
                schema_hash=schema,
                first_seen=min(first_seen, told_at),
                last_seen=min(last_seen, told_at),
            )
            for description, schema, first_seen, last_seen in pins
        ),
        pins_left_out=row.get("pins_left_out", 0),
    )
