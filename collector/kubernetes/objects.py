"""Objects of the API server that every cluster has, decoded from JSON into narrow structs. All else is ignored.

Names and optionality are those of the API reference (v1.34: core/v1, discovery.k8s.io/v1, networking.k8s.io/v1). A list
may be null wherever the reference calls it optional. Objects that lead to Services from outside are in
collector/kubernetes/routes.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import field

from common.kubernetes.objects import Metadata, Part

Labels = dict[str, str]


# The API server lets no other in; a table's column holds no other.
PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class Object(Part, frozen=True, kw_only=True):
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


class PodObject(Object, frozen=True, kw_only=True):
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


class ServiceObject(Object, frozen=True, kw_only=True):
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


class EndpointSliceObject(Object, frozen=True, kw_only=True):
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None

    @property
    def service(self) -> tuple[str, str]:
        """(namespace, name) of its Service; the name is empty for a slice of nobody."""
        return self.metadata.namespace, (self.metadata.labels or {}).get("kubernetes.io/service-name", "")


class LabelSelectorRequirement(Part, frozen=True, kw_only=True):
    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(Part, frozen=True, kw_only=True):
    match_labels: Labels | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = None


class NamespaceObject(Object, frozen=True, kw_only=True):
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


class NetworkPolicyObject(Object, frozen=True, kw_only=True):
    spec: PolicySpec = PolicySpec()


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
