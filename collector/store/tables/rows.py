"""The tables of calls: what each consumer did on each route, by minute and by hour.

Columns bear the names of the wire (proto/apidae/v1/data.proto). Of its CSR triples, `duration` and `response_size`
are `(buckets ascending, counts)` of the scale-3 histogram and add up with sumMap; `objects` is a set of keyed hashes.
Rows hold plain values in SimpleAggregateFunction columns, so an insert needs no aggregation (200k rows/s against 140k
through a view, measured with the histogram). Before a merge one key may have several rows, so every query aggregates:
`sum(calls)`, `max(duration_max_us)`, `sumMap(duration)`, `groupUniqArrayArray(objects)`,
`uniqCombined64Merge(12)(objects_state)`.
"""

from collector.store.tables.layout import (
    DEDUPLICATE,
    HOUR_RETENTION_DAYS,
    MINUTE_RETENTION_HOURS,
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
