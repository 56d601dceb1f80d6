"""Pages while rows are being added: an endpoint that nothing happens to is met exactly once, whatever happens to
others."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.filters import Order
from collector.inventory.query import Since
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint

pytestmark = pytest.mark.store

EXAMPLES = count(1)
NEW_FROM = 100  # Route ids of endpoints that come while pages are read.


@dataclass(frozen=True, slots=True)
class Event:
    """What is added between two pages: calls to one that is there, or (None) a new endpoint."""

    index: int | None
    calls: int
    status_code: int
    bucket: int


EVENTS = st.builds(
    Event,
    index=st.one_of(st.none(), st.integers(0, 7)),
    calls=st.integers(1, 50),
    status_code=st.sampled_from([200, 404, 500]),
    bucket=st.integers(60, 120),
)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("pages"))
    yield opened
    opened.close()


def add(seed: Seed, endpoint: SeedEndpoint, event: Event, minutes_ago: int) -> None:
    seed.calls(
        endpoint,
        event.calls,
        minutes_ago=minutes_ago,
        status_code=event.status_code,
        authentication=8 * (event.bucket % 2),
        client_address=f"10.0.0.{event.calls}",
        duration={"1": [event.bucket], "2": [event.calls]},
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sort=st.sampled_from(EndpointSort),
    order=st.sampled_from(Order),
    since=st.sampled_from([Since.HOUR, Since.DAY, Since.WEEK]),
    limit=st.integers(1, 3),
    first=st.lists(EVENTS, min_size=3, max_size=6),
    later=st.lists(EVENTS, max_size=5),
)
def test_rows_that_come_move_no_other_row_off_a_page(
    embedded: EmbeddedStore,
    sort: EndpointSort,
    order: Order,
    since: Since,
    limit: int,
    first: list[Event],
    later: list[Event],
) -> None:
    # A service an example, instead of an empty store.
    base = next(EXAMPLES) * 1_000
    service = f"service-{base}"
    seed = Seed()
    endpoints = [
        seed.endpoint(base + number, "GET", f"/items/{number}", workload=service) for number in range(len(first))
    ]
    for endpoint, event in zip(endpoints, first, strict=True):
        add(seed, endpoint, event, 9)
    seed.write(embedded)
    inventory = EndpointInventory(reader=embedded, who=ConsumerSql())
    met: list[str] = []
    changed: set[str] = set()
    cursor, coming = "", iter(enumerate(later))
    while True:
        query = EndpointQuery(since=since, service=service, sort=sort, order=order, limit=limit, cursor=cursor)
        page = inventory.list_endpoints(query, query.find_span(NOW))
        met += [item.id for item in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
        for number, event in [item for item in [next(coming, None)] if item]:
            more = Seed()
            if event.index is None:
                number_new = NEW_FROM + number
                endpoint = more.endpoint(base + number_new, "GET", f"/items/{number_new}", workload=service)
            else:
                endpoint = endpoints[event.index % len(endpoints)]
            changed.add(endpoint.id)
            add(more, endpoint, event, 8 - number)
            more.write(embedded)
    # A template never changes, whatever is called.
    still = {endpoint.id for endpoint in endpoints} - (changed if sort is not EndpointSort.TEMPLATE else set())
    for endpoint_id in still:
        assert met.count(endpoint_id) == 1
    if sort is EndpointSort.TEMPLATE:
        assert len(met) == len(set(met))
