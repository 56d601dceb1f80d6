"""The address book of a cluster: who held which address when, for Pods, nodes and Services. Pure.

Addresses of Pods are reused, so a call must be named by its time. A Pod's interval begins when its node accepted it. It
ends when the API server says that the Pod has ended or is gone, which is never too early. Where the intervals of two
Pods at one address meet, a call between them is nobody's rather than the wrong one's.

`Targets` reads the EndpointSlices: which workloads a Service leads to, and which Services lead to a Pod. Slices are
better than selectors: they have named target ports as numbers, Pod by Pod, and cover Services without a selector.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from collector.kubernetes.objects import EndpointSliceObject, ServiceObject, ServicePort
from collector.kubernetes.rows import HeldAddresses, Peer, PeerKind
from collector.kubernetes.state import ClusterState, Key, Pod
from common.kubernetes.objects import read_time

_NO_NODES: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A workload's port, as the sensors name a service."""

    namespace: str
    workload: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.workload}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A port of a Service, by its number, its name, or the Pods' port; any port where none is given."""

    namespace: str
    name: str
    number: int = 0
    port_name: str = ""
    pod_port: int = 0


class Targets:
    """An index of a state at one moment; 30 ms for 5,000 Pods."""

    def __init__(self, state: ClusterState) -> None:
        self._services = state.services
        self._by_port: dict[tuple[Key, str], set[Target]] = defaultdict(set)
        self._services_of: dict[Key, set[str]] = defaultdict(set)
        for one in state.slices.values():
            if one.service[1]:
                self._read_slice(one, state)

    def _read_slice(self, one: EndpointSliceObject, state: ClusterState) -> None:
        namespace, service = one.service
        for endpoint in one.endpoints or ():
            reference = endpoint.target_ref
            pod = state.pods.get((namespace, reference.name)) if reference and reference.kind == "Pod" else None
            if pod is None:
                continue
            self._services_of[pod.key].add(f"{namespace}/{service}")
            for port in one.ports or ():
                if port.port:
                    target = Target(namespace, pod.workload.name, port.port)
                    self._by_port[one.service, port.name or ""].add(target)

    def list_services(self, pod: Key) -> tuple[str, ...]:
        """`namespace/name` of the Services that lead to a Pod."""
        return tuple(sorted(self._services_of.get(pod, ())))

    def find(self, service: ServiceObject, port: ServicePort) -> tuple[Target, ...]:
        """Where a port of a Service leads."""
        return tuple(sorted(self._by_port.get((service.key, port.name), ())))

    def find_all(self, service: ServiceObject) -> tuple[Target, ...]:
        """Where a Service leads by any port."""
        return tuple(sorted({target for port in service.spec.ports or () for target in self.find(service, port)}))

    def find_backend(self, backend: Backend) -> tuple[Target, ...]:
        """Where a backend of an Ingress or a route leads."""
        service = self._services.get((backend.namespace, backend.name))
        if service is None:
            return ()
        for one in service.spec.ports or ():
            if (backend.port_name and one.name == backend.port_name) or (backend.number and one.port == backend.number):
                return self.find(service, one)
        if backend.port_name or backend.number:
            return ()
        return tuple(one for one in self.find_all(service) if backend.pod_port in (0, one.port))


_NO_ADDRESS = frozenset({"", "None"})
_Holding = tuple[str, int, str, str, str]


