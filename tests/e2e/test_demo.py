"""The newcomer's minutes: `scripts/run --demo` shows what the product does. The leak is the gravest
risk, three kinds of alerts are open, five services call each other, and the scraper is stopped. A Prometheus that
reads its collector and its sensor has data for each panel of the chart's dashboard.
"""

import json
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from collector.trust.authority import make_authority, write_key
from scripts.live.program import Program
from scripts.ports import take_port
from tests.deploy.prometheus import ask, list_questions, run_prometheus
from tests.e2e.inventory import Inventory
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ROOT = Path(__file__).parent.parent.parent
RUN = str(ROOT / "scripts/run")
START_SECONDS = 180  # The first start compiles.
ACTS_SECONDS = 120
HONEST_SECONDS = 50
EDGES = {("gateway", "orders"), ("orders", "payments"), ("orders", "stock"), ("accounts", "users"), ("report", "users")}
LEAK = "/internal/users/{user_id}/export"
SERVICES = {"gateway", "accounts", "orders", "payments", "stock", "users"}
# The demo's sensor comes without a certificate.
NOT_IN_THE_DEMO: Final = frozenset({"apidae_collector_sensor_certificate_left_seconds"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One that runs, with the address of its web page and that of its sensor's metrics."""

    program: Program
    url: str
    sensor: str


@pytest.mark.full("collector.detection")
def test_honest_clients_are_not_accused(capture_host: None) -> None:
    command = [RUN, "--demo", "--headless", "--no-scraper", "--seed", "7", "--seconds", str(HONEST_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, cwd=ROOT, check=True)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {one["kind"] for one in events if one["event"] == "alert"} <= {"unauthenticated_sensitive_data"}
    assert [one["endpoints"] >= 6 for one in events if one["event"] == "seen"] == [True]


@pytest.fixture(scope="module")
def demo(capture_host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """As a person starts it; with TLS between sensor and collector, a receiver of alerts, and the sensor's metrics.
    The test of what it shows stops it."""
    directory, authority = tmp_path_factory.mktemp("demo"), make_authority(time.time())
    certificate, key = directory / "ca.crt", directory / "ca.key"
    assert authority.key is not None
    certificate.write_bytes(authority.bundle)
    key.write_bytes(write_key(authority.key))
    listen = f"127.0.0.1:{take_port()}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        notifier = {"kind": "syslog", "url": f"udp://127.0.0.1:{receiver.getsockname()[1]}"}
        environment = {
            "APIDAE_COLLECTOR_CA_CERT_FILE": str(certificate),
            "APIDAE_COLLECTOR_CA_KEY_FILE": str(key),
            "APIDAE_COLLECTOR_NOTIFIERS": json.dumps([notifier]),
            "APIDAE_SENSOR_COLLECTOR_CA_FILE": str(certificate),
            "APIDAE_SENSOR_METRICS_LISTEN": listen,
        }
        program = Program("demo", [RUN, "--demo", "--headless", "--seed", "7"], directory / "demo.log", environment)
        try:
            url = program.wait_for("started", START_SECONDS)["url"]
            yield Demo(program=program, url=url, sensor=listen)
        finally:
            program.stop(60)


def test_a_prometheus_has_data_for_each_panel_of_the_dashboard(demo: Demo, tmp_path: Path) -> None:
    for path, body in (("/metrics/endpoints", {"query": "sort=risk"}), ("/coverage/targets", {"ratio": 0.9})):
        httpx.post(f"{demo.url}/api/v1{path}", json=body).raise_for_status()
    questions = list_questions()
    assert len(questions) > 30 and {expression for _, expression in questions} > NOT_IN_THE_DEMO
    with run_prometheus((demo.url.removeprefix("http://"), demo.sensor), tmp_path) as prometheus:

        def list_empty() -> list[tuple[str, str]]:
            return [
                (title, expression)
                for title, expression in questions
                if expression not in NOT_IN_THE_DEMO and not ask(prometheus, "query", query=expression)["result"]
            ]

        wait_until(lambda: not list_empty(), "each panel has data", seconds=ACTS_SECONDS)
        targets = ask(prometheus, "targets")["activeTargets"]
        assert [(one["health"], one["lastError"]) for one in targets] == [("up", "")] * 2
        rules = ask(prometheus, "rules")["groups"][0]["rules"]
        assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_the_demo_shows_leak_attacks_services_and_a_block(demo: Demo) -> None:
    try:
        commands = demo.program.wait_for("next", START_SECONDS)["commands"]
        demo.program.wait_for("flagged", ACTS_SECONDS)
        demo.program.wait_for("enforced", ACTS_SECONDS)
        inventory = Inventory(demo.url)
        wait_until(lambda: len(list_kinds(inventory)) >= 4, "four kinds of alerts", seconds=ACTS_SECONDS)
        assert list_kinds(inventory) >= {"unauthenticated_sensitive_data", "credential_stuffing", "injection"}
        assert {("personal_data_without_authentication", "critical"), ("whole_card_numbers", "high")} <= {
            (one["rule"], one["severity"]) for one in inventory.list_items("/findings")
        }
        assert read_gravest(inventory) == (LEAK, "critical", "external")
        assert {one["service"]["workload"] for one in inventory.list_items("/endpoints")} >= SERVICES
        wait_until(lambda: list_edges(inventory) >= EDGES, "five services call each other")
        blocks = inventory.get("/blocks")["items"]
        assert [one["state"] for one in blocks if one["reason"].startswith("reads")] == ["live"]
        for command in commands:
            subprocess.run(shlex.split(command), cwd=ROOT, check=True, capture_output=True, timeout=60)
        inventory.close()
    finally:
        code = demo.program.stop(60)
    events = [
        json.loads(line)["event"] for line in demo.program.log_path.read_text().splitlines() if line.startswith("{")
    ]
    assert (code, events[-3:]) == (0, ["lifted", "seen", "stopped"])


def list_kinds(inventory: Inventory) -> set[str]:
    """Kinds of the open alerts."""
    return {alert["kind"] for alert in inventory.list_items("/alerts", state="open")}


def list_edges(inventory: Inventory) -> set[tuple[str, str]]:
    """Clients and the workloads that they call."""
    return {(edge["client"], edge["workload"]) for edge in inventory.get("/map")["edges"]}


def read_gravest(inventory: Inventory) -> tuple[str, str, str]:
    """Template, level of risk and exposure of the first row by risk."""
    row = inventory.get("/endpoints", sort="risk", limit=1)["items"][0]
    return row["template"], row["risk"]["level"], row["exposure"]["level"]
