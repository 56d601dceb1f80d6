"""Calls of HTTP/2 and gRPC in the clear, by real clients of real servers: none more, none less, each at its path with
its status, from its principal.

As in test_calls.py all workloads run once; then the sensor is stopped, which sends what it holds; then each is
compared. Counts are primes, so that no doubling, halving or folding gives them by chance.
"""

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.program import Program
from scripts.ports import take_port
from tests.e2e.application import GO_BUILD_SECONDS, HERE, READY_SECONDS, find_or_skip, run_until_it_listens
from tests.e2e.callers import (
    ADDRESS,
    EXPECTED,
    SERVICE,
    Calls,
    read_principals,
    run_curl_of_each,
    run_grpc_of_each,
    run_h2load_of_each,
)  # fmt: skip
from tests.e2e.conftest import Product, is_full
from tests.e2e.inventory import Endpoint, Inventory
from tests.e2e.packet_loss import PacketLoss
from tests.waiting import DEADLINE_SECONDS, wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

STILL_SECONDS = 3.0
LOSSES = (1, 5)
NGINX = """
        http2 on;
        default_type application/json;
        location /orders/ { return 200 '{}'; }
        location / { return 404 '{}'; }
"""


@dataclass(slots=True)
class Observed:
    """What was sent to each port, why a workload did not run, and what the inventory holds in the end."""

    sent: dict[str, Calls] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    found: dict[int, Calls] = field(default_factory=dict)
    principals: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)  # As `read_principals` gives them.
    account: str = ""  # What the sensor says it lost, and the last lines of its log.

    def check(self, name: str) -> None:
        """Fails unless the inventory holds exactly what workload `name` sent."""
        if name in self.skipped:
            pytest.skip(self.skipped[name])
        assert self.found[self.ports[name]] == self.sent[name], self.account


class Workloads:
    """Starts servers, each for one workload, and runs its clients."""

    def __init__(self, observed: Observed, directory: Path, at_end: Callable[[Callable[[], object]], object]) -> None:
        self._observed = observed
        self._directory = directory
        self._at_end = at_end

    def run(self, name: str, start: Callable[[str], int], send: Callable[[int], Calls]) -> None:
        """One workload; noted as skipped where something is not installed."""
        try:
            port = start(name)
            self._observed.ports[name] = port
            self._observed.sent[name] = send(port)
        except pytest.skip.Exception as reason:
            self._observed.skipped[name] = str(reason)

    def start_python(self, script: str) -> Callable[[str], int]:
        return lambda name: self._start(name, [sys.executable, str(HERE / script), ADDRESS])

    def start_go(self, name: str) -> int:
        go, output = find_or_skip("go", "golang-go"), self._directory / "app_h2c"
        command = [go, "build", "-o", str(output), str(HERE / "app_h2c.go")]
        built = subprocess.run(command, timeout=GO_BUILD_SECONDS, cwd=self._directory, capture_output=True, text=True)
        if "undefined: http.Protocols" in built.stderr:
            pytest.skip("this Go is older than 1.24, whose net/http speaks HTTP/2 in the clear")
        assert built.returncode == 0, built.stderr
        return self._start(name, [str(output), ADDRESS])

    def start_nginx(self, name: str) -> int:
        if find_nginx() is None:
            pytest.skip("nginx is not installed: apt-get install nginx-light")
        nginx = Nginx(self._directory / name, NGINX)
        self._at_end(nginx.stop)
        return nginx.port

    def start_nghttpd(self, name: str) -> int:
        nghttpd = find_or_skip("nghttpd", "nghttp2-server")
        root = self._directory / name
        (root / "orders").mkdir(parents=True)
        (root / "orders" / "large").write_bytes(b"x" * 200_000)
        (root / "orders" / "small").write_bytes(b"{}")
        port = take_port()
        command = [nghttpd, "--no-tls", "-a", ADDRESS, "-n", "2", "-d", str(root), str(port)]
        program = run_until_it_listens(name, command, self._directory / f"{name}.log", (ADDRESS, port))
        self._at_end(program.stop)
        return port

    def _start(self, name: str, command: list[str]) -> int:
        program = Program(name, command, self._directory / f"{name}.log")
        self._at_end(program.stop)
        return int(program.wait_for("ready", READY_SECONDS)["port"])


