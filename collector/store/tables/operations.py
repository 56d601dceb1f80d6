"""The tables of what shares one path: samples of GraphQL operations, JSON-RPC methods, MCP tools and SOAP actions."""

from collections.abc import Iterable

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
_DAILY = (
    *("protocol", "kind", "name", "calls", "served", "refused", "failed", "authentication", "first_seen", "last_seen"),
)

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

# The same as it was at the end of each day (UTC) on which the operation was called: what a day added is the difference
# to the day before it in the table (collector/inventory/days.py). Read with FINAL.
OPERATION_DAYS = Table(
    name="operation_days",
    shard_by="route_id",
    ddl=f"""
CREATE TABLE IF NOT EXISTS operation_days{{write_table}}{{on_cluster}} (
    route_id UInt64,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    {", ".join(f"{name} {COLUMNS[name]}" for name in _DAILY)},
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_KEY}, time)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)


def _view(name: str, target: str, columns: Iterable[str], *, time: str = "s.time", version: str = "s.version") -> View:
    """Out of the states of schemas as they come, so that questions about endpoints read narrow rows."""
    places = {column: f"tupleElement(one, {place})" for place, column in enumerate(COLUMNS, 1)}
    return View(
        name=name,
        target=target,
        query=f"""
SELECT
    s.route_id AS route_id,
    s.node AS node,
    s.boot_id AS boot_id,
    s.generation AS generation,
    {version.format(calls=places["calls"])} AS version,
    s.samples AS samples,
    {", ".join(f"{places[column]} AS {column}" for column in columns)},
    {time.format(last_seen=places["last_seen"])} AS time
FROM schemas{{write_table}} AS s
ARRAY JOIN JSONExtract(s.operations, 'Array({_TUPLE})') AS one
WHERE s.part = 6
""",
    )


OPERATION_SAMPLES_VIEW = _view("operation_samples_view", "operation_samples", COLUMNS)
# Older sensors do not say when. Of the states with most calls the first holds: in later ones the samples are those of
# days on which only other operations were called.
OPERATION_DAYS_VIEW = _view(
    "operation_days_view",
    "operation_days",
    _DAILY,
    time="toStartOfDay(if({last_seen} = 0, s.time, toDateTime({last_seen}, 'UTC')))",
    version="bitShiftLeft(least({calls}, 4294967295), 32) + 4294967295 - least(s.samples, 4294967295)",
)
