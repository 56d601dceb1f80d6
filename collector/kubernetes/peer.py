"""Who holds an address, and from when to when: the type that the address book gives and the store keeps."""

from dataclasses import dataclass
from enum import StrEnum


class PeerKind(StrEnum):
    """What an address stands for."""

    POD = "pod"  # One Pod that has it for itself.
    NODE = "node"  # A node: all Pods on its network share the address, and what is translated leaves with it.
    SERVICE = "service"  # A ClusterIP, an external address of a Service or, at any node, its NodePort.


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One row of `peer_addresses`. `port` 0: any. `address` empty: that of any node. Times are unix seconds; `until`
    0: still."""

    cluster: str
    address: str
    port: int
    since: int
    until: int
    kind: str
    namespace: str
    name: str
    workload: str  # Of a Pod.
    workload_kind: str  # Kubernetes' own: Deployment, ...
    node: str
    services: tuple[str, ...]  # `namespace/name` of those that lead to a Pod.
    workloads: tuple[str, ...]  # `namespace/workload:port` of those that a Service leads to.
    version: int

    @property
    def holding(self) -> tuple[str, int, str, str, str]:
        """What is held, and by whom: one interval at a time."""
        return self.address, self.port, self.kind, self.namespace, self.name
