"""Services add up their endpoints; filters, sorts and pages of the list."""

from collections.abc import Iterator

import pytest

from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.query import Since
from collector.inventory.services.services import ServiceInventory, ServiceQuery, ServiceSort
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceInventory]:
    store = EmbeddedStore(tmp_path_factory.mktemp("services"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders", workload="orders", namespace="shop")
    order = seed.endpoint(2, "GET", "/orders/{id}", workload="orders", namespace="shop")
    users = seed.endpoint(3, "GET", "/users", workload="users", namespace="people")
    seed.calls(orders, 10)
    seed.calls(order, 5, status_code=500)
    seed.calls(users, 7, duration={"1": [160], "2": [7]})
    seed.endpoint(4, "GET", "/never", workload="never")
    seed.write(store)
    store.execute(
        "INSERT INTO endpoint_risks (endpoint_id, computed_at, score, open_findings, exposure) "
        f"VALUES ('ep0001', {NOW}, 20, 1, 'internal'), ('ep0002', {NOW}, 80, 2, 'external')"
    )
    yield ServiceInventory(reader=store, who=ConsumerSql())
    store.close()


def list_names(inventory: ServiceInventory, **asked: str | int) -> list[str]:
    query = ServiceQuery.model_validate(asked)
    return [one.service for one in inventory.list_services(query, query.find_span(NOW)).items]


@pytest.mark.parametrize("since", [Since.HOUR, Since.DAY, Since.WEEK])
def test_a_service_adds_up_its_endpoints(inventory: ServiceInventory, since: Since) -> None:
    query = ServiceQuery(since=since)
    page = inventory.list_services(query, query.find_span(NOW))
    assert page.total == 2
    orders, users = page.items
    assert (orders.service, orders.endpoints, orders.calls, orders.errors) == ("shop/orders:8080", 2, 15, 5)
    assert (orders.risk, orders.findings, orders.exposure) == (80, 3, ExposureLevel.EXTERNAL)
    assert (users.risk, users.findings, users.exposure) == (None, 0, ExposureLevel.UNKNOWN)
    assert users.p95_ms is not None and users.p95_ms > 1_000


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"q": "order"}, ["shop/orders:8080"]),
        ({"namespace": "people"}, ["people/users:8080"]),
        ({"exposure": "external"}, ["shop/orders:8080"]),
        ({"risk_min": 81}, []),
        ({"sort": "service"}, ["people/users:8080", "shop/orders:8080"]),
    ],
)
def test_filters_and_sorts(inventory: ServiceInventory, asked: dict[str, str | int], names: list[str]) -> None:
    assert list_names(inventory, **asked) == names


@pytest.mark.parametrize("sort", ServiceSort)
def test_a_walk_meets_each_service_once(inventory: ServiceInventory, sort: ServiceSort) -> None:
    first = ServiceQuery(sort=sort, limit=1)
    page = inventory.list_services(first, first.find_span(NOW))
    assert page.next_cursor
    second = first.model_copy(update={"cursor": page.next_cursor})
    last = inventory.list_services(second, second.find_span(NOW))
    assert {page.items[0].service, last.items[0].service} == {"shop/orders:8080", "people/users:8080"}
    assert last.next_cursor is None


def test_a_service_is_found_by_its_workload_too(inventory: ServiceInventory) -> None:
    span = ServiceQuery().find_span(NOW)
    for name in ("orders", "shop/orders:8080"):
        found = inventory.get_service(name, span)
        assert found is not None and found.service == "shop/orders:8080"
    assert inventory.get_service("never", span) is None
