"""The tables of what detectors reported, what is known to be good, and who decided so."""

from collector.store.tables.layout import DURABLE, Table

REPORT_RETENTION_DAYS = 30
DECISION_RETENTION_DAYS = 400

# collector.alerts.past.PastReport, field by field: of what a preview of the levels is made. Append only.
DETECTOR_REPORTS = Table(
    name="detector_reports",
    shard_by="cityHash64(consumer, endpoint_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS detector_reports{{write_table}}{{on_cluster}} (
    time Float64,
    kind LowCardinality(String),
    severity LowCardinality(String),
    quietest LowCardinality(String),
    endpoint_id String,
    consumer String,
    is_above Bool,
    window_end Float64,
    calm_seconds Float64,
    measure Float64,
    outcome LowCardinality(String),
    rule_id String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY time
TTL toDateTime(time) + INTERVAL {REPORT_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# collector.alerts.known_good.KnownGood; the newest version of an id holds.
KNOWN_GOOD = Table(
    name="known_good",
    shard_by="cityHash64(id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS known_good{{write_table}}{{on_cluster}} (
    id String,
    note String,
    consumer String,
    network String,
    workload String,
    endpoint_id String,
    kind String,
    created_at Float64,
    created_by String,
    expires_at Float64,
    ended_at Nullable(Float64),
    ended_by String,
    updated_at Float64,
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY id
TTL toDateTime(expires_at) + INTERVAL {DECISION_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# collector.alerts.detection_table.Decision. Append only.
DETECTION_DECISIONS = Table(
    name="detection_decisions",
    shard_by="cityHash64(subject)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS detection_decisions{{write_table}}{{on_cluster}} (
    time Float64,
    actor String,
    action LowCardinality(String),
    subject String,
    note String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY (time, subject)
TTL toDateTime(time) + INTERVAL {DECISION_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)
