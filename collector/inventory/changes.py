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
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy import Connection

from collector.core.feature import Feature, Job, Role
from collector.inventory.endpoints.bodies import DATA_KINDS, PLACE_SIZE, BodySide
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, AuthenticationLevel, decide_level
from collector.inventory.endpoints.hops import HopView, restrict_hops
from collector.inventory.endpoints.operations import (
    OPERATION_ID,
    has_operations,
    list_recent,
    sum_authenticated,
    sum_judged,
    sum_served,
)
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.storage.records import Reader, read_record, select
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.inventory import RETIRED_ENDPOINTS

_IS_PROVEN: Final = "d.route_id IN (SELECT route_id FROM proven_carriers)"


def _write_endpoint_days(hops: str, dates: str = "", names: str = "") -> str:
    """A row for each day of each endpoint, but of `hops`, as `_restrict_hops` says. Client-side calls count only where
    no sensor watched the server (collector/inventory/endpoints/outbound.py). Parameters: `start` and `end`. `well`:
    calls without an error. `dates` is _DATES where `first_seen` is read, for it takes a while; `names` a condition on
    the endpoints' names."""
    first_seen = ", toUnixTimestamp(f.first_seen) AS first_seen" * bool(dates)
    named = f"SELECT * FROM endpoint_routes FINAL WHERE {names or 'true'}"
    mine = f" AND d.route_id IN (SELECT route_id FROM ({named}))" * bool(names)
    return f"""
    SELECT n.endpoint_id AS id, n.service AS service, n.host AS host, n.method AS method, n.url_template AS template,
        '' AS parent_id, '' AS protocol, '' AS kind, '' AS name, d.time AS time, d.calls AS calls,
        toInt64(d.calls) - d.client_error_calls - d.error_calls AS well, d.success_calls AS served,
        d.judged_calls AS assessed, d.authenticated_calls
            + if({_IS_PROVEN}, d.possible_calls, 0) AS authenticated
        {first_seen}, toUnixTimestamp(d.last_seen) AS last_seen
    FROM routes_day AS d
    INNER JOIN ({named}) AS n ON n.route_id = d.route_id
    {dates}
    WHERE (d.role = {ROLE_SERVER} OR d.route_id NOT IN ({HIDDEN_ROUTES})){hops}{mine}"""


def _restrict_hops(reader: Reader, parameters: Mapping[str, Any]) -> str:
    return restrict_hops(reader, HopView.EXCLUDE, "d.route_id", parameters)


_DATES: Final = """LEFT JOIN (SELECT route_id, min(first_seen) AS first_seen FROM routes GROUP BY route_id) AS f
        ON f.route_id = d.route_id"""

_PROCESS: Final = "s.route_id, s.node, s.boot_id, s.generation"
_BEFORE: Final = "ORDER BY s.time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"
_FIGURES: Final = ("calls", "served", "assessed", "authenticated")
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
                toInt64({sum_judged("o")}) AS assessed, toInt64({sum_authenticated("o")}) AS authenticated
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

# A row for each day of each operation, as those of endpoints; `calls` is the estimate.
_OPERATION_DAYS: Final = f"""
    SELECT {OPERATION_ID.format(endpoint="n.endpoint_id", operation="a")} AS id, n.service AS service, n.host AS host,
        n.method AS method, n.url_template AS template, n.endpoint_id AS parent_id, a.protocol AS protocol,
        a.kind AS kind, a.name AS name, a.time AS time,
        greatest(1, toUInt64(round(c.calls * least(1., a.calls / greatest(1, t.samples))))) AS calls,
        a.served AS well, a.served AS served, a.assessed AS assessed, a.authenticated AS authenticated,
        a.first_seen AS first_seen, a.last_seen AS last_seen
    FROM ({_ADDED}) AS a
    INNER JOIN ({_SAMPLES}) AS t ON t.route_id = a.route_id AND t.time = a.time
    LEFT JOIN (SELECT d.route_id AS route_id, d.time AS time, sum(d.calls) AS calls FROM routes_day AS d
        WHERE d.route_id IN (SELECT route_id FROM operation_days) GROUP BY d.route_id, d.time) AS c
        ON c.route_id = a.route_id AND c.time = a.time
    INNER JOIN (SELECT * FROM endpoint_routes FINAL) AS n ON n.route_id = a.route_id
    WHERE a.calls > 0"""


