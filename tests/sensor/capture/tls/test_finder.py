"""Real libraries and programs of this machine, and files that are none."""

import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from scripts.bench_cases.searching import search_path
from sensor.capture.tls.finder import search_content, search_file
from sensor.capture.tls.openssl import NO_TLS, Sites
from sensor.core.sandbox import Sandbox
from tests.sensor.capture.tls.contents import make_source
from tests.sensor.capture.tls.poison import poison

GO_BUILD_SECONDS = 300  # The first build compiles net/http.
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")


def find(path: Path) -> Sites:
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    return search_path(path)


@pytest.mark.parametrize(
    ("path", "library", "programs"),
    [
        (
            LIBRARIES / "libssl.so.3",
            "OpenSSL",
            {"openssl_read_data", "openssl_read_end", "openssl_write_done", "openssl_handshake", "session_free"},
        ),
        (
            LIBRARIES / "libgnutls.so.30",
            "GnuTLS",
            {"gnutls_read", "gnutls_write", "handshake", "session_free", "call_return"},
        ),
        # How SSL_read is probed depends on its compiler.
        (Path(shutil.which("node") or "/usr/bin/node"), "OpenSSL", {"openssl_read_ex", "session_free", "call_return"}),
    ],
)
def test_a_library_is_found(path: Path, library: str, programs: set[str]) -> None:
    sites = find(path)
    if sites is NO_TLS and path.name == "node":
        pytest.skip("this node has its OpenSSL in a library")
    assert (sites.library, sites.reason) == (library, "")
    assert programs <= {site.program for site in sites.sites}
    assert len({site.offset for site in sites.sites}) == len(sites.sites), "one place, one program"


def test_reads_of_go_are_probed_where_they_give_what_they_have(tmp_path: Path) -> None:
    """All of it emulated: a return of Go is stepped over by the processor."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed: apt-get install golang-go")
    source, binary = tmp_path / "main.go", tmp_path / "main"
    source.write_text('package main\nimport "net/http"\nfunc main() { http.ListenAndServeTLS("", "", "", nil) }\n')
    command = [go, "build", "-ldflags=-s -w", "-o", str(binary), str(source)]
    subprocess.run(command, check=True, timeout=GO_BUILD_SECONDS, cwd=tmp_path)
    sites = find(binary).sites
    assert {site.program for site in sites} == {"go_read", "go_copy", "go_write", "go_close"}
    assert all(site.is_emulated for site in sites)


def test_a_program_without_tls() -> None:
    assert find(Path("/bin/true")) == NO_TLS


@pytest.mark.parametrize(
    ("mark", "library"),
    [
        (b"/cargo/rustls-0.23.12/src/conn.rs", "rustls"),
        (b"com.oracle.svm.core.VM=GraalVM CE 25.0.2+10.1", "GraalVM"),
        (b"ssl/ssl_lib.c", "OpenSSL"),
        (b"/ssl/ssl_lib.cc", "BoringSSL"),
    ],
)
def test_a_library_without_symbols_is_known_by_its_source(tmp_path: Path, mark: bytes, library: str) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/cat").read_bytes() + mark + b"\0")
    found = search_path(program)
    assert (found.library, found.sites) == (library, ())
    assert found.reason.endswith(".")


def test_any_cut_of_a_file_has_sites_of_its_own_or_none() -> None:
    path = LIBRARIES / "libssl.so.3"
    if not path.exists():
        pytest.skip("no libssl.so.3")
    whole = path.read_bytes()
    for size in (0, 10, 64, 4_096, len(whole) // 2, len(whole) - 1):
        found = search_content(make_source(whole[:size]), path.name).sites
        assert all(site.offset + len(site.code) <= size for site in found.sites)


def test_text_is_no_elf_file(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n" * 50)
    (tmp_path / "empty").touch()
    assert search_path(tmp_path / "script") == NO_TLS
    assert search_path(tmp_path / "empty") == NO_TLS


def test_boringssl_without_symbols() -> None:
    """In gRPC's own package, which every checkout has."""
    extension = next(Path(grpc.__file__).parent.glob("_cython/cygrpc*.so"), None)
    if extension is None:
        pytest.skip("this grpcio has no extension")
    sites = find(extension)
    assert (sites.library, sites.reason) == ("BoringSSL", "")
    assert {site.program for site in sites.sites} == {"boring_read", "boring_write", "call_return"}


def test_a_function_that_begins_within_another_one_is_not_probed() -> None:
    """Its symbol says so and what unwinders are told does not: a probe there would break the other one."""
    path = LIBRARIES / "libssl.so.3"
    if not path.exists():
        pytest.skip("no libssl.so.3")
    content = path.read_bytes()
    honest = search_content(make_source(content), path.name).sites
    poisoned = search_content(make_source(poison(content)), path.name).sites
    assert "session_shutdown" in {site.program for site in honest.sites}
    assert "session_shutdown" not in {site.program for site in (*poisoned.sites, *poisoned.plain)}


@pytest.mark.parametrize(
    "path",
    [
        LIBRARIES / "libssl.so.3",
        LIBRARIES / "libgnutls.so.30",
        Path("/usr/bin/node"),
        Path("/usr/bin/curl"),
        Path(sys.executable),
    ],
)
def test_a_confined_search_finds_the_same(path: Path) -> None:
    """In a program of its own for each kind of file: a worker could import no module any more."""
    here, sandbox = find(path), Sandbox(search_file)
    with path.open("rb") as file:
        assert sandbox.run(search_file, file.fileno(), path.name).sites == here
    sandbox.close()
