"""Probes go into each file once and come out when nobody runs it, and who is not read has a reason."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensor.capture.tls import attacher as module
from sensor.capture.tls import processes
from sensor.capture.tls.attacher import BROKEN, LINGER_SECONDS, WORK_PER_SECOND, Attacher
from sensor.capture.tls.choice import TlsChoices
from sensor.capture.tls.duty import DutyCycle
from sensor.capture.tls.finder import Found, search_file
from sensor.capture.tls.openssl import NO_TLS, Sites
from sensor.capture.tls.processes import ProcessFiles
from sensor.capture.tls.turns import EVERYBODY, MAX_APART, TurnTaker
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.read_tls import ReadTls, TlsChoice
from sensor.coverage.report import NO_LIBRARY
from sensor.ebpf.uprobes import ProcessAccount
from tests.sensor.capture.tls.poison import poison
from tests.waiting import wait_until

LIBSSL = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")
TICKS = 100
BREAKPOINTS_PER_CALL = 6


class Prober:
    """Notes what is opened and closed; refuses when told to."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.pids: dict[int, int] = {}  # Of those that are open.
        self.offsets: dict[int, list[int]] = {}  # Of all that were opened, by the inode of their file.
        self.on_open: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.is_refusing = False
        self.refused: set[int] = set()  # Processes.
        self.tried = 0
        self.closings: list[int] = []  # How many probes came out at once.
        self.has_ended = False
        self.is_choosing = True
        self.is_attached = False
        self.has_cookies = True
        self.calls: dict[int, int] = {}
        self.limits: dict[int, int] = {}
        self.looked_away: list[int] = []
        self._next = 100

    def attach(self) -> None:
        self.is_attached = True

    def look_away(self, pid: int) -> None:
        self.looked_away.append(pid)

    def limit_each(self, calls_per_second: Mapping[int, int]) -> None:
        self.limits = dict(calls_per_second)

    def read_accounts(self) -> dict[int, ProcessAccount]:
        return {pid: ProcessAccount(calls, BREAKPOINTS_PER_CALL * calls) for pid, calls in self.calls.items()}

    def forget_accounts(self, pids: Iterable[int]) -> None:
        for pid in pids:
            self.calls.pop(pid, None)

    def open_probes(self, path: str, sites: Iterable[tuple[int, str, int]], pid: int = EVERYBODY) -> list[int]:
        if self.is_refusing or pid in self.refused:
            self.tried += 1
            raise PermissionError(1, "Operation not permitted")
        if self.has_ended:
            raise FileNotFoundError(2, "No such file or directory")
        numbers = []
        self.on_open()
        inode = os.stat(path).st_ino  # noqa: PTH116 - as the kernel, which follows what stands for a descriptor.
        for offset, program, _ in sites:
            self.offsets.setdefault(inode, []).append(offset)
            self._next += 1
            self.open[self._next] = program
            self.pids[self._next] = pid
            numbers.append(self._next)
        return numbers

    def close(self, probes: Iterable[int]) -> None:
        probes = list(probes)
        self.closings.append(len(probes))
        self.on_close()
        for number in probes:
            del self.open[number], self.pids[number]

    @property
    def probed(self) -> set[int]:
        """Processes that have probes, or everybody."""
        return set(self.pids.values())


class SearcherHere:
    """Searches in this process, by a function that a test may replace."""

    def __init__(self) -> None:
        self.search: Callable[[int, str], Found] = search_file

    def run(self, task: Callable[[int, str], Found], fd: int, argument: str) -> Found:
        return self.search(fd, argument)

    def close_idle(self) -> None: ...

    def close(self) -> None: ...


