"""The tables of what Kubernetes API servers said: who held which address when, what led to a workload's ports, and
what sensors know of workloads."""

from collector.store.tables.layout import HOUR_RETENTION_DAYS, make_newest_table

# collector.kubernetes.peer.Peer, field by field; an interval's latest version holds. Times are unix seconds, `until` 0
# while it goes on. Read with FINAL.
PEER_ADDRESSES = make_newest_table(
    "peer_addresses",
    """
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
""",
    key="address, port, cluster, since, kind, namespace, name",
    shard_by="cityHash64(address)",
    version="version",
    expiry=f"toDateTime(until) + INTERVAL {HOUR_RETENTION_DAYS} DAY DELETE WHERE until > 0",
)

# collector.kubernetes.exposure.Exposure: a row a change, so that the newest is what is so and the others are history.
EXPOSURES = make_newest_table(
    "exposures",
    """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    port UInt16,
    time UInt32,
    facts String
""",
    key="cluster, namespace, workload, port, time",
    shard_by="cityHash64(cluster, namespace, workload)",
)

# collector.ingest.workloads.WorkloadRecord: what the sensor of each node last said. Labels are `key=value`.
# A container in no Pod has no namespace and is its node's alone; its labels are attributes of its image.
WORKLOADS = make_newest_table(
    "workloads",
    """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload String,
    node LowCardinality(String),
    kind LowCardinality(String),
    labels Array(String),
    zone LowCardinality(String),
    pods UInt16,
    time DateTime('UTC')
""",
    key="cluster, namespace, workload, node",
    shard_by="cityHash64(cluster, namespace, workload)",
    version="time",
    expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
)

# collector.ingest.workloads.FormerName: which workload it is that a node called by a container's id while the API
# server was away. Read with FINAL.
FORMER_NAMES = make_newest_table(
    "former_names",
    """
    cluster LowCardinality(String),
    node LowCardinality(String),
    former_name String,
    namespace LowCardinality(String),
    workload String,
    time DateTime('UTC')
""",
    key="cluster, node, former_name",
    shard_by="cityHash64(cluster, node, former_name)",
    version="time",
    expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
)
