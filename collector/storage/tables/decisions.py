"""The tables of what detectors, rules and people decide: alerts, silences, changes, detection, risk and API
descriptions.

They hold alerts and actions on them, known facts (collector/detection/changes), reports and known-good rules. They also
hold risk scores, findings and decisions on these. Of API descriptions they hold texts by name and version, how far
those seen in traffic are in force, and what they say of each endpoint.
"""

from collector.storage.tables.layout import DURABLE, HOUR_RETENTION_DAYS, Added, Table, make_newest_table

ALERT_RETENTION_DAYS = 400

# collector.alerting.alert.Alert, field by field. ReplacingMergeTree takes no float as version: `version` is
# microseconds.
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

# The timelines of incidents (collector.alerting.lifecycle.IncidentEntry). Append only.
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


FACT_RETENTION_DAYS = 180  # After it was seen last; long past the rows of calls.

# collector.detection.changes.judge.Fact, field by field; the newest version of (subject, kind, detail) holds.
CHANGE_FACTS = Table(
    name="change_facts",
    shard_by="cityHash64(subject)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS change_facts{{write_table}}{{on_cluster}} (
    kind LowCardinality(String),
    subject String,
    detail String,
    scope String,
    label String,
    anchor String,
    first_seen Float64,
    seen_at Float64,
    told_at Float64,
    key_id UInt32,
    version UInt64 MATERIALIZED toUInt64(seen_at * 1000000)
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY (subject, kind, detail)
TTL toDateTime(seen_at) + INTERVAL {FACT_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)


REPORT_RETENTION_DAYS = 30
DECISION_RETENTION_DAYS = 400

# collector.alerting.detection.PastReport, field by field: of what a preview of the levels is made. Append only.
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

# collector.alerting.silences.KnownGood; the newest version of an id holds.
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

# collector.alerting.detection.Decision. Append only.
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


FINDING_RETENTION_DAYS = 400

# collector.risk.repository.RiskRecord; the newest of an endpoint holds. `explanation` is JSON (collector.risk.formula).
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

# collector.risk.finding.Finding; the newest version holds. Those of an endpoint lie together, and the assessor asks for
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


# A text as it came. The newest `time` of a name is the one in force, the others are its older versions; `is_deleted`
# takes one out. Read with FINAL.
SPECS = Table(
    name="specs",
    shard_by="cityHash64(name)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS specs{{write_table}}{{on_cluster}} (
    name String,
    digest String,
    service String,
    source String,
    uploaded_by String,
    document String CODEC(ZSTD),
    is_deleted UInt8,
    time DateTime64(3, 'UTC'),
    version UInt64
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY (name, digest)
SETTINGS {DURABLE}
""",
)

# `extent` is an Extent of collector/specs/fit.py. Read with FINAL.
SPEC_FITS = make_newest_table(
    "spec_fits",
    """
    name String,
    extent LowCardinality(String),
    version UInt64""",
    key="name",
    shard_by="cityHash64(name)",
    version="version",
)

# `status` is a SpecStatus; `requires_authentication` is -1 where nothing is said. Read with FINAL.
ENDPOINT_SPECS = Table(
    name="endpoint_specs",
    shard_by="cityHash64(endpoint_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_specs{{write_table}}{{on_cluster}} (
    endpoint_id String,
    status LowCardinality(String),
    spec String,
    http_route String,
    operation_id String,
    is_deprecated UInt8,
    requires_authentication Int8,
    reason String,
    version UInt64
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
SETTINGS {DURABLE}
""",
)
