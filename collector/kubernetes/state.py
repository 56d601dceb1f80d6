"""The state of one cluster, kept up to date: objects of the API server in, what is kept of them out. No I/O, no clock.

The first part are the objects, decoded from JSON into narrow structs. All else is ignored. Names and optionality are
those of the API reference (v1.34: core/v1, discovery.k8s.io/v1, networking.k8s.io/v1) and of
gateway.networking.k8s.io/v1. A list may be null wherever the reference calls it optional.

Bounded: at most OBJECTS_MAX objects of each kind. Further ones are counted and named nowhere. A `Pod` takes a few
hundred bytes of the ten thousand that the API server sends.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import msgspec
from msgspec import field

from common.kubernetes.objects import Metadata, Part, Workload, find_workload, read_time
from common.kubernetes.reflector import OBJECTS_MAX, WatchCounts

Labels = dict[str, str]


# The API server lets no other in; a table's column holds no other.
PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class _Object(Part, frozen=True, kw_only=True):
    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.metadata.namespace, self.metadata.name


class ContainerPort(Part, frozen=True, kw_only=True):
    container_port: PortNumber = 0
    host_port: PortNumber | None = None
    protocol: str = "TCP"


class Container(Part, frozen=True, kw_only=True):
    ports: tuple[ContainerPort, ...] | None = None


class PodSpec(Part, frozen=True, kw_only=True):
    node_name: str = ""
    host_network: bool | None = None
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None  # Sidecars are among them.


class Address(Part, frozen=True, kw_only=True):
    ip: str = ""


class PodStatus(Part, frozen=True, kw_only=True):
    phase: str = ""
    start_time: str | None = None  # RFC 3339.
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[Address, ...] | None = field(name="podIPs", default=None)
    host_ip: str = field(name="hostIP", default="")
    host_ips: tuple[Address, ...] | None = field(name="hostIPs", default=None)


class PodObject(_Object, frozen=True, kw_only=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ServicePort(Part, frozen=True, kw_only=True):
    port: PortNumber
    name: str = ""
    node_port: PortNumber | None = None


class LoadBalancerIngress(Part, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Part, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(Part, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus | None = None


class ServiceSpec(Part, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = field(name="clusterIPs", default=None)
    external_ips: tuple[str, ...] | None = field(name="externalIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None


class ServiceObject(_Object, frozen=True, kw_only=True):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class TargetReference(Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""


class SliceEndpoint(Part, frozen=True, kw_only=True):
    target_ref: TargetReference | None = None


class SlicePort(Part, frozen=True, kw_only=True):
    name: str | None = None
    port: PortNumber | None = None


class EndpointSliceObject(_Object, frozen=True, kw_only=True):
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None

    @property
    def service(self) -> tuple[str, str]:
        """(namespace, name) of its Service; the name is empty for a slice of nobody."""
        return self.metadata.namespace, (self.metadata.labels or {}).get("kubernetes.io/service-name", "")


class BackendPort(Part, frozen=True, kw_only=True):
    number: int | None = None
    name: str = ""


class IngressServiceBackend(Part, frozen=True, kw_only=True):
    name: str
    port: BackendPort = BackendPort()


class IngressBackend(Part, frozen=True, kw_only=True):
    service: IngressServiceBackend | None = None


class HttpIngressPath(Part, frozen=True, kw_only=True):
    backend: IngressBackend
    path: str = ""
    path_type: str = "ImplementationSpecific"


class HttpIngressRule(Part, frozen=True, kw_only=True):
    paths: tuple[HttpIngressPath, ...] | None = None


class IngressRule(Part, frozen=True, kw_only=True):
    host: str = ""
    http: HttpIngressRule | None = None


class IngressTls(Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None


class IngressSpec(Part, frozen=True, kw_only=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTls, ...] | None = None


class IngressObject(_Object, frozen=True, kw_only=True):
    spec: IngressSpec = IngressSpec()


class LabelSelectorRequirement(Part, frozen=True, kw_only=True):
    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(Part, frozen=True, kw_only=True):
    match_labels: Labels | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = None


class RouteNamespaces(Part, frozen=True, kw_only=True):
    from_: str = field(name="from", default="Same")
    selector: LabelSelector | None = None


class AllowedRoutes(Part, frozen=True, kw_only=True):
    namespaces: RouteNamespaces | None = None


class Listener(Part, frozen=True, kw_only=True):
    name: str
    port: PortNumber
    protocol: str
    hostname: str | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(Part, frozen=True, kw_only=True):
    value: str = ""


class GatewaySpec(Part, frozen=True, kw_only=True):
    listeners: tuple[Listener, ...] | None = None


class GatewayStatus(Part, frozen=True, kw_only=True):
    addresses: tuple[GatewayAddress, ...] | None = None


class GatewayObject(_Object, frozen=True, kw_only=True):
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class ParentReference(Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Gateway"
    namespace: str | None = None
    section_name: str | None = None
    port: PortNumber | None = None


class HttpPathMatch(Part, frozen=True, kw_only=True):
    type: str = "PathPrefix"
    value: str = "/"


class HttpRouteMatch(Part, frozen=True, kw_only=True):
    path: HttpPathMatch | None = None
    method: str | None = None


class HttpRouteFilter(Part, frozen=True, kw_only=True):
    type: str


class HttpBackend(Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Service"
    namespace: str | None = None
    port: PortNumber | None = None


class HttpRouteRule(Part, frozen=True, kw_only=True):
    matches: tuple[HttpRouteMatch, ...] | None = None
    filters: tuple[HttpRouteFilter, ...] | None = None
    backend_refs: tuple[HttpBackend, ...] | None = None


class HttpRouteSpec(Part, frozen=True, kw_only=True):
    parent_refs: tuple[ParentReference, ...] | None = None
    hostnames: tuple[str, ...] | None = None
    rules: tuple[HttpRouteRule, ...] | None = None


class HttpRouteObject(_Object, frozen=True, kw_only=True):
    spec: HttpRouteSpec = HttpRouteSpec()


class NamespaceObject(_Object, frozen=True, kw_only=True):
    pass


class IpBlock(Part, frozen=True, kw_only=True):
    cidr: str


class PolicyPeer(Part, frozen=True, kw_only=True):
    ip_block: IpBlock | None = None


class PolicyIngressRule(Part, frozen=True, kw_only=True):
    from_: tuple[PolicyPeer, ...] | None = field(name="from", default=None)


class PolicySpec(Part, frozen=True, kw_only=True):
    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] | None = None
    ingress: tuple[PolicyIngressRule, ...] | None = None


class NetworkPolicyObject(_Object, frozen=True, kw_only=True):
    spec: PolicySpec = PolicySpec()


# Of which all that is decoded is kept.
_KeptWhole = (
    ServiceObject
    | EndpointSliceObject
    | IngressObject
    | GatewayObject
    | HttpRouteObject
    | NamespaceObject
    | NetworkPolicyObject
)
KubernetesObject = PodObject | _KeptWhole


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector takes these labels, as apimachinery's `labels` package; an empty one takes all."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for one in selector.match_expressions or ():
        values, value = one.values or (), labels.get(one.key)
        is_met = {
            "In": value in values,
            "NotIn": value not in values,  # Also where there is no such label.
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(one.operator, False)
        if not is_met:
            return False
    return True


_ENDED = frozenset({"Succeeded", "Failed"})  # Its address may be another's already.


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port that a container declares; `host_port` is 0 where the node does not forward one."""

    number: int
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
    workload = find_workload(metadata, spec.node_name)
    has_ended = status.phase in _ENDED
    return Pod(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        workload=Workload(sys.intern(workload.kind), sys.intern(workload.name)),
        node=sys.intern(spec.node_name),
        addresses=() if has_ended else _read_addresses(status.pod_ip, status.pod_ips),
        node_addresses=tuple(map(sys.intern, _read_addresses(status.host_ip, status.host_ips))),
        is_host_network=bool(spec.host_network),
        started_at=read_time(status.start_time),
        labels=tuple((sys.intern(key), sys.intern(value)) for key, value in sorted((metadata.labels or {}).items())),
        ports=tuple(
            PodPort(port.container_port, port.host_port or 0)
            for container in containers
            for port in container.ports or ()
            if port.protocol == "TCP"
        ),
    )


