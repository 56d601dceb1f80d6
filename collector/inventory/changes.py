"""Compares the inventory at two dates, and keeps retired endpoints.

An endpoint exists at a date if it was called in the week before and answered 2xx to 3xx once. Its figures are those of
that week. They come from the days' summaries, which are kept for 90 days. Operations that share a path are endpoints
here too.

An endpoint that nobody called for 30 days is retired. What was known of it is kept, with its history by day, when its
calls expire. If it is called again, it is no longer retired.

Of operations the states at the end of each day are kept (collector/storage/tables/calls.py). A day's addition is a
state less the previous one of the same sensor process. Its share of the day's samples, times the calls of its route, is
the estimate of its calls.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Protocol

from collector.inventory.endpoints.endpoint import FULL_COVERAGE, AuthenticationLevel
from collector.inventory.endpoints.operations import (
    OPERATION_ID,
    has_operations,
    list_recent,
    sum_authenticated,
    sum_judged,
    sum_served,
)
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.query import Reader, Versions, select

# `d` is a route's day, `n` its endpoint: endpoint_id, service, host, method, url_template, first_seen (unix seconds).
DAYS_OF_ENDPOINTS: Final = """FROM routes_day AS d
INNER JOIN (
    SELECT e.route_id AS route_id, e.endpoint_id AS endpoint_id, e.service AS service, e.host AS host,
        e.method AS method, e.url_template AS url_template, toUnixTimestamp(f.first_seen) AS first_seen
    FROM (SELECT * FROM endpoint_routes FINAL) AS e
    LEFT JOIN (SELECT route_id, min(first_seen) AS first_seen FROM routes GROUP BY route_id) AS f
        ON f.route_id = e.route_id
) AS n ON n.route_id = d.route_id"""

# Of them, those that count: client-side ones only where no sensor watched the server
# (collector/inventory/endpoints/outbound.py), by the parameters `start` and `end`.
COUNTED_DAYS: Final = f"(d.role = {ROLE_SERVER} OR d.route_id NOT IN ({HIDDEN_ROUTES}))"

_PROCESS: Final = "s.route_id, s.node, s.boot_id, s.generation"
_BEFORE: Final = "ORDER BY s.time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"
_FIGURES: Final = ("calls", "served", "judged", "authenticated")
# What each day added to each operation of a route, and to the samples of the route.
_ADDED: Final = f"""SELECT s.route_id AS route_id, s.protocol AS protocol, s.kind AS kind, s.name AS name,
        s.time AS time, min(s.first_seen) AS first_seen, max(s.last_seen) AS last_seen,
        {", ".join(f"sum(s.{name} - s.{name}_before) AS {name}" for name in _FIGURES)}
    FROM (
        SELECT s.*, {", ".join(f"lagInFrame(s.{name}) OVER known AS {name}_before" for name in _FIGURES)}
        FROM (
            SELECT o.route_id AS route_id, o.node AS node, o.boot_id AS boot_id, o.generation AS generation,
                o.protocol AS protocol, o.kind AS kind, o.name AS name, o.time AS time, o.first_seen AS first_seen,
                o.last_seen AS last_seen, toInt64(o.calls) AS calls, toInt64({sum_served("o")}) AS served,
                toInt64({sum_judged("o")}) AS judged, toInt64({sum_authenticated("o")}) AS authenticated
            FROM operation_days AS o FINAL
        ) AS s
        WINDOW known AS (PARTITION BY {_PROCESS}, s.protocol, s.kind, s.name {_BEFORE})
    ) AS s
    GROUP BY s.route_id, s.protocol, s.kind, s.name, s.time"""
_SAMPLES: Final = f"""SELECT s.route_id AS route_id, s.time AS time, sum(s.samples - s.samples_before) AS samples
    FROM (
        SELECT s.*, lagInFrame(s.samples) OVER (PARTITION BY {_PROCESS} {_BEFORE}) AS samples_before
        FROM (
            SELECT s.route_id AS route_id, s.node AS node, s.boot_id AS boot_id, s.generation AS generation,
                s.time AS time, toInt64(max(s.samples)) AS samples
            FROM operation_days AS s FINAL GROUP BY {_PROCESS}, s.time
        ) AS s
    ) AS s
    GROUP BY s.route_id, s.time"""

# `o` is an operation's day: id, route_id, protocol, kind, name, time, first_seen, last_seen, and of its samples served,
# judged and authenticated; `calls` is the estimate. `n` is its endpoint as above, without first_seen.
DAYS_OF_OPERATIONS: Final = f"""FROM (
    SELECT a.route_id AS route_id, a.protocol AS protocol, a.kind AS kind, a.name AS name, a.time AS time,
        a.first_seen AS first_seen, a.last_seen AS last_seen, a.served AS served, a.judged AS judged,
        a.authenticated AS authenticated,
        greatest(1, toUInt64(round(c.calls * least(1., a.calls / greatest(1, t.samples))))) AS calls
    FROM ({_ADDED}) AS a
    INNER JOIN ({_SAMPLES}) AS t ON t.route_id = a.route_id AND t.time = a.time
    LEFT JOIN (SELECT d.route_id AS route_id, d.time AS time, sum(d.calls) AS calls FROM routes_day AS d
        WHERE d.route_id IN (SELECT route_id FROM operation_days) GROUP BY d.route_id, d.time) AS c
        ON c.route_id = a.route_id AND c.time = a.time
    WHERE a.calls > 0
) AS o
INNER JOIN (SELECT * FROM endpoint_routes FINAL) AS n ON n.route_id = o.route_id"""
# Columns that name an operation, where rows are grouped by it.
NAMES_OF_OPERATION: Final = """any(o.protocol) AS protocol, any(o.kind) AS kind, any(o.name) AS name,
    any(n.endpoint_id) AS parent_id"""
ID_OF_OPERATION: Final = OPERATION_ID.format(endpoint="n.endpoint_id", operation="o")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedOperation:
    """An operation by its name; `parent_id` is the endpoint whose path it shares."""

    parent_id: str
    protocol: str
    kind: str
    name: str


def read_operation(row: Mapping[str, Any]) -> NamedOperation | None:
    """That of a row with NAMES_OF_OPERATION; None of an endpoint's."""
    if not row.get("parent_id"):
        return None
    return NamedOperation(parent_id=row["parent_id"], protocol=row["protocol"], kind=row["kind"], name=row["name"])


