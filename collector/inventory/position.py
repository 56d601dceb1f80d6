"""The trie of a (service, host)'s routes as grouping sees it: one `Position` after each prefix, and its calls.

Words and literals are children by hash or text; all shapes of parameter are one child. The functions below answer what
the rules of `collector.inventory.values` ask of a position. Mutable while routes are joined; nothing here outlives one
mapping.
"""

from dataclasses import dataclass
from typing import Final

from collector.inventory.naming import LITERAL, WORD
from collector.rows import Route, Segment

PARAMETER: Final = 10  # proto SegmentKind.
# Routes called less often tell little of how often an endpoint of this service is called.
MIN_ENDPOINT_CALLS: Final = 3
# How far below a position named things are compared: /apis/{group}/v1/namespaces has its names at two and three.
NAMES_DEPTH: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEvidence:
    """One route and what was seen of it."""

    route: Route
    calls: int
    served_calls: int  # 2xx.
    is_rpc: bool = False  # The path ends in the names of a service and a method.


Key = tuple[int, str, int]
VALUE: Final[Key] = (PARAMETER, "", 0)


class Position:
    """One position of the trie of routes; words and literals by text or hash, all shapes of parameter as `VALUE`."""

    __slots__ = ("calls", "children", "is_counted", "kinds", "routes", "served")

    def __init__(self) -> None:
        self.children: dict[Key, Position] = {}
        self.calls = 0
        self.served = 0
        self.is_counted = False  # The sensor met too many words here and folded the rest (PARAMETER).
        self.kinds: dict[int, int] = {}  # Calls by kind of the segment that led here.
        self.routes: list[RouteEvidence] = []

    def insert(self, evidence: RouteEvidence) -> None:
        """A route, below this root."""
        node = self
        for segment in evidence.route.segments:
            node.calls += evidence.calls
            node.served += evidence.served_calls
            node.is_counted = node.is_counted or segment.kind == PARAMETER
            node = node.children.setdefault(_key(segment), Position())
            node.kinds[segment.kind] = node.kinds.get(segment.kind, 0) + evidence.calls
        node.calls += evidence.calls
        node.served += evidence.served_calls
        node.routes.append(evidence)

    def absorb(self, source: "Position") -> None:
        """Takes over a sibling; the two are one position from now on."""
        self.calls += source.calls
        self.served += source.served
        self.is_counted = self.is_counted or source.is_counted
        for kind, calls in source.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + calls
        self.routes += source.routes
        for key, child in source.children.items():
            if key in self.children:
                self.children[key].absorb(child)
            else:
                self.children[key] = child

    def absorb_copy(self, source: "Position") -> None:
        """`absorb` of routes alone and without sharing positions, for comparison only."""
        self.routes += source.routes
        for key, child in source.children.items():
            self.children.setdefault(key, Position()).absorb_copy(child)

    def has_names(self) -> bool:
        """Whether a literal stands right below."""
        return any(kind == LITERAL for kind, _, _ in self.children)

    def find_forms(self) -> set[str]:
        """What stands right below: the methods that end here, `/text` of literals, and `/*` for all else."""
        forms = {evidence.route.method for evidence in self.routes}
        return forms | {f"/{text}" if kind == LITERAL else "/*" for kind, text, _ in self.children}

    def find_names(self, prefix: str = "", depth: int = NAMES_DEPTH) -> set[str]:
        """Paths to the literals up to `depth` levels below, `*` for all else on the way."""
        names: set[str] = set()
        if depth:
            for (kind, text, _), child in self.children.items():
                path = f"{prefix}/{text}" if kind == LITERAL else f"{prefix}/*"
                if kind == LITERAL:
                    names.add(path)
                names |= child.find_names(path, depth - 1)
        return names

    def is_inside(self, other: "Position") -> bool:
        """Whether every path below here also exists below `other` (methods included)."""
        methods = {evidence.route.method for evidence in other.routes}
        if any(evidence.route.method not in methods for evidence in self.routes):
            return False
        return all(
            (key in other.children and child.is_inside(other.children[key]))
            or (key[0] == WORD and any(child.is_inside(candidate) for candidate in other.children.values()))
            for key, child in self.children.items()
        )

    def measure_endpoint_calls(self) -> float:
        """Mean calls of a (path, method) below this root, of those called a few times; 0 where there are none."""
        endpoints = calls = 0
        pending = [self]
        while pending:
            node = pending.pop()
            own = sum(evidence.calls for evidence in node.routes)
            if own >= MIN_ENDPOINT_CALLS:
                endpoints += len({evidence.route.method for evidence in node.routes if evidence.served_calls})
                calls += own
            pending += node.children.values()
        return calls / endpoints if endpoints else 0.0


def _key(segment: Segment) -> Key:
    if segment.kind == LITERAL:
        return (LITERAL, segment.text, 0)
    return (WORD, "", segment.hash) if segment.kind == WORD else VALUE
