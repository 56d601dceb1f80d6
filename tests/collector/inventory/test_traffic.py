"""Calls over time: figures equal those of the endpoints, steps fit the age of the data, filters compose."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.query import Since
from collector.inventory.traffic import series as module
from collector.inventory.traffic.series import SeriesError, SeriesQuery, Step, TrafficInventory, TrafficSeries
from collector.storage.embedded import EmbeddedStore
from collector.storage.tables.layout import Retention
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store
FAST, SLOW = {"1": [103], "2": [95]}, {"1": [160], "2": [5]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("traffic"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{id}", workload="orders", namespace="shop", first_seen=NOW - 5 * 3_600)
    users = seed.endpoint(2, "GET", "/users", workload="users", namespace="people", first_seen=NOW - 3_600)
    for hours in range(5):
        seed.calls(orders, 100, minutes_ago=60 * hours + 3, duration=FAST)
    seed.calls(orders, 7, minutes_ago=3, status_code=404, client_address="10.0.0.5")
    seed.calls(orders, 5, minutes_ago=3, status_code=500, duration=SLOW)
    seed.calls(orders, 4, minutes_ago=3, status_code=304)
    seed.calls(users, 11, minutes_ago=20, status_code=0)
    # Seen at both ends: counted once.
    called = seed.endpoint(3, "GET", "/users", workload="192.0.2.1", first_seen=NOW - 3_600)
    seed.calls(called, 11, minutes_ago=20, role=2)
    seed.calls(users, 2, minutes_ago=20)
    seed.write(opened)
    yield opened
    opened.close()


@pytest.fixture
def traffic(store: EmbeddedStore) -> TrafficInventory:
    return TrafficInventory(reader=store, who=ConsumerSql())


def add(series: TrafficSeries) -> dict[str, int]:
    names = ("calls", "success", "client_error", "errors", "other")
    return {name: sum(getattr(point, name) for point in series.points) for name in names}


def test_the_total_is_that_of_the_endpoints(store: EmbeddedStore, traffic: TrafficInventory) -> None:
    query = EndpointQuery(since=Since.DAY)
    page = EndpointInventory(reader=store, who=ConsumerSql()).list_endpoints(query, query.find_span(NOW))
    found = add(traffic.read_series(SeriesQuery(), NOW))
    assert found["calls"] == sum(endpoint.calls for endpoint in page.items)
    assert found == {"calls": 529, "success": 502, "client_error": 7, "errors": 16, "other": 4}


def test_a_new_installation_does_not_show_one_bar_at_the_right(traffic: TrafficInventory) -> None:
    day = traffic.read_series(SeriesQuery(), NOW)
    assert day.start <= NOW - 5 * 3_600 < day.start + day.step_seconds
    assert day.step_seconds == 300 and len(day.points) == (day.end - day.start) // 300
    young = traffic.read_series(SeriesQuery(service="users"), NOW)
    assert young.step_seconds == 60


@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        ({"service": "orders"}, 516),
        ({"service": "shop/orders:8080"}, 516),
        ({"namespace": "people"}, 13),
        ({"endpoint": "ep0001"}, 516),
        ({"consumer": "address:10.0.0.5"}, 7),
        ({"consumer": "address:10.0.0.9", "namespace": "people"}, 13),
        ({"endpoint": "nobody"}, 0),
    ],
)
def test_filters_compose(traffic: TrafficInventory, asked: dict[str, str], calls: int) -> None:
    assert add(traffic.read_series(SeriesQuery.model_validate(asked), NOW))["calls"] == calls


@pytest.mark.parametrize("since", Since)
@pytest.mark.parametrize("most", [0, 10**6])
def test_every_table_gives_the_same_totals(
    traffic: TrafficInventory, since: Since, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tuple(replace(source, summed_max=most) for source in module._list_sources(Retention()))
    monkeypatch.setattr(module, "_list_sources", lambda _: sources)
    found = add(traffic.read_series(SeriesQuery(since=since, service="users"), NOW))
    assert found == {"calls": 13, "success": 2, "client_error": 0, "errors": 11, "other": 0}


def test_latency_is_the_95th_percentile_of_a_step(traffic: TrafficInventory) -> None:
    series = traffic.read_series(SeriesQuery(step=Step.HOUR, service="orders"), NOW)
    timed = [point.p95_ms for point in series.points if point.p95_ms is not None]
    assert len(timed) == 5
    assert all(7 < value < 9 for value in timed)


def test_a_step_that_nobody_keeps_is_refused_in_a_sentence(traffic: TrafficInventory) -> None:
    with pytest.raises(SeriesError, match="more than 1500 points"):
        traffic.read_series(SeriesQuery(since=Since.QUARTER, step=Step.MINUTE, endpoint="nobody"), NOW)


def test_a_series_of_everything_is_read_again_only_where_it_may_have_changed(store: EmbeddedStore) -> None:
    asked: list[int] = []

    class Reading:
        def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
            if "p95_bucket" in sql and parameters is not None:
                asked.append(parameters["start"])
            return store.query_columns(sql, parameters)

    traffic = TrafficInventory(reader=Reading(), who=ConsumerSql())
    first, again = traffic.read_series(SeriesQuery(), NOW), traffic.read_series(SeriesQuery(), NOW + 30)
    assert first.points == again.points[: len(first.points)]
    assert asked[1] > NOW - 1_500 > asked[0]
    traffic.read_series(SeriesQuery(), NOW + 601)
    assert asked[2] == asked[0]
