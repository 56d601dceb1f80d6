"""Which routes are one endpoint: all routes of one (service, host) in, a versioned mapping route id -> endpoint out;
pure.

Routes are immutable shapes; many of them may be one endpoint. Sibling segments join where they are values
(`collector.inventory.values` decides), from the root down. The result depends on the set of routes only, not on their
order, and mapping it again changes nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from collector.inventory.naming import LITERAL, WORD, template
from collector.inventory.position import PARAMETER, VALUE, Position, RouteEvidence
from collector.inventory.values import RARE_SHARE, find_values
from collector.rows import Route, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a route belongs to. Equal (service, host, method, template) is the same endpoint."""

    endpoint_id: str
    method: str
    url_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointMap:
    """Endpoints of one (service, host) by route id. `version` changes exactly when the mapping does."""

    version: str
    endpoints: Mapping[int, Endpoint]


def _build(routes: Iterable[RouteEvidence]) -> Position:
    """The trie of the routes, with the values at each position joined."""
    root = Position()
    for evidence in routes:
        root.insert(evidence)
    _merge(root, rare_calls=RARE_SHARE * root.measure_endpoint_calls(), is_after_value=False)
    return root


def _merge(position: Position, *, rare_calls: float, is_after_value: bool) -> None:
    """Joins the values among the children, then goes down."""
    values = find_values(position, rare_calls=rare_calls, is_after_value=is_after_value)
    if values:
        target = position.children.setdefault(VALUE, Position())
        for key in sorted(values):
            target.absorb(position.children.pop(key))
    for key, child in position.children.items():
        _merge(child, rare_calls=rare_calls, is_after_value=key == VALUE)


def _name(node: Position, segments: tuple[Segment, ...], words: Mapping[int, str], found: dict[int, Endpoint]) -> None:
    for evidence in node.routes:
        route = evidence.route
        url_template = template(segments, False, words)
        found[route.route_id] = Endpoint(
            endpoint_id=_identify(route, url_template), method=route.method, url_template=url_template
        )
    for (kept, text, word_hash), child in node.children.items():
        kind = kept
        if kind == PARAMETER:
            # The shape most calls had names the parameter; words and literals that joined it say no more than
            # PARAMETER.
            shapes = {shape: calls for shape, calls in child.kinds.items() if shape not in (LITERAL, WORD)}
            kind = min(shapes, key=lambda shape: (-shapes[shape], shape), default=PARAMETER)
        _name(child, (*segments, Segment(kind, text, word_hash, 0)), words, found)


def _identify(route: Route, url_template: str) -> str:
    service = route.service
    place = (service.cluster, service.namespace, service.workload, str(service.workload_kind), service.host_name)
    parts = (*place, str(service.port), route.host, route.method, url_template)
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def find_candidates(routes: Iterable[RouteEvidence], known: Mapping[int, str]) -> list[int]:
    """Hashes of words whose text the inventory would show: those that stay words after merging and are not known yet.

    Sorted.
    """
    root = _build(routes)
    wanted: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        for key, child in node.children.items():
            if key[0] == WORD and child.served and key[2] not in known:
                wanted.add(key[2])
            pending.append(child)
    return sorted(wanted)


def map_endpoints(routes: Iterable[RouteEvidence], words: Mapping[int, str]) -> EndpointMap:
    """The endpoints of one (service, host): `routes` are all its routes with their totals, `words` the revealed texts
    by hash.

    Deterministic, independent of the order of `routes`. Cost: ~5 us a route. A trailing slash does not make another
    endpoint.
    """
    ordered = sorted(routes, key=lambda evidence: evidence.route.route_id)
    root = _build(ordered)
    found: dict[int, Endpoint] = {}
    _name(root, (), words, found)
    digest = hashlib.blake2b(digest_size=8)
    for route_id in sorted(found):
        digest.update(f"{route_id:x}={found[route_id].endpoint_id};".encode())
    return EndpointMap(version=digest.hexdigest(), endpoints=found)


def group_by_host(routes: Iterable[RouteEvidence]) -> dict[tuple[object, str], list[RouteEvidence]]:
    """Routes by (service, host): what `map_endpoints` takes at a time."""
    groups: dict[tuple[object, str], list[RouteEvidence]] = defaultdict(list)
    for evidence in routes:
        groups[evidence.route.service, evidence.route.host].append(evidence)
    return dict(groups)
