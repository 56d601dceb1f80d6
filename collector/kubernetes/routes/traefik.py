"""Reads IngressRoute and IngressRouteTCP of Traefik (traefik.io/v1alpha1), and the TraefikServices they refer to.

A rule is an expression of matchers with `&&`, `||`, `!` and parentheses, as ``Host(`a`) && PathPrefix(`/b`)``. It is
read as alternatives of matchers that hold together. A matcher behind `!`, and one on anything but host, path and
method, narrows nothing here. A rule that cannot be read leads there from everywhere.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from collector.kubernetes.addresses import Backend
from collector.kubernetes.objects import Object
from collector.kubernetes.routes.base import ANY_HOST, RouteKind, Way
from collector.kubernetes.rows import FactKind
from collector.kubernetes.state import ClusterState
from common.kubernetes.objects import Part

# Of one rule; one with more leads there from everywhere.
ALTERNATIVES_MAX: Final = 64
_DEPTH_MAX: Final = 16  # Of parentheses.
_CHAIN_MAX: Final = 4  # TraefikServices that refer to each other.


class TraefikTarget(Part, frozen=True, kw_only=True):
    name: str
    kind: str = "Service"
    namespace: str = ""
    port: int | str | None = None
    weight: int | None = None


class TraefikMiddleware(Part, frozen=True, kw_only=True):
    name: str


class TraefikRoute(Part, frozen=True, kw_only=True):
    match: str = ""
    services: tuple[TraefikTarget, ...] | None = None
    middlewares: tuple[TraefikMiddleware, ...] | None = None


class TraefikTls(Part, frozen=True, kw_only=True):
    passthrough: bool = False


class IngressRouteSpec(Part, frozen=True, kw_only=True):
    entry_points: tuple[str, ...] | None = None
    routes: tuple[TraefikRoute, ...] | None = None
    tls: TraefikTls | None = None


class IngressRouteObject(Object, frozen=True, kw_only=True):
    spec: IngressRouteSpec = IngressRouteSpec()


class IngressRouteTcpObject(Object, frozen=True, kw_only=True):
    spec: IngressRouteSpec = IngressRouteSpec()


class WeightedServices(Part, frozen=True, kw_only=True):
    services: tuple[TraefikTarget, ...] | None = None


class TraefikServiceSpec(Part, frozen=True, kw_only=True):
    weighted: WeightedServices | None = None
    mirroring: TraefikTarget | None = None  # The mirrors' answers reach nobody.


class TraefikServiceObject(Object, frozen=True, kw_only=True):
    spec: TraefikServiceSpec = TraefikServiceSpec()


@dataclass(frozen=True, slots=True)
class Matcher:
    """One function of a rule: ``PathPrefix(`/a`)``."""

    name: str
    arguments: tuple[str, ...]


# Matchers that hold together.
Alternative = tuple[Matcher, ...]
EVERYTHING: Final[Sequence[Alternative]] = ((),)

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<sign>&&|\|\||[!(),])|(?P<name>[A-Za-z]\w*)|`(?P<raw>[^`]*)`|\"(?P<text>(?:[^\"\\]|\\.)*)\")"
)


class _RuleError(Exception):
    """A rule that this grammar does not have."""


def parse_rule(rule: str) -> Sequence[Alternative]:
    """The alternatives of a rule; EVERYTHING where it cannot be read."""
    try:
        parser = _Parser(_split_tokens(rule))
        found = parser.parse_alternatives(0)
        parser.expect_end()
        return found
    except _RuleError:
        return EVERYTHING


def _split_tokens(rule: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place, end = 0, len(rule.rstrip())
    while place < end:
        match = _TOKEN.match(rule, place)
        if match is None:
            raise _RuleError
        kind = match.lastgroup or ""
        tokens.append(("text" if kind == "raw" else kind, match[kind]))
        place = match.end()
    return tokens


class _Parser:
    """Recursive descent: or, and, not."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0

    def expect_end(self) -> None:
        if self._place != len(self._tokens):
            raise _RuleError

    def parse_alternatives(self, depth: int) -> list[Alternative]:
        found = self._parse_together(depth)
        while self._take("||"):
            found = _check(found + self._parse_together(depth))
        return found

    def _parse_together(self, depth: int) -> list[Alternative]:
        found = self._parse_one(depth)
        while self._take("&&"):
            found = _check([(*one, *other) for one, other in itertools.product(found, self._parse_one(depth))])
        return found

    def _parse_one(self, depth: int) -> list[Alternative]:
        if depth > _DEPTH_MAX:
            raise _RuleError
        if self._take("!"):
            self._parse_one(depth + 1)
            return [()]
        if self._take("("):
            found = self.parse_alternatives(depth + 1)
            self._expect(")")
            return found
        name = self._next("name")
        self._expect("(")
        arguments: list[str] = []
        while not self._take(")"):
            arguments.append(self._next("text"))
            self._take(",")
        return [(Matcher(name, tuple(arguments)),)]

    def _take(self, sign: str) -> bool:
        is_there = self._place < len(self._tokens) and self._tokens[self._place] == ("sign", sign)
        self._place += is_there
        return is_there

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise _RuleError

    def _next(self, kind: str) -> str:
        if self._place >= len(self._tokens) or self._tokens[self._place][0] != kind:
            raise _RuleError
        self._place += 1
        return self._tokens[self._place - 1][1]


