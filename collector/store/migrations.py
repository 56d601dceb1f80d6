"""The tables: every DDL statement of the store, in one ClickHouse dialect for the embedded engine and for a cluster.

A statement is a template with three variables: `{engine_prefix}` is empty or `Replicated`; `{on_cluster}` is empty or
` ON CLUSTER 'name'`; `{write_table}` is the suffix of the tables that hold data: empty, or `_local` on a cluster,
where a Distributed table without the suffix stands in front of each. Readers and writers always use the name without
suffix.

Columns bear the names of the wire (proto/apidae/v1/data.proto). Of its CSR triples, `duration` and `response_size`
are `(buckets ascending, counts)` of the scale-3 histogram and add up with sumMap; `objects` is a set of keyed hashes.
Rows hold plain values in SimpleAggregateFunction columns, so an insert needs no aggregation (200k rows/s against 140k
through a view, measured with the histogram). Before a merge one key may have several rows, so every query aggregates:
`sum(calls)`, `max(duration_max_us)`, `sumMap(duration)`, `groupUniqArrayArray(objects)`,
`uniqCombined64Merge(12)(objects_state)`.
"""

from dataclasses import dataclass

# An hour of minute rows is what the disk cap drops at a time; 48 of them live at once.
MINUTE_RETENTION_HOURS = 48
HOUR_RETENTION_DAYS = 90
ALERT_RETENTION_DAYS = 400
# Insert tokens remembered a table. The writer replays at most what one WAL cursor interval holds, far below this.
DEDUPLICATION_WINDOW = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tables live: embedded and single servers keep the defaults; a cluster names itself."""

    cluster: str = ""

    @property
    def engine_prefix(self) -> str:
        """`Replicated` on a cluster."""
        return "Replicated" if self.cluster else ""

    @property
    def on_cluster(self) -> str:
        """The clause that runs a statement on every host."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    @property
    def write_table(self) -> str:
        """The suffix of the tables that hold data."""
        return "_local" if self.cluster else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its statement and, on a cluster, the expression by which rows find their shard."""

    name: str
    ddl: str
    shard_by: str


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
)

_KEY_COLUMNS = """
    time DateTime('UTC') CODEC(DoubleDelta, LZ4),
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
    protocol_version LowCardinality(String)"""

# What minute and hour rows share. Content types take the greatest, which forgets the empty one and the order.
_VALUE_COLUMNS = """
    first_seen SimpleAggregateFunction(min, DateTime('UTC')),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    request_content_type SimpleAggregateFunction(max, String),
    response_content_type SimpleAggregateFunction(max, String),
    flags SimpleAggregateFunction(groupBitOr, UInt32),
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
    object_numeric_span SimpleAggregateFunction(max, UInt64)"""

_ORDER = ", ".join(ROW_KEY)

# A part is on disk before its insert returns, for the log forgets it then: 10 ms a batch of 10,000 rows, measured.
_DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1"
_DEDUPLICATE = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, {_DURABLE}"

# What one consumer did on one route with one outcome in one minute; `time` is the minute's start.
ROWS_MINUTE = Table(
    name="rows_minute",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS rows_minute{{write_table}}{{on_cluster}} ({_KEY_COLUMNS},{_VALUE_COLUMNS},
    objects SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64))
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toStartOfHour(time)
ORDER BY ({_ORDER})
TTL time + INTERVAL {MINUTE_RETENTION_HOURS} HOUR
SETTINGS {_DEDUPLICATE}, ttl_only_drop_parts = 1
""",
)

