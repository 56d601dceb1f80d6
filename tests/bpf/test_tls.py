"""Calls over TLS of libraries that no server of the end-to-end tests has alone: probes and reader in this process, real
programs around them, and each call found once.
"""

import os
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from scripts.bench_cases.searching import search_path
from scripts.fetched import find_fetched
from scripts.live.program import Program
from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.syscalls.streams import unpack_event
from sensor.capture.tls.reader import TlsReader
from sensor.core.calls import Exchange, Role
from sensor.ebpf import uprobes
from sensor.ebpf.abi import SyscallKind
from sensor.ebpf.ring import Ring
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import TlsProgram, close_probes, load_tls
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest
from tests.e2e.application import GO_BUILD_SECONDS, HERE, READY_SECONDS, Servers, find_or_skip
from tests.e2e.certificates import Certificate, make_certificate
from tests.e2e.rustls import build_rustls_server
from tests.e2e.tls_cases import make_context
from tests.e2e.wheels import unpack_wheel
from tests.e2e.wire import RawClient, Sent
from tests.waiting import wait_until

pytestmark = pytest.mark.kernel

ADDRESS = "127.0.0.1"
SERVICE = "/shop.v1.Orders"
GO_PACKAGES = Path("/usr/share/gocode")  # Of Debian.
RUST_CONNECTIONS = 10
CALLS_OF_A_READ = 100
PAUSE_SECONDS = 0.001  # Keeps a caller below the calls of a process that are copied in a second.
FIRST_FOLLOWING = (6, 3)  # Older kernels do not follow sockets: only those are known that the library itself names.
GRPC = {"Get": 13, "Fail": 10}


@pytest.fixture(scope="module")
def program() -> Iterator[TlsProgram]:
    if os.geteuid() != 0:
        pytest.skip("attaching needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    program = load_tls(ProbeSettings(ring_bytes=RING_BYTES), find_images())
    program.attach()
    assert program.links or uprobes._read_release() < FIRST_FOLLOWING
    yield program
    program.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "server", "IP:127.0.0.1")


class Watch:
    """Probes in one file, and what was read meanwhile."""

    def __init__(self, program: TlsProgram, path: Path) -> None:
        sites = search_path(path).choose(has_cookies=program.has_cookies)
        assert sites, path
        self._ring = Ring(program.maps["events"], RING_BYTES)
        self._reader = TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=lambda event, verdict: None)
        self._program, self._path, self._sites = program, path, [site.probe for site in sites]
        self._probes = self._open()
        self.writes: Counter[int] = Counter()  # By the port of the process that wrote.
        self._told: list[Exchange | StreamExchange] = []

    def _open(self, *pids: int) -> list[int]:
        """In all processes, or in these alone."""
        return [fd for pid in pids or (0,) for fd in self._program.open_probes(str(self._path), self._sites, pid)]

    def move(self, wait: Callable[[], None], *pids: int) -> None:
        """From probes in all processes to probes in these alone, and the other way round; `wait` while both are in."""
        before, self._probes = self._probes, self._open(*pids)
        wait()
        close_probes(before)

    def read(self) -> None:
        """What has come."""
        self._told += self._reader.take(map(self._count_write, self._ring.read(1 << 20)))

    def _count_write(self, record: memoryview) -> memoryview:
        event, _ = unpack_event(record)
        if event.kind == SyscallKind.WRITE:
            self.writes[event.local_port] += 1
        return record

    def stop(self) -> list[Exchange | StreamExchange]:
        """All calls."""
        time.sleep(0.5)
        close_probes(self._probes)
        self.read()
        self._ring.close()
        return self._told


