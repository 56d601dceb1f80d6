"""Turns a call's path into its route: (service, host, method, shape of the path), interned, with an immutable id.

Takes what a request line says and whether it was served. Gives a `Route` and the object that the path's parameters
name. Shapes come from `sensor.routes.segments`, positions from `sensor.routes.trie`, host names from
`sensor.routes.host_names`.

Words that are not plainly API words enter a route as a keyed hash, until `sensor.routes.reveal` reveals them.
Everything is bounded. What does not fit goes to the `other` route of its (service, method) and is counted.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from common.bounded import BoundedDict
from sensor.core.calls import CallTarget, Origin, Route, Segment, SegmentKind, Service
from sensor.core.keyed import KeyedHash, fold
from sensor.routes.host_names import OTHER
from sensor.routes.reveal import Reveal, hash_private_word
from sensor.routes.schema_names import Naming, find_names
from sensor.routes.segments import Shape, classify_segment, is_mount
from sensor.routes.trie import (
    MAX_VERSION_DIGITS,
    VERSION_DEPTH,
    Node,
    ServiceTable,
    ServiceTables,
    Slot,
    TableLimits,
    Trace,
    is_version_here,
    make_route,
    trace_path,
)
from sensor.routes.vocabulary import Vocabulary, is_private_place, is_public_word, is_secret_place

# Deeper paths are cut there and end in a parameter; the deepest development document has 17 segments.
MAX_SEGMENTS: Final = 32
# `other` routes kept, one for each (service, method) that needs one; dropped whole when full, their ids stay.
MAX_OTHERS: Final = 4_096
_SHAPE_CACHE_ENTRIES: Final = 32_768
# Longer ones may not fit 63 bits; the kernel counts so too.
MAX_NUMBER_DIGITS: Final = 18

_RPC_NAMES: Final = 2  # Service and method.
_NO_NAMES: Final[Mapping[int, str]] = {}
# A path that is not known. No path leads to it: its key has a slash, and `<` is in no literal.
_UNKNOWN_SEGMENT: Final = Segment(SegmentKind.LITERAL, "<unknown>")
_UNKNOWN_KEY: Final = "/<unknown>"
_PARAMETER_SEGMENT: Final = Segment(SegmentKind.PARAMETER)
_INTEGER_KEY: Final = (SegmentKind.INTEGER, "")
# A server that has no such path hardly ever answers so: served, redirected, or refused for who asks or how.
_REFUSED: Final = frozenset((401, 403, 405))
_SWITCHING_PROTOCOLS: Final = 101


class Templater:
    """Interns routes. One a sensor; not thread-safe."""

    def __init__(self, vocabulary: Vocabulary, keyed_hash: KeyedHash, limits: TableLimits | None = None) -> None:
        self._vocabulary = vocabulary
        self._hash = keyed_hash
        self._tables = ServiceTables(limits or TableLimits())
        self._others: BoundedDict[tuple[Service, str], Route] = BoundedDict(MAX_OTHERS)
        self._shapes: dict[str, Shape] = {}
        self.reveal = Reveal(vocabulary)
        self.reveals = 0  # How often texts of routes changed.
        self.folded_calls = 0  # Calls reported under the host `other`.
        self.other_calls = 0  # Calls reported under an `other` route,
        self.unserved_other_calls = 0  # and those of them that were not served.

    @property
    def evicted_services(self) -> int:
        """Services forgotten because there were too many."""
        return self._tables.evicted_services

    def route(
        self,
        service: Service,
        host: str,
        method: str,
        path: str,
        status_code: int,
        origin: Origin,
        time_ns: int,
        naming: Naming = Naming.NONE,
    ) -> CallTarget:
        """Route and object of one call of `origin` at a time (unix ns), which decide what is revealed and which hosts
        are kept. `naming`: whether the path ends in the names of an RPC's service and method, which are not values.

        Cost: a few dictionary look-ups for known literals; a new object adds one keyed hash, a new route its id.
        """
        is_served = _is_served(status_code)
        table = self._tables.find(service)
        name, root = self._find_root(table, host, is_served, origin, time_ns)
        if root is None:
            return self._other(service, method, is_served)
        texts, has_trailing_slash = _split(path)
        names = self._find_names(texts, naming) if naming else _NO_NAMES
        is_real = is_served or 300 <= status_code < 400 or status_code in _REFUSED
        use = (origin, time_ns) if is_real else None
        return self._walk(table, name, root, method, texts, has_trailing_slash, is_served, use, names)

    def route_unknown(
        self,
        service: Service,
        host: str,
        method: str,
        placeholder: bytes,
        status_code: int,
        origin: Origin,
        time_ns: int,
    ) -> CallTarget:
        """Route of a call whose path is not known: one for all of a host and method. Its object is `placeholder`, so
        that unknown endpoints are distinguished, and as bounded as objects are."""
        is_served = _is_served(status_code)
        table = self._tables.find(service)
        name, root = self._find_root(table, host, is_served, origin, time_ns)
        if root is None:
            return self._other(service, method, is_served)
        node = root.children.get(_UNKNOWN_KEY)
        if node is None:
            node = table.add_child(root, _UNKNOWN_KEY, _UNKNOWN_SEGMENT, Slot.LITERAL, is_served)
        elif is_served and not node.is_served:
            table.serve_node(node, root)
        route = table.find_route(name, node, (method, False), is_served) if node is not None else None
        if route is None:
            return self._other(service, method, is_served)
        return CallTarget(route, self._hash(placeholder), None)

    def _find_root(
        self, table: ServiceTable, host: str, is_served: bool, origin: Origin, time_ns: int
    ) -> tuple[str, Node | None]:
        """The name reported for a host, and its trie; None where there is no room for one."""
        name, root = table.find_root(host, is_served, origin, time_ns)
        self.folded_calls += name is OTHER
        return name, root

    def _find_names(self, texts: list[str], naming: Naming) -> Mapping[int, str]:
        """The texts to reveal for the last two segments, by their depth."""
        first = len(texts) - _RPC_NAMES
        if not 0 <= first <= MAX_SEGMENTS - _RPC_NAMES:
            return _NO_NAMES
        return dict(enumerate(find_names(texts[first], texts[first + 1], naming, self._vocabulary), first))

    def _walk(
        self,
        table: ServiceTable,
        host: str,
        node: Node,
        method: str,
        texts: list[str],
        has_trailing_slash: bool,
        is_served: bool,
        use: tuple[Origin, int] | None,
        names: Mapping[int, str],
    ) -> CallTarget:
        """`use`: who was shown that the path exists, and when (unix ns)."""
        if len(texts) > MAX_SEGMENTS:
            texts[MAX_SEGMENTS:] = ["/".join(texts[MAX_SEGMENTS:])]
        object_hash = 0
        number: int | None = None
        # The loop of the hot path: words that are known take one look-up, plain numbers three.
        place = ""  # The segment before, without the empty ones that servers skip.
        for depth, text in enumerate(texts):
            parent, value = node, text
            child = parent.children.get(text)
            if names and depth in names:
                child = self._step_name(table, parent, place, text, names[depth], child, is_served)
            if child is None and text.isdigit() and (len(text) > MAX_VERSION_DIGITS or depth > VERSION_DEPTH):
                child = parent.shapes.get(_INTEGER_KEY) if text.isascii() else None
            if child is None:
                shape = self._classify(text)
                child = self._step(table, parent, depth, place, text, shape, is_served)
                if child is None:
                    return self._other(table.service, method, is_served)
                if child.slot is not Slot.WORD:
                    value = shape.value or text
            if is_served and not child.is_served:
                table.serve_node(child, parent)
            node = child
            if node.is_parameter:
                segment = node.segments[-1]
                if segment.kind is SegmentKind.WORD:
                    number, hashed = None, segment.hash
                    if is_private_place(place):
                        hashed = self._hash.compute((self._classify(text).value or text).encode("utf-8", "replace"))
                    elif use is not None:
                        self.reveal.observe(text, hashed, parent, table.service.workload, *use)
                else:
                    is_number = segment.kind is SegmentKind.INTEGER and value.isdigit()
                    number = int(value) if is_number and len(value) <= MAX_NUMBER_DIGITS else None
                    hashed = self._hash.compute(value.encode("utf-8", "replace"))
                object_hash = fold(object_hash, hashed) if object_hash else hashed
            if text and text != ".":
                place = text
        route = table.find_route(host, node, (method, has_trailing_slash), is_served)
        if route is None:
            return self._other(table.service, method, is_served)
        return CallTarget(route, object_hash, number)

    def trace(self, service: Service, host: str, method: str, path: str) -> Trace | None:
        """The way that `route` takes for a path it has just taken, and nothing is changed by it; None where it ends in
        an `other` route."""
        root = self._tables.find(service).roots.get(host)
        texts, has_trailing_slash = _split(path)
        if root is None or len(texts) > MAX_SEGMENTS:
            return None
        return trace_path(root, texts, (method, has_trailing_slash), self._classify)

    def holds(self, service: Service, root: Node) -> bool:
        """Whether a trie is still one of a host that has a place."""
        return any(held is root for held in self._tables.find(service).roots.values())

    def _classify(self, text: str) -> Shape:
        shape = self._shapes.get(text)
        if shape is None:
            shape = classify_segment(text, self._vocabulary)
            # Values seldom repeat and are cheap to classify again; words repeat and are not.
            if shape.kind in (SegmentKind.WORD, SegmentKind.LITERAL):
                if len(self._shapes) >= _SHAPE_CACHE_ENTRIES:
                    self._shapes.clear()
                self._shapes[text] = shape
        return shape

    def _step(
        self, table: ServiceTable, node: Node, depth: int, place: str, text: str, shape: Shape, is_served: bool
    ) -> Node | None:
        """The child for a segment that is no known literal or word of `node`; None where there is no room for it.
        `place` is the segment before it."""
        kind = shape.kind
        if depth <= VERSION_DEPTH and is_version_here(node, depth, text) and node.has_room(Slot.VERSION, is_served):
            segment = Segment(SegmentKind.LITERAL, text)
            return table.add_child(node, text, segment, Slot.VERSION, is_served)
        if kind is SegmentKind.LITERAL and is_secret_place(place) and not is_public_word(shape.text):
            kind = SegmentKind.WORD  # It may be a password or an illness, whatever API words there are.
        if kind is SegmentKind.LITERAL:
            segment = Segment(SegmentKind.LITERAL, shape.text)
            is_pattern = "{}" in shape.text
            known = node.shapes.get((kind, shape.text)) if is_pattern else None
            if known is not None:
                return known
            if node.has_room(Slot.LITERAL, is_served):
                return table.add_child(node, None if is_pattern else text, segment, Slot.LITERAL, is_served)
            segment = _PARAMETER_SEGMENT
        elif kind is SegmentKind.WORD or (depth == 0 and kind is SegmentKind.TOKEN and is_mount(text)):
            if node.has_room(Slot.WORD, is_served):
                segment = self._word_segment(shape.value or text, place)
                return table.add_child(node, text, segment, Slot.WORD, is_served)
            segment = _PARAMETER_SEGMENT
        else:
            segment = _SHAPE_SEGMENTS[kind]
        known = node.shapes.get((segment.kind, ""))
        return known if known is not None else table.add_child(node, None, segment, Slot.SHAPE, is_served)

    def _step_name(
        self,
        table: ServiceTable,
        node: Node,
        place: str,
        text: str,
        name: str,
        child: Node | None,
        is_served: bool,
    ) -> Node | None:
        """The child for a name of an RPC, given the child that `text` has: a literal if its `name` is revealed, else a
        word. None where there is no room."""
        if child is None:
            if name and node.has_room(Slot.LITERAL, is_served):
                segment = Segment(SegmentKind.LITERAL, name)
                return table.add_child(node, text, segment, Slot.LITERAL, is_served)
            if node.has_room(Slot.WORD, is_served):
                return table.add_child(node, text, self._word_segment(text, place), Slot.WORD, is_served)
        elif name and child.slot is Slot.WORD and not child.segments[-1].text:
            # It was called before the server had shown that it knows the name.
            word_hash = child.segments[-1].hash
            self.reveal.allow(word_hash, name)
            _rename(node, node.segments, {word_hash: name})
            self.reveals += 1
        return child

    def _word_segment(self, text: str, place: str) -> Segment:
        encoded = text.encode("utf-8", "replace")
        hashed = hash_private_word(self._hash, encoded) if is_private_place(place) else self._hash(encoded)
        return Segment(SegmentKind.WORD, self.reveal.revealed.get(hashed, ""), hashed, len(encoded))

    def _other(self, service: Service, method: str, is_served: bool) -> CallTarget:
        self.other_calls += 1
        self.unserved_other_calls += not is_served
        return CallTarget(self.route_other(service, method), 0, None)

    def route_other(self, service: Service, method: str) -> Route:
        """The route of a service's calls whose path is not reported."""
        route = self._others.get((service, method))
        if route is None:
            route = make_route(service, OTHER, method, (_PARAMETER_SEGMENT,), False)
            self._others[service, method] = route
        return route

    def apply_reveal(self, hashes: Iterable[int]) -> dict[int, str]:
        """Answers a collector's request: the texts that may be revealed. Their routes carry them from now on, under the

        same ids.
        """
        revealed = self.reveal.answer(hashes)
        if revealed:
            self.reveals += 1
            for table in self._tables.all():
                for root in table.roots.values():
                    _rename(root, (), revealed)
        return revealed


