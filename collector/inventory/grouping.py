"""Which routes are one endpoint: all routes of one (service, host) in, a mapping route id -> endpoint out; pure.

Routes are immutable shapes; many of them may be one endpoint. Sibling segments join where they are values
(`collector.inventory.values` decides), from the root down. The result depends on the set of routes only, not on their
order, and mapping it again changes nothing.
"""

from collections.abc import Iterable, Mapping

from collector.inventory.mapping import EndpointName, name_endpoint
from collector.inventory.naming import LITERAL, WORD, identify_endpoint, template
from collector.inventory.position import PARAMETER, VALUE, Position, RouteEvidence
from collector.inventory.values import RARE_SHARE, find_values
from collector.rows import Segment


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


def _name(
    node: Position, segments: tuple[Segment, ...], words: Mapping[int, str], found: dict[int, EndpointName]
) -> None:
    for evidence in node.routes:
        route = evidence.route
        named = template(segments, False, words)
        found[route.route_id] = EndpointName(endpoint_id=identify_endpoint(route, named), template=named)
    for (kept, text, word_hash), child in node.children.items():
        kind = kept
        if kind == PARAMETER:
            # The shape most calls had names the parameter; words and literals that joined it say no more than
            # PARAMETER.
            shapes = {shape: calls for shape, calls in child.kinds.items() if shape not in (LITERAL, WORD)}
            kind = min(shapes, key=lambda shape: (-shapes[shape], shape), default=PARAMETER)
        _name(child, (*segments, Segment(kind, text, word_hash, 0)), words, found)


def map_endpoints(routes: Iterable[RouteEvidence], words: Mapping[int, str]) -> dict[int, EndpointName]:
    """Endpoints by route id: `routes` are all routes of one (service, host) with their totals, `words` the revealed
    texts by hash.

    Deterministic, independent of the order of `routes`. Cost: some 20 us a route. A trailing slash does not make
    another endpoint. The names of an RPC are never values: its routes are named by themselves.
    """
    found: dict[int, EndpointName] = {}
    plain = []
    for evidence in sorted(routes, key=lambda evidence: evidence.route.route_id):
        if evidence.is_rpc:
            found[evidence.route.route_id] = name_endpoint(evidence.route, words)
        else:
            plain.append(evidence)
    _name(_build(plain), (), words, found)
    return found