@pytest.mark.full
@pytest.mark.parametrize("kind", ["grpc", "go"])
def test_a_connection_stays_known_while_probes_move_from_all_to_one_and_back(
    program: TlsProgram, certificate: Certificate, tmp_path: Path, kind: str
) -> None:
    """As where another process of the file is compared, or is off: each call once, with its name."""
    if program.try_choosing(Path("/proc")):
        pytest.skip("this kernel puts probes into all processes or into none")
    files = (str(certificate.certificate), str(certificate.key))
    if kind == "grpc":
        library = next(Path(grpc.__file__).resolve().parent.glob("_cython/cygrpc*.so"))
        server = Program("grpc", [sys.executable, str(HERE / "app_grpc.py"), ADDRESS, *files], tmp_path / "server.log")
    else:
        go = find_or_skip("go", "golang-go")
        library = tmp_path / "server"
        subprocess.run([go, "build", "-o", str(library), str(HERE / "app.go")], check=True, timeout=GO_BUILD_SECONDS)
        server = Program("go", [str(library), ADDRESS, *files], tmp_path / "server.log")
    try:
        port = int(server.wait_for("ready", READY_SECONDS)["port"])
        watch = Watch(program, library)
        is_over, made = threading.Event(), Counter[str]()

        def count_call(name: str) -> None:
            """Reads too: on a busy machine one move of the probes lasts for more calls than the ring holds."""
            made[name] += 1
            if made.total() % CALLS_OF_A_READ == 0:
                watch.read()

        def call_grpc() -> None:
            credentials = grpc.ssl_channel_credentials(certificate.authority.read_bytes())
            with grpc.secure_channel(f"{ADDRESS}:{port}", credentials) as channel:
                call = channel.unary_unary(f"{SERVICE}/Get")
                while not is_over.wait(PAUSE_SECONDS):
                    call(b"order", timeout=60)
                    count_call(f"{SERVICE}/Get")

        def call_go() -> None:
            with RawClient(ADDRESS, port, tls=make_context(certificate, ssl.TLSVersion.TLSv1_3)) as client:
                while not is_over.wait(PAUSE_SECONDS):
                    assert client.call("GET", "/orders/7").status == 200
                    count_call("/orders/7")

        def wait() -> None:
            before = made.total()
            wait_until(lambda: made.total() >= before + 20, "calls are made")

        thread = threading.Thread(target=call_grpc if kind == "grpc" else call_go)
        thread.start()
        try:
            for pids in ((server.pid, os.getpid()), (), (server.pid, os.getpid()), ()):
                wait()
                watch.move(wait, *pids)
        finally:
            is_over.set()
            thread.join()
        told = watch.stop()
    finally:
        server.stop()
    if kind == "grpc":
        assert count_rpcs(told, port) == {(Role.SERVER, port, name): count for name, count in made.items()}
    else:
        of_port = [one for one in told if isinstance(one, Exchange) and one.ends.local_port == port]
        assert sum(one.figures.calls for one in of_port) == made.total()
        assert len({one.figures.response_bytes for one in of_port}) == 1
        # A write is reported twice where its thread has to wait between two probes of a place, which is rare.
        assert made.total() <= watch.writes[port] <= 1.01 * made.total()
        assert not any(one.figures.is_lossy or one.figures.is_aborted for one in of_port)


@pytest.mark.full
def test_gnutls(program: TlsProgram, certificate: Certificate, tmp_path: Path) -> None:
    library = Path("/usr/lib/x86_64-linux-gnu/libgnutls.so.30").resolve()
    servers = Servers(tmp_path, certificate)
    server = servers.start("gnutls", ADDRESS)
    watch = Watch(program, library)
    try:
        command = [find_or_skip("curl", "curl"), "--silent", "--noproxy", "*", "--cacert", str(certificate.authority)]
        command += ["--write-out", "%{http_code}\n", "--output", "/dev/null"]
        command.append(f"https://{ADDRESS}:{server.port}/orders/[1001-1023]")
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["200"] * 23
    finally:
        told = watch.stop()
        servers.stop()
    calls = [one for one in told if isinstance(one, Exchange) and one.ends.local_port == server.port]
    assert Counter((one.ends.role, one.figures.status_code) for one in calls if one.figures.calls) == {
        (Role.SERVER, 200): 23
    }
    assert {one.ends.local_address for one in calls} == {ADDRESS}


