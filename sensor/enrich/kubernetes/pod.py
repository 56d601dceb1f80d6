"""The Pods of this node: what the sensor keeps of each, and each by uid, container id and address.

Takes the API's Pod as JSON, of which only these fields are decoded, and gives a `Pod` of some 1 KB. Environment,
commands, volumes and all annotations but Apidae's own are never read.

`PodTable` is written by the watch and read by the identity, from any thread. A Pod that is gone keeps its name for five
minutes, for calls that are read after its end. It may have started, served one call and ended between two readings.

`PodAddresses` names clients by address and time. A client that calls through a Service address is on this node like any
other, but the ends of its connection have different addresses (DNAT). So the server's end does not lead to the client's
socket, but it has the address of the client's Pod. Where more than one Pod held the address in that time, nobody is
named. Addresses of the host's network are nobody's.
"""

import ipaddress
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from common.kubernetes.objects import Metadata, Part, find_workload
from sensor.core.printable import make_printable
from sensor.core.read_tls import READ_TLS_KEY

WATCH_KEY: Final = "apidae.io/watch"
ATTACH_KEY: Final = "apidae.io/attach-java"
# Of a static Pod: the uid under which the kubelet runs it, and so of its cgroup; metadata.uid is of its mirror
# (kubernetes pkg/kubelet/types/constants.go).
_MIRROR: Final = "kubernetes.io/config.mirror"
_ENDED: Final = ("Succeeded", "Failed")
# A label's key has at most 253 + 1 + 63 characters, its value 63; more of a Pod than this is no selection.
MAX_LABELS: Final = 32

