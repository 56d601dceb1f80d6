"""The lab of AI risks through the running product: each attack becomes an alert, a finding or an entry of a list. No
canary of prompts, arguments, results and names of files is in anything that leaves the node."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from scripts.live.host import APIDAE
from scripts.live.program import Program
from tests.e2e.ai_lab import CANARIES, CASES, PROXY, Agent, Lab, open_lab
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.test_bodies import dump_store, read_text
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.describe", "collector.inventory", "collector.detection", "collector.risk"),
]


ENFORCEMENT = "[enforcement]\nenabled = true\nmax_call_share = 1.0\n"


@pytest.fixture(scope="module")
def programs(
    product: Product, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, Program, Program]]:
    """The lab, with sensor and collector."""
    collector, address = product.start_collector(
        "--sensitivity",
        "paranoid",
        constants={
            "collector.server.compose.RISK_SECONDS": 2,
            "collector.detection.changes.mcp.LEARNING_SECONDS": 0,
            "collector.detection.changes.mcp.SETTLED_SECONDS": 0,
        },
    )
    learning = {"sensor.describe.attacks.ssrf.LEARNING_NS": 0}
    config = tmp_path_factory.mktemp("settings") / "sensor.toml"
    config.write_text(ENFORCEMENT)
    options = ("--config", str(config), "--trusted-proxy-cidrs", f"{PROXY}/32")
    sensor = product.start_sensor(address, *options, constants=learning)
    with open_lab(product.open_inventory(address), certificate) as lab:
        yield lab, sensor, collector


@pytest.mark.parametrize("name", CASES)
def test_every_attack_of_the_lab_is_seen(programs: tuple[Lab, Program, Program], name: str) -> None:
    lab, case = programs[0], CASES[name]
    case.play(lab)
    try:
        wait_until(lambda: case.is_seen(lab), name)
    except AssertionError as error:
        alerts = [(one["kind"], one["service"], one["title"]) for one in lab.inventory.list_items("/alerts")]
        raise AssertionError(f"{error}; alerts are {alerts}") from None


def test_an_agent_of_an_alert_is_blocked_and_no_other(programs: tuple[Lab, Program, Program]) -> None:
    lab, case = programs[0], CASES["tool_loop"]
    office = lab.servers["office"]
    case.play(lab)
    (alert,) = wait_until(lambda: case.is_seen(lab), "the alert")
    command = [APIDAE, "block", alert["consumer"], "--url", lab.inventory.url, "--seconds", "600", "--confirm"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    wait_until(lambda: lab.inventory.get(f"/blocks/{made['id']}")["nodes"], "a sensor enforces it")
    wait_until(lambda: _is_reset(lab.open_agent(office, "looper")), "the agent is stopped")
    lab.open_agent(office, "explorer").begin()


def _is_reset(agent: Agent) -> bool:
    try:
        agent.use("get_order", path="x")
    except OSError:
        return True
    return False


@pytest.fixture(scope="module")
def left(programs: tuple[Lab, Program, Program], product: Product) -> dict[str, str]:
    """What left the node, and what answers say of it, by where it is. Ends the sensor and the collector."""
    lab, sensor, collector = programs
    for name in ("secret_in_result", "data_to_provider", "provider_key_in_url"):
        case = CASES[name]
        case.play(lab)
        wait_until(partial(case.is_seen, lab), name)
    paths = ("/alerts", "/findings", "/mcp/servers", "/mcp/tools", "/models", "/endpoints", "/consumers")
    answers: list[object] = [lab.inventory.list_items(path) for path in paths]
    answers += [lab.find_server(server.port) for server in lab.servers.values()]
    answers += [lab.inventory.get(f"/endpoints/{one['id']}") for one in lab.inventory.list_items("/endpoints")]
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    root = product.data_directory.parent
    return {
        "an answer of the API": json.dumps(answers),
        "the store": dump_store(product.data_directory / "store"),
        "a file of the collector": read_text(product.data_directory),
        "a file of the sensor": read_text(root / "sensor"),
        "a log of a program": read_text(root / "logs"),
    }


@pytest.mark.parametrize("place", CANARIES)
def test_no_canary_leaves_the_node(programs: tuple[Lab, Program, Program], left: dict[str, str], place: str) -> None:
    assert place in programs[0].sent.places, "It was sent nowhere, so that it stays says nothing."
    canary = CANARIES[place].lower()
    found = [where for where, text in left.items() if canary in text.lower()]
    assert not found, f"The {place} is in {found}."


def test_what_leaves_the_node_is_looked_through(left: dict[str, str]) -> None:
    for where in ("an answer of the API", "the store"):
        assert "read_file" in left[where]
        assert "gpt-4o" in left[where]
    assert all(left.values())
