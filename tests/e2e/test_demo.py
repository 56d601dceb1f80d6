"""The newcomer's minute: `scripts/run --demo` shows an inventory, an export without credentials as its gravest risk,
and flags the scraper.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.demo.stage import Stage
from tests.e2e.conftest import Product
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ROOT = Path(__file__).parent.parent.parent
DEMO_SECONDS = 50
OPEN_DATA = "personal_data_without_authentication"


def run_demo(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """The demo for a while; its events by name."""
    return run("--demo", "--seconds", str(DEMO_SECONDS), "--seed", "7", *arguments)


def run(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """`scripts/run` without its table; its events by name."""
    command = [str(ROOT / "scripts/run"), "--headless", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_SECONDS + 120, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    events: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            events.setdefault(event["event"], []).append(event)
    return events


def test_a_newcomer_sees_inventory_exposure_and_alert(capture_host: None) -> None:
    run("--seconds", "1")  # The first start compiles.
    events = run_demo()
    seen = events["seen"][0]
    assert seen["endpoints"] >= 6
    assert seen["without_credentials"] >= 1
    assert len(events["flagged"]) == 1


@pytest.mark.full("collector.detection")
def test_honest_clients_are_not_accused(capture_host: None) -> None:
    events = run_demo("--no-scraper")
    assert events["seen"][0]["endpoints"] >= 6
    assert {one["kind"] for one in events.get("alert", ())} <= {"unauthenticated_sensitive_data"}


def test_the_export_without_credentials_is_the_gravest_risk(product: Product, tmp_path: Path) -> None:
    _, address = product.start_collector(constants={"collector.server.compose.RISK_SECONDS": 1})
    sensor = product.start_sensor(address)
    inventory = product.open_inventory(address)
    stage = Stage(tmp_path, seed=7)
    try:
        stage.start_services()
        stage.start_clients()
        wait_until(lambda: inventory.list_items("/findings", rule=OPEN_DATA), "the finding")
        wait_until(lambda: len(inventory.list_items("/endpoints")) >= 6, "the inventory of the demo")
    finally:
        stage.stop()
    assert sensor.stop() == 0, sensor.log_tail()
    gravest = inventory.get("/endpoints", sort="risk", limit=1)["items"][0]
    assert (gravest["template"], gravest["risk"]["level"]) == ("/internal/users/{user_id}/export", "critical")
    found = {(one["rule"], one["severity"]) for one in inventory.list_items("/findings")}
    assert (OPEN_DATA, "critical") in found
    assert {rule for rule, _ in found} == {OPEN_DATA, "excessive_data"}
