"""Routes to endpoints: which share one, and what a revealed word changes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.mapping import name_endpoint
from collector.inventory.templates.table import EndpointRouteRecord, TemplateTable
from collector.receiver.reports import RevealedWord
from collector.storage.state.store import StateStore

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


class Copy:
    """The tables `endpoint_routes` and `endpoint_aliases` of a store, as they were written."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {"endpoint_routes": [], "endpoint_aliases": []}

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        self.rows[table].extend(records)


def write(
    table: TemplateTable, copy: Copy, route: Route, words: Mapping[int, str], former: Mapping[int, str] = {}
) -> EndpointRouteRecord:
    """As the catalogue does while it knows nothing of its siblings; gives the row of the copy."""
    table.write_names([(route, name_endpoint(route, words))], former)
    return copy.rows["endpoint_routes"][-1]


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


def test_a_revealed_word_names_the_route_anew(state: StateStore):
    table = TemplateTable(state, copy := Copy())
    route = make_route(1, ORDERS, HIDDEN)
    before = write(table, copy, route, table.read_words())
    table.add_words([RevealedWord(hash=77, text="pending", key_id=1, time=datetime.fromtimestamp(5, UTC))])
    after = write(table, copy, route, table.read_words())
    assert (before.url_template, after.url_template) == ("/orders/{word}", "/orders/pending")
    assert after.version > before.version
    assert after.endpoint_id != before.endpoint_id
    assert after.service == "orders:8080"


def test_mapping_again_changes_nothing_but_the_version(state: StateStore):
    table = TemplateTable(state, copy := Copy())
    first, second = (write(table, copy, make_route(2**64 - 1, ORDERS), {}) for _ in range(2))
    assert second.version == first.version + 1 and replace(second, version=first.version) == first


def test_a_route_that_moves_leaves_its_former_endpoint_as_an_alias(state: StateStore):
    table = TemplateTable(state, copy := Copy())
    route = make_route(1, ORDERS, HIDDEN)
    first = write(table, copy, route, {})
    write(table, copy, route, {}, {1: first.endpoint_id})
    assert copy.rows["endpoint_aliases"] == []
    write(table, copy, route, {77: "pending"}, {1: first.endpoint_id})
    assert [(one.endpoint_id, one.route_id) for one in copy.rows["endpoint_aliases"]] == [(first.endpoint_id, 1)]


def test_names_that_another_collector_writes_are_found_by_their_revision(state: StateStore):
    one, other = TemplateTable(state, copy := Copy()), TemplateTable(state, copy)
    first = write(one, copy, make_route(1, ORDERS), {})
    revision, names = other.list_names()
    assert (revision, names) == (first.version, {1: first.endpoint_id})
    second = write(one, copy, make_route(2, ORDERS), {})
    assert other.list_names(revision) == (second.version, {2: second.endpoint_id})
    assert other.list_names(second.version) == (second.version, {})
