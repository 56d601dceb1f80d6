"""Which workload a Pod belongs to, from the Pod's own metadata: no other object is asked for. Pure.

A Pod names its controller (metadata.ownerReferences, `controller: true`), and controllers of controllers name their
children by rule, which is undone here:

| Owner of the Pod | Rule | Source |
|---|---|---|
| ReplicaSet | Deployment's name, `-`, the label `pod-template-hash` | kubernetes pkg/controller/deployment/sync.go |
| ReplicaSet | Rollout's name, `-`, the label `rollouts-pod-template-hash` | argo-rollouts rollout/sync.go |
| Job | CronJob's name, `-`, the scheduled time in minutes | kubernetes pkg/controller/cronjob/utils.go, getJobName |
| ReplicationController | the label `deploymentconfig` | OpenShift deployment configs |
| Node | the static Pod's name, `-`, the node | kubernetes pkg/kubelet/config/common.go, generatePodName |

Where a rule does not fit, the owner itself is the workload.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

POD: Final = "Pod"  # Nobody's: a bare Pod.
STATIC_POD: Final = "StaticPod"  # Of a file on its node.
_TEMPLATE_HASH: Final = "pod-template-hash"
_ROLLOUT_HASH: Final = "rollouts-pod-template-hash"
_DEPLOYMENT_CONFIG: Final = "deploymentconfig"
# The CronJob's Job is named by the minute for which it was scheduled; 8 digits until the year 2160.
_SCHEDULED = re.compile(r"(?P<name>.+)-(?P<minutes>[0-9]{8})")
# How long before its Pod's creation that minute may lie (startingDeadlineSeconds, retries of the Job): a number that is
# a date or a ticket is none.
_LATE_SECONDS: Final = 7 * 86_400
_EARLY_SECONDS: Final = 3_600


class Owner(msgspec.Struct, frozen=True, rename="camel"):
    """One of metadata.ownerReferences."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """What a person deployed: `kind` as Kubernetes spells it, or StaticPod."""

    kind: str
    name: str


def find_workload(
    *, name: str, labels: Mapping[str, str], owners: Sequence[Owner], created: str, node: str
) -> Workload:
    """The workload of the Pod `name` on `node`, made at `created` (RFC 3339, may be empty)."""
    owner = next((one for one in owners if one.controller), owners[0] if owners else None)
    if owner is None or not owner.name:
        return Workload(POD, name)
    match owner.kind:
        case "ReplicaSet":
            return _find_replica_set(owner.name, labels)
        case "Job":
            return _find_job(owner.name, created)
        case "ReplicationController" if labels.get(_DEPLOYMENT_CONFIG):
            return Workload("DeploymentConfig", labels[_DEPLOYMENT_CONFIG])
        case "Node":
            return Workload(STATIC_POD, name.removesuffix(f"-{node}") or name)
    return Workload(owner.kind, owner.name)


def _find_replica_set(name: str, labels: Mapping[str, str]) -> Workload:
    for label, kind in ((_ROLLOUT_HASH, "Rollout"), (_TEMPLATE_HASH, "Deployment")):
        suffix = f"-{labels.get(label, '')}"
        if len(suffix) > 1 and name.endswith(suffix) and len(name) > len(suffix):
            return Workload(kind, name.removesuffix(suffix))
    return Workload("ReplicaSet", name)


def _find_job(name: str, created: str) -> Workload:
    match = _SCHEDULED.fullmatch(name)
    if match:
        made = _read_time(created)
        age = made - 60 * int(match["minutes"])
        if made and -_EARLY_SECONDS <= age <= _LATE_SECONDS:
            return Workload("CronJob", match["name"])
    return Workload("Job", name)


def _read_time(text: str) -> float:
    """Unix seconds; 0 where it is none."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0
