CREATE TABLE alerts (
    id String, kind LowCardinality(String), state LowCardinality(String), severity LowCardinality(String), title String,
    why String, endpoint_id String, route_ids Array(UInt64), consumer String, node String, opened_at Float64,
    updated_at Float64, closed_at Nullable(Float64), window_start Float64, window_end Float64, observed_rate Float64,
    expected_rate Float64, threshold_rate Float64, score Float64, calls UInt64, loss_ratio Float64,
    acknowledged_by String, acknowledged_at Nullable(Float64), confidence String, risk String, advice String,
    incident_id String, measure Float64, verdict LowCardinality(String), verdict_at Nullable(Float64),
    verdict_by String, measure_limit Float64, held_by String, nodes Array(String), other_nodes Array(String),
    service LowCardinality(String), namespace LowCardinality(String), host LowCardinality(String),
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = ReplacingMergeTree(version) ORDER BY id;
CREATE TABLE alert_actions (
    alert_id String, time Float64, action LowCardinality(String), actor String, until Nullable(Float64), note String
) ENGINE = MergeTree ORDER BY (alert_id, time);
CREATE TABLE incident_entries (
    incident_id String, time Float64, alert_id String, happening LowCardinality(String), kind LowCardinality(String),
    severity LowCardinality(String), title String, why String
) ENGINE = MergeTree ORDER BY (incident_id, time);
CREATE TABLE alert_mutes (
    subject String, updated_at Float64, muted_until Nullable(Float64), is_expected Bool, actor String, alert_id String,
    reason String, version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = ReplacingMergeTree(version) ORDER BY subject;
CREATE TABLE known_good (
    id String, note String, consumer String, network String, workload String, endpoint_id String, kind String,
    created_at Float64, created_by String, expires_at Float64, ended_at Nullable(Float64), ended_by String,
    updated_at Float64, version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = ReplacingMergeTree(version) ORDER BY id;
CREATE TABLE detection_decisions (
    time Float64, actor String, action LowCardinality(String), subject String, note String
) ENGINE = MergeTree ORDER BY (time, subject);
CREATE TABLE consumer_labels (
    consumer String, name String, note String, changed_by String, changed_at Float64,
    version UInt64 MATERIALIZED toUInt64(changed_at * 1000000)
) ENGINE = ReplacingMergeTree(version) ORDER BY consumer;
CREATE TABLE list_views (
    id String, list LowCardinality(String), name String, query String, by String, time Float64, is_deleted Bool,
    version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY id;
CREATE TABLE template_edits (
    id String, version UInt64, kind LowCardinality(String), cluster LowCardinality(String),
    namespace LowCardinality(String), workload String, workload_kind UInt8, host_name String, port UInt16, host String,
    method LowCardinality(String), places String, url_template String, by String, time DateTime('UTC'),
    exact_since UInt32, note String, undone_by String, undone_at UInt32
) ENGINE = ReplacingMergeTree(version) ORDER BY id;
CREATE TABLE revealed_words (
    hash UInt64, text String, key_id UInt32, time DateTime('UTC')
) ENGINE = ReplacingMergeTree(time) ORDER BY hash;
CREATE TABLE endpoint_tombstones (
    endpoint_id String, version UInt64, service String, host String, method LowCardinality(String), url_template String,
    calls UInt64, authenticated_calls UInt64, judged_calls UInt64, first_seen DateTime('UTC'), last_seen DateTime('UTC'),
    days String, is_back UInt8, parent_id String, operation_protocol LowCardinality(String),
    operation_kind LowCardinality(String), operation_name String
) ENGINE = ReplacingMergeTree(version) ORDER BY endpoint_id;
