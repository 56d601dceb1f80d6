"""Places of a service map's nodes and the curves between them: clients left, what they call to the right of them.

Layers as of Sugiyama: networkx breaks the cycles and gives each node its layer. In each layer nodes stand in the order
of the middle of their neighbours, which keeps most edges from crossing (the barycentre heuristic of the same method).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # It takes 10 MB, so it is imported where a map is drawn.
    import networkx

NODE_WIDTH: Final = 170  # Units of the picture: pixels.
NODE_HEIGHT: Final = 34
LAYER_GAP: Final = 64
NODE_GAP: Final = 18
WAY_HEIGHT: Final = 20  # Of an edge that passes a layer.
MARGIN: Final = 10
SWEEPS: Final = 8  # Over all layers, to the right and back; after a few nothing moves.


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The upper left corner of a node."""

    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One edge: attributes `d` of a path and of the tip of its arrow."""

    line: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Nodes by name, and the curve of each edge in the order given."""

    width: int
    height: int
    places: Mapping[str, Place]
    curves: Sequence[Curve]


def lay_out(edges: Sequence[tuple[str, str]]) -> Layout:
    """Of edges from one node to another; cycles are allowed, and no edge is there twice."""
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    if not names:
        return Layout(width=0, height=0, places={}, curves=())
    numbers = {name: number for number, name in enumerate(names)}
    others = [(numbers[one], numbers[other]) for one, other in edges if one != other]
    ways, layers = _arrange(len(names), others)
    placed = {vertex: (layer, order) for layer, row in enumerate(layers) for order, vertex in enumerate(row)}
    places, height = _stack([placed[vertex] for vertex in range(len(placed))], len(names))
    passed, lengths = iter(places[len(names) :]), iter([len(way) for way in ways])
    curves = []
    for one, other in edges:
        source, target = places[numbers[one]], places[numbers[other]]
        if one == other:
            curves.append(_draw_loop(source))
            continue
        between = [next(passed) for _ in range(next(lengths))]
        way = sorted([source, *between, target], key=lambda place: place.x)
        curves.append(_draw(way if source.x <= target.x else way[::-1]))
    width = max(place.x for place in places) + NODE_WIDTH + MARGIN
    return Layout(width=width, height=height, places=dict(zip(names, places, strict=False)), curves=curves)


def _arrange(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Of `count` nodes: of each edge the points in the layers that it passes, numbered after the nodes edge by edge,
    and the nodes and points of each layer from top to bottom."""
    import networkx

    graph = networkx.DiGraph(edges)
    graph.add_nodes_from(range(count))
    try:
        while True:  # An edge that leads back is drawn back, and ranks as if it led on.
            source, target = networkx.find_cycle(graph)[-1][:2]
            graph.remove_edge(source, target)
            if not networkx.has_path(graph, target, source):
                graph.add_edge(target, source)
    except networkx.NetworkXNoCycle:
        layers = [sorted(row) for row in networkx.topological_generations(graph)]
    layer_of = {vertex: layer for layer, row in enumerate(layers) for vertex in row}
    ways, beside = list[list[int]](), networkx.Graph()
    beside.add_nodes_from(range(count))
    for source, target in edges:
        first, last = sorted((source, target), key=lambda vertex: layer_of[vertex])
        way = []
        for layer in range(layer_of[first] + 1, layer_of[last]):
            layers[layer].append(count)
            way.append(count)
            count += 1
        ways.append(way)
        networkx.add_path(beside, [first, *way, last])
    for sweep in range(SWEEPS):
        ahead = range(1, len(layers)) if sweep % 2 == 0 else range(len(layers) - 2, -1, -1)
        for layer in ahead:
            before = {vertex: place for place, vertex in enumerate(layers[layer - 1 if sweep % 2 == 0 else layer + 1])}
            _sort_by_neighbours(layers[layer], before, beside)
    return ways, layers


def _sort_by_neighbours(row: list[int], before: Mapping[int, int], beside: "networkx.Graph") -> None:
    """By the mean place of a node's neighbours in the layer `before`; a node without one stays where it is."""
    middles = {}
    for place, vertex in enumerate(row):
        found = [before[one] for one in beside[vertex] if one in before]
        middles[vertex] = sum(found) / len(found) if found else place
    row.sort(key=lambda vertex: middles[vertex])


def _stack(found: Sequence[tuple[int, int]], nodes: int) -> tuple[list[Place], int]:
    """Each layer from top to bottom in the order of the positions, in the middle of the height. The first `nodes` are
    nodes, the others ways of edges."""
    layers: dict[int, list[tuple[int, int]]] = {}
    for vertex, (layer, position) in enumerate(found):
        layers.setdefault(layer, []).append((position, vertex))
    rooms = [NODE_HEIGHT + NODE_GAP if vertex < nodes else WAY_HEIGHT for vertex in range(len(found))]
    heights = {layer: sum(rooms[vertex] for _, vertex in some) for layer, some in layers.items()}
    tallest = max(heights.values())
    places = [Place(x=0, y=0)] * len(found)
    for column, layer in enumerate(sorted(layers)):
        y = MARGIN + (tallest - heights[layer]) // 2
        for _, vertex in sorted(layers[layer]):
            x = MARGIN + column * (NODE_WIDTH + LAYER_GAP)
            # The place of a way is where a node around it would begin.
            places[vertex] = Place(x=x, y=y if vertex < nodes else y + (WAY_HEIGHT - NODE_HEIGHT) // 2)
            y += rooms[vertex]
    return places, 2 * MARGIN + tallest


def _draw(way: Sequence[Place]) -> Curve:
    """From the side of the first that looks to the last, through the places between, to the last one's side."""
    is_forward = way[-1].x >= way[0].x
    out, back = (NODE_WIDTH, 0) if is_forward else (0, NODE_WIDTH)
    bend = LAYER_GAP // 2 if is_forward else -LAYER_GAP // 2
    middle = NODE_HEIGHT // 2
    line = f"M{way[0].x + out} {way[0].y + middle}"
    for one, following in pairwise(way):
        start, end = one.x + out, following.x + back
        line += f" C{start + bend} {one.y + middle} {end - bend} {following.y + middle} {end} {following.y + middle}"
        if following is not way[-1]:
            line += f" H{following.x + out}"
    x, y, length = way[-1].x + back, way[-1].y + middle, 8 if is_forward else -8
    return Curve(line=line, tip=f"M{x - length} {y - 4} L{x} {y} L{x - length} {y + 4} Z")


def _draw_loop(place: Place) -> Curve:
    """Above the right corner of a node that calls itself."""
    x, y = place.x + NODE_WIDTH, place.y
    return Curve(
        line=f"M{x - 28} {y} C{x - 28} {y - 14} {x + 14} {y - 14} {x} {y + 8}",
        tip=f"M{x + 2} {y + 1} L{x} {y + 9} L{x + 8} {y + 5} Z",
    )
