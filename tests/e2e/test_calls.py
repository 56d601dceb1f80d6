"""23 requests are exactly 23 calls: real servers on the real kernel, read back from the inventory with method,
template, status and sizes.

All workloads run once, side by side on ports of their own; then the sensor is stopped, which sends what it holds;
then each is compared.
"""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from tests.e2e import scripted
from tests.e2e.application import ALL_KINDS, KINDS, PROXIES, Server, Servers, find_or_skip
from tests.e2e.conftest import Product
from tests.e2e.inventory import Endpoint, Inventory
from tests.e2e.packet_loss import PacketLoss
from tests.e2e.scripted import Script, play
from tests.e2e.scripts import SCRIPTS
from tests.e2e.traffic import MIX, expect, has_ipv6, observe, send_mix, send_pipelined, send_split
from tests.e2e.wire import RawClient, Sent
from tests.waiting import wait_until, wait_until_still

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.ebpf", "sensor.capture.packets", "sensor.http", "sensor.capture.syscalls"),
]

STILL_SECONDS = 3.0
LOSS_PERCENT = 15
ADDRESSES = ("127.0.0.1", "::1")
# All of them are new within some seconds: more heads than budgets may hold, and how many depends on the machine. What
# becomes of calls beyond them is tests/bpf's and test_recognition's.
SETTINGS = "heads_per_second = 100000\ncapture_budget_core_share = 64\n"


@dataclass(slots=True)
class Observed:
    """What was sent to each port, why a workload did not run, and what the inventory holds in the end."""

    way: str  # Of capture.
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    endpoints: dict[int, list[Endpoint]] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Fails unless the inventory holds exactly what workload `name` sent."""
        if name in self.skipped:
            pytest.skip(self.skipped[name])
        assert observe(self.endpoints[self.ports[name]]) == expect(self.sent[name])


def start_or_note(observed: Observed, servers: Servers, name: str, kind: str, address: str) -> Server | None:
    """A server for workload `name`; None, and the reason noted, where it cannot run."""
    if ":" in address and not has_ipv6():
        observed.skipped[name] = "no IPv6 on loopback"
        return None
    return begin_or_note(observed, name, lambda: servers.start(kind, address))


def begin_or_note(observed: Observed, name: str, begin: Callable[[], Server]) -> Server | None:
    """The same of whatever begins it. Its port is no other's: workloads are told apart by ports, and the system may
    give one to each of two families."""
    try:
        server = begin()
        while server.port in observed.ports.values():
            server = begin()
    except pytest.skip.Exception as reason:
        observed.skipped[name] = str(reason)
        return None
    observed.ports[name] = server.port
    return server


@pytest.fixture(scope="module", params=["cgroup_skb", "syscalls"])
def observed(
    product: Product,
    servers: Servers,
    cgroup_root: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Observed]:
    """Runs all workloads under one way of capture and gives what came of them."""
    result = Observed(way=request.param)
    old_connections = open_old_connections(result, servers)
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("calls-sensor") / "sensor.toml"
    config.write_text(SETTINGS)
    sensor = product.start_sensor(address, "--capture", request.param, "--config", str(config))
    inventory = product.open_inventory(address)
    run_mixes(result, servers)
    run_framing(result, servers)
    for name, connection in old_connections.items():
        send_mix(connection)
        result.sent[name] = connection.calls
        connection.close()
    run_lossy(result, servers, cgroup_root)
    run_curl(result, servers)
    for script in SCRIPTS:
        result.ports[script.name] = play(script, taken=result.ports.values())
    assert sensor.stop() == 0, sensor.log_tail()
    collect(result, inventory)
    yield result


def open_old_connections(observed: Observed, servers: Servers) -> dict[str, RawClient]:
    """Connections that exist, and have been used, before the sensor starts."""
    connections = {}
    for kind in KINDS:
        server = start_or_note(observed, servers, f"old-{kind}", kind, "127.0.0.1")
        if server is not None:
            connection = RawClient(server.address, server.port)
            connection.call("GET", "/orders/5")
            connection.calls.clear()
            connections[f"old-{kind}"] = connection
    return connections


def run_mixes(observed: Observed, servers: Servers) -> None:
    """The mix at each kind of server over each family, and through each kind of proxy."""
    begun: dict[str, Server | None] = {}
    for kind in ALL_KINDS:
        for address in ADDRESSES:
            name = f"mix-{kind}-{address}"
            begun[name] = start_or_note(observed, servers, name, kind, address)
    for kind in PROXIES:
        name, behind = f"mix-through-{kind}", f"behind-{kind}"
        backend = start_or_note(observed, servers, behind, "python", "127.0.0.1")
        assert backend is not None
        begun[name] = begin_or_note(observed, name, partial(servers.start_proxy, kind, backend))
    for name, server in begun.items():
        if server is not None:
            with RawClient(server.address, server.port) as client:
                send_mix(client)
                observed.sent[name] = client.calls


def run_framing(observed: Observed, servers: Servers) -> None:
    """Split heads, pipelines of two depths, chunks."""
    if server := start_or_note(observed, servers, "split", "python", "127.0.0.1"):
        observed.sent["split"] = send_split(server.address, server.port)
    if server := start_or_note(observed, servers, "split6", "python", "::1"):
        observed.sent["split6"] = send_split(server.address, server.port)
    for kind in KINDS:
        for depth in (8, 23):
            name = f"pipelined-{kind}-{depth}"
            if server := start_or_note(observed, servers, name, kind, "127.0.0.1"):
                observed.sent[name] = send_pipelined(server.address, server.port, depth)
    for kind in ("python", "node", "go"):
        name = f"chunked-{kind}"
        if server := start_or_note(observed, servers, name, kind, "127.0.0.1"):
            with RawClient(server.address, server.port) as client:
                send_mix(client, [("GET", "/events")] * 23)
                observed.sent[name] = client.calls


def run_lossy(observed: Observed, servers: Servers, cgroup_root: str) -> None:
    """The mix while packets are dropped at random, so that segments come again and out of order."""
    if server := start_or_note(observed, servers, "lossy", "python", "127.0.0.1"):
        with RawClient(server.address, server.port) as client:
            with PacketLoss(cgroup_root, server.port, LOSS_PERCENT):
                send_mix(client)
            observed.sent["lossy"] = client.calls


def run_curl(observed: Observed, servers: Servers) -> None:
    """One curl, one connection, five URLs; curl itself tells the sizes."""
    server = start_or_note(observed, servers, "curl", "python", "127.0.0.1")
    try:
        curl = find_or_skip("curl", "curl")
    except pytest.skip.Exception as reason:
        observed.skipped["curl"] = str(reason)
        return
    if server is not None:
        url = f"http://127.0.0.1:{server.port}/orders/[1-5]"
        told = "%{http_code} %{size_request} %{size_header} %{size_download}\n"
        command = [curl, "--silent", "--output", "/dev/null", "--noproxy", "*", "--write-out", told, url]
        lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
        observed.sent["curl"] = [read_curl_line(line) for line in lines]


def read_curl_line(line: str) -> Sent:
    """What curl's --write-out told of one call."""
    status, request_bytes, head_bytes, body_bytes = (int(word) for word in line.split())
    return Sent(
        method="GET",
        target="/orders/1",
        status=status,
        request_bytes=request_bytes,
        response_bytes=head_bytes + body_bytes,
    )


