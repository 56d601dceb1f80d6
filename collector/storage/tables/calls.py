"""The tables of calls, of the names of routes and endpoints, of ranked lists, and of operations that share a path.

Rows of calls say what each consumer did on each route, by minute and by hour. Columns have the names of the wire
(proto/apidae/v1/data.proto). Of its CSR triples, `duration` and `response_size` are `(buckets ascending, counts)` of
the scale-3 histogram and add up with sumMap. `objects` is a set of keyed hashes.

Rows hold plain values in SimpleAggregateFunction columns, so an insert needs no aggregation (200k rows/s against 140k
through a view, measured with the histogram). Before a merge one key may have several rows, so every query aggregates:
`sum(calls)`, `max(duration_max_us)`, `sumMap(duration)`, `groupUniqArrayArray(objects)`,
`uniqCombined64Merge(12)(objects_state)`.

Lists are ranked by routes_hour and routes_day, what all consumers together did on one route. A list of 100,000
endpoints sorts and filters all of them to show fifty. It reads these narrow rows, one a route, role and hour. Only the
fifty are measured from rows of calls (collector/inventory/endpoints/list_query.py). Partitions are days, as in
rows_hour. So a question about a day reads two of them, and the disk cap drops the day of both tables together. The role
comes first in the key, because every list first asks which hosts were called as a client
(collector/inventory/endpoints/outbound.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from collector.core.kinds import (
    HOP_PROXY,
    POSSIBLE_CREDENTIAL,
    find_bit,
    find_outcome,
    has_credentials,
    is_client_error,
    is_error,
    is_judged,
    is_success,
)
from collector.storage.columns import COLUMNS, Adding, RowColumn
from collector.storage.tables.layout import (
    HOUR_RETENTION_DAYS,
    HOUR_SUMMARY_RETENTION_DAYS,
    SERVICE_COLUMNS,
    Table,
    View,
)

# Rows are wide, and one page or endpoint needs those of a few routes: less is read with small granules in small blocks
# (the rows of 50 of 100,000 endpoints: 106 ms of process time against 191 with blocks of 64 KiB, for 8 % more disk).
_GRANULES = "index_granularity = 1024, min_compress_block_size = 8192, max_compress_block_size = 131072"
_HOURLY = {name: column for name, column in COLUMNS.items() if column.is_kept_by_hour}
_HOUR_KEYS = tuple(name for name, column in _HOURLY.items() if column.adding is Adding.KEY)
# Besides COLUMNS. A row's hashes are all of one installation key, `key_id`; a row without hashes may be of two.
_OWN_COLUMNS = """
    time DateTime('UTC') CODEC(Delta, LZ4)
    route_id UInt64
    first_seen SimpleAggregateFunction(min, DateTime('UTC'))
    last_seen SimpleAggregateFunction(max, DateTime('UTC'))
    key_id SimpleAggregateFunction(max, UInt32)