# The same by hour. Hash sets would grow without bound, so distinct objects live in a 3 KB sketch (about 1.6 % error).
ROWS_HOUR = Table(
    name="rows_hour",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS rows_hour{{write_table}}{{on_cluster}} ({_KEY_COLUMNS},{_VALUE_COLUMNS},
    objects_state AggregateFunction(uniqCombined64(12), UInt64)
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toMonday(time)
ORDER BY ({_ORDER})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {_DEDUPLICATE}, ttl_only_drop_parts = 1
""",
)

# The one view. A block sent again passes through it too and is then dropped by rows_hour's own window, so that a crash
# between the two tables is made good by the replay.
ROWS_HOUR_VIEW = f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS rows_hour_view{{on_cluster}} TO rows_hour{{write_table}} AS
SELECT
    toStartOfHour(m.time) AS time,
    {", ".join(f"m.{column} AS {column}" for column in ROW_KEY if column != "time")},
    min(m.first_seen) AS first_seen,
    max(m.last_seen) AS last_seen,
    max(m.request_content_type) AS request_content_type,
    max(m.response_content_type) AS response_content_type,
    groupBitOr(m.flags) AS flags,
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
    uniqCombined64ArrayState(12)(m.objects) AS objects_state
FROM rows_minute{{write_table}} AS m
GROUP BY {", ".join("time" if column == "time" else f"m.{column}" for column in ROW_KEY)}
"""

_SERVICE_COLUMNS = """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload LowCardinality(String),
    workload_kind UInt8,
    host_name LowCardinality(String),
    port UInt16"""

# Every route ever seen; the segments' four arrays run in parallel. The earliest sight holds. Read with FINAL.
ROUTES = Table(
    name="routes",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS routes{{write_table}}{{on_cluster}} (
    route_id UInt64,{_SERVICE_COLUMNS},
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
SETTINGS {_DURABLE}
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
    service String,{_SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    url_template String
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS {_DURABLE}
""",
)

# Calls seen and known to be lost, by sensor and minute.
LOSSES = Table(
    name="losses",
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS losses{{write_table}}{{on_cluster}} (
    time DateTime('UTC'),
    node String,
    seen_calls SimpleAggregateFunction(sum, UInt64),
    lost_calls SimpleAggregateFunction(sum, UInt64)
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toMonday(time)
ORDER BY (time, node)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {_DEDUPLICATE}, ttl_only_drop_parts = 1
""",
)

# collector.alerts.alert.Alert, field by field. ReplacingMergeTree takes no float as version: `version` is microseconds.
ALERTS = Table(
    name="alerts",
    shard_by="cityHash64(id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS alerts{{write_table}}{{on_cluster}} (
    id String,
    kind LowCardinality(String),
    state LowCardinality(String),
    severity LowCardinality(String),
    title String,
    why String,
    endpoint_id String,
    route_ids Array(UInt64),
    consumer String,
    node String,
    opened_at Float64,
    updated_at Float64,
    closed_at Nullable(Float64),
    window_start Float64,
    window_end Float64,
    observed_rate Float64,
    expected_rate Float64,
    threshold_rate Float64,
    score Float64,
    calls UInt64,
    loss_ratio Float64,
    acknowledged_by String,
    acknowledged_at Nullable(Float64),
    muted_until Nullable(Float64),
    is_expected Bool,
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY id
TTL toDateTime(opened_at) + INTERVAL {ALERT_RETENTION_DAYS} DAY
SETTINGS {_DURABLE}
""",
)

# What people did to alerts, in order: `action` is acknowledge, mute, unmute, expect or unexpect. Append only.
ALERT_ACTIONS = Table(
    name="alert_actions",
    shard_by="cityHash64(alert_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS alert_actions{{write_table}}{{on_cluster}} (
    alert_id String,
    time Float64,
    action LowCardinality(String),
    actor String,
    until Nullable(Float64),
    note String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY (alert_id, time)
TTL toDateTime(time) + INTERVAL {ALERT_RETENTION_DAYS} DAY
SETTINGS {_DURABLE}
""",
)

# What is silenced, by subject (kind and endpoint, consumer or node), so that a mute outlives the alert it was set on.
ALERT_MUTES = Table(
    name="alert_mutes",
    shard_by="cityHash64(subject)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS alert_mutes{{write_table}}{{on_cluster}} (
    subject String,
    updated_at Float64,
    muted_until Nullable(Float64),
    is_expected Bool,
    actor String,
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY subject
SETTINGS {_DURABLE}
""",
)

# The last word of each sensor. `state` is the wire's SensorState; `stages` is JSON:
# [{stage, seen, used, dropped: {reason: count}}]. Read with FINAL.
SENSORS = Table(
    name="sensors",
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS sensors{{write_table}}{{on_cluster}} (
    cluster String,
    node String,
    boot_id String,
    version String,
    kernel_release String,
    state UInt8,
    reason String,
    first_seen Float64,
    last_hello_at Float64,
    last_health_at Float64,
    last_batch_at Float64,
    lag_ms UInt64,
    spool_bytes UInt64,
    memory_bytes UInt64,
    cpu_ns UInt64,
    seen_calls UInt64,
    lost_calls UInt64,
    stages String,
    updated_at Float64,
    row_version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(row_version)
ORDER BY node
SETTINGS {_DURABLE}
""",
)

# The newest count of each (listening port, protocol) of a node; `protocol` is the wire's PortProtocol. Read with FINAL.
COVERAGE = Table(
    name="coverage",
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS coverage{{write_table}}{{on_cluster}} (
    node String,{_SERVICE_COLUMNS},
    protocol UInt8,
    address String,
    connections UInt64,
    bytes UInt64,
    reason String,
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(time)
ORDER BY (node, cluster, namespace, workload, workload_kind, host_name, port, protocol, address)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {_DURABLE}
""",
)

# Words whose text the sensors may tell (docs/privacy.md). A word's hash is keyed, so each rotation has its own.
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
SETTINGS {_DURABLE}
""",
)

# What the disk cap removed: a person who misses minutes must find out why.
EVICTIONS = Table(
    name="evictions",
    shard_by="rand()",
    ddl=f"""
CREATE TABLE IF NOT EXISTS evictions{{write_table}}{{on_cluster}} (
    time DateTime('UTC'),
    table_name LowCardinality(String),
    partition String,
    rows UInt64,
    bytes UInt64,
    reason String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY time
SETTINGS {_DURABLE}
""",
)

TABLES = (
    ROUTES,
    ENDPOINT_ROUTES,
    ROWS_MINUTE,
    ROWS_HOUR,
    LOSSES,
    ALERTS,
    ALERT_ACTIONS,
    ALERT_MUTES,
    SENSORS,
    COVERAGE,
    REVEALED_WORDS,
    EVICTIONS,
)


def render_statements(layout: Layout) -> list[str]:
    """Every statement that brings an existing database up to date, in order; each may run again."""
    variables = {
        "engine_prefix": layout.engine_prefix,
        "on_cluster": layout.on_cluster,
        "write_table": layout.write_table,
    }
    statements = [table.ddl.format(**variables).strip() for table in TABLES]
    if layout.cluster:
        statements += [_render_distributed(table, layout) for table in TABLES]
    statements.append(ROWS_HOUR_VIEW.format(**variables).strip())
    return statements


def _render_distributed(table: Table, layout: Layout) -> str:
    """The table without suffix that spreads reads and writes of its shards over the cluster."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name}{layout.on_cluster} AS {table.name}{layout.write_table} "
        f"ENGINE = Distributed('{layout.cluster}', currentDatabase(), '{table.name}{layout.write_table}', "
        f"{table.shard_by})"
    )
