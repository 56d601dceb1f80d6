"""Calls over TLS of real servers, read where the processes hand them to their libraries: none more, none less, each
at its path with its status and its bytes.

As in test_calls.py all workloads run once; then the sensor is stopped, which sends what it holds; then each is
compared.
"""

import contextlib
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from scripts.ports import take_port
from tests.e2e.application import Servers, find_or_skip
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Endpoint, Inventory
from tests.e2e.tls_cases import BODY_CALLS, CASES, PEOPLE, TlsCases, make_context, wait_until_searched
from tests.e2e.traffic import MIX, Table, expect, observe, read_endpoint_key, send_mix
from tests.e2e.wire import RawClient
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

ADDRESS = "127.0.0.1"
STILL_SECONDS = 3.0
KINDS = (
    *("nginx", "python", "asyncio", "node", "node22", "node24", "php", "php_fpm", "dotnet", "apache", "go"),
    *("go_stripped", "java_agent"),
)
PROXIES = ("haproxy",)
ALL = (*KINDS, *PROXIES)
LIBRARIES = {"go": "Go crypto/tls", "go_stripped": "Go crypto/tls", "java_agent": "Java"}
# Of curl: whom it calls and how.
CURLS = {
    "curl": ("go", ("--http1.1",)),
    "curl_http2": ("go", ("--http2",)),
    "nginx_http2": ("nginx", ("--http2",)),
}

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(slots=True)
class Observed:
    """What was sent to each port, why a workload did not run, and what the inventory holds in the end."""

    ports: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Table] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    found: dict[int, list[Endpoint]] = field(default_factory=dict)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)  # Of the case of that name, by template.


def wait_for_coverage(inventory: Inventory, told: Observed) -> list[dict[str, Any]]:
    """Its rows of listening ports, once they say of each port that all its calls are read, or what they say in the end.
    A client's end may have the number of such a port: its row is of what it calls."""
    sums = {name: sum(calls for calls, *_ in table.values()) for name, table in told.sent.items()}
    wanted = {told.ports[name]: sums[name] for name in (*ALL, "weak") if name in sums}
    rows: list[dict[str, Any]] = []

    def are_read() -> bool:
        rows[:] = [row for row in inventory.list_items("/coverage/ports") if row["role"] == "listening"]
        read = {row["service"]["port"]: row["calls"] for row in rows if row["protocol"] == "https"}
        return wanted.items() <= read.items()

    with contextlib.suppress(AssertionError):  # Each test says what of its own is missing.
        wait_until(are_read, "all calls are in the coverage")
    return rows


