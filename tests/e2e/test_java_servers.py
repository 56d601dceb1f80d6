"""Tomcat, Jetty, Netty, a server like Spring WebFlux and gRPC-Java over TLS with the Java agent: each call at its
endpoint with its status and its bytes, from its principal, over HTTP/1.1 and HTTP/2.

As in test_calls.py all workloads run once; then the sensor is stopped, which sends what it holds; then each is
compared.
"""

import contextlib
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from scripts.live.program import Program
from sensor.capture.java.build import build_jar
from tests.e2e.application import HERE, READY_SECONDS, find_or_skip
from tests.e2e.callers import SERVICE
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.credentials import write_credential
from tests.e2e.http2_client import send_mix_over_http2
from tests.e2e.inventory import Endpoint
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import BODY, MIX, Table, expect, observe
from tests.e2e.wire import RawClient, Sent
from tests.sensor.capture.java.jvms import make_key_store
from tests.waiting import DEADLINE_SECONDS, wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.java")]

ADDRESS = "127.0.0.1"
STILL_SECONDS = 3.0
JARS = Path("/usr/share/java")
NETTY = (
    *("netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler"),
    *("netty-resolver", "netty-transport", "netty-transport-native-unix-common", "jctools-core"),
)
# Of each server: Debian's package, and the jars that it needs.
SERVERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Tomcat": (
        "libtomcat10-java",
        tuple(
            f"tomcat10-{name}"
            for name in (
                *("catalina", "coyote", "servlet-api", "annotations-api", "util", "util-scan", "juli", "api", "jni"),
                *("el-api", "jsp-api", "jaspic-api"),
            )
        ),
    ),
    "Jetty": (
        "libjetty9-java",
        (
            *(f"jetty9-{name}" for name in ("server", "http", "io", "util", "alpn-server", "alpn-java-server")),
            *("jetty9-http2-server", "jetty9-http2-common", "jetty9-http2-hpack", "servlet-api"),
        ),
    ),
    "Netty": ("libnetty-java", NETTY),
    # The handlers of reactor-netty, which Debian has not: the server of Spring WebFlux.
    "Reactor": ("libnetty-java", NETTY),
    "Grpc": (
        "libgrpc-java",
        (*NETTY, "grpc-api", "grpc-core", "grpc-context", "grpc-netty", "grpc-stub", "guava", "perfmark-api", "gson"),
    ),
}
SOURCES = dict.fromkeys(("Netty", "Reactor", "Grpc"), ("Alpn",))
HTTP = ("Tomcat", "Jetty", "Netty", "Reactor")
QUICK = ("-Xshare:auto", "-XX:TieredStopAtLevel=1")  # To start.
# Of `write_credential`, by version of HTTP: each makes 23 calls.
PRINCIPALS = {"1.1": 3, "2": 5}
CALLS = len(PRINCIPALS) * len(MIX)
OF_GRPC = {"Get": 17, "Fail": 6}


@dataclass(slots=True)
class Observed:
    """What was sent to each server, why one did not run, and what the inventory holds in the end. Mutable."""

    ports: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Table] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    found: dict[int, list[Endpoint]] = field(default_factory=dict)

    def find(self, name: str) -> list[Endpoint]:
        """Skips where the server did not run."""
        if name in self.skipped:
            pytest.skip(self.skipped[name])
        return self.found[self.ports[name]]


class JavaServers:
    """Compiles and starts them, each with the agent."""

    def __init__(self, directory: Path, certificate: Certificate) -> None:
        self._directory = directory
        self._store = make_key_store(certificate, directory)
        self._javac = find_or_skip("javac", "default-jdk-headless")
        self._jar = build_jar(directory / "agent.jar")
        self._running: list[Program] = []

    def start(self, name: str, options: Sequence[str] = QUICK) -> int:
        """Its port. Skips where its jars are not installed."""
        return int(self.start_program(name, options).wait_for("ready", READY_SECONDS)["port"])

    def start_program(self, name: str, options: Sequence[str]) -> Program:
        """The same, which reports its port when it is `ready`."""
        packages, jars = SERVERS[name]
        paths = [JARS / f"{jar}.jar" for jar in jars]
        if not all(path.exists() for path in paths):
            pytest.skip(f"{name} is not installed: apt-get install {packages}")
        classes = self._directory / name
        class_path = ":".join(map(str, paths))
        sources = [str(HERE / "java" / f"{one}.java") for one in (*SOURCES.get(name, ()), "Answers", f"{name}App")]
        command = [
            self._javac,
            "--release",
            "11",
            "-nowarn",
            "-proc:none",
            "-cp",
            class_path,
            "-d",
            str(classes),
            *sources,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=READY_SECONDS)
        options = (*options, f"-javaagent:{self._jar}", "-cp", f"{classes}:{class_path}")
        command = ["java", *options, f"{name}App", ADDRESS, str(self._store), str(classes)]
        self._running.append(program := Program(name, command, self._directory / f"{name}.log"))
        return program

    def stop(self) -> None:
        """Ends them."""
        for program in self._running:
            program.stop()


