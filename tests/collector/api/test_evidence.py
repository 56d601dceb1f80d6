"""The rows behind an alert, and the question that gives the same, against the embedded store."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector.alerting.alert import AlertKind
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.disk import Eviction
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

ROW = int(NOW) // 60 * 60
HOUR = int(NOW) // 3_600 * 3_600
PRINCIPAL = f"principal:{77:016x}"
READER, REFUSED = f"principal:{66:016x}", f"principal:{67:016x}"
EMAIL_OF_RESPONSE = 2 * 64 + 1
HOSTILE = "<script>alert(1)</script>"
DAY = 86_400


def at(minutes_ago: int) -> float:
    """The begin of a row."""
    return float(ROW - 60 * minutes_ago)


ALERTS = (
    make_alert("pair", consumer=PRINCIPAL, window_start=at(10), window_end=at(5), opened_at=at(5) + 3, calls=50),
    make_alert("endpoint", kind=AlertKind.VOLUME_ENDPOINT, consumer="", window_start=at(6), window_end=at(5), calls=30),
    make_alert(
        "errors",
        kind=AlertKind.ERRORS,
        consumer="",
        window_start=at(6),
        window_end=at(5),
        measure=2 / 3,
        measure_limit=0.1,
    ),
    make_alert("service", kind=AlertKind.VOLUME_SERVICE, consumer="", window_start=at(6), window_end=at(1), calls=74),
    make_alert("within", consumer=PRINCIPAL, window_start=at(5) + 10, window_end=at(5) + 20),
    make_alert(
        "login",
        kind=AlertKind.CREDENTIAL_STUFFING,
        endpoint_id="ep0002",
        window_start=at(10),
        window_end=at(2) + 50,
        measure=40.0,
        measure_limit=30.0,
    ),
    make_alert(
        "rotation",
        kind=AlertKind.CREDENTIAL_ROTATION,
        endpoint_id="",
        consumer="address:10.0.0.5",
        window_start=at(10),
        window_end=at(2) + 50,
        measure=21.0,
        measure_limit=15.0,
    ),
    make_alert("probing", kind=AlertKind.BOLA, consumer=PRINCIPAL, window_start=at(10), window_end=at(2)),
    make_alert(
        "reader",
        kind=AlertKind.ENUMERATION,
        endpoint_id="ep0003",
        consumer=READER,
        window_start=at(20),
        window_end=at(19),
    ),
    make_alert(
        "refused",
        kind=AlertKind.ENUMERATION,
        endpoint_id="ep0004",
        consumer=REFUSED,
        window_start=at(20),
        window_end=at(19),
    ),
    make_alert("sensor", kind=AlertKind.SENSOR_SILENT, endpoint_id="", consumer="", node="n", title=HOSTILE),
    make_alert("old", opened_at=NOW - 3 * DAY, window_start=HOUR - 3 * DAY, window_end=HOUR - 3 * DAY + 300),
    make_alert(
        "dropped",
        opened_at=HOUR - 30 * 3_600 + 90,
        window_start=float(HOUR - 30 * 3_600),
        window_end=HOUR - 30 * 3_600 + 60.0,
    ),
    make_alert("gone", opened_at=NOW - 200 * DAY, window_start=NOW - 200 * DAY, window_end=NOW - 200 * DAY),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(store: EmbeddedStore) -> Iterator[TestClient]:
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}")
    login = seed.endpoint(2, "POST", "/login")
    for minutes_ago in range(6, 11):
        named = {"principal": 77, "principal_kind": 1, "objects": [minutes_ago, 1], "objects_count": 2}
        named["credential"] = 900 + minutes_ago  # Renewed each minute.
        seed.calls(orders, 10, minutes_ago=minutes_ago, records_returned=20, **named)
    seed.calls(orders, 20, minutes_ago=6, client_address="10.0.0.5", status_code=404, credential=5)
    seed.calls(orders, 7, minutes_ago=6, hop=2, principal=77)  # A proxy's rows, and a client's, are judged by nobody.
    seed.calls(orders, 9, minutes_ago=6, role=2, principal=77)
    seed.calls(login, 4, minutes_ago=3, principal=77, status_code=500)
    seed.calls(login, 40, minutes_ago=2, status_code=401)
    seed.calls(login, 1, minutes_ago=1, principal=88, principal_kind=1)  # Of the same address.
    cards = seed.endpoint(3, "GET", "/cards/{card_id}")
    seed.calls(cards, 10, minutes_ago=20, principal=55, principal_kind=1)  # 1,000 bytes each.
    found = {"data": {"1": [EMAIL_OF_RESPONSE], "2": [3]}, "response_bodies_read": 4}
    seed.calls(cards, 30, minutes_ago=20, response_bytes=27_000, principal=66, principal_kind=1, **found)
    seed.calls(cards, 10, minutes_ago=19, principal=66, principal_kind=1, status_code=403, response_bytes=900)
    keys = seed.endpoint(4, "GET", "/keys/{key_id}")
    seed.calls(keys, 10, minutes_ago=20, principal=55, principal_kind=1)
    seed.calls(keys, 20, minutes_ago=20, response_bytes=1_800, principal=67, principal_kind=1, response_bodies_read=2)
    seed.write(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(*ALERTS),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, base_url="http://127.0.0.1:8080") as opened:
        yield opened


def read(client: TestClient, alert_id: str, **asked: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/alerts/{alert_id}/evidence", params=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_pairs_rows_sum_to_what_was_observed(client: TestClient) -> None:
    found = read(client, "pair")
    assert (found["resolution_seconds"], found["is_aligned"], found["notes"]) == (60, True, [])
    assert [row["calls"] for row in found["items"]] == [10] * 5
    window = found["window"]
    assert (window["calls"], window["records_returned"], window["response_bytes"]) == (50, 100, 50_000)
    assert window["objects"] == 6  # Five of a minute each, and one of all.
    assert found["window_calls_per_second"] == pytest.approx(50 / 300)
    assert (found["unit"], found["observed"], found["expected"], found["limit"]) == ("calls a second", 10.4, 0.26, 2.0)


def test_an_endpoints_rows_are_everybodys_but_proxies_and_clients(client: TestClient) -> None:
    found = read(client, "endpoint")
    assert found["window"]["calls"] == 30
    assert found["window"]["client_errors"] == 20
    assert sum(row["calls"] for row in found["items"]) == 70


def test_rows_of_errors_are_those_of_the_window_with_the_share_that_failed(client: TestClient) -> None:
    found = read(client, "errors")
    assert (found["is_aligned"], found["window"]["calls"], found["window"]["client_errors"]) == (True, 30, 20)
    assert (found["unit"], found["observed"], found["limit"]) == ("share of calls that fail", 2 / 3, 0.1)
    assert "several endpoints" in found["notes"][0]


def test_a_services_rows_are_those_of_all_its_endpoints(client: TestClient) -> None:
    found = read(client, "service")
    assert (found["is_aligned"], found["window"]["calls"]) == (True, 74)  # 30 of orders, 44 of the login.
    assert found["request"]["parameters"]["whole_service"] == "true"
    assert (found["unit"], found["window_calls_per_second"]) == ("calls a second", pytest.approx(74 / 300))


def test_rows_of_rotation_are_those_of_the_address_and_say_how_many_credentials(client: TestClient) -> None:
    found = read(client, "rotation")
    assert found["request"]["parameters"]["address"] == "10.0.0.5"
    assert [(row["calls"], row["credentials"]) for row in found["items"]] == [(20, 1)]
    pair = read(client, "pair")
    assert [row["credentials"] for row in pair["items"]] == [1] * 5
    assert (pair["window"]["credentials"], read(client, "endpoint")["window"]["credentials"]) == (5, 2)


@pytest.mark.parametrize("alert_id", ["pair", "endpoint", "service", "login", "rotation", "probing", "old"])
def test_the_request_gives_the_same_rows(client: TestClient, alert_id: str) -> None:
    found = read(client, alert_id)
    again = client.get(found["request"]["path"], params=found["request"]["parameters"]).json()
    assert again["items"] == found["items"]
    assert again["total"]["calls"] == sum(row["calls"] for row in again["items"])
    assert again["resolution_seconds"] == found["resolution_seconds"]
    # And of the window alone what the window says.
    start, end = found["window"]["start"], found["window"]["end"]
    asked = {**found["request"]["parameters"], "start": start, "end": end}
    assert client.get(found["request"]["path"], params=asked).json()["total"] == found["window"]


def test_pages_hold_every_row_once(client: TestClient) -> None:
    whole = read(client, "pair")["items"]
    paged: list[object] = []
    cursor: str | None = ""
    while cursor is not None:
        page = read(client, "pair", limit=2, **({"cursor": cursor} if cursor else {}))
        paged += page["items"]
        cursor = page["next_cursor"]
    assert paged == whole and len(whole) == 5
    other = read(client, "pair", limit=2)["next_cursor"]
    assert client.get("/api/v1/alerts/endpoint/evidence", params={"cursor": other}).status_code == 422


def test_a_guesser_is_its_address_and_a_prober_all_its_endpoints(client: TestClient) -> None:
    login = read(client, "login")
    assert [row["calls"] for row in login["items"]] == [4, 40, 1]
    assert (login["unit"], login["observed"], login["expected"], login["limit"]) == ("refused logins", 40.0, None, 30.0)
    assert login["window"]["client_errors"] == 40
    assert "older ones count less" in login["notes"][0]
    probing = read(client, "probing")
    assert sum(row["calls"] for row in probing["items"]) == 54
    assert sum(row["errors"] for row in probing["items"]) == 4


def test_whether_who_read_what_is_others_was_answered_is_said_by_status_size_and_samples(client: TestClient) -> None:
    """One got what others get. The other was told no with status 200, in a tenth of the bytes."""
    assert read(client, "reader")["notes"][-1] == (
        "75% of its calls in these rows were answered 2xx, with 900 bytes each, 90% of what others are answered "
        "there. Of 4 bodies that were read some held email."
    )
    assert read(client, "refused")["notes"][-1] == (
        "100% of its calls in these rows were answered 2xx, with 90 bytes each, 9% of what others are answered there. "
        "2 bodies that were read held no sensitive data."
    )
    assert not any("answered 2xx" in note for note in read(client, "pair")["notes"])


def test_what_the_rows_cannot_say_is_said(client: TestClient) -> None:
    within = read(client, "within")
    assert within["window_calls_per_second"] is None
    assert "within rows of 60 s" in within["notes"][0]
    sensor = read(client, "sensor")
    assert (sensor["items"], sensor["window"], sensor["request"]) == ([], None, None)
    assert "about no calls" in sensor["notes"][0]
    old = read(client, "old")
    assert old["resolution"] == "hour"
    assert "kept for 48 h" in old["notes"][0]
    gone = read(client, "gone")
    assert gone["items"] == []
    assert gone["notes"][0] == "Rows are kept for 90 days; those of this alert are gone."


def test_rows_that_the_disk_limit_took_are_missed(client: TestClient, store: EmbeddedStore) -> None:
    of_hour = datetime.fromtimestamp(HOUR - 30 * 3_600, UTC)
    assert read(client, "dropped")["resolution"] == "minute"
    partitions = [("rows_minute", f"{of_hour:%Y-%m-%d %H:%M:%S}"), ("rows_hour", f"{of_hour:%Y-%m-%d}")]
    for number, (table, partition) in enumerate(partitions):
        gone = Eviction(time=of_hour, table_name=table, partition=partition, rows=1, bytes=1, reason="full")
        store.insert_records("evictions", [gone])
        found = read(client, "dropped")
        assert (found["resolution"], len(found["notes"])) == ("hour", 2 + number)
    assert found["notes"][1] == "The disk limit dropped rows of this time."


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("alerts/nothing/evidence", 404, "look it up in /api/v1/alerts"),
        ("alerts/pair/evidence?cursor=x", 422, "start again without it"),
        ("alerts/pair/evidence?limit=501", 422, "use 500 or less"),
        ("alerts/pair/evidence?since=1h", 422, "does not exist"),
        ("calls?start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z", 422, "name at least one"),
        ("calls?endpoint=ep0001&start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", 422, "a time after 'start'"),
        ("calls?endpoint=ep0001&start=2026-01-01T00:00:00&end=2026-01-02T00:00:00Z", 422, "timezone"),
        ("calls?endpoint=ep0001&end=2026-01-02T00:00:00Z", 422, "'start' is missing"),
        ("calls?consumer=x&start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z", 422, "has no known kind"),
    ],
)
def test_bad_questions_are_one_sentence(client: TestClient, path: str, status: int, words: str) -> None:
    answer = client.get(f"/api/v1/{path}")
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.json()["detail"]


def test_any_time_that_the_store_knows_is_answered(client: TestClient) -> None:
    asked = {"endpoint": "nothing' OR 1=1 --", "start": "1970-01-01T00:00:00Z", "resolution": "hour"}
    answer = client.get("/api/v1/calls", params={**asked, "end": "2105-12-31T23:59:59Z"})
    assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_the_page_of_an_alert_shows_its_rows_and_runs_nothing(client: TestClient) -> None:
    page = client.get("/alerts/pair").text
    assert 'id="evidence"' in page and "Observed 10.4 calls/s, expected 15.6 calls/min, limit 2.0 calls/s." in page
    assert page.partition('id="evidence"')[2].count("<tr>") == 1 + 1 + 5  # Heading, window, rows.
    assert 'id="query" href="/api/v1/calls?' in page and "apidae get calls --endpoint" in page
    assert "Observed and expected" in page and "2xx" in page
    sensor = client.get("/alerts/sensor").text
    assert HOSTILE not in sensor and "about no calls" in sensor
    assert client.get("/alerts/nothing").status_code == 404
    assert 'href="/alerts/pair"' in client.get("/alerts").text


def test_an_alert_says_what_was_expected_what_was_answered_and_which_objects(client: TestClient) -> None:
    found = read(client, "pair")["explanation"]
    series = found["series"]
    assert (series["unit"], series["step_seconds"], series["expected_from"]) == ("calls a second", 60, "detector")
    assert {(point["expected"], point["limit"]) for point in series["points"]} == {(0.26, 2.0)}
    assert sum(point["calls"] for point in series["points"]) == sum(
        row["calls"] for row in read(client, "pair")["items"]
    )
    assert sum(found["statuses"].values()) == read(client, "pair")["window"]["calls"]
    assert found["addresses"] and read(client, "sensor")["explanation"] is None
    failing = read(client, "errors")["explanation"]["series"]
    assert failing["unit"] == "share of calls that failed" and {point["limit"] for point in failing["points"]} == {0.1}
