"""Pages that are cut from a kept ranking are those that the store would have given, and cost it no other ranking."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from collector.inventory.endpoints import list_query as rankings
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort
from collector.inventory.endpoints.list_query import RankedEndpoint, Rankings
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.filters import Order
from collector.inventory.query import Cursor, Since, span_since
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

ENDPOINTS = 23
SPAN = span_since(Since.DAY, NOW)


class Counting:
    """A reader that counts rankings."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.count = 0

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        self.count += "AS sort_value" in sql
        return self._store.query_columns(sql, parameters)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("rankings"))
    seed = Seed()
    for number in range(ENDPOINTS):
        # Equal values too, which their ids keep apart; a template beyond ASCII.
        endpoint = seed.endpoint(number + 1, "GET", f"/things/{'é' if number == 5 else number}")
        seed.calls(endpoint, 1 + number // 3, status_code=500 if number % 5 == 0 else 200)
    seed.write(opened)
    yield opened
    opened.close()


def _walk(book: Rankings, query: EndpointQuery) -> Iterator[RankedEndpoint]:
    after: Cursor | None = None
    while True:
        page = book.read_page(query, SPAN, after, has_operations=False)
        assert page.total == ENDPOINTS
        shown = page.items[: query.limit]
        yield from shown
        if len(page.items) <= query.limit:
            return
        after = Cursor(value=shown[-1].value, id=shown[-1].id)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("sort", [EndpointSort.CALLS, EndpointSort.TEMPLATE, EndpointSort.ERRORS])
def test_a_walk_meets_each_endpoint_in_order_and_ranks_twice(
    store: EmbeddedStore, sort: EndpointSort, order: Order
) -> None:
    query = EndpointQuery(sort=sort, order=order, limit=4)
    reader = Counting(store)
    found = list(_walk(Rankings(reader, ConsumerSql()), query))
    whole = Rankings(store, ConsumerSql()).read_page(
        query.model_copy(update={"limit": 100}), SPAN, None, has_operations=False
    )
    assert found == list(whole.items)
    assert reader.count == 2  # For the first page, and for all others.


def test_a_list_that_is_too_long_is_ranked_for_each_page(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankings, "RANKED_MAX", ENDPOINTS - 1)
    reader = Counting(store)
    query = EndpointQuery(limit=8)
    assert len(list(_walk(Rankings(reader, ConsumerSql()), query))) == ENDPOINTS
    assert reader.count == 4  # Three pages, and once to find out.


def test_who_begins_again_is_given_what_is_new(store: EmbeddedStore) -> None:
    reader = Counting(store)
    book = Rankings(reader, ConsumerSql())
    query = EndpointQuery(limit=4)
    for _ in range(2):
        assert len(list(_walk(book, query))) == ENDPOINTS
    assert reader.count == 4  # Nothing of the first walk is left for the second.


def test_a_ranking_that_a_first_page_overtook_is_not_kept(store: EmbeddedStore) -> None:
    query = EndpointQuery(limit=4)
    place = Cursor(value=3.0, id="ep0007")

    class Overtaken(Counting):
        def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
            found = super().query_columns(sql, parameters)
            if self.count == 1 and "AS sort_value" in sql:
                book.read_page(query, SPAN, None, has_operations=False)
            return found

    reader = Overtaken(store)
    book = Rankings(reader, ConsumerSql())
    for _ in range(3):
        book.read_page(query, SPAN, place, has_operations=False)
    assert reader.count == 3  # The one overtaken, the first page, and one that is kept.


def test_another_span_or_query_is_ranked_anew_and_few_are_kept(store: EmbeddedStore) -> None:
    reader = Counting(store)
    book = Rankings(reader, ConsumerSql())
    place = Cursor(value=3.0, id="ep0007")
    first = EndpointQuery(), SPAN
    sorts = (EndpointSort.ERRORS, EndpointSort.P95, EndpointSort.RISK)
    asked = [
        (EndpointQuery(), span_since(Since.DAY, NOW + 60)),
        *((EndpointQuery(sort=sort), SPAN) for sort in sorts),
    ]
    for query, span in (first, *asked, *asked, first):
        book.read_page(query, span, place, has_operations=False)
    assert reader.count == 1 + len(asked) + 1  # The first had gone meanwhile.
