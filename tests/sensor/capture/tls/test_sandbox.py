"""Files are searched where they can do no harm: without rights, within bounds, and each for itself."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sensor.capture.tls import sandbox
from sensor.capture.tls.finder import Found, search_file
from sensor.capture.tls.openssl import NO_TLS
from sensor.capture.tls.sandbox import FileSearcher, SearchError

LIBSSL = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")
NOTHING = Found(sites=NO_TLS, work=0)


@pytest.fixture
def searcher() -> Iterator[FileSearcher]:
    opened = FileSearcher()
    yield opened
    opened.close()


def search(searcher: FileSearcher, path: Path) -> Found:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return searcher.search(descriptor, path.name)
    finally:
        os.close(descriptor)


@pytest.mark.skipif(not LIBSSL.exists(), reason="libssl3 is not installed")
def test_it_finds_what_is_found_here(searcher: FileSearcher) -> None:
    with LIBSSL.open("rb") as file:
        here = search_file(file.fileno(), LIBSSL.name)
    assert here.sites.library == "OpenSSL"
    assert search(searcher, LIBSSL) == here
    assert search(searcher, Path(sys.executable)).sites == NO_TLS
    assert search(searcher, LIBSSL) == here


@pytest.mark.parametrize("path", ["/usr/bin/node", "/usr/lib/x86_64-linux-gnu/libgnutls.so.30", "/usr/bin/curl"])
def test_no_module_is_imported_while_it_searches(searcher: FileSearcher, path: str) -> None:
    """The first search of a program, of each kind: it could open no module any more."""
    if not Path(path).exists():
        pytest.skip(f"{path} is not installed")
    with Path(path).open("rb") as file:
        here = search_file(file.fileno(), Path(path).name)
    assert search(searcher, Path(path)) == here


def test_a_file_that_cannot_be_read_is_an_error_of_the_file(searcher: FileSearcher, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        search(searcher, tmp_path)


def test_the_program_ends_when_it_is_idle_and_begins_anew(
    searcher: FileSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(searcher, Path(sys.executable))
    first = searcher._program
    searcher.close_idle()
    assert searcher._program is first and first is not None
    monkeypatch.setattr(sandbox, "IDLE_SECONDS", 0)
    searcher.close_idle()
    assert searcher._program is None and first.returncode is not None
    assert search(searcher, Path(sys.executable)).sites == NO_TLS


def test_a_program_that_was_killed_costs_one_file(searcher: FileSearcher) -> None:
    search(searcher, Path(sys.executable))
    assert searcher._program is not None
    searcher._program.kill()
    searcher._program.wait()
    with pytest.raises(SearchError, match="gave no answer"):
        search(searcher, Path(sys.executable))
    assert search(searcher, Path(sys.executable)).sites == NO_TLS


# What a hostile file might make its search do.


def take_memory() -> None:
    bytearray(sandbox.MEMORY_BYTES_MAX + (1 << 20))


def take_time() -> None:
    while True:
        pass


def open_file() -> None:
    os.open("/etc/passwd", os.O_RDONLY)


def run_program() -> None:
    os.execv("/bin/true", ["true"])


def connect() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def start_process() -> None:
    os.fork()


def signal_parent() -> None:
    os.kill(os.getppid(), 0)


def end() -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("act", "refusal"),
    [
        (take_memory, "took more than 256 MB"),
        (take_time, "took more than"),
        (end, "ended its search"),
        (open_file, "Operation not permitted"),
        (run_program, "Operation not permitted"),
        (connect, "Operation not permitted"),
        (start_process, "Operation not permitted"),
        (signal_parent, "Operation not permitted"),
    ],
)
def test_what_a_search_may_not_do(act: Callable[[], None], refusal: str) -> None:
    """The process that reads a file, whatever the file makes it do.

    In a new process: other tests leave threads and fork handlers of gRPC in this one, which the program has not.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        answer = pool.submit(search_with, act).result()
    assert answer.found is None and refusal in answer.error


def search_with(act: Callable[[], None]) -> sandbox._Answer:
    def do(fd: int, name: str) -> Found:
        act()
        return NOTHING

    sandbox.search_file, sandbox.FILE_SECONDS_MAX = do, 1.0
    return msgspec.msgpack.decode(sandbox._search_apart(0, "libssl.so.3") or sandbox._REFUSED, type=sandbox._Answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="root has capabilities, others have none to give up")
def test_it_has_no_capabilities(searcher: FileSearcher) -> None:
    search(searcher, Path(sys.executable))
    assert searcher._program is not None
    status = Path(f"/proc/{searcher._program.pid}/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert lines["CapPrm"] == lines["CapEff"] == "0" * 16 and lines["NoNewPrivs"] == "1"
