"""The table of what routes look like: the newest state that each sensor process told of each part."""

from collector.store.tables.layout import DURABLE, HOUR_RETENTION_DAYS, Added, Table

_ORDER = "route_id, part, status_class, media_type, node, boot_id, generation, operation"

# `part` is the wire's SchemaPart. `fields` and `operations` are JSON, as collector/schemas/merging.py reads them; of a
# description `fields` is its outline (collector/specs/traffic.py). States of other processes and generations add up. A
# sensor tells each part again every ten minutes, so that what is old is gone. `operation` names the one whose
# parameters or result the state describes; empty of a whole part. Read with FINAL.
SCHEMAS = Table(
    name="schemas",
    shard_by="route_id",
    added=(Added(columns={"operation": "String"}, order=_ORDER),),
    ddl=f"""
CREATE TABLE IF NOT EXISTS schemas{{write_table}}{{on_cluster}} (
    route_id UInt64,
    part UInt8,
    status_class UInt8,
    media_type String,
    node String,
    boot_id String,
    generation UInt32,
    version UInt64,
    samples UInt64,
    left_out UInt64,
    fields String CODEC(ZSTD),
    operations String CODEC(ZSTD),
    time DateTime('UTC'),
    operation String
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY ({_ORDER})
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)
