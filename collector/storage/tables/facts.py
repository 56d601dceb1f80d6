"""The tables of what sensors and Kubernetes report: coverage, addresses, exposure, workloads, schemas and sensors.

Coverage is each sensor's last report of its ports, and its growth by hour. Schemas are the newest state of each part of
a route from each sensor process. `evictions` records what the disk cap removed.
"""

from collector.storage.tables.layout import HOUR_RETENTION_DAYS, SERVICE_COLUMNS, Table, View

# What a row of coverage is about. `role` is the wire's CoverageRole, `protocol` its PortProtocol.
_KEY = ("node", "cluster", "namespace", "workload", "workload_kind", "host_name", "port", "role", "protocol", "address")
_KEY_COLUMNS = f"""
            node String
            boot_id String{SERVICE_COLUMNS}
            role UInt8
            protocol UInt8
            address String"""
# Totals since the sensor's start.
_COUNTS = ("connections", "bytes", "joined_late", "calls", "lost_calls", "estimated_calls", "uncaptured_ms")


def _list_counts(kind: str) -> str:
    return "\n".join(f"{name} {kind}" for name in _COUNTS)


TABLES = (
    # The newest report of each sensor: its rows are those of the node's greatest `report_time`, which is when the whole
    # report came; a port that changed since has a later `time`. `handshakes` is JSON, as
    # collector/inventory/coverage/coverage.py reads it. Read with FINAL.
    Table(
        name="coverage_rows",
        columns=f"""{_KEY_COLUMNS}
            is_http_like UInt8
            {_list_counts("UInt64")}
            reason String
            handshakes String
            time DateTime('UTC')
            report_time DateTime('UTC') DEFAULT time
        """,
        key=", ".join(_KEY),
        engine="ReplacingMergeTree(time)",
        expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
    ),
    # The same totals at the end of each hour, by the sensor's start (`boot_id`), after which they begin anew: what an
    # hour added is the difference to the hour before. `first_time`: when the hour's first report came.
    Table(
        name="coverage_hours",
        columns=f"""
            time DateTime('UTC') CODEC(Delta, LZ4){_KEY_COLUMNS}
            is_http_like SimpleAggregateFunction(max, UInt8)
            {_list_counts("SimpleAggregateFunction(max, UInt64)")}
            first_time SimpleAggregateFunction(min, DateTime('UTC')) DEFAULT time
        """,
        key=", ".join((*_KEY, "boot_id", "time")),
        engine="AggregatingMergeTree",
        partition="toDate(time)",
        expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
        settings="ttl_only_drop_parts = 1",
    ),
    # collector.kubernetes.addresses.Peer, field by field; an interval's latest version holds. Times are unix seconds,
    # `until` 0 while it goes on. Read with FINAL.
    Table(
        name="peer_addresses",
        columns="""
            cluster LowCardinality(String)
            address String
            port UInt16
            since UInt32
            until UInt32
            kind LowCardinality(String)
            namespace LowCardinality(String)
            name String
            workload String
            workload_kind LowCardinality(String)
            node LowCardinality(String)
            services Array(String)
            workloads Array(String)
            version UInt64
        """,
        key="address, port, cluster, since, kind, namespace, name",
        expiry=f"toDateTime(until) + INTERVAL {HOUR_RETENTION_DAYS} DAY DELETE WHERE until > 0",
    ),
    # collector.kubernetes.exposure.Exposure: a row a change, so that the newest is what is so and the others are
    # history.
    Table(
        name="exposures",
        columns="""
            cluster LowCardinality(String)
            namespace LowCardinality(String)
            workload String
            port UInt16
            time UInt32
            facts String
        """,
        key="cluster, namespace, workload, port, time",
        engine="ReplacingMergeTree",
    ),
    # collector.receiver.reports.WorkloadRecord: what the sensor of each node last said. Labels are `key=value`. A
    # container in no Pod has no namespace and is its node's alone; its labels are attributes of its image.
    Table(
        name="workloads",
        columns="""
            cluster LowCardinality(String)
            namespace LowCardinality(String)
            workload String
            node LowCardinality(String)
            kind LowCardinality(String)
            labels Array(String)
            zone LowCardinality(String)
            pods UInt16
            time DateTime('UTC')
        """,
        key="cluster, namespace, workload, node",
        engine="ReplacingMergeTree(time)",
        expiry=f"time + INTERVAL {HOUR_RETENTION_DAYS} DAY",
    ),
    # `part` is the wire's SchemaPart. `fields` and `operations` are JSON, as collector/schemas/merging.py reads them;
    # of a description `fields` is its outline (collector/specs/assessment.py). States of other processes and
    # generations add up. A sensor sends each part again every ten minutes, so that what is old is gone. `operation`
    # names the one whose parameters or result the state describes; empty of a whole part. It has callers, as
    # rows by hour do. Read with FINAL.
    Table(
        name="schemas",
        columns="""
            route_id UInt64
            part UInt8
            status_class UInt8
            media_type String
            node String
            boot_id String
            generation UInt32
            version UInt64
            samples UInt64
            left_out UInt64
            fields String CODEC(ZSTD)
            operations String CODEC(ZSTD)
            time DateTime('UTC')
            operation String
            digest UInt64
        """,
        key="route_id, part, status_class, media_type, node, boot_id, generation, operation",
        expiry="time + INTERVAL {hour_days} DAY",
    ),
    # What the disk cap removed: a person who misses minutes must find out why.
    Table(
        name="evictions",
        columns="""
            time DateTime('UTC')
            table_name LowCardinality(String)
            partition String
            rows UInt64
            bytes UInt64
            reason String
        """,
        key="time",
        engine="MergeTree",
    ),
)

COVERAGE_HOURS_VIEW = View(
    target="coverage_hours",
    source="coverage_rows r",
    select={
        "time": "toStartOfHour(r.time)",
        **{name: f"r.{name}" for name in (*_KEY, "boot_id")},
        "is_http_like": "max(r.is_http_like)",
        **{name: f"max(r.{name})" for name in _COUNTS},
        "first_time": "min(r.time)",
    },
    clauses=f"GROUP BY time, {', '.join(f'r.{name}' for name in (*_KEY, 'boot_id'))}",
)