"""


def _list_columns(columns: Mapping[str, RowColumn]) -> str:
    return "\n".join(f"{name} {column.table_type}" for name, column in columns.items())


def _order(columns: Mapping[str, RowColumn]) -> str:
    """The key, ordered so that the rows of one endpoint, and of one pair, are neighbours."""
    first, *others = (name for name, column in columns.items() if column.adding is Adding.KEY)
    return ", ".join(("route_id", first, "time", *others))


# What one consumer did on one route with one outcome in one minute; `time` is the minute's start.
ROWS_MINUTE = Table(
    name="rows_minute",
    columns=_OWN_COLUMNS + _list_columns(COLUMNS),
    key=_order(COLUMNS),
    engine="AggregatingMergeTree",
    partition="toStartOfHour(time)",
    expiry="time + INTERVAL {minute_hours} HOUR",
    is_deduplicated=True,
    settings=f"ttl_only_drop_parts = 1, {_GRANULES}",
)

# The same by hour.
ROWS_HOUR = Table(
    name="rows_hour",
    columns=f"{_OWN_COLUMNS}{_list_columns(_HOURLY)}\nobjects_state AggregateFunction(uniqCombined64(12), UInt64)",
    key=_order(_HOURLY),
    engine="AggregatingMergeTree",
    partition="toDate(time)",
    expiry="time + INTERVAL {hour_days} DAY",
    is_deduplicated=True,
    settings=f"ttl_only_drop_parts = 1, {_GRANULES}",
)

ROWS_HOUR_VIEW = View(
    target="rows_hour",
    source="rows_minute m",
    select={
        "time": "toStartOfHour(m.time)",
        "route_id": "m.route_id",
        **{name: f"m.{name}" for name in _HOUR_KEYS},
        "first_seen": "min(m.first_seen)",
        "last_seen": "max(m.last_seen)",
        "key_id": "max(m.key_id)",
        **{name: f"{column.adding}(m.{name})" for name, column in _HOURLY.items() if name not in _HOUR_KEYS},
        "objects_state": "uniqCombined64ArrayState(12)(m.objects)",
    },
    clauses=f"GROUP BY time, m.route_id, {', '.join(f'm.{name}' for name in _HOUR_KEYS)}",
    rebuilt_from="rows_minute",
)


# Found once for each row: an engine that resolves them in each of nine columns takes 10 ms longer for an insert.
_GIVEN = {"outcome": find_outcome("m"), "is_judged": is_judged("m")}
_OUTCOME, _JUDGED = "m.outcome", "m.is_judged"
# What all consumers together did on one route: type and expression by column, besides key and time. Credentials count
# on what was served only.
_SUMMARY = {
    "last_seen": ("max, DateTime('UTC')", "max(m.last_seen)"),
    "calls": ("sum, UInt64", "sum(m.calls)"),
    "success_calls": ("sum, UInt64", f"sumIf(m.calls, {is_success('m', _OUTCOME)})"),
    "success_content_type": ("max, String", f"maxIf(m.response_content_type, {is_success('m', _OUTCOME)})"),
    "client_error_calls": ("sum, UInt64", f"sumIf(m.calls, {is_client_error('m', _OUTCOME)})"),
    "error_calls": ("sum, UInt64", f"sumIf(m.calls, {is_error('m', _OUTCOME)})"),
    "authenticated_calls": ("sum, UInt64", f"sumIf(m.calls, {_JUDGED} AND {has_credentials('m.authentication')})"),
    "authentication": ("groupBitOr, UInt32", f"groupBitOrIf(m.authentication, {_JUDGED})"),
    "duration": ("sumMap, Tuple(Array(UInt16), Array(UInt64))", "sumMap(m.duration)"),
    "judged_calls": ("sum, UInt64", f"sumIf(m.calls, {_JUDGED})"),
    "protocols": ("groupBitOr, UInt32", f"groupBitOr({find_bit('m')})"),
    "proxied_calls": ("sum, UInt64", f"sumIf(m.calls, m.hop = {HOP_PROXY})"),
    "data": ("groupUniqArrayArray, Array(UInt16)", "groupUniqArrayArray(m.data.1)"),  # Codes of kinds found.
    # With possible credentials alone: authenticated once they are proven (collector/inventory/credentials.py).
    "possible_calls": ("sum, UInt64", f"sumIf(m.calls, {_JUDGED} AND m.authentication = {POSSIBLE_CREDENTIAL})"),
}
# How each adds up, by column.
SUMMARY_ADDING = {name: kind.partition(",")[0] for name, (kind, _) in _SUMMARY.items()}
# Of calls from before there was the column, all that were served count.
_DEFAULTS = {"judged_calls": " DEFAULT success_calls"}
_SUMMARY_COLUMNS = """
    role UInt8
    route_id UInt64
    time DateTime('UTC') CODEC(Delta, LZ4)
