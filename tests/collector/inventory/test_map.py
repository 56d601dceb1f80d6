"""The service map: its calls are those of all endpoints, clients have names, and what is not shown is counted."""

from collections.abc import Iterator

import pytest

from collector.inventory.endpoints.bodies import DataClass
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.partners import PartnerNetworks
from collector.inventory.query import Since
from collector.inventory.traffic.map import MapGroup, MapInventory, MapQuery
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store
CODES = {"1": [64 + 1, 2 * 64 + 10, 6 * 64 + 1], "2": [3, 2, 1]}  # E-mail, card number; encrypted, which is no data.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("map"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders", workload="orders", namespace="shop")
    users = seed.endpoint(2, "GET", "/users", workload="users", namespace="people")
    pay = seed.endpoint(3, "POST", "/pay", workload="pay.service")
    called = seed.endpoint(4, "POST", "/pay", workload="127.0.0.1")
    seed.calls(orders, 100, client_address="198.41.0.4")
    seed.calls(orders, 20, client_address="203.0.114.9")
    seed.calls(orders, 5, client_address="10.1.2.3", status_code=500)
    seed.calls(orders, 2, client_address="10.1.9.9")
    seed.calls(users, 7, client_workload="shop/orders", data=CODES)
    seed.calls(pay, 3, client_address="127.0.0.1")
    seed.calls(pay, 2, client_address="")
    seed.calls(pay, 1, client_address="fd00::1")
    seed.calls(called, 3, role=2, client_workload="orders.service")  # Seen at both ends.
    seed.write(opened)
    yield opened
    opened.close()


@pytest.fixture
def inventory(store: EmbeddedStore) -> MapInventory:
    return MapInventory(reader=store, partners=PartnerNetworks(["203.0.114.0/24"]))


@pytest.mark.parametrize("since", [Since.HOUR, Since.DAY])
@pytest.mark.parametrize("group", MapGroup)
def test_the_calls_of_all_edges_are_those_of_all_endpoints(
    store: EmbeddedStore, inventory: MapInventory, since: Since, group: MapGroup
) -> None:
    query = EndpointQuery(since=since)
    page = EndpointInventory(reader=store, who=ConsumerSql()).list_endpoints(query, query.find_span(NOW))
    found = inventory.read_map(MapQuery(since=since, group=group), NOW)
    assert found.calls == found.calls_shown == sum(endpoint.calls for endpoint in page.items) == 140
    assert found.total == len(found.edges)


def test_clients_are_workloads_or_classes_of_addresses(inventory: MapInventory) -> None:
    found = inventory.read_map(MapQuery(), NOW)
    assert [(edge.source, edge.target, edge.calls, edge.errors) for edge in found.edges] == [
        ("outside:", "shop/orders", 100, 0),
        ("partner:", "shop/orders", 20, 0),
        ("addresses:10.1.0.0/16", "shop/orders", 7, 5),
        ("shop/orders", "people/users", 7, 0),
        ("host:", "pay.service", 3, 0),
        ("unknown:", "pay.service", 2, 0),
        ("addresses:IPv6", "pay.service", 1, 0),
    ]
    assert found.edges[0].exposure is ExposureLevel.EXTERNAL
    assert found.edges[3].data_classes == (DataClass.CONTACT, DataClass.FINANCIAL)
    assert found.edges[3].p95_ms == pytest.approx(7.84, abs=0.01)


@pytest.mark.parametrize("asked", [{"namespace": "people"}, {"service": "users"}, {"service": "people/users:8080"}])
def test_a_part_of_the_map(inventory: MapInventory, asked: dict[str, str]) -> None:
    found = inventory.read_map(MapQuery.model_validate(asked), NOW)
    assert [(edge.source, edge.target) for edge in found.edges] == [("shop/orders", "people/users")]


def test_a_service_has_its_callers_and_what_it_calls(inventory: MapInventory) -> None:
    found = inventory.read_map(MapQuery(service="shop/orders:8080"), NOW)
    assert {edge.target for edge in found.edges} == {"shop/orders", "people/users"}


def test_what_is_not_shown_is_counted(inventory: MapInventory) -> None:
    found = inventory.read_map(MapQuery(limit=2), NOW)
    assert (len(found.edges), found.total, found.calls_shown, found.calls) == (2, 7, 120, 140)


def test_namespaces_are_the_ends_where_that_is_asked(inventory: MapInventory) -> None:
    found = inventory.read_map(MapQuery(group=MapGroup.NAMESPACE), NOW)
    assert ("shop", "people", 7) in [(edge.source, edge.target, edge.calls) for edge in found.edges]
