"""What came and went between two dates, and tombstones of what is gone, which vanish when it comes back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.api.services import ApiSettings, Services
from collector.inventory.changes import RetiredEndpoints
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.schemas.states import Node
from tests.collector.states import create_state

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
    # Seen at its client too, and so counted at its server.
    called = seed.endpoint(9, "GET", "/called", workload="192.0.2.7")
    for days in (40, 0):
        seed.calls(called, 7, minutes_ago=days * DAY_MINUTES + 1, role=2)
    seed.calls(seed.endpoint(10, "GET", "/called-once", workload="192.0.2.7"), 7, role=2)
    seed.calls(
        seed.endpoint(11, "GET", "/called-then", workload="192.0.2.7"), 7, role=2, minutes_ago=40 * DAY_MINUTES + 1
    )
    seed.calls(probed, 4, status_code=404)
    seed.calls(probed, 4, status_code=404, minutes_ago=40 * DAY_MINUTES + 1)
    seed.write(store)


def _open(store: EmbeddedStore, state: StateStore) -> TestClient:
    app = build_app(
        Services(
            store=store,
            state=state,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    return TestClient(app, headers={"authorization": "Bearer t"})


def test_the_difference_of_two_dates_and_retired_endpoints(store: EmbeddedStore, state: StateStore) -> None:
    _fill(store)
    retired = RetiredEndpoints(store=store, state=state, clock=lambda: NOW)
    assert (retired.update(), retired.update()) == (1, 0)
    with _open(store, state) as client:
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
    assert retired.update() == 1
    assert retired.list_retired() == []


def _ask(name: str) -> dict[str, str]:
    return {"query": f"query {name} {{ things {{ id }} }}"}


def _tell(store: EmbeddedStore, node: Node, days_ago: int, names: dict[str, int], **columns: Any) -> None:
    """Samples of one day, by operation, as the sensor tells them on that day: each state replaces the one before."""
    for name, calls in names.items():
        for _ in range(calls):
            node.call(1, "/graphql", asked=_ask(name), seconds_ago=days_ago * 86_400 + 60, **columns)
    store.insert_records("schemas", node.tell())


def test_operations_of_one_path_come_and_go_by_themselves(store: EmbeddedStore, sqlite_state: StateStore) -> None:
    seed = Seed()
    path = seed.endpoint(1, "POST", "/graphql")
    for days in (41, 40, 0):
        seed.calls(path, 400, minutes_ago=days * DAY_MINUTES + 1)
    seed.write(store)
    nodes = Node("a"), Node("b")
    # 3 and 1 of 4 samples of the first day, all of the next, 2 and 2 of 4 of the last: of 400 calls each.
    _tell(store, nodes[0], 41, {"ListOrders": 3, "ListUsers": 1})
    _tell(store, nodes[0], 40, {"ListOrders": 2}, authentication=TOKEN)
    _tell(store, nodes[1], 0, {"ListOrders": 2, "ListCoupons": 2})
    _tell(store, nodes[1], 0, {"ListUsers": 5}, status=403)
    _tell(store, nodes[0], 0, {})
    retired = RetiredEndpoints(store=store, state=sqlite_state, clock=lambda: NOW)
    assert (retired.update(), retired.update()) == (1, 0)
    with _open(store, sqlite_state) as client:
        dates = {"start": str(TODAY - timedelta(days=38)), "end": str(TODAY)}
        found = client.get("/api/v1/inventory/diff", params=dates).json()
        (appeared,), (gone,), (changed,) = found["appeared"], found["gone"], found["changed"]
        assert (appeared["operation"]["name"], appeared["calls"]) == ("ListCoupons", 200)
        assert (gone["operation"]["name"], gone["calls"]) == ("ListUsers", 100)
        # 300 of the first day, 400 of the next; two of five samples carried credentials.
        assert (changed["before"]["operation"]["name"], changed["before"]["calls"]) == ("ListOrders", 700)
        assert (changed["before"]["authentication"], changed["after"]["authentication"]) == ("partial", "none")
        assert gone["operation"]["parent_id"] == path.id
        (listed,) = client.get("/api/v1/endpoints", params={"operation": "ListCoupons"}).json()["items"]
        assert listed["id"] == appeared["id"]
        (stone,) = client.get("/api/v1/inventory/tombstones").json()["items"]
        assert (stone["operation"]["name"], stone["calls"], list(stone["days"].values())) == ("ListUsers", 100, [100])
        assert stone["id"] == gone["id"]
    _tell(store, nodes[1], 0, {"ListUsers": 1})
    assert retired.update() == 1
    assert retired.list_retired() == []


def test_exposure_and_kinds_of_data_are_compared_too(store: EmbeddedStore) -> None:
    """Of an endpoint that was there: a new one's data is no change."""
    seed = Seed()
    stays = seed.endpoint(1, "GET", "/stays", first_seen=NOW - 40 * 86_400)
    comes = seed.endpoint(2, "GET", "/comes", first_seen=NOW - 60)
    email, ssn, encrypted = 64 + 1, 2 * 64 + 6, 6 * 64 + 1
    seed.calls(stays, 3, minutes_ago=2 * DAY_MINUTES, data={"1": [email], "2": [3]})
    seed.calls(stays, 3, data={"1": [email, ssn, encrypted], "2": [3, 3, 3]})
    seed.calls(comes, 3, data={"1": [ssn], "2": [3]})
    seed.write(store)
    store.execute(
        "INSERT INTO endpoint_risks (endpoint_id, computed_at, url_template, exposure, exposure_before, exposure_since)"
        f" VALUES ('ep0001', {NOW}, '/stays', 'external', 'internal', {NOW - 60}), "
        f"('ep0002', {NOW}, '/comes', 'external', '', {NOW - 60})"
    )
    with _open(store, create_state()) as client:
        found = client.get("/api/v1/inventory/diff").json()  # Since yesterday.
        assert (found["start"], found["end"]) == (str(TODAY - timedelta(days=1)), str(TODAY))
        assert [(one["template"], one["kinds"]) for one in found["data"]] == [("/stays", {"response": ["ssn"]})]
        (exposed,) = found["exposed"]
        assert (exposed["template"], exposed["before"], exposed["after"]) == ("/stays", "internal", "external")
        page = client.get("/changes").text
        assert "internal → external" in page and "US social security number" in page and "/comes" in page
        wrong = client.get("/changes?start=2026-01-02&end=2026-01-01")
        assert wrong.status_code == 422 and "give the earlier date" in wrong.text
