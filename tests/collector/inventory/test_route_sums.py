"""Lists of endpoints and services are the same with kept sums of routes and figures as without."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.alerting.self_monitoring import StorageState
from collector.core.config import CollectorSettings
from collector.inventory import kept_sums as module
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.figure_sums import FigureSums
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort
from collector.inventory.endpoints.list_query import choose_candidates
from collector.inventory.endpoints.predicates import EXACT_MAX, ConsumerSql
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.partners import PartnerNetworks
from collector.inventory.services.services import ServiceInventory, ServiceQuery, ServiceSort
from collector.server.compose import Collector
from collector.storage.clickhouse import TABLES
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

HOUR = 60  # Minutes.
ENDPOINTS = [
    *({"sort": sort} for sort in EndpointSort),
    *(
        {"q": "orders"},
        {"auth": "none"},
        {"status": "5xx"},
        {"status": "5xx", "sort": "consumers", "q": "orders"},
        {"since": "7d"},
        {"since": "1h"},
    ),
]


class Office:
    """One store, read with kept sums and without."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.now = NOW
        who = ConsumerSql()
        self.sums = RouteSums(store=self.store, clock=lambda: self.now, rows_min=0)
        partners = PartnerNetworks(["10.0.0.0/30"])
        self.figures = FigureSums(store=self.store, who=who, partners=partners, clock=lambda: self.now, rows_min=0)
        self.endpoints = [
            EndpointInventory(reader=self.store, who=who, partners=partners, sums=sums, figure_sums=figures)
            for sums, figures in ((self.sums, self.figures), (None, None))
        ]
        self.services = [ServiceInventory(reader=self.store, who=who, sums=one) for one in (self.sums, None)]

    def make(self) -> None:
        """Whatever is due."""
        self.now += module.REBUILD_SECONDS
        for _ in range(20):
            self.sums.update()
            self.figures.update()

    def erase(self) -> None:
        """All that is kept."""
        self.sums.erase()
        self.figures.erase()

    @property
    def is_kept(self) -> bool:
        span = EndpointQuery().find_span(self.now)
        are_kept = {self.sums.find_source(span) is not None, self.figures.find(span) is not None}
        assert len(are_kept) == 1
        return are_kept.pop()

    def count_calls(self) -> int:
        """Of the list, which both ways give."""
        query = EndpointQuery()
        kept, added = (one.list_endpoints(query, query.find_span(self.now)) for one in self.endpoints)
        assert kept == added
        return sum(one.calls for one in kept.items)


def test_the_pages_and_the_api_read_the_sums_that_the_collector_keeps(tmp_path: Path) -> None:
    """The first of all, for it opens a store of its own, and a process has one at a time."""
    collector = Collector(CollectorSettings(data_dir=tmp_path))
    try:
        services = collector.build_services(lambda: "", lambda _: (b"", ""), StorageState)
        kept = {feature.name for feature in collector.features if feature.name.startswith("sums of ")}
        assert kept == {"sums of consumers", "sums of routes", "sums of figures"}
        assert services.sums is not None and services.route_sums is not None and services.figure_sums is not None
    finally:
        collector.close()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture
def store(embedded: EmbeddedStore) -> EmbeddedStore:
    """An empty one."""
    for table in TABLES:
        embedded.execute(f"TRUNCATE TABLE {table.name}")
    return embedded


