"""The values of the coverage page: the share on top, its history, every port, and what was lost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from collector.api.parameters import PortParameters
from collector.api.problem import describe_validation
from collector.inventory.coverage.coverage import (
    PORT_NATURAL_ORDER,
    CoverageRole,
    PortProtocol,
    PortQuestion,
    PortSort,
    Reading,
)
from collector.inventory.coverage.reader import CoverageInventory, PortPage
from collector.inventory.endpoints.question import Order
from collector.inventory.query import CursorError, Rollup, Since, span_since
from collector.ui.chart import draw_share
from collector.ui.columns import Heading, link_at

PATH = "/coverage"
FILTERS = ("q", "node", "service", "protocol", "reading", "role", "http_like")
LOSSES_SHOWN = 100
NODES_SHOWN = 200
_COLUMNS = (
    (PortSort.SERVICE, "Service", "Sort by service", "wide"),
    (PortSort.CONNECTIONS, "Connections", "Sort by connections", "number"),
    (PortSort.BYTES, "Bytes", "Sort by bytes", "number"),
    (PortSort.CALLS, "Calls", "Sort by calls that were counted", "number"),
    (PortSort.ESTIMATED_CALLS, "Estimated", "Sort by estimated calls", "number"),
    (PortSort.JOINED_LATE, "Late", "Sort by connections older than the sensor", "number optional"),
    (PortSort.LOST_CALLS, "Lost", "Sort by lost calls", "number optional"),
)
_ARIA = {Order.ASCENDING: "ascending", Order.DESCENDING: "descending"}
_OTHER = {Order.ASCENDING: Order.DESCENDING, Order.DESCENDING: Order.ASCENDING}


def build_coverage_values(
    coverage: CoverageInventory, query: Mapping[str, str], now: float
) -> tuple[dict[str, Any], bool]:
    """The template's values, and whether the query was refused: then a sentence says why, above an empty table."""
    since = Since(query["since"]) if query.get("since") in set(Since) else Since.DAY
    asked = {name: value for name, value in query.items() if name != "since"}
    question, page, complaint = PortQuestion(), PortPage(items=(), next_cursor="", total=0), ""
    try:
        question = PortParameters.model_validate(asked).question()
        page = coverage.list_ports(question)
    except ValidationError as error:
        located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
        complaint = describe_validation(located, list(PortParameters.model_fields))
    except CursorError:
        complaint = "This page of the list is no longer there; start again from the first."
    span = replace(span_since(since, now), rollup=Rollup.HOUR)
    found = coverage.read_coverage()
    values = {
        "covered": found.cluster,
        "nodes": found.nodes[:NODES_SHOWN],
        "blind_spots": [(spot, link_at(PATH, {}, protocol=spot.protocol.value)) for spot in found.blind_spots],
        "losses": found.losses[:LOSSES_SHOWN],
        "chart_of_share": draw_share(coverage.read_history(span).points, span),
        "question": question,
        "page": page,
        "headings": _build_headings(question, query),
        "since": since,
        "span_links": [(span.value, link_at(PATH, query, since=span.value)) for span in list(Since)[1:]],
        "next_link": link_at(PATH, query, cursor=page.next_cursor) if page.next_cursor else "",
        "first_link": link_at(PATH, query) if question.cursor else "",
        "clear_link": link_at(PATH, query, **dict.fromkeys(FILTERS, "")),
        "here": link_at(PATH, query),
        "is_filtered": any(query.get(name) for name in FILTERS),
        "protocols": tuple(PortProtocol),
        "readings": tuple(Reading),
        "roles": tuple(CoverageRole),
        "complaint": complaint,
    }
    return values, bool(complaint)


def _build_headings(question: PortQuestion, query: Mapping[str, str]) -> tuple[Heading, ...]:
    """A click sorts by the column, a second click turns it round."""
    headings = []
    for sort, name, title, style in _COLUMNS:
        is_current = sort is question.sort
        order = _OTHER[question.order] if is_current else PORT_NATURAL_ORDER[sort]
        headings.append(
            Heading(
                name=name,
                title=title,
                link=link_at(PATH, query, sort=sort.value, order=order.value),
                aria_sort=_ARIA[question.order] if is_current else "",
                style=style,
            )
        )
    return tuple(headings)