# Containers that only pass on calls of others, those of their own Pod or of the whole node; names are those that their
# injectors and charts give.
MESH_PROXIES: Final = {
    "istio-proxy": "istio.io: sidecars, waypoints and ztunnel of ambient mode",
    "linkerd-proxy": "linkerd.io",
    "kuma-sidecar": "kuma.io",
    "consul-dataplane": "developer.hashicorp.com/consul",
    "envoy-sidecar": "consul-k8s before 1.0",
    "envoy": "App Mesh and hand-made sidecars",
    "osm-envoy": "openservicemesh.io",
    "cilium-envoy": "cilium.io, one a node",
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
    read_tls: str = ""  # The same of apidae.io/read-tls.
    attach_java: str = ""  # The same of apidae.io/attach-java.
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
        read_tls=make_printable(annotations.get(READ_TLS_KEY, "")),
        attach_java=make_printable(annotations.get(ATTACH_KEY, "")),
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


_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Holding:
    """A Pod's time with an address, in unix ns. The end is that of the watch, which is late rather than early."""

    object_uid: str
    place: str  # namespace/workload
    first_ns: float
    last_ns: float  # Infinite while it has it.


class PodAddresses:
    """Addresses of Pods that are there, and of those that `forget` was not called for."""

    def __init__(self) -> None:
        self._by_address: dict[str, tuple[_Holding, ...]] = {}
        self._by_pod: dict[str, tuple[str, ...]] = {}  # By metadata.uid; every address that it ever had.

    def find(self, address: str, first_ns: int, last_ns: int) -> str:
        """`namespace/workload` of the only Pod that held an address from `first_ns` to `last_ns` (unix ns); empty where
        none did all the time, or more than one within it. 0.2 us for an address of no Pod, 0.6 us for one's."""
        holdings = self._by_address.get(address)
        if holdings is None:
            return ""
        met = [one for one in holdings if one.first_ns <= last_ns and one.last_ns >= first_ns]
        if len(met) != 1 or met[0].first_ns > first_ns or met[0].last_ns < last_ns:
            return ""
        return met[0].place

    def put(self, pod: Pod, now_ns: int) -> None:
        """A Pod is new, or something of it changed."""
        uid = pod.object_uid
        held = () if pod.is_host_network else tuple(map(_normalise, pod.addresses))
        before = self._by_pod.get(uid, ())
        for address in {*held, *before}:
            known = next((one for one in self._by_address.get(address, ()) if one.object_uid == uid), None)
            # Without the kubelet's word: since when it was heard of.
            first_ns = known.first_ns if known else pod.started_at * _SECOND_NS or now_ns
            is_held = address in held and not pod.has_ended
            last_ns = math.inf if is_held else min(known.last_ns if known else math.inf, now_ns)
            self._set(address, uid, _Holding(uid, f"{pod.namespace}/{pod.workload}", first_ns, last_ns))
        if held or before:
            self._by_pod[uid] = tuple({*held, *before})

    def end(self, object_uid: str, now_ns: int) -> None:
        """A Pod is gone."""
        for address in self._by_pod.get(object_uid, ()):
            for one in self._by_address[address]:
                if one.object_uid == object_uid:
                    self._set(address, object_uid, replace(one, last_ns=min(one.last_ns, now_ns)))

    def forget(self, object_uid: str) -> None:
        """A Pod has been gone for so long that no call of it comes any more."""
        for address in self._by_pod.pop(object_uid, ()):
            self._set(address, object_uid, None)

    def _set(self, address: str, object_uid: str, holding: _Holding | None) -> None:
        others = tuple(one for one in self._by_address.get(address, ()) if one.object_uid != object_uid)
        holdings = others if holding is None else (*others, holding)
        if holdings:
            self._by_address[address] = holdings
        else:
            self._by_address.pop(address, None)


def _normalise(address: str) -> str:
    """As the kernel's addresses are written; what is none stays as it is, and no call comes from it."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


# Longer than a call waits anywhere before it is named (windows of 60 s while the collector is away).
KEEP_SECONDS: Final = 300.0
# A kubelet allows 110 Pods by default, 500 where it is raised; each may be replaced several times in five minutes.
MAX_GONE: Final = 4_096


class PodTable:
    """What is known of this node's Pods."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        keep_seconds: float = KEEP_SECONDS,
        unix_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`clock` gives monotonic seconds, `unix_clock` unix ns."""
        self._clock = clock
        self._unix_clock = unix_clock
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}  # By metadata.uid; those that are gone too.
        self._gone: dict[str, float] = {}  # When, by metadata.uid, in this order.
        self._by_uid: dict[str, Pod] = {}  # By the uid in the cgroup's path.
        self._by_container: dict[str, Pod] = {}
        self.addresses = PodAddresses()
        # Rises with each change of what a Pod is called or whether it is watched: names made before may be old.
        self.generation = 0
        self.consent_generation = 0  # Rises with each change of an annotation apidae.io/attach-java.
        self.evicted_count = 0  # Pods that were gone and were forgotten before their time.

    def find(self, *, container_id: str, pod_uid: str) -> Pod | None:
        """The Pod of a cgroup: by the uid in its path, which is known before a container runs, else by the container.
        0.2 us."""
        return self._by_uid.get(pod_uid) or self._by_container.get(container_id)

    def get(self, object_uid: str) -> Pod | None:
        """The Pod to which the API server gave a uid (metadata.uid): whoever may write its annotations cannot choose
        it."""
        return self._pods.get(object_uid)

    def __len__(self) -> int:
        """Pods that are there."""
        return len(self._pods) - len(self._gone)

    def all(self) -> tuple[Pod, ...]:
        """Those that are there."""
        with self._lock:
            return tuple(pod for uid, pod in self._pods.items() if uid not in self._gone)

    def replace(self, pods: Iterable[Pod]) -> None:
        """A whole list: what is not in it is gone."""
        with self._lock:
            listed = {pod.object_uid: pod for pod in pods}
            for uid in self._pods.keys() - listed.keys() - self._gone.keys():
                self._end(uid)
            for pod in listed.values():
                self._put(pod)
            self._forget()

    def put(self, pod: Pod) -> None:
        """A Pod is new, or something of it changed."""
        with self._lock:
            self._put(pod)
            self._forget()

    def remove(self, object_uid: str) -> None:
        """A Pod is gone."""
        with self._lock:
            if object_uid in self._pods and object_uid not in self._gone:
                self._end(object_uid)
            self._forget()

    def _end(self, object_uid: str) -> None:
        self._gone[object_uid] = self._clock()
        self.addresses.end(object_uid, self._unix_clock())

    def _put(self, pod: Pod) -> None:
        was_gone = self._gone.pop(pod.object_uid, None) is not None
        known = self._pods.get(pod.object_uid)
        if known == pod and not was_gone:
            return
        self.addresses.put(pod, self._unix_clock())
        self._pods[pod.object_uid] = pod
        if self._may_have_uid(pod):
            self._by_uid[pod.uid] = pod
        # An older container of the Pod, which was restarted, stays with it.
        self._by_container.update((container_id, pod) for container_id, _ in pod.containers)
        if known is None or _naming(known) != _naming(pod):
            self.generation += 1
        self.consent_generation += pod.attach_java != ("" if known is None else known.attach_java)

    def _may_have_uid(self, pod: Pod) -> bool:
        """Of a mirror only its annotation says so, which anybody may write: it takes no Pod's that is there."""
        holder = self._by_uid.get(pod.uid)
        if holder is None or pod.object_uid in (pod.uid, holder.object_uid):
            return True
        return holder.object_uid != holder.uid and holder.object_uid in self._gone

    def _forget(self) -> None:
        """Drops those that have been gone for long, or are too many."""
        oldest = self._clock() - self._keep_seconds
        excess = len(self._gone) - MAX_GONE
        due = []
        for place, (uid, since) in enumerate(self._gone.items()):
            if since > oldest and place >= excess:
                break
            self.evicted_count += since > oldest
            due.append(uid)
        for uid in due:
            del self._gone[uid]
            pod = self._pods.pop(uid)
            self.addresses.forget(uid)
            if self._by_uid.get(pod.uid) is pod:
                del self._by_uid[pod.uid]
        if due:
            self._by_container = {key: pod for key, pod in self._by_container.items() if pod.object_uid in self._pods}


def _naming(pod: Pod) -> tuple[object, ...]:
    """What names of ends are made of."""
    return pod.uid, pod.workload, pod.workload_kind, pod.containers, pod.watch, pod.is_ingress
