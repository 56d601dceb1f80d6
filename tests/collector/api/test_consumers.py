"""Consumers by the API over the embedded store: filters, and labels that people give."""

from collections.abc import Iterator
from typing import Any

import pytest

from collector.alerting.alert import label_alert
from collector.alerting.notifiers.templates import list_facts
from collector.api.services import ApiSettings, Services
from collector.erasure import find_mention
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.consumers.labels import LabelBook
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

ADA, JOB, SHOP = "principal:000000000000004d", "address:10.0.0.9", "workload:shop/web"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}", namespace="shop")
    bills = seed.endpoint(2, "GET", "/bills", workload="billing", namespace="money", port=9090)
    seed.calls(orders, 100, principal=0x4D, principal_kind=1, client_software="curl 11")
    seed.calls(bills, 7, principal=0x4D, principal_kind=1, client_address="192.0.2.77")
    seed.calls(orders, 20)
    seed.calls(bills, 5, client_address="", client_workload="shop/web")
    seed.write(store)
    yield Services(
        store=store,
        state=create_state(),
        alerts=MemoryAlerts(make_alert("a1")),
        settings=ApiSettings(token=None, version="0.1.0"),
        clock=lambda: NOW,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
    )
    store.close()


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(build_app(services), base_url="http://localhost") as client:
        yield client


def list_ids(client: TestClient, **parameters: str) -> list[str]:
    answer = client.get("/api/v1/consumers", params=parameters)
    assert answer.status_code == 200, answer.text
    return sorted(one["id"] for one in answer.json()["items"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [JOB, ADA, SHOP]),
        ({"endpoint": "ep0002"}, [ADA, SHOP]),
        ({"service": "shop/orders:8080"}, [JOB, ADA]),
        ({"service": "billing"}, [ADA, SHOP]),
        ({"namespace": "money"}, [ADA, SHOP]),
        ({"kind": "workload"}, [SHOP]),
        ({"address": "10.0.0.9"}, [JOB, ADA]),
        ({"address": "192.0.2.0/24"}, [ADA]),
        ({"address": "2001:db8::/32"}, []),
        ({"software": "curl 11"}, [ADA]),
        ({"software": "curl 11", "since": "30d"}, [ADA]),
    ],
)
def test_consumers_are_listed_by_what_they_called_and_where_from(
    client: TestClient, parameters: dict[str, str], expected: list[str]
) -> None:
    assert list_ids(client, **parameters) == sorted(expected)


def test_a_word_in_place_of_an_address_is_refused_with_the_fix(client: TestClient) -> None:
    answer = client.get("/api/v1/consumers", params={"address": "orders"})
    assert answer.status_code == 422 and "'address' is 'orders'" in answer.json()["detail"]


def set_label(client: TestClient, consumer: str, name: str, **fields: str) -> dict[str, Any]:
    answer = client.post("/api/v1/consumers/labels", json={"consumer": consumer, "name": name, **fields})
    assert answer.status_code == 200, answer.text
    label: dict[str, Any] = answer.json()
    return label


def test_a_label_is_kept_with_who_gave_it_and_is_found(services: Services, client: TestClient) -> None:
    label = set_label(client, ADA, "Nightly export", note="team billing", asked_by="ada")
    assert label["changed_by"] == "no-auth, asked by ada" and label["note"] == "team billing"
    assert list_ids(client, label="nightly") == [ADA] and list_ids(client, q="EXPORT") == [ADA]
    assert client.get(f"/api/v1/consumers/{ADA}").json()["label"]["name"] == "Nightly export"
    # The clock stands still: the second label holds nevertheless, for a new reader too.
    set_label(client, ADA, "Export of the night")
    assert LabelBook(services.state, services.clock).find_name(ADA) == "Export of the night"
    assert client.get(f"/api/v1/consumers/{ADA}").json()["label"]["name"] == "Export of the night"
    assert [one["consumer"] for one in client.get("/api/v1/consumers/labels").json()["items"]] == [ADA]
    set_label(client, ADA, "")
    assert client.get(f"/api/v1/consumers/{ADA}").json()["label"] is None
    assert list_ids(client, label="night") == [] and client.get("/api/v1/consumers/labels").json() == {"items": []}


def test_a_label_needs_a_consumer(client: TestClient) -> None:
    answer = client.post("/api/v1/consumers/labels", json={"consumer": "somebody", "name": "x"})
    assert answer.status_code == 422 and "kind:value" in answer.json()["detail"]


def test_an_erasure_takes_the_label_and_notes_that_name_the_consumer(services: Services, client: TestClient) -> None:
    set_label(client, JOB, "backup job")
    set_label(client, SHOP, "web", note=f"was {JOB} before")
    consumer = parse_consumer(JOB)
    services.labels.erase(consumer.id, find_mention(consumer).pattern)
    [left] = client.get("/api/v1/consumers/labels").json()["items"]
    assert (left["consumer"], left["note"]) == (SHOP, "was erased before")


def test_alerts_and_notifications_name_the_consumer_by_its_label() -> None:
    alert = label_alert(make_alert("a1"), "backup job")
    assert alert.title.startswith("backup job (address:10.0.0.9) calls ")
    assert dict(list_facts(alert))["Consumer"] == "backup job (address:10.0.0.9)"
    unnamed = label_alert(make_alert("a1"), "")
    assert unnamed.title == make_alert("a1").title and dict(list_facts(unnamed))["Consumer"] == JOB
