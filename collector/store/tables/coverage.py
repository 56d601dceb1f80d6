"""The tables of the coverage: what each sensor last said of its ports, and how that grew by the hour."""

from collector.store.tables.layout import DURABLE, HOUR_RETENTION_DAYS, SERVICE_COLUMNS, Added, Table, View

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
# collector/inventory/coverage.py reads it. Read with FINAL.
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
