"""The lab of AI risks through the running product: each attack becomes an alert, a finding or an entry of a list. No
canary of prompts, arguments, results and names of files is in anything that leaves the node."""

import json
from collections.abc import Iterator

import pytest

from scripts.live.program import Program
from tests.e2e.ai_lab import CANARIES, CASES, SECRET, Lab, open_lab
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.test_bodies import dump_store, read_text
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.describe", "collector.inventory", "collector.detection", "collector.risk"),
]


@pytest.fixture(scope="module")
def programs(product: Product, certificate: Certificate) -> Iterator[tuple[Lab, Program, Program]]:
    """The lab, with sensor and collector."""
    collector, address = product.start_collector(
        "--sensitivity",
        "paranoid",
        constants={
            "collector.server.compose.RISK_SECONDS": 2,
            "collector.detection.changes.mcp.LEARNING_SECONDS": 0,
        },
    )
    learning = {"sensor.describe.attacks.ssrf.LEARNING_NS": 0}
    sensor = product.start_sensor(address, "--trusted-proxy-cidrs", "127.0.0.0/8", constants=learning)
    with open_lab(product.open_inventory(address), certificate) as lab:
        yield lab, sensor, collector


@pytest.mark.parametrize("name", CASES)
def test_every_attack_of_the_lab_is_seen(programs: tuple[Lab, Program, Program], name: str) -> None:
    lab, case = programs[0], CASES[name]
    case.play(lab)
    wait_until(lambda: case.is_seen(lab), name)


def test_no_canary_leaves_the_node(programs: tuple[Lab, Program, Program], product: Product) -> None:
    lab, sensor, collector = programs
    CASES["secret_in_result"].play(lab)
    office = lab.servers["office"]
    wait_until(lambda: lab.find_server(office.port), "the server")
    paths = ("/alerts", "/findings", "/mcp/servers", "/mcp/tools", "/endpoints", "/consumers")
    texts = json.dumps([lab.inventory.list_items(path) for path in paths])
    texts += json.dumps([lab.find_server(server.port) for server in lab.servers.values()])
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    texts += read_text(product.data_directory) + dump_store(product.data_directory / "store")
    texts += read_text(product.data_directory.parent / "sensor") + read_text(product.data_directory.parent / "logs")
    assert "read_file" in texts
    for canary in (*CANARIES, SECRET):
        assert canary not in texts, canary
