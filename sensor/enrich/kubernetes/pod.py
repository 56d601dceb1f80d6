"""What the sensor keeps of a Pod: its workload, containers, addresses and a few labels. Pure.

Takes the API's Pod as JSON, of which only these fields are decoded, and gives a `Pod` of some 1 KB. Environment,
commands, volumes and all other annotations are never read.

The workload follows from the Pod's own metadata, without a request for another object. A Pod names its controller
(metadata.ownerReferences, `controller: true`). Controllers name their children by these rules:

| Owner of the Pod | Rule | Source |
|---|---|---|
| ReplicaSet | Deployment's name, `-`, the label `pod-template-hash` | kubernetes pkg/controller/deployment/sync.go |
| ReplicaSet | Rollout's name, `-`, the label `rollouts-pod-template-hash` | argo-rollouts rollout/sync.go |
| Job | CronJob's name, `-`, the scheduled time in minutes | kubernetes pkg/controller/cronjob/utils.go, getJobName |
| ReplicationController | the label `deploymentconfig` | OpenShift deployment configs |
| Node | the static Pod's name, `-`, the node | kubernetes pkg/kubelet/config/common.go, generatePodName |

Where no rule fits, the owner itself is the workload.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from sensor.core.printable import make_printable

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


WATCH_KEY: Final = "apidae.io/watch"
# Of a static Pod: the uid under which the kubelet runs it, and so of its cgroup; metadata.uid is of its mirror
# (kubernetes pkg/kubelet/types/constants.go).
_MIRROR: Final = "kubernetes.io/config.mirror"
_ENDED: Final = ("Succeeded", "Failed")
# A label's key has at most 253 + 1 + 63 characters, its value 63; more of a Pod than this is no selection.
MAX_LABELS: Final = 32

# Containers that only pass on what comes for the Pod's other ones; names are those their injectors give.
SIDECARS: Final = {
    "istio-proxy": "istio.io",
    "linkerd-proxy": "linkerd.io",
    "kuma-sidecar": "kuma.io",
    "consul-dataplane": "developer.hashicorp.com/consul",
    "envoy-sidecar": "consul-k8s before 1.0",
    "envoy": "App Mesh and hand-made sidecars",
    "osm-envoy": "openservicemesh.io",
    "cilium-envoy": "cilium.io",
}


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    host_network: bool = False


class _ContainerStatus(msgspec.Struct, rename={"name": "name", "container_id": "containerID"}):
    name: str = ""
    container_id: str = ""


class _Address(msgspec.Struct):
    ip: str = ""


class _Status(msgspec.Struct, rename={"pod_ips": "podIPs", "containers": "containerStatuses",
                                      "started": "startTime",
                                      "init_containers": "initContainerStatuses",
                                      "ephemeral_containers": "ephemeralContainerStatuses"}):  # fmt: skip
    phase: str = ""
    started: datetime | None = None
    pod_ips: list[_Address] | None = None
    containers: list[_ContainerStatus] | None = None
    init_containers: list[_ContainerStatus] | None = None
    ephemeral_containers: list[_ContainerStatus] | None = None


class PodObject(msgspec.Struct):
    """A Pod as the API tells it, as far as it is read."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class Pod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Pod of this node. Equal where nothing that is told has changed."""

    uid: str  # As in its cgroup's path.
    object_uid: str  # metadata.uid.
    namespace: str
    name: str
    workload: str
    workload_kind: str  # Deployment, StatefulSet, .., Pod, StaticPod.
    labels: tuple[tuple[str, str], ...]  # Those the settings choose, by key.
    watch: str  # Value of the annotation apidae.io/watch; empty where there is none.
    is_host_network: bool
    addresses: tuple[str, ...]
    started_at: int = 0  # Unix seconds: when its kubelet took it up, before it had an address; 0: not said (yet).
    has_ended: bool = False  # Its addresses are free again, though the API still has it.
    containers: tuple[tuple[str, str], ...]  # (id, name), as far as they were started.
    is_ingress: bool = False  # A controller of Ingresses or Gateways: what it answers is its backends' answer.

    def container_name(self, container_id: str) -> str:
        """The name of one of its containers; empty where it is not known (yet)."""
        return next((name for known, name in self.containers if known == container_id), "")