def _check(found: list[Alternative]) -> list[Alternative]:
    if len(found) > ALTERNATIVES_MAX:
        raise _RuleError
    return found


_PATHS: Final = {"Path": "Exact", "PathPrefix": "Prefix", "PathRegexp": "Pattern"}


def _read_alternative(alternative: Alternative) -> Iterator[tuple[str, str, str, str]]:
    """(host, path, its type, method) of matchers that hold together. Version 2 takes several arguments as
    alternatives, and patterns in braces."""
    hosts, paths, methods = [ANY_HOST], [("/", "Prefix")], [""]
    for matcher in alternative:
        if matcher.name in ("Host", "HostHeader", "HostSNI"):
            hosts = [ANY_HOST if "{" in host else host for host in matcher.arguments] or hosts
        elif matcher.name in _PATHS:
            kind = _PATHS[matcher.name]
            paths = [(path, "Pattern" if "{" in path else kind) for path in matcher.arguments] or paths
        elif matcher.name == "Method":
            methods = list(matcher.arguments) or methods
    for host, (path, kind), method in itertools.product(hosts, paths, methods):
        yield host, path, kind, method.upper()


def list_ways(route: IngressRouteObject | IngressRouteTcpObject, state: ClusterState) -> Iterator[Way]:
    """Every rule of an IngressRoute."""
    spec = route.spec
    entries = ", ".join(spec.entry_points or ())
    for one in spec.routes or ():
        targets = one.services or ()
        backends = tuple(
            backend for target in targets for backend in _resolve(target, route.metadata.namespace, state, 0)
        )
        for alternative in parse_rule(one.match):
            for host, path, path_type, method in _read_alternative(alternative):
                yield Way(
                    host=host,
                    path=path,
                    path_type=path_type,
                    method=method,
                    backends=backends,
                    is_tls=spec.tls is not None,
                    # What a middleware does is not read; some strip prefixes.
                    is_rewritten=bool(one.middlewares),
                    note=f"entry points {entries}" if entries else "",
                )


def _resolve(target: TraefikTarget, home: str, state: ClusterState, depth: int) -> Iterator[Backend]:
    """The Services of a target, behind TraefikServices too."""
    namespace = target.namespace or home
    if target.weight == 0 or depth > _CHAIN_MAX:
        return
    if target.kind == "TraefikService":
        service = state.of(TraefikServiceObject).get((namespace, target.name))
        if service is not None:
            weighted, mirrored = service.spec.weighted, service.spec.mirroring
            for one in (*((weighted.services or ()) if weighted else ()), *((mirrored,) if mirrored else ())):
                yield from _resolve(one, namespace, state, depth + 1)
        return
    port = str(target.port or "")
    yield Backend(
        namespace=namespace,
        name=target.name,
        number=int(port) if port.isdecimal() else 0,
        port_name="" if port.isdecimal() else port,
    )


def _describe(kind: type[Object], group: str, resource: str, *, is_route: bool = True) -> RouteKind:
    return RouteKind(
        type=kind,
        group=group,
        versions=("v1alpha1",),
        resource=resource,
        fact=FactKind.INGRESS_ROUTE if is_route else None,
        list_ways=list_ways if is_route else None,
    )


_GROUP: Final = "traefik.io"
KINDS: Final = (
    _describe(IngressRouteObject, _GROUP, "ingressroutes"),
    _describe(IngressRouteTcpObject, _GROUP, "ingressroutetcps"),
    _describe(TraefikServiceObject, _GROUP, "traefikservices", is_route=False),
)
