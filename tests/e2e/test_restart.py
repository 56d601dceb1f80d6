"""A sensor that follows another one on its node goes on where that one stopped: connections that were open all the
while lose no call and no path, and nothing is said to have been missed. One with another kernel side begins the moment
that one has detached, and says what was missed.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.host import APIDAE, CollectorAddress
from sensor.coverage.gaps import ROW_NAME
from tests.e2e.application import find_or_skip
from tests.e2e.callers import ADDRESS, Calls
from tests.e2e.conftest import READY_FILE_NAME, Product
from tests.e2e.inventory import Inventory
from tests.e2e.test_http2 import NGINX, Channel, Observed, Workloads, read_calls
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

PAUSE_SECONDS = 0.01
STILL_SECONDS = 3.0
# What the next sensor says when it captures and cannot read yet.
ATTACHED = "attached; what comes is read when the sensor before has ended"
# Of the sensors of this run (conftest.py), by the flags of a command that ends what they left.
PLACES = {
    "--run-dir": "APIDAE_SENSOR_RUN_DIR",
    "--pin-dir": "APIDAE_SENSOR_PIN_DIR",
    "--cgroup-path": "APIDAE_SENSOR_CGROUP_PATH",
}
PRIME_CALLS = 211
H2LOAD_CALLS, H2LOAD_PER_SECOND = 1_009, 20  # Each of two connections.


class Traffic:
    """Calls one after the other on connections that stay open, until it is told to stop."""

    def __init__(self, *callers: Callable[[int], Calls]) -> None:
        self.sent: Calls = Counter()
        self._is_over = threading.Event()
        self._callers = callers
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            for call in self._callers:
                self.sent += call(number)
            time.sleep(PAUSE_SECONDS)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def start_h2load(port: int) -> tuple["subprocess.Popen[str]", Calls]:
    """Two connections of HTTP/2 that last for half a minute, and the calls that come of them."""
    h2load = find_or_skip("h2load", "nghttp2-client")
    command = [h2load, "-n", str(H2LOAD_CALLS), "-c", "2", "-m", "4", "--rps", str(H2LOAD_PER_SECOND)]
    command.append(f"http://{ADDRESS}:{port}/orders/17")
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return load, Counter({("GET", "/orders/{}", 200): H2LOAD_CALLS})


class Plain:
    """HTTP/1.1 on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)

    def call(self, number: int) -> Calls:
        """One order."""
        self._connection.request("GET", f"/orders/{1000 + number}")
        response = self._connection.getresponse()
        response.read()
        return Counter({("GET", "/orders/{}", response.status): 1})

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def address(product: Product) -> CollectorAddress:
    return product.start_collector()[1]


@pytest.fixture
def workloads(tmp_path: Path) -> Iterator[Workloads]:
    with contextlib.ExitStack() as stack:
        yield Workloads(Observed(), tmp_path, stack.callback)


def collect(inventory: Inventory, ports: list[int], expected: Calls) -> Calls:
    """Everything that came of these ports."""

    def count() -> int:
        return sum(inventory.count_calls(port) for port in ports)

    with contextlib.suppress(AssertionError):
        wait_until(lambda: count() >= sum(expected.values()), "all calls in the inventory")
    wait_until_still(count, STILL_SECONDS)
    found: Calls = Counter()
    for port in ports:
        found += read_calls(inventory.read_endpoints(port))
    return found


