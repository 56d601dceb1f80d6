"""Coverage over the API and as a page, against the embedded store."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.core.limits import DetectionProgress, Limit
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, make_coverage, write_watch
from tests.collector.states import create_state

pytestmark = pytest.mark.store

TOKEN = "correct-horse"
SORTS = (
    *("bytes", "connections", "calls", "estimated_calls", "joined_late", "lost_calls"),
    *("port", "service", "node"),
)
HOSTILE = "<script>alert(1)</script>"
HOUR = 3_600


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    registry = write_watch(store)
    age = NOW % HOUR
    for hours, total in ((3, 10), (2, 30), (1, 30), (0, 70)):  # Totals of one run of a sensor.
        store.insert_records(
            "coverage_rows",
            [
                make_coverage("api", 80, 1, 1, "::", 1, total, total * 10, "", age + hours * HOUR - 60, node="node-2"),
                make_coverage("api", 443, 1, 2, "::", 1, total * 2, 0, HOSTILE, age + hours * HOUR - 60, node="node-2"),
            ],
        )
    # It started anew within the last hour.
    store.insert_records(
        "coverage_rows", [make_coverage("api", 80, 1, 1, "::", 1, 5, 50, "", 1, node="node-2", boot_id="boot-2")]
    )
    # What two sensors of a node report of the times before their starts, each several times.
    for boot_id, ages, gap_ms in (("boot-2", (3 * HOUR, 2 * HOUR), 16_900), ("boot-3", (HOUR, 0), 650)):
        for hours in ages:
            gap = make_coverage("node", 0, 3, 9, "time without capture", 0, 1, 0, "", age + hours - 60, node="node-3")
            store.insert_records("coverage_rows", [replace(gap, boot_id=boot_id, uncaptured_ms=gap_ms)])
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            registry=registry,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=TOKEN, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            limits=lambda: [Limit(name="sensors", used=20_000, maximum=20_000, then="Others are not listed.")],
            progress=lambda: DetectionProgress(evaluated_calls=90, late_calls=10, waiting_batches=3),
        )
    )
    with TestClient(app, headers={"authorization": f"Bearer {TOKEN}"}) as opened:
        yield opened
    store.close()


def test_limits_and_calls_that_were_too_late_are_said(client: TestClient) -> None:
    found = client.get("/api/v1/coverage").json()
    assert found["detection"] == {"evaluated_calls": 90, "late_calls": 10, "waiting_batches": 3}
    assert found["limits"] == [
        {"name": "sensors", "used": 20_000, "maximum": 20_000, "is_reached": True, "then": "Others are not listed."}
    ]
    assert " sensors: Others are not listed." in client.get("/coverage").text


def test_share_is_of_listening_ports_that_are_like_http(client: TestClient) -> None:
    found = client.get("/api/v1/coverage").json()
    by_node = {node["node"]: node for node in found["nodes"]}
    share = by_node["node-1"]["share"]
    assert (share["connections"], share["read_connections"]) == (100 + 300 + 2 + 100, 102)
    assert share["read_connections_ratio"] == pytest.approx(102 / 502)
    assert share["read_bytes_ratio"] == pytest.approx(910_000 / 1_010_000)
    node = by_node["node-1"]
    assert (node["ports"], node["read_ports"], node["unreadable_ports"], node["unseen_ports"]) == (5, 2, 1, 1)
    assert (node["outbound_hosts"], node["calls"], node["estimated_calls"]) == (1, 204, 900)
    assert by_node["node-2"]["share"]["read_connections_ratio"] == 1.0
    assert found["cluster"]["share"]["connections"] == 507
    assert found["cluster"]["ports"] == 6


def test_losses_say_what_they_mean_and_what_to_do(client: TestClient) -> None:
    losses = client.get("/api/v1/coverage").json()["losses"]
    assert {loss["reason"]: loss["count"] for loss in losses} == {"ring_full": 10, "malformed": 5}
    (ring,) = [loss for loss in losses if loss["reason"] == "ring_full"]
    assert "ring_bytes" in ring["advice"]


def test_what_is_never_read_is_always_listed(client: TestClient) -> None:
    """The seed has a port of QUIC and a unix socket; the other kinds are there with zeros."""
    spots = client.get("/api/v1/coverage").json()["blind_spots"]
    figures = {spot["kind"]: (spot["nodes"], spot["places"], spot["connections"], spot["bytes"]) for spot in spots}
    quic, unix = (
        client.get("/api/v1/coverage/ports", params={"protocol": protocol}).json()["items"]
        for protocol in ("quic", "unix")
    )
    assert figures == {
        "http3": (1, 1, quic[0]["connections"], quic[0]["bytes"]),
        "unix": (1, 1, unix[0]["connections"], 0),
        "sockmap": (0, 0, 0, 0),
        "kernel_tls": (0, 0, 0, 0),
        "exclusions": (0, 0, 0, 0),
    }
    assert quic[0]["connections"] > 0
    page = client.get("/coverage").text
    for spot in spots:
        assert spot["meaning"] in page, spot["kind"]
    assert page.count(">none<") == 3


def test_ports_of_the_last_report_only(client: TestClient) -> None:
    items = client.get("/api/v1/coverage/ports", params={"node": "node-1"}).json()["items"]
    read = {(item["service"]["workload"], item["service"]["port"], item["protocol"]): item["reading"] for item in items}
    assert read == {
        ("nginx", 80, "http"): "read",
        ("nginx", 443, "encrypted"): "unreadable",
        ("nginx", 443, "quic"): "unreadable",
        ("sshd", 22, "silent"): "silent",
        ("unknown", 8080, "http"): "read",
        ("php", 0, "unix"): "unseen",
        ("shop", 443, "encrypted"): "unreadable",
    }
    (outbound,) = [item for item in items if item["role"] == "outbound"]
    assert outbound["address"] == "192.0.2.9"
    assert outbound["handshakes"]["server_names"] == {"shop.example": 2}
    assert outbound["handshakes"]["weaknesses"] == {"TLS 1.0 is deprecated (RFC 8996)": 1}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_hold_every_port_once_in_one_order(client: TestClient, sort: str, order: str) -> None:
    asked = {"sort": sort, "order": order}
    whole = client.get("/api/v1/coverage/ports", params=asked).json()
    paged, cursor = [], ""
    while cursor is not None:
        answer = client.get("/api/v1/coverage/ports", params={**asked, "limit": 3, "cursor": cursor}).json()
        paged += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert paged == [item["id"] for item in whole["items"]]
    assert len(set(paged)) == whole["total"] == 9


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"q": "shop.example"}, 2),
        ({"q": "php.sock unix"}, 1),
        ({"service": "nginx"}, 3),
        ({"service": "nginx:443"}, 2),
        ({"protocol": "http"}, 3),
        ({"protocol": "unknown"}, 0),
        ({"reading": "unreadable"}, 3),
        ({"reading": "unseen"}, 1),
        ({"role": "outbound"}, 1),
        ({"role": "node"}, 1),
        ({"http_like": "false"}, 3),
        ({"node": "node-2"}, 1),
        ({"q": "%' OR 1=1 --"}, 0),
    ],
)
def test_filters(client: TestClient, asked: dict[str, str], count: int) -> None:
    answer = client.get("/api/v1/coverage/ports", params=asked).json()
    assert len(answer["items"]) == answer["total"] == count


def test_a_port_says_since_when(client: TestClient) -> None:
    (item,) = client.get("/api/v1/coverage/ports", params={"node": "node-2"}).json()["items"]
    first = datetime.fromisoformat(item["first_seen"])
    assert first == datetime.fromtimestamp(NOW - NOW % HOUR - 3 * HOUR + 60, UTC)  # Its first report, not its hour.


def test_history_is_what_each_hour_added(client: TestClient) -> None:
    found = client.get("/api/v1/coverage/history", params={"node": "node-2", "since": "24h"}).json()
    assert found["step_seconds"] == HOUR
    shares = [(point["share"]["connections"], point["share"]["read_connections"]) for point in found["points"]]
    # 10 read and 20 encrypted; 20 and 40 more; nothing; 40 and 80 more and 5 of the new run.
    assert shares == [(30, 10), (60, 20), (0, 0), (125, 45)]


def test_time_without_capture_stays_when_the_next_sensor_starts(client: TestClient) -> None:
    """The second sensor's gap, of 16.9 s, was in no answer once a third one had started."""
    points = client.get("/api/v1/coverage/history", params={"node": "node-3", "since": "24h"}).json()["points"]
    assert [point["uncaptured_seconds"] for point in points if point["uncaptured_seconds"]] == [16.9, 0.65]
    assert all(point["share"]["connections"] == 0 and point["calls"] == 0 for point in points)