def test_a_small_store_is_not_counted_at_each_look(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now, counted = [NOW], list[str]()
    ask = store.query_columns

    def count(sql: str, *rest: Any) -> Any:
        counted.append(sql)
        return ask(sql, *rest)

    monkeypatch.setattr(store, "query_columns", count)
    sums = RouteSums(store=store, clock=lambda: now[0])
    for seconds in (module.LOOK_SECONDS, module.LOOK_SECONDS, module.REBUILD_SECONDS):
        while sums.update():
            pass
        now[0] += seconds
        counted.append("look")
    while sums.update():
        pass
    looks = " ".join("look" if one == "look" else "count" for one in counted).replace("count count", "count")
    assert looks == "count look look look count"


@pytest.fixture(scope="module")
def unchanged(embedded: EmbeddedStore) -> Office:
    """For tests that only read. They are before those that use `office`, which empties the store."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return fill(embedded, monkeypatch)


@pytest.fixture
def office(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """For tests that change it."""
    office = fill(store, monkeypatch)
    yield office
    office.erase()


def fill(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> Office:
    """One with calls, and with sums of them that were made in several parts."""
    monkeypatch.setattr("collector.inventory.endpoints.route_sums._Routes.chunk_rows", 20)
    monkeypatch.setattr("collector.inventory.endpoints.figure_sums._Figures.chunk_rows", 20)
    office = Office(store)
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders")
    order = seed.endpoint(2, "GET", "/orders/{id}")
    outside = seed.endpoint(3, "GET", "/rates", host="rates.example", workload="192.0.2.7")
    for hours in range(1, 24):
        seed.calls(orders, hours, minutes_ago=hours * HOUR, client_address="10.0.0.1", objects=[hours])
        seed.calls(order, 2, minutes_ago=hours * HOUR + 3, principal=7, principal_kind=1, status_code=500)
    for minute, (code, address) in enumerate(((200, "8.8.8.8"), (404, "9.9.9.9"), (101, "10.0.0.9"), (0, ""))):
        seed.calls(order, 2, minutes_ago=3 * HOUR + minute, client_address=address, status_code=code)
        seed.calls(order, 1, minutes_ago=1 + minute, client_address=address, status_code=code, hop=2)
    seed.calls(outside, 4, minutes_ago=5 * HOUR, client_workload="jobs", client_address="", role=2)
    seed.calls(order, 3, minutes_ago=4 * HOUR, credential=9, status_code=401)
    seed.calls(orders, 30, minutes_ago=2, client_address="10.0.0.3")
    seed.write(office.store)
    office.make()
    assert office.is_kept
    return office


@pytest.mark.parametrize("asked", ENDPOINTS, ids=lambda asked: "-".join(map(str, asked.values())))
def test_endpoints_are_the_same(unchanged: Office, asked: dict[str, object]) -> None:
    query = EndpointQuery.model_validate(asked)
    kept, added = (one.list_endpoints(query, query.find_span(unchanged.now)) for one in unchanged.endpoints)
    assert kept == added and kept.total > 0 and unchanged.is_kept


def test_services_are_the_same(unchanged: Office) -> None:
    for sort in ServiceSort:
        query = ServiceQuery(sort=sort)
        kept, added = (one.list_services(query, query.find_span(unchanged.now)) for one in unchanged.services)
        assert kept == added and kept.items
    assert unchanged.is_kept


@st.composite
def draw_numbers(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Of each endpoint the least, the true and the greatest number of its consumers."""
    number = st.integers(0, 3 * EXACT_MAX)
    drawn = draw(st.lists(st.tuples(number, number, number).map(sorted), min_size=1, max_size=40))
    return [(low, true, high) for low, true, high in drawn]


@given(draw_numbers(), st.integers(1, 6))
def test_no_endpoint_of_a_page_by_consumers_is_lost_to_its_bounds(
    numbers: list[tuple[int, int, int]], rows: int
) -> None:
    """They come with the highest first."""
    bounds: list[dict[str, Any]] = [
        {"id": str(n), "lower": low, "upper": high} for n, (low, _, high) in enumerate(numbers)
    ]
    bounds.sort(key=lambda one: -one["upper"])
    chosen = choose_candidates(bounds, rows)
    ordered = sorted(((true, str(n)) for n, (_, true, _) in enumerate(numbers)), reverse=True)
    assert chosen is not None
    assert {name for _, name in ordered[:rows]} <= set(chosen)


@pytest.mark.parametrize("most", [3, 1_000])
def test_a_page_by_consumers_is_the_same(office: Office, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of endpoints with a random number of consumers, some of them known since the kept hours alone."""
    monkeypatch.setattr("collector.inventory.endpoints.list_query.CANDIDATES_MAX", most)
    chance, seed = random.Random(23), Seed()
    for number in range(20):
        endpoint = seed.endpoint(100 + number, "GET", f"/things{number}")
        for _ in range(chance.randrange(1, 12)):
            ago = chance.choice((1, 5, 3 * HOUR, 9 * HOUR))
            code = chance.choice((200, 404))
            seed.calls(endpoint, 1, minutes_ago=ago, principal=chance.randrange(1, 9), status_code=code)
    seed.write(office.store)
    office.make()
    assert office.is_kept
    for asked in ({}, {"q": "things1"}, {"order": "asc"}):
        query = EndpointQuery.model_validate({"sort": "consumers", "limit": 7, **asked})
        while True:
            kept, added = (one.list_endpoints(query, query.find_span(office.now)) for one in office.endpoints)
            assert kept == added
            if kept.next_cursor is None:
                break
            query = query.model_copy(update={"cursor": kept.next_cursor})


def write_calls(office: Office, calls: int, minutes_ago: int) -> None:
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders"), calls, minutes_ago=minutes_ago)
    seed.write(office.store)


def test_calls_after_the_kept_hours_are_added(office: Office) -> None:
    before = office.count_calls()
    write_calls(office, 7, minutes_ago=0)
    assert office.is_kept
    assert office.count_calls() == before + 7


def test_calls_that_come_late_are_in_the_list_at_once(office: Office) -> None:
    before = office.count_calls()
    write_calls(office, 7, minutes_ago=6 * HOUR)
    assert not office.is_kept
    assert office.count_calls() == before + 7
    office.make()
    assert office.is_kept
    assert office.count_calls() == before + 7


def test_an_erasure_leaves_no_table(office: Office) -> None:
    office.erase()
    assert not office.is_kept
    assert office.store.query("SHOW TABLES LIKE '%_sums_%'") == []
    office.count_calls()
