"""The parts of Kubernetes objects that the collector reads, decoded from JSON into narrow structs. All else is ignored.

Names and optionality are those of the API reference (v1.34: core/v1, discovery.k8s.io/v1, networking.k8s.io/v1) and of
gateway.networking.k8s.io/v1. A list may be null wherever the reference calls it optional. `selects` matches label
selectors like apimachinery's `labels` package. `read_time` reads RFC 3339. Pure.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import field

Labels = dict[str, str]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of an object; camelCase on the wire."""


class OwnerReference(_Part, frozen=True, kw_only=True):
    kind: str
    name: str
    controller: bool | None = None


class Metadata(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None  # RFC 3339.
    labels: Labels | None = None
    annotations: Labels | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class _Object(_Part, frozen=True, kw_only=True):
    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.metadata.namespace, self.metadata.name


class ContainerPort(_Part, frozen=True, kw_only=True):
    container_port: int = 0
    host_port: int | None = None
    name: str = ""
    protocol: str = "TCP"


class Container(_Part, frozen=True, kw_only=True):
    ports: tuple[ContainerPort, ...] | None = None


class PodSpec(_Part, frozen=True, kw_only=True):
    node_name: str = ""
    host_network: bool | None = None
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None  # Sidecars are among them.


class Address(_Part, frozen=True, kw_only=True):
    ip: str = ""


class PodStatus(_Part, frozen=True, kw_only=True):
    phase: str = ""
    start_time: str | None = None  # RFC 3339.
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[Address, ...] | None = field(name="podIPs", default=None)
    host_ip: str = field(name="hostIP", default="")
    host_ips: tuple[Address, ...] | None = field(name="hostIPs", default=None)


class PodObject(_Object, frozen=True, kw_only=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ServicePort(_Part, frozen=True, kw_only=True):
    port: int
    name: str = ""
    node_port: int | None = None
    protocol: str = "TCP"


class LoadBalancerIngress(_Part, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(_Part, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(_Part, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus | None = None


class ServiceSpec(_Part, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = field(name="clusterIPs", default=None)
    external_ips: tuple[str, ...] | None = field(name="externalIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None


class ServiceObject(_Object, frozen=True, kw_only=True):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class TargetReference(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(_Part, frozen=True, kw_only=True):
    addresses: tuple[str, ...] | None = None
    target_ref: TargetReference | None = None


class SlicePort(_Part, frozen=True, kw_only=True):
    name: str | None = None
    port: int | None = None


class EndpointSliceObject(_Object, frozen=True, kw_only=True):
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None

    @property
    def service(self) -> tuple[str, str]:
        """(namespace, name) of its Service; the name is empty for a slice of nobody."""
        return self.metadata.namespace, (self.metadata.labels or {}).get("kubernetes.io/service-name", "")


class BackendPort(_Part, frozen=True, kw_only=True):
    number: int | None = None
    name: str = ""


class IngressServiceBackend(_Part, frozen=True, kw_only=True):
    name: str
    port: BackendPort = BackendPort()


class IngressBackend(_Part, frozen=True, kw_only=True):
    service: IngressServiceBackend | None = None


class HttpIngressPath(_Part, frozen=True, kw_only=True):
    backend: IngressBackend
    path: str = ""
    path_type: str = "ImplementationSpecific"


class HttpIngressRule(_Part, frozen=True, kw_only=True):
    paths: tuple[HttpIngressPath, ...] | None = None


class IngressRule(_Part, frozen=True, kw_only=True):
    host: str = ""
    http: HttpIngressRule | None = None


class IngressTls(_Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None


class IngressSpec(_Part, frozen=True, kw_only=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTls, ...] | None = None


class IngressObject(_Object, frozen=True, kw_only=True):
    spec: IngressSpec = IngressSpec()


class LabelSelectorRequirement(_Part, frozen=True, kw_only=True):
    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(_Part, frozen=True, kw_only=True):
    match_labels: Labels | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = None


class RouteNamespaces(_Part, frozen=True, kw_only=True):
    from_: str = field(name="from", default="Same")
    selector: LabelSelector | None = None


class AllowedRoutes(_Part, frozen=True, kw_only=True):
    namespaces: RouteNamespaces | None = None


class Listener(_Part, frozen=True, kw_only=True):
    name: str
    port: int
    protocol: str
    hostname: str | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(_Part, frozen=True, kw_only=True):
    value: str = ""


class GatewaySpec(_Part, frozen=True, kw_only=True):
    gateway_class_name: str = ""
    listeners: tuple[Listener, ...] | None = None


class GatewayStatus(_Part, frozen=True, kw_only=True):
    addresses: tuple[GatewayAddress, ...] | None = None


class GatewayObject(_Object, frozen=True, kw_only=True):
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class ParentReference(_Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Gateway"
    namespace: str | None = None
    section_name: str | None = None
    port: int | None = None


class HttpPathMatch(_Part, frozen=True, kw_only=True):
    type: str = "PathPrefix"
    value: str = "/"


class HttpRouteMatch(_Part, frozen=True, kw_only=True):
    path: HttpPathMatch | None = None
    method: str | None = None


class HttpRouteFilter(_Part, frozen=True, kw_only=True):
    type: str


class HttpBackend(_Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Service"
    namespace: str | None = None
    port: int | None = None


class HttpRouteRule(_Part, frozen=True, kw_only=True):
    matches: tuple[HttpRouteMatch, ...] | None = None
    filters: tuple[HttpRouteFilter, ...] | None = None
    backend_refs: tuple[HttpBackend, ...] | None = None


class HttpRouteSpec(_Part, frozen=True, kw_only=True):
    parent_refs: tuple[ParentReference, ...] | None = None
    hostnames: tuple[str, ...] | None = None
    rules: tuple[HttpRouteRule, ...] | None = None


class HttpRouteObject(_Object, frozen=True, kw_only=True):
    spec: HttpRouteSpec = HttpRouteSpec()


class NamespaceObject(_Object, frozen=True, kw_only=True):
    pass


class IpBlock(_Part, frozen=True, kw_only=True):
    cidr: str


class PolicyPeer(_Part, frozen=True, kw_only=True):
    ip_block: IpBlock | None = None


class PolicyPort(_Part, frozen=True, kw_only=True):
    port: int | str | None = None
    end_port: int | None = None
    protocol: str = "TCP"


class PolicyIngressRule(_Part, frozen=True, kw_only=True):
    from_: tuple[PolicyPeer, ...] | None = field(name="from", default=None)
    ports: tuple[PolicyPort, ...] | None = None


class PolicySpec(_Part, frozen=True, kw_only=True):
    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] | None = None
    ingress: tuple[PolicyIngressRule, ...] | None = None


class NetworkPolicyObject(_Object, frozen=True, kw_only=True):
    spec: PolicySpec = PolicySpec()


KubernetesObject = (
    PodObject
    | ServiceObject
    | EndpointSliceObject
    | IngressObject
    | GatewayObject
    | HttpRouteObject
    | NamespaceObject
    | NetworkPolicyObject
)


class ListMetadata(_Part, frozen=True, kw_only=True):
    resource_version: str = ""
    continue_: str = field(name="continue", default="")


class WatchEvent(_Part, frozen=True, kw_only=True):
    """One line of a watch; `object` is decoded by its type."""

    type: str
    object: msgspec.Raw


class Bookmark(_Part, frozen=True, kw_only=True):
    metadata: Metadata = Metadata()


class ApiStatus(_Part, frozen=True, kw_only=True):
    """What the API server says where it refuses."""

    code: int = 0
    reason: str = ""
    message: str = ""


def list_type(item: type[Any]) -> type[Any]:
    """The struct of a list of these objects: `items` and `metadata`."""
    return msgspec.defstruct(
        f"{item.__name__}List",
        [("items", list[item] | None, None), ("metadata", ListMetadata, ListMetadata())],  # type: ignore[valid-type]
        kw_only=True,
    )


def read_time(text: str | None) -> int:
    """Unix seconds; 0 where there is none or it is no time."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else 0
    except ValueError:
        return 0


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a selector takes these labels; an empty one takes all."""
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