@dataclass(frozen=True, slots=True)
class IngressLabel:
    """A label by which the Pods of an ingress controller are known."""

    key: str
    value: str
    source: str


_NAME: Final = "app.kubernetes.io/name"
_COMPONENT: Final = "app.kubernetes.io/component"
# As their own charts and manifests set them.
INGRESS_LABELS: Final = (
    IngressLabel(_NAME, "ingress-nginx", "kubernetes/ingress-nginx, chart"),
    IngressLabel(_NAME, "nginx-ingress", "nginx/kubernetes-ingress, chart"),
    IngressLabel(_NAME, "traefik", "traefik/traefik-helm-chart; k3s runs it in kube-system"),
    IngressLabel(_NAME, "kubernetes-ingress", "haproxytech/helm-charts"),
    IngressLabel(_NAME, "haproxy-ingress", "haproxy-ingress/charts"),
    IngressLabel(_NAME, "contour", "projectcontour; its Envoys have the component envoy"),
    IngressLabel(_NAME, "kong", "kong/charts"),
    IngressLabel(_NAME, "ingress", "kong/charts, ingress"),
    IngressLabel(_NAME, "envoy", "envoyproxy/gateway, its proxies"),
    IngressLabel(_NAME, "emissary-ingress", "emissary-ingress/emissary"),
    IngressLabel(_NAME, "apisix", "apache/apisix-helm-chart"),
    IngressLabel(_NAME, "rke2-ingress-nginx", "rancher/rke2-charts"),
    IngressLabel(_COMPONENT, "ingress-controller", "recommended labels, as several controllers use them"),
    IngressLabel("istio", "ingressgateway", "istio.io, gateways"),
    IngressLabel("ingresscontroller.operator.openshift.io/deployment-ingresscontroller", "default", "OpenShift router"),
    IngressLabel("k8s-app", "cilium-envoy", "cilium.io"),
)


def read_pod(raw: PodObject, *, label_keys: Sequence[str]) -> Pod:
    """The Pod of an API object; `label_keys` are those that are told."""
    metadata, status = raw.metadata, raw.status
    labels, annotations = metadata.labels or {}, metadata.annotations or {}
    workload: Workload = find_workload(
        name=metadata.name,
        labels=labels,
        owners=metadata.owner_references or (),
        created=metadata.creation_timestamp or "",
        node=raw.spec.node_name,
    )
    statuses = [*(status.containers or ()), *(status.init_containers or ()), *(status.ephemeral_containers or ())]
    return Pod(
        uid=annotations.get(_MIRROR, metadata.uid),
        object_uid=metadata.uid,
        namespace=make_printable(metadata.namespace),
        name=make_printable(metadata.name),
        # Of an owner the API server checks nothing but that it has a name.
        workload=make_printable(workload.name),
        workload_kind=make_printable(workload.kind),
        labels=tuple((key, make_printable(labels[key])) for key in label_keys[:MAX_LABELS] if key in labels),
        watch=make_printable(annotations.get(WATCH_KEY, "")),
        is_host_network=raw.spec.host_network,
        addresses=tuple(one.ip for one in status.pod_ips or () if one.ip),
        started_at=int(status.started.timestamp()) if status.started else 0,
        has_ended=status.phase in _ENDED,
        # `containerd://<id>`, `cri-o://<id>`, `docker://<id>`.
        containers=tuple(
            (one.container_id.rpartition("/")[2], make_printable(one.name)) for one in statuses if one.container_id
        ),
        is_ingress=any(labels.get(label.key) == label.value for label in INGRESS_LABELS),
    )


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