def _sum_days(days: str, having: str) -> str:
    """One row an endpoint or operation, by its days."""
    return f"""
SELECT d.id AS id, any(d.service) AS service, any(d.host) AS host, any(d.method) AS method,
    any(d.template) AS template, any(d.parent_id) AS parent_id, any(d.protocol) AS protocol, any(d.kind) AS kind,
    any(d.name) AS name, sum(d.calls) AS calls, sum(d.assessed) AS assessed, sum(d.authenticated) AS authenticated,
    min(d.first_seen) AS first_seen, max(d.last_seen) AS last_seen,
    sumMap([toUnixTimestamp(d.time)], [d.calls]) AS days
FROM ({days}) AS d
GROUP BY id
HAVING {having}
ORDER BY id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedOperation:
    """An operation by its name; `parent_id` is the endpoint whose path it shares."""

    parent_id: str
    protocol: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEndpoint:
    """An endpoint at an earlier time. `days`: calls by start of day; times are unix seconds. `operation`: where it is
    one; then calls are estimates."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication_coverage: float | None
    first_seen: int
    last_seen: int
    operation: NamedOperation | None
    days: Mapping[int, int] = field(repr=False)

    @property
    def authentication(self) -> AuthenticationLevel:
        return decide_level(self.authentication_coverage)


