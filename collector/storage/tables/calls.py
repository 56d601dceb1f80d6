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

from collections.abc import Iterable

from collector.core.kinds import find_bit, is_authenticated, is_client_error, is_error, is_judged, is_success
from collector.storage.tables.layout import (
    DEDUPLICATE,
    DURABLE,
    HOUR_RETENTION_DAYS,
    MINUTE_RETENTION_HOURS,
    SERVICE_COLUMNS,
    Added,
    Table,
    View,
)

# The key of rows_minute and rows_hour, ordered so that the rows of one endpoint, and of one pair, are neighbours.
ROW_KEY = (
    "route_id",
    "principal",
    "time",
    "principal_kind",
    "credential",
    "client_address",
    "client_workload",
    "authentication",
    "status_code",
    "role",
    "hop",
    "protocol_version",
    "kind",
    "rpc_status",
)

_KEY_COLUMNS = """
    time DateTime('UTC') CODEC(Delta, LZ4),
    route_id UInt64,
    principal UInt64,
    principal_kind UInt8,
    credential UInt64,
    client_address LowCardinality(String),
    client_workload LowCardinality(String),
    authentication UInt32,
    status_code UInt16,
    role UInt8,
    hop UInt8,
    protocol_version LowCardinality(String),
    kind UInt8,
    rpc_status UInt8"""

# What minute and hour rows share. Content types take the greatest, which forgets the empty one and the order. A row's
# hashes are all of one installation key, `key_id`; a row without hashes may be of two.
_VALUE_COLUMNS = """
    first_seen SimpleAggregateFunction(min, DateTime('UTC')),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    request_content_type SimpleAggregateFunction(max, String),
    response_content_type SimpleAggregateFunction(max, String),
    flags SimpleAggregateFunction(groupBitOr, UInt32),
    key_id SimpleAggregateFunction(max, UInt32),
    calls SimpleAggregateFunction(sum, UInt64),
    request_bytes SimpleAggregateFunction(sum, UInt64),
    response_bytes SimpleAggregateFunction(sum, UInt64),
    time_to_first_byte_sum_us SimpleAggregateFunction(sum, UInt64),
    duration_sum_us SimpleAggregateFunction(sum, UInt64),
    duration_max_us SimpleAggregateFunction(max, UInt64),
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))),
    response_size SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))),
    objects_count SimpleAggregateFunction(max, UInt64),
    object_numeric_calls SimpleAggregateFunction(sum, UInt64),
    object_monotonic_steps SimpleAggregateFunction(sum, UInt64),
    object_numeric_span SimpleAggregateFunction(max, UInt64),
    ended_later SimpleAggregateFunction(sum, UInt64),
    streams SimpleAggregateFunction(sum, UInt64),
    stream_duration_sum_us SimpleAggregateFunction(sum, UInt64),
    counted_messages_calls SimpleAggregateFunction(sum, UInt64),
    request_messages SimpleAggregateFunction(sum, UInt64),
    response_messages SimpleAggregateFunction(sum, UInt64),
    records_returned SimpleAggregateFunction(sum, UInt64),
    records_measured SimpleAggregateFunction(sum, UInt64),
    request_bodies_read SimpleAggregateFunction(sum, UInt64),
    response_bodies_read SimpleAggregateFunction(sum, UInt64),
    attacks SimpleAggregateFunction(sum, UInt64),
    attacks_confirmed SimpleAggregateFunction(sum, UInt64),
    data SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64)))"""

_ORDER = ", ".join(ROW_KEY)

# What the tables of 0.1.0 did not have. A column may join the key only in the statement that adds it, and only without
# a default; a table that has it is not touched.
_ADDED_SUMS = (
    "ended_later",
    "streams",
    "stream_duration_sum_us",
    "counted_messages_calls",
    "request_messages",
    "response_messages",
    "records_returned",
    "records_measured",
    "request_bodies_read",
    "response_bodies_read",
    "attacks",
    "attacks_confirmed",
)
_ADDED_KEYS = {"kind": "UInt8", "rpc_status": "UInt8"}
_ADDED = (
    Added(columns=dict.fromkeys(_ADDED_SUMS, "SimpleAggregateFunction(sum, UInt64)")),
    Added(columns={"data": "SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64)))"}),
)

# Of attacks: minute rows alone have them, for sets would grow without bound.
_PAYLOADS = "SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64))"
# Part of the key of minute rows alone: what a crowd shares is asked of hours, not months.
_SOFTWARE = "LowCardinality(String)"
_MINUTE_ORDER = f"{_ORDER}, client_software"