class Node:
    """Processes that map what they are told to, and an attacher that looks at them. They have one root."""

    def __init__(self, directory: Path, setting: ReadTls = ReadTls.FULL) -> None:
        self.root, self.host = directory / "proc", directory / "host"
        self.root.mkdir()
        self.now = 1_000.0
        self.prober = Prober()
        self.unread = UnreadProcesses()
        self.searcher = SearcherHere()
        # What Pods chose, by cgroup, and the share of a core that processes use.
        self.chosen: dict[str, TlsChoice] = {}
        self.core_share: dict[int, float] = {}
        self.price_ns = 0.0
        choices = TlsChoices(
            setting,
            calls_per_second=1_000,
            calls_burst=2_000,
            find_choice=lambda path: self.chosen.get(path or "", TlsChoice(mode=setting)),
        )
        duty = DutyCycle(
            node_calls_per_second=2_000,
            find_budget=choices.find_budget,
            read_cpu_ns=lambda pid: int(self.now * 1e9 * self.core_share.get(pid, 0.0)),
        )
        self.turns = TurnTaker(
            prober=self.prober,  # type: ignore[arg-type]
            close_probes=self.prober.close,
            choices=choices,
            duty=duty,
            monotonic=lambda: self.now,
            find_price_ns=lambda: self.price_ns,
        )
        self.attacher = Attacher(
            turns=self.turns,
            processes=ProcessFiles(str(self.root), min_age_seconds=0, uptime=lambda: self.now),
            searcher=self.searcher,
            monotonic=lambda: self.now,
            unread=self.unread,
        )

    def live(self, seconds: float, rates: dict[int, int]) -> list[set[int]]:
        """Looks twice a second; each process makes calls, which are counted where it is read. Gives who had probes."""
        had = []
        for _ in range(int(seconds * 2)):
            had.append(self.prober.probed)
            for pid, rate in rates.items():
                if had[-1] & {pid, EVERYBODY}:
                    self.prober.calls[pid] = self.prober.calls.get(pid, 0) + rate // 2
            self.now += 0.5
            self.attacher.look()
        return had

    def run(self, pid: int, path: str, source: Path | None, cgroup: str = "/system.slice/a.service") -> None:
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True)
        target = self.find(path)
        if source is not None and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        (directory / "stat").write_text(f"{pid} (a) S 1 {'0 ' * 17}{int((self.now - 50) * TICKS)} 0")
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        with (directory / "maps").open("a") as maps:
            maps.write(f"7f00-7f01 r-xp 00001000 fd:01 {target.stat().st_ino} {path}\n")
        if not (directory / "exe").is_symlink():
            (directory / "exe").symlink_to("/usr/bin/app")
            (directory / "root").symlink_to(self.host)

    def find(self, path: str) -> Path:
        """The file that processes see there."""
        return self.host / path.lstrip("/")

    def read_probed(self) -> set[str]:
        """Names of files that have probes."""
        return {file.path for file in self.attacher.files if file.sites}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    if not LIBSSL.exists():
        pytest.skip("no libssl.so.3")
    return Node(tmp_path)


