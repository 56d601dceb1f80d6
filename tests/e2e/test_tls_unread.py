"""Servers over TLS of libraries that are not read: each port is in the coverage as encrypted, with the reason of its
process and calls that are estimated, and reported by its clients, which are read. Real Java, NSS' own server, granian
and Deno (rustls), Bun (BoringSSL), and a library under a name that nobody knows; beside them what is read: Envoy,
whose BoringSSL is stripped, and rustls with symbols.
"""

import contextlib
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.live.program import Program
from scripts.ports import take_port
from tests.e2e.application import HERE, READY_SECONDS, Servers, find_or_skip, run_until_it_listens
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.openssl11 import find_openssl11
from tests.e2e.rustls import build_rustls_server
from tests.e2e.tls_cases import make_context, wait_until_searched
from tests.e2e.wheels import unpack_wheel
from tests.e2e.wire import RawClient
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

ADDRESS = "127.0.0.1"
CALLS = 23
STILL_SECONDS = 4.0
# Of each server that is not read, what the reason says.
REASONS = {
    "java": "Java encrypts in code that it makes as it runs, where probes cannot be.",
    "nss": "NSS is not read.",
    "rustls": "rustls is read only where the symbols of its version 0.23 remain.",
    "deno": "rustls is read only where the symbols of its version 0.23 remain.",
    "bun": "The functions of this BoringSSL were not found.",
    "renamed": "No library of TLS that can be read was found in its process.",
}
# Of each that is read, its library: Envoy has no symbols, the server of rustls has them.
READ = {"envoy": "BoringSSL", "envoy_http2": "BoringSSL", "rustls_symbols": "rustls"}


@dataclass(slots=True)
class Unread:
    """Their ports, or why they did not run; what was told of them in the end."""

    ports: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    def rows_of(self, name: str) -> dict[str, dict[str, Any]]:
        """By protocol."""
        return {row["protocol"]: row for row in self.rows if row["service"]["port"] == self.ports[name]}


class Strangers:
    """Starts them; `stop` ends them."""

    def __init__(self, directory: Path, certificate: Certificate) -> None:
        self._directory = directory
        self._certificate = certificate
        self._servers = Servers(directory, certificate)
        self._programs: list[Program] = []

    def start(self, name: str) -> int:
        """Its port. Skips where it is not installed."""
        if name in ("java", "deno", "bun"):
            return self._servers.start(name, ADDRESS).port
        if name == "nss":
            return self._start_nss()
        if name == "rustls":
            return self._start_granian()
        if name == "rustls_symbols":
            files = (str(self._certificate.certificate), str(self._certificate.key))
            return self._run(name, [str(build_rustls_server()), ADDRESS, *files])
        return self._start_renamed() if name == "renamed" else self._servers.start("envoy", ADDRESS).port

    def stop(self) -> None:
        """All."""
        self._servers.stop()
        for program in self._programs:
            program.stop()

    def _run(self, name: str, command: list[str]) -> int:
        program = Program(name, command, self._directory / f"{name}.log")
        self._programs.append(program)
        return int(program.wait_for("ready", READY_SECONDS)["port"])

    def _run_until_it_listens(self, name: str, command: list[str], port: int) -> int:
        log = self._directory / f"{name}.log"
        self._programs.append(run_until_it_listens(name, command, log, (ADDRESS, port)))
        return port

    def _start_nss(self) -> int:
        """NSS' own server: answers anything with 200 and ends the connection."""
        program, import_key = find_or_skip("selfserv", "libnss3-tools"), find_or_skip("pk12util", "libnss3-tools")
        store, both, port = self._directory / "nss", self._directory / "both.p12", take_port()
        store.mkdir()
        files = ("-inkey", str(self._certificate.key), "-in", str(self._certificate.certificate))
        export = ["openssl", "pkcs12", "-export", *files, "-name", "server", "-out", str(both), "-passout", "pass:"]
        make_store = [find_or_skip("certutil", "libnss3-tools"), "-N", "-d", f"sql:{store}", "--empty-password"]
        take = [import_key, "-i", str(both), "-d", f"sql:{store}", "-W", "", "-K", ""]
        for command in (export, make_store, take):
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        options = ["-d", f"sql:{store}", "-n", "server", "-p", str(port), "-w", "", "-V", "tls1.2:tls1.3"]
        return self._run_until_it_listens("nss", [program, *options], port)

    def _start_granian(self) -> int:
        """A server of Python whose extension has rustls, without symbols."""
        package, port = unpack_wheel("granian"), take_port()
        files = ("--ssl-certificate", str(self._certificate.certificate), "--ssl-keyfile", str(self._certificate.key))
        options = ["--host", ADDRESS, "--port", str(port), "--interface", "asgi", "--http", "1", *files]
        paths = f"import sys; sys.path[:0] = [{str(package)!r}, {str(HERE)!r}]"
        code = f"{paths}; from granian.cli import entrypoint; entrypoint()"
        command = [sys.executable, "-c", code, *options, "app_asgi:application"]
        return self._run_until_it_listens("rustls", command, port)

    def _start_renamed(self) -> int:
        """A library of TLS that has another name than any that is looked for."""
        cryptography, library = find_openssl11()
        stranger = self._directory / "libtransport.so.7"
        shutil.copy(library, stranger)
        files = (str(self._certificate.certificate), str(self._certificate.key))
        script = str(HERE / "app_openssl.py")
        command = [sys.executable, script, str(cryptography), str(stranger), "descriptor", ADDRESS, *files]
        return self._run("renamed", command)


