"""The fields of many documents as one tree with counts: values in, `Field`s out; bounded in depth, breadth and nodes.

Counts are sums, so that trees of any documents in any order, on any nodes, merge by adding up. A field's share is
`present` of the `objects` its parent was in whole: of an object that was cut, types are learned and shares are not.
Private to the node: names that may not leave yet are kept here; `list_fields` gives what may.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from sensor.classify.sensitive.names import find_rule
from sensor.schemas.names import Telling, judge_name
from sensor.schemas.scalars import name_type
from sensor.vocabulary import Vocabulary

MAX_DEPTH: Final = 10
# Named fields of one object; what is past them is told as `{word}`, as the keys of a map are.
MAX_CHILDREN: Final = 128
MAX_FIELDS: Final = 400  # Of one tree.
MAX_ITEMS: Final = 8  # Looked at of one list, evenly spread.
MAX_JUDGED_CHARACTERS: Final = 256  # Of a key; what is longer is no name.
MAX_VALUES: Final = 1_000  # Looked at of one document.
# Consumers that must have sent a name that is no API word, or a value of a closed set, before it leaves the node.
MIN_CONSUMERS: Final = 3
# A closed set has few values, each of which was seen often.
MAX_ENUM: Final = 16
MIN_ENUM_SEEN: Final = 20
MIN_SEEN_PER_VALUE: Final = 4
ITEM: Final = "[]"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field as it may be told. `path`: steps joined by `/`: names, `[]` for elements, `{uuid}` for keys of a
    map."""

    path: str
    present: int  # Whole parent objects that had it; of keys of a map, how many there were.
    objects: int  # Times it was an object, whole.
    types: tuple[tuple[str, int], ...]
    values: tuple[str, ...] = ()  # All there are, where they are few and known to several consumers.
    is_open: bool = False  # There are too many values, or such as are not told.


class Node:
    """One field of the tree. Mutable."""

    __slots__ = ("children", "consumers", "is_open", "is_shared", "objects", "present", "types", "values")

    def __init__(self) -> None:
        self.present = 0
        self.objects = 0
        self.types: dict[str, int] = {}
        self.children: dict[str, Node] = {}
        self.is_shared = False  # Its name may leave only after several consumers sent it.
        self.consumers: tuple[int, ...] = ()  # The first few who did.
        self.values: dict[str, set[int]] = {}
        self.is_open = False


