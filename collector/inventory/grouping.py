"""Which routes are one endpoint: all routes of one (service, host) in, a versioned mapping route id -> endpoint out;
pure.

Routes are immutable shapes; many of them may be one endpoint. Sibling segments join where they are values: - every
shape of parameter at one position is one parameter; - unknown words are values where they are many and thinly used (an
open set): a literal is called by everybody, a value by few; - API words beside such an open set join it when nothing
but the set's own calls sets them apart. What was never served (only 404) proves nothing and joins no decision. The
result depends on the set of routes only, not on their order, and mapping it again changes nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from collector.inventory.naming import LITERAL, WORD, template
from collector.rows import Route, Segment

PARAMETER: Final = 10  # proto SegmentKind.

# An open set has at least so many different words...
MIN_OPEN_WORDS: Final = 4
# ... or so few, where shapes of parameters stand beside them or most were met once or twice.
MIN_THIN_WORDS: Final = 2
# Mean calls a word above which a set of few words is of literals: each literal of an API is an endpoint with traffic of
# its own.
MAX_MEAN_CALLS: Final = 4.0
# Share of words met once or twice from which on a set is open: an estimate of unseen values (Good and Turing).
MIN_THIN_SHARE: Final = 0.25
# Share of a position's words that API words may have to be taken for values of the set.
MAX_LITERAL_SHARE: Final = 0.6
# So many words with the same literals below them are values, however often each is called.
MIN_ALIKE_WORDS: Final = 4
MIN_ALIKE_SHARE: Final = 0.7
# From so many different file extensions on, `{}.ext` siblings are one parameter.
MIN_EXTENSIONS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEvidence:
    """One route and what was seen of it."""

    route: Route
    calls: int
    served_calls: int  # 2xx.
    consumers: int


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


Key = tuple[int, str, int]
_VALUE: Final[Key] = (PARAMETER, "", 0)


class _Node:
    """One position of the trie of routes; words and literals by text or hash, all shapes of parameter as `_VALUE`."""

    __slots__ = ("calls", "children", "is_counted", "kinds", "routes", "served")

    def __init__(self) -> None:
        self.children: dict[Key, _Node] = {}
        self.calls = 0
        self.served = 0
        self.is_counted = False  # The sensor met too many words here and folded the rest (PARAMETER).
        self.kinds: dict[int, int] = {}  # Calls by kind of the segment that led here.
        self.routes: list[tuple[RouteEvidence, tuple[Segment, ...]]] = []


def _key(segment: Segment) -> Key:
    if segment.kind == LITERAL:
        return (LITERAL, segment.text, 0)
    return (WORD, "", segment.hash) if segment.kind == WORD else _VALUE


def _insert(root: _Node, evidence: RouteEvidence) -> None:
    node = root
    for segment in evidence.route.segments:
        node.calls += evidence.calls
        node.served += evidence.served_calls
        node.is_counted = node.is_counted or segment.kind == PARAMETER
        node = node.children.setdefault(_key(segment), _Node())
        node.kinds[segment.kind] = node.kinds.get(segment.kind, 0) + evidence.calls
    node.calls += evidence.calls
    node.served += evidence.served_calls
    node.routes.append((evidence, ()))


def _absorb(target: _Node, source: _Node) -> None:
    target.calls += source.calls
    target.served += source.served
    target.is_counted = target.is_counted or source.is_counted
    for kind, calls in source.kinds.items():
        target.kinds[kind] = target.kinds.get(kind, 0) + calls
    target.routes += source.routes
    for key, child in source.children.items():
        if key in target.children:
            _absorb(target.children[key], child)
        else:
            target.children[key] = child


def _is_inside(small: _Node, large: _Node) -> bool:
    """Whether every path below `small` also exists below `large` (methods included)."""
    methods = {evidence.route.method for evidence, _ in large.routes}
    if any(evidence.route.method not in methods for evidence, _ in small.routes):
        return False
    return all(
        (key in large.children and _is_inside(child, large.children[key]))
        or (key[0] == WORD and any(_is_inside(child, other) for other in large.children.values()))
        for key, child in small.children.items()
    )


def _find_values(node: _Node) -> list[Key]:
    """Which named children of `node` are values of one parameter."""
    words = [(key, child) for key, child in node.children.items() if key[0] == WORD and child.served]
    literals = [(key, child) for key, child in node.children.items() if key[0] == LITERAL and child.served]
    shapes = node.children.get(_VALUE)
    values: list[Key] = []
    if words:
        calls = sum(child.calls for _, child in words)
        mean = calls / len(words)
        thin = sum(child.calls <= 2 for _, child in words) / len(words)
        is_open = len(words) >= MIN_OPEN_WORDS and (mean < MAX_MEAN_CALLS or thin >= MIN_THIN_SHARE)
        is_thin = len(words) >= MIN_THIN_WORDS and thin >= 0.5
        # Words beside a parameter of words by count are of the same set.
        is_beside = shapes is not None and (mean < MAX_MEAN_CALLS or thin >= MIN_THIN_SHARE)
        if node.is_counted or is_open or is_thin or is_beside or (len(words) >= MIN_ALIKE_WORDS and _are_alike(words)):
            values = [key for key, child in node.children.items() if key[0] == WORD]
            if node.is_counted or not (is_open or is_thin):
                values = [key for key in values if _shares(node, key)]
            limit = sorted(child.calls for _, child in words)[len(words) * 9 // 10] * 2
            union = _Node()
            for key in values:
                _absorb_copy(union, node.children[key])
            if shapes is not None:
                _absorb_copy(union, shapes)
            below = _forms(union)
            joining = [key for key, child in literals if "{}" not in key[1] and _joins(child, union, below, limit)]
            if len(values) >= MIN_OPEN_WORDS and len(joining) <= MAX_LITERAL_SHARE * len(values):
                values += joining
    extensions = [key for key, _ in literals if key[1].startswith("{}.")]
    if len(extensions) >= MIN_EXTENSIONS:
        values += extensions
    return values


def _forms(node: _Node) -> set[str]:
    """What stands below a position: the methods that end there and the children that are no words."""
    forms = {evidence.route.method for evidence, _ in node.routes}
    forms |= {f"/{text}" if kind == LITERAL else "/*" for kind, text, _ in node.children}
    return forms


def _shares(node: _Node, key: Key) -> bool:
    """Whether a word has most of what is below it in common with its sibling words and parameters."""
    others: set[str] = set()
    for other, child in node.children.items():
        if other != key and other[0] != LITERAL:
            others |= _forms(child)
    own = _forms(node.children[key])
    return len(own & others) * 2 >= len(own)


def _joins(child: _Node, union: _Node, below: set[str], limit: int) -> bool:
    """Whether an API word is one more value of the set `union`: it has named things below it in common with the set, or
    it is called no more than the set's words are and has nothing that they lack."""
    own = _forms(child)
    named = [name for name in own if name.startswith("/") and name != "/*"]
    if named:
        return sum(name in below for name in named) * 3 >= len(named) * 2 and len(own & below) * 3 >= len(own) * 2
    return child.calls <= limit and _is_inside(child, union)


