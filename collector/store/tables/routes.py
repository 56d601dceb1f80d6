"""The tables of names: every route, the endpoint it belongs to, and the words that sensors revealed."""

from collector.store.tables.layout import DURABLE, SERVICE_COLUMNS, Added, Table

# Every route ever seen; the segments' four arrays run in parallel. The earliest sight holds. Read with FINAL.
ROUTES = Table(
    name="routes",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS routes{{write_table}}{{on_cluster}} (
    route_id UInt64,{SERVICE_COLUMNS},
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
SETTINGS {DURABLE}
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
    service String,{SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    url_template String
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY route_id
SETTINGS {DURABLE}
""",
)

# Ids under which an endpoint was known before its routes moved, each with the route that moved last: a link in an alert
# that was sent stays good. Read with FINAL.
ENDPOINT_ALIASES = Table(
    name="endpoint_aliases",
    shard_by="cityHash64(endpoint_id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_aliases{{write_table}}{{on_cluster}} (
    endpoint_id String,
    version UInt64,
    route_id UInt64
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
SETTINGS {DURABLE}
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
SETTINGS {DURABLE}
""",
)

# What people decided about templates (collector/inventory/edits.py): one row an edit, its latest version holds; undone
# ones stay, with who and when. `places` is JSON. Read with FINAL.
TEMPLATE_EDITS = Table(
    name="template_edits",
    shard_by="cityHash64(id)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS template_edits{{write_table}}{{on_cluster}} (
    id String,
    version UInt64,
    kind LowCardinality(String),{SERVICE_COLUMNS},
    host String,
    method LowCardinality(String),
    places String,
    url_template String,
    by String,
    time DateTime('UTC'),
    exact_since UInt32,
    note String,
    undone_by String,
    undone_at UInt32
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY id
SETTINGS {DURABLE}
""",
)

_OF_OPERATION = {
    "parent_id": "String",
    "operation_protocol": "LowCardinality(String)",
    "operation_kind": "LowCardinality(String)",
    "operation_name": "String",
}
# What was known of endpoints that are gone, when they went; `days` is JSON. `is_back` takes a stone away. Read with
# FINAL.
ENDPOINT_TOMBSTONES = Table(
    name="endpoint_tombstones",
    shard_by="cityHash64(endpoint_id)",
    added=(Added(columns=_OF_OPERATION),),
    ddl=f"""
CREATE TABLE IF NOT EXISTS endpoint_tombstones{{write_table}}{{on_cluster}} (
    endpoint_id String,
    version UInt64,
    service String,
    host String,
    method LowCardinality(String),
    url_template String,
    calls UInt64,
    authenticated_calls UInt64,
    judged_calls UInt64,
    first_seen DateTime('UTC'),
    last_seen DateTime('UTC'),
    days String,
    is_back UInt8,
    {", ".join(f"{name} {kind}" for name, kind in _OF_OPERATION.items())}
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY endpoint_id
SETTINGS {DURABLE}
""",
)
