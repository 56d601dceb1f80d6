"""A description is uploaded as a file, its report shows, and what is no description is refused in a sentence."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store
DOCUMENT = """openapi: 3.1.0
info: {title: "Shop <b>", version: "2"}
servers: [{url: "http://shop.example"}]
paths:
  /orders: {get: {responses: {"200": {description: ok}}}}
  /gone: {get: {operationId: getGone, responses: {"200": {description: ok}}}}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("upload"))
    seed = Seed()
    for number, path in enumerate(("/orders", "/hidden"), 1):
        seed.calls(seed.endpoint(number, "GET", path, namespace="shop"), 5, client_workload="shop/front")
    seed.write(store)
    services = Services(
        store=store,
        state=create_state(),
        alerts=MemoryAlerts(),
        settings=ApiSettings(token=None, version="0", htmx_path=Path("/none")),
        clock=lambda: NOW,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
    )
    with TestClient(build_app(services), base_url="http://localhost", follow_redirects=False) as opened:
        yield opened
    store.close()


def test_an_uploaded_file_is_in_force_and_has_a_report(client: TestClient) -> None:
    answer = client.post(
        "/specs", data={"name": "", "service": "shop/orders:8080"}, files={"document": ("shop.yaml", DOCUMENT)}
    )
    assert answer.status_code == 303 and answer.headers["location"] == "/specs/Shop%20%3Cb%3E"
    report = client.get(answer.headers["location"]).text
    assert "Shop &lt;b&gt;" in report and "/gone" in report and "getGone" in report and "/hidden" in report
    assert "Shop &lt;b&gt;" in client.get("/specs").text
    service = client.get("/services/shop/orders:8080").text
    assert "Shop &lt;b&gt;" in service and "/api/v1/services/shop/orders%3A8080/openapi.json" in service
    assert client.post("/specs-removed", data={"name": "Shop <b>"}).status_code == 303
    assert client.get("/specs/Shop <b>").status_code == 404


@pytest.mark.parametrize("document", ["", "no description", '{"openapi": "9"}'])
def test_what_is_no_description_is_refused_on_the_page(client: TestClient, document: str) -> None:
    answer = client.post("/specs", data={"name": "x"}, files={"document": ("x.yaml", document)})
    assert answer.status_code == 422 and 'role="alert"' in answer.text


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "\xff"])
def test_a_body_that_is_no_form_is_refused(client: TestClient, kind: str) -> None:
    answer = client.post("/specs", content=b"--y\r\n\xff\x00", headers={"content-type": kind.encode("latin-1")})
    assert answer.status_code == 422


def test_services_are_listed_and_one_that_was_not_called_says_so(client: TestClient) -> None:
    assert 'href="/services/shop/orders%3A8080?since=24h"' in client.get("/services").text
    assert "shop/front" in client.get("/services/shop/orders:8080?since=1h").text
    missing = client.get("/services/nothing")
    assert missing.status_code == 404 and "No call to this service" in missing.text
    assert client.get("/services?since=never").status_code == 422
    assert client.get("/api/v1/services/nothing").status_code == 404
    assert client.get("/api/v1/services/shop/orders:8080").json()["callers"][0]["client"] == "shop/front"