WINDOW_DAYS: Final = 7
CHANGES_MAX: Final = 5_000  # Of each list.
_STATES: Final = (
    """
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(d.calls) AS calls, sum(d.judged_calls) AS judged,
    sum(d.authenticated_calls) AS authenticated, toUnixTimestamp(max(d.last_seen)) AS last_seen,
    min(n.first_seen) AS first_seen
"""
    + DAYS_OF_ENDPOINTS
    + """
WHERE d.time >= toDateTime({start:UInt32}, 'UTC') AND d.time < toDateTime({end:UInt32}, 'UTC') AND """
    + COUNTED_DAYS
    + """
GROUP BY n.endpoint_id
HAVING sum(d.calls) > sum(d.client_error_calls) + sum(d.error_calls)
ORDER BY id"""
)
_OPERATIONS: Final = f"""
SELECT {ID_OF_OPERATION} AS id, {NAMES_OF_OPERATION}, any(n.service) AS service, any(n.host) AS host,
    any(n.method) AS method, any(n.url_template) AS template, sum(o.calls) AS calls, sum(o.judged) AS judged,
    sum(o.authenticated) AS authenticated, max(o.last_seen) AS last_seen, min(o.first_seen) AS first_seen
{DAYS_OF_OPERATIONS}
WHERE o.time >= toDateTime({{start:UInt32}}, 'UTC') AND o.time < toDateTime({{end:UInt32}}, 'UTC')
GROUP BY id
HAVING sum(o.served) > 0
ORDER BY id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """An endpoint in the week up to a date. Times are unix seconds. `operation`: where it is one, whose calls are an
    estimate."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication: AuthenticationLevel
    first_seen: int
    last_seen: int
    operation: NamedOperation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedEndpoint:
    """An endpoint that was there at both dates, with other credentials."""

    before: EndpointState
    after: EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDiff:
    """`start` and `end` are the two dates; `is_cut`: a list had more than CHANGES_MAX."""

    start: date
    end: date
    appeared: tuple[EndpointState, ...]
    gone: tuple[EndpointState, ...]
    changed: tuple[ChangedEndpoint, ...]
    is_cut: bool