def send(name: str, port: int, certificate: Certificate) -> None:
    """23 calls: on one connection, but to NSS' server."""
    if name == "envoy_http2":
        curl = [find_or_skip("curl", "curl"), "--silent", "--noproxy", "*", "--cacert", str(certificate.authority)]
        url = f"https://{ADDRESS}:{port}/orders/[1001-{1000 + CALLS}]"
        done = subprocess.run(
            [*curl, "--http2", "--write-out", "%{http_code}\n", "--output", "/dev/null", url],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == ["200"] * CALLS
        return
    context = make_context(certificate, ssl.TLSVersion.TLSv1_3)
    if name == "nss":
        curl = [find_or_skip("curl", "curl"), "--silent", "--noproxy", "*", "--cacert", str(certificate.authority)]
        for number in range(CALLS):
            subprocess.run(
                [*curl, f"https://{ADDRESS}:{port}/orders/{number}"], check=True, capture_output=True, timeout=60
            )
        return
    with RawClient(ADDRESS, port, tls=context) as client:
        for number in range(1_001, 1_001 + CALLS):
            client.call("GET", f"/orders/{number}")


def wait_for_rows(inventory: Inventory, ports: dict[str, int]) -> list[dict[str, Any]]:
    """The report, once it has calls of each port, read or estimated, or what it says in the end."""
    rows: list[dict[str, Any]] = []

    def are_called() -> bool:
        rows[:] = inventory.list_items("/coverage/ports")
        counts = {row["service"]["port"]: row["calls"] + row["estimated_calls"] for row in rows}
        # Of NSS they are estimated too low.
        return all(counts.get(port, 0) >= (1 if name == "nss" else CALLS - 2) for name, port in ports.items())

    with contextlib.suppress(AssertionError):  # Each test says what of its own is missing.
        wait_until(are_called, "all ports are in the coverage")
    return rows


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Strangers]:
    running = Strangers(tmp_path_factory.mktemp("strangers"), certificate)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def unread(
    product: Product, strangers: Strangers, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Unread:
    told = Unread()
    for name in (*REASONS, *READ):
        try:
            told.ports[name] = strangers.start(name)
        except pytest.skip.Exception as reason:
            told.skipped[name] = str(reason)
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("config") / "sensor.toml"
    config.write_text("read_tls = 'full'\n")
    metrics = f"{ADDRESS}:{take_port()}"
    sensor = product.start_sensor(address, "--config", str(config), "--metrics-listen", metrics)
    inventory = product.open_inventory(address)
    wait_until_searched(sensor, f"http://{metrics}/metrics")
    for name, port in told.ports.items():
        send(name, port, certificate)
    ports = list(told.ports.values())
    wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
    told.rows = wait_for_rows(inventory, told.ports)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
    told.calls = {name: inventory.count_calls(port) for name, port in told.ports.items()}
    return told


@pytest.mark.parametrize("name", REASONS)
def test_what_is_not_read_is_listed_with_its_reason(unread: Unread, name: str) -> None:
    if name in unread.skipped:
        pytest.skip(unread.skipped[name])
    rows = unread.rows_of(name)
    assert set(rows) == {"encrypted"}, rows
    row = rows["encrypted"]
    assert REASONS[name] in row["reason"]
    assert not row["is_read"]
    assert row["calls"] == 0
    if name != "nss":  # It ends the connection behind each answer, which is estimated too high or too low.
        assert row["estimated_calls"] == pytest.approx(CALLS, abs=2)


@pytest.mark.parametrize("name", READ)
def test_what_is_read_beside_them(unread: Unread, name: str) -> None:
    if name in unread.skipped:
        pytest.skip(unread.skipped[name])
    row = unread.rows_of(name).get("https", {})
    assert unread.calls[name] == CALLS, unread.rows_of(name)
    assert READ[name] in row["reason"]


@pytest.mark.parametrize("name", REASONS)
def test_its_clients_tell_its_calls(unread: Unread, name: str) -> None:
    """At their end, where it is read."""
    if name in unread.skipped:
        pytest.skip(unread.skipped[name])
    assert unread.calls[name] == CALLS, unread.calls
