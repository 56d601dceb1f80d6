"""The route trie of one (service, host): what each position of its paths has held, within bounds.

A node's children are literals and words by their text, and parameters by their shape. A position that has held more
than `MAX_WORDS` different unknown words is a parameter. Earlier words keep their node, because routes are immutable,
and later ones share the `PARAMETER` child. Where an API begins, numbers are versions: up to `MAX_VERSIONS` different
ones stay literal.

What was never served (2xx) has bounds of its own at each position. So a scanner's guesses do not make a position a
parameter or use up its literals. A child that is served for the first time moves from one count to the other.

`trace_path` gives the steps of a path for the kernel route cache, and changes nothing.

`ServiceTables` has each service's host names with their tries, and bounds what a service may still add.

A node's own services are few, but it may call any number of others, so services are bounded too. The one that was
longest without a call is evicted with all it holds (second chance, Corbato 1969: a table used since the hand last
passed is spared once). An evicted service begins anew with the same route ids.

Clients fill these tables. Each service takes from its own allowance and from the sensor's. What was seen served (2xx)
takes from another pair than what never was. So neither one service nor a scanner uses up what the others need.
Everything is given back when a table is evicted.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from common.bounded import BoundedDict
from common.keyed_hash import compute_route_id
from sensor.core.calls import Origin, Route, Segment, SegmentKind, Service
from sensor.routes.host_names import MAX_WAITING, HostNames, WaitingHosts
from sensor.routes.segments import Shape, is_mount, is_release

# Different unknown words at one position before it is a parameter: an API that names its resources by words of its own
# has up to 60 of them below one prefix, and what the sensor folds the collector cannot tell apart any more.
MAX_WORDS: Final = 80
# Different API words at one position: the development documents have at most 93. A pattern (`{}.json`) counts as one.
MAX_LITERALS: Final = 1_000
# Of those, never served.
MAX_UNSERVED_LITERALS: Final = 100
# Different bare numbers or dates kept as API versions at one position.
MAX_VERSIONS: Final = 4


class Slot(IntEnum):
    """What a child is counted as at its position; one of a plain shape is not counted, shapes being few."""

    WORD = 0
    LITERAL = 1
    VERSION = 2
    SHAPE = 3


# Bound of each slot for children that were served, and behind them for those that never were.
_BOUNDS: Final = (
    *(MAX_WORDS, MAX_LITERALS, MAX_VERSIONS, len(SegmentKind)),
    *(MAX_WORDS, MAX_UNSERVED_LITERALS, MAX_VERSIONS, len(SegmentKind)),
)
_UNSERVED: Final = len(Slot)  # Offset of the second half.
# What most nodes have of what follows them: a node takes half of the memory where it shares this.
_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
_SHARED_KEYS: Final = 1_024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Node:
    """One position after a prefix of segments. `routes` by (method, trailing slash)."""

    __slots__ = ("_counts", "children", "is_parameter", "is_served", "routes", "segments", "shapes", "slot", "unserved")

    def __init__(self, segments: tuple[Segment, ...], slot: Slot, is_parameter: bool, is_served: bool) -> None:
        self.segments = segments
        self.slot = slot
        self.is_parameter = is_parameter  # Its own segment is a value.
        self.is_served = is_served  # Some path through it was.
        self.children: Mapping[str, Node] = _NOTHING  # By raw text: literals without a parameter inside, and words.
        self.shapes: Mapping[tuple[SegmentKind, str], Node] = _NOTHING
        self.routes: Mapping[tuple[str, bool], Route] = _NOTHING
        self.unserved: set[tuple[str, bool]] | None = None  # Keys of `routes` that were never served.
        self._counts: array[int] | None = None  # Of children, by slot, as `_BOUNDS`.

    def has_room(self, slot: Slot, is_served: bool) -> bool:
        """Whether one more child of this slot may be made: a position that is full of served ones is for all."""
        counts = self._counts
        if counts is None:
            return True
        return counts[slot] < _BOUNDS[slot] and (is_served or counts[slot + _UNSERVED] < _BOUNDS[slot + _UNSERVED])

    def count_words(self, *, with_unserved: bool) -> int:
        """Different unknown words here that were served, and those that never were."""
        counts = self._counts
        if counts is None:
            return 0
        return counts[Slot.WORD] + (counts[Slot.WORD + _UNSERVED] if with_unserved else 0)

    def add(self, child: "Node", text: str | None) -> None:
        """A child by its raw text, or by the shape of its last segment."""
        if text is None:
            last = child.segments[-1]
            self.shapes = _put(self.shapes, _share_shape(last.kind, last.text), child)
        else:
            self.children = _put(self.children, text, child)
        if self._counts is None:
            self._counts = array("H", bytes(2 * len(_BOUNDS)))
        self._counts[child.slot if child.is_served else child.slot + _UNSERVED] += 1

    def add_route(self, key: tuple[str, bool], route: Route) -> None:
        """The route that ends here under a key, or another in its place."""
        self.routes = _put(self.routes, share_key(*key), route)

    def mark_served(self, child: "Node") -> None:
        """Counts a child of this node among the served ones from now on. May go over their bound, by no more than the
        other's."""
        assert self._counts is not None
        child.is_served = True
        self._counts[child.slot + _UNSERVED] -= 1
        self._counts[child.slot] += 1


