"""The newcomer's minutes: `scripts/run --demo` shows what the product does. The leak is the gravest
risk, three kinds of alerts are open, five services call each other, and the scraper is stopped.
"""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.live.program import Program
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


@pytest.fixture
def demo(capture_host: None, tmp_path: Path) -> Program:
    """As a person starts it; stopped by the test."""
    return Program("demo", [RUN, "--demo", "--headless", "--seed", "7"], tmp_path / "demo.log")


def test_the_demo_shows_leak_attacks_services_and_a_block(demo: Program) -> None:
    try:
        started = demo.wait_for("started", START_SECONDS)
        commands = demo.wait_for("next", START_SECONDS)["commands"]
        demo.wait_for("flagged", ACTS_SECONDS)
        demo.wait_for("enforced", ACTS_SECONDS)
        inventory = Inventory(started["url"])
        wait_until(lambda: len(list_kinds(inventory)) >= 4, "four kinds of alerts", seconds=ACTS_SECONDS)
        assert list_kinds(inventory) >= {"unauthenticated_sensitive_data", "credential_stuffing", "injection"}
        assert {("personal_data_without_authentication", "critical"), ("whole_card_numbers", "high")} <= {
            (one["rule"], one["severity"]) for one in inventory.list_items("/findings")
        }
        assert read_gravest(inventory) == (LEAK, "critical", "external")
        assert {one["service"]["workload"] for one in inventory.list_items("/endpoints")} >= SERVICES
        edges = {(edge["client"], edge["workload"]) for edge in inventory.get("/map")["edges"]}
        assert edges >= EDGES
        blocks = inventory.get("/blocks")["items"]
        assert [one["state"] for one in blocks if one["reason"].startswith("reads")] == ["live"]
        for command in commands:
            subprocess.run(shlex.split(command), cwd=ROOT, check=True, capture_output=True, timeout=60)
        inventory.close()
    finally:
        code = demo.stop(60)
    events = [json.loads(line)["event"] for line in demo.log_path.read_text().splitlines() if line.startswith("{")]
    assert (code, events[-3:]) == (0, ["lifted", "seen", "stopped"])


def list_kinds(inventory: Inventory) -> set[str]:
    """Kinds of the open alerts."""
    return {alert["kind"] for alert in inventory.list_items("/alerts", state="open")}


def read_gravest(inventory: Inventory) -> tuple[str, str, str]:
    """Template, level of risk and exposure of the first row by risk."""
    row = inventory.get("/endpoints", sort="risk", limit=1)["items"][0]
    return row["template"], row["risk"]["level"], row["exposure"]["level"]


@pytest.mark.full("collector.detection")
def test_honest_clients_are_not_accused(capture_host: None) -> None:
    command = [RUN, "--demo", "--headless", "--no-scraper", "--seed", "7", "--seconds", str(HONEST_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, cwd=ROOT, check=True)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {one["kind"] for one in events if one["event"] == "alert"} <= {"unauthenticated_sensitive_data"}
    assert [one["endpoints"] >= 6 for one in events if one["event"] == "seen"] == [True]
