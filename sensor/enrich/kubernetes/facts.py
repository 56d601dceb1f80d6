"""What is told of the workloads of this node besides their calls: kind, labels, zone. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sensor.enrich.kubernetes.pod import Pod

# Told at once; a node has at most as many workloads as Pods.
WORKLOADS_MAX: Final = 1_000
_NOBODY: Mapping[tuple[str, str], tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """One workload, by its Pods on this node."""

    cluster: str
    namespace: str
    workload: str
    kind: str
    labels: tuple[tuple[str, str], ...]  # Those that all its Pods have alike.
    zone: str
    pods: int
    former_names: tuple[str, ...] = ()  # What its Pods were called while nobody knew them.


def list_workloads(
    pods: Iterable[Pod], *, cluster: str, zone: str, former: Mapping[tuple[str, str], tuple[str, ...]] = _NOBODY
) -> list[WorkloadFacts]:
    """By namespace and name; the first `WORKLOADS_MAX`. `former`: what they were called, by both."""
    groups: dict[tuple[str, str, str], list[Pod]] = {}
    for pod in pods:
        groups.setdefault((pod.namespace, pod.workload, pod.workload_kind), []).append(pod)
    return [
        WorkloadFacts(
            cluster=cluster,
            namespace=namespace,
            workload=workload,
            kind=kind,
            labels=tuple(sorted(set.intersection(*(set(pod.labels) for pod in members)))),
            zone=zone,
            pods=len(members),
            former_names=former.get((namespace, workload), ()),
        )
        for (namespace, workload, kind), members in sorted(groups.items())[:WORKLOADS_MAX]
    ]
