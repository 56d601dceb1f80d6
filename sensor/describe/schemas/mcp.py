"""Collects what a server of the Model Context Protocol offers: what sampled calls show in, one `McpServer` out.

A server names itself in its answer to `initialize` or `server/discover`, or in the metadata of each answer (revision
2026-07-28), and lists its tools, prompts and resources (sensor/describe/schemas/mcp_calls.py).

Of descriptions and schemas only keyed hashes leave the node. They show that a text changed, and not what it says. All
pins of an item are kept up to a bound, for a server may show each client another text. Names of tools leave the node
unless they look like values or have a person's name: the server itself lists them, so no caller chose them. Names of
resources are those of files and notes, and never leave it.

Source: Model Context Protocol, revisions 2024-11-05 to 2026-07-28 (lifecycle, tools, prompts, resources).
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from sensor.core.keyed import KeyedHash
from sensor.describe.schemas.agents import ToolUse
from sensor.describe.schemas.mcp_calls import (
    LISTS,
    OTHER_ITEM,
    McpAnswer,
    McpCall,
    McpItemKind,
    McpTransport,
    McpUsed,
    find_introduction,
    list_items,
)

# Of one server, by kind.
MAX_ITEMS: Final = {
    McpItemKind.TOOL: 512,
    McpItemKind.PROMPT: 256,
    McpItemKind.RESOURCE: 256,
    McpItemKind.RESOURCE_TEMPLATE: 256,
    McpItemKind.INSTRUCTIONS: 1,
}
MAX_ARGUMENTS: Final = 64  # Of one tool or prompt.
MAX_PINS: Final = 8  # Of one item; the one seen longest ago is evicted once the collector surely compared it:
PIN_SECONDS: Final = 300  # reported, and known for so long. It compares each minute what was reported last.
MAX_SERVER_NODES: Final = 8_192  # Items, arguments and pins of one server.
MAX_PROTOCOL_VERSIONS: Final = 8
# An item that no list had for so long is evicted for a new one. A list of many pages is read in less.
STALE_SECONDS: Final = 600
NAMES_MAX: Final = 1_024  # Assessed of one call; further arguments when they are listed again.
# So often a state is reported in which nothing is new but when lists were seen.
REFRESH_SECONDS: Final = 300
# How pins are made: raise it with each change of `_pin_item`, or all servers seem to have changed.
PIN_VERSION: Final = 1
INSTRUCTIONS: Final = "instructions"
_TEXT_CHARACTERS_MAX: Final = 160  # Of a name of a server.
# Of the protocol. Of others the server's word is needed: a caller may write any date.
_REVISIONS: Final = frozenset(("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"))
_PROTOCOL_VERSION: Final = re.compile(r"20\d\d-[01]\d-[0-3]\d\Z", re.ASCII)
_VERSION: Final = re.compile(
    r"v?\d{1,5}(?:\.\d{1,5}){0,3}(?:[-+.]?(?:alpha|beta|preview|rc|dev|post|a|b)[.-]?\d{0,4})?\Z", re.ASCII
)
_TYPES: Final = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
# Of a schema: lists whose order means nothing, and that servers write from sets.
_SETS: Final = frozenset(("required", "type", "enum"))
_SCHEMAS: Final = {
    McpItemKind.TOOL: ("inputSchema", "outputSchema"),
    McpItemKind.PROMPT: ("arguments",),
    McpItemKind.RESOURCE: ("mimeType",),
    McpItemKind.RESOURCE_TEMPLATE: ("mimeType",),
    McpItemKind.INSTRUCTIONS: (),
}
# Said of an answer, or of what a resource holds now, and not of the item.
_VARYING: Final = frozenset(("_meta", "size"))
_VARYING_ANNOTATIONS: Final = frozenset(("lastModified",))
_SECOND_NS: Final = 1_000_000_000
_Pin = tuple[int, int]


class McpArgument(msgspec.Struct, frozen=True):
    """An argument as the server describes it; `type` is empty of several or none."""

    name: str
    type: str
    is_required: bool


class McpPin(msgspec.Struct, frozen=True):
    """Hashes of the texts of an item, and when it had them."""

    description_hash: int
    schema_hash: int
    first_seen: int
    last_seen: int


class McpItem(msgspec.Struct, frozen=True, kw_only=True):
    """A tool, prompt or resource as it may be reported. `name` is empty where it may not leave the node; hashes,
    arguments and hints are those of the newest pin. A hint is None where the server does not give it."""

    kind: McpItemKind
    name: str
    name_hash: int
    description_hash: int
    schema_hash: int
    arguments: tuple[McpArgument, ...]
    is_read_only: bool
    is_destructive: bool | None
    is_open_world: bool | None
    first_seen: int
    last_seen: int
    pins: tuple[McpPin, ...]
    pins_left_out: int


class McpList(msgspec.Struct, frozen=True, kw_only=True):
    """How far the lists of a kind were read: when one was to its end, when one was not, and what no bound let in."""

    kind: McpItemKind
    read: int
    unread_seen: int
    unread: int
    left_out: int


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """What may be reported of one server."""

    key_id: int
    pin_version: int
    name: str
    version: str
    protocol_versions: tuple[str, ...]
    transports: tuple[McpTransport, ...]
    items: tuple[McpItem, ...]
    lists: tuple[McpList, ...]


class McpNames:
    """Which names may leave, by the vocabulary of the book. `name` of tools and servers, `argument` of fields."""

    def __init__(self, name: Callable[[str], str], argument: Callable[[str], str]) -> None:
        self._name, self._argument = name, argument
        self._left = 0

    def begin(self) -> None:
        """Another call, of which so many arguments are assessed: each name that was never seen takes some 40 us."""
        self._left = NAMES_MAX

    @property
    def is_spent(self) -> bool:
        """Whether no more is assessed of this call."""
        return self._left <= 0

    def name(self, text: str) -> str:
        self._left -= 1
        return self._name(text)

    def argument(self, text: str) -> str:
        self._left -= 1
        return self._argument(text)


@dataclass(slots=True)
class _Item:
    """One item as it was seen last, with all its pins: first and last sight of each, the newest at the end."""

    name: str
    first_seen: int
    last_seen: int = 0
    arguments: tuple[McpArgument, ...] = ()
    hints: tuple[bool, bool | None, bool | None] = (False, None, None)
    pins: dict[_Pin, tuple[int, int]] = field(default_factory=dict)
    unreported: set[_Pin] = field(default_factory=set)
    pins_left_out: int = 0  # Texts that were not kept.
    is_read: bool = False  # Its arguments are those of the newest pin.

    @property
    def nodes(self) -> int:
        return 1 + len(self.arguments) + len(self.pins)


@dataclass(slots=True)
class _List:
    """How far the lists of one kind were read. `left_out` counts since a list began, or in the one before."""

    has_pages: bool = False
    read: int = 0
    unread_seen: int = 0
    unread: int = 0
    left_out: int = 0
    left_out_before: int = 0


@dataclass(slots=True)
class McpTally:
    """One server as it is known so far. Not thread-safe."""

    name: str = ""
    version: str = ""
    nodes: int = 0  # Items, arguments and pins.
    protocol_versions: set[str] = field(default_factory=set)
    transports: set[McpTransport] = field(default_factory=set)
    items: dict[McpItemKind, dict[int, _Item]] = field(
        default_factory=dict
    )  # By hash of the name, last seen at the end.
    lists: dict[McpItemKind, _List] = field(default_factory=dict)
    _seen: int = 0
    _written: int = 0
    _is_changed: bool = True

    @property
    def left_out(self) -> int:
        """Items that no bound let in."""
        return sum(_count_left_out(one) for one in self.lists.values())

    @property
    def has_answered(self) -> bool:
        """Whether the server itself said something: whoever calls a tool somewhere makes no server of it."""
        return bool(self.name or self.version or any(self.items.values()))

    def hash_used(self, kind: McpItemKind, name: str, keyed: KeyedHash) -> int:
        """The hash of what a caller named; of what the server surely does not list, as the whole list was read, that of
        all others."""
        name_hash, known = _hash_name(kind, name, keyed), self.lists.get(kind)
        is_read = known is not None and known.read > 0 and not _count_left_out(known)
        return OTHER_ITEM if is_read and name_hash not in self.items.get(kind, {}) else name_hash

    def learn(self, call: McpCall, names: McpNames, keyed: KeyedHash, time_ns: int) -> bool:
        """What one call shows. Returns whether the state is to be reported again. Never raises."""
        names.begin()
        seconds = time_ns // _SECOND_NS
        self._seen = max(self._seen, seconds)
        if call.transport is not None and call.transport not in self.transports:
            self.transports.add(call.transport)
            self._is_changed = True
        self._learn_protocols(one for one in call.versions if one in _REVISIONS)
        for answer in call.answers:
            introduction = find_introduction(answer.result)
            if introduction is not None:
                self._learn_introduction(introduction, names)
                self._learn_instructions(answer, call.unread, names, keyed, seconds)
            for kind, field_name, *_ in LISTS:
                if isinstance(answer.result.get(field_name), list):
                    self._learn_list(kind, answer, call.unread, seconds)
                    for name, item in list_items(answer.result, kind, is_whole=answer.is_whole):
                        self._learn_item(kind, name, item, names, keyed, seconds)
        for kind in call.unread:
            known = self._find_list(kind)
            known.unread, known.unread_seen = known.unread + 1, seconds
            self._is_changed |= known.unread == 1
        return self._is_changed or self._seen - self._written >= REFRESH_SECONDS

    def copy_plain(self) -> "McpTally":
        """What was not hashed, for a state under another key."""
        return McpTally(
            name=self.name,
            version=self.version,
            protocol_versions=set(self.protocol_versions),
            transports=set(self.transports),
        )

    def _find_list(self, kind: McpItemKind) -> _List:
        return self.lists.setdefault(kind, _List())

    def _learn_list(self, kind: McpItemKind, answer: McpAnswer, unread: Collection[McpItemKind], seconds: int) -> None:
        """`unread`: kinds of which something else was not read."""
        known = self._find_list(kind)
        if answer.is_first:
            known.left_out_before, known.left_out = known.left_out, 0
        known.has_pages = known.has_pages or not answer.is_first or bool(answer.result.get("nextCursor"))
        if answer.is_whole and kind not in unread and not known.has_pages:
            self._is_changed |= not known.read
            known.read = seconds

    def _learn_introduction(self, information: dict[str, Any], names: McpNames) -> None:
        name, version = information.get("name"), information.get("version")
        is_name = isinstance(name, str) and 0 < len(name) <= _TEXT_CHARACTERS_MAX
        name = str(name) if is_name and names.name(str(name).replace(" ", ".")) else ""
        version = version if isinstance(version, str) and _VERSION.match(version) else ""
        if (name, version) != (self.name, self.version):
            self.name, self.version, self._is_changed = name, version, True

    def _learn_instructions(
        self, answer: McpAnswer, unread: Collection[McpItemKind], names: McpNames, keyed: KeyedHash, seconds: int
    ) -> None:
        """Of a first answer, which has them if the server has any."""
        kind, result = McpItemKind.INSTRUCTIONS, answer.result
        supported = result.get("supportedVersions")
        self._learn_protocols((result.get("protocolVersion"),))
        self._learn_protocols(supported[:MAX_PROTOCOL_VERSIONS] if isinstance(supported, list) else ())
        if answer.is_whole and "capabilities" in result:
            self._learn_list(kind, answer, unread, seconds)
            self._learn_item(kind, INSTRUCTIONS, {INSTRUCTIONS: result.get(INSTRUCTIONS)}, names, keyed, seconds)

    def _learn_protocols(self, versions: Iterable[object]) -> None:
        for version in versions:
            is_one = isinstance(version, str) and _PROTOCOL_VERSION.match(version)
            if is_one and version not in self.protocol_versions and len(self.protocol_versions) < MAX_PROTOCOL_VERSIONS:
                self.protocol_versions.add(str(version))
                self._is_changed = True

    def _learn_item(
        self, kind: McpItemKind, name: str, item: dict[str, Any], names: McpNames, keyed: KeyedHash, seconds: int
    ) -> None:
        items = self.items.setdefault(kind, {})
        name_hash = _hash_name(kind, name, keyed)
        known = items.pop(name_hash, None)
        if known is None:
            if not self._has_room(kind, seconds):
                self._leave_out(kind)
                return
            known = _Item(name="", first_seen=seconds)
        else:
            self.nodes -= known.nodes
        items[name_hash] = known
        known.last_seen = max(known.last_seen, seconds)
        pin, newest = _pin_item(kind, item, keyed), next(reversed(known.pins), None)
        seen = known.pins.pop(pin, None)
        if seen is None and not self._has_pin_room(known, seconds):
            known.pins_left_out += 1
            self._is_changed |= known.pins_left_out == 1
            self.nodes += known.nodes
            return
        known.pins[pin] = (seconds if seen is None else seen[0], seconds)
        if seen is None:
            known.unreported.add(pin)
            self._is_changed = True
        # Most lists are as before: what follows from the same texts is the same.
        was_read = known.is_read
        if pin != newest or not was_read:
            self._read_item(kind, known, item, names)
            self._is_changed |= known.is_read and not was_read
        self.nodes += known.nodes

    def _has_pin_room(self, known: _Item, seconds: int) -> bool:
        """Whether another text may come in. One that a decoy drives out before it is compared would be hidden."""
        allowed = min(MAX_PINS, max(MAX_SERVER_NODES - self.nodes, 1))
        while len(known.pins) >= allowed:
            told = (pin for pin, (first, _) in known.pins.items() if seconds - first >= PIN_SECONDS)
            old = next((pin for pin in told if pin not in known.unreported), None)
            if old is None:
                return False
            del known.pins[old]
        return True

    def _read_item(self, kind: McpItemKind, known: _Item, item: dict[str, Any], names: McpNames) -> None:
        """Arguments and hints as the newest pin has them."""
        room = max(MAX_SERVER_NODES - self.nodes, 1)
        listed = item.get("name")
        # A tool or prompt of another name is another one.
        is_shown = kind is not McpItemKind.RESOURCE and isinstance(listed, str)
        if is_shown and (not known.name or kind is McpItemKind.RESOURCE_TEMPLATE):
            known.name = names.name(str(listed))
        known.is_read = not names.is_spent
        allowed = max(min(MAX_ARGUMENTS, room - 1 - len(known.pins)), 0) if known.is_read else 0
        known.arguments = tuple(_list_arguments(kind, item, names, allowed))
        hints = item.get("annotations")
        hints = hints if isinstance(hints, dict) else {}
        known.hints = (
            hints.get("readOnlyHint") is True,
            _read_hint(hints.get("destructiveHint")),
            _read_hint(hints.get("openWorldHint")),
        )

    def _has_room(self, kind: McpItemKind, seconds: int) -> bool:
        """Whether another item may come in; what no list had for long is evicted."""
        items = self.items[kind]
        if len(items) < MAX_ITEMS[kind] and self.nodes + 2 <= MAX_SERVER_NODES:
            return True
        oldest = next(iter(items), None)
        if oldest is None or seconds - items[oldest].last_seen < STALE_SECONDS:
            return False
        self.nodes -= items.pop(oldest).nodes
        return True

    def _leave_out(self, kind: McpItemKind) -> None:
        known = self._find_list(kind)
        self._is_changed |= not _count_left_out(known)
        known.left_out += 1

    def write(self, key_id: int) -> McpServer:
        """As it may be reported now, and is from now on known to be."""
        self._written, self._is_changed = self._seen, False
        for item in (one for items in self.items.values() for one in items.values()):
            item.unreported.clear()
        return McpServer(
            key_id=key_id,
            pin_version=PIN_VERSION,
            name=self.name,
            version=self.version,
            protocol_versions=tuple(sorted(self.protocol_versions)),
            transports=tuple(sorted(self.transports)),
            items=tuple(
                _write_item(kind, name_hash, item)
                for kind in sorted(self.items)
                for name_hash, item in self.items[kind].items()
            ),
            lists=tuple(
                McpList(
                    kind=kind,
                    read=one.read,
                    unread_seen=one.unread_seen,
                    unread=one.unread,
                    left_out=_count_left_out(one),
                )
                for kind, one in sorted(self.lists.items())
            ),
        )


def _count_left_out(known: _List) -> int:
    return max(known.left_out, known.left_out_before)


def _write_item(kind: McpItemKind, name_hash: int, item: _Item) -> McpItem:
    pins = tuple(McpPin(*pin, *seen) for pin, seen in item.pins.items())
    is_read_only, is_destructive, is_open_world = item.hints
    return McpItem(
        kind=kind,
        name=item.name,
        name_hash=name_hash,
        description_hash=pins[-1].description_hash,
        schema_hash=pins[-1].schema_hash,
        arguments=item.arguments,
        is_read_only=is_read_only,
        is_destructive=is_destructive,
        is_open_world=is_open_world,
        first_seen=item.first_seen,
        last_seen=item.last_seen,
        pins=pins,
        pins_left_out=item.pins_left_out,
    )


def _read_hint(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _pin_item(kind: McpItemKind, item: dict[str, Any], keyed: KeyedHash) -> _Pin:
    """Hashes of all that it says in words, and of its schemas. Whatever else a list says of an item may reach a
    model, so it is pinned too."""
    schemas = _SCHEMAS[kind]
    described = {key: value for key, value in item.items() if key not in schemas and key not in _VARYING}
    annotations = described.get("annotations")
    if isinstance(annotations, dict):
        described["annotations"] = _without(annotations, _VARYING_ANNOTATIONS)
    return _hash(described, keyed), _hash([_sort_sets(item.get(name)) for name in schemas], keyed)


def _without(fields: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in names}


def _sort_sets(value: object) -> object:
    """A schema with its sets in one order."""
    if isinstance(value, dict):
        return {
            key: sorted(inner, key=repr) if key in _SETS and isinstance(inner, list) else _sort_sets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_sort_sets(inner) for inner in value]
    return value


def _list_arguments(kind: McpItemKind, item: dict[str, Any], names: McpNames, allowed: int) -> Iterator[McpArgument]:
    if kind is McpItemKind.PROMPT:
        listed = item.get("arguments")
        for one in listed[:allowed] if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield McpArgument(names.argument(one["name"]), "string", one.get("required") is True)
        return
    schema = item.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict):
        return
    required = schema.get("required")
    required = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
    for name, described in list(properties.items())[:allowed]:
        given = described.get("type") if isinstance(described, dict) else None
        kind_name = given if isinstance(given, str) and given in _TYPES else ""
        yield McpArgument(names.argument(name), kind_name, name in required)


def hash_use(used: McpUsed, keyed: KeyedHash) -> ToolUse:
    """What was used and how, to compare it with other uses."""
    return ToolUse(_hash_name(used.kind, used.name, keyed), _hash(used.arguments or {}, keyed))


def _hash_name(kind: McpItemKind, name: str, keyed: KeyedHash) -> int:
    """By which an item is known; of a resource that of its URI."""
    return keyed.compute(f"mcp\n{kind.value}\n{name}".encode("utf-8", "surrogatepass"))


def _hash(value: object, keyed: KeyedHash) -> int:
    """Of what JSON says, not of how it is written: order of keys and blanks do not matter."""
    try:
        written = msgspec.json.encode(value, order="deterministic")
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        written = _write_odd(value)  # Numbers of more than 64 bits, half a surrogate.
    return keyed.compute(b"mcp\n" + written)


def _write_odd(value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return b"deep"
