"""Keeps probes in the files with TLS libraries that processes run: one set per file, as long as a process maps it.

A thread looks at processes every second, and has new files searched, which may take long. Who has probes meanwhile is
up to `TurnTaker` (sensor.capture.tls.turns), which has a thread of its own. What they did is plain data for coverage
and metrics. The thread that reads events never waits for them.

Anybody may own a file, so it is not trusted. Probes go by its inode, so it is searched and probed through one
descriptor, which stays open as long as there are probes. The bytes at each place are compared with those searched, when
the probes go in and again afterwards. A changed file loses its probes. The budget for searching and the places for
files are shared along the cgroup tree.
"""

import heapq
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from common.token_bucket import TokenBucket
from sensor.capture.java.agents import JavaAgents
from sensor.capture.tls.code import is_instruction
from sensor.capture.tls.elf import READ_BYTES_MAX, WORK_MAX
from sensor.capture.tls.finder import JAVA, Found, search_file
from sensor.capture.tls.openssl import Site, Sites
from sensor.capture.tls.processes import CgroupShares, FileId, MappedFile, ProcessFiles, ProcessPlace
from sensor.capture.tls.turns import ChangedError, HeldFile, TurnTaker, read_status
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.read_tls import ReadTls
from sensor.core.sandbox import SandboxError, Task
from sensor.ebpf.uprobes import OWN_PROBES, UPROBES

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
# Probes stay so long after the last process that maps the file has gone: the next one may start at once.
LINGER_SECONDS: Final = 60.0
# Files with probes; a node with so many containers has more than 100 of them. Each holds a descriptor.
MAX_FILES: Final = 512
BROKEN: Final = "Looking for its library of TLS failed, see the sensor's log: a bug of Apidae, please report it."
# Places of one file: a library has some hundred.
MAX_SITES: Final = 4_096
MAX_REASON_CHARACTERS: Final = 1_024
# Of the file by which a process is a JVM.
JVM_NAME: Final = "libjvm.so"
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
    sites: tuple[Site, ...]  # Of the probes of a process that is read; empty where it is not read.
    reason: str
    probes: int = 0  # In place now.


class Searcher(Protocol):
    """Finds the places in a file (sensor.core.sandbox.Sandbox)."""

    def run(self, task: Task[Found], fd: int, argument: str) -> Found:
        """Raises OSError, SandboxError."""

    def close_idle(self) -> None: ...

    def close(self) -> None: ...


