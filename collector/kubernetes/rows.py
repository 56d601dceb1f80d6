"""Rows of the store about Kubernetes: who held an address, and facts that lead to a workload's port or limit who
reaches it. The store keeps facts as JSON.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final


class FactKind(StrEnum):
    """What leads there, or holds back."""

    CLUSTER_IP = "cluster_ip"
    NODE_PORT = "node_port"
    LOAD_BALANCER = "load_balancer"
    EXTERNAL_IP = "external_ip"
    INGRESS = "ingress"
    HTTP_ROUTE = "http_route"
    GRPC_ROUTE = "grpc_route"
    TLS_ROUTE = "tls_route"
    OPENSHIFT_ROUTE = "openshift_route"
    INGRESS_ROUTE = "ingress_route"
    VIRTUAL_SERVICE = "virtual_service"
    HOST_PORT = "host_port"
    HOST_NETWORK = "host_network"
    NETWORK_POLICY = "network_policy"


# Those that lead by host and path, by what the project calls them.
ROUTES: Final = {
    FactKind.INGRESS: "Ingress",
    FactKind.HTTP_ROUTE: "HTTPRoute",
    FactKind.GRPC_ROUTE: "GRPCRoute",
    FactKind.TLS_ROUTE: "TLSRoute",
    FactKind.OPENSHIFT_ROUTE: "OpenShift Route",
    FactKind.INGRESS_ROUTE: "IngressRoute",
    FactKind.VIRTUAL_SERVICE: "VirtualService",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fact:
    """`source` is the object that says so, `namespace/name`. `host` `*` is any. A path counts for endpoints whose
    template it can lead to, unless `is_rewritten`: then the workload sees another path. `is_external`: from outside the
    cluster. `note`: in a few words what else is known."""

    kind: FactKind
    source: str
    host: str = ""
    path: str = ""
    path_type: str = ""  # Exact, Prefix or Pattern.
    method: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    is_external: bool = False
    is_tls: bool = False
    is_rewritten: bool = False
    note: str = ""


def write_facts(facts: Iterable[Fact]) -> str:
    """JSON without what is empty; equal sets give equal texts."""
    rows = [{name: value for name, value in asdict(fact).items() if value} for fact in sorted(set(facts))]
    return json.dumps(rows, separators=(",", ":"))


def read_facts(text: str) -> tuple[Fact, ...]:
    """The inverse of `write_facts`."""
    return tuple(
        Fact(**{**row, "kind": FactKind(row["kind"]), "addresses": tuple(row.get("addresses", ()))})
        for row in json.loads(text)
    )


class PeerKind(StrEnum):
    """What an address stands for."""

    POD = "pod"  # One Pod that has it for itself.
    NODE = "node"  # A node: all Pods on its network share the address, and what is translated leaves with it.
    SERVICE = "service"  # A ClusterIP, an external address of a Service or, at any node, its NodePort.


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One row of `peer_addresses`. `port` 0: any. `address` empty: that of any node. Times are unix seconds; `until`
    0: still."""

    address: str
    port: int
    since: int
    kind: str
    namespace: str
    name: str
    cluster: str = ""
    until: int = 0
    workload: str = ""  # Of a Pod.
    workload_kind: str = ""  # Kubernetes' own: Deployment, ...
    node: str = ""
    services: tuple[str, ...] = ()  # `namespace/name` of those that lead to a Pod.
    workloads: tuple[str, ...] = ()  # `namespace/workload:port` of those that a Service leads to.
    version: int = 0

    @property
    def holding(self) -> tuple[str, int, str, str, str]:
        """What is held, and by whom: one interval at a time."""
        return self.address, self.port, self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAddresses:
    """What is held at one moment: by Pods for themselves, and by nodes, whose addresses many share."""

    pods: tuple[Peer, ...]
    nodes: Mapping[str, str]  # Names by address.


_OWN_KINDS: Final = ("", "Pod", "StaticPod")  # Of Pods that no workload makes again.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadName:
    """`NAMESPACE/KIND/NAME`; `kind` as Kubernetes spells it, empty: whichever."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return "/".join(filter(None, (self.namespace, self.kind, self.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHolder:
    """The Pod that holds an address since a time (unix seconds): the next one there is another, whatever its name."""

    cluster: str  # As blocks name it.
    namespace: str
    name: str
    workload_kind: str
    workload: str
    since: int

    @property
    def has_workload(self) -> bool:
        """Whether something makes another Pod like it."""
        return self.workload_kind not in _OWN_KINDS

    @property
    def workload_name(self) -> WorkloadName:
        """What it belongs to."""
        return WorkloadName(namespace=self.namespace, kind=self.workload_kind, name=self.workload)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}" + (f" of {self.workload_name}" if self.has_workload else "")