def test_one_set_of_probes_for_all_who_run_a_file(node: Node) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.run(11, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    held = dict(node.prober.open)
    assert any(program.startswith("openssl_read") for program in held.values())
    node.attacher.look()
    assert node.prober.open == held
    (file,) = node.attacher.files
    assert (file.library, file.pids, file.reason) == ("OpenSSL", (10, 11), "")
    assert (node.unread.why(10), node.unread.why(99)) == ("", NO_LIBRARY)


def test_a_file_that_breaks_the_search_keeps_no_other_from_being_read(node: Node) -> None:
    node.run(10, "/lib/libssl-hostile.so", LIBSSL)
    node.run(11, "/lib/libssl.so.3", LIBSSL)

    def break_at_the_hostile_one(fd: int, name: str) -> Found:
        if "hostile" in name:
            raise OverflowError("a bug")
        return search_file(fd, name)

    node.searcher.search = break_at_the_hostile_one
    node.attacher.look()
    assert (node.unread.why(10), node.unread.why(11)) == (BROKEN, "")
    assert node.attacher.failed_total == 1
    node.attacher.look()
    assert node.attacher.failed_total == 1, "it is not searched again"


@pytest.mark.parametrize("is_evil_first", [True, False])
def test_places_of_one_file_are_never_used_for_another(node: Node, tmp_path: Path, is_evil_first: bool) -> None:
    """Both have one build id, and what one calls SSL_shutdown lies within an instruction of the other's SSL_write."""
    evil = tmp_path / "evil"
    evil.write_bytes(poison(LIBSSL.read_bytes()))
    order = [("/evil/libssl.so.3", evil), ("/lib/libssl.so.3", LIBSSL)]
    for number, (path, source) in enumerate(order if is_evil_first else reversed(order)):
        node.run(10 + number, path, source)
        node.attacher.look()
    alone = Node(make_directory(tmp_path / "alone"))
    alone.run(10, "/lib/libssl.so.3", LIBSSL)
    alone.attacher.look()
    (expected,) = alone.prober.offsets.values()
    real = node.prober.offsets[node.find("/lib/libssl.so.3").stat().st_ino]
    assert sorted(real) == sorted(expected)


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_file_that_is_changed_while_it_is_probed_loses_its_probes_and_is_searched_anew(node: Node) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    before = dict(node.prober.open)
    assert before
    with node.find("/lib/libssl.so.3").open("r+b") as file:
        file.write(b"\x7fELF")
    node.attacher.look()
    assert node.prober.open and not before.keys() & node.prober.open.keys()
    assert (node.attacher.changed_total, node.read_probed()) == (1, {"/lib/libssl.so.3"})
    node.find("/lib/libssl.so.3").write_bytes(b"no library any more")
    node.attacher.look()
    assert not node.prober.open and node.attacher.changed_total == 2


def test_a_file_that_is_changed_while_probes_go_in_has_none(node: Node) -> None:
    """In the moment between the look at its bytes and the kernel's."""
    path = node.find("/lib/libssl.so.3")
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.prober.on_open = lambda: path.write_bytes(LIBSSL.read_bytes()[:-1] + b"x")
    node.attacher.look()
    assert not node.prober.open and node.attacher.files == ()
    node.prober.on_open = lambda: None
    node.attacher.look()
    assert node.read_probed() == {"/lib/libssl.so.3"}


def test_a_file_that_was_replaced_after_it_was_opened_is_probed_itself(node: Node) -> None:
    """Its path leads to another one by then, which a probe by path would go into."""
    path = node.find("/lib/libssl.so.3")
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    inode = path.stat().st_ino

    def replace(fd: int, name: str) -> Found:
        found = search_file(fd, name)
        os.utime(fd, ns=(1, 1))  # Not seen by who looks at times alone.
        os.utime(fd, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        return found

    node.searcher.search = replace
    node.attacher.look()
    assert not node.prober.open, "its time of change is another one"
    node.searcher.search = search_file
    node.prober.on_open = lambda: path.rename(path.with_name("before"))
    node.attacher.look()
    assert set(node.prober.offsets) == {inode}


def test_files_without_probes_take_no_place(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    marked, broken = tmp_path / "marked", tmp_path / "broken"
    marked.write_bytes(Path("/bin/cat").read_bytes() + b"/cargo/rustls-0.23.12/src/conn.rs\0")
    broken.write_bytes(b"\x7fELF\x02\x01")
    for number in range(20):
        node.run(10 + number, f"/a/libssl-{number}.so", marked if number % 2 else broken)
    node.run(50, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    assert node.read_probed() == {"/lib/libssl.so.3"}
    assert "rustls" in node.unread.why(11)
    assert node.attacher.left_out == 0


def test_one_cgroup_cannot_take_the_places_of_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by cgroups of its own either, and whoever comes later gets his place."""
    monkeypatch.setattr(module, "MAX_FILES", 6)
    for number in range(10):
        node.run(10 + number, f"/evil/libssl-{number}.so", LIBSSL, f"/pods/evil/{number}")
    node.attacher.look()
    assert (len(node.read_probed()), node.attacher.left_out) == (6, 4)
    for number in range(3):
        node.run(50 + number, f"/good{number}/libssl.so.3", LIBSSL, f"/pods/good{number}")
        node.attacher.look()
        node.attacher.look()
    assert {f"/good{number}/libssl.so.3" for number in range(3)} <= node.read_probed()
    assert len(node.read_probed()) == 6
    before = dict(node.prober.open)
    node.attacher.look()
    assert node.prober.open == before, "nobody is displaced again and again"


def test_searching_is_bounded_a_second_and_shared(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that each take a second's work: one cgroup has 50, another comes later with one."""
    searched: list[str] = []

    def search(fd: int, name: str) -> Found:
        searched.append(name)
        return Found(sites=search_file(fd, name).sites, work=WORK_PER_SECOND)

    monkeypatch.setattr(module, "WORK_AT_START", 10 * WORK_PER_SECOND)
    node = Node(make_directory(node.root / "another"))
    node.searcher.search = search
    for number in range(50):
        node.run(10 + number, f"/evil/libssl-{number}.so", Path("/bin/true"), f"/pods/evil/{number}")
    node.attacher.look()
    assert len(searched) == 10 and node.attacher.left_out == 40
    node.run(99, "/lib/libssl.so.3", LIBSSL, "/pods/good")
    for _ in range(3):
        node.now += 1.0
        node.attacher.look()
    assert "libssl.so.3" in searched[10:12]
    assert len(searched) <= 14


def test_probes_come_out_a_while_after_the_last_process(node: Node) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    shutil.rmtree(node.root / "10")
    node.now += LINGER_SECONDS / 2
    node.attacher.look()
    assert node.prober.open
    node.now += LINGER_SECONDS
    node.attacher.look()
    assert not node.prober.open


def test_what_the_kernel_refuses_has_a_reason(node: Node) -> None:
    node.prober.is_refusing = True
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    assert node.unread.why(10) == "The kernel refused the probes: Operation not permitted."
    assert node.attacher.failed_total == 1
    node.attacher.look()
    assert node.attacher.failed_total == 1, "it is not tried again"


def test_a_file_whose_process_ended_meanwhile_is_taken_up_at_the_next_look(node: Node) -> None:
    node.prober.has_ended = True
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    assert (node.prober.probed, node.attacher.failed_total) == (set(), 0)
    node.prober.has_ended = False
    node.attacher.look()
    assert node.prober.probed == {EVERYBODY}


def test_a_library_that_is_known_and_not_read_has_a_reason(node: Node, tmp_path: Path) -> None:
    node.run(10, "/jvm/libjvm.so", Path("/bin/true"))
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/cat").read_bytes() + b"/cargo/rustls-0.23.12/src/conn.rs\0")
    node.run(11, "/usr/lib/libssl-x.so", program)
    node.attacher.look()
    assert "Java" in node.unread.why(10)
    assert "rustls" in node.unread.why(11)


def test_what_is_not_read_of_a_process_is_told_beside_what_is(node: Node, tmp_path: Path) -> None:
    """A server in an extension of Python, which has an OpenSSL of its own besides."""
    extension = tmp_path / "extension"
    extension.write_bytes(Path("/bin/cat").read_bytes() + b"/cargo/rustls-0.23.12/src/conn.rs\0")
    node.run(10, "/usr/lib/libssl.so.3", LIBSSL)
    node.run(10, "/usr/lib/libssl-x.so", extension)
    node.attacher.look()
    assert node.prober.open
    assert node.unread.why(10).startswith("rustls is read only")


def test_the_start_does_not_wait_for_a_search(node: Node) -> None:
    is_searching, may_end = threading.Event(), threading.Event()

    def search(fd: int, name: str) -> Found:
        is_searching.set()
        assert may_end.wait(60)
        return search_file(fd, name)

    node.searcher.search = search
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.start()
    assert is_searching.wait(60) and not node.prober.open
    may_end.set()
    node.attacher.stop()
    assert not node.prober.open


def test_files_are_not_searched_where_none_of_their_processes_may_be_read(node: Node) -> None:
    """As in auto where processes cannot be read a part of the time. A JVM is looked for: its agent needs no probe."""
    off = TlsChoice(mode=ReadTls.OFF, reason="Its Pod says so.")
    searched: list[str] = []

    def search(fd: int, name: str) -> Found:
        searched.append(name)
        return search_file(fd, name)

    node.searcher.search = search
    node.chosen["/pods/off"] = off
    node.run(10, "/lib/libssl.so.3", LIBSSL, "/pods/off")
    node.attacher.look()
    assert searched == [] and node.unread.why(10) == "Its Pod says so." and not node.prober.is_attached
    node.turns.choices.has_turns = False
    node.chosen["/pods/auto"] = TlsChoice(mode=ReadTls.AUTO)
    node.run(11, "/usr/lib/jvm/libjvm.so", LIBSSL, "/pods/auto")
    node.attacher.look()
    assert searched == ["libjvm.so"]
    node.turns.choices.has_turns = True
    del node.chosen["/pods/off"]
    node.attacher.look()
    assert len(searched) == 2 and node.prober.probed and node.prober.is_attached


def test_nothing_is_left_after_the_end(node: Node) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.start()
    wait_until(lambda: node.prober.open, "the first look is over")
    node.attacher.stop()
    assert not node.prober.open
    assert node.unread.why(10) == "", "who does not look says nothing"


def test_a_busy_process_is_read_in_turns_and_its_neighbours_always(node: Node) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.run(11, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    assert set().union(*node.live(1, {10: 4_000, 11: 10})) == {EVERYBODY}
    had = node.live(40, {10: 4_000, 11: 10})[4:]
    assert all(one - {10} == {11} for one in had), had
    assert sum(10 in one for one in had) == pytest.approx(len(had) / 4, abs=2)
    assert node.turns.over == {10: pytest.approx(0.25)}
    assert 11 not in node.prober.looked_away, "it was always read"
    assert node.prober.looked_away.count(10) == pytest.approx(len(had) / 4, abs=2)
    (file,) = node.attacher.files
    assert file.sites, "between two turns it is read as well"
    node.live(10, {10: 50, 11: 10})
    assert node.prober.probed == {EVERYBODY} and node.turns.over == {}


def test_nobody_has_turns_where_too_many_run_the_file(node: Node) -> None:
    for pid in range(10, 12 + MAX_APART):
        node.run(pid, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    had = node.live(20, {10: 4_000})
    assert set().union(*had) == {EVERYBODY}


def test_nobody_has_turns_where_the_kernel_cannot_choose(node: Node) -> None:
    node.prober.is_choosing = False
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.attacher.look()
    assert set().union(*node.live(20, {10: 4_000})) == {EVERYBODY}


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1 << 40},
        {"offset": -1},
        {"program": "no_program"},
        {"cookie": 1 << 63},
        {"code": b""},
        {"code": b"\x90\x90"},
        {"code": b"\x48"},
    ],
)
def test_places_that_no_search_gives_are_not_probed(node: Node, change: dict[str, Any]) -> None:
    """As of a worker that the file has taken over."""
    node.run(10, "/lib/libssl.so.3", LIBSSL)

    def forge(fd: int, name: str) -> Found:
        found = search_file(fd, name)
        first, *rest = found.sites.sites
        return replace(found, sites=replace(found.sites, sites=(*rest, replace(first, **change))))

    node.searcher.search = forge
    node.attacher.look()
    assert not node.prober.open and node.attacher.failed_total == 1
    assert node.unread.why(10) == "It was not searched: its search gave impossible places."


@pytest.mark.parametrize(
    "found",
    [
        Found(sites=NO_TLS, work=-(1 << 40)),
        Found(sites=Sites(library="\x1b[31m"), work=1),
        Found(sites=Sites(library="x", reason="y" * 5_000), work=1),
    ],
)
def test_texts_and_figures_that_no_search_gives_are_not_shown(node: Node, found: Found) -> None:
    node.run(10, "/lib/libssl.so.3", LIBSSL)
    node.searcher.search = lambda fd, name: found
    node.attacher.look()
    assert node.attacher.failed_total == 1
    (file,) = node.attacher.files
    assert file.library == "unknown" and "its search gave" in file.reason


def test_files_without_probes_keep_no_others_from_being_searched(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of them one cgroup runs."""
    monkeypatch.setattr(processes, "MAX_MAPPINGS", 20)
    for number in range(30):
        node.run(10 + number, f"/evil/libssl-{number}.so", Path("/bin/true"), f"/pods/evil/{number}")
    node.attacher.look()
    node.run(99, "/lib/libssl.so.3", LIBSSL, "/pods/good")
    node.attacher.look()
    assert node.read_probed() == {"/lib/libssl.so.3"}
