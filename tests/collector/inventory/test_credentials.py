"""Possible credentials through a running collector: heads of a sensor in, what the inventory and the rules say out.

Each service of `SERVICES` is a list of calls: path, header lines, status, first address of the clients, and how many.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.collector.risk.judging import start_collector
from tests.collector.risk.traffic import Sensor
from tests.collector.running import make_hello, talk, wrap
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.store

RANDOM = "2775cf09a8f24ce1a310c969ac0159dd"
TENANT = "X-Tenant-Id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301"
PERSON = {"first_name": "Anna", "last_name": "Meier", "email": "anna.meier@mail.example", "birth_date": "1981-02-03"}
Call = tuple[str, list[str], int, str, int]
SERVICES: dict[str, list[Call]] = {
    "asks": [
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 200, "8.8.8.8", 12),
        ("/patients/{n}", [], 401, "9.9.9.9", 4),
        ("/notes/{n}", [f"X-Zorbl: {RANDOM}"], 200, "8.8.8.8", 12),
        ("/catalogue", [f"X-Quuxel: {RANDOM}"], 200, "8.8.8.8", 12),
    ],
    "numbers": [
        ("/comments/{n}", ["Cookie: {n}=IjE3Ig.Zk3Nvw.9sQ2d0JvYkxw7aQbT3u1s8r0XyzAB4"], 200, "8.8.8.8", 12),
        ("/comments/{n}", [], 403, "8.8.8.8", 8),
    ],
    "never": [
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 200, "8.8.8.8", 12),
        ("/patients/{n}", [], 200, "8.8.8.8", 12),
        ("/clients/{n}", [TENANT], 200, "8.8.8.8", 12),
    ],
    "network": [
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 200, "10.1.1.1", 12),
        ("/patients/{n}", [], 403, "9.9.9.9", 12),
    ],
    "refuses": [
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 401, "8.8.8.8", 12),
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 200, "8.8.8.8", 4),
        ("/patients/{n}", [], 401, "8.8.8.8", 12),
    ],
    "partly": [
        ("/patients/{n}", [f"X-Zorbl: {RANDOM}"], 200, "8.8.8.8", 12),
        ("/patients/{n}", [], 401, "8.8.8.8", 12),
        ("/patients/{n}", [], 200, "8.8.8.8", 4),
    ],
    "socket": [
        ("/ws/lobby", ["Authorization: Bearer 0123456789abcdef", "Upgrade: websocket"], 101, "8.8.8.8", 12),
    ],
}

PROVEN = {("asks", "patients"), ("asks", "notes"), ("numbers", "comments")}
RULE = "personal_data_without_authentication"


def _see(sensor: Sensor, service: str, call: Call) -> None:
    path, lines, status, client, count = call
    for number in range(count):
        headers = [line.replace("{n}", str(number)) for line in lines]
        answer = PERSON if status == 200 else ""
        case = {"id": service, "path": path, "headers": headers, "client": client, "answer": answer}
        sensor.see_call(case, number, status=status)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Endpoints by service and template, those with an `open` finding, and what lists and the page show."""
    collector = start_collector(tmp_path_factory.mktemp("credentials"))
    try:
        sensor = Sensor(SERVICES)
        for service, calls in SERVICES.items():
            for call in calls:
                _see(sensor, service, call)
        talk(collector.ready["grpc"], [make_hello(), *(wrap(batch) for batch in sensor.flush())])
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            items = collector.get("/endpoints?limit=500").json()["items"]
            by_name = {(one["service"]["workload"], one["template"].split("/")[1]): one for one in items}
            proven = [by_name.get(name) for name in PROVEN]
            is_proven = all(one is not None and one["authentication"]["level"] == "full" for one in proven)
            findings = collector.get("/findings?limit=500").json()["items"]
            # What was assessed before it was proven is assessed again.
            open_ids = {one["endpoint_id"] for one in findings if one["rule"] == RULE and one["state"] == "open"}
            others = [one for one in items if one not in proven and one["service"]["workload"] != "socket"]
            is_assessed = all(one["id"] in open_ids for one in others)
            if is_proven and is_assessed and not any(one and one["id"] in open_ids for one in proven):
                break
            levels = {name: (one["authentication"]["level"], one["id"] in open_ids) for name, one in by_name.items()}
            assert time.monotonic() < deadline, levels
            time.sleep(0.2)
        yield {
            "endpoints": by_name,
            "open": {name for name, one in by_name.items() if one["id"] in open_ids},
            "consumers": collector.get("/consumers?limit=500").json()["items"],
            "ranked": {
                since: collector.get(f"/endpoints?limit=500&auth=full&since={since}").json()["items"]
                for since in ("1h", "7d")
            },
            "page": collector.get("/endpoints/" + by_name["never", "patients"]["id"]).text,
        }
    finally:
        assert collector.stop() == 0


