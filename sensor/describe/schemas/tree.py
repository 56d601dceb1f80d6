"""Merges the fields of many documents into one tree with counts, and decides which of its names may leave the node.

Takes values, gives `Field`s, bounded in depth, breadth and nodes. Counts are sums, so trees of any documents, in any
order and on any nodes, merge by addition. A field's share is `present` of the whole `objects` of its parent. An object
that was cut counts for types and not for shares.

Names of fields are chosen when an API is written, but keys of a map are data: `{"4f1e..": {...}}`, `{"alice": 7}`. A
name leaves at once only where all of it is API words. Other words leave once callers share them, as words of paths do
(sensor/routes/shared_use.py). Ids and names of persons leave only as their pattern. So do keys of a map: unknown names
right behind `users` and the like, and more than `MAX_SIBLINGS` of an object that few of its documents have.

Types and formats are words of JSON Schema: `string/uuid`, `integer`. Formats are those of OpenAPI's registry that a
text shows by its form. Text of a query, header or form has no type of its own, so it is read as what it looks like.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from sensor.core.calls import NOBODY, Origin, SegmentKind
from sensor.routes.segments import classify_segment
from sensor.routes.shared_use import MAX_SIBLINGS, SharedUse, Telling
from sensor.routes.vocabulary import Vocabulary, is_private_place, split_word
from sensor.sensitive.kinds import Text
from sensor.sensitive.names import find_rule
from sensor.sensitive.values import find_kinds

# The longest property of the published descriptions has 61 characters.
MAX_NAME_CHARACTERS: Final = 64
MAX_WORDS: Final = 12
MAX_DIGITS: Final = 4
_CACHE_ENTRIES: Final = 8_192
_IDENTIFIER: Final = re.compile(r"[@$_]{0,2}[A-Za-z][A-Za-z0-9_\-.:$\[\]]*\Z")
_ODD_NUMBER: Final = re.compile(r"\d{4}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{8,}\Z")
_SEPARATORS: Final = re.compile(r"[^A-Za-z0-9]+")
_VOWEL: Final = re.compile(r"[aeiouy]", re.IGNORECASE)
# Abbreviations that stand in fields and in no dictionary.
_ABBREVIATIONS: Final = frozenset(
    (
        *("href", "hrefs", "qty", "desc", "seq", "idx", "len", "ttl", "vat", "ean", "gtin", "isbn", "bic", "iban"),
        *("utc", "tz", "csrf", "xsrf", "ctx", "cfg", "cnt", "num", "pct", "amt", "addr", "req", "res", "resp", "err"),
        *("msg", "ts", "dt", "kwargs", "args", "etag", "mime", "cvv", "jsonrpc", "graphql", "sku", "skus", "dto"),
    )
)
# How a key of each shape is reported: `{uuid}`.
_PATTERNS: Final = {
    SegmentKind.INTEGER: "integer",
    SegmentKind.UUID: "uuid",
    SegmentKind.HEX: "hex",
    SegmentKind.ULID: "ulid",
    SegmentKind.DATE: "date",
    SegmentKind.EMAIL: "email",
    SegmentKind.TOKEN: "token",
}
WORD_PATTERN: Final = "word"


@lru_cache(maxsize=_CACHE_ENTRIES)
def judge_name(name: str, vocabulary: Vocabulary) -> tuple[Telling, str]:
    """When a field's name may leave, and the pattern that stands for it until then. Some 10 us, once a name."""
    if not _IDENTIFIER.match(name) or len(name) > MAX_NAME_CHARACTERS or _ODD_NUMBER.search(name):
        return Telling.NEVER, _find_pattern(name, vocabulary)
    if _HEX.match(name):  # Without a digit too.
        return Telling.NEVER, "hex"
    if find_kinds(name):  # A key of a vendor's own form, made of letters too.
        return Telling.NEVER, "token"
    words = [word for part in _SEPARATORS.split(name) for word in split_word(part)]
    letters = [word for word in words if not word.isdigit()]
    digits = sum(character.isdigit() for character in name)
    if not letters or len(words) > MAX_WORDS or digits > MAX_DIGITS or digits * 2 >= len(name):
        return Telling.NEVER, _find_pattern(name, vocabulary)
    if find_rule(name) is not None or all(_is_known(word, vocabulary) for word in letters):
        # Letters and digits in turn are random, whatever single letters they make: a1b2c3.
        is_random = len(letters) > 2 and sum(len(word) == 1 for word in letters) * 2 > len(letters)
        return (Telling.NEVER, "token") if is_random else (Telling.NOW, WORD_PATTERN)
    pattern = _find_pattern(name, vocabulary)
    if pattern != WORD_PATTERN or any(vocabulary.is_name(word) for word in letters):
        return Telling.NEVER, pattern
    is_wordlike = all(len(word) < 5 or len(_VOWEL.findall(word)) * 8 >= len(word) for word in letters)
    return (Telling.SHARED if is_wordlike else Telling.NEVER), WORD_PATTERN


