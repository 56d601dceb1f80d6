"""Two services in two cgroups and a sensor on one: none of the other's calls, by packets, by system calls, where
packets are refused, and over TLS, though both run the same libraries. And two sensors at once, each with a cgroup of
its own.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.live.host import start_collector, start_sensor
from scripts.live.program import Program, ProgramError
from sensor.core.read_tls import ReadTls
from tests.bpf.cgroups import enter, find_own, refuse_packets, remove
from tests.e2e.application import Server, Servers
from tests.e2e.certificates import Certificate
from tests.e2e.inventory import Inventory
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import MIX, Table, expect, observe, send_mix
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
FULL = pytest.mark.full("sensor.agent", "sensor.ebpf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A cgroup of its own with two servers in it, in the clear and over TLS."""

    cgroup: Path
    plain: Server
    encrypted: Server

    @property
    def ports(self) -> set[int]:
        return {self.plain.port, self.encrypted.port}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A sensor and the collector that it alone sends to."""

    sensor: Program
    inventory: Inventory


@pytest.fixture(scope="module")
def services(
    capture_host: None, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[tuple[Service, Service]]:
    """The watched one and another."""
    with contextlib.ExitStack() as stack:
        both = []
        for name in ("watched", "other"):
            cgroup = find_own() / f"apidae_scope_{name}_{os.getpid()}"
            cgroup.mkdir()
            stack.callback(remove, cgroup)
            plain = Servers(tmp_path_factory.mktemp(name))
            encrypted = Servers(tmp_path_factory.mktemp(f"{name}-tls"), certificate)
            stack.callback(plain.stop)
            stack.callback(encrypted.stop)
            with enter(cgroup):
                both.append(
                    Service(
                        cgroup=cgroup,
                        plain=plain.start("python", ADDRESS),
                        encrypted=encrypted.start("python", ADDRESS),
                    )
                )
        yield both[0], both[1]


@contextlib.contextmanager
def watching(directory: Path, scope: Path, *extra: str, read_tls: ReadTls = ReadTls.FULL) -> Iterator[Watch]:
    """A sensor on a cgroup, with everything of its own."""
    directory.mkdir()
    config = directory / "sensor.toml"
    config.write_text(f"read_tls = '{read_tls}'\n")
    places = ("--run-dir", str(directory / "run"), "--cgroup-path", str(scope), "--config", str(config))
    with contextlib.ExitStack() as stack:
        collector, address = start_collector(directory / "data", directory)
        stack.callback(collector.stop)
        sensor = start_sensor(address, directory / "state", directory, *places, *extra)
        stack.callback(sensor.stop)
        inventory = Inventory(address.url)
        stack.callback(inventory.close)
        if read_tls is not ReadTls.OFF:
            wait_until(lambda: "reading TLS of" in sensor.log_path.read_text(), "the library is found")
        yield Watch(sensor=sensor, inventory=inventory)


def call(server: Server, certificate: Certificate | None = None) -> Table:
    """The mix of calls, by a client that is in neither of the cgroups."""
    context = make_context(certificate, ssl.TLSVersion.TLSv1_3) if certificate is not None else None
    with RawClient(server.address, server.port, tls=context) as client:
        send_mix(client)
        return expect(client.calls)


def read_calls(watch: Watch, count: int) -> dict[int, Table]:
    """All that the sensor reported, by port, once so many calls came and it has ended."""
    wait_until(lambda: count_calls(watch.inventory) >= count, f"{count} calls")
    assert watch.sensor.stop() == 0, watch.sensor.log_tail()
    ports = {item["service"]["port"] for item in watch.inventory.list_items("/endpoints", operations="exclude")}
    return {port: observe(found) for port, found in watch.inventory.read_ports(ports).items()}


def count_calls(inventory: Inventory) -> int:
    return sum(item["calls"] for item in inventory.list_items("/endpoints", operations="exclude"))


@pytest.mark.parametrize("way", ["cgroup_skb", pytest.param("syscalls", marks=FULL), "auto"])
def test_a_sensor_on_one_cgroup_reports_nothing_of_another(
    services: tuple[Service, Service], certificate: Certificate, tmp_path: Path, way: str
) -> None:
    """With `auto` packets are refused: the system calls that stand in for them are those of this cgroup."""
    watched, _ = services
    with contextlib.ExitStack() as stack:
        if way == "auto":
            stack.enter_context(refuse_packets(watched.cgroup))
        watch = stack.enter_context(watching(tmp_path / "sensor", watched.cgroup, "--capture", way))
        expected = {}
        for service in services:  # The other one last: what is reported of it would be there after its last call.
            expected[service.plain.port] = call(service.plain)
            expected[service.encrypted.port] = call(service.encrypted, certificate)
        rows = wait_until(
            lambda: [row for row in watch.inventory.list_items("/coverage/ports") if row["role"] == "listening"],
            "a report of the ports",
        )
        reported = read_calls(watch, 2 * len(MIX))
    assert reported == {port: expected[port] for port in watched.ports}
    assert {row["service"]["port"] for row in rows} <= watched.ports


@pytest.mark.full("sensor.agent", "sensor.enrich")
def test_sensors_of_two_cgroups_run_at_once_and_each_reports_its_own(
    services: tuple[Service, Service], certificate: Certificate, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        watches = [
            stack.enter_context(watching(tmp_path / str(number), service.cgroup))
            for number, service in enumerate(services)
        ]
        expected = [
            {service.plain.port: call(service.plain), service.encrypted.port: call(service.encrypted, certificate)}
            for service in services
        ]
        above = services[0].cgroup.parent
        with pytest.raises(ProgramError, match="Another sensor already runs on this node") as refusal:
            stack.enter_context(watching(tmp_path / "above", above))
        assert any(f"pid {watch.sensor.pid}" in str(refusal.value) for watch in watches)
        reported = [read_calls(watch, 2 * len(MIX)) for watch in watches]
    assert reported == expected


def test_a_sensor_ends_with_the_cgroup_that_it_watches(capture_host: None, tmp_path: Path) -> None:
    """As a unit's does at each of its restarts: it would see nothing any more."""
    cgroup = find_own() / f"apidae_scope_gone_{os.getpid()}"
    cgroup.mkdir()
    with watching(tmp_path / "sensor", cgroup, read_tls=ReadTls.OFF) as watch:
        cgroup.rmdir()
        wait_until(lambda: not watch.sensor.is_running, "it ends")
        assert watch.sensor.process.returncode == 1
        assert f"the watched cgroup {cgroup} is gone" in watch.sensor.log_tail()
