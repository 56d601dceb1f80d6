"""The table of what shares one path: samples of GraphQL operations, JSON-RPC methods, MCP tools and SOAP actions."""

from collector.store.tables.layout import DURABLE, HOUR_RETENTION_DAYS, Table, View

_KEY = "route_id, protocol, kind, name, node, boot_id, generation"
# As collector/ingest/schemas.py writes an operation: positions of a JSON list, by name and type.
COLUMNS = {
    "protocol": "LowCardinality(String)",
    "kind": "LowCardinality(String)",
    "name": "String",
    "calls": "UInt64",
    "errors": "UInt64",
    "served": "UInt64",
    "refused": "UInt64",
    "failed": "UInt64",
    "authentication": "Tuple(Array(UInt32), Array(UInt64))",
    "data": "Tuple(Array(UInt16), Array(UInt64))",
    "requests_read": "UInt64",
    "responses_read": "UInt64",
    "consumers": "UInt64",
    "first_seen": "UInt32",
    "last_seen": "UInt32",
}
_PLAIN = {name: "String" if kind.startswith("LowCardinality") else kind for name, kind in COLUMNS.items()}
_TUPLE = f"Tuple({', '.join(_PLAIN.values())})"

# The newest state that each sensor process told of each operation of a route; `samples` are the requests that the
# process looked at on that route. States of other processes and generations add up. Read with FINAL.
OPERATION_SAMPLES = Table(
    name="operation_samples",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS operation_samples{{write_table}}{{on_cluster}} (
    route_id UInt64,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())},
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_KEY})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# Out of the states of schemas as they come, so that the list of endpoints reads narrow rows.
OPERATION_SAMPLES_VIEW = View(
    name="operation_samples_view",
    target="operation_samples",
    query=f"""
SELECT
    s.route_id AS route_id,
    s.node AS node,
    s.boot_id AS boot_id,
    s.generation AS generation,
    s.version AS version,
    s.samples AS samples,
    {", ".join(f"tupleElement(one, {place}) AS {name}" for place, name in enumerate(COLUMNS, 1))},
    s.time AS time
FROM schemas{{write_table}} AS s
ARRAY JOIN JSONExtract(s.operations, 'Array({_TUPLE})') AS one
WHERE s.part = 6
""",
)
