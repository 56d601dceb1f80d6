"""Routes to endpoints: which share one, and what a revealed word changes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.mapping import EndpointMapping, EndpointRouteRecord, name_endpoint

LITERAL, WORD, INTEGER, UUID = 1, 2, 3, 4
SERVICE = Service(cluster="c", namespace="", workload="orders", workload_kind=1, host_name="node-1", port=8080)


def make_route(route_id: int, *segments: Segment, **columns: Any) -> Route:
    route = Route(
        route_id=route_id,
        service=SERVICE,
        host="shop.example",
        method="GET",
        segments=segments,
        has_trailing_slash=False,
    )
    return replace(route, **columns)


ORDERS = Segment(LITERAL, "orders", 0, 0)
HIDDEN = Segment(WORD, "", 77, 7)


class Table:
    """The tables `endpoint_routes` and `endpoint_aliases`, as they were written."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.aliases: list[Any] = []

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        {"endpoint_routes": self.records, "endpoint_aliases": self.aliases}[table].extend(records)


def map_routes(
    mapping: EndpointMapping, routes: Sequence[Route], former: Mapping[int, str] | None = None
) -> tuple[EndpointRouteRecord, ...]:
    """As the catalogue does while it knows nothing of their siblings."""
    return mapping.write([(route, name_endpoint(route, mapping.words)) for route in routes], former or {})


def test_routes_with_one_template_are_one_endpoint():
    by_number = name_endpoint(make_route(1, ORDERS, Segment(INTEGER, "", 0, 0)), {})
    by_uuid = name_endpoint(make_route(2, ORDERS, Segment(UUID, "", 0, 0)), {})
    assert by_number == by_uuid
    assert by_number.template == "/orders/{order_id}"


@pytest.mark.parametrize(
    "columns",
    [
        {"method": "POST"},
        {"host": "other.example"},
        {"service": replace(SERVICE, port=8081)},
        {"service": replace(SERVICE, workload="carts")},
        {"service": replace(SERVICE, host_name="node-2")},
        {"service": replace(SERVICE, cluster="d")},
    ],
)
def test_what_differs_is_another_endpoint(columns):
    one = name_endpoint(make_route(1, ORDERS), {})
    other = name_endpoint(make_route(1, ORDERS, **columns), {})
    assert one.endpoint_id != other.endpoint_id
    assert len(one.endpoint_id) == 16


def test_a_revealed_word_names_the_route_anew():
    table, now = Table(), [1_000]
    mapping = EndpointMapping(writer=table, take_version=lambda: now[0])
    route = make_route(1, ORDERS, HIDDEN)
    map_routes(mapping, [route])
    now[0] += 1
    mapping.learn_words({77: "pending"})
    map_routes(mapping, [route])
    before, after = table.records
    assert (before.url_template, after.url_template) == ("/orders/{word}", "/orders/pending")
    assert after.version > before.version
    assert after.endpoint_id != before.endpoint_id
    assert after.service == "orders:8080"


def test_mapping_again_changes_nothing_but_the_version():
    table = Table()
    mapping = EndpointMapping(writer=table, take_version=iter([1, 2]).__next__)
    (first,) = map_routes(mapping, [make_route(1, ORDERS)])
    (second,) = map_routes(mapping, [make_route(1, ORDERS)])
    assert replace(second, version=first.version) == first


def test_a_route_that_moves_leaves_its_former_endpoint_as_an_alias():
    table = Table()
    mapping = EndpointMapping(writer=table, take_version=lambda: 1_000)
    route = make_route(1, ORDERS, HIDDEN)
    (first,) = map_routes(mapping, [route])
    map_routes(mapping, [route], {1: first.endpoint_id})
    assert table.aliases == []
    mapping.learn_words({77: "pending"})
    map_routes(mapping, [route], {1: first.endpoint_id})
    assert [(alias.endpoint_id, alias.route_id) for alias in table.aliases] == [(first.endpoint_id, 1)]