""" + "\n".join(
    f"{name} SimpleAggregateFunction({kind}){_DEFAULTS.get(name, '')}" for name, (kind, _) in _SUMMARY.items()
)


def _summarise(name: str, days: int | str) -> Table:
    return Table(
        name=name,
        columns=_SUMMARY_COLUMNS,
        key="role, route_id, time",
        engine="AggregatingMergeTree",
        partition="toDate(time)",
        expiry=f"time + INTERVAL {days} DAY",
        is_deduplicated=True,
        settings="ttl_only_drop_parts = 1",
    )


def _fill_summary(name: str, start: str) -> View:
    """From the minute rows as they are inserted, as rows_hour."""
    return View(
        target=name,
        source="rows_minute m",
        select={
            "role": "m.role",
            "route_id": "m.route_id",
            "time": f"{start}(m.time)",
            **{column: expression for column, (_, expression) in _SUMMARY.items()},
        },
        given=_GIVEN,
        clauses="GROUP BY m.role, m.route_id, time",
        rebuilt_from="rows_hour",
    )


# As collector/receiver/schemas.py writes an operation: positions of a JSON list, by name and type.
_OPERATION = {
    "protocol": "LowCardinality(String)",
    "kind": "LowCardinality(String)",
    "name": "String",
    "calls": "UInt64",
    "errors": "UInt64",
    "served": "UInt64",
    "refused": "UInt64",
    "failed": "UInt64",
    "authentication": "Tuple(Array(UInt32), Array(UInt64))",
    "data": "Tuple(Array(UInt16), Array(UInt64))",
    "requests_read": "UInt64",
    "responses_read": "UInt64",
    "consumers": "UInt64",
    "first_seen": "UInt32",
    "last_seen": "UInt32",
}
_PLACES = {name: f"tupleElement(one, {place})" for place, name in enumerate(_OPERATION, 1)}
_TUPLE = ", ".join("String" if kind.startswith("LowCardinality") else kind for kind in _OPERATION.values())
_DAILY = (
    *("protocol", "kind", "name", "calls", "served", "refused", "failed", "authentication", "first_seen", "last_seen"),
)


def _keep_operations(name: str, columns: Iterable[str], key: str = "") -> Table:
    return Table(
        name=name,
        columns="""
            route_id UInt64
            node String
            boot_id String
            generation UInt32
            version UInt64
            samples UInt64
            time DateTime('UTC')
        """.rstrip(" ")
        + "\n".join(f"{column} {_OPERATION[column]}" for column in columns),
        key=f"route_id, protocol, kind, name, node, boot_id, generation{key}",
        expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
    )


def _fill_operations(target: str, columns: Iterable[str], *, time: str, version: str) -> View:
    """Out of the states of schemas as they come, so that questions about endpoints read narrow rows."""
    return View(
        target=target,
        source="schemas s",
        select={
            **{name: f"s.{name}" for name in ("route_id", "node", "boot_id", "generation", "samples")},
            "version": version,
            "time": time,
            **{name: _PLACES[name] for name in columns},
        },
        clauses=f"ARRAY JOIN JSONExtract(s.operations, 'Array(Tuple({_TUPLE}))') AS one\nWHERE s.part = 6",
    )


TABLES = (
    # Every route ever seen; the segments' four arrays run in parallel. The earliest sight holds. Read with FINAL.
    Table(
        name="routes",
        columns=f"""
            route_id UInt64{SERVICE_COLUMNS}
            host String
            method LowCardinality(String)
            segment_kind Array(UInt8)
            segment_text Array(String)
            segment_hash Array(UInt64)
            segment_length Array(UInt32)
            has_trailing_slash Bool
            first_seen DateTime('UTC')
            version UInt32 MATERIALIZED 4294967295 - toUnixTimestamp(first_seen)
        """,
        key="route_id",
    ),
    # route -> endpoint: the copy of a table of the state (collector/inventory/templates/table.py), whose revisions are
    # the versions here. Read with FINAL.
    Table(
        name="endpoint_routes",
        columns=f"""
            route_id UInt64
            version UInt64
            endpoint_id String
            service String{SERVICE_COLUMNS}
            host String
            method LowCardinality(String)
            url_template String
        """,
        key="route_id",
        # Pages ask for endpoints: of 100,000 the rows of one are found in 7 ms of processor time, not 11.
        indexes={"by_endpoint": "endpoint_id TYPE bloom_filter(0.001) GRANULARITY 1"},
    ),
    # Ids under which an endpoint was known before its routes moved: the copy of a table of the state. Read with FINAL.
    Table(
        name="endpoint_aliases",
        columns="""
            endpoint_id String
            version UInt64
            route_id UInt64
        """,
        key="endpoint_id",
    ),
    # Routes with carriers of possible credentials that are credentials there (collector/inventory/credentials.py).
    Table(
        name="proven_carriers",
        columns="""
            route_id UInt64
            carriers String
            time DateTime('UTC')
        """,
        key="route_id, carriers",
        engine="ReplacingMergeTree(time)",
        expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
    ),
    ROWS_MINUTE,
    ROWS_HOUR,
    _summarise("routes_hour", HOUR_SUMMARY_RETENTION_DAYS),
    _summarise("routes_day", "{hour_days}"),
    # The newest state that each sensor process sent of each operation of a route; `samples` are the requests that the
    # process looked at on that route. States of other processes and generations add up. Read with FINAL.
    _keep_operations("operation_samples", _OPERATION),
    # The same as it was at the end of each day (UTC) on which the operation was called: what a day added is the
    # difference to the day before it in the table (collector/inventory/changes.py). Read with FINAL.
    _keep_operations("operation_days", _DAILY, key=", time"),
)
VIEWS = (
    ROWS_HOUR_VIEW,
    _fill_summary("routes_hour", "toStartOfHour"),
    _fill_summary("routes_day", "toStartOfDay"),
    replace(
        _fill_operations("operation_samples", _OPERATION, time="s.time", version="s.version"), rebuilt_from="schemas"
    ),
    # Older sensors do not say when. Of the states with most calls the first holds: in later ones the samples are those
    # of days on which only other operations were called.
    _fill_operations(
        "operation_days",
        _DAILY,
        time=f"toStartOfDay(if({_PLACES['last_seen']} = 0, s.time, toDateTime({_PLACES['last_seen']}, 'UTC')))",
        version=f"bitShiftLeft(least({_PLACES['calls']}, 4294967295), 32) + 4294967295 - least(s.samples, 4294967295)",
    ),
)
