"""What a list answers, and the controls and headings of its table.

Controls are made from the filters of a list (collector/inventory/filters.py). A heading shows which sorts it offers and
what it asks for next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError

from collector.api.problem import describe_validation
from collector.core.kinds import Protocol
from collector.inventory.coverage.sql import PortSort
from collector.inventory.endpoints.bodies import BodySide
from collector.inventory.endpoints.filters import EndpointSort
from collector.inventory.filters import ListQuery, Order, Page, SortedQuery, SpanParameters, list_members
from collector.inventory.query import CursorError, QuestionError
from collector.ui.components.wording import word_protocol

QueryT = TypeVar("QueryT", bound=ListQuery)
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """One column's heading; `aria_sort` is the attribute's value, empty where the table is sorted by another column."""

    name: str
    title: str
    link: str
    aria_sort: str
    style: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a table can be sorted by."""

    sort: StrEnum
    name: str
    title: str
    style: str = "number"


ENDPOINT_COLUMNS = (
    Column(EndpointSort.TEMPLATE, "Endpoint", "Sort by path", "wide"),
    Column(
        EndpointSort.AUTHENTICATION, "Credentials", "Sort by the share of 2xx calls that carried credentials", "text"
    ),
    Column(EndpointSort.RISK, "Risk", "Sort by risk, 0 to 100"),
    Column(EndpointSort.CALLS, "Calls", "Sort by calls"),
    Column(EndpointSort.ERRORS, "Errors", "Sort by server errors and aborted calls"),
    Column(EndpointSort.P95, "p95", "Sort by the 95th percentile of time to the last byte"),
    Column(EndpointSort.CONSUMERS, "Consumers", "Sort by distinct consumers", "number optional"),
    Column(EndpointSort.FIRST_SEEN, "First seen", "Sort by first seen", "number optional"),
    Column(EndpointSort.LAST_SEEN, "Last seen", "Sort by last seen", "number optional"),
)
PORT_COLUMNS = (
    Column(PortSort.SERVICE, "Service", "Sort by service", "wide"),
    Column(PortSort.CONNECTIONS, "Connections", "Sort by connections"),
    Column(PortSort.BYTES, "Bytes", "Sort by bytes"),
    Column(PortSort.CALLS, "Calls", "Sort by calls that were counted"),
    Column(PortSort.ESTIMATED_CALLS, "Estimated", "Sort by estimated calls"),
    Column(PortSort.JOINED_LATE, "Late", "Sort by connections older than the sensor", "number optional"),
    Column(PortSort.LOST_CALLS, "Lost", "Sort by lost calls", "number optional"),
)
_ARIA = {Order.ASCENDING: "ascending", Order.DESCENDING: "descending"}
_OTHER = {Order.ASCENDING: Order.DESCENDING, Order.DESCENDING: Order.ASCENDING}


def link_to(path: str, asked: Mapping[str, str], **changes: str) -> str:
    """The page with some of its query changed; an empty value drops a parameter, and another query starts at its first
    page."""
    merged = {**{name: value for name, value in asked.items() if name != "cursor"}, **changes}
    text = urlencode({name: value for name, value in merged.items() if value})
    return f"{path}?{text}" if text else path


def build_headings(
    columns: Sequence[Column], path: str, query: SortedQuery, asked: Mapping[str, str]
) -> tuple[Heading, ...]:
    """Headings: a click sorts by the column, a second click turns it round."""
    headings = []
    for column in columns:
        is_current = column.sort is query.sort
        order = _OTHER[query.direction] if is_current else query.choose_order(column.sort)
        headings.append(
            Heading(
                name=column.name,
                title=column.title,
                link=link_to(path, asked, sort=column.sort.value, order=order.value),
                aria_sort=_ARIA[query.direction] if is_current else "",
                style=column.style,
            )
        )
    return tuple(headings)


_MOMENT_HINT = "2h, yesterday, 2026-11-29"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A filter on the page: a field to search in or, with `choices` as (value, text), one to choose from. Without a
    `title` it is shown only while it is set. `hint` is what is written in an empty field. `without` is the same list
    without this filter."""

    name: str
    title: str
    value: str
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""
    is_folded: bool = False
    without: str = ""


def build_controls(query: ListQuery, path: str = "", asked: Mapping[str, str] | None = None) -> tuple[Control, ...]:
    """One for each filter of a list, the search first, and for the bounds of its span. `path` and `asked` are the
    present list, for links without one of the filters."""
    filters = query.list_filters()
    controls = []
    for name in sorted(filters, key=lambda name: name != "q"):
        info, one = filters[name]
        value = _write_value(getattr(query, name))
        offered = one.choices or list_members(info)
        if offered and value and value not in offered:
            offered = (*offered, value)
        controls.append(
            Control(
                name=name,
                title=one.title,
                value=value,
                choices=tuple((choice, _word_choice(choice)) for choice in offered),
                hint=_MOMENT_HINT if one.is_moment else "",
                is_folded=one.is_folded,
                without=link_to(path, asked or {}, **{name: ""}),
            )
        )
    if isinstance(query, SpanParameters):
        controls += [
            Control(
                name=name,
                title=title,
                value=getattr(query, name),
                hint=_MOMENT_HINT,
                is_folded=True,
                without=link_to(path, asked or {}, **{name: ""}),
            )
            for name, title in (("start", "From"), ("end", "Until"))
        ]
    return tuple(controls)


def read_list(
    kind: type[QueryT], asked: Mapping[str, object], read: Callable[[QueryT], Page[ItemT]]
) -> tuple[QueryT, Page[ItemT], str]:
    """The query of a list, its page, and why it was refused: then the page has no rows."""
    query = kind()
    try:
        query = kind.model_validate(asked)
        return query, read(query), ""
    except (ValidationError, QuestionError) as error:
        return query, Page(), word_refusal(error, kind)


def build_list_values(
    query: SortedQuery, page: Page[Any], columns: Sequence[Column], path: str, asked: Mapping[str, str]
) -> dict[str, Any]:
    """What the template of a list needs: the page with its controls, headings and links."""
    return {
        "query": query,
        "page": page,
        "controls": build_controls(query, path, asked),
        "headings": build_headings(columns, path, query, asked),
        "next_link": link_to(path, asked, cursor=page.next_cursor) if page.next_cursor else "",
        "first_link": link_to(path, asked) if query.cursor else "",
        "clear_link": link_to(path, asked, **dict.fromkeys((*query.list_filters(), "start", "end"), "")),
        "is_filtered": any(asked.get(name) for name in query.list_filters()),
    }


def word_refusal(error: ValidationError | QuestionError, kind: type[ListQuery]) -> str:
    """Why a query cannot be, in a sentence."""
    if isinstance(error, CursorError):
        return "This page of the list is no longer there; start again from the first."
    if isinstance(error, QuestionError):
        sentence = str(error)
        return f"{sentence[:1].upper()}{sentence[1:]}."
    located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
    return describe_validation(located, list(kind.model_fields))


def _write_value(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _word_choice(choice: str) -> str:
    place, _, name = choice.rpartition(":")
    if place in set(BodySide):
        return f"{_word_choice(name)} in {place}s"
    return word_protocol(Protocol(choice)) if choice in set(Protocol) else choice.replace("_", " ")