class AddressBook:
    """One thread at a time."""

    def __init__(self, cluster: str, open_peers: Iterable[Peer] = ()) -> None:
        """`open_peers`: what the store holds as current, so that a restart begins no interval anew."""
        self._cluster = cluster
        self._open = {peer.holding: peer for peer in open_peers}
        self._version = max((peer.version for peer in self._open.values()), default=0)
        self._changed: dict[tuple[_Holding, int], Peer] = {}

    def follow(self, before: Pod | None, after: Pod | None, now: float) -> None:
        """A Pod came, changed or went."""
        old = {peer.holding for peer in self._list_pod(before, now)} if before else set()
        new = {peer.holding: peer for peer in self._list_pod(after, now)} if after else {}
        is_another = bool(before and after and before.uid != after.uid)
        for holding in old if is_another else old - new.keys():
            self._end(holding, now)
        for holding, peer in new.items():
            if holding not in self._open:
                self._put(peer)

    def refresh(
        self,
        state: ClusterState,
        targets: Targets,
        now: float,
        node_addresses: Mapping[str, frozenset[str]] = _NO_NODES,
    ) -> None:
        """Nodes, Services and what leads to Pods, as they are now. To be called once the lists are complete.
        `node_addresses`: more addresses of nodes, by node, as their sensors say."""
        listed = list(self._list_services(state, targets, now))
        taken = {peer.address for peer in listed} | list_pod_addresses(state)
        more = {node: addresses - taken for node, addresses in node_addresses.items()}
        fixed = {peer.holding: peer for peer in (*listed, *_list_nodes(state, more))}
        pods = {peer.holding: pod for pod in state.pods.values() for peer in self._list_pod(pod, now)}
        for holding, peer in list(self._open.items()):
            if holding in pods:
                services = targets.list_services(pods[holding].key)
                if services and services != peer.services:
                    self._put(replace(peer, services=services))
            elif holding not in fixed:
                self._end(holding, now)
        for holding, peer in fixed.items():
            known = self._open.get(holding)
            if known is None:
                self._put(replace(peer, cluster=self._cluster))
            elif known.workloads != peer.workloads:
                self._put(replace(known, workloads=peer.workloads))

    def list_held(self, pods: Mapping[Key, Pod]) -> HeldAddresses:
        """What these Pods hold now. It copies what it reads, and so is for any thread."""
        nodes = {address: pod.node for pod in pods.values() for address in pod.node_addresses}
        held = []
        for peer in tuple(self._open.values()):
            if peer.kind == PeerKind.NODE.value:
                nodes.setdefault(peer.address, peer.node)
            pod = pods.get((peer.namespace, peer.name)) if peer.kind == PeerKind.POD.value and not peer.port else None
            if pod is not None and not pod.is_host_network and peer.address in pod.addresses:
                held.append(peer)
        return HeldAddresses(pods=tuple(peer for peer in held if peer.address not in nodes), nodes=nodes)

    def take_changed(self, now: float) -> list[Peer]:
        """What began, changed or ended since the last time, as rows for the store: newer than those before, also where
        the clock was put back."""
        self._version = max(int(now * 1_000_000), self._version + 1)
        changed, self._changed = self._changed, {}
        return [replace(peer, version=self._version) for peer in changed.values()]

    def give_back(self, peers: Iterable[Peer]) -> None:
        """Rows that could not be stored: they come again, unless something newer is known."""
        self._changed = {(peer.holding, peer.since): peer for peer in peers} | self._changed

    def _put(self, peer: Peer) -> None:
        self._open[peer.holding] = peer
        self._changed[peer.holding, peer.since] = peer

    def _end(self, holding: _Holding, now: float) -> None:
        peer = self._open.pop(holding, None)
        if peer is not None:
            self._changed[holding, peer.since] = replace(peer, until=max(int(now) + 1, peer.since + 1))

    def _list_pod(self, pod: Pod, now: float) -> Iterator[Peer]:
        """What a Pod holds: its own addresses, and ports of its node. On its node's network it has none of its own."""
        held = [] if pod.is_host_network else [(address, 0) for address in pod.addresses]
        if pod.addresses:
            ports = {port.host_port for port in pod.ports if port.host_port}
            held += [(address, port) for address in pod.node_addresses for port in sorted(ports)]
        for address, port in held:
            yield Peer(
                cluster=self._cluster,
                address=address,
                port=port,
                since=pod.started_at or int(now),
                kind=PeerKind.POD.value,
                namespace=pod.namespace,
                name=pod.name,
                workload=pod.workload.name,
                workload_kind=pod.workload.kind,
                node=pod.node,
            )

    def _list_services(self, state: ClusterState, targets: Targets, now: float) -> Iterator[Peer]:
        for service in state.services.values():
            spec = service.spec
            balancer = service.status.load_balancer
            balanced = [one.ip for one in (balancer.ingress or ())] if balancer else []
            addresses = {spec.cluster_ip, *(spec.cluster_ips or ()), *(spec.external_ips or ()), *balanced}
            since = read_time(service.metadata.creation_timestamp) or int(now)
            namespace, name = service.key
            everything = tuple(map(str, targets.find_all(service)))
            for address in sorted(addresses - _NO_ADDRESS):
                yield _fixed(PeerKind.SERVICE, address, 0, since, namespace, name, everything)
            for port in spec.ports or ():
                if port.node_port:
                    led = tuple(map(str, targets.find(service, port)))
                    yield _fixed(PeerKind.SERVICE, "", port.node_port, since, namespace, name, led)


def list_pod_addresses(state: ClusterState) -> set[str]:
    """Addresses that Pods have for themselves."""
    return {address for pod in state.pods.values() if not pod.is_host_network for address in pod.addresses}


def _list_nodes(state: ClusterState, more: Mapping[str, frozenset[str]]) -> Iterator[Peer]:
    """Nodes by their Pods, and `more` addresses of these nodes: a node without any Pod is called by nobody. It is as
    old as its oldest Pod."""
    since: dict[tuple[str, str], int] = {}
    for pod in state.pods.values():
        for address in {*pod.node_addresses, *more.get(pod.node, ())}:
            if pod.node:
                at = (address, pod.node)
                since[at] = min(since.get(at, pod.started_at), pod.started_at)
    for (address, node), started_at in since.items():
        yield replace(_fixed(PeerKind.NODE, address, 0, started_at, "", node, ()), node=node)


def _fixed(
    kind: PeerKind, address: str, port: int, since: int, namespace: str, name: str, workloads: tuple[str, ...]
) -> Peer:
    return Peer(
        address=address,
        port=port,
        since=since,
        kind=kind.value,
        namespace=namespace,
        name=name,
        workloads=workloads,
    )