def _put(mapping: Mapping[_Key, _Value], key: _Key, value: _Value) -> Mapping[_Key, _Value]:
    """The mapping with one more entry: itself, unless it is the one that nodes share."""
    if isinstance(mapping, dict):
        mapping[key] = value
        return mapping
    return {key: value}


@lru_cache(maxsize=_SHARED_KEYS)
def share_key(method: str, has_trailing_slash: bool) -> tuple[str, bool]:
    """The key of a route at its node: one object for all nodes."""
    return method, has_trailing_slash


@lru_cache(maxsize=_SHARED_KEYS)
def _share_shape(kind: SegmentKind, text: str) -> tuple[SegmentKind, str]:
    return kind, text


class Step(msgspec.Struct, frozen=True):
    """One segment of a path that was routed."""

    text: str
    node: Node  # Where it leads.
    is_exact: bool  # By its own text; else by its shape.
    is_plain: bool  # Its value is its text as it stands in the path.


class Trace(msgspec.Struct, frozen=True):
    """The way of a path through its trie; the route is `route`, whatever was revealed since."""

    root: Node
    steps: tuple[Step, ...]
    key: tuple[str, bool]  # (method, trailing slash)

    @property
    def node(self) -> Node:
        """Where it ends."""
        return self.steps[-1].node if self.steps else self.root

    @property
    def route(self) -> Route:
        """The route there."""
        return self.node.routes[self.key]


def trace_path(
    root: Node, texts: Sequence[str], key: tuple[str, bool], classify: Callable[[str], Shape]
) -> Trace | None:
    """The steps from `root`, as `Templater.route` makes them once they exist; None where one does not."""
    node, steps = root, []
    for depth, text in enumerate(texts):
        child, is_exact, value = node.children.get(text), True, text
        if child is None:
            shape = classify(text)
            child, is_exact, value = _find_by_shape(node, depth, text, shape), False, shape.value or text
            if child is None:
                return None
        steps.append(Step(text, child, is_exact, value == text))
        node = child
    return Trace(root, tuple(steps), key) if key in node.routes else None


def _find_by_shape(node: Node, depth: int, text: str, shape: Shape) -> Node | None:
    """The child of a segment that is none by its own text: patterns and plain shapes have one, words past the bound
    share one."""
    if "{}" in shape.text:
        pattern = node.shapes.get((shape.kind, shape.text))
        if pattern is not None:
            return pattern
    is_word = shape.kind in (SegmentKind.LITERAL, SegmentKind.WORD)
    is_word |= depth == 0 and shape.kind is SegmentKind.TOKEN and is_mount(text)
    return node.shapes.get((SegmentKind.PARAMETER if is_word else shape.kind, ""))


# Where an API's version stands: /2.0/users, /api/3/users.
VERSION_DEPTH: Final = 2
# Longer ones (`1.2-` and a name) are values.
MAX_VERSION_CHARACTERS: Final = 24
MAX_VERSION_DIGITS: Final = 2  # Whole numbers with more are no versions (shapes.is_release).
_API_ROOTS: Final = frozenset(
    (
        "api", "rest", "apis", "services", "service", "v", "version", "ws", "public", "odata", "json", "data",
        "public-api",
    )
)  # fmt: skip


def is_version_here(node: Node, depth: int, text: str) -> bool:
    """Whether a number stands where versions stand: dotted ones near the start, whole ones and dates where an API
    begins."""
    if len(text) > MAX_VERSION_CHARACTERS or not is_release(text):
        return False
    return (depth < VERSION_DEPTH and _begins_api(node, depth)) or (text.count(".") == 1 and len(text) <= 4)


