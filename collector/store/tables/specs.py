"""The tables of API descriptions: their texts by name and version, how far those seen in traffic are in force, and what
they say of each endpoint."""

from collector.store.tables.layout import DURABLE, Table, make_newest_table

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
