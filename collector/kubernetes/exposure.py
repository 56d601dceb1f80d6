"""Finds how each workload's ports are reached: the state of a cluster in, changed rows for the store out. Pure.

Ingresses and routes say which host and path lead to a port (collector/kubernetes/routes). Services, Pods and
NetworkPolicies say how it is reached otherwise.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from collector.kubernetes.addresses import Target, Targets
from collector.kubernetes.objects import NetworkPolicyObject, PolicyIngressRule, ServiceObject, selects
from collector.kubernetes.routes import gateway_api, ingress, istio, traefik
from collector.kubernetes.rows import Fact, FactKind, read_facts, write_facts
from collector.kubernetes.state import ClusterState, Pod

# Any port of a workload.
ALL_PORTS = 0
# (annotation, value in lower case) by which a load balancer is asked for on the private network only.
_INTERNAL_BALANCERS = frozenset(
    (
        # AWS: cloud provider; AWS Load Balancer Controller.
        ("service.beta.kubernetes.io/aws-load-balancer-internal", "true"),
        ("service.beta.kubernetes.io/aws-load-balancer-scheme", "internal"),
        # Google Kubernetes Engine: now and before 1.17.
        ("networking.gke.io/load-balancer-type", "internal"),
        ("cloud.google.com/load-balancer-type", "internal"),
        # Azure; OpenStack (cloud-provider-openstack); Oracle; IBM.
        ("service.beta.kubernetes.io/azure-load-balancer-internal", "true"),
        ("service.beta.kubernetes.io/openstack-internal-load-balancer", "true"),
        ("service.beta.kubernetes.io/oci-load-balancer-internal", "true"),
        ("service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type", "private"),
    )
)
_PRIVATE_NOTE = "on the private network only"


def list_service_facts(state: ClusterState, targets: Targets) -> Iterator[tuple[Target, Fact]]:
    """Of each Service: its type, and the ports and addresses by which it is reached from outside."""
    for service in state.services.values():
        for port in service.spec.ports or ():
            for target in targets.find(service, port):
                for fact in _read_service(service, port.port, port.node_port or 0):
                    yield target, fact


def _read_service(service: ServiceObject, port: int, node_port: int) -> Iterator[Fact]:
    spec, source = service.spec, "/".join(service.key)
    addresses = tuple(address for address in spec.cluster_ips or (spec.cluster_ip,) if address not in ("", "None"))
    note = "" if addresses else "headless"
    yield Fact(kind=FactKind.CLUSTER_IP, source=source, port=port, addresses=addresses, note=note)
    if spec.external_ips:
        yield Fact(
            kind=FactKind.EXTERNAL_IP, source=source, port=port, addresses=tuple(spec.external_ips), is_external=True
        )
    if spec.type == "LoadBalancer":
        balancer = service.status.load_balancer
        given = tuple(one.ip or one.hostname for one in (balancer.ingress or ())) if balancer else ()
        is_internal = _is_internal_balancer(service, given)
        yield Fact(
            kind=FactKind.LOAD_BALANCER,
            source=source,
            port=port,
            addresses=given,
            is_external=not is_internal,
            note=_PRIVATE_NOTE if is_internal else "" if given else "no address yet",
        )
    elif spec.type == "NodePort" and node_port:
        yield Fact(
            kind=FactKind.NODE_PORT, source=source, port=node_port, is_external=True, note="at every node's address"
        )


def _is_internal_balancer(service: ServiceObject, addresses: Iterable[str]) -> bool:
    annotations = service.metadata.annotations or {}
    is_asked = any(annotations.get(name, "").lower() == value for name, value in _INTERNAL_BALANCERS)
    # The public DNS names of internal AWS balancers begin so.
    return is_asked or any(address.startswith("internal-") for address in addresses)


def list_pod_facts(pods: Iterable[Pod]) -> Iterator[tuple[Target, Fact]]:
    """Ports of nodes that lead to Pods, and Pods on their node's network."""
    for pod in pods:
        source = f"{pod.namespace}/{pod.workload.name}"
        if pod.is_host_network:
            yield (
                Target(pod.namespace, pod.workload.name, ALL_PORTS),
                Fact(kind=FactKind.HOST_NETWORK, source=source, is_external=True, note="at its nodes' addresses"),
            )
            continue
        for port in pod.ports:
            if port.host_port:
                fact = Fact(
                    kind=FactKind.HOST_PORT,
                    source=source,
                    port=port.host_port,
                    is_external=True,
                    note="at its nodes' addresses",
                )
                yield Target(pod.namespace, pod.workload.name, port.number), fact


def list_policy_facts(state: ClusterState) -> Iterator[tuple[Target, Fact]]:
    """NetworkPolicies that select a workload's Pods and speak of who comes in."""
    by_namespace: dict[str, list[NetworkPolicyObject]] = {}
    for policy in state.policies.values():
        # Without types it is about what comes in (API reference, policyTypes).
        if "Ingress" in (policy.spec.policy_types or ("Ingress",)):
            by_namespace.setdefault(policy.metadata.namespace, []).append(policy)
    seen: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    for pod in state.pods.values():
        template = (pod.namespace, pod.workload.name, pod.labels)
        if pod.is_host_network or pod.namespace not in by_namespace or template in seen:
            continue  # What a policy does to Pods on their node's network is undefined.
        seen.add(template)
        labels = dict(pod.labels)
        for policy in by_namespace[pod.namespace]:
            if selects(policy.spec.pod_selector, labels):
                fact = Fact(kind=FactKind.NETWORK_POLICY, source="/".join(policy.key), note=_describe_policy(policy))
                yield Target(pod.namespace, pod.workload.name, ALL_PORTS), fact


