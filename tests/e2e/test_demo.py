"""The newcomer's minute: `scripts/run --demo` shows an inventory, an endpoint served without credentials, and flags
the scraper.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ROOT = Path(__file__).parent.parent.parent
DEMO_SECONDS = 50


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
def test_honest_clients_raise_nothing(capture_host: None) -> None:
    events = run_demo("--no-scraper")
    assert events["seen"][0]["endpoints"] >= 6
    assert "alert" not in events
