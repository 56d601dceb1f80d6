"""The demo's services on a machine without nginx and Node: they answer through the gateway, and one has the leak."""

import shutil
from collections.abc import Iterator

import httpx
import pytest

from scripts.demo import stage as demo
from scripts.demo.people import FIRST_ORDER, PASSWORD
from scripts.demo.stage import SERVICES, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "find_nginx", lambda: None)
        patch.setattr(shutil, "which", lambda name: None)
        stage = Stage(tmp_path_factory.mktemp("stage"), seed=7)
        try:
            stage.start_services()
            yield stage
        finally:
            stage.stop()


@pytest.fixture
def gateway(stage: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{stage.ports['gateway']}", timeout=20) as client:
        yield client


def test_six_services_run_and_the_others_are_named(stage: Stage) -> None:
    assert stage.ports.keys() == {*SERVICES, "gateway"}
    assert [reason.partition(":")[0] for reason in stage.skipped] == ["no catalog service", "no cart service"]


def test_a_customer_logs_in_and_orders(gateway: httpx.Client) -> None:
    login = gateway.post("/login", json={"email": "a@shop.example", "password": PASSWORD})
    bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
    assert gateway.get(f"/api/v1/orders/{FIRST_ORDER}", headers=bearer).json()["number"] == FIRST_ORDER
    assert gateway.post("/api/v1/orders", headers=bearer, json={"product": 1_001}).status_code == httpx.codes.CREATED


def test_others_are_refused(gateway: httpx.Client) -> None:
    assert gateway.post("/login", json={"email": "a@shop.example", "password": "x"}).status_code == 401
    assert gateway.get("/api/v1/orders").status_code == 401
    assert gateway.get("/products/1000").status_code == 404


def test_the_export_needs_no_credentials(gateway: httpx.Client) -> None:
    answer = gateway.get("/internal/users/00000000-0000-4000-a000-000000000001/export")
    assert {"full_name", "email", "card_number"} <= answer.json().keys()