def _describe_policy(policy: NetworkPolicyObject) -> str:
    rules = policy.spec.ingress or ()
    if not rules:
        return "lets nobody in"
    return "lets everybody in" if any(map(_lets_everybody, rules)) else "lets some in"


def _lets_everybody(rule: PolicyIngressRule) -> bool:
    """From anywhere, if perhaps to some ports only."""
    blocks = [peer.ip_block.cidr for peer in rule.from_ or () if peer.ip_block]
    return not rule.from_ or any(_is_everything(block) for block in blocks)


def _is_everything(cidr: str) -> bool:
    try:
        return ipaddress.ip_network(cidr, strict=False).prefixlen == 0
    except ValueError:
        return False


# Every kind that routes calls, and what they refer to.
ROUTE_KINDS: Final = (*ingress.KINDS, *gateway_api.KINDS, *istio.KINDS, *traefik.KINDS)


def list_route_facts(state: ClusterState, targets: Targets) -> Iterator[tuple[Target, Fact]]:
    """Every way that an object of these kinds leads."""
    for kind in ROUTE_KINDS:
        if kind.list_ways is None or kind.fact is None:
            continue
        for one in state.of(kind.type).values():
            for way in kind.list_ways(one, state):
                fact = Fact(
                    kind=kind.fact,
                    source="/".join(one.key),
                    host=way.host,
                    path=way.path,
                    path_type=way.path_type,
                    method=way.method,
                    addresses=way.addresses,
                    is_external=True,
                    is_tls=way.is_tls,
                    is_rewritten=way.is_rewritten,
                    note=way.note,
                )
                for backend in way.backends:
                    yield from ((target, fact) for target in targets.find_backend(backend))


NO_FACTS = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One row of `exposures`: what was so of a workload's port from `time` (unix seconds) on. Port 0: of all its
    ports. `facts` is JSON (collector/kubernetes/rows.py)."""

    cluster: str
    namespace: str
    workload: str
    port: int
    time: int
    facts: str


def find_facts(state: ClusterState, targets: Targets) -> dict[Target, str]:
    """The facts of every workload and port, as JSON; a workload that nothing leads to has none, at port 0."""
    found: dict[Target, set[Fact]] = defaultdict(set)
    for pod in state.pods.values():
        found.setdefault(Target(pod.namespace, pod.workload.name, 0), set())
    for facts in (
        list_service_facts(state, targets),
        list_pod_facts(state.pods.values()),
        list_policy_facts(state),
        list_route_facts(state, targets),
    ):
        for target, fact in facts:
            found[target].add(fact)
    return {target: write_facts(facts) for target, facts in found.items()}


WORDS_MAX: Final = 10_000  # Of the paths of one cluster's routes.


def list_words(facts: str) -> set[str]:
    """The segments of paths in facts as JSON, without patterns. The cluster's API has them, so they are no secret."""
    return {
        word
        for fact in read_facts(facts)
        if fact.path_type != "Pattern" and not fact.is_rewritten
        for word in fact.path.split("/")
        if word
    }


class ExposureBook:
    """What was stored of each workload's port last. One thread at a time."""

    def __init__(self, cluster: str, last: Iterable[Exposure] = ()) -> None:
        """`last`: the newest rows of the store."""
        self._cluster = cluster
        self._last = {Target(one.namespace, one.workload, one.port): one.facts for one in last}
        self._waiting: dict[Target, Exposure] = {}
        self._known_words: set[str] = set()
        self._new_words: list[str] = []
        for facts in self._last.values():
            self._learn_words(facts)

    def refresh(self, state: ClusterState, targets: Targets, now: float) -> None:
        """Compare with what was so. A workload without Pods keeps what was known of it: nobody calls it either."""
        found = find_facts(state, targets)
        present = {(pod.namespace, pod.workload.name) for pod in state.pods.values()}
        gone = [one for one in self._last.keys() - found.keys() if (one.namespace, one.workload) in present]
        for target, facts in (*found.items(), *((one, NO_FACTS) for one in gone)):
            if self._last.get(target) != facts:
                self._learn_words(facts)
                self._last[target] = facts
                self._waiting[target] = Exposure(
                    cluster=self._cluster,
                    namespace=target.namespace,
                    workload=target.workload,
                    port=target.port,
                    time=int(now),
                    facts=facts,
                )

    def _learn_words(self, facts: str) -> None:
        new = sorted(list_words(facts) - self._known_words)[: WORDS_MAX - len(self._known_words)]
        self._known_words.update(new)
        self._new_words += new

    def take_words(self) -> list[str]:
        """Words of paths since the last time."""
        words, self._new_words = self._new_words, []
        return words

    def take_changed(self) -> list[Exposure]:
        """Rows for the store since the last time."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    def give_back(self, rows: Iterable[Exposure]) -> None:
        """Rows that could not be stored: they come again, unless something newer is known."""
        older = {Target(one.namespace, one.workload, one.port): one for one in rows}
        self._waiting = older | self._waiting
