"""The route trie of one (service, host): what each position of its paths has held, within bounds.

A node's children are literals and words by their text, and parameters by their shape. A position that has held more
than `MAX_WORDS` different unknown words is a parameter. Earlier words keep their node, because routes are immutable,
and later ones share the `PARAMETER` child. Where an API begins, numbers are versions: up to `MAX_VERSIONS` different
ones stay literal.

What was never served (2xx) has bounds of its own at each position. So a scanner's guesses do not make a position a
parameter or use up its literals. A child that is served for the first time moves from one count to the other.

`trace_path` gives the steps of a path for the kernel route cache, and changes nothing.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from sensor.core.calls import Route, Segment, SegmentKind
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
