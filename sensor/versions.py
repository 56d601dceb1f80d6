"""Numbers that name a version of an API where one begins, and are values elsewhere: a `Node` and a text in, whether in
its place the text is a version out."""

from typing import Final

from sensor.calls import SegmentKind
from sensor.shapes import is_release
from sensor.trie import Node

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
