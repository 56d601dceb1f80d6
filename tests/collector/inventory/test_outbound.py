"""Which client-side calls count: not those to a host that a watched server answered, unless the server that was called
is on the client's own node, where it is another one by its port."""

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

CALLED = {"10.0.0.7": 0, "127.0.0.1": 23, "127.8.0.1": 29, "::1": 31}  # Calls that count, by the server's address.


@pytest.mark.parametrize("since", ["1h", "24h", "7d"])
def test_a_server_beside_its_client_is_another_than_the_watched_one(tmp_path: Path, since: str) -> None:
    store = EmbeddedStore(tmp_path / "store")
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders/{order_id}"), 5)
    for number, (address, calls) in enumerate(CALLED.items(), 2):
        called = seed.endpoint(number, "GET", "/orders/{order_id}", workload=address, workload_kind=0, port=8443)
        seed.calls(called, calls or 100, role=2, client_workload="cart")
    watched = seed.endpoint(9, "GET", "/orders/{order_id}", workload="127.0.0.1", workload_kind=0)  # Its port is 80.
    seed.calls(watched, 41, role=2, client_workload="cart")
    seed.write(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t" * 32, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, headers={"authorization": f"Bearer {'t' * 32}"}) as client:
        items = client.get("/api/v1/endpoints", params={"since": since}).json()["items"]
        assert {item["id"]: item["calls"] for item in items} == {
            "ep0001": 5,
            **{f"ep{number:04d}": calls for number, calls in enumerate(CALLED.values(), 2) if calls},
        }
        one = client.get("/api/v1/endpoints/ep0003", params={"since": since}).json()
        assert (one["calls"], one["seen_at"]) == (CALLED["127.0.0.1"], "client")
    store.close()
