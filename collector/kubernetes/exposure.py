"""Finds how each workload's ports are reached: the state of a cluster in, changed rows for the store out. Pure.

Ingresses and Gateway API routes say which host and path lead to a port. Services, Pods and NetworkPolicies say how it
is reached otherwise. Semantics: networking.k8s.io/v1 Ingress (path types, default backend) and
gateway.networking.k8s.io/v1 HTTPRoute (parents, listeners, hostnames, matches). A route leads somewhere only if a
listener of a Gateway takes it.
"""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from collector.kubernetes.addresses import Target, Targets
from collector.kubernetes.rows import Fact, FactKind, write_facts
from collector.kubernetes.state import (
    BackendPort,
    ClusterState,
    GatewayObject,
    HttpRouteObject,
    HttpRouteRule,
    IngressBackend,
    IngressObject,
    Listener,
    NetworkPolicyObject,
    ParentReference,
    Pod,
    PolicyIngressRule,
    ServiceObject,
    selects,
)

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


ANY_HOST = "*"
_HTTP = frozenset({"HTTP", "HTTPS"})
# Annotations of controllers that hand on another path: ingress-nginx, HAProxy, Traefik's middlewares.
_REWRITES = frozenset(
    (
        "nginx.ingress.kubernetes.io/rewrite-target",
        "haproxy-ingress.github.io/rewrite-target",
        "haproxy.org/path-rewrite",
        "traefik.ingress.kubernetes.io/router.middlewares",
    )
)
_REGEX = re.compile(r"[\\^$*+?()\[\]{}|]")
_ROUTE_PATH_TYPES = {"Exact": "Exact", "PathPrefix": "Prefix", "RegularExpression": "Pattern"}


def list_ingress_facts(state: ClusterState, targets: Targets) -> Iterator[tuple[Target, Fact]]:
    """Every host and path of every Ingress."""
    for ingress in state.ingresses.values():
        for host, path, path_type, backend in _list_paths(ingress):
            service = backend.service
            if service is None:
                continue
            fact = _ingress_fact(ingress, host, path, path_type)
            for target in targets.find_backend(ingress.metadata.namespace, service.name, service.port):
                yield target, fact


def _list_paths(ingress: IngressObject) -> Iterator[tuple[str, str, str, IngressBackend]]:
    spec = ingress.spec
    for rule in spec.rules or ():
        for one in rule.http.paths or () if rule.http else ():
            yield rule.host or ANY_HOST, one.path or "/", _find_path_type(one.path_type, one.path), one.backend
    if spec.default_backend is not None:
        yield ANY_HOST, "/", "Prefix", spec.default_backend


def _find_path_type(path_type: str, path: str) -> str:
    """What is left to the controller is a prefix with most of them, and a pattern where it looks like one."""
    if path_type == "ImplementationSpecific":
        return "Pattern" if _REGEX.search(path) else "Prefix"
    return path_type


def _ingress_fact(ingress: IngressObject, host: str, path: str, path_type: str) -> Fact:
    tls = {name for one in ingress.spec.tls or () for name in one.hosts or (ANY_HOST,)}
    return Fact(
        kind=FactKind.INGRESS,
        source="/".join(ingress.key),
        host=host,
        path=path,
        path_type=path_type,
        is_external=True,
        is_tls=host in tls or ANY_HOST in tls,
        is_rewritten=not _REWRITES.isdisjoint(ingress.metadata.annotations or {}),
        note=f"class {ingress.spec.ingress_class_name}" if ingress.spec.ingress_class_name else "",
    )


def list_route_facts(state: ClusterState, targets: Targets) -> Iterator[tuple[Target, Fact]]:
    """Every host and match of every HTTPRoute, by each Gateway that takes it."""
    for route in state.http_routes.values():
        for parent in route.spec.parent_refs or ():
            namespace = parent.namespace or route.metadata.namespace
            gateway = state.gateways.get((namespace, parent.name)) if parent.kind == "Gateway" else None
            if gateway is not None:
                yield from _list_parent(state, targets, route, parent, gateway)


def _list_parent(
    state: ClusterState, targets: Targets, route: HttpRouteObject, parent: ParentReference, gateway: GatewayObject
) -> Iterator[tuple[Target, Fact]]:
    hosts: dict[str, bool] = {}
    for listener in gateway.spec.listeners or ():
        if _takes(state, listener, parent, route, gateway):
            for host in _join_hosts(listener.hostname, route.spec.hostnames or ()):
                hosts[host] = hosts.get(host, False) or listener.protocol == "HTTPS"
    for rule in route.spec.rules or () if hosts else ():
        facts = [_route_fact(route, gateway, rule, host, is_tls) for host, is_tls in hosts.items()]
        for target in _list_backends(targets, route, rule):
            yield from ((target, fact) for group in facts for fact in group)