@pytest.fixture
def pins(tmp_path: Path, capture_host: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in a bpf file system of the test's own."""
    mount = tmp_path / "bpf"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "bpf", "bpf", str(mount)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no bpf file system can be mounted here: {mounted.stderr.strip()}")
    monkeypatch.setenv("APIDAE_SENSOR_PIN_DIR", str(mount / "apidae"))
    yield mount / "apidae"
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.full("sensor.agent", "sensor.ebpf")
def test_calls_while_no_sensor_runs_are_counted_by_the_next(
    product: Product, address: CollectorAddress, workloads: Workloads, pins: Path, tmp_path: Path
) -> None:
    (tmp_path / "sensor.toml").write_text("handover_seconds = 60\n")
    port = workloads.start_python("app_grpc.py")("grpc")
    configured = ("--config", str(tmp_path / "sensor.toml"))
    before = product.start_sensor(address, *configured)
    inventory = product.open_inventory(address)
    channel = Channel(port)
    with Traffic(lambda number: channel.call(1, put=number % 7 == 0)) as traffic:
        time.sleep(2)
        assert before.stop() == 0, before.log_tail()
        left = sorted(path.name for path in pins.rglob("*") if path.is_file())
        assert {"ingress", "egress", "link_ingress", "link_egress", "state", "frames"} <= set(left)
        time.sleep(1)
        after = product.start_sensor(address, *configured)
        assert not pins.exists()
        time.sleep(2)
    channel.close()
    log = after.log_path.read_text()
    assert after.stop() == 0
    assert "capture goes on where the sensor before stopped" in log and "nothing was captured" not in log
    assert collect(inventory, [port], traffic.sent) == traffic.sent
    assert pins.exists()
    places = [f"{flag}={os.environ[variable]}" for flag, variable in PLACES.items()]
    removed = subprocess.run([APIDAE, "detach", *places], capture_output=True, text=True, check=True).stdout
    assert json.loads(removed) == {"removed": len(left)}
    assert not pins.exists()


@pytest.mark.full("sensor.agent", "sensor.ebpf")
def test_calls_across_a_restart_are_all_counted_at_their_paths(
    product: Product, address: CollectorAddress, workloads: Workloads, tmp_path: Path
) -> None:
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    nginx = Nginx(tmp_path / "nginx", NGINX)
    port = workloads.start_python("app_grpc.py")("grpc")
    first = product.start_sensor(address)
    inventory = product.open_inventory(address)
    channel, plain = Channel(port), Plain(nginx.port)
    load, counted = start_h2load(nginx.port)
    try:
        with Traffic(lambda number: channel.call(1, put=number % 7 == 0, fail=number % 11 == 0), plain.call) as traffic:
            time.sleep(2)
            before, after = product.follow_sensor(address)
            assert before is first
            assert before.stop() == 0, before.log_tail()
            after.wait_for("capturing", 60)
            time.sleep(2)
        plain.close()
        channel.close()
        said, _ = load.communicate(timeout=60)
        assert f"{H2LOAD_CALLS} done" in said and f"{H2LOAD_CALLS} 2xx" in said, said
        assert after.stop() == 0, after.log_tail()
        assert "capture goes on where the sensor before stopped" in after.log_path.read_text(), after.log_tail()
        assert "nothing was captured" not in after.log_path.read_text()
        sent = traffic.sent + counted
        assert collect(inventory, [port, nginx.port], sent) == sent
    finally:
        load.kill()
        load.wait()
        nginx.stop()


@pytest.mark.full("sensor.agent", "sensor.ebpf")
def test_the_next_version_captures_before_the_one_before_has_ended(
    product: Product, address: CollectorAddress, workloads: Workloads, tmp_path: Path
) -> None:
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    nginx = Nginx(tmp_path / "nginx", NGINX)
    product.start_sensor(address)
    inventory = product.open_inventory(address)
    try:
        before, after = product.follow_sensor(address, (sys.executable, "-m", "tests.e2e.another_version"))
        ready = after.log_path.with_name(READY_FILE_NAME)
        assert ready.exists()
        before.send_signal(signal.SIGTERM)
        wait_until(lambda: ATTACHED in after.log_path.read_text(), "the next sensor is attached")
        sent: Calls = Counter()
        for number in range(PRIME_CALLS):
            plain = Plain(nginx.port)
            sent += plain.call(number)
            plain.close()
        assert before.stop() == 0, before.log_tail()
        after.wait_for("capturing", 60)
        assert collect(inventory, [nginx.port], sent) == sent
        missed = wait_until(lambda: inventory.list_items("/coverage/ports", q=ROW_NAME), "the gap")
        assert [row["connections"] for row in missed] == [1]
        assert ready.exists()
        assert after.stop() == 0, after.log_tail()
        assert not ready.exists()
        assert "capture goes on" not in after.log_path.read_text()
    finally:
        nginx.stop()
