"""The tables of risk: what each endpoint scores and why, what rules found, and what people said to that."""

from collector.store.tables.layout import DURABLE, HOUR_RETENTION_DAYS, Table

FINDING_RETENTION_DAYS = 400

# collector.risk.record.RiskRecord; the newest of an endpoint holds. `explanation` is JSON (collector.risk.formula).
ENDPOINT_RISKS = Table(
    name="endpoint_risks",
    shard_by="cityHash64(endpoint_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_risks{{write_table}}{{on_cluster}} (
    endpoint_id String,
    computed_at Float64,
    formula LowCardinality(String),
    score UInt8,
    level LowCardinality(String),
    open_findings UInt16,
    exposure LowCardinality(String),
    exposure_before LowCardinality(String),
    exposure_since Float64,
    authenticated_at Float64,
    method LowCardinality(String),
    host LowCardinality(String),
    url_template String,
    service LowCardinality(String),
    explanation String CODEC(ZSTD(1)),
    version UInt64 MATERIALIZED toUInt64(computed_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
TTL toDateTime(computed_at) + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# collector.risk.finding.Finding; the newest version holds. Those of an endpoint lie together, and the keeper asks for
# neighbours.
FINDINGS = Table(
    name="findings",
    shard_by="cityHash64(id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS findings{{write_table}}{{on_cluster}} (
    id String,
    endpoint_id String,
    rule LowCardinality(String),
    severity LowCardinality(String),
    owasp LowCardinality(String),
    state LowCardinality(String),
    title String,
    why String,
    advice String,
    signs Array(String),
    first_seen Float64,
    last_seen Float64,
    updated_at Float64,
    changed_at Float64,
    changed_by String,
    note String,
    is_reopened Bool,
    method LowCardinality(String),
    host LowCardinality(String),
    url_template String,
    service LowCardinality(String),
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY (endpoint_id, id)
TTL toDateTime(last_seen) + INTERVAL {FINDING_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# collector.risk.finding.FindingChange: who changed a finding's state and why. Append only.
FINDING_CHANGES = Table(
    name="finding_changes",
    shard_by="cityHash64(finding_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS finding_changes{{write_table}}{{on_cluster}} (
    finding_id String,
    time Float64,
    state LowCardinality(String),
    actor String,
    note String
) ENGINE = {{engine_prefix}}MergeTree
ORDER BY (finding_id, time)
TTL toDateTime(time) + INTERVAL {FINDING_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)
