"""Reads HTTPRoute, GRPCRoute and TLSRoute of the Gateway API (gateway.networking.k8s.io).

A route leads somewhere only if a listener of a Gateway takes it: by name and port, protocol, kind of route, namespace
and host name. ReferenceGrants and the controller's status are not read.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import field

from collector.kubernetes.addresses import Backend
from collector.kubernetes.objects import LabelSelector, Object, PortNumber, selects
from collector.kubernetes.routes.base import RouteKind, Way, join_hosts
from collector.kubernetes.rows import FactKind
from collector.kubernetes.state import ClusterState
from common.kubernetes.objects import Part

GROUP: Final = "gateway.networking.k8s.io"
_HTTP_PROTOCOLS: Final = frozenset({"HTTP", "HTTPS"})
_TLS_PROTOCOLS: Final = frozenset({"TLS"})
_PATH_TYPES: Final = {"Exact": "Exact", "PathPrefix": "Prefix", "RegularExpression": "Pattern"}


class RouteNamespaces(Part, frozen=True, kw_only=True):
    from_: str = field(name="from", default="Same")
    selector: LabelSelector | None = None


class RouteGroupKind(Part, frozen=True, kw_only=True):
    kind: str
    group: str = GROUP


class AllowedRoutes(Part, frozen=True, kw_only=True):
    namespaces: RouteNamespaces | None = None
    kinds: tuple[RouteGroupKind, ...] | None = None


class Listener(Part, frozen=True, kw_only=True):
    name: str
    port: PortNumber
    protocol: str
    hostname: str | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(Part, frozen=True, kw_only=True):
    value: str = ""


class GatewaySpec(Part, frozen=True, kw_only=True):
    listeners: tuple[Listener, ...] | None = None


class GatewayStatus(Part, frozen=True, kw_only=True):
    addresses: tuple[GatewayAddress, ...] | None = None


class GatewayObject(Object, frozen=True, kw_only=True):
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class ParentReference(Part, frozen=True, kw_only=True):
    name: str
    group: str = GROUP
    kind: str = "Gateway"
    namespace: str | None = None
    section_name: str | None = None
    port: PortNumber | None = None


class RouteBackend(Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Service"
    namespace: str | None = None
    port: PortNumber | None = None


class HttpPathMatch(Part, frozen=True, kw_only=True):
    type: str = "PathPrefix"
    value: str = "/"


class HttpRouteMatch(Part, frozen=True, kw_only=True):
    path: HttpPathMatch | None = None
    method: str | None = None


class RouteFilter(Part, frozen=True, kw_only=True):
    type: str


class HttpRouteRule(Part, frozen=True, kw_only=True):
    matches: tuple[HttpRouteMatch, ...] | None = None
    filters: tuple[RouteFilter, ...] | None = None
    backend_refs: tuple[RouteBackend, ...] | None = None


class _RouteSpec(Part, frozen=True, kw_only=True):
    parent_refs: tuple[ParentReference, ...] | None = None
    hostnames: tuple[str, ...] | None = None


class HttpRouteSpec(_RouteSpec, frozen=True, kw_only=True):
    rules: tuple[HttpRouteRule, ...] | None = None


class HttpRouteObject(Object, frozen=True, kw_only=True):
    spec: HttpRouteSpec = HttpRouteSpec()


class GrpcMethodMatch(Part, frozen=True, kw_only=True):
    type: str = "Exact"
    service: str = ""
    method: str = ""


class GrpcRouteMatch(Part, frozen=True, kw_only=True):
    method: GrpcMethodMatch | None = None


class GrpcRouteRule(Part, frozen=True, kw_only=True):
    matches: tuple[GrpcRouteMatch, ...] | None = None
    backend_refs: tuple[RouteBackend, ...] | None = None


class GrpcRouteSpec(_RouteSpec, frozen=True, kw_only=True):
    rules: tuple[GrpcRouteRule, ...] | None = None


class GrpcRouteObject(Object, frozen=True, kw_only=True):
    spec: GrpcRouteSpec = GrpcRouteSpec()


class TlsRouteRule(Part, frozen=True, kw_only=True):
    backend_refs: tuple[RouteBackend, ...] | None = None


class TlsRouteSpec(_RouteSpec, frozen=True, kw_only=True):
    rules: tuple[TlsRouteRule, ...] | None = None


class TlsRouteObject(Object, frozen=True, kw_only=True):
    spec: TlsRouteSpec = TlsRouteSpec()


# (path, its type, method): what one match of a rule asks for.
_Match = tuple[str, str, str]
_EVERYTHING: Final[_Match] = ("/", "Prefix", "")


def list_http_ways(route: HttpRouteObject, state: ClusterState) -> Iterator[Way]:
    """Of an HTTPRoute."""
    for rule in route.spec.rules or ():
        is_rewritten = any(one.type == "URLRewrite" for one in rule.filters or ())
        matches = [_read_http(match) for match in rule.matches or ()] or [_EVERYTHING]
        yield from _list_ways(route, "HTTPRoute", state, matches, rule.backend_refs, is_rewritten=is_rewritten)


def list_grpc_ways(route: GrpcRouteObject, state: ClusterState) -> Iterator[Way]:
    """Of a GRPCRoute: a method is a path, `/package.Service/Method`."""
    for rule in route.spec.rules or ():
        matches = [_read_grpc(match.method) for match in rule.matches or ()] or [_EVERYTHING]
        yield from _list_ways(route, "GRPCRoute", state, matches, rule.backend_refs)


def list_tls_ways(route: TlsRouteObject, state: ClusterState) -> Iterator[Way]:
    """Of a TLSRoute, which knows server names only."""
    for rule in route.spec.rules or ():
        yield from _list_ways(route, "TLSRoute", state, [_EVERYTHING], rule.backend_refs)


def _read_http(match: HttpRouteMatch) -> _Match:
    path = match.path
    if path is None:
        return ("/", "Prefix", match.method or "")
    return (path.value, _PATH_TYPES.get(path.type, "Pattern"), match.method or "")


def _read_grpc(method: GrpcMethodMatch | None) -> _Match:
    if method is None or not (method.service or method.method):
        return _EVERYTHING
    path = f"/{method.service}" + (f"/{method.method}" if method.method else "")
    if method.type != "Exact" or not method.service:
        return (path, "Pattern", "")
    return (path, "Exact" if method.method else "Prefix", "")


def _list_ways(
    route: HttpRouteObject | GrpcRouteObject | TlsRouteObject,
    kind: str,
    state: ClusterState,
    matches: Iterable[_Match],
    backends: Iterable[RouteBackend] | None,
    *,
    is_rewritten: bool = False,
) -> Iterator[Way]:
    home = route.metadata.namespace
    targets = tuple(
        Backend(namespace=one.namespace or home, name=one.name, number=one.port or 0)
        for one in backends or ()
        if one.kind == "Service"
    )
    for parent in route.spec.parent_refs or ():
        namespace = parent.namespace or home
        is_gateway = (parent.group, parent.kind) == (GROUP, "Gateway")
        gateway = state.of(GatewayObject).get((namespace, parent.name)) if is_gateway else None
        if gateway is None:
            continue
        addresses = tuple(address.value for address in gateway.status.addresses or () if address.value)
        hosts = _find_hosts(route, kind, state, parent, gateway)
        for host, is_tls in hosts.items():
            for path, path_type, method in matches:
                yield Way(
                    host=host,
                    path=path,
                    path_type=path_type,
                    method=method,
                    backends=targets,
                    addresses=addresses,
                    is_tls=is_tls,
                    is_rewritten=is_rewritten,
                    note=f"Gateway {'/'.join(gateway.key)}",
                )


def _find_hosts(
    route: HttpRouteObject | GrpcRouteObject | TlsRouteObject,
    kind: str,
    state: ClusterState,
    parent: ParentReference,
    gateway: GatewayObject,
) -> dict[str, bool]:
    """The hosts of the listeners that take a route, and whether clients may use TLS."""
    hosts: dict[str, bool] = {}
    for listener in gateway.spec.listeners or ():
        if _takes(state, listener, parent, kind, route.metadata.namespace, gateway):
            for host in join_hosts(listener.hostname, route.spec.hostnames or ()):
                hosts[host] = hosts.get(host, False) or listener.protocol != "HTTP"
    return hosts


def _takes(
    state: ClusterState, listener: Listener, parent: ParentReference, kind: str, namespace: str, gateway: GatewayObject
) -> bool:
    """Whether a listener takes a route: the right one, of its protocol and kinds, and open to the route's namespace."""
    protocols = _TLS_PROTOCOLS if kind == "TLSRoute" else _HTTP_PROTOCOLS
    if listener.protocol not in protocols or parent.section_name not in (None, listener.name):
        return False
    if parent.port not in (None, listener.port):
        return False
    allowed = listener.allowed_routes or AllowedRoutes()
    if allowed.kinds and (GROUP, kind) not in {(one.group, one.kind) for one in allowed.kinds}:
        return False
    namespaces = allowed.namespaces or RouteNamespaces()
    if namespaces.from_ == "Same":
        return namespace == gateway.metadata.namespace
    if namespaces.from_ == "Selector":
        home = state.namespaces.get(("", namespace))
        return bool(home and namespaces.selector and selects(namespaces.selector, home.metadata.labels or {}))
    return namespaces.from_ == "All"


KINDS: Final = (
    RouteKind(type=GatewayObject, group=GROUP, versions=("v1", "v1beta1"), resource="gateways"),
    RouteKind(
        type=HttpRouteObject,
        group=GROUP,
        versions=("v1", "v1beta1"),
        resource="httproutes",
        fact=FactKind.HTTP_ROUTE,
        list_ways=list_http_ways,
    ),
    RouteKind(
        type=GrpcRouteObject,
        group=GROUP,
        versions=("v1", "v1alpha2"),
        resource="grpcroutes",
        fact=FactKind.GRPC_ROUTE,
        list_ways=list_grpc_ways,
    ),
    RouteKind(
        type=TlsRouteObject,
        group=GROUP,
        versions=("v1", "v1alpha3", "v1alpha2"),
        resource="tlsroutes",
        fact=FactKind.TLS_ROUTE,
        list_ways=list_tls_ways,
    ),
)