def _is_known(word: str, vocabulary: Vocabulary) -> bool:
    return word in _ABBREVIATIONS or len(word) == 1 or vocabulary.is_api_word(word)


def _find_pattern(name: str, vocabulary: Vocabulary) -> str:
    if name.lstrip("-").isdigit():
        return "integer"
    return _PATTERNS.get(classify_segment(name, vocabulary).kind, WORD_PATTERN)


MAX_TEXT_CHARACTERS: Final = 256  # Longer texts have no format that is looked for.
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(?:([Tt ])\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)?)?\Z")
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?\Z")
_DURATION: Final = re.compile(r"P(?=[\dT])(?:\d+[YMWD])*(?:T(?:\d+(?:\.\d+)?[HMS])+)?\Z")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\Z")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,31}://\S+\Z")
_UUID_CHARACTERS: Final = 36
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})\Z")
_NUMBER: Final = re.compile(r"-?\d{1,17}\.\d{1,17}\Z")
_INT32_MAX: Final = 1 << 31


def name_type(value: object) -> str:
    """`null`, `boolean`, `integer/int32`, `integer/int64`, `number`, `string`, `string/FORMAT`, `array`, `object`."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer/int32" if -_INT32_MAX <= value < _INT32_MAX else "integer/int64"
        case float():
            return "number"
        case Text():
            return _name_untyped(value)
        case str():
            return _name_text(value)
        case bytes():
            return "string/binary"
        case list():
            return "array"
    return "object"


def _name_untyped(text: str) -> str:
    if _INTEGER.match(text):
        return name_type(int(text))
    if text in ("true", "false"):
        return "boolean"
    return "number" if _NUMBER.match(text) else _name_text(text)


def _name_text(text: str) -> str:
    """One or two characters decide which form is worth a look: 0.3 us for most texts."""
    if not text or len(text) > MAX_TEXT_CHARACTERS:
        return "string"
    if "@" in text:
        return "string/email" if _EMAIL.match(text) else "string"
    if "://" in text:
        return "string/uri" if _URI.match(text) else "string"
    if len(text) == _UUID_CHARACTERS and _UUID.match(text):
        return "string/uuid"
    if text[0] in "0123456789":
        return _name_digits(text)
    if text[0] == "P" and _DURATION.match(text):
        return "string/duration"
    return _name_address(text) if text.count(":") > 1 else "string"


def _name_digits(text: str) -> str:
    found = _DATE_TIME.match(text) if text[4:5] == "-" else None
    if found is not None:
        return "string/date-time" if found[1] else "string/date"
    if text[2:3] == ":" and _TIME.match(text):
        return "string/time"
    is_address = text.count(":") > 1 or (text.count(".") == 3 and text.replace(".", "").isdigit())
    return _name_address(text) if is_address else "string"


def _name_address(text: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return "string"
    return f"string/ipv{address.version}"


MAX_DEPTH: Final = 10
# Named fields of one object; what is past them is reported as `{word}`, as the keys of a map are.
MAX_CHILDREN: Final = 128
MAX_FIELDS: Final = 400  # Of one tree.
MAX_ITEMS: Final = 8  # Looked at of one list, evenly spread.
MAX_JUDGED_CHARACTERS: Final = 256  # Of a key; what is longer is no name.
MAX_VALUES: Final = 1_000  # Looked at of one document.
# A closed set has few values, each of which was seen often.
MAX_ENUM: Final = 16
MIN_ENUM_SEEN: Final = 20
MIN_SEEN_PER_VALUE: Final = 4
ITEM: Final = "[]"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field as it may be reported. `path`: steps joined by `/`: names, `[]` for elements, `{uuid}` for keys of a
    map."""

    path: str
    present: int  # Whole parent objects that had it; of keys of a map, how many there were.
    objects: int  # Times it was an object, whole.
    types: tuple[tuple[str, int], ...]
    values: tuple[str, ...] = ()  # All there are, where they are few and known to several consumers.
    is_open: bool = False  # There are too many values, or such as are not reported.


