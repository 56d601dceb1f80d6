"""One fact that leads to a workload's port, or limits who reaches it. The store keeps it as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class PeerKind(StrEnum):
    """What an address stands for."""

    POD = "pod"  # One Pod that has it for itself.
    NODE = "node"  # A node: all Pods on its network share the address, and what is translated leaves with it.
    SERVICE = "service"  # A ClusterIP, an external address of a Service or, at any node, its NodePort.


class FactKind(StrEnum):
    """What leads there, or holds back."""

    CLUSTER_IP = "cluster_ip"
    NODE_PORT = "node_port"
    LOAD_BALANCER = "load_balancer"
    EXTERNAL_IP = "external_ip"
    INGRESS = "ingress"
    HTTP_ROUTE = "http_route"
    HOST_PORT = "host_port"
    HOST_NETWORK = "host_network"
    NETWORK_POLICY = "network_policy"


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
