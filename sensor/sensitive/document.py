"""Finds sensitive fields in a JSON document: any parsed JSON in, `Finding`s out (a path without values, and a kind).

Every field is classified by its name. All strings together are checked for the signs of each form
(sensor.sensitive.values), and those without a sign need nothing more. Elements of one array are one field.

Depth, nodes and text are bounded, so a hostile body costs what a large honest one does. On request the values of one
field are bounded too, because few of them show what it holds. Where a document has more values than are read, fields
that were never read come first. `AskedBook` remembers fields by a bit of their hash. Two fields that share a bit count
as one, which costs the later one its turn, not its place.

Operators may name classes of their own. Their patterns are RE2's, which match in time linear in the text. So neither a
mistake of the operator nor a hostile body can stop the sensor.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice, repeat
from typing import Any, Final, NamedTuple

import msgspec
import re2

from common.bounded import BoundedDict
from sensor.sensitive.kinds import DataKind
from sensor.sensitive.names import NAME_RULES, NAME_SURROUNDINGS, NameRule, find_rule
from sensor.sensitive.values import MAX_TEXT_CHARACTERS, find_kinds, find_suspects

SLOTS: Final = (DataKind.CUSTOM_1, DataKind.CUSTOM_2, DataKind.CUSTOM_3, DataKind.CUSTOM_4)
MAX_PATTERN_CHARACTERS: Final = 500
_MEMORY_BYTES: Final = 1 << 20  # Of one compiled pattern.

CustomFinder = Callable[[str], set[DataKind]]


def compile_classes(patterns: Sequence[str]) -> CustomFinder | None:
    """A finder of the patterns, the first as CUSTOM_1 and so on; None without any. Raises ValueError with a sentence
    that names the pattern and what is wrong with it."""
    if not patterns:
        return None
    if len(patterns) > len(SLOTS):
        raise ValueError(f"there are {len(patterns)} custom data classes; at most {len(SLOTS)} are kept apart")
    compiled = [(kind, _compile(pattern)) for kind, pattern in zip(SLOTS, patterns, strict=False)]
    return lambda text: {kind for kind, pattern in compiled if pattern.search(text)}


def _compile(pattern: str) -> Any:
    if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        raise ValueError(f"the custom data class {pattern[:40]!r} has {len(pattern)} characters; give 1 to 500")
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"the custom data class {pattern!r} is no pattern of RE2 ({error}); correct it") from None


BITS: Final = 1 << 16  # Of one route and side: 8 KiB.
FIELDS_MAX: Final = BITS // 4  # Then it begins anew: past it, one field in four would be taken for another.
ROUTES_MAX: Final = 256  # 2 MiB in all; the one that was used longest ago goes.


class Side(NamedTuple):
    """The requests or the responses of a route."""

    route_id: int
    is_request: bool


class AskedFields:
    """Of one side of a route. Not thread-safe."""

    __slots__ = ("_bits", "_count")

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self._count = 0

    def knows(self, field: int) -> bool:
        """Whether a field was asked, by its hash."""
        place = field % BITS
        return bool(self._bits[place >> 3] & (1 << (place & 7)))

    def learn(self, field: int) -> None:
        """It is asked now."""
        if self.knows(field):
            return
        if self._count >= FIELDS_MAX:
            self._bits, self._count = bytearray(BITS // 8), 0
        place = field % BITS
        self._bits[place >> 3] |= 1 << (place & 7)
        self._count += 1


class AskedBook:
    """Of all routes that need it. Not thread-safe."""

    def __init__(self) -> None:
        self._sides: BoundedDict[Side, AskedFields] = BoundedDict(ROUTES_MAX)

    def find(self, side: Side) -> AskedFields:
        """What was asked there; nothing where it is new."""
        fields = self._sides.use(side)
        if fields is None:
            fields = self._sides[side] = AskedFields()
        return fields


MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
# Of a document that is too long, values among which those of new fields are looked for; of a list, elements.
LOOKED_MAX: Final = 8_000
LOOKED_ELEMENTS_MAX: Final = 64
NAMES_MAX: Final = 64  # Of the fields of one object, those whose names may say what its `name` is.
EMBEDDED_CHARACTERS_MAX: Final = 65_536
_NOTHING: Final[dict[str, object]] = {}  # A container of which only one field is left.
_NO_KINDS: Final[frozenset[DataKind]] = frozenset()
_Container = dict[str, object] | list[object]
# A field, None for all elements of an array, and what is in it.
_Inner = tuple[str | None, _Container]
# Where a value is, and the hash of its path.
_Leaf = tuple["_Place", str | None, object, int]


class Finding(NamedTuple):
    """One field that holds sensitive data. `path` is JSONPath with `[]` for all elements of an array."""

    path: str
    kind: DataKind


class _Place:
    """An object or array by its path; all elements of one array share theirs. Paths are written for findings only."""

    __slots__ = ("asked", "children", "key", "name", "parent", "shown", "surroundings")

    def __init__(self, parent: "_Place | None", key: str | None, name: str) -> None:
        self.parent = parent
        self.key = key
        self.name = name  # Of the field that holds it; of an array in an array, of the outer one's.
        self.children: dict[str | None, _Place] | None = None
        self.asked: dict[str | None, int] | None = None  # Values by field, where they are counted.
        self.surroundings: int | None = None
        self.shown: set[str | None] | None = None  # Fields that hold what their names say.

    def find_child(self, key: str | None) -> "_Place":
        """What is in one field; in all elements for None."""
        children = self.children
        if children is None:
            children = self.children = {}
        child = children.get(key)
        if child is None:
            child = children[key] = _Place(self, key, self.name if key is None else key)
        return child

    def count_values(self) -> dict[str | None, int]:
        """Values so far by field: whoever asks one more adds it."""
        asked = self.asked
        if asked is None:
            asked = self.asked = {}
        return asked

    def find_surroundings(self, container: _Container) -> int:
        """What the names of this object, its holder and its fields say; asked of the first object of a place."""
        found = self.surroundings
        if found is None:
            found = NAME_SURROUNDINGS[self.name]
            if isinstance(container, dict):
                for name in islice(container, NAMES_MAX):
                    found |= NAME_SURROUNDINGS[name]
            elif self.parent is not None:
                found |= NAME_SURROUNDINGS[self.parent.name]
            self.surroundings = found
        return found

    def write_path(self, key: str | None) -> str:
        """The path of one field in here."""
        keys: list[str | None] = [key]
        place = self
        while place.parent is not None:
            keys.append(place.key)
            place = place.parent
        return "$" + "".join("[]" if one is None else f".{one}" for one in reversed(keys))


class _Reading:
    """One document on its way: its strings, whose forms are asked together, and what was found."""

    __slots__ = ("found", "keys", "max_values", "named", "places", "starts", "texts")

    def __init__(self, max_values: int | None) -> None:
        self.max_values = max_values
        self.found: set[tuple[_Place, str | None, DataKind]] = set()
        self.texts: list[str] = []
        self.keys: list[str | None] = []  # Of the texts, in their place: that one of `places` whose texts start there.
        self.starts: list[int] = []
        self.places: list[_Place] = []
        self.named: dict[int, NameRule] = {}  # By index of a text: what the name of its field says, where it fits.

    def collect(self, document: _Container, max_nodes: int) -> bool:
        """All strings; of other values what their names say. Whether there was room for all."""
        pending: list[tuple[_Place, _Container, int]] = [(_Place(None, None, ""), document, 1)]
        room = max_nodes - 1
        while pending and room > 0:
            place, container, depth = pending.pop()
            self.starts.append(len(self.texts))
            self.places.append(place)
            for key, value in self._take_leaves(place, container, _list_fields(container, room)):
                if depth < MAX_DEPTH:
                    pending.append((place.find_child(key), value, depth + 1))
            room -= len(container)
        return room >= 0 and not pending

    def collect_new_first(self, document: _Container, max_nodes: int, asked: AskedFields) -> None:
        """The same of a document that is too long: among LOOKED_MAX values those of fields that were never asked, then
        the others, as many as there is room for; of long lists some elements."""
        new: list[_Leaf] = []
        known: list[_Leaf] = []
        pending: deque[tuple[_Place, _Container, int, int]] = deque([(_Place(None, None, ""), document, 1, 0)])
        room = LOOKED_MAX
        while pending and room > 0:
            place, container, depth, number = pending.popleft()
            place.find_surroundings(container)
            counts = place.count_values()
            for key, value in _list_fields(_thin(container), room):
                room -= 1
                field = hash((number, key))
                if isinstance(value, dict | list):
                    if depth < MAX_DEPTH:
                        pending.append((place.find_child(key), value, depth + 1, field))
                elif value is None or value is True or value is False or value == "":
                    continue  # Nothing to ask: its first value is new when it comes.
                else:
                    count = counts[key] = counts.get(key, 0) + 1
                    if self.max_values is not None and count > self.max_values:
                        continue
                    (known if asked.knows(field) else new).append((place, key, value, field))
        self.max_values = None  # They were counted.
        for place, key, value, field in islice(chain(new, known), max_nodes):
            self.starts.append(len(self.texts))
            self.places.append(place)
            self._take_leaves(place, _NOTHING, ((key, value),))
            asked.learn(field)

    def _take_leaves(
        self, place: _Place, container: _Container, fields: Iterable[tuple[str | None, object]]
    ) -> list[_Inner]:
        """Takes values of a container; gives what is to be looked into: also JSON in a string."""
        max_values, texts, keys, name = self.max_values, self.texts, self.keys, place.name
        counts = None if max_values is None else place.count_values()
        inner: list[_Inner] = []
        for key, value in fields:
            if isinstance(value, str):
                if not value:
                    continue
                if counts is not None and max_values is not None:
                    counts[key] = count = counts.get(key, 0) + 1
                    if count > max_values:
                        continue
                if ((first := value[0]) == "{" or first == "[") and (parsed := _parse_text(value)) is not None:
                    inner.append((key, parsed))
                    continue
                rule = NAME_RULES[name if key is None else key]
                if rule is not None:
                    shown = place.shown
                    if shown is not None and key in shown:  # One value shows what a field holds.
                        self.named[len(texts)] = rule
                    else:
                        fits = rule.choose_fits(place.find_surroundings(container)) if rule.beside else rule.fits
                        if fits(value):
                            place.shown = {key} if shown is None else shown | {key}
                            self.named[len(texts)] = rule
                texts.append(value)
                keys.append(key)
            elif isinstance(value, dict) or isinstance(value, list):  # noqa: SIM101 - a tuple of types costs twice.
                if value:
                    inner.append((key, value))
            elif value is not None and value is not True and value is not False:
                rule = NAME_RULES[name if key is None else key]
                if rule is not None and rule.fits(value):  # Surroundings matter to texts only.
                    self.found.add((place, key, rule.kind))
        return inner

    def ask_texts(self, custom: CustomFinder | None) -> None:
        """Kinds of the strings."""
        texts, named = self.texts, self.named
        suspects = frozenset(find_suspects(texts))
        for index in sorted(suspects.union(named)):
            kinds: AbstractSet[DataKind] = find_kinds(texts[index]) if index in suspects else _NO_KINDS
            self._add(index, _join(kinds, named[index]) if index in named else kinds)
        if custom is not None:
            for index, text in enumerate(texts):
                self._add(index, custom(text[:MAX_TEXT_CHARACTERS]))

    def _add(self, index: int, kinds: Collection[DataKind]) -> None:
        if kinds:
            place, key = self.places[bisect_right(self.starts, index) - 1], self.keys[index]
            for kind in kinds:
                self.found.add((place, key, kind))


def _parse_text(text: str) -> _Container | None:
    """The JSON in a string, as tools return it and services log it; None where it is not JSON."""
    if len(text) > EMBEDDED_CHARACTERS_MAX or text[-1] not in "}]":
        return None
    try:
        value = msgspec.json.decode(str(text))  # The decoder refuses subclasses of str, such as `Text`.
    except (ValueError, RecursionError):
        return None
    return value if value and isinstance(value, dict | list) else None


def find_sensitive(
    document: object,
    *,
    max_nodes: int = MAX_NODES,
    max_values: int | None = None,
    custom: CustomFinder | None = None,
    find_asked: Callable[[], AskedFields] | None = None,
) -> list[Finding]:
    """Findings in `document` (as `json.loads` gives it), sorted. Never raises.

    `max_values`: of one field; None: all. `find_asked`: which fields of such documents were asked before, where there
    are more than `max_nodes` values. Cost: some 0.5 us a value, 10 us one that shows a sign.
    """
    if not isinstance(document, dict | list):
        kinds = classify_field("", document)
        if custom is not None and isinstance(document, str):
            kinds = kinds | custom(document[:MAX_TEXT_CHARACTERS])
        return sorted(Finding("$", kind) for kind in kinds)
    reading = _Reading(max_values)
    if not reading.collect(document, max_nodes) and find_asked is not None:
        reading = _Reading(max_values)
        reading.collect_new_first(document, max_nodes, find_asked())
    reading.ask_texts(custom)
    return sorted(Finding(place.write_path(key), kind) for place, key, kind in reading.found)


def classify_field(name: str, value: object) -> AbstractSet[DataKind]:
    """Kinds of one value, by its form and by the name of what holds it."""
    if value is None or isinstance(value, bool) or value == "":
        return _NO_KINDS
    kinds = find_kinds(value) if isinstance(value, str) else _NO_KINDS
    rule = find_rule(name)
    return _join(kinds, rule) if rule is not None and rule.fits(value) else kinds


def _join(kinds: AbstractSet[DataKind], rule: NameRule) -> AbstractSet[DataKind]:
    """What the form of a value and the name of its field say together."""
    if not kinds:
        return rule.kinds
    if DataKind.PRIVATE_KEY in kinds or DataKind.JWT in kinds:
        return kinds  # They are what they are, whatever the field is called.
    # A name distinguishes a phone from an id; a form that proves something else is not a phone.
    return rule.kinds if rule.kind not in kinds and not (kinds - {DataKind.PHONE}) else kinds | rule.kinds


def _thin(container: _Container) -> _Container:
    """Of a long list some elements, evenly spread."""
    if isinstance(container, dict) or len(container) <= LOOKED_ELEMENTS_MAX:
        return container
    return [container[i * len(container) // LOOKED_ELEMENTS_MAX] for i in range(LOOKED_ELEMENTS_MAX)]


def _list_fields(container: _Container, room: int) -> Iterable[tuple[str | None, object]]:
    """The fields of an object by name, the elements of an array under None; as many as there is room for."""
    items: Iterable[tuple[str | None, object]] = (
        container.items() if isinstance(container, dict) else zip(repeat(None), container)
    )
    return items if len(container) <= room else islice(items, room)