class Tree:
    """The merged documents of one part of a route. Not thread-safe."""

    __slots__ = ("_budget", "_consumer", "_vocabulary", "left_out", "nodes", "root")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.root = Node()
        self.nodes = 1
        self.left_out = 0  # Values that no bound let in.
        self._budget = 0
        self._consumer = 0

    def learn(self, value: object, *, consumer: int, is_cut: bool = False) -> None:
        """Add one document. `consumer`: 0 where it is not known. `is_cut`: it ends before its end. Never raises."""
        self._budget, self._consumer = MAX_VALUES, consumer
        self._add(self.root, "", value, 0, is_cut)

    def _add(self, node: Node, name: str, value: object, depth: int, is_cut: bool) -> None:
        self._budget -= 1
        kind = name_type(value)
        node.types[kind] = node.types.get(kind, 0) + 1
        if isinstance(value, dict):
            if depth >= MAX_DEPTH or len(value) > self._budget:
                self.left_out += 1
                return
            self._add_object(node, value, depth, is_cut)
        elif isinstance(value, list):
            if depth >= MAX_DEPTH or min(len(value), MAX_ITEMS) > self._budget:
                self.left_out += 1
                return
            self._add_list(node, name, value, depth, is_cut)
        elif kind == "string" and isinstance(value, str):
            self._note_value(node, name, value)
        elif kind.startswith("string/"):
            node.is_open = True

    def _add_object(self, node: Node, value: dict[object, object], depth: int, is_cut: bool) -> None:
        node.objects += not is_cut
        last = len(value) - 1
        for place, (key, inner) in enumerate(value.items()):
            name = str(key)
            child = node.children.get(name) or self._add_child(node, name)
            if child is None:
                continue
            child.present += not is_cut
            is_asked = child.is_shared and bool(self._consumer) and len(child.consumers) < MIN_CONSUMERS
            if is_asked and self._consumer not in child.consumers:
                child.consumers += (self._consumer,)
            self._add(child, name, inner, depth + 1, is_cut and place == last)

    def _add_list(self, node: Node, name: str, value: list[object], depth: int, is_cut: bool) -> None:
        child = self._find_child(node, ITEM)
        if child is None:
            return
        count = len(value)
        places = range(count) if count <= MAX_ITEMS else [i * count // MAX_ITEMS for i in range(MAX_ITEMS)]
        for place in places:
            self._add(child, name, value[place], depth + 1, is_cut and place == count - 1)

    def _add_child(self, node: Node, name: str) -> Node | None:
        """The field of a name that is new here, or is a value."""
        telling, pattern = judge_name(name[:MAX_JUDGED_CHARACTERS], self._vocabulary)
        child = self._find_child(node, f"{{{pattern}}}" if telling is Telling.NEVER else name)
        if child is not None and telling is Telling.SHARED:
            child.is_shared = True
        return child

    def _find_child(self, node: Node, step: str) -> Node | None:
        child = node.children.get(step)
        if child is None:
            if len(node.children) >= MAX_CHILDREN and step != ITEM:
                step = "{word}"
                if step in node.children:
                    return node.children[step]
            if self.nodes >= MAX_FIELDS:
                self.left_out += 1
                return None
            child = node.children[step] = Node()
            self.nodes += 1
        return child

    def _note_value(self, node: Node, name: str, value: str) -> None:
        """A value that is no API word opens the set: it is not kept, and nothing of the set is told."""
        if node.is_open:
            return
        seen = node.values.get(value)
        if seen is None:
            is_full = len(node.values) >= MAX_ENUM
            if is_full or find_rule(name) is not None or not self._vocabulary.is_api_word(value):
                node.is_open = True
                node.values = {}
                return
            seen = node.values[value] = set()
        if self._consumer and len(seen) < MIN_CONSUMERS:
            seen.add(self._consumer)

    def list_fields(self) -> tuple[Field, ...]:
        """All fields as they may be told now, parents first, by path; names that may not leave are one key of a map."""
        fields: list[Field] = []
        self._tell([self.root], "", fields)
        return tuple(fields)

    def _tell(self, nodes: Sequence[Node], path: str, fields: list[Field]) -> None:
        fields.append(_merge(nodes, path))
        steps: dict[str, list[Node]] = {}
        for node in nodes:
            for step, child in node.children.items():
                steps.setdefault(self._show(step, child), []).append(child)
        for step in sorted(steps):
            self._tell(steps[step], f"{path}/{step}", fields)

    def _show(self, step: str, child: Node) -> str:
        if step == ITEM or step.startswith("{"):
            return step
        telling, pattern = judge_name(step, self._vocabulary)
        is_told = telling is Telling.NOW or len(child.consumers) >= MIN_CONSUMERS
        return step if is_told else f"{{{pattern}}}"


def _merge(nodes: Sequence[Node], path: str) -> Field:
    types: dict[str, int] = {}
    for node in nodes:
        for kind, count in node.types.items():
            types[kind] = types.get(kind, 0) + count
    is_open = any(node.is_open for node in nodes) or len(nodes) > 1
    return Field(
        path=path,
        present=sum(node.present for node in nodes),
        objects=sum(node.objects for node in nodes),
        types=tuple(sorted(types.items())),
        values=() if is_open else _close(nodes[0]),
        is_open=is_open,
    )


def _close(node: Node) -> tuple[str, ...]:
    """The values of a set that is closed, as far as was seen; none while too little was."""
    seen = node.types.get("string", 0)
    if seen < max(MIN_ENUM_SEEN, MIN_SEEN_PER_VALUE * len(node.values)):
        return ()
    if any(len(consumers) < MIN_CONSUMERS for consumers in node.values.values()):
        return ()
    return tuple(sorted(node.values))