def send_over_http1(port: int, certificate: Certificate, authorization: str) -> list[Sent]:
    with RawClient(ADDRESS, port, tls=make_context(certificate, ssl.TLSVersion.TLSv1_3)) as client:
        for method, target in MIX:
            client.call(method, target, BODY if method == "POST" else b"", lines=[f"Authorization: {authorization}"])
        return client.calls


def send_over_http2(port: int, certificate: Certificate, authorization: str) -> list[Sent]:
    context = make_context(certificate, ssl.TLSVersion.TLSv1_3)
    return send_mix_over_http2(ADDRESS, port, context, authorization=authorization)


def send_over_grpc(port: int, certificate: Certificate, authorization: str) -> None:
    credentials = grpc.ssl_channel_credentials(certificate.authority.read_bytes())
    with grpc.secure_channel(f"{ADDRESS}:{port}", credentials) as channel:
        for name, count in OF_GRPC.items():
            method = channel.unary_unary(f"{SERVICE}/{name}")
            for _ in range(count):
                answer = method.future(
                    b"m" * 40, timeout=DEADLINE_SECONDS, metadata=(("authorization", authorization),)
                )
                assert answer.code() is (grpc.StatusCode.OK if name == "Get" else grpc.StatusCode.NOT_FOUND)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[JavaServers]:
    servers = JavaServers(tmp_path_factory.mktemp("servers"), certificate)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def observed(
    product: Product, running: JavaServers, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Observed:
    told = Observed()
    for name in SERVERS:
        try:
            told.ports[name] = running.start(name)
        except pytest.skip.Exception as reason:
            told.skipped[name] = str(reason)
    _, address = product.start_collector()
    config = tmp_path_factory.mktemp("config") / "sensor.toml"
    config.write_text("read_tls = 'full'\n")
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)

    def are_read() -> bool:
        return sensor.log_path.read_text().count("reading what the Java agent") >= len(told.ports)

    wait_until(are_read, "the Java agents read")
    for name, port in told.ports.items():
        if name in HTTP:
            calls: list[Sent] = []
            for version, number in PRINCIPALS.items():
                authorization = write_credential(number, 0).partition(": ")[2]
                send = send_over_http1 if version == "1.1" else send_over_http2
                calls += send(port, certificate, authorization)
            told.sent[name] = expect(calls)
        else:
            send_over_grpc(port, certificate, write_credential(7, 0).partition(": ")[2])
    expected = sum(CALLS if name in HTTP else sum(OF_GRPC.values()) for name in told.ports)
    wait_until_still(lambda: inventory.count_calls(*told.ports.values()), STILL_SECONDS)
    assert sensor.stop() == 0, sensor.log_tail()
    with contextlib.suppress(AssertionError):  # Each test says what of its own is missing.
        wait_until(lambda: inventory.count_calls(*told.ports.values()) >= expected, "all calls")
    told.found = inventory.read_ports(set(told.ports.values()))
    return told


def count_by_principal(endpoints: Sequence[Endpoint]) -> list[int]:
    found: Counter[str] = Counter()
    for endpoint in endpoints:
        for consumer, calls in endpoint.consumers:
            found[consumer] += calls
    return sorted(found.values())


@pytest.mark.parametrize("name", HTTP)
def test_calls_of_both_versions_are_exact(observed: Observed, name: str) -> None:
    endpoints = observed.find(name)
    assert observe(endpoints) == observed.sent[name]
    assert count_by_principal(endpoints) == [len(MIX)] * len(PRINCIPALS)


def test_calls_of_grpc_are_exact(observed: Observed) -> None:
    endpoints = observed.find("Grpc")
    found = {(one.method, one.template): one.calls for one in endpoints}
    assert found == {("POST", f"{SERVICE}/{name}"): count for name, count in OF_GRPC.items()}
    assert count_by_principal(endpoints) == [sum(OF_GRPC.values())]
