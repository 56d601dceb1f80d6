"""Parts of Kubernetes objects that both sides read, and the workload that a person deployed, by its Pod. Pure.

The workload follows from the Pod's own metadata, without a request for another object. A Pod names its controller
(metadata.ownerReferences, `controller: true`). Controllers name their children by these rules:

| Owner of the Pod | Rule | Source |
|---|---|---|
| ReplicaSet | Deployment's name, `-`, the label `pod-template-hash` | kubernetes pkg/controller/deployment/sync.go |
| ReplicaSet | Rollout's name, `-`, the label `rollouts-pod-template-hash` | argo-rollouts rollout/sync.go |
| Job | CronJob's name, `-`, the scheduled time in minutes | kubernetes pkg/controller/cronjob/utils.go, getJobName |
| ReplicationController | the label `deploymentconfig` | OpenShift deployment configs |
| Node | the static Pod's name, `-`, the node | kubernetes pkg/kubelet/config/common.go, generatePodName |

Where no rule fits, the owner itself is the workload. Both sides use these rules, so both ends of a call agree.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

_HASH_LABELS: Final = (("rollouts-pod-template-hash", "Rollout"), ("pod-template-hash", "Deployment"))
# The CronJob's Job is named by the minute for which it was scheduled; 8 digits until the year 2160.
_CRON_JOB: Final = re.compile(r"(.+)-([0-9]{8})")
# How long before its Pod's creation that minute may lie (startingDeadlineSeconds, retries of the Job). Another
# number is a date or a ticket.
_LATE_SECONDS: Final = 7 * 86_400
_EARLY_SECONDS: Final = 3_600


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of an object; camelCase on the wire. What has no field here is ignored."""


class OwnerReference(Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Metadata(Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None  # RFC 3339.
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """`kind` as Kubernetes spells it: Deployment, StatefulSet, Job, Rollout, .., Pod; or StaticPod."""

    kind: str
    name: str


def find_workload(metadata: Metadata, node_name: str) -> Workload:
    """The workload of a Pod on a node; a bare Pod is its own."""
    labels, owners = metadata.labels or {}, metadata.owner_references or ()
    owner = next((one for one in owners if one.controller), owners[0] if owners else None)
    if owner is None or not owner.name:
        return Workload("Pod", metadata.name)
    if owner.kind == "Node":
        return Workload("StaticPod", metadata.name.removesuffix(f"-{node_name}") or metadata.name)
    if owner.kind == "ReplicationController" and labels.get("deploymentconfig"):
        return Workload("DeploymentConfig", labels["deploymentconfig"])
    if owner.kind == "ReplicaSet":
        for label, kind in _HASH_LABELS:
            name = owner.name.removesuffix(f"-{labels.get(label, '')}")
            if labels.get(label) and name and name != owner.name:
                return Workload(kind, name)
    if owner.kind == "Job" and (made := _CRON_JOB.fullmatch(owner.name)):
        late_seconds = read_time(metadata.creation_timestamp) - 60 * int(made[2])
        if -_EARLY_SECONDS <= late_seconds <= _LATE_SECONDS:
            return Workload("CronJob", made[1])
    return Workload(owner.kind, owner.name)


def read_time(text: str | None) -> int:
    """Unix seconds of RFC 3339; 0 where there is none or it is no time."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else 0
    except (ValueError, OverflowError):
        return 0