def run_curl(port: int, certificate: Certificate, *options: str) -> None:
    """One curl, one connection: 17 orders and 6 that are not there."""
    curl = find_or_skip("curl", "curl")
    root = f"https://{ADDRESS}:{port}"
    command = [curl, "--silent", "--noproxy", "*", "--cacert", str(certificate.authority), *options]
    command += ["--write-out", "%{http_version} %{http_code}\n"]
    for url in (f"{root}/orders/[1001-1017]", f"{root}/missing/[1-6]"):
        command += ["--output", "/dev/null", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    version = "2" if "--http2" in options else "1.1"
    assert Counter(done.stdout.splitlines()) == {f"{version} 200": 17, f"{version} 404": 6}


@pytest.fixture(scope="module")
def encrypted_servers(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("servers"), certificate)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def observed(
    product: Product,
    servers: Servers,
    encrypted_servers: Servers,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Observed:
    told = Observed()
    for kind in KINDS:
        try:
            told.ports[kind] = encrypted_servers.start(kind, ADDRESS).port
        except pytest.skip.Exception as reason:
            told.skipped[kind] = str(reason)
    for name, (kind, _) in CURLS.items():
        try:
            told.ports[name] = encrypted_servers.start(kind, ADDRESS).port
        except pytest.skip.Exception as reason:
            told.skipped[name] = str(reason)
    cases = TlsCases(encrypted_servers, certificate, tmp_path_factory.mktemp("cases"))
    request.addfinalizer(cases.stop)
    cases.open()
    for kind in PROXIES:
        try:
            told.ports[kind] = encrypted_servers.start_proxy(kind, servers.start("python", ADDRESS)).port
        except pytest.skip.Exception as reason:
            told.skipped[kind] = str(reason)
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("config") / "sensor.toml"
    # With less the governor may refuse bodies while so many servers are met.
    config.write_text("read_tls = 'full'\ncapture_budget_core_share = 8\n")
    metrics = f"{ADDRESS}:{take_port()}"
    sensor = product.start_sensor(address, "--config", str(config), "--metrics-listen", metrics)
    inventory = product.open_inventory(address)
    wait_until_searched(sensor, f"http://{metrics}/metrics")
    if "java_agent" not in told.skipped:
        wait_until(lambda: "reading what the Java agent" in sensor.log_path.read_text(), "the Java agent reads")
    for kind, port in told.ports.items():
        if kind not in ALL:
            continue
        calls = []
        for version in VERSIONS:
            with RawClient(ADDRESS, port, tls=make_context(certificate, version)) as client:
                send_mix(client)
                calls += client.calls
        told.sent[kind] = expect(calls)
    for name, (_, options) in CURLS.items():
        try:
            run_curl(told.ports[name], certificate, *options)
        except (KeyError, pytest.skip.Exception) as reason:
            told.skipped[name] = str(reason)
    cases.send()
    told.ports |= cases.ports
    told.sent |= cases.sent
    told.skipped |= cases.skipped
    expected = sum(calls for table in cases.sent.values() for calls, *_ in table.values())
    expected += len(ALL) * len(VERSIONS) * len(MIX) + len(CURLS) * 23
    expected -= sum(len(VERSIONS) * len(MIX) if name in ALL else 23 for name in told.skipped if name not in CASES)
    wait_until_still(lambda: inventory.count_calls(*told.ports.values()), STILL_SECONDS)
    told.coverage = wait_for_coverage(inventory, told)
    assert sensor.stop() == 0, sensor.log_tail()
    with contextlib.suppress(AssertionError):  # Each test says what of its own is missing.
        wait_until(lambda: inventory.count_calls(*told.ports.values()) >= expected, "all calls")
    told.found = inventory.read_ports(set(told.ports.values()))
    for name in ("bodies", "nginx_http2"):
        details = [inventory.get(f"/endpoints/{one.id}") for one in told.found.get(told.ports.get(name, 0), [])]
        told.bodies[name] = {f"{one['method']} {one['template']}": one["bodies"] for one in details}
    return told


@pytest.mark.parametrize("kind", ALL)
def test_calls_are_exact(observed: Observed, kind: str) -> None:
    if kind in observed.skipped:
        pytest.skip(observed.skipped[kind])
    assert observe(observed.found[observed.ports[kind]]) == observed.sent[kind]


@pytest.mark.parametrize("name", CASES)
def test_calls_of_a_case_are_exact(observed: Observed, name: str) -> None:
    """Sessions that are resumed, 1 MB each way, connections older than the sensor (nobody counts what was said before),
    no encryption, a library of another mount namespace, OpenSSL 1.1."""
    if name in observed.skipped:
        pytest.skip(observed.skipped[name])
    assert observe(observed.found[observed.ports[name]]) == observed.sent[name]


def test_a_weak_choice_is_told(observed: Observed) -> None:
    (row,) = [row for row in observed.coverage if row["service"]["port"] == observed.ports["weak"]]
    assert (row["protocol"], row["is_read"]) == ("https", True)
    (choice,) = row["handshakes"]["weak_choices"]
    assert (choice["version"], choice["cipher_suite"]) == ("TLS 1.1", "TLS_ECDHE_ECDSA_WITH_NULL_SHA")


def test_bodies_are_read(observed: Observed) -> None:
    bodies = observed.bodies["bodies"]
    (people,) = [found for name, found in bodies.items() if name.startswith("GET /customers/")]
    assert (people["responses_read"], people["records_basis"]) == (BODY_CALLS, "measured")
    assert people["records_returned"] == people["records_measured"] == BODY_CALLS * PEOPLE
    assert {"email", "credit_card"} <= {one["kind"] for one in people["data"] if one["side"] == "response"}
    login = bodies["POST /logins"]
    assert login["requests_read"] == BODY_CALLS
    assert {one["kind"] for one in login["data"] if one["side"] == "request"} == {"password"}


def test_bodies_of_http2_are_read(observed: Observed) -> None:
    if "nginx_http2" in observed.skipped:
        pytest.skip(observed.skipped["nginx_http2"])
    (orders,) = [found for name, found in observed.bodies["nginx_http2"].items() if name.startswith("GET /orders/")]
    assert (orders["responses_read"], orders["records_returned"]) == (17, 17)


@pytest.mark.parametrize("kind", ALL)
def test_coverage_says_how_they_are_read(observed: Observed, kind: str) -> None:
    if kind in observed.skipped:
        pytest.skip(observed.skipped[kind])
    rows = [row for row in observed.coverage if row["service"]["port"] == observed.ports[kind]]
    found = [(row["protocol"], row["is_read"], row["connections"], row["calls"]) for row in rows]
    assert found == [("https", True, len(VERSIONS), 46)]
    assert LIBRARIES.get(kind, "OpenSSL") in rows[0]["reason"]


@pytest.mark.parametrize("name", CURLS)
def test_calls_of_curl_are_exact(observed: Observed, name: str) -> None:
    if name in observed.skipped:
        pytest.skip(observed.skipped[name])
    calls = {
        read_endpoint_key(endpoint): (endpoint.calls, endpoint.status_codes)
        for endpoint in observed.found[observed.ports[name]]
    }
    assert calls == {("GET", "/orders/{}"): (17, ((200, 17),)), ("GET", "/missing/{}"): (6, ((404, 6),))}
