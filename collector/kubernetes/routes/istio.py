"""Reads VirtualServices and Gateways of Istio (networking.istio.io).

A VirtualService leads in from outside only through a Gateway: not through `mesh`, which are the sidecars. A server of
the Gateway must have a host in common with it, admit its namespace, and speak HTTP or, for `tls`, pass TLS through.
A rule may delegate to a VirtualService without hosts (istio.io/docs/reference/config/networking/virtual-service).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from collector.kubernetes.addresses import Backend
from collector.kubernetes.objects import Object
from collector.kubernetes.routes.base import ANY_HOST, RouteKind, Way, join_hosts, join_names
from collector.kubernetes.rows import FactKind
from collector.kubernetes.state import ClusterState
from common.kubernetes.objects import Part

_MESH: Final = "mesh"
_HTTP_PROTOCOLS: Final = frozenset({"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB"})
_PASSTHROUGH: Final = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})
_SERVICE_SUFFIX: Final = ".svc"


class ServerPort(Part, frozen=True, kw_only=True):
    protocol: str = ""


class ServerTls(Part, frozen=True, kw_only=True):
    mode: str = ""


class Server(Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None
    port: ServerPort = ServerPort()
    tls: ServerTls | None = None


class IstioGatewaySpec(Part, frozen=True, kw_only=True):
    servers: tuple[Server, ...] | None = None


class IstioGatewayObject(Object, frozen=True, kw_only=True):
    spec: IstioGatewaySpec = IstioGatewaySpec()


class StringMatch(Part, frozen=True, kw_only=True):
    exact: str = ""
    prefix: str = ""
    regex: str = ""


class HttpMatch(Part, frozen=True, kw_only=True):
    uri: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    gateways: tuple[str, ...] | None = None


class TlsMatch(Part, frozen=True, kw_only=True):
    sni_hosts: tuple[str, ...] | None = None
    gateways: tuple[str, ...] | None = None


class DestinationPort(Part, frozen=True, kw_only=True):
    number: int = 0


class Destination(Part, frozen=True, kw_only=True):
    host: str
    port: DestinationPort = DestinationPort()


class RouteDestination(Part, frozen=True, kw_only=True):
    destination: Destination


class Rewrite(Part, frozen=True, kw_only=True):
    uri: str = ""
    uri_regex_rewrite: dict[str, str] | None = None


class Delegate(Part, frozen=True, kw_only=True):
    name: str
    namespace: str = ""


class HttpRule(Part, frozen=True, kw_only=True):
    match: tuple[HttpMatch, ...] | None = None
    route: tuple[RouteDestination, ...] | None = None
    rewrite: Rewrite | None = None
    delegate: Delegate | None = None


class TlsRule(Part, frozen=True, kw_only=True):
    match: tuple[TlsMatch, ...] | None = None
    route: tuple[RouteDestination, ...] | None = None


class VirtualServiceSpec(Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None
    gateways: tuple[str, ...] | None = None
    http: tuple[HttpRule, ...] | None = None
    tls: tuple[TlsRule, ...] | None = None


class VirtualServiceObject(Object, frozen=True, kw_only=True):
    spec: VirtualServiceSpec = VirtualServiceSpec()


@dataclass(frozen=True, slots=True)
class _Entrance:
    """A host at a Gateway by which a VirtualService is reached."""

    gateway: str  # namespace/name
    host: str
    is_tls: bool


def list_ways(service: VirtualServiceObject, state: ClusterState) -> Iterator[Way]:
    """Of a VirtualService, by each Gateway that it names."""
    spec = service.spec
    hosts = spec.hosts or ()
    if not hosts:
        return  # It is delegated to.
    for is_passed_through in (False, True):
        entrances = tuple(_list_entrances(service, state, is_passed_through=is_passed_through))
        for entrance in entrances:
            if is_passed_through:
                for tls in spec.tls or ():
                    yield from _list_tls(service, tls, entrance)
            else:
                for rule in spec.http or ():
                    yield from _list_http(service, rule, entrance, state)


def _list_entrances(
    service: VirtualServiceObject, state: ClusterState, *, is_passed_through: bool
) -> Iterator[_Entrance]:
    home, found = service.metadata.namespace, dict[tuple[str, str], bool]()
    for name in service.spec.gateways or (_MESH,):
        namespace, _, gateway_name = _qualify(name, home).partition("/")
        gateway = state.of(IstioGatewayObject).get((namespace, gateway_name)) if name != _MESH else None
        for server in gateway.spec.servers or () if gateway else ():
            mode = server.tls.mode if server.tls else ""
            protocol = server.port.protocol.upper()
            if is_passed_through != (mode in _PASSTHROUGH or protocol == "TLS"):
                continue
            if not is_passed_through and protocol not in _HTTP_PROTOCOLS:
                continue
            for host in _list_server_hosts(server, namespace, home):
                for common in join_hosts(host, service.spec.hosts or ()):
                    key = (f"{namespace}/{gateway_name}", common)
                    found[key] = found.get(key, False) or server.tls is not None or protocol in ("HTTPS", "TLS")
    for (name, host), is_tls in found.items():
        yield _Entrance(name, host, is_tls)


def _list_server_hosts(server: Server, gateway_namespace: str, home: str) -> Iterator[str]:
    """The host names of a server that are open to a namespace: `NAMESPACE/HOST`, where `.` is the Gateway's own."""
    for one in server.hosts or ():
        namespace, slash, host = one.rpartition("/")
        if not slash or namespace in (ANY_HOST, home) or (namespace == "." and home == gateway_namespace):
            yield host