def _is_served(status_code: int) -> bool:
    return 200 <= status_code < 300 or status_code == _SWITCHING_PROTOCOLS


def _split(path: str) -> tuple[list[str], bool]:
    """The segments of a path, and whether a slash ends it."""
    texts = path.split("/")
    # The path of an origin-form starts with the empty text before its first slash, which is no segment.
    if texts[0] == "":
        del texts[0]
    if texts and texts[-1] == "":
        del texts[-1]
        return texts, bool(texts)
    return texts, False


_SHAPE_SEGMENTS: Final = {kind: Segment(kind) for kind in SegmentKind}


def _rename(node: Node, segments: tuple[Segment, ...], revealed: dict[int, str]) -> None:
    """Rebuilds the segments below `node` where a word of them was revealed."""
    if segments != node.segments:
        node.segments = segments
        for (method, slash), route in list(node.routes.items()):
            renamed = Route(
                route_id=route.route_id,
                service=route.service,
                host=route.host,
                method=method,
                segments=segments,
                has_trailing_slash=slash,
            )
            node.add_route((method, slash), renamed)
    for child in (*node.children.values(), *node.shapes.values()):
        last = child.segments[-1]
        text = revealed.get(last.hash) if last.kind is SegmentKind.WORD else None
        if text is not None:
            last = Segment(last.kind, text, last.hash, last.length)
        _rename(child, (*segments, last), revealed)
