"""The route trie of one (service, host): what each position of its paths has held, within bounds.

A node's children are literals and words by their text, and parameters by their shape. A position that has held more
than `MAX_WORDS` different unknown words is a parameter: words met before keep their node (routes are immutable), later
ones share the `PARAMETER` child. Where an API begins, numbers are versions: up to `MAX_VERSIONS` different ones stay
literal.
"""

from typing import Final

from sensor.calls import Route, Segment, SegmentKind

# Different unknown words at one position before it is a parameter. Template F1 on development traffic: .845 with 30,
# .822 with 15.
MAX_WORDS: Final = 30
# Different API words at one position: the development documents have at most 93.
MAX_LITERALS: Final = 1_000
# Different bare numbers or dates kept as API versions at one position.
MAX_VERSIONS: Final = 4


class Node:
    """One position after a prefix of segments. `routes` by (method, trailing slash)."""

    __slots__ = (
        "children",
        "is_parameter",
        "literal_count",
        "routes",
        "segments",
        "shapes",
        "version_count",
        "word_count",
        "words",
    )

    def __init__(self, segments: tuple[Segment, ...], is_parameter: bool) -> None:
        self.segments = segments
        self.is_parameter = is_parameter  # Its own segment is a value.
        self.children: dict[str, Node] = {}  # By raw text: literals without a parameter inside, and words.
        self.words: set[str] = set()  # Keys of `children` that are words.
        self.shapes: dict[tuple[SegmentKind, str], Node] = {}
        self.routes: dict[tuple[str, bool], Route] = {}
        self.word_count = 0
        self.literal_count = 0
        self.version_count = 0