def _read_addresses(first: str, others: tuple[Address, ...] | None) -> tuple[str, ...]:
    """Without what comes twice: the first is in the list too."""
    found = dict.fromkeys([first, *(other.ip for other in others or ())])
    return tuple(text for text in found if text)


# The annotations that are read are short; longer ones are copies of the whole object and the like.
_ANNOTATION_BYTES_MAX = 512

Key = tuple[str, str]
Kept = Pod | _KeptWhole
OnPod = Callable[[Pod | None, Pod | None], None]


class ClusterState:
    """One thread at a time."""

    def __init__(self, on_pod: OnPod = lambda before, after: None, counts: WatchCounts | None = None) -> None:
        """`on_pod` gets every Pod that came, changed or went: what it was and what it is."""
        self._on_pod = on_pod
        self._counts = counts or WatchCounts()
        self._kinds: dict[type, dict[Key, Any]] = {kind: {} for kind in get_args(KubernetesObject)}
        self.changes = 0

    def replace(self, kind: type, listed: Sequence[Kept]) -> None:
        """What is not in the list is gone."""
        before, kept = self._kinds[kind], {one.key: one for one in listed}
        self._kinds[kind] = kept
        self.changes += 1
        if kind is PodObject:
            for key in [*before.keys() - kept.keys(), *kept]:
                self._report_pod(before.get(key), kept.get(key))

    def put(self, kind: type, one: Kept) -> None:
        """Added or modified."""
        kept = self._kinds[kind]
        before = kept.get(one.key)
        if before == one:
            return  # Most updates touch what is not kept: a heartbeat, a condition.
        if before is None and len(kept) >= OBJECTS_MAX:
            self._counts.objects_dropped += 1
            return
        kept[one.key] = one
        self.changes += 1
        self._report_pod(before, one)

    def remove(self, kind: type, one: Kept) -> None:
        """Deleted."""
        before = self._kinds[kind].pop(one.key, None)
        if before is not None:
            self.changes += 1
            self._report_pod(before, None)

    @property
    def pods(self) -> Mapping[Key, Pod]:
        """By (namespace, name), as the others."""
        return self._kinds[PodObject]

    @property
    def services(self) -> Mapping[Key, ServiceObject]:
        return self._kinds[ServiceObject]

    @property
    def slices(self) -> Mapping[Key, EndpointSliceObject]:
        return self._kinds[EndpointSliceObject]

    @property
    def ingresses(self) -> Mapping[Key, IngressObject]:
        return self._kinds[IngressObject]

    @property
    def gateways(self) -> Mapping[Key, GatewayObject]:
        return self._kinds[GatewayObject]

    @property
    def http_routes(self) -> Mapping[Key, HttpRouteObject]:
        return self._kinds[HttpRouteObject]

    @property
    def namespaces(self) -> Mapping[Key, NamespaceObject]:
        return self._kinds[NamespaceObject]

    @property
    def policies(self) -> Mapping[Key, NetworkPolicyObject]:
        return self._kinds[NetworkPolicyObject]

    def _report_pod(self, before: object, after: object) -> None:
        if before != after and isinstance(before, Pod | None) and isinstance(after, Pod | None):
            self._on_pod(before, after)


def read_kept(one: KubernetesObject) -> Kept:
    """What is kept of an object: of the metadata what never changes without meaning."""
    if isinstance(one, PodObject):
        return read_pod(one)
    annotations = {k: v for k, v in (one.metadata.annotations or {}).items() if len(v) <= _ANNOTATION_BYTES_MAX}
    metadata = msgspec.structs.replace(one.metadata, resource_version="", annotations=annotations)
    return msgspec.structs.replace(one, metadata=metadata)