# Rows are wide, and one page or endpoint needs those of a few routes: less is read with small granules in small blocks
# (the rows of 50 of 100,000 endpoints: 106 ms of process time against 191 with blocks of 64 KiB, for 8 % more disk).
_GRANULES = "index_granularity = 1024, min_compress_block_size = 8192, max_compress_block_size = 131072"

# What one consumer did on one route with one outcome in one minute; `time` is the minute's start.
ROWS_MINUTE = Table(
    name="rows_minute",
    shard_by="route_id",
    added=(
        # One statement, for one that gives a shorter key would be refused where the longer one is.
        Added(columns=_ADDED_KEYS | {"client_software": _SOFTWARE}, order=_MINUTE_ORDER),
        *_ADDED,
        Added(columns={"payloads": _PAYLOADS}),
    ),
    ddl=f"""
CREATE TABLE IF NOT EXISTS rows_minute{{write_table}}{{on_cluster}} ({_KEY_COLUMNS},{_VALUE_COLUMNS},
    objects SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)),
    payloads {_PAYLOADS},
    client_software {_SOFTWARE}
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toStartOfHour(time)
ORDER BY ({_MINUTE_ORDER})
TTL time + INTERVAL {MINUTE_RETENTION_HOURS} HOUR
SETTINGS {DEDUPLICATE}, ttl_only_drop_parts = 1, {_GRANULES}
""",
)

# The same by hour. Hash sets would grow without bound, so distinct objects live in a 3 KB sketch (about 1.6 % error).
ROWS_HOUR = Table(
    name="rows_hour",
    shard_by="route_id",
    added=(Added(columns=_ADDED_KEYS, order=_ORDER), *_ADDED),
    ddl=f"""
CREATE TABLE IF NOT EXISTS rows_hour{{write_table}}{{on_cluster}} ({_KEY_COLUMNS},{_VALUE_COLUMNS},
    objects_state AggregateFunction(uniqCombined64(12), UInt64)
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY ({_ORDER})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DEDUPLICATE}, ttl_only_drop_parts = 1, {_GRANULES}
""",
)

ROWS_HOUR_VIEW = View(
    name="rows_hour_view",
    target="rows_hour",
    query=f"""
SELECT
    toStartOfHour(m.time) AS time,
    {", ".join(f"m.{column} AS {column}" for column in ROW_KEY if column != "time")},
    min(m.first_seen) AS first_seen,
    max(m.last_seen) AS last_seen,
    max(m.request_content_type) AS request_content_type,
    max(m.response_content_type) AS response_content_type,
    groupBitOr(m.flags) AS flags,
    max(m.key_id) AS key_id,
    sum(m.calls) AS calls,
    sum(m.request_bytes) AS request_bytes,
    sum(m.response_bytes) AS response_bytes,
    sum(m.time_to_first_byte_sum_us) AS time_to_first_byte_sum_us,
    sum(m.duration_sum_us) AS duration_sum_us,
    max(m.duration_max_us) AS duration_max_us,
    sumMap(m.duration) AS duration,
    sumMap(m.response_size) AS response_size,
    max(m.objects_count) AS objects_count,
    sum(m.object_numeric_calls) AS object_numeric_calls,
    sum(m.object_monotonic_steps) AS object_monotonic_steps,
    max(m.object_numeric_span) AS object_numeric_span,
    {", ".join(f"sum(m.{column}) AS {column}" for column in _ADDED_SUMS)},
    sumMap(m.data) AS data,
    uniqCombined64ArrayState(12)(m.objects) AS objects_state
FROM rows_minute{{write_table}} AS m
GROUP BY {", ".join("time" if column == "time" else f"m.{column}" for column in ROW_KEY)}
""",
)


