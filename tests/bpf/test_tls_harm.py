"""Probes for TLS that come and go, and whose owner is killed, under load: no call fails, the program goes on, and its
text and the kernel are as they were before. `scripts/bench tls_harm` is the long form, for every runtime.
"""

import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.bench_cases.harming.tls_disturber import TlsDisturber, read_texts, wait_for_texts
from scripts.bench_cases.harming.tls_watcher import make_proc, open_program
from scripts.bench_cases.searching import search_path
from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.kernel_objects import list_left
from sensor.capture.tls.processes import ProcessFiles
from sensor.ebpf.uprobes import close_probes
from tests.e2e.certificates import Certificate, make_certificate
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.full]

ADDRESS = "127.0.0.1"
CLIENTS = 2
CALLS = 2_000
CALLS_PER_CONNECTION = 50
ATTACHED, KILLED = 3, 1
LONGEST_SECONDS = 60.0


@dataclass(slots=True)
class Load:
    """Clients that call one after the other until told to stop; whatever is not the answer is a failure."""

    port: int
    context: ssl.SSLContext
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    is_over: bool = False

    def run(self) -> None:
        """One client; a new connection, and so a handshake, now and then."""
        while not self.is_over:
            try:
                with RawClient(ADDRESS, self.port, tls=self.context) as client:
                    for number in range(CALLS_PER_CONNECTION):
                        if client.call("GET", f"/orders/{number}").status != 200:
                            self.failures.append("another status")
                        self.calls += 1
            except Exception as error:  # Whatever it is, the application would have seen it.
                self.failures.append(repr(error))


def count_descriptors(pid: int) -> int:
    """Open in a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "server", f"IP:{ADDRESS}")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Nginx]:
    if os.geteuid() != 0:
        pytest.skip("attaching needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    files = f"ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};"
    directory = tmp_path_factory.mktemp("nginx")
    server = Nginx(
        directory,
        f"{files} location / {{ return 200 'ok'; }}",
        listen="ssl",
        environment=copy_libssl(directory),
    )
    yield server
    server.stop()


@pytest.fixture
def load(nginx: Nginx, certificate: Certificate) -> Iterator[Load]:
    """Clients at work."""
    load = Load(nginx.port, ssl.create_default_context(cafile=str(certificate.authority)))
    threads = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield load
    load.is_over = True
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("is_linking", [True, False], ids=["links", "events"])
def test_probes_are_in_the_text_until_they_are_closed(nginx: Nginx, is_linking: bool, tmp_path: Path) -> None:
    """By both ways to attach; and so that the other test can fail."""
    check_probes(nginx.process.pid, is_linking, tmp_path)


@pytest.mark.parametrize("is_linking", [True, False], ids=["links", "events"])
def test_a_library_that_was_replaced_since_takes_probes(tmp_path: Path, is_linking: bool) -> None:
    """As packages' upgrades do to processes that go on; its old file has no name any more."""
    if os.geteuid() != 0:
        pytest.skip("attaching needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    with subprocess.Popen(
        [sys.executable, "-c", "import ssl; print('up', flush=True); input()"],
        env=copy_libssl(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        (tmp_path / find_libssl(os.getpid()).name).unlink()
        try:
            check_probes(process.pid, is_linking, tmp_path)
        finally:
            process.kill()


def copy_libssl(directory: Path) -> dict[str, str]:
    """The environment of a program that is to run a copy of its own: probes of others, such as those of a sensor that
    another test has started, are in all processes of a file."""
    shutil.copy(find_libssl(os.getpid()), directory)
    return os.environ | {"LD_LIBRARY_PATH": str(directory)}


def find_libssl(pid: int) -> Path:
    """That a process has loaded."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return Path(next(line.split()[5] for line in lines if "/libssl" in line))


def check_probes(pid: int, is_linking: bool, directory: Path) -> None:
    """They are in its text while they are open."""
    pids = [pid]
    proc = make_proc(directory, pids)
    program = open_program(is_linking=is_linking)
    try:
        files = ProcessFiles(str(proc), min_age_seconds=0, uptime=lambda: 1e9).look()
        path = next(file.ways[0] for file in files if "libssl" in file.name)
        before = read_texts(pids)
        found = search_path(path)
        sites = [site.probe for site in found.choose(has_cookies=program.has_cookies)]
        probes = program.open_probes(path, sites)
        assert program.is_linking is is_linking
        during = read_texts(pids)
        close_probes(probes)
        after = wait_for_texts(pids)
    finally:
        program.close()
    looked = {site.offset for site in (*found.sites, *found.plain)}
    assert (before.looked, before.changed) == (len(looked), ())
    assert len(during.changed) == len(sites)
    assert after == before


def test_probes_that_come_and_go_harm_nobody(nginx: Nginx, load: Load, tmp_path: Path) -> None:
    pid = nginx.process.pid
    descriptors = count_descriptors(pid)
    deadline = time.monotonic() + LONGEST_SECONDS
    with TlsDisturber([pid], tmp_path, seed=5) as disturber:

        def is_done() -> bool:
            done = disturber.actions
            return load.calls >= CALLS and done["attached"] >= ATTACHED and done["killed"] >= KILLED

        while not is_done() and not disturber.failures and time.monotonic() < deadline:
            time.sleep(0.1)
    load.is_over = True
    assert disturber.failures == []
    assert load.failures == []
    assert load.calls >= CALLS
    assert disturber.actions["attached"] >= ATTACHED and disturber.actions["killed"] >= KILLED, disturber.actions
    assert nginx.process.poll() is None
    texts = wait_for_texts([pid])
    assert texts.looked and texts.changed == ()
    assert disturber.held
    # Not while they go: see list_ids.
    time.sleep(1.0)
    wait_until(lambda: not list_left(disturber.held), "what the watchers held is gone")
    wait_until(
        lambda: count_descriptors(pid) <= descriptors + CLIENTS,
        "nginx has closed its connections",
    )
