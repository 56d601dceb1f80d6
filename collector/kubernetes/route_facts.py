"""What Ingresses and Gateway API routes say of which host and path lead to a workload's port. Pure.

Semantics: networking.k8s.io/v1 Ingress (path types, default backend) and gateway.networking.k8s.io/v1 HTTPRoute
(parents, listeners, hostnames, matches); of a route, only what a listener of a Gateway takes leads anywhere.
"""

import re
from collections.abc import Iterator

from collector.kubernetes.fact import Fact, FactKind
from collector.kubernetes.objects import (
    BackendPort,
    GatewayObject,
    HttpRouteObject,
    HttpRouteRule,
    IngressBackend,
    IngressObject,
    Listener,
    ParentReference,
)
from collector.kubernetes.selectors import selects
from collector.kubernetes.state import ClusterState
from collector.kubernetes.targets import Target, Targets

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
