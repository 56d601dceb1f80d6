"""One call through proxies is one call: a proxy's endpoints are not listed beside the application's same ones."""

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

PROXY = 2  # proto Hop.
PARCEL = "/parcels/{parcel_id}"
# Of an application behind an ingress controller and a sidecar; and what only looks like it.
INGRESS, SIDECAR, APPLICATION, ALONE, FAILING, REWRITTEN = range(1, 7)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("hops") / "store")
    seed = Seed()
    seed.calls(seed.endpoint(INGRESS, "GET", PARCEL, namespace="edge", workload="gateway"), 30, hop=PROXY)
    seed.calls(seed.endpoint(SIDECAR, "GET", PARCEL, workload="mesh", port=15006), 30, hop=PROXY)
    seed.calls(seed.endpoint(APPLICATION, "GET", PARCEL, workload="mesh", port=8080), 30)
    # Nobody sees what is behind these.
    seed.calls(seed.endpoint(ALONE, "POST", PARCEL, namespace="edge", workload="gateway"), 7, hop=PROXY)
    seed.calls(seed.endpoint(FAILING, "DELETE", PARCEL, namespace="edge", workload="gateway"), 5, hop=PROXY)
    seed.calls(seed.endpoint(7, "DELETE", PARCEL, workload="other"), 5, status_code=404)
    seed.calls(seed.endpoint(REWRITTEN, "GET", PARCEL, host="b.example", workload="gateway"), 3, hop=PROXY)
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
        yield client
    store.close()


def list_calls(client: TestClient, **parameters: str) -> tuple[dict[int, int], int]:
    """Calls by the number of the endpoint, and the total of the list."""
    page = client.get("/api/v1/endpoints", params=parameters).json()
    return {int(item["id"].removeprefix("ep")): item["calls"] for item in page["items"]}, page["total"]


@pytest.mark.parametrize("since", ["1h", "24h", "7d"])
def test_a_call_through_proxies_is_listed_once(client: TestClient, since: str) -> None:
    own = {APPLICATION: 30, ALONE: 7, FAILING: 5, 7: 5, REWRITTEN: 3}
    hops = {INGRESS: 30, SIDECAR: 30}
    assert list_calls(client, since=since) == (own, len(own))
    assert list_calls(client, since=since, hops="include") == (own | hops, len(own) + len(hops))
    assert list_calls(client, since=since, hops="only") == (hops, len(hops))


def test_calls_over_time_add_up_to_the_list(client: TestClient) -> None:
    def count(**part: str) -> int:
        return sum(point["calls"] for point in client.get("/api/v1/timeseries", params=part).json()["points"])

    listed, _ = list_calls(client, since="24h")
    assert count(since="24h") == sum(listed.values())
    assert count(since="24h", endpoint="ep0001") == 30


def test_a_hop_has_its_own_page(client: TestClient) -> None:
    one = client.get("/api/v1/endpoints/ep0001").json()
    assert (one["calls"], one["is_proxied"]) == (30, True)
