"""The service map: a picture with links, and the same edges as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.inventory.endpoints.hops import HopView
from collector.inventory.query import Since
from collector.inventory.traffic.map import ClientKind, MapEdge, MapGroup, MapInventory, MapQuery, ServiceMap
from collector.ui.components.clients import link_client, name_client
from collector.ui.components.tables import link_to
from collector.ui.map.layout import NODE_HEIGHT, NODE_WIDTH, Curve, lay_out
from collector.ui.site import Page, Site

PATH = "/map"
LABEL_CHARACTERS = 23  # What fits into a node; the title has the whole name.
COUNTS_MAX = 25  # With more edges than this, their counts would cover each other.
ERROR_RATIO_MARKED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of the picture."""

    name: str
    label: str
    link: str
    look: str  # Class of the style sheet.
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An edge of the picture; all edges between the same two boxes are one."""

    curve: Curve
    width: float
    look: str
    link: str
    title: str
    count: int


def link_edge(edge: MapEdge) -> str:
    """The endpoints that were called."""
    if edge.service:
        return link_to("/endpoints", {}, service=edge.service)
    return link_to("/endpoints", {}, namespace=edge.namespace)


def read_page_map(
    inventory: MapInventory, query: MapQuery, now: float, *, is_free: bool
) -> tuple[ServiceMap, MapGroup]:
    """The map, by namespaces where there are too many edges between services and nobody asked for them."""
    found = inventory.read_map(query, now)
    if is_free and found.total > query.limit and any(edge.namespace for edge in found.edges):
        return inventory.read_map(query.model_copy(update={"group": MapGroup.NAMESPACE}), now), MapGroup.NAMESPACE
    return found, query.group


def draw_map(edges: Sequence[MapEdge], group: MapGroup, asked: Mapping[str, str]) -> dict[str, Any]:
    """What the picture needs."""
    together: dict[tuple[str, str], list[MapEdge]] = {}
    for edge in edges:
        together.setdefault((edge.source, edge.target), []).append(edge)
    layout = lay_out(list(together))
    busiest = max((sum(edge.calls for edge in some) for some in together.values()), default=1)
    lines = [_make_line(some, curve, busiest) for some, curve in zip(together.values(), layout.curves, strict=True)]
    return {
        "width": layout.width,
        "height": layout.height,
        "nodes": [
            Node(x=place.x, y=place.y, **_describe_node(name, edges, group, asked))
            for name, place in layout.places.items()
        ],
        "lines": lines,
        "node_width": NODE_WIDTH,
        "node_height": NODE_HEIGHT,
        "has_counts": len(lines) <= COUNTS_MAX,
    }


def _make_line(edges: Sequence[MapEdge], curve: Curve, busiest: int) -> Line:
    calls, errors = sum(edge.calls for edge in edges), sum(edge.errors for edge in edges)
    first = edges[0]
    classes = sorted({one.value for edge in edges for one in edge.data_classes})
    slowest = max((edge.p95_ms for edge in edges if edge.p95_ms is not None), default=None)
    title = f"{name_client(first)} to {first.target}: {calls:,} calls, {errors:,} errors"
    title += f", p95 {slowest:.0f} ms" if slowest is not None else ""
    title += f", {first.exposure.value.replace('_', ' ')}" + (f", data: {', '.join(classes)}" if classes else "")
    return Line(
        curve=curve,
        width=round(1 + 4 * log10(1 + calls) / log10(1 + busiest), 1),
        look="failing"
        if calls and errors / calls > ERROR_RATIO_MARKED
        else "outside" * (first.client_kind is ClientKind.OUTSIDE),
        link=link_edge(first),
        title=title,
        count=calls,
    )


def _describe_node(name: str, edges: Sequence[MapEdge], group: MapGroup, asked: Mapping[str, str]) -> dict[str, str]:
    called = next((edge for edge in edges if edge.target == name), None)
    calling = next((edge for edge in edges if edge.source == name), None)
    if called is not None:
        is_namespace = group is MapGroup.NAMESPACE and not called.service
        link = link_to(PATH, asked, namespace=name, group="") if is_namespace else f"/services/{quote(called.service)}"
        look, label = "called", f"namespace {name}" if is_namespace else name
    else:
        assert calling is not None, "a node is an end of an edge"
        link, label = link_client(calling), name_client(calling)
        look = "outside" if calling.client_kind is ClientKind.OUTSIDE else "client"
    short = label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}…"
    return {"name": label, "label": short, "link": link, "look": look}


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get(PATH)
    def show_map(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, complaint = MapQuery(), ""
        try:
            query = MapQuery.model_validate(asked)
        except ValidationError as error:
            complaint = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        found, group = read_page_map(services.map, query, services.clock(), is_free="group" not in asked)
        values = {
            "query": query,
            "group": group,
            "found": found,
            "rows": [(edge, name_client(edge), link_edge(edge)) for edge in found.edges],
            "namespaces": sorted({edge.namespace for edge in found.edges if edge.namespace}),
            "span_links": [(one.value, link_to(PATH, asked, since=one.value), one is query.since) for one in Since],
            "more_link": link_to(PATH, asked, limit=str(min(500, query.limit * 3)))
            if found.total > query.limit
            else "",
            "service_link": link_to(PATH, asked, group=MapGroup.SERVICE.value),
            "hops_link": link_to(PATH, asked, hops="" if query.hops is HopView.INCLUDE else HopView.INCLUDE.value),
            "has_hops": query.hops is HopView.INCLUDE,
            "clear_link": link_to(PATH, asked, namespace="", service=""),
            "complaint": complaint,
            **draw_map(found.edges, group, asked),
        }
        return site.render(request, "map/map.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Map", group="Inventory", key="m")