def _are_alike(words: list[tuple[Key, _Node]]) -> bool:
    """Whether words of one position have the same below them, and have more than one thing there: values of one

    parameter do.
    """
    forms = [_forms(child) for _, child in words]
    counts: dict[str, int] = defaultdict(int)
    for form in forms:
        for name in form:
            counts[name] += 1
    common = {name for name, count in counts.items() if count * 3 >= len(forms)}
    literals = [name for name in common if name.startswith("/") and name != "/*"]
    total = sum(counts.values())
    return bool(literals) and sum(counts[name] for name in common) >= MIN_ALIKE_SHARE * total


def _absorb_copy(target: _Node, source: _Node) -> None:
    """`_absorb` without sharing nodes, for comparison only."""
    target.routes += source.routes
    for key, child in source.children.items():
        _absorb_copy(target.children.setdefault(key, _Node()), child)


def _merge(node: _Node) -> None:
    """Joins the values among the children, then goes down."""
    values = _find_values(node)
    if values:
        target = node.children.setdefault(_VALUE, _Node())
        for key in sorted(values):
            if key != _VALUE:
                _absorb(target, node.children.pop(key))
    for child in node.children.values():
        _merge(child)


def _name(node: _Node, segments: tuple[Segment, ...], words: Mapping[int, str], found: dict[int, Endpoint]) -> None:
    for evidence, _ in node.routes:
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
    root = _Node()
    for evidence in routes:
        _insert(root, evidence)
    _merge(root)
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
    root = _Node()
    for evidence in ordered:
        _insert(root, evidence)
    _merge(root)
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
