"""The tables of alerts, of what people did to them, and of what is silenced."""

from collector.store.tables.layout import DURABLE, Added, Table

ALERT_RETENTION_DAYS = 400

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
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY id
TTL toDateTime(opened_at) + INTERVAL {ALERT_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
    added=(
        Added(columns=dict.fromkeys(("confidence", "risk", "advice", "incident_id"), "String")),
        Added(
            columns={
                "measure": "Float64",
                "verdict": "LowCardinality(String)",
                "verdict_at": "Nullable(Float64)",
                "verdict_by": "String",
            }
        ),
        Added(columns={"measure_limit": "Float64"}),
    ),
)

# What people did to alerts, in order: `action` is acknowledge, mute, unmute, expect, unexpect or a verdict. Append
# only.
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
SETTINGS {DURABLE}
""",
)

# The timelines of incidents (collector.alerts.incident.IncidentEntry). Append only.
INCIDENT_ENTRIES = Table(
    name="incident_entries",
    shard_by="cityHash64(incident_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS incident_entries{{write_table}}{{on_cluster}} (
    incident_id String,
    time Float64,
    alert_id String,
    happening LowCardinality(String),
    kind LowCardinality(String),
    severity LowCardinality(String),
    title String,
    why String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY (incident_id, time)
TTL toDateTime(time) + INTERVAL {ALERT_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# What is silenced, by subject (kind and endpoint, consumer or node), so that a mute outlives the alert it was set on:
# no longer than people can find that alert, to take it back.
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
TTL toDateTime(updated_at) + INTERVAL {ALERT_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
    added=(Added(columns=dict.fromkeys(("alert_id", "reason"), "String")),),
)