def compare_dates(reader: Reader, start: date, end: date) -> InventoryDiff:
    """Raises StoreError."""
    before, after = _read_states(reader, start), _read_states(reader, end)
    appeared = [state for name, state in after.items() if name not in before]
    gone = [state for name, state in before.items() if name not in after]
    changed = [
        ChangedEndpoint(before=before[name], after=state)
        for name, state in after.items()
        if name in before and before[name].authentication is not state.authentication
    ]
    return InventoryDiff(
        start=start,
        end=end,
        appeared=tuple(appeared[:CHANGES_MAX]),
        gone=tuple(gone[:CHANGES_MAX]),
        changed=tuple(changed[:CHANGES_MAX]),
        is_cut=max(len(appeared), len(gone), len(changed)) > CHANGES_MAX,
    )


def _read_states(reader: Reader, day: date) -> dict[str, EndpointState]:
    """By id, of the week up to the end of this day (UTC)."""
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    start = max(0, int((end - timedelta(days=WINDOW_DAYS)).timestamp()))
    span = {"start": start, "end": int(end.timestamp())}
    rows = select(reader, _STATES, span)
    if has_operations(reader):
        rows += select(reader, _OPERATIONS, span)
    return {row["id"]: _read_state(row) for row in rows}


def _read_state(row: Mapping[str, Any]) -> EndpointState:
    judged = int(row["judged"])
    share = int(row["authenticated"]) / judged if judged else None
    return EndpointState(
        id=row["id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["template"],
        calls=int(row["calls"]),
        authentication=_decide_level(share),
        first_seen=int(row["first_seen"] or 0),
        last_seen=int(row["last_seen"]),
        operation=read_operation(row),
    )


def _decide_level(share: float | None) -> AuthenticationLevel:
    if share is None:
        return AuthenticationLevel.UNKNOWN
    if share >= FULL_COVERAGE:
        return AuthenticationLevel.FULL
    return AuthenticationLevel.PARTIAL if share > 0 else AuthenticationLevel.NONE


GONE_SECONDS: Final = 30 * 86_400
TOMBSTONES_MAX: Final = 10_000  # Listed; all are kept.
_GONE: Final = (
    """
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(d.calls) AS calls, sum(d.success_calls) AS success_calls,
    toUnixTimestamp(max(d.last_seen)) AS last_seen, min(n.first_seen) AS first_seen,
    sum(d.authenticated_calls) AS authenticated, sum(d.judged_calls) AS judged,
    sumMap([toUnixTimestamp(d.time)], [d.calls]) AS days
"""
    + DAYS_OF_ENDPOINTS
    + f"""
WHERE {COUNTED_DAYS}"""
    + """
GROUP BY n.endpoint_id
HAVING last_seen < {limit:UInt32} AND success_calls > 0"""
)
_GONE_OPERATIONS: Final = f"""
SELECT {ID_OF_OPERATION} AS id, {NAMES_OF_OPERATION}, any(n.service) AS service, any(n.host) AS host,
    any(n.method) AS method, any(n.url_template) AS template, sum(o.calls) AS calls, sum(o.served) AS success_calls,
    max(o.last_seen) AS last_seen, min(o.first_seen) AS first_seen, sum(o.authenticated) AS authenticated,
    sum(o.judged) AS judged, sumMap([toUnixTimestamp(o.time)], [o.calls]) AS days
{DAYS_OF_OPERATIONS}
GROUP BY id
HAVING last_seen < {{limit:UInt32}} AND success_calls > 0"""
_BACK: Final = """
SELECT endpoint_id FROM endpoint_tombstones FINAL WHERE is_back = 0 AND endpoint_id IN (
    SELECT n.endpoint_id FROM routes_day AS d
    INNER JOIN (SELECT route_id, endpoint_id FROM endpoint_routes FINAL) AS n ON n.route_id = d.route_id
    WHERE d.last_seen >= toDateTime({limit:UInt32}, 'UTC'))"""
_LIST: Final = f"""
SELECT * FROM endpoint_tombstones FINAL WHERE is_back = 0 ORDER BY last_seen DESC, endpoint_id LIMIT {TOMBSTONES_MAX}"""


_OPERATION_COLUMNS: Final = ("operation_protocol", "operation_kind", "operation_name")


class Store(Protocol):
    """What this room needs of `collector.storage.base.Store`."""

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]: ...

    def insert_records(self, table: str, records: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TombstoneRecord:
    """One row of `endpoint_tombstones`."""

    endpoint_id: str
    version: int
    service: str
    host: str
    method: str
    url_template: str
    calls: int
    authenticated_calls: int
    judged_calls: int
    first_seen: datetime
    last_seen: datetime
    days: str
    is_back: int
    parent_id: str
    operation_protocol: str
    operation_kind: str
    operation_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A gone endpoint. `days`: calls by start of day; times are unix seconds. `operation`: where it was one; then calls
    are estimates."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication_coverage: float | None
    first_seen: int
    last_seen: int
    days: Mapping[int, int]
    operation: NamedOperation | None


class RetiredEndpoints:
    """Keeps `endpoint_tombstones`. Blocks. Raises StoreError."""

    def __init__(self, *, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._versions = Versions(store, "endpoint_tombstones", clock=clock)

    def look(self) -> int:
        """Write the tombstones of what is gone since the last look, take away those of what is back; gives how many."""
        now = int(self._clock())
        limit = now - GONE_SECONDS
        known = {one.id: one.last_seen for one in self.list_tombstones()}
        found = select(self._store, _GONE, {"limit": limit, "start": 0, "end": now})
        back = {row["endpoint_id"] for row in select(self._store, _BACK, {"limit": limit})}
        if has_operations(self._store):
            found += select(self._store, _GONE_OPERATIONS, {"limit": limit})
            back |= known.keys() & list_recent(self._store, limit).keys()
        version = self._versions.take()
        records = [_write(row, version) for row in found if known.get(row["id"]) != row["last_seen"]]
        records += [_write({"id": name}, version, is_back=1) for name in sorted(back)]
        self._store.insert_records("endpoint_tombstones", records)
        return len(records)

    def list_tombstones(self) -> Sequence[Tombstone]:
        """Those that went last first."""
        return [_read(row) for row in select(self._store, _LIST)]


def _write(row: Mapping[str, Any], version: int, *, is_back: int = 0) -> TombstoneRecord:
    times, calls = row.get("days", ((), ()))
    days = {int(time): int(count) for time, count in zip(times, calls, strict=True)}
    return TombstoneRecord(
        endpoint_id=row["id"],
        version=version,
        service=row.get("service", ""),
        host=row.get("host", ""),
        method=row.get("method", ""),
        url_template=row.get("template", ""),
        calls=int(row.get("calls", 0)),
        authenticated_calls=int(row.get("authenticated", 0)),
        judged_calls=int(row.get("judged", 0)),
        first_seen=datetime.fromtimestamp(int(row.get("first_seen") or 0), UTC),
        last_seen=datetime.fromtimestamp(int(row.get("last_seen", 0)), UTC),
        days=json.dumps(days),
        is_back=is_back,
        parent_id=row.get("parent_id", ""),
        operation_protocol=row.get("protocol", ""),
        operation_kind=row.get("kind", ""),
        operation_name=row.get("name", ""),
    )


def _read(row: Mapping[str, Any]) -> Tombstone:
    judged = int(row["judged_calls"])
    return Tombstone(
        id=row["endpoint_id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["url_template"],
        calls=int(row["calls"]),
        authentication_coverage=int(row["authenticated_calls"]) / judged if judged else None,
        first_seen=_seconds(row["first_seen"]),
        last_seen=_seconds(row["last_seen"]),
        days={int(time): int(calls) for time, calls in json.loads(row["days"]).items()},
        operation=read_operation(
            {name.removeprefix("operation_"): row[name] for name in ("parent_id", *_OPERATION_COLUMNS)}
        ),
    )


def _seconds(value: Any) -> int:
    """The store's client gives times as numbers or as UTC times."""
    if isinstance(value, datetime):
        return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp())
    return int(value)
