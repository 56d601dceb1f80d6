"""Enforcement on the real kernel: who is blocked gets a reset and nothing else, everybody else notices nothing, and all
of it ends by itself."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.bench_cases.block import make_context
from scripts.bench_cases.blocking.clients import Caller, Loop, Shop
from scripts.bench_cases.blocking.http2_clients import Http2Caller, Line
from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.host import APIDAE, CollectorAddress
from tests.e2e.conftest import Product
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

HONEST, THIEF = "127.0.0.11", "127.0.0.66"
KEY, OTHER_KEY = "stolen-key-0123456789abcdef", "honest-key-0123456789abcdef"
SETTINGS = """
read_tls = 'full'

[enforcement]
enabled = true
max_call_share = 1.0
max_blocks = 20
fail_open_after_seconds = 3.0
never_block_cidrs = ["127.0.0.250/32"]
"""
BLOCK_SECONDS = 600  # Longer than any test takes, each of which begins with nothing blocked.
HTTP2 = "        http2 on; access_log LOG; location / { return 200 '{}'; }"


@dataclass
class Site:
    """A product that enforces, and a shop."""

    product: Product
    url: str
    shop: Shop
    config: Path
    address: CollectorAddress
    callers: list[Caller] = field(default_factory=list)

    def open_caller(self, key: str = "", source: str = THIEF, is_keep_alive: bool = True) -> Caller:
        headers = {"X-Api-Key": key} if key else {}
        caller = Caller(self.shop.port, source, headers, is_keep_alive=is_keep_alive)
        self.callers.append(caller)
        return caller

    def close_callers(self) -> None:
        while self.callers:
            self.callers.pop().close()

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        response = httpx.request(method, f"{self.url}/api/v1/{path}", json=body or None, timeout=60)
        assert response.is_success, response.text
        return dict(response.json())

    def block(self, consumer: str, **wish: Any) -> str:
        """By the CLI, as a person would; gives the id when a sensor enforces it."""
        command = [APIDAE, "block", consumer, "--url", self.url, "--confirm"]
        for name, value in wish.items():
            command += [f"--{name}", str(value)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        block_id = str(httpx.Response(200, text=done.stdout).json()["id"])
        wait_until(lambda: self.is_enforced(block_id), "the sensor enforces it")
        return block_id

    def is_enforced(self, block_id: str) -> bool:
        return any(node["is_enforced"] for node in self.ask("GET", f"blocks/{block_id}")["nodes"])

    def lift_all(self) -> None:
        subprocess.run([APIDAE, "lift", "--all", "--url", self.url], check=True, capture_output=True)


@pytest.fixture(scope="module")
def site(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    shop = Shop()
    config = tmp_path_factory.mktemp("settings") / "sensor.toml"
    config.write_text(SETTINGS)
    # A collector without bounds of its own, as one that somebody else has.
    hostile = config.with_name("collector.toml")
    hostile.write_text("[blocks]\nmin_ipv4_prefix_bits = 8\n")
    _, address = product.start_collector("--config", str(hostile))
    product.start_sensor(address, "--config", str(config))
    yield Site(product, address.url, shop, config, address)
    shop.stop()


@pytest.fixture(scope="module")
def http2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """HTTP/2 in the clear; whose requests it read is in `access.log`."""
    if find_nginx() is None:
        pytest.skip("nginx is not installed")
    directory = tmp_path_factory.mktemp("nginx")
    nginx = Nginx(directory, HTTP2.replace("LOG", str(directory / "access.log")))
    yield nginx
    nginx.stop()


@pytest.fixture
def http2_port(http2_server: Nginx) -> int:
    return http2_server.port


@pytest.fixture
def honest(site: Site) -> Iterator[list[Loop]]:
    """Two clients that call all the time; at the end of the test they have seen nothing but answers."""
    site.lift_all()
    time.sleep(0.3)
    loops = [
        Loop(Caller(site.shop.port, HONEST, {"X-Api-Key": OTHER_KEY}, is_keep_alive=is_keep_alive))
        for is_keep_alive in (True, False)
    ]
    yield loops
    site.close_callers()
    for loop in loops:
        outcomes = loop.stop()
        assert set(outcomes) == {"200"}, outcomes
        assert outcomes["200"] > 10


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
@pytest.mark.parametrize("is_keep_alive", [True, False])
def test_an_address_is_stopped_at_once_and_lifted(site: Site, honest: list[Loop], is_keep_alive: bool) -> None:
    thief = site.open_caller(KEY, is_keep_alive=is_keep_alive)
    assert [thief.call() for _ in range(5)] == ["200"] * 5
    block_id = site.block(THIEF, seconds=BLOCK_SECONDS)
    served = site.shop.served[KEY]
    assert [thief.call() for _ in range(10)] == ["reset"] * 10
    assert site.shop.served[KEY] == served
    told = wait_until(
        lambda: (b := site.ask("GET", f"blocks/{block_id}"))["stopped_connections"] >= 10 and b, "it is counted"
    )
    assert told["nodes"][0]["failed_resets"] == 0
    site.lift_all()
    wait_for_equal(thief.call, "200", "the attacker is served again")


@pytest.mark.parametrize("is_keep_alive", [True, False])
def test_a_credential_is_stopped_before_it_is_read(site: Site, honest: list[Loop], is_keep_alive: bool) -> None:
    key, source = f"{KEY}-{is_keep_alive}", f"127.0.0.{70 + is_keep_alive}"
    thief = site.open_caller(key, source, is_keep_alive=is_keep_alive)
    neighbour = site.open_caller("neighbour-key-987654321", source)
    assert [thief.call() for _ in range(5)] == ["200"] * 5
    served = site.shop.served[key]
    site.block(_find_key(site, thief), seconds=BLOCK_SECONDS)
    served = site.shop.served[key]
    assert [thief.call() for _ in range(10)] == ["reset"] * 10
    assert site.shop.served[key] == served
    assert [neighbour.call() for _ in range(5)] == ["200"] * 5  # The same address, another key.
    site.lift_all()
    wait_for_equal(thief.call, "200", "the attacker is served again")


def _find_key(site: Site, thief: Caller) -> str:
    """The consumer that calls from the thief's address, which is nobody else's yet."""

    return wait_until(lambda: _look_for(site, thief), "the attacker is a consumer")


def _look_for(site: Site, thief: Caller) -> str:
    names = [item["id"] for item in site.ask("GET", "consumers")["items"]]
    found = [
        name
        for name in names
        if name.startswith("principal:") and f"'{thief.source}'" in str(site.ask("GET", f"consumers/{name}"))
    ]
    return found[0] if len(found) == 1 else ""


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_over_http2_who_is_alone_on_a_connection_is_stopped(site: Site, honest: list[Loop], http2_port: int) -> None:
    key, source = f"{KEY}-http2", "127.0.0.90"
    thief = Http2Caller(http2_port, source, {"X-Api-Key": key})
    site.callers.append(thief)
    beside = Loop(Http2Caller(http2_port, HONEST, {"X-Api-Key": OTHER_KEY}))
    assert [thief.call() for _ in range(5)] == ["200"] * 5
    block_id = site.block(_find_key(site, thief), seconds=BLOCK_SECONDS)
    wait_for_equal(thief.call, "reset", "its connection is reset")
    told = wait_until(
        lambda: (b := site.ask("GET", f"blocks/{block_id}"))["nodes"][0]["first_stop_at"] and b, "it is told"
    )
    assert told["nodes"][0]["spared_requests"] == told["nodes"][0]["failed_resets"] == 0
    assert set(beside.stop()) == {"200"}


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_over_http2_a_new_connections_first_request_is_not_read(
    site: Site, honest: list[Loop], http2_server: Nginx
) -> None:
    key, source = f"{KEY}-http2-new", "127.0.0.93"
    thief = Http2Caller(http2_server.port, source, {"X-Api-Key": key}, is_keep_alive=False)
    site.callers.append(thief)
    neighbour = Http2Caller(http2_server.port, source, {"X-Api-Key": OTHER_KEY + "3"}, is_keep_alive=False)
    site.callers.append(neighbour)

    def count_read() -> int:
        log = (http2_server.directory / "access.log").read_text()
        return sum(line.startswith(f"{source} ") for line in log.splitlines())

    assert [thief.call() for _ in range(5)] == ["200"] * 5
    wait_for_equal(count_read, 5, "nginx has noted five requests")
    site.block(_find_key(site, thief), seconds=BLOCK_SECONDS)
    # The kernel finds it once one call of it was described while it was blocked.
    wait_for_equal(thief.call, "reset", "a connection is reset")
    time.sleep(0.3)
    read = count_read()
    assert [thief.call() for _ in range(20)] == ["reset"] * 20
    time.sleep(0.3)
    assert count_read() == read  # None of the twenty came to the program.
    assert [neighbour.call() for _ in range(5)] == ["200"] * 5  # The same address, another key.


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_over_http2_a_connection_of_several_goes_on_until_it_is_confirmed(
    site: Site, honest: list[Loop], http2_port: int
) -> None:
    key, source = f"{KEY}-shared", "127.0.0.91"
    line = Line(http2_port, source)
    thief = Http2Caller(http2_port, source, {"X-Api-Key": key}, line=line, is_shared=True)
    other = Http2Caller(http2_port, source, {"X-Api-Key": OTHER_KEY + "2"}, line=line, is_shared=True)
    assert [thief.call() for _ in range(5)] == ["200"] * 5
    target = _find_key(site, thief)
    assert other.call() == "200"
    block_id = site.ask("POST", "blocks", consumer=target, seconds=BLOCK_SECONDS)["id"]
    wait_until(lambda: site.is_enforced(block_id), "the sensor enforces it")

    def count_spared() -> int:
        assert thief.call() == other.call() == "200"
        return int(site.ask("GET", f"blocks/{block_id}")["nodes"][0]["spared_requests"])

    wait_until(lambda: count_spared() >= 5, "its requests are told as let through")
    site.lift_all()
    site.block(target, seconds=BLOCK_SECONDS)  # Confirmed.
    wait_until(lambda: "reset" in (thief.call(), other.call()), "the connection is reset")
    line.close()


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_behind_tls_a_credential_is_stopped(
    site: Site, honest: list[Loop], tmp_path_factory: pytest.TempPathFactory
) -> None:
    key, source = f"{KEY}-tls", "127.0.0.92"
    shop = Shop(context=make_context(tmp_path_factory.mktemp("tls")))
    thief = Caller(shop.port, source, {"X-Api-Key": key}, is_tls=True)
    site.callers.append(thief)
    beside = Loop(Caller(shop.port, HONEST, {"X-Api-Key": OTHER_KEY}, is_tls=True))

    def look() -> str:
        assert thief.call() == "200"
        return _look_for(site, thief)

    block_id = site.block(wait_until(look, "the attacker is a consumer"), seconds=BLOCK_SECONDS)
    wait_for_equal(thief.call, "reset", "its connection is reset")
    told = wait_until(
        lambda: (b := site.ask("GET", f"blocks/{block_id}"))["nodes"][0]["first_stop_at"] and b, "it is told"
    )
    assert told["nodes"][0]["failed_resets"] == 0
    site.lift_all()
    assert set(beside.stop()) == {"200"}
    shop.stop()


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_a_flood_and_a_hostile_block_hurt_nobody(site: Site, honest: list[Loop]) -> None:
    """What somebody with the collector could ask: more blocks than the sensor takes, wide networks, the never-block
    list."""
    for n in range(30):
        site.ask("POST", "blocks", consumer=f"203.0.113.{n}", seconds=600)
    for consumer in ("127.0.0.250", "126.0.0.0/8", "127.0.0.0/8"):
        site.ask("POST", "blocks", consumer=consumer, seconds=600, is_confirmed=True)

    def count() -> list[int]:
        nodes = [
            node for item in site.ask("GET", "blocks")["items"] if item["state"] == "live" for node in item["nodes"]
        ]
        return [sum(node["is_enforced"] for node in nodes), sum(not node["is_enforced"] for node in nodes)]

    wait_for_equal(count, [20, 13], "the sensor takes 20 and declines 13")
    spared = site.open_caller(source="127.0.0.250")
    assert [spared.call() for _ in range(5)] == ["200"] * 5


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_a_sensor_that_is_killed_or_stands_still_stops_nobody(site: Site, honest: list[Loop]) -> None:
    thief = site.open_caller()
    site.block(THIEF, seconds=3_600)
    assert thief.call() == "reset"
    sensor = site.product._running["sensor"]
    os.kill(sensor.pid, signal.SIGSTOP)
    try:
        # The kernel goes on for five seconds, and nobody resets: then everything passes.
        wait_for_equal(thief.call, "200", "a sensor that hangs stops nobody")
    finally:
        os.kill(sensor.pid, signal.SIGCONT)
    wait_for_equal(thief.call, "reset", "it goes on")
    os.kill(sensor.pid, signal.SIGKILL)
    sensor.process.wait()
    wait_for_equal(thief.call, "200", "a sensor that was killed stops nobody")


@pytest.mark.full("sensor.enforce", "sensor.agent", "collector.response", "sensor.ebpf")
def test_a_sensor_that_starts_is_told_and_lifts_when_the_collector_is_gone(site: Site) -> None:
    """The block of the test before is live still; the settings say three seconds."""
    thief = site.open_caller()
    site.product.start_sensor(site.address, "--config", str(site.config))
    wait_for_equal(thief.call, "reset", "the new sensor enforces what is live")
    collector = site.product._running["collector"]
    # As where the network between them is cut: connected still, and silent.
    os.kill(collector.pid, signal.SIGSTOP)
    try:
        wait_for_equal(thief.call, "200", "behind a cut nobody is stopped")
    finally:
        os.kill(collector.pid, signal.SIGCONT)
    wait_for_equal(thief.call, "reset", "the sensor has the block again")
    os.kill(collector.pid, signal.SIGKILL)
    collector.process.wait()
    time.sleep(0.3)
    assert thief.call() == "reset"  # Not at once: a collector may start again.
    wait_for_equal(thief.call, "200", "without a collector nobody is stopped")
    site.close_callers()