def collect(observed: Observed, inventory: Inventory) -> None:
    """Waits until all is there and nothing more comes, then reads it."""
    ports = {port for name, port in observed.ports.items() if name not in observed.skipped}
    expected = sum(len(calls) for calls in observed.sent.values()) + sum(len(script.expected) for script in SCRIPTS)

    def count() -> int:
        return inventory.count_calls(*ports)

    with contextlib.suppress(AssertionError):  # Each workload says on its own what is missing.
        wait_until(lambda: count() >= expected, f"{expected} calls in the inventory")
    wait_until_still(count, STILL_SECONDS)
    observed.endpoints = inventory.read_ports(ports)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_23_requests_are_23_calls(observed: Observed, kind: str, address: str) -> None:
    assert len(MIX) == 23
    observed.check(f"mix-{kind}-{address}")


@pytest.mark.parametrize("kind", PROXIES)
def test_23_requests_are_23_calls_at_a_proxy_and_behind_it(observed: Observed, kind: str) -> None:
    observed.check(f"mix-through-{kind}")
    behind = observed.endpoints[observed.ports[f"behind-{kind}"]]
    assert sum(endpoint.calls for endpoint in behind) == len(MIX)


@pytest.mark.parametrize("kind", KINDS)
def test_connections_opened_before_the_sensor(observed: Observed, kind: str) -> None:
    observed.check(f"old-{kind}")


@pytest.mark.parametrize("name", ["split", "split6"])
def test_heads_split_at_every_byte(observed: Observed, name: str) -> None:
    observed.check(name)


@pytest.mark.parametrize("depth", [8, 23])
@pytest.mark.parametrize("kind", KINDS)
def test_pipelined_requests_are_calls_each(observed: Observed, kind: str, depth: int) -> None:
    observed.check(f"pipelined-{kind}-{depth}")


@pytest.mark.parametrize("kind", ["python", "node", "go"])
def test_chunked_answers(observed: Observed, kind: str) -> None:
    observed.check(f"chunked-{kind}")


def test_lost_packets_lose_no_call(observed: Observed) -> None:
    observed.check("lossy")


def count_bytes(script: Script) -> dict[str, int]:
    """All bytes that the two sides of a script send."""
    sent = {"request_bytes": scripted.Client, "response_bytes": scripted.Server}
    return {name: sum(len(step.data) for step in script.steps if isinstance(step, side)) for name, side in sent.items()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_framing_of_http1(observed: Observed, script: Script) -> None:
    expected = expect(script.expected)
    found = observe(observed.endpoints[observed.ports[script.name]])
    if script.name == "switched_protocols" and observed.way == "cgroup_skb":
        # What follows on the connection is followed too: one call still, with all its bytes.
        expected = expect([replace(one, **count_bytes(script)) for one in script.expected])
    assert found == expected


def test_curl(observed: Observed) -> None:
    observed.check("curl")
