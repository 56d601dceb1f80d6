"""The way a path has taken through its trie, for those that teach it to the kernel. Changes nothing."""

from collections.abc import Callable, Sequence

import msgspec

from sensor.calls import Route, SegmentKind
from sensor.shapes import Shape, is_mount
from sensor.trie import Node


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
