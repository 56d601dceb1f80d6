"""The sensor attaches the Java agent to a JVM of a cgroup that the file `java-attach` names; its calls are read."""

import os
import ssl
from collections.abc import Iterator

import pytest

from sensor.capture.java.build import JAR, build_jar
from sensor.capture.java.consent import FILE_NAME
from tests.bpf.cgroups import enter, find_mount, find_own
from tests.e2e.application import Servers, find_or_skip
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import expect, observe, send_mix
from tests.e2e.wire import RawClient
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.java")]

ADDRESS = "127.0.0.1"


@pytest.fixture
def java(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[tuple[int, int, str]]:
    """Port, process and cgroup of a server; no other JVM of this host is in it."""
    find_or_skip("javac", "default-jdk-headless")
    if not JAR.exists():
        build_jar()
    home = find_own() / f"apidae_test_java_{os.getpid()}.slice"
    home.mkdir()
    running = Servers(tmp_path_factory.mktemp("servers"), certificate)
    try:
        with enter(home):
            port = running.start("java", ADDRESS).port
        (pid,) = (home / "cgroup.procs").read_text().split()
        yield port, int(pid), f"/{home.relative_to(find_mount())}"
    finally:
        running.stop()
        home.rmdir()


def test_a_jvm_that_runs_is_read_where_a_file_consents(
    product: Product, java: tuple[int, int, str], certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port, pid, cgroup = java
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("config") / "sensor.toml"
    config.write_text("read_tls = 'full'\n")
    sensor = product.start_sensor(address, "--config", str(config))
    config.with_name(FILE_NAME).write_text(f"# Ours.\n{cgroup}\n")
    wait_until(lambda: "reading what the Java agent" in sensor.log_path.read_text(), "the Java agent reads")
    with RawClient(ADDRESS, port, tls=make_context(certificate, ssl.TLSVersion.TLSv1_3)) as client:
        send_mix(client)
    inventory = product.open_inventory(address)
    wait_for_equal(lambda: observe(inventory.read_ports({port})[port]), expect(client.calls), "every call")

    def list_entries() -> list[tuple[str, str]]:
        entries = inventory.list_items("/audit", action="java")
        assert all(f"process {pid} (java)" in one["target"] and one["by"].startswith("sensor:") for one in entries)
        return [(one["action"], one["why"]) for one in reversed(entries)]

    attached = ("java.attached", f"Consent: line 2 {cgroup} of java-attach.")
    wait_for_equal(list_entries, [attached], "the audit log has it")
    config.with_name(FILE_NAME).write_text("# Nobody.\n")
    wait_for_equal(list_entries, [attached, ("java.detached", "Consent was withdrawn.")], "it was withdrawn")