@pytest.mark.parametrize(
    ("service", "name", "kind", "carrier"),
    [
        ("asks", "patients", "api_key_header", "header {word:"),
        ("asks", "notes", "api_key_header", "header {word:"),
        ("numbers", "comments", "cookie_session", "cookie {integer}"),
    ],
)
def test_what_is_refused_without_and_served_with_is_a_credential_of_the_service(
    found: dict[str, Any], service: str, name: str, kind: str, carrier: str
) -> None:
    authentication = found["endpoints"][service, name]["authentication"]
    assert (authentication["level"], authentication["coverage"]) == ("full", 1.0)
    assert authentication["kinds"] == {kind: 12}
    (carriers,) = authentication["carriers"]
    assert carriers.startswith(carrier)


@pytest.mark.parametrize(
    ("service", "name"),
    [("asks", "catalogue"), *((service, "patients") for service in ("never", "network", "refuses", "partly"))],
)
def test_what_is_not_asked_for_stays_a_possible_credential_and_counts_as_none(
    found: dict[str, Any], service: str, name: str
) -> None:
    authentication = found["endpoints"][service, name]["authentication"]
    assert (authentication["level"], authentication["coverage"]) == ("none", 0.0)
    assert authentication["kinds"]["possible_credential"]
    assert authentication["kinds"].keys() <= {"possible_credential", "none"}


def test_a_known_other_name_is_not_even_possible(found: dict[str, Any]) -> None:
    assert found["endpoints"]["never", "clients"]["authentication"]["kinds"] == {"none": 12}


def test_personal_data_is_found_open_behind_a_possible_credential_only(found: dict[str, Any]) -> None:
    assert {("never", "patients"), ("never", "clients"), ("asks", "catalogue")} <= found["open"]
    assert not found["open"] & PROVEN


def test_a_possible_credential_names_no_consumer(found: dict[str, Any]) -> None:
    kinds = {one["id"].partition(":")[0] for one in found["consumers"]}
    # The socket's bearer token is a credential.
    assert kinds == {"address", "principal"}
    assert sum(one["id"].startswith("principal:") for one in found["consumers"]) == 1


@pytest.mark.parametrize("since", ["1h", "7d"])  # By rows of calls, and by their sums.
def test_lists_rank_by_what_is_proven(found: dict[str, Any], since: str) -> None:
    ranked = {(one["service"]["workload"], one["template"].split("/")[1]) for one in found["ranked"][since]}
    assert ranked >= PROVEN
    assert not {service for service, _ in ranked} & {"never", "network", "refuses", "partly"}


def test_a_websocket_has_the_credential_of_its_handshake(found: dict[str, Any]) -> None:
    (authentication,) = (
        one["authentication"] for (service, _), one in found["endpoints"].items() if service == "socket"
    )
    assert authentication["level"] == "full"
    assert authentication["kinds"] == {"bearer_opaque": 12}
    assert authentication["unseen_calls"] == 0
    assert authentication["carriers"] == {"header authorization bearer": 12}


def test_the_api_shows_where_a_possible_credential_is(found: dict[str, Any]) -> None:
    assert "possible_credential" in found["page"] and "header {word:" in found["page"]