class Attacher:
    """Runs from `start` to `stop`; after `stop` nothing is attached."""

    def __init__(
        self,
        *,
        turns: TurnTaker,
        processes: ProcessFiles,
        searcher: Searcher,
        monotonic: Callable[[], float],
        unread: UnreadProcesses | None = None,
        agents: JavaAgents | None = None,
    ) -> None:
        """`turns` puts probes in where they may be; `agents`: of Java processes, into which no probe goes."""
        self._turns = turns
        self._choices = turns.choices
        self._agents = agents
        self._unread = unread or UnreadProcesses()
        self._processes = processes
        self._searcher = searcher
        self._monotonic = monotonic
        self._held: dict[FileId, HeldFile] = {}
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
        """Returns at once. What runs is probed as soon as its files are searched; what starts later, within seconds."""
        self._stopping.clear()
        if self._agents is not None:
            self._agents.start()
        self._turns.start()
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes every probe out and waits for it, also where a file is being searched."""
        self._stopping.set()
        self._turns.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for held in self._held.values():
            self._change_places(held, -1)
            os.close(held.fd)
        self._held.clear()
        self._searcher.close()
        if self._agents is not None:
            self._agents.stop()
        self._files = ()
        self._unread.update(None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._try(self.look)
            self._stopping.wait(LOOK_SECONDS)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            # A loop boundary: what is probed stays probed.
            logger.exception("looking for libraries of TLS failed")

    def look(self) -> None:
        """Once: new files in, forgotten ones out."""
        now = self._monotonic()
        self._release_changed()
        self._turns.forget(self._processes.reread(self._turns.late))
        mapped = {one.file: one for one in self._processes.look()}
        for file in list(self._held):
            held = self._held[file]
            if file in mapped:
                held.mapped, held.seen_at = mapped[file], now
            elif now - held.seen_at > LINGER_SECONDS:
                self._release(file)
        self._without = {file: sites for file, sites in self._without.items() if file in mapped}
        self._turns.forget(self._choices.look(self._list_places(mapped)))
        self._turns.step()
        new = [one for file, one in mapped.items() if file not in self._held and file not in self._without]
        self._take_up_all([one for one in new if self._may_be_read(one)])
        self._searcher.close_idle()
        self._files = tuple(self._list_files(mapped))
        # Of files that nobody searched, as none of their processes may be read.
        unsearched = [pid for one in new if not self._may_be_read(one) for pid in one.pids]
        reasons = {pid: self._choices.find(pid).reason for pid in unsearched}
        java = self._agents.look(self._list_java()) if self._agents is not None else {}
        for probed in self._files:
            for pid in probed.pids:
                reason = self._turns.explain(pid) if probed.sites else probed.reason
                if probed.library == JAVA:
                    reason = self._choices.find_wish(pid).reason or java.get(pid, reason)
                reasons[pid] = reasons.get(pid) or reason
        self._unread.update(reasons)

    def _may_be_read(self, one: MappedFile) -> bool:
        """Whether one of a file's processes may: by probes, or a JVM by its agent."""
        is_java = JVM_NAME in one.name.rpartition("/")[2]
        choices = (self._choices.find_wish(pid) if is_java else self._choices.find(pid) for pid in one.pids)
        return any(choice.mode is not ReadTls.OFF for choice in choices)

    def _list_places(self, mapped: Mapping[FileId, MappedFile]) -> dict[int, ProcessPlace]:
        """Of processes that may be read."""
        without = self._without
        pids = {
            pid
            for file, one in mapped.items()
            if file not in without or without[file].library == JAVA
            for pid in one.pids
        }
        return {pid: self._processes.find_place(pid) for pid in pids}

    def _list_java(self) -> set[int]:
        return {pid for probed in self._files if probed.library == JAVA for pid in probed.pids}

    def _list_files(self, mapped: Mapping[FileId, MappedFile]) -> Iterator[ProbedFile]:
        for file, held in self._held.items():
            yield ProbedFile(
                library=held.library,
                path=held.mapped.name,
                pids=held.mapped.pids if file in mapped else (),
                sites=held.chosen,
                reason="",
                probes=len(held.chosen) * len(held.probes),
            )
        for file, sites in self._without.items():
            if sites.library:
                one = mapped[file]
                yield ProbedFile(library=sites.library, path=one.name, pids=one.pids, sites=(), reason=sites.reason)

    def _release_changed(self) -> None:
        """Probes come out of files that were changed: an instruction that the kernel keeps is not there any more."""
        for file, held in list(self._held.items()):
            if read_status(held.fd) != held.status:
                logger.info("%s was changed; its probes come out, and it is searched anew", held.mapped.name)
                self.changed_total += 1
                self._release(file)
                self._processes.reread(held.mapped.pids)

    def _release(self, file: FileId) -> None:
        held = self._held.pop(file)
        self._turns.release(file)
        self._change_places(held, -1)
        os.close(held.fd)

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
            status = read_status(fd)
            # Of one that was changed a moment ago the probes come out at the next look.
            if any(status[:2] == held.status[:2] for held in self._held.values()):
                return False
            chosen, library = self._search(one, fd)
            if chosen:
                held = HeldFile(
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
        chosen = sites.choose(has_cookies=self._turns.prober.has_cookies)
        if not chosen:
            self._without[one.file] = sites
        return chosen, sites.library

    def _put_in(self, held: HeldFile) -> bool:
        """Whether the file has its probes now. Where there is no place left, one of the heaviest cgroup gives its."""
        one = held.mapped
        try:
            if not self._turns.add(one.file, held):
                return False  # The sensor stops.
        except ChangedError:
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
        if held.probes:
            logger.info("reading TLS of %s in %s: %d probes", held.library, one.name, len(held.chosen))
        else:
            logger.info("TLS of %s in %s is not read now: none of its processes is to be read", held.library, one.name)
        self._held[one.file] = held
        self._change_places(held, 1)
        if len(self._held) > MAX_FILES:
            heaviest = self._find_heaviest().mapped
            logger.warning("%s gives its place to a file of a cgroup that has fewer", heaviest.name)
            self._release(heaviest.file)
        return True

    def _change_places(self, held: HeldFile, count: int) -> None:
        self._places.add(held.cgroup, count)
        self._heaviest = None

    def _find_heaviest(self) -> HeldFile:
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