def _begins_api(node: Node, depth: int) -> bool:
    """Whether a version may stand after this prefix: at the root, or after /api and the like."""
    return depth == 0 or (
        node.segments[-1].kind is SegmentKind.LITERAL and node.segments[-1].text.lower() in _API_ROOTS
    )


class Allowance:
    """Counts what was taken, at most `limit`; with a `parent`, at most what that has left as well."""

    __slots__ = ("_parent", "limit", "used")

    def __init__(self, limit: int, parent: "Allowance | None" = None) -> None:
        self.limit = limit
        self.used = 0
        self._parent = parent

    def has(self, count: int) -> bool:
        """Whether `count` more may be taken."""
        return self.used + count <= self.limit and (self._parent is None or self._parent.has(count))

    def take(self, count: int = 1) -> bool:
        """Takes `count`, or nothing and answers no."""
        if not self.has(count):
            return False
        self._add(count)
        return True

    def give_back(self, count: int) -> None:
        """Returns what was taken."""
        self._add(-count)

    def _add(self, count: int) -> None:
        self.used += count
        if self._parent is not None:
            self._parent._add(count)


# Services of one node, local and called. A table without routes costs ~2 KB.
MAX_SERVICES: Final = 2_048
# Routes of one sensor that were served (2xx). With every table full of random paths of four unknown words the templater
# held 45 MB (at 40,000 nodes), its caches and the words to reveal included; a route with its nodes is 1 to 2 KB of it.
MAX_ROUTES: Final = 20_000
# Routes that never were: scanners fill these, and only these.
MAX_UNSERVED_ROUTES: Final = 4_000
# Nodes of the tries, by whether a path through them was served: two for each route and some that they share, three
# where a scanner made them, which have little in common.
MAX_NODES: Final = 42_000
MAX_UNSERVED_NODES: Final = 12_000
# One service's part of each: half of what is served, a quarter of what is not. The largest development document has
# 1,100 routes.
SERVICE_PART: Final = 2
UNSERVED_SERVICE_PART: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLimits:
    """The bounds of one sensor's tables; what exceeds them goes to `other` routes."""

    services: int = MAX_SERVICES
    routes: int = MAX_ROUTES
    unserved_routes: int = MAX_UNSERVED_ROUTES
    nodes: int = MAX_NODES
    unserved_nodes: int = MAX_UNSERVED_NODES


