"""What came and went between two dates, and tombstones of what is gone, which vanish when it comes back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.api.app import ApiSettings, build_app
from collector.inventory.tombstones import Graveyard
from collector.store.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

DAY_MINUTES = 24 * 60
TODAY = datetime.fromtimestamp(NOW, UTC).date()
TOKEN = 1 << 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path)
    yield store
    store.close()


def _fill(store: EmbeddedStore) -> None:
    seed = Seed()
    stays, goes, comes, opens, probed = (
        seed.endpoint(number, "GET", f"/{name}")
        for number, name in enumerate(("stays", "goes", "comes", "opens", "probed"), 1)
    )
    for endpoint, days in ((stays, 40), (stays, 0), (goes, 40), (comes, 1)):
        seed.calls(endpoint, 3, minutes_ago=days * DAY_MINUTES + 1)
    seed.calls(opens, 4, minutes_ago=40 * DAY_MINUTES + 1, authentication=TOKEN)
    seed.calls(opens, 4)
    seed.calls(probed, 4, status_code=404)
    seed.calls(probed, 4, status_code=404, minutes_ago=40 * DAY_MINUTES + 1)
    seed.write(store)


def test_diff_and_tombstones(store: EmbeddedStore) -> None:
    _fill(store)
    graveyard = Graveyard(store=store, clock=lambda: NOW)
    assert (graveyard.look(), graveyard.look()) == (1, 0)
    app = build_app(
        store=store,
        alerts=MemoryAlerts(),
        settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
        clock=lambda: NOW,
        readiness=lambda: "",
        metrics=lambda: b"",
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as client:
        dates = {"start": str(TODAY - timedelta(days=38)), "end": str(TODAY)}
        found = client.get("/api/v1/inventory/diff", params=dates).json()
        assert [one["template"] for one in found["appeared"]] == ["/comes"]
        assert [one["template"] for one in found["gone"]] == ["/goes"]
        (changed,) = found["changed"]
        assert (changed["before"]["authentication"], changed["after"]["authentication"]) == ("full", "none")
        assert changed["after"]["template"] == "/opens"
        (stone,) = client.get("/api/v1/inventory/tombstones").json()["items"]
        assert (stone["template"], stone["calls"], list(stone["days"].values())) == ("/goes", 3, [3])
        refused = client.get("/api/v1/inventory/diff", params={"start": dates["end"], "end": dates["start"]})
        assert refused.status_code == 422
    seed = Seed()
    seed.calls(seed.endpoint(2, "GET", "/goes"), 1)
    seed.write(store)
    assert graveyard.look() == 1
    assert graveyard.list_tombstones() == []