def _takes(
    state: ClusterState, listener: Listener, parent: ParentReference, route: HttpRouteObject, gateway: GatewayObject
) -> bool:
    """Whether a listener takes a route: the right one, for HTTP, and open to the route's namespace."""
    if listener.protocol not in _HTTP or parent.section_name not in (None, listener.name):
        return False
    if parent.port not in (None, listener.port):
        return False
    allowed = listener.allowed_routes.namespaces if listener.allowed_routes else None
    if allowed is None or allowed.from_ == "Same":
        return route.metadata.namespace == gateway.metadata.namespace
    if allowed.from_ == "Selector":
        home = state.namespaces.get(("", route.metadata.namespace))
        return bool(home and allowed.selector and selects(allowed.selector, home.metadata.labels or {}))
    return allowed.from_ == "All"


def _join_hosts(listener: str | None, hosts: tuple[str, ...]) -> list[str]:
    """The hosts that a listener and a route have in common; `*.` takes at least one label more."""
    if not listener:
        return list(hosts) or [ANY_HOST]
    if not hosts:
        return [listener]
    common: list[str] = []
    for host in hosts:
        if host == listener or (listener.startswith("*.") and host.endswith(listener[1:])):
            common.append(host)
        elif host.startswith("*.") and listener.endswith(host[1:]):
            common.append(listener)
    return common


def _list_backends(targets: Targets, route: HttpRouteObject, rule: HttpRouteRule) -> Iterator[Target]:
    for backend in rule.backend_refs or ():
        if backend.kind == "Service":
            namespace = backend.namespace or route.metadata.namespace
            yield from targets.find_backend(namespace, backend.name, BackendPort(number=backend.port))


def _route_fact(
    route: HttpRouteObject, gateway: GatewayObject, rule: HttpRouteRule, host: str, is_tls: bool
) -> list[Fact]:
    addresses = tuple(address.value for address in gateway.status.addresses or () if address.value)
    is_rewritten = any(one.type == "URLRewrite" for one in rule.filters or ())
    found: list[Fact] = []
    for match in rule.matches or (None,):
        path = match.path if match else None
        found.append(
            Fact(
                kind=FactKind.HTTP_ROUTE,
                source="/".join(route.key),
                host=host,
                path=path.value if path else "/",
                path_type=_ROUTE_PATH_TYPES.get(path.type, "Pattern") if path else "Prefix",
                method=(match.method or "") if match else "",
                addresses=addresses,
                is_external=True,
                is_tls=is_tls,
                is_rewritten=is_rewritten,
                note=f"Gateway {'/'.join(gateway.key)}",
            )
        )
    return found


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
        list_ingress_facts(state, targets),
        list_route_facts(state, targets),
    ):
        for target, fact in facts:
            found[target].add(fact)
    return {target: write_facts(facts) for target, facts in found.items()}


class ExposureBook:
    """What was stored of each workload's port last. One thread at a time."""

    def __init__(self, cluster: str, last: Iterable[Exposure] = ()) -> None:
        """`last`: the newest rows of the store."""
        self._cluster = cluster
        self._last = {Target(one.namespace, one.workload, one.port): one.facts for one in last}
        self._waiting: dict[Target, Exposure] = {}

    def refresh(self, state: ClusterState, targets: Targets, now: float) -> None:
        """Compare with what was so. A workload without Pods keeps what was known of it: nobody calls it either."""
        found = find_facts(state, targets)
        present = {(pod.namespace, pod.workload.name) for pod in state.pods.values()}
        gone = [one for one in self._last.keys() - found.keys() if (one.namespace, one.workload) in present]
        for target, facts in (*found.items(), *((one, NO_FACTS) for one in gone)):
            if self._last.get(target) != facts:
                self._last[target] = facts
                self._waiting[target] = Exposure(
                    cluster=self._cluster,
                    namespace=target.namespace,
                    workload=target.workload,
                    port=target.port,
                    time=int(now),
                    facts=facts,
                )

    def take_changed(self) -> list[Exposure]:
        """Rows for the store since the last time."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    def give_back(self, rows: Iterable[Exposure]) -> None:
        """Rows that could not be stored: they come again, unless something newer is known."""
        older = {Target(one.namespace, one.workload, one.port): one for one in rows}
        self._waiting = older | self._waiting
