"""Prime numbers of calls from several connections at once, over every kind of server and through proxies: none more,
none less, each at its endpoint, with its status, from its principal.

Through a proxy each call is two, one on either connection: the proxy's port is a hop, the application's is the
endpoint. All servers are loaded within one life of a sensor; then it is stopped, which sends what it holds, and each is
compared.
"""

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.e2e.application import ALL_KINDS, PROXIES, Server, Servers
from tests.e2e.conftest import Product, is_full
from tests.e2e.inventory import Endpoint, Inventory
from tests.e2e.traffic import expect, observe, read_endpoint_key, read_key
from tests.e2e.wire import RawClient, Sent
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

FULL = pytest.mark.full("sensor.ebpf", "sensor.describe", "sensor.routes", "collector.inventory")
GATE_KIND = "nginx"
OTHERS = [*(kind for kind in ALL_KINDS if kind != GATE_KIND), *(f"through-{kind}" for kind in PROXIES)]
CALLS = 1_009  # A prime, of each server.
CONNECTIONS = 7
CREDENTIALS = 11
STILL_SECONDS = 3.0
METHODS = ("GET", "GET", "GET", "HEAD", "DELETE", "POST")
# Ten services that were never seen are met within two seconds, in one cgroup: more heads than its budget may hold, and
# how many depends on the machine. What becomes of calls beyond it is tests/bpf's and test_recognition's.
SETTINGS = "heads_per_second = 100000\ncapture_budget_core_share = 64\n"

Key = tuple[str, str]


@dataclass(slots=True)
class Load:
    """What one server was sent."""

    sent: list[Sent] = field(default_factory=list)
    principals: dict[Key, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))


@dataclass(slots=True)
class Observed:
    """By the name of what was loaded; `skipped` says why something was not."""

    loads: dict[str, Load] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    endpoints: dict[int, list[Endpoint]] = field(default_factory=dict)

    def look_up(self, name: str) -> Load:
        """Skips the test where `name` was not loaded."""
        if name in self.skipped:
            pytest.skip(self.skipped[name])
        return self.loads[name]


def choose(source: random.Random) -> tuple[str, str, int]:
    """(method, target, credential) of one call; each credential makes another number of calls."""
    method = source.choice(METHODS)
    target = "/orders" if method == "POST" else f"/orders/{source.randrange(10**3, 10**9)}"
    match source.randrange(20):
        case 0:
            method, target = "GET", f"/users/{source.randrange(10**3, 10**9)}"
        case 1:
            method, target = "GET", f"/invoices/{source.randrange(10**3, 10**9)}"
    return method, target, min(source.randrange(CREDENTIALS), source.randrange(CREDENTIALS))


def send(server: Server, calls: Sequence[tuple[str, str, int]]) -> list[tuple[Sent, int]]:
    """The calls over one connection; each with its credential."""
    with RawClient(server.address, server.port) as client:
        return [
            (client.call(method, target, lines=(f"Authorization: Bearer token-{number}-abcdefgh",)), number)
            for method, target, number in calls
        ]


def load(server: Server, seed: str) -> Load:
    """All calls, over all connections at once."""
    source = random.Random(seed)
    calls = [choose(source) for _ in range(CALLS)]
    result = Load()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        parts = pool.map(lambda number: send(server, calls[number::CONNECTIONS]), range(CONNECTIONS))
        for call, credential in (each for part in parts for each in part):
            result.sent.append(call)
            result.principals[read_key(call)][credential] += 1
    return result


@pytest.fixture(scope="module")
def observed(
    product: Product, servers: Servers, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Observed:
    """Loads every server and proxy once, or for the gate one server, stops the sensor and reads the inventory."""
    result, running = Observed(), dict[str, Server]()
    for kind in ALL_KINDS if is_full(request) else (GATE_KIND,):
        start(result, running, kind, partial(servers.start, kind, "127.0.0.1"))
    for kind in PROXIES if is_full(request) else ():
        backend = servers.start("python", "127.0.0.1")
        result.ports[f"behind-{kind}"] = backend.port
        start(result, running, f"through-{kind}", partial(servers.start_proxy, kind, backend))
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("servers-sensor") / "sensor.toml"
    config.write_text(SETTINGS)
    sensor = product.start_sensor(address, "--config", str(config))
    for name, server in running.items():
        result.loads[name] = load(server, name)
    assert sensor.stop() == 0, sensor.log_tail()
    collect(result, product.open_inventory(address))
    return result


def start(observed: Observed, running: dict[str, Server], name: str, begin: Callable[[], Server]) -> None:
    """Starts what `name` is to be sent to, or notes why it does not run here."""
    try:
        running[name] = begin()
    except pytest.skip.Exception as reason:
        observed.skipped[name] = str(reason)
    else:
        observed.ports[name] = running[name].port


def collect(observed: Observed, inventory: Inventory) -> None:
    """Waits until all is there and nothing more comes, then reads it."""
    ports = set(observed.ports.values())
    expected = CALLS * sum(1 + name.startswith("through-") for name in observed.loads)

    def count() -> int:
        return inventory.count_calls(*ports)

    with contextlib.suppress(AssertionError):  # Each test says on its own what is missing.
        wait_until(lambda: count() >= expected, f"{expected} calls in the inventory")
    wait_until_still(count, STILL_SECONDS)
    observed.endpoints = inventory.read_ports(ports)


def read_principals(endpoints: Sequence[Endpoint]) -> dict[Key, list[int]]:
    """Calls of each principal at each endpoint, ascending."""
    return {read_endpoint_key(one): sorted(calls for _, calls in one.consumers) for one in endpoints}


def expect_principals(load: Load) -> dict[Key, list[int]]:
    """The same of what was sent."""
    return {key: sorted(counts.values()) for key, counts in load.principals.items()}


@pytest.mark.parametrize("name", [GATE_KIND, *(pytest.param(name, marks=FULL) for name in OTHERS)])
def test_every_call_is_at_its_endpoint_from_its_principal(observed: Observed, name: str) -> None:
    load = observed.look_up(name)
    endpoints = observed.endpoints[observed.ports[name]]
    assert len(load.sent) == CALLS
    assert observe(endpoints) == expect(load.sent)
    assert read_principals(endpoints) == expect_principals(load)


@FULL
@pytest.mark.parametrize("kind", PROXIES)
def test_every_call_behind_a_proxy_is_there_too(observed: Observed, kind: str) -> None:
    """Its bytes are the proxy's own: it adds and drops field lines."""
    load = observed.look_up(f"through-{kind}")
    endpoints = observed.endpoints[observed.ports[f"behind-{kind}"]]
    found = {key: (calls, statuses) for key, (calls, _, _, statuses) in observe(endpoints).items()}
    assert found == {key: (calls, statuses) for key, (calls, _, _, statuses) in expect(load.sent).items()}
    assert read_principals(endpoints) == expect_principals(load)
    assert not any(endpoint.is_proxied for endpoint in endpoints)


@FULL
def test_what_only_forwards_is_a_hop(observed: Observed) -> None:
    """Apache could have answered itself, so it counts as an endpoint (docs/use/coverage.md)."""
    observed.look_up("through-haproxy")
    assert all(endpoint.is_proxied for endpoint in observed.endpoints[observed.ports["through-haproxy"]])