@pytest.mark.full
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_clients_whose_server_is_not_read(
    program: TlsProgram, certificate: Certificate, tmp_path: Path, request: pytest.FixtureRequest, version: str
) -> None:
    """Each is told at its own end: Go's, then curl's through the shared OpenSSL."""
    servers = Servers(tmp_path, certificate)
    request.addfinalizer(servers.stop)
    go, curl = find_or_skip("go", "golang-go"), find_or_skip("curl", "curl")
    binary = tmp_path / "client"
    subprocess.run([go, "build", "-o", str(binary), str(HERE / "client.go")], check=True, timeout=GO_BUILD_SECONDS)
    shared = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3").resolve()
    for kind, library in (("nginx", binary), ("go", shared)):
        server = servers.start(kind, ADDRESS)
        root = f"https://{ADDRESS}:{server.port}"
        command = [str(binary), version, root, str(certificate.authority), "17", "6"]
        if library is shared:
            command = [curl, "--silent", "--noproxy", "*", "--cacert", str(certificate.authority), f"--http{version}"]
            command += ["--write-out", "%{http_code}\n", f"{root}/orders/[1001-1017]", f"{root}/missing/[1-6]"]
        watch = Watch(program, library)
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        finally:
            told = watch.stop()
        assert count_called(told, server.port) == {(Role.CLIENT, ADDRESS, 200): 17, (Role.CLIENT, ADDRESS, 404): 6}, (
            kind
        )


