"""By default a quiet server is read whole, a busy one in turns, and a Pod that says no not at all. So it is
where the kernel puts probes into one process, and where it puts them into all of a file or into none.
"""

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.bench_cases.harming.load import Round, run_wrk, write_script
from tests.bpf.cgroups import find_own
from tests.cluster.api_server import ApiServer
from tests.cluster.pod_programs import Cgroups
from tests.cluster.pods import find_cgroup, make_deployment_pod
from tests.e2e.application import Servers
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

ADDRESS = "127.0.0.1"
CALLS = 23
CONNECTIONS = 8
LOAD_SECONDS = 40  # Four periods of turns.
STILL_SECONDS = 4.0
CLOSE_SHARE = 0.05
OFF = {"apidae.io/read-tls": "off"}
# As in a PID namespace of its own, and on Linux 6.6 to 6.9.
TOGETHER = {"sensor.ebpf.uprobes.HOST_PID_NAMESPACE": "pid:[1]"}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}


@dataclass(frozen=True, slots=True)
class Observed:
    """What a busy server answered, and what is known of it and of a quiet one in the end."""

    load: Round
    row: dict[str, Any]
    reasons: set[str]
    quiet: dict[str, int]  # Calls by template.
    quiet_reason: str
    read: int  # Of the busy one, calls with a path.
    counted: int
    missed: set[str]  # What the coverage says was missed of the node and its services.
    is_together: bool


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("servers"), certificate)
    yield running
    running.stop()


def read_rows(inventory: Inventory, port: int) -> dict[str, dict[str, Any]]:
    """What the coverage says of a port, by protocol."""
    rows = inventory.list_items("/coverage/ports")
    return {row["protocol"]: row for row in rows if row["service"]["port"] == port and row["role"] == "listening"}


@pytest.fixture(scope="module", params=[{}, TOGETHER], ids=["by_process", "together"])
def observed(
    request: pytest.FixtureRequest,
    product: Product,
    servers: Servers,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Observed:
    directory = tmp_path_factory.mktemp("auto")
    busy, quiet = (servers.start(kind, ADDRESS).port for kind in ("nginx", "python"))
    _, address = product.start_collector()
    sensor = product.start_sensor(address, constants=request.param)
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    context = ssl.create_default_context(cafile=str(certificate.authority))
    with RawClient(ADDRESS, quiet, tls=context) as client:
        for number in range(CALLS):
            assert client.call("GET", f"/orders/{number}").status == 200
    wait_until(lambda: "https" in read_rows(inventory, quiet), "the quiet one is in the coverage")
    quiet_reason = read_rows(inventory, quiet)["https"]["reason"]
    script, loads = write_script(directory / "load.lua", pace_ms=2), list[Round]()
    url = f"https://{ADDRESS}:{busy}"
    thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, LOAD_SECONDS, script)))
    thread.start()
    reasons = set[str]()
    while thread.is_alive():
        reasons.add(str(read_rows(inventory, busy).get("https", {}).get("reason", "")))
        thread.join(0.5)
    wait_until_still(lambda: inventory.count_calls(busy, quiet), STILL_SECONDS)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(busy, quiet), STILL_SECONDS)
    endpoints = inventory.list_items("/endpoints", operations="exclude")
    return Observed(
        load=loads[0],
        row=read_rows(inventory, busy)["https"],
        reasons=reasons,
        quiet={one["template"]: one["calls"] for one in endpoints if one["service"]["port"] == quiet},
        quiet_reason=quiet_reason,
        read=sum(one["calls"] for one in endpoints if one["service"]["port"] == busy and not one["is_estimated"]),
        counted=inventory.count_calls(busy),
        missed={row["address"] for row in inventory.list_items("/coverage/ports") if row["protocol"] == "missed"},
        is_together=bool(request.param),
    )


def test_a_server_within_its_budget_is_read_whole(observed: Observed) -> None:
    assert observed.quiet == {"/orders/{order_id}": CALLS}
    assert "read_tls is auto: at most 200 calls/s of a process and 2 %" in observed.quiet_reason
    assert "of the time" not in observed.quiet_reason


def test_a_busy_one_is_read_in_turns_and_none_of_its_calls_is_lost(observed: Observed) -> None:
    assert observed.load.errors == 0
    assert observed.counted == pytest.approx(observed.load.calls, rel=CLOSE_SHARE)
    assert not observed.missed & {"calls added up at the ring", "calls whose requests were not read"}
    assert 0 < observed.read < observed.load.calls / 2
    assert any("of the time, and other calls are estimated" in reason for reason in observed.reasons), observed.reasons
    assert any("are read together" in reason for reason in observed.reasons) is observed.is_together


def test_a_pod_that_says_no_is_not_read_and_one_that_changes_its_mind_is(
    product: Product, certificate: Certificate, tmp_path: Path
) -> None:
    """Both run one library, which is probed for the other one."""
    willing, unwilling = make_deployment_pod("cart"), make_deployment_pod("vault", annotations=OFF)
    with ApiServer() as api:
        cgroups = Cgroups(find_own())
        for thing in (NODE, willing, unwilling):
            api.put(thing)
        _, address = product.start_collector()
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        (tmp_path / "sensor.toml").write_text(f'kubeconfig = "{kubeconfig}"\nnode = "n1"\nread_tls = "auto"\n')
        try:
            ports = [
                cgroups.serve(find_cgroup(pod), tls=(str(certificate.certificate), str(certificate.key)))[1]
                for pod in (willing, unwilling)
            ]
            sensor = product.start_sensor(address, "--config", str(tmp_path / "sensor.toml"))
            inventory = product.open_inventory(address)
            wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
            context = ssl.create_default_context(cafile=str(certificate.authority))

            def call(port: int) -> None:
                with RawClient(ADDRESS, port, tls=context) as client:
                    for number in range(CALLS):
                        client.call("GET", f"/orders/{number}")

            for port in ports:
                call(port)
            wait_until(lambda: inventory.count_calls(ports[0]) >= CALLS, "the willing one's calls")
            reason = wait_until(
                lambda: read_rows(inventory, ports[1]).get("encrypted", {}).get("reason"), "the other's reason"
            )
            assert "switched off by the annotation apidae.io/read-tls of its Pod" in reason
            assert "https" not in read_rows(inventory, ports[1])
            api.put(make_deployment_pod("vault"))

            def is_read() -> bool:
                call(ports[1])
                return "https" in read_rows(inventory, ports[1])

            wait_until(is_read, "the annotation is gone")
        finally:
            cgroups.close()
