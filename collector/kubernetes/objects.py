"""The parts of Kubernetes objects that the collector reads, decoded from JSON into narrow structs. All else is ignored.

Names and optionality are those of the API reference (v1.34: core/v1, discovery.k8s.io/v1, networking.k8s.io/v1) and of
gateway.networking.k8s.io/v1. A list may be null wherever the reference calls it optional. `selects` matches label
selectors like apimachinery's `labels` package. Pure.
"""

from collections.abc import Mapping

from msgspec import field

from common.kubernetes.objects import Metadata, Part

Labels = dict[str, str]


class _Object(Part, frozen=True, kw_only=True):
    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.metadata.namespace, self.metadata.name


class ContainerPort(Part, frozen=True, kw_only=True):
    container_port: int = 0
    host_port: int | None = None
    name: str = ""
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
    port: int
    name: str = ""
    node_port: int | None = None
    protocol: str = "TCP"


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
    namespace: str = ""


class SliceEndpoint(Part, frozen=True, kw_only=True):
    addresses: tuple[str, ...] | None = None
    target_ref: TargetReference | None = None


class SlicePort(Part, frozen=True, kw_only=True):
    name: str | None = None
    port: int | None = None


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
    port: int
    protocol: str
    hostname: str | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(Part, frozen=True, kw_only=True):
    value: str = ""


class GatewaySpec(Part, frozen=True, kw_only=True):
    gateway_class_name: str = ""
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
    port: int | None = None


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
    port: int | None = None


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


class PolicyPort(Part, frozen=True, kw_only=True):
    port: int | str | None = None
    end_port: int | None = None
    protocol: str = "TCP"


class PolicyIngressRule(Part, frozen=True, kw_only=True):
    from_: tuple[PolicyPeer, ...] | None = field(name="from", default=None)
    ports: tuple[PolicyPort, ...] | None = None


class PolicySpec(Part, frozen=True, kw_only=True):
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