def _qualify(gateway: str, home: str) -> str:
    return gateway if "/" in gateway else f"{home}/{gateway}"


def _list_http(
    service: VirtualServiceObject, rule: HttpRule, entrance: _Entrance, state: ClusterState
) -> Iterator[Way]:
    home = service.metadata.namespace
    ways = tuple(_read_matches(rule.match, entrance, home))
    rewrite = rule.rewrite
    is_rewritten = rewrite is not None and bool(rewrite.uri or rewrite.uri_regex_rewrite)
    if rule.delegate is None:
        backends = tuple(_read_destinations(rule.route, home))
        yield from (replace(way, backends=backends, is_rewritten=is_rewritten) for way in ways)
        return
    to = state.of(VirtualServiceObject).get((rule.delegate.namespace or home, rule.delegate.name))
    for inner in to.spec.http or () if to is not None and not to.spec.hosts else ():
        if inner.delegate is not None:
            continue  # Istio takes one level.
        assert to is not None
        backends = tuple(_read_destinations(inner.route, to.metadata.namespace))
        # The delegate's conditions are within those of the rule, so they say more.
        narrower = tuple(_read_matches(inner.match, entrance, home)) if inner.match else ways
        for way in narrower:
            yield replace(way, backends=backends, is_rewritten=is_rewritten or inner.rewrite is not None)


def _read_matches(matches: tuple[HttpMatch, ...] | None, entrance: _Entrance, home: str) -> Iterator[Way]:
    """What a rule asks for; without matches everything."""
    at = Way(host=entrance.host, is_tls=entrance.is_tls, note=f"Gateway {entrance.gateway}")
    for match in matches or (HttpMatch(),):
        if not _is_open(match.gateways, entrance, home):
            continue
        authority = match.authority.exact if match.authority else ""
        host = join_names(entrance.host, authority) if authority and entrance.host != ANY_HOST else authority
        if authority and not host:
            continue
        uri, method = match.uri or StringMatch(), match.method or StringMatch()
        path, path_type = (
            (uri.exact, "Exact")
            if uri.exact
            else (uri.prefix, "Prefix")
            if uri.prefix
            else (uri.regex, "Pattern")
            if uri.regex
            else ("/", "Prefix")
        )
        yield replace(at, host=host or entrance.host, path=path, path_type=path_type, method=method.exact)


def _list_tls(service: VirtualServiceObject, rule: TlsRule, entrance: _Entrance) -> Iterator[Way]:
    home = service.metadata.namespace
    for match in rule.match or (TlsMatch(),):
        if _is_open(match.gateways, entrance, home):
            for host in join_hosts(entrance.host, match.sni_hosts or ()):
                backends = tuple(_read_destinations(rule.route, home))
                yield Way(host=host, backends=backends, is_tls=True, note=f"Gateway {entrance.gateway}")


def _is_open(gateways: tuple[str, ...] | None, entrance: _Entrance, home: str) -> bool:
    return not gateways or entrance.gateway in {_qualify(one, home) for one in gateways}


def _read_destinations(destinations: Iterable[RouteDestination] | None, home: str) -> Iterator[Backend]:
    """The Services by their names: `reviews`, `reviews.shop` or `reviews.shop.svc.cluster.local`. A subset is a part
    of the Pods, and all of them are one workload or more here."""
    for one in destinations or ():
        labels = one.destination.host.partition(_SERVICE_SUFFIX)[0].split(".")
        if len(labels) <= 2:
            namespace = labels[1] if len(labels) == 2 else home
            yield Backend(namespace=namespace, name=labels[0], number=one.destination.port.number)


_GROUP: Final = "networking.istio.io"
_VERSIONS: Final = ("v1", "v1beta1")
KINDS: Final = (
    RouteKind(type=IstioGatewayObject, group=_GROUP, versions=_VERSIONS, resource="gateways"),
    RouteKind(
        type=VirtualServiceObject,
        group=_GROUP,
        versions=_VERSIONS,
        resource="virtualservices",
        fact=FactKind.VIRTUAL_SERVICE,
        list_ways=list_ways,
    ),
)