def test_other_parameters_are_refused(client: TestClient) -> None:
    assert client.get("/api/v1/coverage/ports", params={"sort": "size"}).status_code == 422
    assert client.get("/api/v1/coverage/ports", params={"cursor": "x"}).status_code == 422
    assert client.get("/api/v1/coverage/history", params={"since": "2h"}).status_code == 422


def test_page_shows_the_number_and_hides_no_blind_spot(client: TestClient) -> None:
    answer = client.get("/coverage")
    assert answer.status_code == 200
    for words in ("/run/php.sock", "192.0.2.9", "shop.example", "RFC 8996", "quic", "ring_bytes", "21 %"):
        assert words in answer.text, words
    assert "<script>alert" not in answer.text


def test_page_says_what_it_cannot(client: TestClient) -> None:
    refused = client.get("/coverage", params={"sort": "size"})
    assert refused.status_code == 422
    assert "parameter &#39;sort&#39;" in refused.text or "parameter 'sort'" in refused.text
    assert "No port matches" in client.get("/coverage", params={"q": "nothing-like-it"}).text


def test_handshakes_are_json(client: TestClient) -> None:
    text = client.get("/api/v1/coverage/ports", params={"protocol": "encrypted"}).text
    assert json.loads(text)["items"][0]["handshakes"]["count"] == 2
