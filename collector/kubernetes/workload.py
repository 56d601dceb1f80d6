"""The workload of a Pod from its own metadata: what a person deployed, found without asking for its owners. Pure.

A ReplicaSet is named by its owner, `NAME-HASH`, and puts the hash on its Pods as a label (Deployment and Argo Rollouts
controllers); a CronJob's Job is `NAME-MINUTES`, the unix minute it was scheduled for (CronJob controller v2); the
kubelet names a static Pod `NAME-NODE`; OpenShift labels the Pods of a DeploymentConfig. The sensors name by the same
rules, so that both ends of a call agree.
"""

import re
from dataclasses import dataclass

from collector.kubernetes.objects import PodObject
from collector.kubernetes.timestamp import read_time

_HASH_LABELS = (("rollouts-pod-template-hash", "Rollout"), ("pod-template-hash", "Deployment"))
_CRON_JOB = re.compile(r"(.+)-(\d{8})")
# A Job's number is a minute of its CronJob only near its Pod's creation; else it is a date or a ticket.
_CRON_EARLY_SECONDS = 3_600
_CRON_LATE_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The kind is Kubernetes' own: Deployment, StatefulSet, Job, Rollout, ..., Pod; or StaticPod."""

    kind: str
    name: str


def find_workload(pod: PodObject) -> Workload:
    """The workload behind a Pod; a bare Pod is its own."""
    metadata = pod.metadata
    labels, owners = metadata.labels or {}, metadata.owner_references or ()
    owner = next((one for one in owners if one.controller), owners[0] if owners else None)
    if owner is None or not owner.name:
        return Workload(kind="Pod", name=metadata.name)
    if owner.kind == "Node":
        return Workload(kind="StaticPod", name=metadata.name.removesuffix(f"-{pod.spec.node_name}") or metadata.name)
    if owner.kind == "ReplicationController" and labels.get("deploymentconfig"):
        return Workload(kind="DeploymentConfig", name=labels["deploymentconfig"])
    if owner.kind == "ReplicaSet":
        for label, kind in _HASH_LABELS:
            name = owner.name.removesuffix(f"-{labels.get(label, '')}")
            if labels.get(label) and name != owner.name:
                return Workload(kind=kind, name=name)
    if owner.kind == "Job" and (made := _CRON_JOB.fullmatch(owner.name)):
        late_seconds = read_time(metadata.creation_timestamp) - 60 * int(made[2])
        if -_CRON_EARLY_SECONDS <= late_seconds <= _CRON_LATE_SECONDS:
            return Workload(kind="CronJob", name=made[1])
    return Workload(kind=owner.kind, name=owner.name)
