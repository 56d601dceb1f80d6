"""Reads Ingresses (networking.k8s.io) and Routes of OpenShift (route.openshift.io).

Ingress: path types, default backend and TLS hosts as of the API reference. Route: host and path, weights of backends,
the wildcard policy, and whether a router admitted it (openshift/api route/v1/types.go).
"""

import re
from collections.abc import Iterator
from typing import Final

from collector.kubernetes.addresses import Backend
from collector.kubernetes.objects import Object
from collector.kubernetes.routes.base import ANY_HOST, RouteKind, Way
from collector.kubernetes.rows import FactKind
from collector.kubernetes.state import ClusterState
from common.kubernetes.objects import Part


class IngressBackendPort(Part, frozen=True, kw_only=True):
    number: int | None = None
    name: str = ""


class IngressServiceBackend(Part, frozen=True, kw_only=True):
    name: str
    port: IngressBackendPort = IngressBackendPort()


class IngressBackend(Part, frozen=True, kw_only=True):
    service: IngressServiceBackend | None = None


class HttpIngressPath(Part, frozen=True, kw_only=True):
    backend: IngressBackend
    path: str = ""
    path_type: str = "ImplementationSpecific"


class HttpIngressRule(Part, frozen=True, kw_only=True):
    paths: tuple[HttpIngressPath, ...] | None = None


class IngressRule(Part, frozen=True, kw_only=True):
    host: str = ""
    http: HttpIngressRule | None = None


class IngressTls(Part, frozen=True, kw_only=True):
    hosts: tuple[str, ...] | None = None


class IngressSpec(Part, frozen=True, kw_only=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTls, ...] | None = None


class IngressObject(Object, frozen=True, kw_only=True):
    spec: IngressSpec = IngressSpec()


# Annotations of controllers that hand on another path: ingress-nginx, HAProxy, Traefik's middlewares, OpenShift.
_REWRITES: Final = frozenset(
    (
        "nginx.ingress.kubernetes.io/rewrite-target",
        "haproxy-ingress.github.io/rewrite-target",
        "haproxy.org/path-rewrite",
        "traefik.ingress.kubernetes.io/router.middlewares",
        "haproxy.router.openshift.io/rewrite-target",
    )
)
_REGEX: Final = re.compile(r"[\\^$*+?()\[\]{}|]")


def _is_rewritten(one: Object) -> bool:
    return not _REWRITES.isdisjoint(one.metadata.annotations or {})


def list_ingress_ways(ingress: IngressObject, state: ClusterState) -> Iterator[Way]:
    """Every host and path of an Ingress."""
    tls = {name for one in ingress.spec.tls or () for name in one.hosts or (ANY_HOST,)}
    for host, path, path_type, backend in _list_paths(ingress):
        service = backend.service
        if service is not None:
            port = service.port
            target = Backend(
                namespace=ingress.metadata.namespace,
                name=service.name,
                number=port.number or 0,
                port_name=port.name,
            )
            yield Way(
                host=host,
                path=path,
                path_type=path_type,
                backends=(target,),
                is_tls=host in tls or ANY_HOST in tls,
                is_rewritten=_is_rewritten(ingress),
                note=f"class {ingress.spec.ingress_class_name}" if ingress.spec.ingress_class_name else "",
            )


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


class RouteTarget(Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Service"
    weight: int | None = None


class RoutePort(Part, frozen=True, kw_only=True):
    target_port: int | str = ""


class RouteTls(Part, frozen=True, kw_only=True):
    termination: str = "edge"


class RouteSpec(Part, frozen=True, kw_only=True):
    to: RouteTarget
    host: str = ""
    path: str = ""
    alternate_backends: tuple[RouteTarget, ...] | None = None
    port: RoutePort | None = None
    tls: RouteTls | None = None


class RouteCondition(Part, frozen=True, kw_only=True):
    type: str
    status: str = ""


class RouteIngress(Part, frozen=True, kw_only=True):
    host: str = ""
    router_name: str = ""
    wildcard_policy: str = ""
    conditions: tuple[RouteCondition, ...] | None = None

    @property
    def is_admitted(self) -> bool:
        """Whether the router serves it; so it is where nothing is said."""
        return all(one.status == "True" for one in self.conditions or () if one.type == "Admitted")


class RouteStatus(Part, frozen=True, kw_only=True):
    ingress: tuple[RouteIngress, ...] | None = None


class RouteObject(Object, frozen=True, kw_only=True):
    spec: RouteSpec
    status: RouteStatus = RouteStatus()


def list_route_ways(route: RouteObject, state: ClusterState) -> Iterator[Way]:
    """A Route of OpenShift at each router that admitted it. Its port is one of the endpoints, by number or name."""
    spec = route.spec
    wanted = spec.port.target_port if spec.port else ""
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    backends = tuple(
        Backend(
            namespace=route.metadata.namespace,
            name=target.name,
            port_name=wanted if isinstance(wanted, str) else "",
            pod_port=wanted if isinstance(wanted, int) else 0,
        )
        for target in (spec.to, *(spec.alternate_backends or ()))
        if target.kind == "Service" and target.weight != 0
    )
    is_passed_through = spec.tls is not None and spec.tls.termination == "passthrough"
    for router in route.status.ingress or (RouteIngress(host=spec.host),):
        if router.is_admitted:
            host = router.host or spec.host or ANY_HOST
            if router.wildcard_policy == "Subdomain" and "." in host:
                host = f"*.{host.partition('.')[2]}"
            yield Way(
                host=host,
                path="/" if is_passed_through else spec.path or "/",
                backends=backends,
                is_tls=spec.tls is not None,
                is_rewritten=_is_rewritten(route),
                note=f"router {router.router_name}" if router.router_name else "",
            )


KINDS: Final = (
    RouteKind(
        type=IngressObject,
        group="networking.k8s.io",
        versions=("v1",),
        resource="ingresses",
        fact=FactKind.INGRESS,
        list_ways=list_ingress_ways,
        is_required=True,
    ),
    RouteKind(
        type=RouteObject,
        group="route.openshift.io",
        versions=("v1",),
        resource="routes",
        fact=FactKind.OPENSHIFT_ROUTE,
        list_ways=list_route_ways,
    ),
)
