"""The columns and headings of the endpoint table, and the summary strip on top of the page. Pure.

A heading shows which sorts it offers and what it asks for next. The strip shows whether everything is watched, and how
much is not, in a few words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from collector.inventory.coverage.coverage import NodeCoverage
from collector.inventory.endpoints.question import NATURAL_ORDER, EndpointQuestion, EndpointSort, Order
from collector.inventory.sensors import Sensor, SensorState


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """One column's heading; `aria_sort` is the attribute's value, empty where the table is sorted by another column."""

    name: str
    title: str
    link: str
    aria_sort: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    sort: EndpointSort
    name: str
    title: str
    style: str = "number"


COLUMNS = (
    _Column(sort=EndpointSort.TEMPLATE, name="Endpoint", title="Sort by path", style="wide"),
    _Column(
        sort=EndpointSort.AUTHENTICATION,
        name="Credentials",
        title="Sort by the share of 2xx calls that carried credentials",
        style="text",
    ),
    _Column(sort=EndpointSort.RISK, name="Risk", title="Sort by risk, 0 to 100"),
    _Column(sort=EndpointSort.CALLS, name="Calls", title="Sort by calls"),
    _Column(sort=EndpointSort.ERRORS, name="Errors", title="Sort by server errors and aborted calls"),
    _Column(sort=EndpointSort.P95, name="p95", title="Sort by the 95th percentile of time to the last byte"),
    _Column(sort=EndpointSort.CONSUMERS, name="Consumers", title="Sort by distinct consumers", style="number optional"),
    _Column(sort=EndpointSort.FIRST_SEEN, name="First seen", title="Sort by first seen", style="number optional"),
    _Column(sort=EndpointSort.LAST_SEEN, name="Last seen", title="Sort by last seen", style="number optional"),
)
_ARIA = {Order.ASCENDING: "ascending", Order.DESCENDING: "descending"}
_OTHER = {Order.ASCENDING: Order.DESCENDING, Order.DESCENDING: Order.ASCENDING}


def link_to(query: Mapping[str, str], **changes: str) -> str:
    """The page with some of its query changed; an empty value drops a parameter, and another question starts at its
    first page."""
    return link_at("/", query, **changes)


def link_at(path: str, query: Mapping[str, str], **changes: str) -> str:
    """The same of another list's page."""
    merged = {**{name: value for name, value in query.items() if name != "cursor"}, **changes}
    text = urlencode({name: value for name, value in merged.items() if value})
    return f"{path}?{text}" if text else path


def build_headings(question: EndpointQuestion, query: Mapping[str, str]) -> tuple[Heading, ...]:
    """Headings: a click sorts by the column, a second click turns it round."""
    headings = []
    for column in COLUMNS:
        is_current = column.sort is question.sort
        order = _OTHER[question.order] if is_current else NATURAL_ORDER[column.sort]
        headings.append(
            Heading(
                name=column.name,
                title=column.title,
                link=link_to(query, sort=column.sort.value, order=order.value),
                aria_sort=_ARIA[question.order] if is_current else "",
                style=column.style,
            )
        )
    return tuple(headings)


LOSS_RATIO_SHOWN = 0.01  # Above it a sensor's loss is an alert (issue: silence is an alert).


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts for the strip; `trouble` are sentences about storage and sensors that need a person."""

    sensors: int
    capturing: int
    ports: int
    read_ports: int
    unreadable_ports: int
    read_connections_ratio: float | None
    read_bytes_ratio: float | None
    lost_calls: int
    trouble: tuple[str, ...]


def summarise(sensors: Sequence[Sensor], covered: NodeCoverage, storage_trouble: str) -> Summary:
    """The strip's figures; `covered` is of all nodes together, `storage_trouble` a sentence or empty."""
    return Summary(
        sensors=len(sensors),
        capturing=sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
        ports=covered.ports,
        read_ports=covered.read_ports,
        unreadable_ports=covered.unreadable_ports,
        read_connections_ratio=covered.share.read_connections_ratio,
        read_bytes_ratio=covered.share.read_bytes_ratio,
        lost_calls=sum(sensor.lost_calls for sensor in sensors),
        trouble=tuple(
            sentence
            for sentence in (
                storage_trouble,
                *(describe(sensor) for sensor in sensors for describe in (describe_trouble, describe_fallback)),
            )
            if sentence
        ),
    )


def describe_trouble(sensor: Sensor) -> str:
    """What is wrong with one sensor, or nothing."""
    if sensor.state is SensorState.SILENT:
        return f"The sensor on {sensor.node} is silent: nothing from that node is seen."
    if sensor.state is SensorState.PAUSED:
        return f"The sensor on {sensor.node} is paused{f' ({sensor.reason})' if sensor.reason else ''}."
    if sensor.loss_ratio > LOSS_RATIO_SHOWN:
        return f"The sensor on {sensor.node} lost {sensor.loss_ratio:.1%} of its calls."
    return ""


def describe_fallback(sensor: Sensor) -> str:
    """Why one sensor captures by system calls though packets were wanted, or nothing."""
    if not sensor.fallback_reason or sensor.state is SensorState.SILENT:
        return ""
    return (
        f"The sensor on {sensor.node} captures by system calls, at several times the cost and without what io_uring "
        f"moves, because packets cannot be captured: {sensor.fallback_reason.rstrip('.')}."
    )