@pytest.mark.full
def test_a_program_with_openssl_in_it(program: TlsProgram, certificate: Certificate, tmp_path: Path) -> None:
    """Found by the program's own symbols; without them the reason is told."""
    compiler, static = find_or_skip("gcc", "gcc"), Path("/usr/lib/x86_64-linux-gnu/libssl.a")
    if not static.exists():
        pytest.skip("no static OpenSSL: apt-get install libssl-dev")
    binary, stripped = tmp_path / "client", tmp_path / "stripped"
    link = ["-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic", "-l:libz.so.1", "-l:libzstd.so.1"]
    subprocess.run([compiler, "-O2", "-o", str(binary), str(HERE / "client.c"), *link], check=True, timeout=120)
    subprocess.run(["strip", "-o", str(stripped), str(binary)], check=True, timeout=60)
    assert "symbols were taken out" in search_path(stripped).reason
    servers = Servers(tmp_path, certificate)
    port = servers.start("nginx", ADDRESS).port
    try:
        watch = Watch(program, binary)
        done = subprocess.run(
            [str(binary), ADDRESS, str(port), str(certificate.authority), "23"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == ["200"] * 23
        told = watch.stop()
    finally:
        servers.stop()
    assert count_called(told, port) == {(Role.CLIENT, ADDRESS, 200): 23}


CURL_CFFI = """
import sys
from curl_cffi import requests
address, authority, version, count = sys.argv[1:]
with requests.Session(verify=authority, trust_env=False, http_version=version) as session:
    for number in range(int(count)):
        print(session.get(f"https://{address}/orders/{1001 + number}").status_code)
"""


@pytest.mark.full
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_curl_in_an_extension_of_python(
    program: TlsProgram, certificate: Certificate, tmp_path: Path, version: str
) -> None:
    """curl and BoringSSL, with symbols, linked into one file."""
    package = unpack_wheel("curl_cffi")
    servers = Servers(tmp_path, certificate)
    port = servers.start("nginx", ADDRESS).port
    try:
        watch = Watch(program, package / "curl_cffi" / "_wrapper.abi3.so")
        done = subprocess.run(
            [sys.executable, "-c", CURL_CFFI, f"{ADDRESS}:{port}", str(certificate.authority), version, "23"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(package)},
        )
        assert done.stdout.split() == ["200"] * 23, done.stderr
        told = watch.stop()
    finally:
        servers.stop()
    assert count_called(told, port) == {(Role.CLIENT, ADDRESS, 200): 23}


def count_called(told: list[Exchange | StreamExchange], port: int) -> Counter[tuple[Role, str, int]]:
    """Calls to this port: by end, remote address and status."""
    calls: Counter[tuple[Role, str, int]] = Counter()
    for one in told:
        exchange = one.exchange if isinstance(one, StreamExchange) else one
        if exchange.ends.remote_port == port:
            calls[exchange.ends.role, exchange.ends.remote_address, exchange.figures.status_code] += (
                exchange.figures.calls
            )
    return calls


@pytest.mark.full
@pytest.mark.parametrize("run", range(3))  # Of a process the first connection is the one that may be missed.
def test_rustls(program: TlsProgram, certificate: Certificate, tmp_path: Path, run: int) -> None:
    """tokio's: the object that holds a connection moves once its handshake is over, with what came behind it. Answers
    are written from two slices."""
    binary = build_rustls_server()
    if not program.links:
        pytest.skip("sessions of rustls are known by their sockets, which kernels before 6.3 do not follow")
    files = (str(certificate.certificate), str(certificate.key))
    server = Program("rustls", [str(binary), ADDRESS, *files], tmp_path / "server.log")
    try:
        port = int(server.wait_for("ready", READY_SECONDS)["port"])
        watch = Watch(program, binary)
        sent: list[Sent] = []
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            for _ in range(RUST_CONNECTIONS):
                with RawClient(ADDRESS, port, tls=make_context(certificate, version)) as client:
                    for number in range(23):
                        client.call("GET", f"/{'orders' if number < 17 else 'missing'}/{number}")
                    sent += client.calls
        told = watch.stop()
    finally:
        server.stop()
    calls: Counter[tuple[Role, int, int, int, int]] = Counter()
    for one in told:
        assert isinstance(one, Exchange)
        calls[
            one.ends.role,
            one.ends.local_port,
            one.figures.status_code,
            one.figures.request_bytes,
            one.figures.response_bytes,
        ] += one.figures.calls
    assert calls == Counter((Role.SERVER, port, one.status, one.request_bytes, one.response_bytes) for one in sent)


@pytest.mark.parametrize("way", ["peek", "extended", "memory", "blocked", "partial"])
def test_openssl_by_its_functions(
    program: TlsProgram, certificate: Certificate, tmp_path: Path, request: pytest.FixtureRequest, way: str
) -> None:
    """As programs in C call it. What is only looked at is not told, what is read in pieces is told once, and what is
    written in many tries too."""
    library, cryptography = (Path(f"/usr/lib/x86_64-linux-gnu/lib{name}.so.3").resolve() for name in ("ssl", "crypto"))
    files = (str(certificate.certificate), str(certificate.key))
    command = [sys.executable, str(HERE / "app_openssl.py"), str(cryptography), str(library), way, ADDRESS, *files]
    server = Program("openssl", command, tmp_path / "server.log")
    request.addfinalizer(server.stop)
    port = int(server.wait_for("ready", READY_SECONDS)["port"])
    watch = Watch(program, library)
    try:
        curl = [find_or_skip("curl", "curl"), "--silent", "--noproxy", "*", "--cacert", str(certificate.authority)]
        curl += ["--write-out", "%{http_code}:%{size_header}:%{size_download}\n", "--output", "/dev/null"]
        done: list[list[str]] = []
        for numbers, options in (("[1001-1017]", []), ("[1-6]", ["--data", "x" * 1_000])):
            command = [*curl, *options, f"https://{ADDRESS}:{port}/orders/{numbers}"]
            done.append(subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout.split())
            watch.read()
        assert [line.split(":")[0] for lines in done for line in lines] == ["200"] * 23
    finally:
        told = watch.stop()
    (size,) = {sum(map(int, line.split(":")[1:])) for lines in done for line in lines}
    # The library sees no socket in memory.
    expected_port = 0 if way == "memory" and not program.links else port
    calls = Counter(
        (one.request_head.split()[0], one.figures.request_bytes - len(one.request_head), one.figures.response_bytes)
        for one in told
        if isinstance(one, Exchange) and one.ends.role is Role.SERVER and one.ends.local_port == expected_port
    )
    assert calls == {(b"GET", 0, size): 17, (b"POST", 1_000, size): 6}


@pytest.mark.full
def test_grpc_of_go(program: TlsProgram, certificate: Certificate, tmp_path: Path) -> None:
    """grpc-go at both ends."""
    go = find_or_skip("go", "golang-go")
    if not (GO_PACKAGES / "src/google.golang.org/grpc").exists():
        pytest.skip("grpc-go is not installed: apt-get install golang-google-grpc-dev")
    binary = tmp_path / "grpc"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PACKAGES)}
    build = [go, "build", "-o", str(binary), str(HERE / "grpc.go")]
    subprocess.run(build, check=True, timeout=GO_BUILD_SECONDS, env=environment)
    files = (str(certificate.certificate), str(certificate.key))
    server = Program("grpc-go", [str(binary), "server", ADDRESS, *files], tmp_path / "server.log")
    try:
        port = int(server.wait_for("ready", READY_SECONDS)["port"])
        watch = Watch(program, binary)
        for name, count in GRPC.items():
            command = [str(binary), "client", f"{ADDRESS}:{port}", str(certificate.authority), name, str(count)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        told = watch.stop()
    finally:
        server.stop()
    assert count_rpcs(told, port) == {(Role.SERVER, port, f"{SERVICE}/{name}"): count for name, count in GRPC.items()}


def count_rpcs(told: list[Exchange | StreamExchange], port: int) -> Counter[tuple[Role, int, str]]:
    """Of this server and its clients, by end, its port and path. Other programs may use the same library meanwhile."""
    calls: Counter[tuple[Role, int, str]] = Counter()
    for one in told:
        if isinstance(one, StreamExchange) and isinstance(one.call.request, StreamRequest):
            path, ends = one.call.request.head.path, one.exchange.ends
            if port in (ends.local_port, ends.remote_port):
                calls[ends.role, ends.local_port, path] += one.exchange.figures.calls
    return calls


@pytest.mark.full
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_envoy(program: TlsProgram, certificate: Certificate, tmp_path: Path, version: str) -> None:
    """A program of 100 MB with BoringSSL in it, without symbols, and SSL_peek within SSL_read."""
    servers = Servers(tmp_path, certificate)
    port = servers.start("envoy", ADDRESS).port
    try:
        watch = Watch(program, find_fetched("envoy"))
        command = [find_or_skip("curl", "curl"), "--silent", "--noproxy", "*", "--cacert", str(certificate.authority)]
        command += [f"--http{version}", "--write-out", "%{http_code}\n", "--output", "/dev/null"]
        command.append(f"https://{ADDRESS}:{port}/orders/[1001-1023]")
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["200"] * 23
        told = watch.stop()
    finally:
        servers.stop()
    calls: Counter[tuple[Role, str, int]] = Counter()
    for one in told:
        exchange = one.exchange if isinstance(one, StreamExchange) else one
        if exchange.ends.local_port == port:
            calls[exchange.ends.role, exchange.ends.local_address, exchange.figures.status_code] += (
                exchange.figures.calls
            )
    assert calls == {(Role.SERVER, ADDRESS, 200): 23}


@pytest.mark.full
def test_grpc(program: TlsProgram, certificate: Certificate, tmp_path: Path) -> None:
    """The package's own copy of BoringSSL, without symbols, in the server and in the client."""
    extension = next(Path(grpc.__file__).resolve().parent.glob("_cython/cygrpc*.so"))
    command = [sys.executable, str(HERE / "app_grpc.py"), ADDRESS, str(certificate.certificate), str(certificate.key)]
    server = Program("grpc", command, tmp_path / "server.log")
    try:
        port = int(server.wait_for("ready", READY_SECONDS)["port"])
        watch = Watch(program, extension)
        credentials = grpc.ssl_channel_credentials(certificate.authority.read_bytes())
        for name, count in GRPC.items():
            with grpc.secure_channel(f"{ADDRESS}:{port}", credentials) as channel:
                call = channel.unary_unary(f"{SERVICE}/{name}")
                for number in range(count):
                    try:
                        call(b"order %d" % number, timeout=60)
                    except grpc.RpcError as error:
                        assert error.code() is grpc.StatusCode.NOT_FOUND
        told = watch.stop()
    finally:
        server.stop()
    assert count_rpcs(told, port) == {(Role.SERVER, port, f"{SERVICE}/{name}"): count for name, count in GRPC.items()}
