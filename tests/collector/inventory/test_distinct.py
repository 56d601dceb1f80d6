"""Estimates of distinct things: never more than the calls, and shown as estimates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collector.alerting.alert import AlertKind
from collector.api.services import ApiSettings, Services
from collector.inventory.endpoints.predicates import EXACT_MAX
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

READERS = 24  # Of different objects each: an estimate is too high for half of them.
MINUTES, CALLS = 5, 120
FEW = 25


def name_reader(number: int) -> str:
    return f"principal:{number + 1:016x}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Readers take a new object with each of their 600 calls, another takes 25."""
    random, seed = np.random.default_rng(7), Seed()
    for number in range(READERS):
        endpoint = seed.endpoint(number + 1, "GET", f"/orders{number}/{{order_id}}")
        for minute in range(MINUTES):
            seed.calls(
                endpoint,
                CALLS,
                minutes_ago=minute + 2,
                principal=number + 1,
                objects=random.integers(1, 2**63, CALLS).tolist(),
                objects_count=CALLS + 3,
                credential=int(random.integers(1, 2**63)),
            )
    few = seed.endpoint(READERS + 1, "GET", "/few/{id}")
    seed.calls(few, FEW, principal=READERS + 1, objects=list(range(1, FEW + 1)), objects_count=FEW)
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed.write(store)
    start = NOW // 60 * 60 - 60 * (MINUTES + 1)
    alert = make_alert(
        "a", kind=AlertKind.VOLUME_PAIR, consumer=name_reader(0), window_start=start, window_end=start + 300, calls=600
    )
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(alert),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        yield opened
    store.close()


def check(items: list[dict[str, Any]]) -> None:
    for one in items:
        assert one["objects"] <= one["calls"], one
        assert one["has_estimated_objects"] is (one["objects"] > EXACT_MAX)


@pytest.mark.parametrize("since", ["1h", "24h"])
def test_no_list_has_more_objects_than_calls(client: TestClient, since: str) -> None:
    consumers = client.get("/api/v1/consumers", params={"since": since}).json()["items"]
    assert len(consumers) == READERS + 1
    check(consumers)
    assert {one["objects"] for one in consumers if one["calls"] == FEW} == {FEW}
    assert min(one["objects"] for one in consumers if one["calls"] > FEW) > 0.95 * MINUTES * CALLS
    for one in consumers:
        assert one["addresses"] <= one["calls"]
        detail = client.get(f"/api/v1/consumers/{one['id']}", params={"since": since}).json()
        check(detail["touched"])
    for endpoint in client.get("/api/v1/endpoints", params={"since": since}).json()["items"]:
        detail = client.get(f"/api/v1/endpoints/{endpoint['id']}", params={"since": since}).json()
        check(detail["top_consumers"])
        assert all(0 < point["consumers"] <= point["calls"] for point in detail["series"])
        for parameter in client.get(f"/api/v1/endpoints/{endpoint['id']}/schema").json()["path"]:
            assert parameter["distinct_objects"] is None or parameter["distinct_objects"] <= endpoint["calls"]


def test_no_evidence_has_more_objects_than_calls_and_the_page_marks_estimates(client: TestClient) -> None:
    evidence = client.get("/api/v1/alerts/a/evidence").json()
    check([evidence["window"], *evidence["items"]])
    assert evidence["window"]["calls"] == MINUTES * CALLS and evidence["window"]["has_estimated_objects"]
    assert evidence["window"]["credentials"] <= MINUTES * CALLS
    page = client.get("/alerts/a").text
    assert f"≈ {evidence['window']['objects']}</td>" in page
    assert f'<td class="number">{evidence["items"][0]["objects"]}</td>' in page
    assert "Observed 10.4 calls/s, expected 15.6 calls/min, limit 2.0 calls/s." in page
