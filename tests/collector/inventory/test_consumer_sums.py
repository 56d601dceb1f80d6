"""The list of consumers is the same with kept sums as without, and sums that do not hold any more are not read."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collector.erasure import TableEraser, find_mention
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.consumers.consumers import ConsumerInventory, ConsumerQuery, ConsumerSort
from collector.inventory.consumers.labels import LabelBook
from collector.inventory.consumers.sums import LATER_SECONDS, ConsumerSums
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.filters import Order
from collector.inventory.kept_sums import REBUILD_SECONDS
from collector.inventory.query import DAY_SECONDS
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import MINUTE, NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

HOUR = 60  # Minutes.


class Office:
    """One store with both ways to list."""

    def __init__(self, directory: Path) -> None:
        self.store = EmbeddedStore(directory)
        self.now = NOW
        who = ConsumerSql()
        labels = LabelBook(create_state(), lambda: self.now)
        self.seconds: Iterator[float] = itertools.count(step=LATER_SECONDS)  # No look is soon after another one.
        self.sums = ConsumerSums(
            store=self.store, who=who, clock=lambda: self.now, rows_min=0, monotonic=lambda: next(self.seconds)
        )
        self.kept = ConsumerInventory(reader=self.store, who=who, labels=labels, sums=self.sums)
        self.added = ConsumerInventory(reader=self.store, who=who, labels=labels)

    def make(self) -> None:
        """Whatever is due."""
        self.now += REBUILD_SECONDS
        for _ in range(100):
            self.sums.update()

    @property
    def is_kept(self) -> bool:
        return self.sums.find(ConsumerQuery().find_span(self.now)) is not None

    def check(self, **asked: object) -> list[str]:
        """Walk both lists page by page; gives the consumers."""
        names: list[str] = []
        query = ConsumerQuery.model_validate({"limit": 3, **asked})
        while True:
            span = query.find_span(self.now)
            page = self.kept.list_consumers(query, span)
            assert page == self.added.list_consumers(query, span)
            names += [one.name.id for one in page.items]
            if page.next_cursor is None:
                return names
            query = query.model_copy(update={"cursor": page.next_cursor})

    def write(self, seed: Seed) -> None:
        seed.write(self.store)


@pytest.fixture(scope="module", autouse=True)
def _several_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collector.inventory.consumers.sums._Consumers.chunk_rows", 20)
        yield


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path / "store")
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders")
    order = seed.endpoint(2, "GET", "/orders/{id}")
    outside = seed.endpoint(3, "GET", "/rates", host="rates.example", workload="192.0.2.7")
    seed.endpoint(4, "GET", "/rates", host="unseen.example")
    for hours in range(1, 24):
        seed.calls(orders, hours, minutes_ago=hours * HOUR, client_address=f"10.0.0.{hours % 7}", objects=[hours, 99])
        seed.calls(order, 2, minutes_ago=hours * HOUR + 3, principal=7, principal_kind=1, status_code=500, attacks=1)
    seed.calls(outside, 4, minutes_ago=5 * HOUR, client_workload="jobs", client_address="", role=2)
    seed.calls(order, 3, minutes_ago=4 * HOUR, credential=9, status_code=401, client_address="10.0.0.1")
    seed.calls(orders, 30, minutes_ago=2, client_address="10.0.0.3", objects=[1_000, 1_001])  # Known, later too.
    seed.calls(orders, 5, minutes_ago=1, client_address="10.9.9.9")  # Not known before.
    office.write(seed)
    yield office
    office.store.close()


def test_each_sort_and_filter_gives_the_same_pages(office: Office) -> None:
    office.make()
    assert office.is_kept
    for sort, order in itertools.product(ConsumerSort, Order):
        names = office.check(sort=sort, order=order)
        assert len(names) == len(set(names)) == 7 + 3 + 1
    filters: tuple[dict[str, str], ...] = (
        *({"q": "10.0.0"}, {"kind": "principal"}, {"q": "nobody"}),
        *({"service": "orders"}, {"since": "7d"}, {"since": "1h"}),
    )
    for asked in filters:
        office.check(**asked)


def test_later_rows_are_added(office: Office) -> None:
    office.make()
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders"), 7, minutes_ago=0, client_address="10.8.8.8", objects=[5])
    seed.calls(seed.endpoints[0], 7, minutes_ago=0, principal=7, principal_kind=1)
    office.write(replace(seed, endpoints=[]))
    assert office.is_kept
    assert "address:10.8.8.8" in office.check()


def test_lists_of_some_seconds_read_later_rows_once(office: Office) -> None:
    office.make()
    office.seconds = itertools.repeat(0)
    first = office.check()
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders"), 7, minutes_ago=0, client_address="10.8.8.8")
    office.write(replace(seed, endpoints=[]))
    query = ConsumerQuery()
    assert office.kept.list_consumers(query, query.find_span(office.now)).total == len(first)
    office.sums.forget_later()
    assert len(office.check()) == len(first) + 1


def test_the_next_hour_begins_with_sums_that_are_there(office: Office) -> None:
    office.now = NOW + 600  # Past half an hour.
    office.make()
    office.now = NOW + 3_600
    assert office.is_kept
    office.check()


def test_late_rows_of_hours_that_are_summed_make_them_anew(office: Office) -> None:
    office.make()
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders"), 11, minutes_ago=10 * HOUR, client_address="10.7.7.7")
    office.write(replace(seed, endpoints=[]))
    assert not office.is_kept
    assert "address:10.7.7.7" in office.check()
    office.make()
    assert office.is_kept
    assert "address:10.7.7.7" in office.check()


def test_a_route_that_gets_another_endpoint_makes_them_anew(office: Office) -> None:
    office.make()
    office.store.execute(
        "INSERT INTO endpoint_routes SELECT * REPLACE (version + 5 AS version, 'ep0001' AS endpoint_id) "
        "FROM endpoint_routes WHERE route_id = 2"
    )
    assert not office.is_kept
    office.check(sort="endpoints")
    office.make()
    assert office.is_kept
    office.check(sort="endpoints")


def test_a_new_route_does_not_make_them_anew(office: Office) -> None:
    office.make()
    seed = Seed()
    seed.calls(seed.endpoint(8, "GET", "/new", first_seen=office.now), 2, minutes_ago=0, client_address="10.6.6.6")
    office.write(seed)
    assert office.is_kept
    assert "address:10.6.6.6" in office.check()


def test_a_server_that_is_watched_now_hides_its_clients_calls(office: Office) -> None:
    office.make()
    assert "workload:jobs" in office.check()
    seed = Seed()
    server = seed.endpoint(20, "GET", "/rates", host="rates.example", workload="rates", first_seen=office.now)
    seed.calls(server, 1, minutes_ago=0)
    office.write(seed)
    assert not office.is_kept
    assert "workload:jobs" not in office.check()
    office.make()
    assert office.is_kept
    assert "workload:jobs" not in office.check()


def test_a_server_that_is_watched_since_midnight_does_too(office: Office) -> None:
    """The sums end with the day before, whose servers nobody watched."""
    midnight = (NOW // DAY_SECONDS + 1) * DAY_SECONDS
    minutes = int(NOW - midnight) // MINUTE
    seed = Seed()
    outside = seed.endpoint(21, "GET", "/prices", host="prices.example", workload="192.0.2.8", first_seen=midnight)
    server = seed.endpoint(22, "GET", "/prices", host="prices.example", workload="prices", first_seen=midnight)
    seed.calls(outside, 4, minutes_ago=minutes + 90, client_workload="buyer", client_address="", role=2)
    seed.calls(server, 1, minutes_ago=minutes)
    office.write(seed)
    office.now = midnight + HOUR * MINUTE // 2
    office.make()
    assert office.is_kept
    assert "workload:buyer" not in office.check()


def test_an_erasure_leaves_no_table_with_the_name(office: Office) -> None:
    office.make()
    consumer = parse_consumer("address:10.0.0.1")
    TableEraser(office.store, office.store.layout).erase(consumer, find_mention(consumer))
    office.sums.erase()
    assert not office.is_kept
    assert office.store.query("SHOW TABLES LIKE 'consumer_sums_%'") == []
    assert consumer.id not in office.check()
    office.make()
    assert office.is_kept
    assert consumer.id not in office.check()


def test_an_erasure_while_sums_are_made_leaves_none(office: Office) -> None:
    office.now += REBUILD_SECONDS
    for _ in range(2):
        office.sums.update()
    office.sums.erase()
    assert not office.is_kept
    office.make()
    office.make()
    assert office.is_kept
    office.check()


def test_rows_that_the_disk_cap_dropped_are_not_missed(office: Office) -> None:
    office.make()
    for (partition,) in office.store.query(
        "SELECT DISTINCT partition_id FROM system.parts WHERE active AND table = 'rows_minute' "
        "ORDER BY partition_id LIMIT 23"
    ):
        office.store.execute(f"ALTER TABLE rows_minute DROP PARTITION ID '{partition}'")
    assert not office.is_kept
    office.check()


def test_few_rows_are_not_summed(office: Office) -> None:
    office.sums = ConsumerSums(store=office.store, who=ConsumerSql(), clock=lambda: office.now)
    office.make()
    assert not office.is_kept


def test_tables_of_earlier_hours_are_dropped(office: Office) -> None:
    office.make()
    for _ in range(3):
        office.now += 3_600
        office.make()
    office.make()
    assert len(office.store.query("SHOW TABLES LIKE 'consumer_sums_%'")) <= 2