# Every route ever seen; the segments' four arrays run in parallel. The earliest sight holds. Read with FINAL.
ROUTES = Table(
    name="routes",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS routes{{write_table}}{{on_cluster}} (
    route_id UInt64,{SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    segment_kind Array(UInt8),
    segment_text Array(String),
    segment_hash Array(UInt64),
    segment_length Array(UInt32),
    has_trailing_slash Bool,
    first_seen DateTime('UTC'),
    version UInt32 MATERIALIZED 4294967295 - toUnixTimestamp(first_seen)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS {DURABLE}
""",
)

# route -> endpoint. The latest version of a route_id holds (merge, rename, undo never touch rows). Read with FINAL.
ENDPOINT_ROUTES = Table(
    name="endpoint_routes",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_routes{{write_table}}{{on_cluster}} (
    route_id UInt64,
    version UInt64,
    endpoint_id String,
    service String,{SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    url_template String
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS {DURABLE}
""",
)

# Ids under which an endpoint was known before its routes moved, each with the route that moved last: a link in an alert
# that was sent stays good. Read with FINAL.
ENDPOINT_ALIASES = Table(
    name="endpoint_aliases",
    shard_by="cityHash64(endpoint_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_aliases{{write_table}}{{on_cluster}} (
    endpoint_id String,
    version UInt64,
    route_id UInt64
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
SETTINGS {DURABLE}
""",
)

# Words whose text the sensors may send (docs/use/privacy.md). A word's hash is keyed, so each rotation has its own.
REVEALED_WORDS = Table(
    name="revealed_words",
    shard_by="hash",
    ddl=f"""
CREATE TABLE IF NOT EXISTS revealed_words{{write_table}}{{on_cluster}} (
    hash UInt64,
    text String,
    key_id UInt32,
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(time)
ORDER BY hash
SETTINGS {DURABLE}
""",
)

# What people decided about templates (collector/inventory/templates/mapping.py): one row an edit, its latest version
# holds; undone ones stay, with who and when. `places` is JSON. Read with FINAL.
TEMPLATE_EDITS = Table(
    name="template_edits",
    shard_by="cityHash64(id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS template_edits{{write_table}}{{on_cluster}} (
    id String,
    version UInt64,
    kind LowCardinality(String),{SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    places String,
    url_template String,
    by String,
    time DateTime('UTC'),
    exact_since UInt32,
    note String,
    undone_by String,
    undone_at UInt32
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY id
SETTINGS {DURABLE}
""",
)

_OF_OPERATION = {
    "parent_id": "String",
    "operation_protocol": "LowCardinality(String)",
    "operation_kind": "LowCardinality(String)",
    "operation_name": "String",
}
# What was known of endpoints that are gone, when they went; `days` is JSON. `is_back` takes a stone away. Read with
# FINAL.
ENDPOINT_TOMBSTONES = Table(
    name="endpoint_tombstones",
    shard_by="cityHash64(endpoint_id)",
    added=(Added(columns=_OF_OPERATION),),
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_tombstones{{write_table}}{{on_cluster}} (
    endpoint_id String,
    version UInt64,
    service String,
    host String,
    method LowCardinality(String),
    url_template String,
    calls UInt64,
    authenticated_calls UInt64,
    judged_calls UInt64,
    first_seen DateTime('UTC'),
    last_seen DateTime('UTC'),
    days String,
    is_back UInt8,
    {", ".join(f"{name} {kind}" for name, kind in _OF_OPERATION.items())}
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
SETTINGS {DURABLE}
""",
)


# Hour rows answer spans up to 48 h; the rest of the week is room for a sensor that was away.
HOUR_SUMMARY_RETENTION_DAYS = 8

# Of calls before the column was there, all that were served were judged by.
_JUDGED_TYPE = "SimpleAggregateFunction(sum, UInt64) DEFAULT success_calls"
_PROTOCOLS_TYPE = "SimpleAggregateFunction(groupBitOr, UInt32)"
_COLUMNS = f"""
    role UInt8,
    route_id UInt64,
    time DateTime('UTC') CODEC(Delta, LZ4),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    calls SimpleAggregateFunction(sum, UInt64),
    success_calls SimpleAggregateFunction(sum, UInt64),
    client_error_calls SimpleAggregateFunction(sum, UInt64),
    error_calls SimpleAggregateFunction(sum, UInt64),
    authenticated_calls SimpleAggregateFunction(sum, UInt64),
    authentication SimpleAggregateFunction(groupBitOr, UInt32),
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))),
    judged_calls {_JUDGED_TYPE},
    protocols {_PROTOCOLS_TYPE}"""


def _table(name: str, days: int) -> Table:
    return Table(
        name=name,
        shard_by="route_id",
        added=(Added(columns={"judged_calls": _JUDGED_TYPE, "protocols": _PROTOCOLS_TYPE}),),
        ddl=f"""
CREATE TABLE IF NOT EXISTS {name}{{write_table}}{{on_cluster}} ({_COLUMNS}
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (role, route_id, time)
TTL time + INTERVAL {days} DAY
SETTINGS {DEDUPLICATE}, ttl_only_drop_parts = 1
""",
    )


def _view(name: str, start: str) -> View:
    """From the minute rows as they are inserted, as rows_hour_view. Credentials count on what was served only."""
    judged = is_judged("m")
    return View(
        name=f"{name}_view",
        target=name,
        query=f"""
SELECT
    m.role AS role,
    m.route_id AS route_id,
    {start}(m.time) AS time,
    max(m.last_seen) AS last_seen,
    sum(m.calls) AS calls,
    sumIf(m.calls, {is_success("m")}) AS success_calls,
    sumIf(m.calls, {is_client_error("m")}) AS client_error_calls,
    sumIf(m.calls, {is_error("m")}) AS error_calls,
    sumIf(m.calls, {is_authenticated("m")}) AS authenticated_calls,
    groupBitOrIf(m.authentication, {judged}) AS authentication,
    sumMap(m.duration) AS duration,
    sumIf(m.calls, {judged}) AS judged_calls,
    groupBitOr({find_bit("m")}) AS protocols
FROM rows_minute{{write_table}} AS m
GROUP BY m.role, m.route_id, time
""",
    )


ROUTES_HOUR = _table("routes_hour", HOUR_SUMMARY_RETENTION_DAYS)
ROUTES_HOUR_VIEW = _view("routes_hour", "toStartOfHour")
ROUTES_DAY = _table("routes_day", HOUR_RETENTION_DAYS)
ROUTES_DAY_VIEW = _view("routes_day", "toStartOfDay")


_KEY = "route_id, protocol, kind, name, node, boot_id, generation"
# As collector/receiver/schemas.py writes an operation: positions of a JSON list, by name and type.
COLUMNS = {
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
_PLAIN = {name: "String" if kind.startswith("LowCardinality") else kind for name, kind in COLUMNS.items()}
_TUPLE = f"Tuple({', '.join(_PLAIN.values())})"
_DAILY = (
    *("protocol", "kind", "name", "calls", "served", "refused", "failed", "authentication", "first_seen", "last_seen"),
)

# The newest state that each sensor process told of each operation of a route; `samples` are the requests that the
# process looked at on that route. States of other processes and generations add up. Read with FINAL.
OPERATION_SAMPLES = Table(
    name="operation_samples",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS operation_samples{{write_table}}{{on_cluster}} (
    route_id UInt64,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())},
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_KEY})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# The same as it was at the end of each day (UTC) on which the operation was called: what a day added is the difference
# to the day before it in the table (collector/inventory/changes.py). Read with FINAL.
OPERATION_DAYS = Table(
    name="operation_days",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS operation_days{{write_table}}{{on_cluster}} (
    route_id UInt64,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    {", ".join(f"{name} {COLUMNS[name]}" for name in _DAILY)},
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_KEY}, time)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)


def _view_operations(
    name: str, target: str, columns: Iterable[str], *, time: str = "s.time", version: str = "s.version"
) -> View:
    """Out of the states of schemas as they come, so that questions about endpoints read narrow rows."""
    places = {column: f"tupleElement(one, {place})" for place, column in enumerate(COLUMNS, 1)}
    return View(
        name=name,
        target=target,
        query=f"""
SELECT
    s.route_id AS route_id,
    s.node AS node,
    s.boot_id AS boot_id,
    s.generation AS generation,
    {version.format(calls=places["calls"])} AS version,
    s.samples AS samples,
    {", ".join(f"{places[column]} AS {column}" for column in columns)},
    {time.format(last_seen=places["last_seen"])} AS time
FROM schemas{{write_table}} AS s
ARRAY JOIN JSONExtract(s.operations, 'Array({_TUPLE})') AS one
WHERE s.part = 6
""",
    )


OPERATION_SAMPLES_VIEW = _view_operations("operation_samples_view", "operation_samples", COLUMNS)
# Older sensors do not say when. Of the states with most calls the first holds: in later ones the samples are those of
# days on which only other operations were called.
OPERATION_DAYS_VIEW = _view_operations(
    "operation_days_view",
    "operation_days",
    _DAILY,
    time="toStartOfDay(if({last_seen} = 0, s.time, toDateTime({last_seen}, 'UTC')))",
    version="bitShiftLeft(least({calls}, 4294967295), 32) + 4294967295 - least(s.samples, 4294967295)",
)