@dataclass(slots=True, eq=False)
class Node:
    """One field of the tree. Mutable."""

    present: int = 0
    objects: int = 0
    types: dict[str, int] = field(default_factory=dict)
    children: "dict[str, Node]" = field(default_factory=dict)
    use: SharedUse | None = None  # Of its name, if that may leave only once callers share it.
    values: dict[str, SharedUse] = field(default_factory=dict)
    is_open: bool = False


class Tree:
    """The merged documents of one part of a route. Not thread-safe."""

    __slots__ = ("_budget", "_origin", "_time_ns", "_vocabulary", "left_out", "nodes", "root")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.root = Node()
        self.nodes = 1
        self.left_out = 0  # Values that no bound let in.
        self._budget = 0
        self._origin, self._time_ns = NOBODY, 0

    def learn(self, value: object, origin: Origin, time_ns: int, *, is_cut: bool = False) -> None:
        """Add one document, sent at a time (unix ns). `is_cut`: it ends before its end. Never raises."""
        self._budget, self._origin, self._time_ns = MAX_VALUES, origin, time_ns
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
            if child.use is not None:
                child.use.note(self._origin, self._time_ns)
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
        if child is not None and child.use is None and telling is Telling.SHARED:
            child.use = SharedUse()
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
        """A value that is no API word opens the set: it is not kept, and nothing of the set is reported."""
        if node.is_open:
            return
        seen = node.values.get(value)
        if seen is None:
            is_full = len(node.values) >= MAX_ENUM
            if is_full or find_rule(name) is not None or not self._vocabulary.is_api_word(value):
                node.is_open = True
                node.values = {}
                return
            seen = node.values[value] = SharedUse()
        seen.note(self._origin, self._time_ns)

    def list_fields(self) -> tuple[Field, ...]:
        """All fields as they may be reported now, parents first, by path; names that may not leave become one key."""
        fields: list[Field] = []
        self._tell([self.root], "", "", fields)
        return tuple(fields)

    def _tell(self, nodes: Sequence[Node], path: str, last: str, fields: list[Field]) -> None:
        """`last`: the last step of the path."""
        fields.append(_merge(nodes, path))
        steps: dict[str, list[Node]] = {}
        for node in nodes:
            is_map = _is_map(node, last)
            for step, child in node.children.items():
                steps.setdefault(self._show(step, child, is_map), []).append(child)
        for step in sorted(steps):
            self._tell(steps[step], f"{path}/{step}", step, fields)

    def _show(self, step: str, child: Node, is_map: bool) -> str:
        if step == ITEM or step.startswith("{"):
            return step
        telling, pattern = judge_name(step, self._vocabulary)
        is_shown = telling is Telling.NOW or (child.use is not None and child.use.is_shared and not is_map)
        return step if is_shown else f"{{{pattern}}}"


def _is_map(node: Node, name: str) -> bool:
    """Whether unknown names of an object are keys: there are many that few of its documents have, or it is a list of
    users and the like by its name."""
    if name.endswith("s") and is_private_place(name):
        return True
    rare = (child for child in node.children.values() if child.use is not None and child.present * 2 < node.objects)
    return sum(1 for _ in rare) > MAX_SIBLINGS


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
    if not all(use.is_shared for use in node.values.values()):
        return ()
    return tuple(sorted(node.values))