def _read(row: Mapping[str, Any], days: Mapping[int, int]) -> PastEndpoint:
    assessed = int(row["assessed"])
    operation = NamedOperation(parent_id=row["parent_id"], protocol=row["protocol"], kind=row["kind"], name=row["name"])
    return PastEndpoint(
        id=row["id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["template"],
        calls=int(row["calls"]),
        authentication_coverage=int(row["authenticated"]) / assessed if assessed else None,
        first_seen=int(row["first_seen"] or 0),
        last_seen=int(row["last_seen"]),
        operation=operation if operation.parent_id else None,
        days=days,
    )


def _read_days(row: Mapping[str, Any]) -> dict[int, int]:
    return {int(start): int(calls) for start, calls in zip(*row["days"], strict=True)}


WINDOW_DAYS: Final = 7
CHANGES_MAX: Final = 5_000  # Of each list.
_IN_WEEK: Final = "BETWEEN toDateTime({start:UInt32}, 'UTC') AND toDateTime({end:UInt32} - 1, 'UTC')"
_IS_ASKED: Final = "endpoint_id IN {ids:Array(String)}"
_OPERATIONS: Final = _sum_days(
    f"{_OPERATION_DAYS} AND a.time {_IN_WEEK}", "sum(d.well) > 0 AND id IN {ids:Array(String)}"
)


def _write_states(hops: str) -> str:
    return _sum_days(f"{_write_endpoint_days(hops, _DATES, _IS_ASKED)} AND d.time {_IN_WEEK}", "sum(d.well) > 0")


def _name_level(week: str) -> str:
    """The level of credentials of a week, as `decide_level` says; empty where there is no such endpoint."""
    assessed, authenticated = f"sum(d.assessed{week})", f"sum(d.authenticated{week})"
    return f"""multiIf(sum(d.well{week}) = 0, '', {assessed} = 0, '{AuthenticationLevel.UNKNOWN}',
            {authenticated} / {assessed} >= {FULL_COVERAGE}, '{AuthenticationLevel.FULL}',
            {authenticated} > 0, '{AuthenticationLevel.PARTIAL}', '{AuthenticationLevel.NONE}')"""


def _of_first_week(condition: str) -> str:
    return condition.replace("{start:", "{before_start:").replace("{end:", "{before_end:")


def _write_changes(levels: str) -> str:
    """Ids of what came, went or has another level of credentials, in this order, up to one more than is listed of
    each. Parameters: `start` and `end` of the week of each date, those of the first with `before_`."""
    return f"""
SELECT id, multiIf(before = '', 'appeared', after = '', 'gone', 'changed') AS change
FROM ({levels})
WHERE before != after
ORDER BY id
LIMIT {CHANGES_MAX + 1} BY change"""


def _write_changed_endpoints(hops: str) -> str:
    """The days of a route are added up once for both weeks."""
    counted = f"d.time {_IN_WEEK} AND (d.role = {ROLE_SERVER} OR d.route_id NOT IN ({HIDDEN_ROUTES})){hops}"
    weeks = {"_before": _of_first_week(counted), "_after": counted}
    sums = "".join(
        f""",
            sumIf(toInt64(d.calls) - d.client_error_calls - d.error_calls, d.is{week}) AS well{week},
            sumIf(d.judged_calls, d.is{week}) AS assessed{week},
            sumIf(d.authenticated_calls + if({_IS_PROVEN}, d.possible_calls, 0), d.is{week}) AS authenticated{week}"""
        for week in weeks
    )
    flags = ", ".join(f"{condition} AS is{week}" for week, condition in weeks.items())
    return _write_changes(f"""
    SELECT n.endpoint_id AS id, {_name_level("_before")} AS before, {_name_level("_after")} AS after
    FROM (
        SELECT d.route_id AS route_id{sums}
        FROM (
            SELECT *, {flags} FROM routes_day AS d WHERE d.time {_of_first_week(_IN_WEEK)} OR d.time {_IN_WEEK}
        ) AS d
        GROUP BY d.route_id
    ) AS d
    INNER JOIN (SELECT route_id, endpoint_id FROM endpoint_routes FINAL) AS n ON n.route_id = d.route_id
    GROUP BY id""")


def _write_changed_operations() -> str:
    levels = (
        f"SELECT d.id AS id, {_name_level('')} AS level FROM ({_OPERATION_DAYS} AND a.time {_IN_WEEK}) AS d GROUP BY id"
    )
    return _write_changes(f"""
    SELECT id, max(level_before) AS before, max(level_after) AS after
    FROM (
        SELECT id, level AS level_before, '' AS level_after FROM ({_of_first_week(levels)})
        UNION ALL
        SELECT id, '' AS level_before, level AS level_after FROM ({levels})
    )
    GROUP BY id""")


_CHANGED_OPERATIONS: Final = _write_changed_operations()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedEndpoint:
    """An endpoint that was there at both dates, with other credentials."""

    before: PastEndpoint
    after: PastEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedExposure:
    """An endpoint that is reached from elsewhere than before, since a time in unix seconds."""

    id: str
    service: str
    host: str
    method: str
    template: str
    before: str
    after: str
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedData:
    """An endpoint that was there, and kinds of data that its calls did not carry before, by place."""

    id: str
    service: str
    host: str
    method: str
    template: str
    kinds: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDiff:
    """`start` and `end` are the two dates; `is_cut`: a list had more than CHANGES_MAX. The store keeps one change of
    exposure of an endpoint, the last."""

    start: date
    end: date
    appeared: tuple[PastEndpoint, ...]
    gone: tuple[PastEndpoint, ...]
    changed: tuple[ChangedEndpoint, ...]
    exposed: tuple[ChangedExposure, ...]
    data: tuple[AddedData, ...]
    is_cut: bool


_EXPOSED: Final = f"""
SELECT endpoint_id AS id, service, host, method, url_template AS template, exposure_before AS before, exposure AS after,
    toUInt32(exposure_since) AS since
FROM endpoint_risks FINAL
WHERE exposure_before NOT IN ('', exposure) AND exposure_since >= {{start:UInt32}} AND exposure_since < {{end:UInt32}}
ORDER BY since DESC, id
LIMIT {CHANGES_MAX}"""
# Codes are places * PLACE_SIZE + kinds.
_CODES: Final = f"""
    groupUniqArrayArrayIf(r.data.1, r.time < toDateTime({{start:UInt32}}, 'UTC')) AS known,
    groupUniqArrayArrayIf(r.data.1, r.time >= toDateTime({{start:UInt32}}, 'UTC')) AS found,
    arrayFilter(one -> one % {PLACE_SIZE} > 0 AND one < {PLACE_SIZE * (len(BodySide) + 1)} AND NOT has(known, one),
        found) AS added"""
_WITH_DATA: Final = f"""r.time >= toDateTime({{before:UInt32}}, 'UTC') AND r.time < toDateTime({{end:UInt32}}, 'UTC')
    AND notEmpty(r.data.1) AND r.role = {ROLE_SERVER}"""
# Few routes have new data. So they are found first: to join all names takes fifteen times as long.
_ROUTES_WITH_ADDED: Final = f"""
SELECT r.route_id AS route_id, {_CODES}
FROM rows_hour AS r WHERE {_WITH_DATA}
GROUP BY route_id
HAVING notEmpty(added)"""
# Of endpoints that were called before `start`.
_ADDED_DATA: Final = f"""
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, {_CODES}
FROM rows_hour AS r
INNER JOIN (
    SELECT * FROM endpoint_routes FINAL WHERE endpoint_id IN (
        SELECT endpoint_id FROM endpoint_routes FINAL WHERE route_id IN {{routes:Array(UInt64)}})
) AS n ON n.route_id = r.route_id
WHERE {_WITH_DATA} AND n.endpoint_id IN (
        SELECT endpoint_id FROM endpoint_routes FINAL
        WHERE route_id IN (SELECT route_id FROM routes WHERE first_seen < toDateTime({{start:UInt32}}, 'UTC')))
GROUP BY id
HAVING notEmpty(added)
ORDER BY id
LIMIT {CHANGES_MAX}"""


def _list_added_data(reader: Reader, start: date, end: date) -> tuple[AddedData, ...]:
    """What calls after the end of the first day carried that those of the week before did not."""
    week = _make_week(start)
    asked: dict[str, Any] = {"before": week["start"], "start": week["end"], "end": _make_week(end)["end"]}
    asked["routes"] = [int(row["route_id"]) for row in select(reader, _ROUTES_WITH_ADDED, asked)]
    rows = select(reader, _ADDED_DATA, asked) if asked["routes"] else []
    return tuple(read_record(AddedData, row, kinds=name_kinds(row["added"])) for row in rows)


def name_kinds(codes: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Kinds of data by where they were."""
    named: dict[str, set[str]] = {}
    for code in codes:
        place, kind = divmod(int(code), PLACE_SIZE)
        if 1 <= place <= len(BodySide) and kind in DATA_KINDS:
            named.setdefault(tuple(BodySide)[place - 1], set()).add(DATA_KINDS[kind][0])
    return {place: tuple(sorted(kinds)) for place, kinds in sorted(named.items())}


def compare_dates(store: Reader, start: date, end: date) -> InventoryDiff:
    """Raises StoreError, BudgetError. The store compares all endpoints, and the rest is read of those that are
    shown."""
    before, after = _make_week(start), _make_week(end)
    asked = {**after, **{f"before_{name}": value for name, value in before.items()}}
    changes: dict[str, list[str]] = {"appeared": [], "gone": [], "changed": []}
    hops = _restrict_hops(store, {"start": before["start"], "end": after["end"]})
    statements = (_write_changed_endpoints(hops), *(_CHANGED_OPERATIONS,) * has_operations(store))
    for statement in statements:
        for row in select(store, statement, asked):
            changes[row["change"]].append(row["id"])
    appeared, gone, changed = (names[:CHANGES_MAX] for names in changes.values())
    past = _read_states(store, start, [*gone, *changed])
    new = _read_states(store, end, [*appeared, *changed])
    return InventoryDiff(
        start=start,
        end=end,
        appeared=tuple(new[name] for name in appeared if name in new),
        gone=tuple(past[name] for name in gone if name in past),
        changed=tuple(
            ChangedEndpoint(before=past[name], after=new[name]) for name in changed if name in past and name in new
        ),
        exposed=_list_exposed(store, start, end),
        data=_list_added_data(store, start, end),
        is_cut=any(len(names) > CHANGES_MAX for names in changes.values()),
    )


def _list_exposed(reader: Reader, start: date, end: date) -> tuple[ChangedExposure, ...]:
    """Exposures that changed after the end of the first day."""
    asked = {"start": _make_week(start)["end"], "end": _make_week(end)["end"]}
    return tuple(read_record(ChangedExposure, row) for row in select(reader, _EXPOSED, asked))


def _read_states(reader: Reader, day: date, ids: Sequence[str]) -> dict[str, PastEndpoint]:
    """Those of some ids, of the week up to the end of this day (UTC)."""
    if not ids:
        return {}
    asked = {**_make_week(day), "ids": list(ids)}
    found = select(reader, _write_states(_restrict_hops(reader, asked)), asked)
    if len(found) < len(ids) and has_operations(reader):
        found += select(reader, _OPERATIONS, asked)
    return {row["id"]: _read(row, _read_days(row)) for row in found}


def _make_week(day: date) -> dict[str, Any]:
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return {"start": max(0, int((end - timedelta(days=WINDOW_DAYS)).timestamp())), "end": int(end.timestamp())}


GONE_SECONDS: Final = 30 * 86_400
RETIRED_MAX: Final = 10_000  # Listed; all are kept.
IDS_MAX: Final = 500  # Of one statement.
_IS_GONE: Final = "last_seen < {limit:UInt32} AND sum(d.served) > 0"
_GONE_OPERATIONS: Final = _sum_days(_OPERATION_DAYS, _IS_GONE)
_RECENT: Final = """
SELECT DISTINCT n.endpoint_id AS id FROM routes_day AS d
INNER JOIN (SELECT route_id, endpoint_id FROM endpoint_routes FINAL) AS n ON n.route_id = d.route_id
WHERE d.last_seen >= toDateTime({limit:UInt32}, 'UTC')"""


RETIRE_SECONDS: Final = 3_600.0  # Between two looks for endpoints that nobody calls any more.


class RetiredEndpoints:
    """Keeps them in the state. Blocks. Raises StoreError."""

    def __init__(self, *, store: Reader, state: StateStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._state = state
        self._clock = clock

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(
            name="retired endpoints", role=Role.JOBS, jobs=(Job(works=(self.update,), seconds=RETIRE_SECONDS),)
        )

    def update(self) -> int:
        """Write what is retired since the last time, take away what is called again; gives how many."""
        now = int(self._clock())
        limit = now - GONE_SECONDS
        asked = {"limit": limit, "start": 0, "end": now}
        days = _write_endpoint_days(_restrict_hops(self._store, asked), _DATES)
        found = select(self._store, _sum_days(days, _IS_GONE), asked)
        recent = {row["id"] for row in select(self._store, _RECENT, {"limit": limit})}
        if has_operations(self._store):
            found += select(self._store, _GONE_OPERATIONS, {"limit": limit})
            recent |= list_recent(self._store, limit).keys()
        table = RETIRED_ENDPOINTS
        with self._state.write() as connection:
            known = {row.id: row.last_seen for row in connection.execute(sql.select(table.c.id, table.c.last_seen))}
            back = sorted(known.keys() & recent)
            gone = [row for row in found if row["id"] not in recent and known.get(row["id"]) != row["last_seen"]]
            upsert(connection, table, [_write(row) for row in gone])
            for start in range(0, len(back), IDS_MAX):
                connection.execute(sql.delete(table).where(table.c.id.in_(back[start : start + IDS_MAX])))
        return len(gone) + len(back)

    def list_retired(self) -> Sequence[PastEndpoint]:
        """Those that went last first."""
        table = RETIRED_ENDPOINTS
        newest = sql.select(table).order_by(table.c.last_seen.desc(), table.c.id).limit(RETIRED_MAX)
        with self._state.read() as connection:
            rows = connection.execute(newest).mappings().all()
        return [_read(dict(row), {int(start): calls for start, calls in row["days"].items()}) for row in rows]


def import_retired(connection: Connection, rows: OldRows) -> None:
    """Those that an earlier version kept in ClickHouse. Raises StoreError."""
    for found in rows.read("endpoint_tombstones", _read_old):
        upsert(connection, RETIRED_ENDPOINTS, [one for one in found if one is not None])


def _write(row: Mapping[str, Any]) -> dict[str, Any]:
    names = "id", "service", "host", "method", "template", "parent_id", "protocol", "kind", "name"
    figures = "calls", "assessed", "authenticated", "first_seen", "last_seen"
    return {
        **{name: row[name] for name in names},
        **{name: int(row[name] or 0) for name in figures},
        "days": {str(start): calls for start, calls in _read_days(row).items()},
    }


def _read_old(row: Mapping[str, Any]) -> dict[str, Any] | None:
    if row["is_back"]:
        return None
    return {
        "id": row["endpoint_id"],
        "service": row["service"],
        "host": row["host"],
        "method": row["method"],
        "template": row["url_template"],
        "calls": row["calls"],
        "assessed": row["judged_calls"],
        "authenticated": row["authenticated_calls"],
        "first_seen": int(row["first_seen"].timestamp()),
        "last_seen": int(row["last_seen"].timestamp()),
        "days": json.loads(row["days"]),
        "parent_id": row.get("parent_id", ""),
        "protocol": row.get("operation_protocol", ""),
        "kind": row.get("operation_kind", ""),
        "name": row.get("operation_name", ""),
    }