def run_curl(*options: str) -> Callable[[int], Calls]:
    """One curl, one connection: 17 orders and 6 that are not there."""

    def send(port: int) -> Calls:
        curl = find_or_skip("curl", "curl")
        urls = [f"http://{ADDRESS}:{port}/orders/[1001-1017]", f"http://{ADDRESS}:{port}/missing/[1-6]"]
        command = [curl, "--silent", "--noproxy", "*", *options, "--write-out", "%{http_version} %{http_code}\n"]
        for url in urls:
            command += ["--output", "/dev/null", url]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout
        assert Counter(said.splitlines()) == {"2 200": 17, "2 404": 6}
        return Counter({("GET", "/orders/{}", 200): 17, ("GET", "/missing/{}", 404): 6})

    return send


def run_h2load(counts: dict[tuple[str, int], int], *options: str) -> Callable[[int], Calls]:
    """So many calls of each (path, status)."""

    def send(port: int) -> Calls:
        h2load = find_or_skip("h2load", "nghttp2-client")
        for (path, status), count in counts.items():
            command = [h2load, "-n", str(count), *options, f"http://{ADDRESS}:{port}{path}"]
            said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout
            assert f"{count} done" in said, said
            assert (f"{count} 2xx" if status == 200 else f"{count} 4xx") in said, said
        return Counter({("GET", path, status): count for (path, status), count in counts.items()})

    return send


