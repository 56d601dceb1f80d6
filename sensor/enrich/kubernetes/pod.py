"""What the sensor keeps of a Pod: its workload, containers, addresses and a few labels. Pure.

Takes the API's Pod as JSON, of which only these fields are decoded, and gives a `Pod` of some 1 KB. Environment,
commands, volumes and all other annotations are never read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from common.kubernetes.objects import Metadata, Part, find_workload
from sensor.core.printable import make_printable

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


class _Spec(Part, frozen=True, kw_only=True):
    node_name: str = ""
    host_network: bool = False


class _ContainerStatus(Part, frozen=True, kw_only=True):
    name: str = ""
    container_id: str = msgspec.field(name="containerID", default="")


class _Address(Part, frozen=True, kw_only=True):
    ip: str = ""


class _Status(Part, frozen=True, kw_only=True):
    phase: str = ""
    start_time: datetime | None = None
    pod_ips: list[_Address] | None = msgspec.field(name="podIPs", default=None)
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class PodObject(Part, frozen=True, kw_only=True):
    """A Pod of the API, as far as it is read."""

    metadata: Metadata = Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Pod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Pod of this node. Equal where nothing that is reported has changed."""

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
    """The Pod of an API object; `label_keys` are those that are reported."""
    metadata, status = raw.metadata, raw.status
    labels, annotations = metadata.labels or {}, metadata.annotations or {}
    workload = find_workload(metadata, raw.spec.node_name)
    statuses = (
        *(status.container_statuses or ()),
        *(status.init_container_statuses or ()),
        *(status.ephemeral_container_statuses or ()),
    )
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
        started_at=int(status.start_time.timestamp()) if status.start_time else 0,
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
