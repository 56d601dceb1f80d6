"""The table of what is known to be there, so that what is new can be told from it (collector/change)."""

from collector.store.tables.layout import DURABLE, Table

FACT_RETENTION_DAYS = 180  # After it was seen last; long past the rows of calls.

# collector.change.fact.Fact, field by field; the newest version of (subject, kind, detail) holds.
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