class Channel:
    """A gRPC client; calls are counted where they were answered as they should."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"{ADDRESS}:{port}")

    def call(self, get: int, *, list_: int = 0, put: int = 0, watch: int = 0, fail: int = 0) -> Calls:
        """So many of each."""
        channel, message = self._channel, b"m" * 40
        unary, fails = channel.unary_unary(f"{SERVICE}/Get"), channel.unary_unary(f"{SERVICE}/Fail")
        lists, puts = channel.unary_stream(f"{SERVICE}/List"), channel.stream_unary(f"{SERVICE}/Put")
        watches = channel.stream_stream(f"{SERVICE}/Watch")
        pending = [unary.future(message, timeout=DEADLINE_SECONDS) for _ in range(get)]
        assert [one.result() for one in pending] == [message] * get
        for _ in range(list_):
            assert list(lists(message, timeout=DEADLINE_SECONDS)) == [message] * 5
        for _ in range(put):
            assert puts(iter([message] * 3), timeout=DEADLINE_SECONDS) == message * 3
        for _ in range(watch):
            assert list(watches(iter([message] * 7), timeout=DEADLINE_SECONDS)) == [message] * 7
        for _ in range(fail):
            with pytest.raises(grpc.RpcError):
                fails(message, timeout=DEADLINE_SECONDS)
        counts = {"Get": get, "List": list_, "Put": put, "Watch": watch, "Fail": fail}
        return Counter({("POST", f"{SERVICE}/{name}", 200): count for name, count in counts.items() if count})

    def close(self) -> None:
        """Ends its connection."""
        self._channel.close()


def run_grpc(get: int, **counts: int) -> Callable[[int], Calls]:
    """One channel."""

    def send(port: int) -> Calls:
        channel = Channel(port)
        try:
            return channel.call(get, **counts)
        finally:
            channel.close()

    return send


GRPC_MIX = run_grpc(199, list_=11, put=7, watch=5, fail=3)


def losing(cgroup_root: str, percent: int, send: Callable[[int], Calls]) -> Callable[[int], Calls]:
    """The same while packets are lost."""

    def send_losing(port: int) -> Calls:
        with PacketLoss(cgroup_root, port, percent):
            return send(port)

    return send_losing


@pytest.fixture(scope="module")
def observed(
    product: Product, cgroup_root: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Observed]:
    """Runs all workloads, or for the gate one of gRPC, and gives what came of them."""
    result = Observed()
    with contextlib.ExitStack() as stack:
        workloads = Workloads(result, tmp_path_factory.mktemp("http2"), stack.callback)
        old = open_old_channel(result, workloads)
        stack.callback(old.close)
        _, address = product.start_collector()
        sensor = product.start_sensor(address)
        inventory = product.open_inventory(address)
        result.sent["old-grpc"] = old.call(13, list_=3, fail=1)
        workloads.run("grpc", workloads.start_python("app_grpc.py"), GRPC_MIX)
        if is_full(request):
            run_workloads(workloads, cgroup_root)
        old.close()
        assert sensor.stop() == 0, sensor.log_tail()
        collect(result, inventory)
        (stages,) = [one["stages"] for one in inventory.get("/sensors")["items"]]
        result.account = f"{stages}\n{sensor.log_tail()}"
        yield result


def open_old_channel(observed: Observed, workloads: Workloads) -> Channel:
    """A channel that has said all its headers before the sensor starts."""
    observed.ports["old-grpc"] = port = workloads.start_python("app_grpc.py")("old-grpc")
    channel = Channel(port)
    channel.call(5, list_=1, fail=1)
    return channel


def run_workloads(workloads: Workloads, cgroup_root: str) -> None:
    """All that the gate does without."""
    several = {("/orders/small", 200): 1_009, ("/orders/large", 200): 101, ("/missing", 404): 211}
    few = {("/orders/small", 200): 211, ("/orders/large", 200): 53, ("/missing", 404): 101}
    python_grpc, python_h2 = workloads.start_python("app_grpc.py"), workloads.start_python("app_h2.py")
    workloads.run("curl-nginx", workloads.start_nginx, run_curl("--http2-prior-knowledge"))
    workloads.run("curl-go", workloads.start_go, run_curl("--http2-prior-knowledge"))
    workloads.run("curl-upgrade", python_h2, run_curl("--http2"))
    workloads.run("h2load", workloads.start_nghttpd, run_h2load(several, "-c", "7", "-m", "10"))
    workloads.run("h2load-principals", workloads.start_nghttpd, run_h2load_of_each)
    workloads.run("curl-principals", workloads.start_nginx, run_curl_of_each)
    workloads.run("grpc-principals", python_grpc, run_grpc_of_each)
    for percent in LOSSES:
        lossy_load = losing(cgroup_root, percent, run_h2load(few, "-c", "7", "-m", "10"))
        workloads.run(f"h2load-{percent}", workloads.start_nghttpd, lossy_load)
        workloads.run(f"grpc-{percent}", python_grpc, losing(cgroup_root, percent, GRPC_MIX))


def collect(observed: Observed, inventory: Inventory) -> None:
    """Waits until all is there and nothing more comes, then reads it."""
    ports = {port for name, port in observed.ports.items() if name not in observed.skipped}
    expected = sum(sum(calls.values()) for calls in observed.sent.values())

    def count() -> int:
        return sum(inventory.count_calls(port) for port in ports)

    with contextlib.suppress(AssertionError):  # Each workload says on its own what is missing.
        wait_until(lambda: count() >= expected, f"{expected} calls in the inventory")
    wait_until_still(count, STILL_SECONDS)
    for port, endpoints in inventory.read_ports(ports).items():
        observed.found[port] = read_calls(endpoints)
        observed.principals[port] = read_principals(endpoints)


def read_calls(endpoints: Sequence[Endpoint]) -> Calls:
    """Calls by status; parameters of templates without their names."""
    found: Calls = Counter()
    for endpoint in endpoints:
        template = "/".join("{}" if part[:1] == "{" else part for part in endpoint.template.split("/"))
        for status, calls in endpoint.status_codes:
            found[endpoint.method, template, status] += calls
    return found


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
@pytest.mark.parametrize("server", ["nginx", "go"])
def test_curl_with_prior_knowledge(observed: Observed, server: str) -> None:
    observed.check(f"curl-{server}")


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
def test_curl_that_upgrades(observed: Observed) -> None:
    observed.check("curl-upgrade")


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
def test_many_calls_at_once(observed: Observed) -> None:
    observed.check("h2load")


def test_grpc(observed: Observed) -> None:
    observed.check("grpc")


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
@pytest.mark.parametrize("name", ["h2load", "curl", "grpc"])
def test_principals_are_neither_merged_nor_split(observed: Observed, name: str) -> None:
    observed.check(f"{name}-principals")
    assert observed.principals[observed.ports[f"{name}-principals"]] == EXPECTED


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
@pytest.mark.parametrize("percent", LOSSES)
@pytest.mark.parametrize("name", ["h2load", "grpc"])
def test_lost_packets_lose_no_path(observed: Observed, name: str, percent: int) -> None:
    observed.check(f"{name}-{percent}")


@pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.ebpf")
def test_a_channel_older_than_the_sensor_is_counted_and_never_wrong(observed: Observed) -> None:
    sent, found = observed.sent["old-grpc"], observed.found[observed.ports["old-grpc"]]
    assert sum(found.values()) == sum(sent.values())
    for (method, template, status), calls in found.items():
        if template.startswith(SERVICE):
            assert calls <= sent[method, template, status]
