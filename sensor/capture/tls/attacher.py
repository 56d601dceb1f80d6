"""Keeps probes in the files with TLS libraries that processes run: one set per file, as long as a process maps it.

A process that makes more calls than are read (`duty`) has a set of its own for that time.

A thread looks at processes every second, has new files searched, and attaches and detaches probes. What it did is plain
data for coverage and metrics. The thread that reads events never waits for it.

Anybody may own a file, so it is not trusted. Probes go by its inode, so it is searched and probed through one
descriptor, which stays open as long as there are probes. The bytes at each place are compared with those searched, when
the probes go in and again afterwards. A changed file loses its probes. The budget for searching and the places for
files are shared along the cgroup tree.
"""

import heapq
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from common.token_bucket import TokenBucket
from sensor.capture.java.agents import JavaAgents
from sensor.capture.tls.code import is_instruction
from sensor.capture.tls.duty import DutyCycle
from sensor.capture.tls.elf import READ_BYTES_MAX, WORK_MAX
from sensor.capture.tls.finder import JAVA, Found, search_file
from sensor.capture.tls.openssl import Site, Sites
from sensor.capture.tls.processes import CgroupShares, FileId, MappedFile, ProcessFiles
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.sandbox import SandboxError, Task
from sensor.ebpf.uprobes import OWN_PROBES, UPROBES, TlsProgram

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
# Whatever waits, so that what fails again and again takes no processor.
SHORTEST_REST_SECONDS: Final = 0.02
# Probes stay so long after the last process that maps the file has gone: the next one may start at once.
LINGER_SECONDS: Final = 60.0
# Files with probes; a node with so many containers has more than 100 of them. Each holds a descriptor.
MAX_FILES: Final = 512
# Beside those that have turns, so many processes of a file may have probes of their own; where there are more, nobody
# has turns, for each set of probes makes the hits of all others dearer.
MAX_APART: Final = 32
# What holds for all processes of a file, now and later.
EVERYBODY: Final = 0
BROKEN: Final = "Looking for its library of TLS failed, see the sensor's log: a bug of Apidae, please report it."
# Places of one file: a library has some hundred.
MAX_SITES: Final = 4_096
MAX_REASON_CHARACTERS: Final = 1_024
# Units of work (sensor.capture.tls.elf) that searching files may take: a second, saved up, and at the start. A unit is
# about a third of a nanosecond; a node has some hundred files, most of which take less than ten million.
WORK_PER_SECOND: Final = 150_000_000
WORK_SAVED_MAX: Final = 6_000_000_000
WORK_AT_START: Final = 30_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedFile:
    """One file with a library of TLS: how it is read, or why it is not."""

    library: str
    path: str  # As one of its processes sees it.
    pids: tuple[int, ...]
    sites: tuple[Site, ...]  # Of the probes that are in it; empty where it is not read.
    reason: str


class Searcher(Protocol):
    """Finds the places in a file (sensor.core.sandbox.Sandbox)."""

    def run(self, task: Task[Found], fd: int, argument: str) -> Found:
        """Raises OSError, SandboxError."""

    def close_idle(self) -> None: ...

    def close(self) -> None: ...


class _ChangedError(Exception):
    """A file is not what was searched."""


_Status = tuple[int, int, int, int, int]


@dataclass(slots=True, kw_only=True)
class _Held:
    library: str
    chosen: tuple[Site, ...]
    mapped: MappedFile
    cgroup: str  # Whose place it takes.
    fd: int  # By which it was searched and is probed.
    status: _Status  # As it was searched.
    seen_at: float
    probes: dict[int, list[int]] = field(default_factory=dict)  # By process, or of EVERYBODY.
    is_resting: bool = False  # Out of all, until a turn begins.

    @property
    def is_repeatable(self) -> bool:
        """Whether nothing is reported twice where a place has two probes for a moment: a process that moves from one to
        the other is then read all the time. Go's writes are reported where they begin, by every probe there. Of two at
        a place of OpenSSL's, the second is silent (bpf/tls.c)."""
        return not any(site.program.startswith("go_") for site in self.chosen)

    @property
    def places(self) -> list[tuple[int, str, int]]:
        """Of all probes."""
        return [site.probe for site in self.chosen]

    @property
    def way(self) -> str:
        """A path that leads to this file and to no other, however it is named by now."""
        return f"/proc/self/fd/{self.fd}"

    def check(self) -> None:
        """Raises _ChangedError where it is not what was searched."""
        if _read_status(self.fd) != self.status or any(
            os.pread(self.fd, len(site.code), site.offset) != site.code for site in self.chosen
        ):
            raise _ChangedError


