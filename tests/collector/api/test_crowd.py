"""What the callers behind an alert about an endpoint share, against the embedded store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.alerting.alert import AlertKind
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint
from tests.collector.states import create_state

pytestmark = pytest.mark.store

ROW = int(NOW) // 60 * 60
WINDOW = {"window_start": ROW - 600.0, "window_end": ROW - 300.0, "opened_at": ROW - 290.0}
LONG = {"window_start": ROW - 1_200.0, "window_end": ROW - 300.0, "opened_at": ROW - 290.0}
TOOL, BROWSER = "python-requests 5c2e91d0", "mozilla 11223344"
CROWD = {"kind": AlertKind.ENUMERATION, "consumer": "", **WINDOW}


def honest(seed: Seed, endpoint: SeedEndpoint, minutes_ago: int) -> None:
    """Twenty people, each from a network of their own but for five in one office."""
    for person in range(1, 21):
        address = f"198.51.100.{person}" if person <= 5 else f"81.2.{person}.9"
        seed.calls(
            endpoint,
            10,
            minutes_ago=minutes_ago,
            principal=person,
            principal_kind=1,
            client_address=address,
            client_software="okhttp 0a0b0c0d" if person % 2 else BROWSER,
            object_numeric_calls=10,
        )


def thieves(seed: Seed, endpoint: SeedEndpoint, minutes_ago: int) -> None:
    """Forty keys, of which ten come from one /24 and thirty from one /48, and who walk."""
    for key in range(40):
        address = f"203.0.113.{key}" if key < 10 else f"2001:db8:7:{key:x}::1"
        seed.calls(
            endpoint,
            6,
            minutes_ago=minutes_ago,
            principal=1_000 + key,
            principal_kind=1,
            client_address=address,
            protocol_version="2",
            client_software=TOOL,
            object_numeric_calls=6,
            object_monotonic_steps=5,
        )


def clocks(seed: Seed, endpoint: SeedEndpoint) -> None:
    """Twelve people who call in bursts for an hour, and from 20 minutes ago on fifteen programs: six calls each minute
    for eight minutes, one more or less."""
    for person in range(1, 13):
        for minutes_ago in range(6 + person % 5, 60, 5):
            calls = 1 + (person * minutes_ago) % 17
            seed.calls(endpoint, calls, minutes_ago=minutes_ago, principal=person, principal_kind=1)
    for program in range(15):
        for minute in range(8):
            calls = 6 + (minute + program) % 3 - 1
            seed.calls(endpoint, calls, minutes_ago=16 - minute, principal=500 + program, principal_kind=1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    robbed = seed.endpoint(1, "GET", "/orders/{order_id}")
    calm = seed.endpoint(2, "GET", "/items/{item_id}")
    young = seed.endpoint(3, "GET", "/news/{news_id}")
    timed = seed.endpoint(4, "GET", "/clocks/{clock_id}")
    for minutes_ago in (40, 20, 8):
        honest(seed, robbed, minutes_ago)
        honest(seed, calm, minutes_ago)
    thieves(seed, robbed, 7)
    thieves(seed, young, 7)
    clocks(seed, timed)
    seed.write(store)
    alerts = MemoryAlerts(
        make_alert("robbed", endpoint_id="ep0001", **CROWD),
        make_alert("calm", endpoint_id="ep0002", **CROWD),
        make_alert("young", endpoint_id="ep0003", **CROWD),
        make_alert("timed", endpoint_id="ep0004", **{**CROWD, **LONG}),
        make_alert("one", endpoint_id="ep0001", **{**CROWD, "consumer": f"principal:{1_000:016x}"}),
    )
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=alerts,
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, base_url="http://127.0.0.1:8080") as opened:
        yield opened
    store.close()


def read(client: TestClient, alert_id: str) -> dict[str, Any] | None:
    found = client.get(f"/api/v1/alerts/{alert_id}/evidence").json()["crowd"]
    return None if found is None else dict(found)


def test_what_a_crowd_shares_is_said_with_its_share_before(client: TestClient) -> None:
    crowd = read(client, "robbed")
    assert crowd is not None
    assert (crowd["calls"], crowd["calls_before"]) == (200 + 240, 400)
    assert (crowd["consumers"], crowd["new_consumers"], crowd["new_calls"]) == (60, 40, 240)
    traits = {(trait["kind"], trait["value"]): trait for trait in crowd["traits"]}
    assert set(traits) == {
        ("network", "203.0.113.0/24"),
        ("network", "2001:db8:7::/48"),
        ("protocol", "2"),
        ("order", ""),
        ("software", TOOL),
    }
    network = traits["network", "2001:db8:7::/48"]
    assert (network["calls"], network["consumers"], network["share_before"]) == (180, 30, 0)
    assert network["share"] == pytest.approx(180 / 440)
    assert network["sentence"] == (
        "30 consumers, all new, with 41% of the calls came from network 2001:db8:7::/48, where it was 0% of them in "
        "the hour before."
    )
    assert traits["order", ""]["consumers"] == 40
    software = traits["software", TOOL]
    assert (software["consumers"], software["new_consumers"], software["share_before"]) == (40, 40, 0)
    assert f"came from client software {TOOL}" in software["sentence"]


def test_calls_at_even_distances_and_at_one_pace_are_told(client: TestClient) -> None:
    crowd = read(client, "timed")
    assert crowd is not None
    traits = {trait["kind"]: trait for trait in crowd["traits"]}
    even, pace = traits["even"], traits["pace"]
    assert (even["consumers"], even["new_consumers"], even["share_before"]) == (15, 15, 0)
    assert "came at even distances" in even["sentence"]
    assert (pace["consumers"], float(pace["value"])) == (15, pytest.approx(5.66, abs=0.01))
    assert "called about 5.7 times a minute each" in pace["sentence"]
    assert "software" not in traits  # Nobody knows it here.


def test_what_was_always_shared_and_what_has_no_before_is_no_trait(client: TestClient) -> None:
    calm = read(client, "calm")
    assert calm is not None
    assert (calm["consumers"], calm["new_consumers"], calm["traits"]) == (20, 0, [])
    young = read(client, "young")
    assert young is not None
    assert (young["new_consumers"], young["calls_before"], young["traits"]) == (40, 0, [])


def test_of_one_caller_there_is_no_crowd(client: TestClient) -> None:
    assert read(client, "one") is None


def test_later_pages_do_not_ask_again(client: TestClient) -> None:
    first = client.get("/api/v1/alerts/robbed/evidence", params={"limit": 1}).json()
    later = client.get("/api/v1/alerts/robbed/evidence", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert (first["crowd"]["consumers"], later["crowd"]) == (60, None)


def test_the_page_says_it_too(client: TestClient) -> None:
    page = client.get("/alerts/robbed").text
    assert "60 consumers called in its window; 40 of them had not called in the hour before" in page
    assert "made 240 of 440 calls" in page
    assert "came from network 203.0.113.0/24" in page


def test_what_came_from_one_software_can_be_asked_for_again(client: TestClient) -> None:
    asked = client.get("/api/v1/alerts/robbed/evidence").json()["request"]["parameters"]
    found = client.get("/api/v1/calls", params={**asked, "software": TOOL}).json()
    assert found["total"]["calls"] == 240
    consumer = client.get(f"/api/v1/consumers/principal:{1_000:016x}", params={"since": "1h"}).json()
    assert consumer["calls_by_software"] == {TOOL: 12}  # Of two endpoints.
    refused = client.get("/api/v1/calls", params={**asked, "software": TOOL, "resolution": "hour"})
    assert (refused.status_code, "use the resolution" in refused.json()["detail"]) == (422, True)
