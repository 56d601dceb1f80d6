"""The state of one cluster, kept up to date: lists and events of the API server in, objects by kind out. No edge, no
clock.

Bounded: at most OBJECTS_MAX objects of each kind. Further ones are counted in `dropped` and named nowhere. A `Pod`
takes a few hundred bytes of the ten thousand that the API server sends.

`find_workload` finds what a person deployed from the Pod's own metadata, without a request for its owners. A ReplicaSet
is named by its owner, `NAME-HASH`, with the hash as a label of its Pods (Deployment and Argo Rollouts controllers). A
CronJob's Job is `NAME-MINUTES`, the unix minute of its schedule (CronJob controller v2). The kubelet names a static Pod
`NAME-NODE`. OpenShift labels the Pods of a DeploymentConfig. Sensors use the same rules, so both ends of a call agree.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from collector.kubernetes.objects import (
    Address,
    EndpointSliceObject,
    GatewayObject,
    HttpRouteObject,
    IngressObject,
    KubernetesObject,
    NamespaceObject,
    NetworkPolicyObject,
    PodObject,
    ServiceObject,
    read_time,
)

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


_ENDED = frozenset({"Succeeded", "Failed"})  # Its address may be another's already.


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port that a container declares; `host_port` is 0 where the node does not forward one."""

    number: int
    name: str
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`addresses` is empty before it has any and after it has ended. `started_at`: unix seconds, 0 where unknown."""

    namespace: str
    name: str
    uid: str
    workload: Workload
    node: str
    addresses: tuple[str, ...]
    node_addresses: tuple[str, ...]
    is_host_network: bool
    started_at: int
    labels: tuple[tuple[str, str], ...]
    ports: tuple[PodPort, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


def read_pod(pod: PodObject) -> Pod:
    """What is kept of a Pod; equal texts are one object in memory."""
    spec, status, metadata = pod.spec, pod.status, pod.metadata
    containers = (*(spec.containers or ()), *(spec.init_containers or ()))
    workload = find_workload(pod)
    has_ended = status.phase in _ENDED
    return Pod(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        workload=Workload(kind=sys.intern(workload.kind), name=sys.intern(workload.name)),
        node=sys.intern(spec.node_name),
        addresses=() if has_ended else _read_addresses(status.pod_ip, status.pod_ips),
        node_addresses=tuple(map(sys.intern, _read_addresses(status.host_ip, status.host_ips))),
        is_host_network=bool(spec.host_network),
        started_at=read_time(status.start_time),
        labels=tuple((sys.intern(key), sys.intern(value)) for key, value in sorted((metadata.labels or {}).items())),
        ports=tuple(
            PodPort(port.container_port, sys.intern(port.name), port.host_port or 0)
            for container in containers
            for port in container.ports or ()
            if port.protocol == "TCP"
        ),
    )


def _read_addresses(first: str, others: tuple[Address, ...] | None) -> tuple[str, ...]:
    """Without what comes twice: the first is in the list too."""
    found = dict.fromkeys([first, *(other.ip for other in others or ())])
    return tuple(text for text in found if text)


# Of one kind; Kubernetes itself is built for 150,000 Pods, some 100 MB here.
OBJECTS_MAX = 150_000
# The annotations that are read are short; longer ones are copies of the whole object and the like.
_ANNOTATION_BYTES_MAX = 512

Key = tuple[str, str]
_Kept = TypeVar("_Kept")
OnPod = Callable[[Pod | None, Pod | None], None]


class ClusterState:
    """One thread at a time."""

    def __init__(self, on_pod: OnPod = lambda before, after: None) -> None:
        """`on_pod` is told of every Pod that came, changed or went: what it was and what it is."""
        self._on_pod = on_pod
        self._kinds: dict[type, dict[Key, object]] = {
            kind: {}
            for kind in (
                PodObject,
                ServiceObject,
                EndpointSliceObject,
                IngressObject,
                GatewayObject,
                HttpRouteObject,
                NamespaceObject,
                NetworkPolicyObject,
            )
        }
        self.changes = 0
        self.dropped = 0

    def begin(self, kind: type[KubernetesObject]) -> "Listing":
        """A whole list, to come page by page; nothing changes before it is finished."""
        return Listing(kind, self)

    def replace(self, kind: type[KubernetesObject], kept: dict[Key, object]) -> None:
        """What is not in the list is gone."""
        before = self._kinds[kind]
        self._kinds[kind] = kept
        self.changes += 1
        if kind is PodObject:
            for key in [*before.keys() - kept.keys(), *kept]:
                self._tell(before.get(key), kept.get(key))

    def put(self, one: KubernetesObject) -> None:
        """Added or modified."""
        kept, compact = self._kinds[type(one)], _compact(one)
        if kept.get(one.key) == compact:
            return  # Most updates touch what is not kept: a heartbeat, a condition.
        if one.key not in kept and len(kept) >= OBJECTS_MAX:
            self.dropped += 1
            return
        before, kept[one.key] = kept.get(one.key), compact
        self.changes += 1
        self._tell(before, compact)

    def remove(self, one: KubernetesObject) -> None:
        """Deleted."""
        before = self._kinds[type(one)].pop(one.key, None)
        if before is not None:
            self.changes += 1
            self._tell(before, None)

    @property
    def pods(self) -> Mapping[Key, Pod]:
        """Pods by (namespace, name), as the others."""
        return self._read(PodObject, Pod)

    @property
    def services(self) -> Mapping[Key, ServiceObject]:
        return self._read(ServiceObject, ServiceObject)

    @property
    def slices(self) -> Mapping[Key, EndpointSliceObject]:
        return self._read(EndpointSliceObject, EndpointSliceObject)

    @property
    def ingresses(self) -> Mapping[Key, IngressObject]:
        return self._read(IngressObject, IngressObject)

    @property
    def gateways(self) -> Mapping[Key, GatewayObject]:
        return self._read(GatewayObject, GatewayObject)

    @property
    def http_routes(self) -> Mapping[Key, HttpRouteObject]:
        return self._read(HttpRouteObject, HttpRouteObject)

    @property
    def namespaces(self) -> Mapping[Key, NamespaceObject]:
        return self._read(NamespaceObject, NamespaceObject)

    @property
    def policies(self) -> Mapping[Key, NetworkPolicyObject]:
        return self._read(NetworkPolicyObject, NetworkPolicyObject)

    def _tell(self, before: object, after: object) -> None:
        if before != after and isinstance(before, Pod | None) and isinstance(after, Pod | None):
            self._on_pod(before, after)

    def _read(self, kind: type, kept: type[_Kept]) -> Mapping[Key, _Kept]:
        return self._kinds[kind]  # type: ignore[return-value]


class Listing:
    """Pages of one list; each object is let go once it is read."""

    def __init__(self, kind: type[KubernetesObject], state: ClusterState) -> None:
        self._kind = kind
        self._state = state
        self._kept: dict[Key, object] = {}

    def add(self, page: Iterable[KubernetesObject]) -> None:
        """The next page."""
        for one in page:
            if len(self._kept) < OBJECTS_MAX:
                self._kept[one.key] = _compact(one)
            else:
                self._state.dropped += 1

    def finish(self) -> None:
        """That was all."""
        self._state.replace(self._kind, self._kept)


def _compact(one: KubernetesObject) -> object:
    """What is kept: of the metadata what never changes without meaning."""
    if isinstance(one, PodObject):
        return read_pod(one)
    annotations = {k: v for k, v in (one.metadata.annotations or {}).items() if len(v) <= _ANNOTATION_BYTES_MAX}
    metadata = msgspec.structs.replace(one.metadata, resource_version="", annotations=annotations)
    return msgspec.structs.replace(one, metadata=metadata)