class Attacher:
    """Runs from `start` to `stop`; after `stop` nothing is attached."""

    def __init__(
        self,
        *,
        prober: TlsProgram,
        close_probes: Callable[[Iterable[int]], None],
        processes: ProcessFiles,
        searcher: Searcher,
        monotonic: Callable[[], float],
        unread: UnreadProcesses | None = None,
        duty: DutyCycle | None = None,
        agents: JavaAgents | None = None,
    ) -> None:
        """`duty`: who is read a part of the time; without it everybody always is. `agents`: of Java processes, into
        which no probe goes."""
        self._duty = duty
        self._agents = agents
        self._unread = unread or UnreadProcesses()
        self._prober = prober
        self._close_probes = close_probes
        self._processes = processes
        self._searcher = searcher
        self._monotonic = monotonic
        self._held: dict[FileId, _Held] = {}
        # Of which nothing is probed: no TLS, a library that is not read, or one that the kernel refused. No more than
        # are mapped, whose number is shared by cgroup (sensor.capture.tls.processes).
        self._without: dict[FileId, Sites] = {}
        self._places = CgroupShares()  # Files with probes.
        self._heaviest: FileId | None = None  # One of the cgroup that has most of them, once it was asked for.
        self._searched = CgroupShares()  # Work, of late.
        self._work = TokenBucket(WORK_PER_SECOND, WORK_SAVED_MAX, monotonic, tokens=WORK_AT_START)
        self._worked = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._files: tuple[ProbedFile, ...] = ()
        self.shares: Mapping[int, float] = {}  # Of processes that have turns.
        self.over: Mapping[int, float] = {}  # These, and those that make more calls than are read; the same.
        self.failed_total = 0  # Files whose search failed, and those whose probes the kernel refused.
        self.changed_total = 0  # Files that were changed while they were probed.
        self.left_out = 0  # Files that wait to be searched or for a place, as of the last look.

    @property
    def files(self) -> Sequence[ProbedFile]:
        """Files with a library of TLS, as of the last look. From any thread."""
        return self._files

    @property
    def unread_processes(self) -> int:
        """Processes whose mappings could not be read, or were too many."""
        return self._processes.unreadable + self._processes.left_out

    def start(self) -> None:
        """What runs now is probed when this returns; what starts later, within seconds."""
        self._stopping.clear()
        if self._agents is not None:
            self._agents.start()
        self._try(self.look)
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes every probe out and waits for it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._close_probes([probe for held in self._held.values() for each in held.probes.values() for probe in each])
        for held in self._held.values():
            self._change_places(held, -1)
            os.close(held.fd)
        self._held.clear()
        self._searcher.close()
        if self._agents is not None:
            self._agents.stop()
        self._files, self.shares, self.over = (), {}, {}
        self._unread.update(None)

    def _run(self) -> None:
        look_at = self._monotonic() + LOOK_SECONDS
        while not self._stopping.wait(max(SHORTEST_REST_SECONDS, self._find_next(look_at) - self._monotonic())):
            if self._monotonic() < look_at and self._try(self.take_turns):
                continue
            look_at = self._monotonic() + LOOK_SECONDS
            self._try(self.look)

    def _try(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception:
            # A loop boundary: what is probed stays probed.
            logger.exception("looking for libraries of TLS failed")
            return False
        return True

    def look(self) -> None:
        """Once: new files in, forgotten ones out."""
        now = self._monotonic()
        self._release_changed()
        mapped = {one.file: one for one in self._processes.look()}
        for file in list(self._held):
            held = self._held[file]
            if file in mapped:
                held.mapped, held.seen_at = mapped[file], now
            elif now - held.seen_at > LINGER_SECONDS:
                self._release(file)
        self._without = {file: sites for file, sites in self._without.items() if file in mapped}
        self._take_up_all([one for file, one in mapped.items() if file not in self._held and file not in self._without])
        self._searcher.close_idle()
        if self._duty is not None:
            self._duty.forget({pid for one in mapped.values() for pid in one.pids})
        self.take_turns()
        self._files = tuple(self._list_files(mapped))
        reasons: dict[int, str] = {}
        java = self._agents.look(self._list_java()) if self._agents is not None else {}
        for probed in self._files:
            for pid in probed.pids:
                reason = "" if probed.sites else probed.reason
                if probed.library == JAVA:
                    reason = java.get(pid, reason)
                reasons[pid] = reasons.get(pid) or reason
        self._unread.update(reasons)

    def _list_java(self) -> set[int]:
        return {pid for probed in self._files if probed.library == JAVA for pid in probed.pids}

    def _list_files(self, mapped: Mapping[FileId, MappedFile]) -> Iterator[ProbedFile]:
        for file, held in self._held.items():
            yield ProbedFile(
                library=held.library,
                path=held.mapped.name,
                pids=held.mapped.pids if file in mapped else (),
                sites=held.chosen if held.probes or held.is_resting else (),
                reason="",
            )
        for file, sites in self._without.items():
            if sites.library:
                one = mapped[file]
                yield ProbedFile(library=sites.library, path=one.name, pids=one.pids, sites=(), reason=sites.reason)

    def _release_changed(self) -> None:
        """Probes come out of files that were changed: an instruction that the kernel keeps is not there any more."""
        for file, held in list(self._held.items()):
            if _read_status(held.fd) != held.status:
                logger.info("%s was changed; its probes come out, and it is searched anew", held.mapped.name)
                self.changed_total += 1
                self._release(file)
                self._processes.reread(held.mapped.pids)

    def _release(self, file: FileId) -> None:
        held = self._held.pop(file)
        self._close(held, list(held.probes))
        self._change_places(held, -1)
        os.close(held.fd)

    def _find_next(self, look_at: float) -> float:
        """When something is to be done."""
        return min(look_at, self._duty.next_switch()) if self._duty is not None else look_at

    def take_turns(self) -> None:
        """Once: out of processes whose turn is over, into those whose turn begins."""
        if self._duty is None or not self._prober.is_choosing:
            return
        self._duty.step(self._monotonic(), self._prober.read_calls())
        self.shares, self.over = dict(self._duty.shares), dict(self._duty.over)
        for held in self._held.values():
            try:
                self._arrange(held, self._duty)
            except Exception:
                # One file keeps no other from having its turn.
                logger.exception("changing the probes of a file failed")

    def _arrange(self, held: _Held, duty: DutyCycle) -> None:
        """The probes that this file is to have now."""
        pids = held.mapped.pids
        others = sum(pid not in self.shares for pid in pids)
        is_apart = others < len(pids) and others <= MAX_APART
        wanted = {pid for pid in pids if duty.is_read(pid)} if is_apart else {EVERYBODY}
        if not held.is_repeatable:
            self._close(held, held.probes.keys() - wanted)
        for pid in wanted - held.probes.keys():
            try:
                held.probes[pid] = self._open_probes(held, pid)
            except _ChangedError:
                return  # The next look sees to it.
            except OSError as error:
                logger.debug("process %d of %s is not read: %s", pid, held.mapped.name, error)  # It may have ended.
        self._close(held, held.probes.keys() - wanted)
        held.is_resting = not held.probes

    def _close(self, held: _Held, keys: Iterable[int]) -> None:
        """Out of these processes."""
        keys = list(keys)
        if not keys:
            return
        self._close_probes([probe for key in keys for probe in held.probes.pop(key)])
        if EVERYBODY not in held.probes:
            for pid in set(held.mapped.pids if EVERYBODY in keys else keys) - held.probes.keys():
                self._prober.look_away(pid)

    def _open_probes(self, held: _Held, pid: int = EVERYBODY) -> list[int]:
        """Raises OSError, and _ChangedError where the file is not what was searched, also while they went in."""
        held.check()
        probes = self._prober.open_probes(held.way, held.places, pid)
        try:
            held.check()
        except BaseException:
            self._close_probes(probes)
            raise
        return probes

    def _take_up_all(self, new: Sequence[MappedFile]) -> None:
        """Files of those cgroups first that had least searched of late, as far as there is work and room."""
        self._searched.halve()
        self.left_out = len(new)
        by_cgroup: dict[str, list[MappedFile]] = {}
        for one in new:
            by_cgroup.setdefault(self._searched.find_lightest(one.cgroups), []).append(one)
        waiting = [(self._searched.rank(cgroup), cgroup) for cgroup in by_cgroup]
        heapq.heapify(waiting)
        while waiting and self._work.tokens > 0 and not self._stopping.is_set():
            rank, cgroup = heapq.heappop(waiting)
            if rank == self._searched.rank(cgroup):
                before = self._worked
                self.left_out -= self._take_up(by_cgroup[cgroup].pop())
                self._searched.add(cgroup, self._worked - before)
            if by_cgroup[cgroup]:
                heapq.heappush(waiting, (self._searched.rank(cgroup), cgroup))

    def _take_up(self, one: MappedFile) -> bool:
        """Whether it is settled what becomes of a file, for as long as it is run."""
        cgroup = self._places.find_lightest(one.cgroups)
        if len(self._held) >= MAX_FILES and not self._places.is_heavier(self._find_heaviest().cgroup, cgroup):
            return False
        try:
            fd = self._processes.open_file(one)
        except OSError as error:
            logger.debug("%s cannot be opened: %s", one.name, error)
            return False  # Its process may have ended; another one may run it.
        is_held = False
        try:
            status = _read_status(fd)
            # Of one that was changed a moment ago the probes come out at the next look.
            if any(status[:2] == held.status[:2] for held in self._held.values()):
                return False
            chosen, library = self._search(one, fd)
            if chosen:
                held = _Held(
                    library=library,
                    chosen=chosen,
                    mapped=one,
                    cgroup=cgroup,
                    fd=fd,
                    status=status,
                    seen_at=self._monotonic(),
                )
                is_held = self._put_in(held)
            return is_held or one.file in self._without
        except OSError as error:
            logger.debug("%s cannot be read: %s", one.name, error)
            return False
        finally:
            if not is_held:
                os.close(fd)

    def _search(self, one: MappedFile, fd: int) -> tuple[tuple[Site, ...], str]:
        """The places of the file, none where nothing is probed, and its library. Raises OSError."""
        try:
            found = self._searcher.run(search_file, fd, one.name.rpartition("/")[2])
            check_found(found, one.file.size)
            sites, work = found.sites, found.work
        except OSError:
            raise
        except SandboxError as error:
            self.failed_total += 1
            logger.warning("TLS of %s is not read: %s", one.name, error)
            sites, work = Sites(library="unknown", reason=f"It was not searched: {error}."), WORK_PER_SECOND
        except Exception:
            # Anybody's file: what is wrong with one must not keep the others from being read.
            self.failed_total += 1
            logger.exception("looking for a library of TLS in a file failed")
            sites, work = Sites(library="unknown", reason=BROKEN), WORK_PER_SECOND
        self._work.spend(work)
        self._worked += work
        chosen = sites.choose(has_cookies=self._prober.has_cookies)
        if not chosen:
            self._without[one.file] = sites
        return chosen, sites.library

    def _put_in(self, held: _Held) -> bool:
        """Whether the file has its probes now. Where there is no place left, one of the heaviest cgroup gives its."""
        one = held.mapped
        try:
            held.probes[EVERYBODY] = self._open_probes(held)
        except _ChangedError:
            logger.info("%s was changed while it was searched; it is searched anew", one.name)
            self._processes.reread(one.pids)
            return False
        except FileNotFoundError:
            return False  # As above: its process ended since.
        except OSError as error:
            self.failed_total += 1
            logger.warning("TLS of %s in %s is not read: %s", held.library, one.name, error.strerror)
            reason = f"The kernel refused the probes: {error.strerror}."
            self._without[one.file] = Sites(library=held.library, reason=reason)
            return False
        logger.info("reading TLS of %s in %s: %d probes", held.library, one.name, len(held.chosen))
        self._held[one.file] = held
        self._change_places(held, 1)
        if len(self._held) > MAX_FILES:
            heaviest = self._find_heaviest().mapped
            logger.warning("%s gives its place to a file of a cgroup that has fewer", heaviest.name)
            self._release(heaviest.file)
        return True

    def _change_places(self, held: _Held, count: int) -> None:
        self._places.add(held.cgroup, count)
        self._heaviest = None

    def _find_heaviest(self) -> _Held:
        """A file with probes of the cgroup that has most of them."""
        if self._heaviest is None:
            self._heaviest = max(self._held, key=lambda file: self._places.rank(self._held[file].cgroup))
        return self._held[self._heaviest]


def check_found(found: Found, size: int) -> None:
    """Raises SandboxError for what no search gives: a hostile file may have taken over the worker that gave it."""
    sites = found.sites
    is_plausible = (
        0 <= found.work <= WORK_MAX + READ_BYTES_MAX
        and sites.library.isprintable()
        and sites.reason.isprintable()
        and len(sites.library) + len(sites.reason) <= MAX_REASON_CHARACTERS
        and len(sites.sites) + len(sites.plain) <= MAX_SITES
        and all(_is_place(site, size) for site in (*sites.sites, *sites.plain))
    )
    if not is_plausible:
        raise SandboxError("its search gave impossible places")


def _is_place(site: Site, size: int) -> bool:
    """Whether a place may have a probe: a whole instruction of the file, and a program of ours."""
    return (
        site.program in UPROBES
        and 0 <= site.offset < size
        and 0 <= site.cookie < OWN_PROBES
        and is_instruction(site.code)
    )


def _read_status(fd: int) -> _Status:
    """Which file it is, and how it was changed last."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
