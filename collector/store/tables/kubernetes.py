"""The tables of what Kubernetes API servers said: who held which address when, what led to a workload's ports, and
what sensors know of workloads."""

from collector.store.tables.layout import DURABLE, HOUR_RETENTION_DAYS, Table

# collector.kubernetes.peer.Peer, field by field; an interval's latest version holds. Times are unix seconds, `until` 0
# while it goes on. Read with FINAL.
PEER_ADDRESSES = Table(
    name="peer_addresses",
    shard_by="cityHash64(address)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS peer_addresses{{write_table}}{{on_cluster}} (
    cluster LowCardinality(String),
    address String,
    port UInt16,
    since UInt32,
    until UInt32,
    kind LowCardinality(String),
    namespace LowCardinality(String),
    name String,
    workload String,
    workload_kind LowCardinality(String),
    node LowCardinality(String),
    services Array(String),
    workloads Array(String),
    version UInt64
) ENGINE = {{engine_prefix}}ReplacingMergeTree(version)
ORDER BY (address, port, cluster, since, kind, namespace, name)
TTL toDateTime(until) + INTERVAL {HOUR_RETENTION_DAYS} DAY DELETE WHERE until > 0
SETTINGS {DURABLE}
""",
)

# collector.kubernetes.exposure.Exposure: a row a change, so that the newest is what is so and the others are history.
EXPOSURES = Table(
    name="exposures",
    shard_by="cityHash64(cluster, namespace, workload)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS exposures{{write_table}}{{on_cluster}} (
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    port UInt16,
    time UInt32,
    facts String
) ENGINE = {{engine_prefix}}ReplacingMergeTree
ORDER BY (cluster, namespace, workload, port, time)
SETTINGS {DURABLE}
""",
)

# collector.ingest.workloads.WorkloadRecord: what the sensor of each node last said. Labels are `key=value`.
# A container in no Pod has no namespace and is its node's alone; its labels are attributes of its image.
WORKLOADS = Table(
    name="workloads",
    shard_by="cityHash64(cluster, namespace, workload)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS workloads{{write_table}}{{on_cluster}} (
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    node LowCardinality(String),
    kind LowCardinality(String),
    labels Array(String),
    zone LowCardinality(String),
    pods UInt16,
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(time)
ORDER BY (cluster, namespace, workload, node)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)

# collector.ingest.workloads.FormerName: which workload it is that a node called by a container's id while the API
# server was away. Read with FINAL.
FORMER_NAMES = Table(
    name="former_names",
    shard_by="cityHash64(cluster, node, former_name)",
    ddl=f"""
CREATE TABLE IF NOT EXISTS former_names{{write_table}}{{on_cluster}} (
    cluster LowCardinality(String),
    node LowCardinality(String),
    former_name String,
    namespace LowCardinality(String),
    workload String,
    time DateTime('UTC')
) ENGINE = {{engine_prefix}}ReplacingMergeTree(time)
ORDER BY (cluster, node, former_name)
TTL time + INTERVAL {HOUR_RETENTION_DAYS} DAY
SETTINGS {DURABLE}
""",
)
