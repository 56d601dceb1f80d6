"""Probes of the kernel in files that others make, replace and change: a process that runs an honest library goes on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.bench_cases.harming.tls_watcher import make_proc, open_program
from sensor.capture.tls.attacher import Attacher
from sensor.capture.tls.choice import TlsChoices
from sensor.capture.tls.finder import search_file
from sensor.capture.tls.processes import ProcessFiles
from sensor.capture.tls.turns import TurnTaker
from sensor.core.read_tls import ReadTls
from sensor.core.sandbox import Sandbox
from sensor.ebpf import uprobes
from sensor.ebpf.uprobes import close_probes
from tests.sensor.capture.tls.poison import poison

pytestmark = pytest.mark.kernel

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")
# Maps a library, and calls SSL_write of it for each line that it is given.
PROGRAM = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
    getattr(library, name).restype = ctypes.c_void_p
context = library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method()))
session = ctypes.c_void_p(library.SSL_new(ctypes.c_void_p(context)))
print("ready", flush=True)
for line in sys.stdin:
    print(library.SSL_write(session, b"x", 1), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that has a library mapped."""

    process: "subprocess.Popen[str]"

    @property
    def pid(self) -> int:
        return self.process.pid

    def write(self) -> str:
        """What SSL_write gives, or how the process ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return self.process.stdout.readline().strip() or f"ended with {self.process.wait(60)}"
        except BrokenPipeError:
            return f"ended with {self.process.wait(60)}"


class Node:
    """Processes, and an attacher that sees no others."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self._proc = directory / "proc"
        self._proc.mkdir()
        self.program = open_program()
        stack.callback(self.program.close)
        self.attacher = Attacher(
            turns=TurnTaker(
                prober=self.program,
                close_probes=close_probes,
                choices=TlsChoices(ReadTls.FULL, calls_per_second=2_000, calls_burst=5_000),
                duty=None,
                monotonic=time.monotonic,
            ),
            processes=ProcessFiles(str(self._proc), min_age_seconds=0, uptime=lambda: 1e9),
            searcher=Sandbox(search_file),
            monotonic=time.monotonic,
        )
        stack.callback(self.attacher.stop)

    def run(self, library: Path) -> Program:
        """A process that is seen at the next look."""
        command = [sys.executable, "-c", PROGRAM, str(library)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        make_proc(self._proc, [process.pid])
        return Program(process)

    def copy(self, name: str, content: bytes) -> Path:
        path = self.directory / name / "libssl.so.3"
        path.parent.mkdir()
        path.write_bytes(content)
        return path

    def list_probed(self) -> set[str]:
        self.attacher.look()
        return {file.path for file in self.attacher.files if file.sites}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("attaching needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    if not LIBRARY.exists():
        pytest.skip("no libssl.so.3")
    with ExitStack() as stack:
        yield Node(tmp_path, stack)


def test_a_library_that_lies_about_its_functions_harms_nobody_who_runs_the_real_one(node: Node) -> None:
    """It has the real one's build id, and calls a place within SSL_write a function; it is seen first."""
    evil = node.copy("evil", poison(LIBRARY.read_bytes()))
    real = node.copy("real", LIBRARY.read_bytes())
    node.run(evil)
    node.list_probed()
    honest = node.run(real)
    before = honest.write()
    assert before == "-1", "nobody is connected"
    assert str(real) in node.list_probed()
    assert [honest.write() for _ in range(5)] == [before] * 5


def test_the_file_that_a_process_has_mapped_is_probed_whatever_its_path_leads_to(node: Node) -> None:
    path = node.copy("replaced", LIBRARY.read_bytes())
    program = node.run(path)
    other = node.copy("other", poison(LIBRARY.read_bytes()))
    other.rename(path)
    node.list_probed()
    assert program.write() == "-1"
    (file,) = [file for file in node.attacher.files if file.path.startswith(str(path))]
    assert file.sites and file.pids == (program.pid,)
    assert count_breakpoints(program.pid, str(path)) == len(file.sites)


def test_probes_come_out_of_a_file_that_is_changed_where_it_is(node: Node) -> None:
    path = node.copy("changed", LIBRARY.read_bytes())
    program = node.run(path)
    assert str(path) in node.list_probed()
    places = count_breakpoints(program.pid, str(path))
    assert places
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"more")
    node.attacher._release_changed()  # The first thing of a look.
    assert count_breakpoints(program.pid, str(path)) == 0
    assert str(path) in node.list_probed()
    assert count_breakpoints(program.pid, str(path)) == places
    assert program.write() == "-1"
    shutil.copyfile("/bin/true", path)
    assert str(path) not in node.list_probed()


def count_breakpoints(pid: int, path: str) -> int:
    """Bytes of a process's text that are a breakpoint and were none in the library."""
    content, found = LIBRARY.read_bytes(), 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[5].startswith(path):
            start, end = (int(number, 16) for number in fields[0].split("-"))
            first = int(fields[2], 16)
            with Path(f"/proc/{pid}/mem").open("rb") as memory:
                memory.seek(start)
                text = memory.read(end - start)
            pairs = zip(text, content[first : first + len(text)], strict=False)
            found += sum(now == 0xCC != before for now, before in pairs)
    return found


def test_processes_are_chosen_in_the_hosts_pid_namespace_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert uprobes.has_host_pids()
    other = tmp_path / "pid"
    other.symlink_to("pid:[4026532836]")
    monkeypatch.setattr(uprobes, "PID_NAMESPACE", str(other))
    assert not uprobes.has_host_pids()
    assert uprobes.TlsProgram(programs={}, maps={}).try_choosing(Path("/proc")) == uprobes.NEEDS_NAMESPACE


def test_a_namespace_of_its_own_is_found_by_the_tree_of_the_host() -> None:
    """As in a Pod without hostPID, which has the node's /proc mounted."""
    code = (
        "from pathlib import Path\n"
        "from sensor.ebpf import uprobes\n"
        "uprobes.has_host_pids = lambda: True\n"
        "print(uprobes.TlsProgram(programs={}, maps={}).try_choosing(Path('/proc')))\n"
    )
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == uprobes.NEEDS_NAMESPACE, done.stderr


def test_choosing_is_tried_with_the_process_itself(tmp_path: Path) -> None:
    program = open_program()
    try:
        assert program.try_choosing(Path("/proc")) == "" and program.is_choosing
        assert program.measure_breakpoint() > 0
        assert program.try_choosing(tmp_path) == uprobes.NEEDS_NAMESPACE and not program.is_choosing
    finally:
        program.close()
