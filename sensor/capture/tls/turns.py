"""Puts probes into the files of TLS libraries and takes them out: of all processes of a file, or process by process.

A file has one set of probes for everybody as long as all its processes are read all the time. Where one is not - it has
turns (`duty`), it is off (`choice`), or its answers are compared with and without (`latency`) - each process that is
read has a set of its own. Each set makes the hits of all others dearer, so there are at most `MAX_APART`; where more
processes are to be read, they follow each other.

A thread of its own switches, so nobody waits for a file that is being searched (sensor.capture.tls.attacher).
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sensor.capture.tls.choice import LatencyTrials, Port, TlsChoices
from sensor.capture.tls.duty import DutyCycle, Usage
from sensor.capture.tls.openssl import Site
from sensor.capture.tls.places import MAX_APART, ProbePlaces
from sensor.capture.tls.processes import FileId, MappedFile
from sensor.core.read_tls import ReadTls
from sensor.ebpf.uprobes import TlsProgram

logger = logging.getLogger(__name__)

STEP_SECONDS: Final = 1.0
# Whatever waits, so that what fails again and again takes no processor.
SHORTEST_REST_SECONDS: Final = 0.02
# Where more are to be read, they follow each other so often.
ROTATION_SECONDS: Final = 10.0
# A trial takes at most five times the budget of a process meanwhile. One that is read less than that has its answers
# changed in so few calls that none of the percentiles compared would show it.
TRIAL_SHARE_MIN: Final = 0.2
# Processes whose files are read before their time, in a second.
LATE_MAX: Final = 32
COMPARED: Final = "It is being compared how long its answers take with and without reading."
CROWDED: Final = (
    f"At most {MAX_APART} processes of a library are read at a time where one of them is not read always; {{count:,}} "
    "run this one."
)
# What holds for all processes of a file, now and later.
EVERYBODY: Final = 0

Status = tuple[int, int, int, int, int]


class ChangedError(Exception):
    """A file is not what was searched."""


@dataclass(slots=True, kw_only=True)
class HeldFile:
    """A file with probes, or one whose processes all rest."""

    library: str
    chosen: tuple[Site, ...]
    mapped: MappedFile
    cgroup: str  # Whose place it takes.
    fd: int  # By which it was searched and is probed.
    status: Status  # As it was searched.
    seen_at: float
    probes: dict[int, list[int]] = field(default_factory=dict)  # By process, or of EVERYBODY.
    apart: ProbePlaces = field(default_factory=ProbePlaces)

    @property
    def places(self) -> list[tuple[int, str, int]]:
        """Of all probes."""
        return [site.probe for site in self.chosen]

    @property
    def way(self) -> str:
        """A path that leads to this file and to no other, however it is named by now."""
        return f"/proc/self/fd/{self.fd}"

    def check(self) -> None:
        """Raises ChangedError where it is not what was searched."""
        if read_status(self.fd) != self.status or any(
            os.pread(self.fd, len(site.code), site.offset) != site.code for site in self.chosen
        ):
            raise ChangedError


def read_status(fd: int) -> Status:
    """Which file it is, and how it was changed last."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class TurnTaker:
    """Owns all probes in files. Thread-safe: one thread switches, another adds and releases files."""

    def __init__(
        self,
        *,
        prober: TlsProgram,
        close_probes: Callable[[Iterable[int]], None],
        choices: TlsChoices,
        duty: DutyCycle | None,
        monotonic: Callable[[], float],
        find_price_ns: Callable[[], float] = lambda: 0.0,
        trials: LatencyTrials | None = None,
        read_waits: Callable[[Collection[Port]], Mapping[Port, Sequence[int]]] = lambda _: {},
    ) -> None:
        """`duty`: who is read a part of the time, None where nobody can be; `find_price_ns`: of one breakpoint now;
        `trials`: whether answers take longer; `read_waits`: how long they take at some ports."""
        self.prober = prober
        self._close_probes = close_probes
        self.choices = choices
        self._duty = duty
        self.trials = trials
        self._read_waits = read_waits
        self._monotonic = monotonic
        self._find_price_ns = find_price_ns
        self._held: dict[FileId, HeldFile] = {}
        self._lock = threading.Lock()  # Of the files, their probes, and all that decides on them.
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        # Processes that were read at each port; of the thread that reads events, replaced as a whole.
        self.members: Mapping[Port, Collection[int]] = {}
        self.shares: Mapping[int, float] = {}  # Of processes that are read a part of the time, or not any more.
        self.over: Mapping[int, float] = {}  # These, and those that take more than their budget; the same.
        self.stopped: Mapping[int, str] = {}  # Processes that are left alone, and why.
        # Processes that wait for others of a file, as not all may have probes of their own: how many run it.
        self.crowded: Mapping[int, int] = {}
        self._hit: Collection[int] = ()  # Processes with breakpoints so far.
        self._probe_ns: Mapping[int, float] = {}  # Of these, as of the last step.
        self.late: Collection[int] = ()  # Processes whose files are to be looked at now.
        self._asked: dict[int, int] = {}  # How often they were, since they were late first.

    def start(self) -> None:
        """After this files may be added, and a thread switches."""
        self._is_stopping = False
        self._wake.clear()
        self._thread = threading.Thread(target=self._run, name="tls-turns", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes every probe out and waits for that. The descriptors of files are whose added them."""
        self._is_stopping = True
        self._wake.set()
        with self._lock:
            self._close_probes([probe for one in self._held.values() for each in one.probes.values() for probe in each])
            self._held.clear()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.shares, self.over, self.stopped, self.crowded = {}, {}, {}, {}

    def explain(self, pid: int) -> str:
        """Why a process is not read though its library is known; empty where it is."""
        return self.choices.find(pid).reason or self.stopped.get(pid, "")

    def describe(self, pid: int) -> str:
        """How much is read of a process, or why nothing is, for the coverage."""
        reason = self.explain(pid)
        if reason:
            return reason
        count = self.crowded.get(pid)
        notes = [self.choices.describe(pid), CROWDED.format(count=count) if count else ""]
        notes.append(COMPARED if self.trials is not None and pid in self.trials.slots else "")
        return " ".join(filter(None, notes))

    def add(self, file: FileId, held: HeldFile) -> bool:
        """Puts probes into a file for those who are to be read now. False after `stop`. Raises OSError, ChangedError,
        and then the file is not held."""
        with self._lock:
            if self._is_stopping:
                return False
            wanted = self._find_wanted(held)
            if EVERYBODY in wanted:
                held.probes[EVERYBODY] = self._open_probes(held, EVERYBODY)
            else:
                held.check()
                self._arrange(held)
            self._held[file] = held
            return True

    def release(self, file: FileId) -> None:
        """Takes the probes out of a file."""
        with self._lock:
            held = self._held.pop(file, None)
            if held is not None:
                self._close(held, list(held.probes))

    def forget(self, gone: Collection[int]) -> None:
        """Of processes that ended, or whose number is another one's by now: their probes and accounts."""
        if not gone:
            return
        with self._lock:
            for held in self._held.values():
                self._close(held, held.probes.keys() & gone)
            if self._duty is not None:
                self._duty.drop(gone)
            self.prober.forget_accounts(gone)

    def _run(self) -> None:
        step_at = self._monotonic() + STEP_SECONDS
        while not self._is_stopping:
            self._wake.wait(max(SHORTEST_REST_SECONDS, min(step_at, self._find_next()) - self._monotonic()))
            self._wake.clear()
            if self._is_stopping:
                return
            step_at = self._monotonic() + STEP_SECONDS
            try:
                self.step()
            except Exception:
                # A loop boundary: what is probed stays probed.
                logger.exception("changing the probes of files failed")

    def _find_next(self) -> float:
        """When a switch is due."""
        switches = [one.next_switch() for one in (self._duty, self.trials) if one is not None]
        return min(switches, default=float("inf"))

    def step(self) -> None:
        """Once: out of processes whose turn is over, into those whose turn begins."""
        with self._lock:
            if self._is_stopping:
                return
            now = self._monotonic()
            self.choices.refresh()
            if self.prober.is_choosing:
                self._decide(now)
            for held in self._held.values():
                try:
                    self._arrange(held)
                except Exception:
                    # One file keeps no other from having its turn.
                    logger.exception("changing the probes of a file failed")
            self._note_shares()

    def _decide(self, now: float) -> None:
        """A process in a trial is read as that wants. What it uses is measured all the same."""
        price_ns = self._find_price_ns()
        usages = {
            pid: Usage(account.calls, account.breakpoints * price_ns)
            for pid, account in self.prober.read_accounts().items()
        }
        self._note_late(usages)
        self._hit = usages.keys()
        if self.trials is not None:
            members = self._list_members()
            work_ns = {pid: one.probe_ns / one.calls for pid, one in usages.items() if one.calls}
            self.trials.step(now, self._read_waits(self.trials.list_ports(now, members)), members, work_ns)
            self.stopped = dict(self.trials.stopped)
        if self._duty is not None:
            self._duty.drop([pid for pid in self._duty.followed if not self._may_be_read(pid)])
            self._duty.step(now, {pid: one for pid, one in usages.items() if self._may_be_read(pid)})

    def _note_late(self, usages: Mapping[int, Usage]) -> None:
        """Whose probes were hit though nobody knows that it runs their file, or though it is off: it mapped a library
        since it was looked at last."""
        late = [
            pid
            for pid, usage in usages.items()
            if pid not in self.choices.known
            or (not self._may_be_read(pid) and usage.probe_ns > self._probe_ns.get(pid, usage.probe_ns))
        ]
        # Those first that were asked for least: of some, no look finds the file.
        self._asked = {pid: self._asked.get(pid, 0) for pid in late}
        self.late = sorted(late, key=self._asked.__getitem__)[:LATE_MAX]
        for pid in self.late:
            self._asked[pid] += 1
        self._probe_ns = {pid: usage.probe_ns for pid, usage in usages.items()}

    def _list_members(self) -> Mapping[Port, Mapping[int, bool]]:
        """Processes in `auto` that were read at a port, and whether their probes are in place now. A trial reads all
        calls for some seconds: none that is read much less."""
        shares = self._duty.shares if self._duty is not None else {}
        running = {pid for held in self._held.values() for pid in held.mapped.pids}
        probed = {pid for held in self._held.values() for pid in held.probes}
        everybody = {pid for held in self._held.values() if EVERYBODY in held.probes for pid in held.mapped.pids}
        return {
            port: {
                pid: pid in probed or pid in everybody
                for pid in pids
                if pid in running
                and self.choices.find(pid).mode is ReadTls.AUTO
                and shares.get(pid, 1.0) >= TRIAL_SHARE_MIN
            }
            for port, pids in self.members.items()
        }

    def _may_be_read(self, pid: int) -> bool:
        return self.choices.find(pid).mode is not ReadTls.OFF and pid not in self.stopped

    def _is_wanted(self, pid: int) -> bool:
        """Of a process that may be read: whether its probes are to be in place now."""
        slots = self.trials.slots if self.trials is not None else {}
        return slots[pid] if pid in slots else self._duty is None or self._duty.is_read(pid)

    def _find_restless(self, pids: Iterable[int]) -> list[int]:
        """Processes that are not read all the time."""
        slots = self.trials.slots if self.trials is not None else {}
        shares = self._duty.shares if self._duty is not None else {}
        return [pid for pid in pids if pid in slots or pid in shares or not self._may_be_read(pid)]

    def _find_wanted(self, held: HeldFile) -> set[int]:
        """Who is to have probes now: processes, or EVERYBODY."""
        pids = [pid for pid in held.mapped.pids if pid in self.choices.known]
        if not pids:
            return {EVERYBODY} & held.probes.keys()  # All have ended, and the next one may start at once.
        restless = self._find_restless(pids)
        if not restless:
            return {EVERYBODY}
        may_be_read = [pid for pid in pids if self._may_be_read(pid)]
        if not self.prober.is_choosing:
            return {EVERYBODY} if len(may_be_read) == len(pids) else set()
        has_patience = all(self.choices.find(pid).mode is ReadTls.FULL for pid in restless)
        if has_patience and len(pids) - len(restless) > MAX_APART:
            return {EVERYBODY}
        cgroups = {pid: self.choices.find_cgroup(pid) for pid in may_be_read}
        chosen = held.apart.choose(int(self._monotonic() // ROTATION_SECONDS), cgroups, self._hit)
        return {pid for pid in chosen if self._is_wanted(pid)}

    def _arrange(self, held: HeldFile) -> None:
        """The probes that this file is to have now. Of two at a place for a moment the second is silent (bpf/tls.c), so
        a process that moves from one to the other is read all the time."""
        wanted = self._find_wanted(held)
        for pid in wanted - held.probes.keys():
            try:
                held.probes[pid] = self._open_probes(held, pid)
            except ChangedError:
                return  # The next look sees to it.
            except OSError as error:
                logger.debug("process %d of %s is not read: %s", pid, held.mapped.name, error)  # It may have ended.
        self._close(held, held.probes.keys() - wanted)

    def _note_shares(self) -> None:
        """For the estimates and the coverage."""
        shares = dict(self._duty.shares) if self._duty is not None else {}
        over = dict(self._duty.over) if self._duty is not None else {}
        slots = self.trials.slots if self.trials is not None else {}
        shares.update(dict.fromkeys(slots, 0.5))
        crowded: dict[int, int] = {}
        for held in self._held.values():
            if EVERYBODY not in held.probes:
                waiting = {pid: share for pid, share in held.apart.shares.items() if share < 1}
                shares.update({pid: shares.get(pid, 1.0) * share for pid, share in waiting.items()})
                crowded.update(dict.fromkeys(waiting, len(held.apart.shares)))
            shares.update({pid: 0.0 for pid in held.mapped.pids if not self._may_be_read(pid)})
        self.shares, self.over, self.crowded = shares, over | shares, crowded

    def _close(self, held: HeldFile, keys: Iterable[int]) -> None:
        """Out of these processes."""
        keys = list(keys)
        if not keys:
            return
        self._close_probes([probe for key in keys for probe in held.probes.pop(key)])
        if EVERYBODY not in held.probes:
            for pid in set(held.mapped.pids if EVERYBODY in keys else keys) - held.probes.keys():
                self.prober.look_away(pid)

    def _open_probes(self, held: HeldFile, pid: int) -> list[int]:
        """Raises OSError, and ChangedError where the file is not what was searched, also while they went in."""
        held.check()
        probes = self.prober.open_probes(held.way, held.places, pid)
        try:
            held.check()
        except BaseException:
            self._close_probes(probes)
            raise
        return probes
