"""The tables of what sensors and Kubernetes report: coverage, addresses, exposure, workloads, schemas and sensors.

Coverage is each sensor's last report of its ports, and its growth by hour. Schemas are the newest state of each part of
a route from each sensor process. `evictions` records what the disk cap removed.
"""

from collector.storage.tables.layout import (
    DURABLE,
    HOUR_RETENTION_DAYS,
    SERVICE_COLUMNS,
    Added,
    Table,
    View,
    make_newest_table,
)

# What a row is about. `role` is the wire's CoverageRole, `protocol` its PortProtocol.
COVERAGE_KEY = (
    "node",
    "cluster",
    "namespace",
    "workload",
    "workload_kind",
    "host_name",
    "port",
    "role",
    "protocol",
    "address",
)
# Totals since the sensor's start.
COVERAGE_COUNTS = ("connections", "bytes", "joined_late", "calls", "lost_calls", "estimated_calls")

# The newest report of each sensor: its rows are those of the node's greatest `time`. `handshakes` is JSON, as
# collector/inventory/coverage/coverage.py reads it. Read with FINAL.
COVERAGE_ROWS = Table(
    name="coverage_rows",
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS coverage_rows{{write_table}}{{on_cluster}} (
    node String,
    boot_id String,{SERVICE_COLUMNS},
    role UInt8,
    protocol UInt8,
    address String,
    is_http_like UInt8,
    {", ".join(f"{name} UInt64" for name in COVERAGE_COUNTS)},
    reason String,
    handshakes String,
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(time)
ORDER BY ({", ".join(COVERAGE_KEY)})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# The same totals at the end of each hour, by the sensor's start (`boot_id`), after which they begin anew: what an hour
# added is the difference to the hour before.
COVERAGE_HOURS = Table(
    name="coverage_hours",
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS coverage_hours{{write_table}}{{on_cluster}} (
    time DateTime('UTC') CODEC(Delta, LZ4),
    node String,
    boot_id String,{SERVICE_COLUMNS},
    role UInt8,
    protocol UInt8,
    address String,
    is_http_like SimpleAggregateFunction(max, UInt8),
    {", ".join(f"{name} SimpleAggregateFunction(max, UInt64)" for name in COVERAGE_COUNTS)}
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY ({", ".join(COVERAGE_KEY)}, boot_id, time)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}, ttl_only_drop_parts = 1
""",
    # When the hour's first report came; of hours before the column, their start.
    added=(Added(columns={"first_time": "SimpleAggregateFunction(min, DateTime('UTC')) DEFAULT time"}),),
)

COVERAGE_HOURS_VIEW = View(
    name="coverage_hours_view",
    target="coverage_hours",
    query=f"""
SELECT
    toStartOfHour(r.time) AS time,
    {", ".join(f"r.{name} AS {name}" for name in (*COVERAGE_KEY, "boot_id"))},
    max(r.is_http_like) AS is_http_like,
    {", ".join(f"max(r.{name}) AS {name}" for name in COVERAGE_COUNTS)},
    min(r.time) AS first_time
FROM coverage_rows{{write_table}} AS r
GROUP BY time, {", ".join(f"r.{name}" for name in (*COVERAGE_KEY, "boot_id"))}
""",
)


# collector.kubernetes.addresses.Peer, field by field; an interval's latest version holds. Times are unix seconds,
# `until` 0 while it goes on. Read with FINAL.
PEER_ADDRESSES = make_newest_table(
    "peer_addresses",
    """
    cluster LowCardinality(String),
    address String,
    port UInt16,
    since UInt32,
    until UInt32,
    kind LowCardinality(String),
    namespace LowCardinality(String),
    name String,
    workload String,
    workload_kind LowCardinality(String),
    node LowCardinality(String),
    services Array(String),
    workloads Array(String),
    version UInt64
""",
    key="address, port, cluster, since, kind, namespace, name",
    shard_by="cityHash64(address)",
    version="version",
    expiry=f"toDateTime(until) + INTERVAL {HOUR_RETENTION_DAYS} DAY DELETE WHERE until > 0",
)

# collector.kubernetes.exposure.Exposure: a row a change, so that the newest is what is so and the others are history.
EXPOSURES = make_newest_table(
    "exposures",
    """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    port UInt16,
    time UInt32,
    facts String
""",
    key="cluster, namespace, workload, port, time",
    shard_by="cityHash64(cluster, namespace, workload)",
)

# collector.receiver.reports.WorkloadRecord: what the sensor of each node last said. Labels are `key=value`.
# A container in no Pod has no namespace and is its node's alone; its labels are attributes of its image.
WORKLOADS = make_newest_table(
    "workloads",
    """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    node LowCardinality(String),
    kind LowCardinality(String),
    labels Array(String),
    zone LowCardinality(String),
    pods UInt16,
    time DateTime('UTC')
""",
    key="cluster, namespace, workload, node",
    shard_by="cityHash64(cluster, namespace, workload)",
    version="time",
    expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
)

# collector.receiver.reports.FormerName: which workload it is that a node called by a container's id while the API
# server was away. Read with FINAL.
FORMER_NAMES = make_newest_table(
    "former_names",
    """
    cluster LowCardinality(String),
    node LowCardinality(String),
    former_name String,
    namespace LowCardinality(String),
    workload String,
    time DateTime('UTC')
""",
    key="cluster, node, former_name",
    shard_by="cityHash64(cluster, node, former_name)",
    version="time",
    expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
)


_ORDER = "route_id, part, status_class, media_type, node, boot_id, generation, operation"

# `part` is the wire's SchemaPart. `fields` and `operations` are JSON, as collector/schemas/merging.py reads them; of a
# description `fields` is its outline (collector/specs/assessment.py). States of other processes and generations add up.
# A sensor sends each part again every ten minutes, so that what is old is gone. `operation` names the one whose
# parameters or result the state describes; empty of a whole part. Read with FINAL.
SCHEMAS = Table(
    name="schemas",
    shard_by="route_id",
    added=(Added(columns={"operation": "String"}, order=_ORDER),),
    ddl=f"""
CREATE TABLE IF NOT EXISTS schemas{{write_table}}{{on_cluster}} (
    route_id UInt64,
    part UInt8,
    status_class UInt8,
    media_type String,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    left_out UInt64,
    fields String CODEC(ZSTD),
    operations String CODEC(ZSTD),
    time DateTime('UTC'),
    operation String
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_ORDER})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)


# The last word of each sensor. `state` is the wire's SensorState; `stages` is JSON:
# [{stage, seen, used, dropped: {reason: count}}]. Read with FINAL.
SENSORS = Table(
    name="sensors",
    added=(
        Added(columns={"certificate_not_after": "Float64"}),
        Added(columns={"capture": "String", "fallback_reason": "String"}),
    ),
    shard_by="cityHash64(node)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS sensors{{write_table}}{{on_cluster}} (
    cluster String,
    node String,
    boot_id String,
    version String,
    kernel_release String,
    key_id UInt32,
    policy_epoch UInt64,
    policy_refusal String,
    state UInt8,
    reason String,
    capture String,
    fallback_reason String,
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
    certificate_not_after Float64,
    updated_at Float64,
    row_version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(row_version)
ORDER BY node
SETTINGS {DURABLE}
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
SETTINGS {DURABLE}
""",
)
