"""The tables of each service, its host names and their tries, and the bounds on what a service may still add.

A node's own services are few, but it may call any number of others, so services are bounded too. The one that was
longest without a call is evicted with all it holds (second chance, Corbato 1969: a table used since the hand last
passed is spared once). An evicted service begins anew with the same route ids.

Clients fill these tables. Each service takes from its own allowance and from the sensor's. What was seen served (2xx)
takes from another pair than what never was. So neither one service nor a scanner uses up what the others need.
Everything is given back when a table is evicted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sensor.core.calls import Route, Segment, SegmentKind, Service
from sensor.core.keyed import PUBLIC_KEY, hash_siphash
from sensor.routes.trie import Node, Slot
from sensor.routes.vocabulary import HostNames


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


def compute_route_id(
    service: Service, host: str, method: str, segments: Iterable[Segment], has_trailing_slash: bool
) -> int:
    """SipHash-2-4 under the public key: equal on every node of an installation, since word hashes are keyed alike.

    A revealed word's text is not part of it, so an id survives the reveal.
    """
    parts = [
        service.cluster, service.namespace, service.workload, str(int(service.workload_kind)), service.host_name,
                  str(service.port),
        host, method, "/" if has_trailing_slash else "",
    ]  # fmt: skip
    for segment in segments:
        if segment.kind is SegmentKind.LITERAL:
            parts.append(f"={segment.text}")
        elif segment.kind is SegmentKind.WORD:
            parts.append(f"#{segment.hash:x}")
        else:
            parts.append(f"*{int(segment.kind)}")
    return hash_siphash(PUBLIC_KEY, "\0".join(parts).encode("utf-8", "replace")) or 1


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

    def __init__(self, service: Service, budget: Budget) -> None:
        self.service = service
        self.budget = budget
        self.is_recent = True
        self.roots: dict[str, Node] = {}
        self._hosts = HostNames()

    def admit(self, host: str, is_served: bool) -> tuple[str, Node | None]:
        """The name to report for a host, and its trie; None where there is no room for one."""
        name, evicted = self._hosts.admit(host, is_served)
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
        table = self._tables[service] = ServiceTable(service, Budget(self._limits, self.budget))
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
