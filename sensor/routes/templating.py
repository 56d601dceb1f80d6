"""Turns a call's path into its route: (service, host, method, shape of the path), interned, with an immutable id.

Takes what a request line says and whether it was served. Gives a `Route` and the object that the path's parameters
name. Shapes come from `sensor.routes.segments`, positions from `sensor.routes.trie`, host names from
`sensor.routes.vocabulary`.

Words that are not plainly API words enter a route as a keyed hash, until `sensor.routes.vocabulary` reveals them.
Everything is bounded. What does not fit goes to the `other` route of its (service, method) and is counted.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from common.bounded import BoundedDict
from sensor.core.calls import Route, Segment, SegmentKind, Service
from sensor.core.keyed import PUBLIC_KEY, KeyedHash, fold, hash_siphash
from sensor.routes.schema_names import Naming, find_names
from sensor.routes.segments import Shape, classify_segment, is_mount
from sensor.routes.tables import ServiceTable, ServiceTables, TableLimits
from sensor.routes.trie import MAX_VERSION_DIGITS, VERSION_DEPTH, Node, Slot, Trace, is_version_here, trace_path
from sensor.routes.vocabulary import OTHER, Reveal, Vocabulary

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


class Templated(msgspec.Struct, frozen=True, gc=False):
    """What `Templater.route` tells of one call."""

    route: Route
    # Keyed hashes of the parameter values, folded in order as the kernel does it (sensor.ebpf.hashes); 0 = the path
    # has none, or an `other` route.
    object_hash: int
    object_number: int | None  # The last parameter's value where it is a number of at most 18 digits.


def compute_route_id(
    service: Service, host: str, method: str, segments: Iterable[Segment], has_trailing_slash: bool
) -> int:
    """SipHash-2-4 under the public key: equal on every node of an installation, since word hashes are keyed alike.

    A revealed word's text is not part of it, so an id survives the reveal.
    """
    parts = [
        service.cluster, service.namespace, service.workload, str(int(service.workload_kind)), service.host_name,
                  str(service.port),
        host, method, "/" if has_trailing_slash else "",
    ]  # fmt: skip
    for segment in segments:
        if segment.kind is SegmentKind.LITERAL:
            parts.append(f"={segment.text}")
        elif segment.kind is SegmentKind.WORD:
            parts.append(f"#{segment.hash:x}")
        else:
            parts.append(f"*{int(segment.kind)}")
    return hash_siphash(PUBLIC_KEY, "\0".join(parts).encode("utf-8", "replace")) or 1


class Templater:
    """Interns routes. One a sensor; not thread-safe."""

    __slots__ = (
        "_hash",
        "_others",
        "_shapes",
        "_tables",
        "_vocabulary",
        "folded_calls",
        "other_calls",
        "reveal",
        "reveals",
        "unserved_other_calls",
    )

    def __init__(self, vocabulary: Vocabulary, keyed_hash: KeyedHash, limits: TableLimits | None = None) -> None:
        self._vocabulary = vocabulary
        self._hash = keyed_hash
        self._tables = ServiceTables(limits or TableLimits())
        self._others: BoundedDict[tuple[Service, str], Route] = BoundedDict(MAX_OTHERS)
        self._shapes: dict[str, Shape] = {}
        self.reveal = Reveal(vocabulary)
        self.reveals = 0  # How often texts of routes changed.
        self.folded_calls = 0  # Calls told under the host `other`.
        self.other_calls = 0  # Calls told under an `other` route,
        self.unserved_other_calls = 0  # and those of them that were not served.

    @property
    def route_count(self) -> int:
        """Routes that were served."""
        return self._tables.budget.routes.used

    @property
    def unserved_count(self) -> int:
        """Routes that never were."""
        return self._tables.budget.unserved_routes.used

    @property
    def node_count(self) -> int:
        """Nodes of all tries."""
        return self._tables.budget.nodes.used + self._tables.budget.unserved_nodes.used

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
        consumer: int,
        *,
        naming: Naming = Naming.NONE,
    ) -> Templated:
        """Route and object of one call. `consumer` is any hash that tells callers apart; it serves the reveal rule
        only. `naming`: whether the path ends in the names of an RPC's service and method, which are not values.

        Cost: a few dictionary look-ups for known literals; a new object adds one keyed hash, a new route its id.
        """
        is_served = 200 <= status_code < 300
        table = self._tables.find(service)
        name, root = self._find_root(table, host, is_served)
        if root is None:
            return self._other(service, method, is_served)
        texts, has_trailing_slash = _split(path)
        names = self._find_names(texts, naming) if naming else _NO_NAMES
        return self._walk(table, name, root, method, texts, has_trailing_slash, is_served, consumer, names)

    def route_unknown(
        self, service: Service, host: str, method: str, placeholder: bytes, status_code: int
    ) -> Templated:
        """Route of a call whose path is not known: one for all of a host and method. Its object is `placeholder`, so
        that unknown endpoints are told apart, and as bounded as objects are."""
        is_served = 200 <= status_code < 300
        table = self._tables.find(service)
        name, root = self._find_root(table, host, is_served)
        if root is None:
            return self._other(service, method, is_served)
        node = root.children.get(_UNKNOWN_KEY)
        if node is None:
            node = self._add_child(table, root, _UNKNOWN_KEY, _UNKNOWN_SEGMENT, Slot.LITERAL, is_served)
        elif is_served and not node.is_served:
            table.serve_node(node, root)
        route = self._find_route(table, name, node, (method, False), is_served) if node is not None else None
        if route is None:
            return self._other(service, method, is_served)
        return Templated(route, self._hash(placeholder), None)

    def _find_root(self, table: ServiceTable, host: str, is_served: bool) -> tuple[str, Node | None]:
        """The name told for a host, and its trie; None where there is no room for one."""
        name, root = host, table.roots.get(host)
        if root is None or (is_served and not root.is_served):
            name, root = table.admit(host, is_served)
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
        consumer: int,
        names: Mapping[int, str],
    ) -> Templated:
        if len(texts) > MAX_SEGMENTS:
            texts[MAX_SEGMENTS:] = ["/".join(texts[MAX_SEGMENTS:])]
        object_hash = 0
        number: int | None = None
        # The loop of the hot path: words that are known take one look-up, plain numbers three.
        for depth, text in enumerate(texts):
            parent, value = node, text
            child = parent.children.get(text)
            if names and depth in names:
                child = self._step_name(table, parent, text, names[depth], child, is_served)
            if child is None and text.isdigit() and (len(text) > MAX_VERSION_DIGITS or depth > VERSION_DEPTH):
                child = parent.shapes.get(_INTEGER_KEY) if text.isascii() else None
            if child is None:
                shape = self._classify(text)
                child = self._step(table, parent, depth, text, shape, is_served)
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
                    if is_served:
                        self.reveal.observe(text, hashed, consumer)
                else:
                    is_number = segment.kind is SegmentKind.INTEGER and value.isdigit()
                    number = int(value) if is_number and len(value) <= MAX_NUMBER_DIGITS else None
                    hashed = self._hash.compute(value.encode("utf-8", "replace"))
                object_hash = fold(object_hash, hashed) if object_hash else hashed
        route = self._find_route(table, host, node, (method, has_trailing_slash), is_served)
        if route is None:
            return self._other(table.service, method, is_served)
        return Templated(route, object_hash, number)

    def _find_route(
        self, table: ServiceTable, host: str, node: Node, key: tuple[str, bool], is_served: bool
    ) -> Route | None:
        """The route that ends at `node`; None where there is no room for it."""
        route = node.routes.get(key)
        if route is None:
            return self._add_route(table, host, node, key, is_served)
        if is_served and node.unserved and key in node.unserved and table.budget.routes.take():
            table.budget.unserved_routes.give_back(1)
            node.unserved.discard(key)
        return route

    def trace(self, service: Service, host: str, method: str, path: str) -> Trace | None:
        """The way that `route` takes for a path it has just taken, and nothing is changed by it; None where it ends in
        an `other` route."""
        root = self._tables.find(service).roots.get(host)
        texts, has_trailing_slash = _split(path)
        if root is None or len(texts) > MAX_SEGMENTS:
            return None
        return trace_path(root, texts, (method, has_trailing_slash), self._classify)

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
        self, table: ServiceTable, node: Node, depth: int, text: str, shape: Shape, is_served: bool
    ) -> Node | None:
        """The child for a segment that is no known literal or word of `node`; None where there is no room for it."""
        kind = shape.kind
        if depth <= VERSION_DEPTH and is_version_here(node, depth, text) and node.has_room(Slot.VERSION, is_served):
            segment = Segment(SegmentKind.LITERAL, text)
            return self._add_child(table, node, text, segment, Slot.VERSION, is_served)
        if kind is SegmentKind.LITERAL:
            segment = Segment(SegmentKind.LITERAL, shape.text)
            is_pattern = "{}" in shape.text
            known = node.shapes.get((kind, shape.text)) if is_pattern else None
            if known is not None:
                return known
            if node.has_room(Slot.LITERAL, is_served):
                return self._add_child(table, node, None if is_pattern else text, segment, Slot.LITERAL, is_served)
            segment = _PARAMETER_SEGMENT
        elif kind is SegmentKind.WORD or (depth == 0 and kind is SegmentKind.TOKEN and is_mount(text)):
            if node.has_room(Slot.WORD, is_served):
                segment = self._word_segment(shape.value or text)
                return self._add_child(table, node, text, segment, Slot.WORD, is_served)
            segment = _PARAMETER_SEGMENT
        else:
            segment = _SHAPE_SEGMENTS[kind]
        known = node.shapes.get((segment.kind, ""))
        return known if known is not None else self._add_child(table, node, None, segment, Slot.SHAPE, is_served)

    def _step_name(
        self, table: ServiceTable, node: Node, text: str, name: str, child: Node | None, is_served: bool
    ) -> Node | None:
        """The child for a name of an RPC, given the child that `text` has: a literal if its `name` is revealed, else a
        word. None where there is no room."""
        if child is None:
            if name and node.has_room(Slot.LITERAL, is_served):
                segment = Segment(SegmentKind.LITERAL, name)
                return self._add_child(table, node, text, segment, Slot.LITERAL, is_served)
            if node.has_room(Slot.WORD, is_served):
                return self._add_child(table, node, text, self._word_segment(text), Slot.WORD, is_served)
        elif name and child.slot is Slot.WORD and not child.segments[-1].text:
            # It was called before the server had shown that it knows the name.
            word_hash = child.segments[-1].hash
            self.reveal.allow(word_hash, name)
            _rename(node, node.segments, {word_hash: name})
            self.reveals += 1
        return child

    def _word_segment(self, text: str) -> Segment:
        encoded = text.encode("utf-8", "replace")
        hashed = self._hash(encoded)
        return Segment(SegmentKind.WORD, self.reveal.revealed.get(hashed, ""), hashed, len(encoded))

    @staticmethod
    def _add_child(
        table: ServiceTable, node: Node, text: str | None, segment: Segment, slot: Slot, is_served: bool
    ) -> Node | None:
        is_parameter = segment.kind is not SegmentKind.LITERAL or text is None
        child = table.make_node(Node((*node.segments, segment), slot, is_parameter, is_served))
        if child is not None:
            node.add(child, text)
        return child

    @staticmethod
    def _add_route(table: ServiceTable, host: str, node: Node, key: tuple[str, bool], is_served: bool) -> Route | None:
        budget = table.budget
        if not (budget.routes if is_served else budget.unserved_routes).take():
            return None
        if not is_served:
            node.unserved = node.unserved or set()
            node.unserved.add(key)
        method, has_trailing_slash = key
        route = _make_route(table.service, host, method, node.segments, has_trailing_slash)
        node.add_route(key, route)
        return route

    def _other(self, service: Service, method: str, is_served: bool) -> Templated:
        self.other_calls += 1
        self.unserved_other_calls += not is_served
        return Templated(self.route_other(service, method), 0, None)

    def route_other(self, service: Service, method: str) -> Route:
        """The route of a service's calls whose path is not told."""
        route = self._others.get((service, method))
        if route is None:
            route = _make_route(service, OTHER, method, (_PARAMETER_SEGMENT,), False)
            self._others[service, method] = route
        return route

    def apply_reveal(self, hashes: Iterable[int]) -> dict[int, str]:
        """Answers a collector's request: the texts that may be told. Their routes carry them from now on, under the

        same ids.
        """
        told = self.reveal.answer(hashes)
        if told:
            self.reveals += 1
            for table in self._tables.all():
                for root in table.roots.values():
                    _rename(root, (), told)
        return told


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


def _make_route(
    service: Service, host: str, method: str, segments: tuple[Segment, ...], has_trailing_slash: bool
) -> Route:
    return Route(
        route_id=compute_route_id(service, host, method, segments, has_trailing_slash),
        service=service,
        host=host,
        method=method,
        segments=segments,
        has_trailing_slash=has_trailing_slash,
    )


def _rename(node: Node, segments: tuple[Segment, ...], told: dict[int, str]) -> None:
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
        text = told.get(last.hash) if last.kind is SegmentKind.WORD else None
        if text is not None:
            last = Segment(last.kind, text, last.hash, last.length)
        _rename(child, (*segments, last), told)
