CREATE TABLE IF NOT EXISTS routes (
    route_id UInt64,
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload LowCardinality(String),
    workload_kind UInt8,
    host_name LowCardinality(String),
    port UInt16,
    host String,
    method LowCardinality(String),
    segment_kind Array(UInt8),
    segment_text Array(String),
    segment_hash Array(UInt64),
    segment_length Array(UInt32),
    has_trailing_slash Bool,
    first_seen DateTime('UTC'),
    version UInt32 MATERIALIZED 4294967295 - toUnixTimestamp(first_seen)
) ENGINE = ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS endpoint_routes (
    route_id UInt64,
    version UInt64,
    endpoint_id String,
    service String,
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload LowCardinality(String),
    workload_kind UInt8,
    host_name LowCardinality(String),
    port UInt16,
    host String,
    method LowCardinality(String),
    url_template String
) ENGINE = ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS rows_minute (
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
    objects SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64))
) ENGINE = AggregatingMergeTree
PARTITION BY toStartOfHour(time)
ORDER BY (route_id, principal, time, principal_kind, credential, client_address, client_workload, authentication, status_code, role, hop, protocol_version)
TTL time + INTERVAL 48 HOUR
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1, index_granularity = 1024, min_compress_block_size = 8192, max_compress_block_size = 131072;

CREATE TABLE IF NOT EXISTS rows_hour (
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
    objects_state AggregateFunction(uniqCombined64(12), UInt64)
) ENGINE = AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (route_id, principal, time, principal_kind, credential, client_address, client_workload, authentication, status_code, role, hop, protocol_version)
TTL time + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1, index_granularity = 1024, min_compress_block_size = 8192, max_compress_block_size = 131072;

CREATE TABLE IF NOT EXISTS routes_hour (
    role UInt8,
    route_id UInt64,
    time DateTime('UTC') CODEC(Delta, LZ4),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    calls SimpleAggregateFunction(sum, UInt64),
    success_calls SimpleAggregateFunction(sum, UInt64),
    client_error_calls SimpleAggregateFunction(sum, UInt64),
    error_calls SimpleAggregateFunction(sum, UInt64),
    authenticated_calls SimpleAggregateFunction(sum, UInt64),
    authentication SimpleAggregateFunction(groupBitOr, UInt32),
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64)))
) ENGINE = AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (role, route_id, time)
TTL time + INTERVAL 8 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS routes_day (
    role UInt8,
    route_id UInt64,
    time DateTime('UTC') CODEC(Delta, LZ4),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    calls SimpleAggregateFunction(sum, UInt64),
    success_calls SimpleAggregateFunction(sum, UInt64),
    client_error_calls SimpleAggregateFunction(sum, UInt64),
    error_calls SimpleAggregateFunction(sum, UInt64),
    authenticated_calls SimpleAggregateFunction(sum, UInt64),
    authentication SimpleAggregateFunction(groupBitOr, UInt32),
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64)))
) ENGINE = AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (role, route_id, time)
TTL time + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS alerts (
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
) ENGINE = ReplacingMergeTree(version)
ORDER BY id
TTL toDateTime(opened_at) + INTERVAL 400 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS alert_actions (
    alert_id String,
    time Float64,
    action LowCardinality(String),
    actor String,
    until Nullable(Float64),
    note String
) ENGINE = MergeTree
ORDER BY (alert_id, time)
TTL toDateTime(time) + INTERVAL 400 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS alert_mutes (
    subject String,
    updated_at Float64,
    muted_until Nullable(Float64),
    is_expected Bool,
    actor String,
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = ReplacingMergeTree(version)
ORDER BY subject
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS sensors (
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
) ENGINE = ReplacingMergeTree(row_version)
ORDER BY node
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS coverage (
    node String,
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload LowCardinality(String),
    workload_kind UInt8,
    host_name LowCardinality(String),
    port UInt16,
    protocol UInt8,
    address String,
    connections UInt64,
    bytes UInt64,
    reason String,
    time DateTime('UTC')
) ENGINE = ReplacingMergeTree(time)
ORDER BY (node, cluster, namespace, workload, workload_kind, host_name, port, protocol, address)
TTL time + INTERVAL 90 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS revealed_words (
    hash UInt64,
    text String,
    key_id UInt32,
    time DateTime('UTC')
) ENGINE = ReplacingMergeTree(time)
ORDER BY hash
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS evictions (
    time DateTime('UTC'),
    table_name LowCardinality(String),
    partition String,
    rows UInt64,
    bytes UInt64,
    reason String
) ENGINE = MergeTree
ORDER BY time
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS rows_hour_view TO rows_hour AS
SELECT
    toStartOfHour(m.time) AS time,
    m.route_id AS route_id, m.principal AS principal, m.principal_kind AS principal_kind, m.credential AS credential, m.client_address AS client_address, m.client_workload AS client_workload, m.authentication AS authentication, m.status_code AS status_code, m.role AS role, m.hop AS hop, m.protocol_version AS protocol_version,
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
    uniqCombined64ArrayState(12)(m.objects) AS objects_state
FROM rows_minute AS m
GROUP BY m.route_id, m.principal, time, m.principal_kind, m.credential, m.client_address, m.client_workload, m.authentication, m.status_code, m.role, m.hop, m.protocol_version;

CREATE MATERIALIZED VIEW IF NOT EXISTS routes_hour_view TO routes_hour AS
SELECT
    m.role AS role,
    m.route_id AS route_id,
    toStartOfHour(m.time) AS time,
    max(m.last_seen) AS last_seen,
    sum(m.calls) AS calls,
    sumIf(m.calls, m.status_code BETWEEN 200 AND 299) AS success_calls,
    sumIf(m.calls, m.status_code BETWEEN 400 AND 499) AS client_error_calls,
    sumIf(m.calls, m.status_code >= 500 OR m.status_code = 0) AS error_calls,
    sumIf(m.calls, m.status_code BETWEEN 200 AND 299 AND m.authentication != 0) AS authenticated_calls,
    groupBitOrIf(m.authentication, m.status_code BETWEEN 200 AND 299) AS authentication,
    sumMap(m.duration) AS duration
FROM rows_minute AS m
GROUP BY m.role, m.route_id, time;

CREATE MATERIALIZED VIEW IF NOT EXISTS routes_day_view TO routes_day AS
SELECT
    m.role AS role,
    m.route_id AS route_id,
    toStartOfDay(m.time) AS time,
    max(m.last_seen) AS last_seen,
    sum(m.calls) AS calls,
    sumIf(m.calls, m.status_code BETWEEN 200 AND 299) AS success_calls,
    sumIf(m.calls, m.status_code BETWEEN 400 AND 499) AS client_error_calls,
    sumIf(m.calls, m.status_code >= 500 OR m.status_code = 0) AS error_calls,
    sumIf(m.calls, m.status_code BETWEEN 200 AND 299 AND m.authentication != 0) AS authenticated_calls,
    groupBitOrIf(m.authentication, m.status_code BETWEEN 200 AND 299) AS authentication,
    sumMap(m.duration) AS duration
FROM rows_minute AS m
GROUP BY m.role, m.route_id, time;
