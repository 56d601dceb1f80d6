"""What a sensor says of the Kubernetes workloads of its node, as rows of `workloads`. Bounded, never raises."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from apidae.v1 import stream_pb2

from collector.ingest.limits import NAME_LIMIT_BYTES
from collector.ingest.reports import Greeting

WORKLOAD_LIMIT = 1_000
LABEL_LIMIT = 32
# A key has at most 253 + 1 + 63 characters, a value 63.
LABEL_LIMIT_BYTES = 400
_POD_LIMIT = 65_535
FORMER_NAME_LIMIT = 1_000
_FORMER_NAME = re.compile(r"[0-9a-f]{12}|pod-[0-9a-f-]{32,36}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord:
    """One row of `workloads`."""

    cluster: str
    namespace: str
    workload: str
    node: str
    kind: str
    labels: tuple[str, ...]
    zone: str
    pods: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerName:
    """One row of `former_names`: what a node called a workload while it did not know it."""

    cluster: str
    node: str
    former_name: str
    namespace: str
    workload: str
    time: datetime


def convert_former_names(
    coverage: stream_pb2.Coverage, greeting: Greeting, now_unix_seconds: float
) -> list[FormerName]:
    """Former names of a node's workloads, in that node's cluster; others than ids of containers are left out, for a
    sensor may only give a name to what it could not name."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [
        FormerName(
            cluster=greeting.cluster,
            node=greeting.node,
            former_name=former,
            namespace=told.namespace[:NAME_LIMIT_BYTES],
            workload=told.workload[:NAME_LIMIT_BYTES],
            time=now,
        )
        for told in coverage.workloads[:WORKLOAD_LIMIT]
        if told.namespace
        for former in told.former_names[:FORMER_NAME_LIMIT]
        if _FORMER_NAME.fullmatch(former)
    ]


def convert_workloads(coverage: stream_pb2.Coverage, *, node: str, now_unix_seconds: float) -> list[WorkloadRecord]:
    """Workloads of a node; the time is the collector's."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [
        WorkloadRecord(
            cluster=told.cluster[:NAME_LIMIT_BYTES],
            namespace=told.namespace[:NAME_LIMIT_BYTES],
            workload=told.workload[:NAME_LIMIT_BYTES],
            node=node,
            kind=told.kind[:NAME_LIMIT_BYTES],
            labels=tuple(label[:LABEL_LIMIT_BYTES] for label in told.labels[:LABEL_LIMIT]),
            zone=told.zone[:NAME_LIMIT_BYTES],
            pods=min(told.pods, _POD_LIMIT),
            time=now,
        )
        for told in coverage.workloads[:WORKLOAD_LIMIT]
    ]
