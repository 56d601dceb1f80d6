"""What a sensor says of the Kubernetes workloads of its node, as rows of `workloads`. Bounded, never raises."""

from dataclasses import dataclass
from datetime import UTC, datetime

from apidae.v1 import stream_pb2

from collector.ingest.convert import NAME_LIMIT_BYTES

WORKLOAD_LIMIT = 1_000
LABEL_LIMIT = 32
# A key has at most 253 + 1 + 63 characters, a value 63.
LABEL_LIMIT_BYTES = 400
_POD_LIMIT = 65_535


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
