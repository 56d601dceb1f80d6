"""From a call's path to its route: (service, host, method, shape of the path), interned, under an immutable id.

Takes what a request line says and whether it was served, gives a `Route` and the object that the path's parameters
name. Shapes come from `sensor.shapes`, positions from `sensor.trie`, host names from `sensor.hosts`. Words that are not
plainly API words go into a route as a keyed hash and stay so until `sensor.reveal` lets them out. Everything is
bounded; what does not fit goes to the `other` route of its (service, method) and is counted.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sensor.calls import Route, Segment, SegmentKind, Service
from sensor.hosts import HostTable
from sensor.keyed import PUBLIC_KEY, KeyedHash, hash_siphash
from sensor.reveal import Reveal
from sensor.shapes import Shape, classify_segment, is_release
from sensor.trie import MAX_LITERALS, MAX_VERSIONS, MAX_WORDS, Node
from sensor.vocabulary import Vocabulary

# Routes of one sensor. A route costs ~1 KB with its nodes, so ~20 MB.
MAX_ROUTES: Final = 20_000
# Of those, routes that were never served: scanners must not fill the table.
MAX_UNSERVED_ROUTES: Final = 4_000
# Deeper paths are cut there and end in a parameter; the deepest development document has 17 segments.
MAX_SEGMENTS: Final = 32
_SHAPE_CACHE_ENTRIES: Final = 32_768
# Where an API's version stands: /2.0/users, /api/3/users.
_VERSION_DEPTH: Final = 2
MAX_MOUNT_CHARACTERS: Final = 40
_MAX_OBJECT_NUMBER: Final = 1 << 63

_PARAMETER_SEGMENT: Final = Segment(SegmentKind.PARAMETER)
_OTHER_HOST: Final = "other"


class Templated(NamedTuple):
    """What `Templater.route` tells of one call."""

    route: Route
    object_hash: int  # Keyed hash of the parameter values and their number; 0 = the path has none.
    object_number: int | None  # The last parameter's value where it is an integer below 2**63.


class _Table:
    """Routes of one (service, host)."""

    __slots__ = ("host", "root", "service")

    def __init__(self, service: Service, host: str) -> None:
        self.service = service
        self.host = host
        self.root = Node((), False)


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
        "_hosts",
        "_others",
        "_shapes",
        "_tables",
        "_vocabulary",
        "other_calls",
        "reveal",
        "route_count",
        "unserved_count",
    )

    def __init__(self, vocabulary: Vocabulary, keyed_hash: KeyedHash) -> None:
        self._vocabulary = vocabulary
        self._hash = keyed_hash
        self._hosts = HostTable()
        self._tables: dict[tuple[Service, str], _Table] = {}
        self._others: dict[tuple[Service, str], Route] = {}
        self._shapes: dict[str, Shape] = {}
        self.reveal = Reveal(vocabulary, keyed_hash)
        self.route_count = 0
        self.unserved_count = 0
        self.other_calls = 0  # Calls told under an `other` route.

    def route(self, service: Service, host: str, method: str, path: str, status_code: int, consumer: int) -> Templated:
        """Route and object of one call. `consumer` is any hash that tells callers apart; it serves the reveal rule
        only.

        Cost: a few dictionary look-ups for known literals; a new object adds one keyed hash, a new route its id.
        """
        is_served = 200 <= status_code < 300
        name = self._hosts.admit(service, host, is_served)
        table = self._tables.get((service, name))
        if table is None:
            table = self._tables[(service, name)] = _Table(service, name)
        texts = path.split("/")
        start = 1 if texts[0] == "" else 0
        end = len(texts)
        has_trailing_slash = end - start > 1 and texts[-1] == ""
        if has_trailing_slash or (end - start == 1 and texts[-1] == ""):
            end -= 1
        return self._walk(table, method, texts[start:end], has_trailing_slash, is_served, consumer)

    def _walk(
        self, table: _Table, method: str, texts: list[str], has_trailing_slash: bool, is_served: bool, consumer: int
    ) -> Templated:
        node = table.root
        values: list[str] = []
        number: int | None = None
        for depth, text in enumerate(texts):
            if depth == MAX_SEGMENTS:
                values.append("/".join(texts[depth:]))
                node = self._shape_child(node, _PARAMETER_SEGMENT, True)
                break
            child = node.children.get(text)
            if child is not None:
                if child.is_parameter:
                    values.append(text)
                    number = None
                    if is_served:
                        self.reveal.observe(text, child.segments[-1].hash, consumer)
                node = child
                continue
            shape = self._classify(text)
            node = self._step(node, depth, text, shape)
            if node.is_parameter:
                value = shape.value or text
                values.append(value)
                number = None
                if shape.kind is SegmentKind.INTEGER and len(value) < 20:
                    number = int(value)
                elif is_served and node.segments[-1].kind is SegmentKind.WORD:
                    self.reveal.observe(text, node.segments[-1].hash, consumer)
        route = node.routes.get((method, has_trailing_slash))
        if route is None:
            route = self._add_route(table, node, method, has_trailing_slash, is_served)
        object_hash = 0
        if values:
            object_hash = self._hash("\0".join((*values, str(len(values)))).encode("utf-8", "replace"))
        return Templated(route, object_hash, number if number is None or 0 <= number < _MAX_OBJECT_NUMBER else None)

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

    def _step(self, node: Node, depth: int, text: str, shape: Shape) -> Node:
        """The child for a segment that is no known literal or word of `node`; created where there is room."""
        kind = shape.kind
        if depth <= _VERSION_DEPTH and node.version_count < MAX_VERSIONS and is_version_here(node, depth, text):
            node.version_count += 1
            return self._named_child(node, text, Segment(SegmentKind.LITERAL, text), False)
        if kind is SegmentKind.LITERAL:
            if "{}" in shape.text:
                return self._shape_child(node, Segment(SegmentKind.LITERAL, shape.text), True)
            if node.literal_count < MAX_LITERALS:
                node.literal_count += 1
                return self._named_child(node, text, Segment(SegmentKind.LITERAL, shape.text), False)
            return self._shape_child(node, _PARAMETER_SEGMENT, True)
        if kind is SegmentKind.WORD or (depth == 0 and kind is SegmentKind.TOKEN and is_mount(text)):
            if node.word_count < MAX_WORDS:
                node.word_count += 1
                segment = self._word_segment(shape.value or text)
                return self._named_child(node, text, segment, True)
            return self._shape_child(node, _PARAMETER_SEGMENT, True)
        return self._shape_child(node, Segment(kind), True)

    def _word_segment(self, text: str) -> Segment:
        encoded = text.encode("utf-8", "replace")
        hashed = self._hash(encoded)
        return Segment(SegmentKind.WORD, self.reveal.revealed.get(hashed, ""), hashed, len(encoded))

    @staticmethod
    def _named_child(node: Node, text: str, segment: Segment, is_parameter: bool) -> Node:
        child = node.children[text] = Node((*node.segments, segment), is_parameter)
        return child

    @staticmethod
    def _shape_child(node: Node, segment: Segment, is_parameter: bool) -> Node:
        key = (segment.kind, segment.text)
        child = node.shapes.get(key)
        if child is None:
            child = node.shapes[key] = Node((*node.segments, segment), is_parameter)
        return child

    def _add_route(self, table: _Table, node: Node, method: str, has_trailing_slash: bool, is_served: bool) -> Route:
        if self.route_count >= MAX_ROUTES or (not is_served and self.unserved_count >= MAX_UNSERVED_ROUTES):
            self.other_calls += 1
            return self._other(table.service, method)
        self.route_count += 1
        self.unserved_count += not is_served
        route = _make_route(table.service, table.host, method, node.segments, has_trailing_slash)
        node.routes[(method, has_trailing_slash)] = route
        return route

    def _other(self, service: Service, method: str) -> Route:
        route = self._others.get((service, method))
        if route is None:
            route = _make_route(service, _OTHER_HOST, method, (_PARAMETER_SEGMENT,), False)
            self._others[(service, method)] = route
        return route

    def apply_reveal(self, hashes: Iterable[int]) -> dict[int, str]:
        """Answers a collector's request: the texts that may be told. Their routes carry them from now on, under the

        same ids.
        """
        told = self.reveal.answer(hashes)
        if told:
            for table in self._tables.values():
                _rename(table, table.root, (), told)
        return told


def is_mount(text: str) -> bool:
    """Whether a first segment may be where an API is mounted though it looks like a value: a host name or a short code.

    It then goes as a word, so that its text is told by reveal only.
    """
    digits = sum(character.isdigit() for character in text)
    return len(text) <= MAX_MOUNT_CHARACTERS and digits <= 2 and text.replace(".", "").replace("-", "").isalnum()


def is_version_here(node: Node, depth: int, text: str) -> bool:
    """Whether a number stands where versions stand: dotted ones near the start, whole ones and dates where an API

    begins.
    """
    if not is_release(text):
        return False
    return (depth < _VERSION_DEPTH and _begins_api(node, depth)) or (text.count(".") == 1 and len(text) <= 4)


def _begins_api(node: Node, depth: int) -> bool:
    """Whether a version may stand after this prefix: at the root, or after /api and the like."""
    return depth == 0 or (
        node.segments[-1].kind is SegmentKind.LITERAL and node.segments[-1].text.lower() in _API_ROOTS
    )


_API_ROOTS: Final = frozenset(
    (
        "api",
        "rest",
        "apis",
        "services",
        "service",
        "v",
        "version",
        "ws",
        "public",
        "odata",
        "json",
        "data",
        "public-api",
    )
)


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


def _rename(table: _Table, node: Node, segments: tuple[Segment, ...], told: dict[int, str]) -> None:
    """Rebuilds the segments below `node` where a word of them was revealed."""
    if segments != node.segments:
        node.segments = segments
        for (method, slash), route in node.routes.items():
            node.routes[(method, slash)] = Route(
                route_id=route.route_id,
                service=table.service,
                host=table.host,
                method=method,
                segments=segments,
                has_trailing_slash=slash,
            )
    for child in (*node.children.values(), *node.shapes.values()):
        last = child.segments[-1]
        text = told.get(last.hash) if last.kind is SegmentKind.WORD else None
        if text is not None:
            last = Segment(last.kind, text, last.hash, last.length)
        _rename(table, child, (*segments, last), told)
