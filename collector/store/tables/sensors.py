"""The tables of the watch: sensors, and what the disk cap removed."""

from collector.store.tables.layout import DURABLE, Added, Table

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
