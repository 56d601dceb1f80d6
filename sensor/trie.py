"""The route trie of one (service, host): what each position of its paths has held, within bounds.

A node's children are literals and words by their text, and parameters by their shape. A position that has held more
than `MAX_WORDS` different unknown words is a parameter: words met before keep their node (routes are immutable), later
ones share the `PARAMETER` child. Where an API begins, numbers are versions: up to `MAX_VERSIONS` different ones stay
literal.

What was never served (2xx) has bounds of its own at each position, so that a scanner's guesses do not make a position
a parameter or use up its literals. A child that is served for the first time moves from one count to the other.
"""

from array import array
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sensor.calls import Route, Segment, SegmentKind

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