class Budget:
    """Routes and nodes that may be made, served and never served: the sensor's, or a service's part of them."""

    __slots__ = ("nodes", "routes", "unserved_nodes", "unserved_routes")

    def __init__(self, limits: TableLimits, whole: "Budget | None" = None) -> None:
        if whole is None:
            self.routes, self.nodes = Allowance(limits.routes), Allowance(limits.nodes)
            self.unserved_routes = Allowance(limits.unserved_routes)
            self.unserved_nodes = Allowance(limits.unserved_nodes)
        else:
            self.routes = Allowance(limits.routes // SERVICE_PART, whole.routes)
            self.nodes = Allowance(limits.nodes // SERVICE_PART, whole.nodes)
            self.unserved_routes = Allowance(limits.unserved_routes // UNSERVED_SERVICE_PART, whole.unserved_routes)
            self.unserved_nodes = Allowance(limits.unserved_nodes // UNSERVED_SERVICE_PART, whole.unserved_nodes)

    def give_back_all(self) -> None:
        """Returns what a service took, when it goes."""
        for allowance in (self.routes, self.nodes, self.unserved_routes, self.unserved_nodes):
            allowance.give_back(allowance.used)


def make_route(
    service: Service, host: str, method: str, segments: tuple[Segment, ...], has_trailing_slash: bool
) -> Route:
    return Route(
        route_id=compute_route_id(service, host, method, segments, has_trailing_slash),
        service=service,
        host=host,
        method=method,
        segments=segments,
        has_trailing_slash=has_trailing_slash,
    )


class ServiceTable:
    """One service: `roots` by the host name reported. It pays for each node and route, and gives back what goes."""

    __slots__ = ("_hosts", "budget", "is_recent", "roots", "service")

    def __init__(self, service: Service, budget: Budget, waiting: WaitingHosts) -> None:
        self.service = service
        self.budget = budget
        self.is_recent = True
        self.roots: dict[str, Node] = {}
        self._hosts = HostNames(waiting)

    def find_root(self, host: str, is_served: bool, origin: Origin, time_ns: int) -> tuple[str, Node | None]:
        """The name to report for the host of a call, and its trie; None where there is no room for one."""
        root = self.roots.get(host)
        if root is None or (is_served and not root.is_served):
            return self._admit(host, is_served, origin, time_ns)
        if is_served:
            self._hosts.count(host, origin.network, time_ns)
        return host, root

    def _admit(self, host: str, is_served: bool, origin: Origin, time_ns: int) -> tuple[str, Node | None]:
        name, evicted = self._hosts.admit(host, is_served, origin.network, time_ns)
        if evicted is not None:
            self._drop(evicted)
        root = self.roots.get(name)
        if root is None:
            root = self._make_node(Node((), Slot.SHAPE, False, is_served))
            if root is None:
                return name, None
            self.roots[name] = root
        elif is_served:
            self.serve_node(root)
        return name, root

    def add_child(self, node: Node, text: str | None, segment: Segment, slot: Slot, is_served: bool) -> Node | None:
        """A child by its raw text, or by its shape; None where there is no room for it."""
        is_parameter = segment.kind is not SegmentKind.LITERAL or text is None
        child = self._make_node(Node((*node.segments, segment), slot, is_parameter, is_served))
        if child is not None:
            node.add(child, text)
        return child

    def find_route(self, host: str, node: Node, key: tuple[str, bool], is_served: bool) -> Route | None:
        """The route that ends at `node`, made at its first call; None where there is no room for it."""
        route, budget = node.routes.get(key), self.budget
        if route is None:
            if not (budget.routes if is_served else budget.unserved_routes).take():
                return None
            if not is_served:
                node.unserved = node.unserved or set()
                node.unserved.add(key)
            method, has_trailing_slash = key
            route = make_route(self.service, host, method, node.segments, has_trailing_slash)
            node.add_route(key, route)
        elif is_served and node.unserved and key in node.unserved and budget.routes.take():
            budget.unserved_routes.give_back(1)
            node.unserved.discard(key)
        return route

    def _make_node(self, node: Node) -> Node | None:
        allowance = self.budget.nodes if node.is_served else self.budget.unserved_nodes
        return node if allowance.take() else None

    def serve_node(self, node: Node, parent: Node | None = None) -> None:
        """Moves a node that was served for the first time to the other allowance, where that has room."""
        if not node.is_served and self.budget.nodes.take():
            self.budget.unserved_nodes.give_back(1)
            if parent is None:
                node.is_served = True
            else:
                parent.mark_served(node)

    def _drop(self, host: str) -> None:
        """Forgets a host that gave way, and returns what its trie took."""
        root = self.roots.pop(host, None)
        for node in walk_nodes(root) if root else ():
            (self.budget.nodes if node.is_served else self.budget.unserved_nodes).give_back(1)
            unserved = len(node.unserved or ())
            self.budget.unserved_routes.give_back(unserved)
            self.budget.routes.give_back(len(node.routes) - unserved)


def walk_nodes(root: Node) -> Iterator[Node]:
    """A node and all below it, in no special order."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending += node.children.values()
        pending += node.shapes.values()


class ServiceTables:
    """The tables of every service of this sensor, oldest first."""

    def __init__(self, limits: TableLimits) -> None:
        self._limits = limits
        self._tables: dict[Service, ServiceTable] = {}
        self._waiting: WaitingHosts = BoundedDict(MAX_WAITING)
        self.budget = Budget(limits)
        self.evicted_services = 0

    def find(self, service: Service) -> ServiceTable:
        """The table of a service, made at its first call. One look-up."""
        table = self._tables.get(service)
        if table is None:
            table = self._add(service)
        table.is_recent = True
        return table

    def all(self) -> Iterator[ServiceTable]:
        """Every table."""
        return iter(self._tables.values())

    def __len__(self) -> int:
        return len(self._tables)

    def _add(self, service: Service) -> ServiceTable:
        if len(self._tables) >= self._limits.services:
            self._evict()
        table = self._tables[service] = ServiceTable(service, Budget(self._limits, self.budget), self._waiting)
        return table

    def _evict(self) -> None:
        """Drops the first table without a call since the hand last passed it; the others go to the end."""
        while True:
            service = next(iter(self._tables))
            table = self._tables.pop(service)
            if not table.is_recent:
                break
            table.is_recent = False
            self._tables[service] = table
        table.budget.give_back_all()
        self.evicted_services += 1
