"""Puts probes into the files of TLS libraries and takes them out: of all processes of a file, or process by process.

A file has one set of probes for everybody as long as all its processes are read all the time. Where one is not - it has
turns (`duty`), it is off (`choice`), or its answers are compared with and without (`latency`) - each process that is
read has a set of its own. Each set makes the hits of all others dearer, so there are at most `MAX_APART`; where more
processes are to be read, they follow each other.

Where the kernel puts probes into all processes of a file or into none (`TlsProgram.is_choosing`), all of them have
turns and comparisons together (`by_file`). What takes turns is a *unit*: a process, or there a file, by its number.

A thread of its own switches, so nobody waits for a file that is being searched (sensor.capture.tls.attacher).
"""

import errno
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from sensor.capture.tls.by_file import FileUsages, make_number
from sensor.capture.tls.choice import TlsChoices
from sensor.capture.tls.duty import DutyCycle, Usage
from sensor.capture.tls.latency import AnswerTrials
from sensor.capture.tls.openssl import Site
from sensor.capture.tls.places import MAX_APART, ProbePlaces
from sensor.capture.tls.processes import FileId, MappedFile
from sensor.capture.tls.waits import Port
from sensor.core.read_tls import ReadTls
from sensor.ebpf.uprobes import STEPPED, TlsProgram

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
TOGETHER: Final = (
    "Here all {count:,} processes of its library are read together, as the kernel puts probes into all of a file or "
    "into none: the busiest decides."
)
# What holds for all processes of a file, now and later.
EVERYBODY: Final = 0
REFUSED: Final = "The kernel refused the probes: {refusal}."
# Parts of which it is known that they failed, so that the log has it once.
FAILING_MAX: Final = 1_024
# What the kernel refused is tried again after so long, then after twice as long, and so on.
REFUSED_SECONDS: Final = 60.0
LONGEST_REFUSED_SECONDS: Final = 3_600.0
SHARES_FILE: Final = (
    "It shares its library with a process that may not be read, and here the kernel puts probes into all processes of "
    "a file or into none."
)
_ENDED: Final = (errno.ESRCH, errno.ENOENT)  # The process, or all that lead to the file.
_NEVER: Final = (float("inf"), 0.0)
_T = TypeVar("_T")

Status = tuple[int, int, int, int, int]


class ChangedError(Exception):
    """A file is not what was searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Probes that the kernel refused: until when nobody asks again, and for how long that is."""

    reason: str
    until: float
    seconds: float


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
    unit: int = field(default_factory=make_number)  # Where all of its processes have turns together.
    apart: ProbePlaces = field(default_factory=ProbePlaces)
    refusals: dict[int, Refusal] = field(default_factory=dict)  # The same.

    def find_places(self, has_cookies: bool) -> list[tuple[int, str, int]]:
        """Of all probes. With cookies, a program knows at which places a breakpoint costs more."""
        return [
            (offset, program, cookie if site.is_emulated or not has_cookies else cookie | STEPPED)
            for site in self.chosen
            for offset, program, cookie in (site.probe,)
        ]

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


def _list_first(held: HeldFile, wanted: Collection[int]) -> Collection[int]:
    """What can come out before anything goes in: it is in no process that is to be read."""
    new, extra = wanted - held.probes.keys(), held.probes.keys() - wanted
    if EVERYBODY in new:
        return ()
    return extra - {EVERYBODY} if new else extra


def _list_last(held: HeldFile, wanted: Collection[int]) -> Collection[int]:
    """What can come out then. Where the kernel refused the probes of EVERYBODY, each process keeps its own."""
    return () if EVERYBODY in wanted and EVERYBODY not in held.probes else held.probes.keys() - wanted


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
        trials: AnswerTrials | None = None,
        read_waits: Callable[[Collection[Port]], Mapping[Port, Sequence[int]]] = lambda _: {},
    ) -> None:
        """`duty`: which units are read a part of the time, None where none can be; `find_price_ns`: of one breakpoint
        now; `trials`: whether answers take longer; `read_waits`: how long they take at some ports."""
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
        # Shares of the time in which processes are read: those in turns, not read any more, or beyond their budget.
        self.over: Mapping[int, float] = {}
        self.stopped: Mapping[int, str] = {}  # Processes that are left alone, and why.
        self.together: Mapping[int, int] = {}  # Processes that have turns with others of a file: how many those are.
        # Processes that wait for others of a file, as not all may have probes of their own: how many run it.
        self.crowded: Mapping[int, int] = {}
        self._hit: Collection[int] = ()  # Processes with breakpoints so far.
        self._probe_ns: Mapping[int, float] = {}  # Of these, as of the last step.
        # By process: from when until when its probes came out last.
        self._closings: dict[int, tuple[float, float]] = {}
        self.late: Collection[int] = ()  # Processes whose files are to be looked at now.
        self._asked: dict[int, int] = {}  # How often they were, since they were late first.
        self.hindered: Mapping[int, str] = {}  # Those that may be read and cannot be, and why.
        self.refused_total = 0  # Times that the kernel refused probes of one process.
        # As of the last step, by process.
        self.slots: Mapping[int, bool] = {}  # Of those whose answers are compared.
        self.parts: Mapping[int, float] = {}  # Of the time, of those in turns.
        # The same and `stopped`, by unit.
        self._slots: Mapping[int, bool] = {}
        self._parts: Mapping[int, float] = {}
        self._stopped: Mapping[int, str] = {}
        self._usages = FileUsages()
        self._is_compared = self._is_measured = True
        self._failing: set[str] = set()  # What failed the last time.

    def start(self) -> None:
        """After this files may be added, and a thread switches."""
        self._is_stopping = False
        self._wake.clear()
        self._limit_calls()
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
        self.over, self.stopped, self.crowded, self.hindered, self.together = {}, {}, {}, {}, {}

    def explain(self, pid: int) -> str:
        """Why a process is not read though its library is known; empty where it is."""
        return self.choices.find(pid).reason or self.stopped.get(pid) or self.hindered.get(pid, "")

    def describe(self, pid: int) -> str:
        """How much is read of a process, or why nothing is, for the coverage."""
        reason = self.explain(pid)
        if reason:
            return reason
        count = self.crowded.get(pid)
        together = self.together.get(pid, 1)
        notes = [self.choices.describe(pid), CROWDED.format(count=count) if count else ""]
        notes.append(TOGETHER.format(count=together) if together > 1 else "")
        notes.append(COMPARED if pid in self.slots else "")
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
                self._open_wanted(held, wanted)
            self._held[file] = held
            return True

    def release(self, file: FileId) -> None:
        """Takes the probes out of a file."""
        with self._lock:
            held = self._held.pop(file, None)
            if held is not None:
                self._close([(held, held.probes.keys())])

    def forget(self, gone: Collection[int]) -> None:
        """Of processes that ended, or whose number is another one's by now: their probes and accounts."""
        if not gone:
            return
        with self._lock:
            self._close([(held, held.probes.keys() & gone) for held in self._held.values()])
            for pid in self._closings.keys() & gone:
                del self._closings[pid]
            for held in self._held.values():
                for pid in held.refusals.keys() & gone:
                    del held.refusals[pid]
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
            now = self._monotonic()
            is_early = now < step_at
            step_at = step_at if is_early else now + STEP_SECONDS
            try:
                self.step(is_early=is_early)
            except Exception:
                # A loop boundary: what is probed stays probed.
                logger.exception("changing the probes of files failed")

    def _find_next(self) -> float:
        """When a switch is due."""
        duty = self._duty.next_switch() if self._duty is not None and self._is_measured else float("inf")
        trials = self.trials.next_switch() if self.trials is not None and self._is_compared else float("inf")
        return min(duty, trials)

    def step(self, *, is_early: bool = False) -> None:
        """Once a second, and `is_early` for a switch before: out of processes whose turn is over, into those whose turn
        begins. Whatever fails, what is to come out comes out, of all files at once and before anything goes in: the
        kernel takes as long to take out one set as many. But where all processes of a file have one set and each is to
        have its own, these go in before."""
        with self._lock:
            if self._is_stopping:
                return
            now = self._monotonic()
            if not is_early:
                self._guard("taking up what Pods choose", self.choices.refresh)
                self._limit_calls()
            if self.prober.is_choosing or self._duty is not None:
                self._decide(now)
            wanted = [
                (
                    held,
                    self._guard(f"choosing processes of {held.mapped.name}", partial(self._find_wanted, held)) or set(),
                )
                for held in self._held.values()
            ]
            self._guard(
                "taking probes out", lambda: self._close((held, _list_first(held, keys)) for held, keys in wanted)
            )
            for held, keys in wanted:
                self._guard(f"putting probes into {held.mapped.name}", partial(self._open_wanted, held, keys))
            if self._is_stopping:
                return  # All come out.
            self._guard(
                "taking probes out", lambda: self._close((held, _list_last(held, keys)) for held, keys in wanted)
            )
            self._note_shares()

    def _guard(self, what: str, act: Callable[[], _T]) -> _T | None:
        """What an act gives; None where it fails. The log has the first failure of a row."""
        try:
            given = act()
        except Exception:
            # A loop boundary: one part keeps no other from its work.
            if what not in self._failing:
                logger.exception("%s failed", what)
                if len(self._failing) >= FAILING_MAX:
                    self._failing.clear()
                self._failing.add(what)
            return None
        self._failing.discard(what)
        return given

    def _limit_calls(self) -> None:
        self._guard("limiting calls", lambda: self.prober.limit_each(self.choices.list_limits()))

    def _decide(self, now: float) -> None:
        """A unit in a trial is read as that wants. What it uses is measured all the same. Where it cannot be known,
        nothing is compared, and a unit in turns is not read."""
        usages = self._guard("reading what breakpoints take", self._read_usages)
        if usages is not None:
            self._note_late(usages)
            self._hit = usages.keys()
        if self.trials is not None:
            slots = self._guard("comparing answer times", partial(self._compare, self.trials, now, usages or {}))
            self._is_compared, self._slots = slots is not None, slots or {}
        if self._duty is not None:
            parts = None
            if usages is not None:
                parts = self._guard("measuring what is read", partial(self._measure, self._duty, now, usages))
            self._is_measured = parts is not None
            self._parts = dict(self._duty.shares) if parts is None else parts
        if self.prober.is_choosing:
            self.slots, self.parts, self.stopped = self._slots, self._parts, self._stopped
        else:
            self.slots, self.parts = self._spread(self._slots), self._spread(self._parts)
            self.stopped = self._spread(self._stopped)
            turning = self._slots.keys() | self._parts.keys()
            files = [held.mapped.pids for held in self._held.values() if held.unit in turning]
            self.together = {pid: len(pids) for pids in files for pid in pids}

    def _read_usages(self) -> Mapping[int, Usage]:
        price_ns = self._find_price_ns()
        accounts = self.prober.read_accounts().items()
        return {pid: Usage(one.calls, one.breakpoints * price_ns, one.refused) for pid, one in accounts}

    def _compare(self, trials: AnswerTrials, now: float, usages: Mapping[int, Usage]) -> Mapping[int, bool]:
        """A step of the trials; their slots."""
        members = self._list_members()
        work_ns = {pid: one.probe_ns / one.calls for pid, one in usages.items() if one.calls}
        if not self.prober.is_choosing:
            files = {
                unit: [work_ns[pid] for pid in pids if pid in work_ns] for unit, pids in self._list_files().items()
            }
            work_ns = {unit: max(each) for unit, each in files.items() if each}
        trials.step(now, self._read_waits(trials.list_ports(now, members)), members, work_ns)
        self._stopped = dict(trials.stopped)
        return dict(trials.slots)

    def _measure(self, duty: DutyCycle, now: float, usages: Mapping[int, Usage]) -> Mapping[int, float]:
        """A step of the turns; the part of the time of each unit in turns."""
        if not self.prober.is_choosing:
            files = self._list_files()
            duty.drop([unit for unit in duty.followed if unit not in files])
            duty.step(now, self._usages.take(usages, files))
            return dict(duty.shares)
        duty.drop([pid for pid in duty.followed if not self._may_be_read(pid)])
        duty.step(now, {pid: one for pid, one in usages.items() if self._may_be_read(pid)})
        return dict(duty.shares)

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

    def _list_files(self) -> Mapping[int, Collection[int]]:
        """Files that have turns, with their processes: one of them is in `auto`, and none is off or left alone."""
        files: dict[int, Collection[int]] = {}
        for held in self._held.values():
            pids = [pid for pid in held.mapped.pids if pid in self.choices.known]
            modes = {self.choices.find(pid).mode for pid in pids}
            if ReadTls.AUTO in modes and ReadTls.OFF not in modes and held.unit not in self._stopped:
                files[held.unit] = pids
        return files

    def _spread(self, units: Mapping[int, _T]) -> Mapping[int, _T]:
        """What holds for files, by their processes; of one that runs two of them, what holds for either."""
        return {pid: units[held.unit] for held in self._held.values() if held.unit in units for pid in held.mapped.pids}

    def _list_members(self) -> Mapping[Port, Mapping[int, bool]]:
        """Units in `auto` that were read at a port, and whether their probes are in place now. A trial reads all calls
        for some seconds: none that is read much less."""
        shares = self._parts
        if not self.prober.is_choosing:
            files = [
                (set(held.mapped.pids), held.unit, EVERYBODY in held.probes)
                for held in self._held.values()
                if shares.get(held.unit, 1.0) >= TRIAL_SHARE_MIN
                and any(self.choices.find(pid).mode is ReadTls.AUTO for pid in held.mapped.pids)
                and not self._is_kept_off(held)
            ]
            return {
                port: {unit: is_in_place for runs, unit, is_in_place in files if not runs.isdisjoint(pids)}
                for port, pids in self.members.items()
            }
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

    def _is_wanted(self, unit: int) -> bool:
        """Of one that may be read: whether its probes are to be in place now."""
        if unit in self._slots:
            return self._slots[unit]
        return unit not in self._parts or (self._duty is not None and self._is_measured and self._duty.is_read(unit))

    def _find_restless(self, pids: Iterable[int]) -> list[int]:
        """Processes that are not read all the time."""
        return [pid for pid in pids if pid in self.slots or pid in self.parts or not self._may_be_read(pid)]

    def _find_wanted(self, held: HeldFile) -> set[int]:
        """Who is to have probes now: processes, or EVERYBODY."""
        pids = [pid for pid in held.mapped.pids if pid in self.choices.known]
        if not pids:
            return {EVERYBODY} & held.probes.keys()  # All have ended, and the next one may start at once.
        if not self.prober.is_choosing:
            is_wanted = not self._is_kept_off(held) and held.unit not in self._stopped and self._is_wanted(held.unit)
            return {EVERYBODY} if is_wanted else set()
        restless = self._find_restless(pids)
        if not restless:
            return {EVERYBODY}
        may_be_read = [pid for pid in pids if self._may_be_read(pid)]
        has_patience = all(self.choices.find(pid).mode is ReadTls.FULL for pid in restless)
        if has_patience and len(pids) - len(restless) > MAX_APART:
            return {EVERYBODY}
        cgroups = {pid: self.choices.find_cgroup(pid) for pid in may_be_read}
        chosen = held.apart.choose(int(self._monotonic() // ROTATION_SECONDS), cgroups, self._hit)
        return {pid for pid in chosen if self._is_wanted(pid)}

    def _is_kept_off(self, held: HeldFile) -> bool:
        """Whether one of a file's processes may not be read, and so none is where the kernel cannot choose."""
        pids = [pid for pid in held.mapped.pids if pid in self.choices.known]
        return any(self.choices.find(pid).mode is ReadTls.OFF for pid in pids)

    def _open_wanted(self, held: HeldFile, wanted: Collection[int]) -> None:
        """Puts in what is not there. Of two probes at a place for a moment the second is silent (bpf/tls.c), so a
        process that moves from one to the other is read all the time."""
        for pid in wanted - held.probes.keys():
            refusal = held.refusals.get(pid)
            if refusal is not None and self._monotonic() < refusal.until:
                continue
            if self._is_stopping:
                return
            try:
                held.probes[pid] = self._open_probes(held, pid)
            except ChangedError:
                return  # The next look sees to it.
            except OSError as error:
                if error.errno in _ENDED:
                    logger.debug("process %d of %s is not read: %s", pid, held.mapped.name, error)
                    continue
                self.refused_total += 1
                self._note_refusal(held, pid, refusal, error)
                continue
            held.refusals.pop(pid, None)
            unit = held.unit if pid == EVERYBODY else pid
            if self._duty is not None and unit not in self._slots:
                self._duty.begin_turn(unit, self._monotonic())

    def _note_refusal(self, held: HeldFile, pid: int, before: Refusal | None, error: OSError) -> None:
        seconds = REFUSED_SECONDS if before is None else min(2 * before.seconds, LONGEST_REFUSED_SECONDS)
        held.refusals[pid] = Refusal(
            reason=REFUSED.format(refusal=error.strerror), until=self._monotonic() + seconds, seconds=seconds
        )
        if before is None:
            who = "any process" if pid == EVERYBODY else f"process {pid}"
            logger.warning("TLS of %s in %s is not read: %s", who, held.mapped.name, error.strerror)

    def _find_hindered(self) -> Mapping[int, str]:
        """Processes that may be read and have no probes though none of its turns is over, and why."""
        hindered: dict[int, str] = {}
        for held in self._held.values():
            if EVERYBODY in held.probes:
                continue
            if EVERYBODY in held.refusals:
                hindered.update(dict.fromkeys(held.mapped.pids, held.refusals[EVERYBODY].reason))
            for pid in held.refusals.keys() - held.probes.keys() - {EVERYBODY}:
                hindered[pid] = held.refusals[pid].reason
            if not self.prober.is_choosing and EVERYBODY not in held.refusals and self._is_kept_off(held):
                hindered.update(dict.fromkeys(held.mapped.pids, SHARES_FILE))
        return {pid: reason for pid, reason in hindered.items() if self._may_be_read(pid)}

    def _note_shares(self) -> None:
        """For the estimates and the coverage."""
        shares = dict(self.parts)
        over = self._duty.over if self._duty is not None else {}
        over = dict(over if self.prober.is_choosing else self._spread(over))
        shares.update(dict.fromkeys(self.slots, 0.5))
        self.hindered = self._find_hindered()
        crowded: dict[int, int] = {}
        for held in self._held.values():
            if EVERYBODY not in held.probes:
                waiting = {pid: share for pid, share in held.apart.shares.items() if share < 1}
                shares.update({pid: shares.get(pid, 1.0) * share for pid, share in waiting.items()})
                crowded.update(dict.fromkeys(waiting, len(held.apart.shares)))
            shares.update({pid: 0.0 for pid in held.mapped.pids if not self._may_be_read(pid)})
        shares.update(dict.fromkeys(self.hindered, 0.0))
        self.over, self.crowded = over | shares, crowded

    def _close(self, wanted: Iterable[tuple[HeldFile, Iterable[int]]]) -> None:
        """Takes probes out of files, of these processes or of EVERYBODY; of all at once."""
        taken = [(held, keys) for held, keys in ((held, list(keys)) for held, keys in wanted) if keys]
        if not taken:
            return
        probes = [probe for held, keys in taken for key in keys for probe in held.probes.pop(key)]
        left = {
            pid
            for held, keys in taken
            if EVERYBODY not in held.probes
            for pid in set(held.mapped.pids if EVERYBODY in keys else keys) - held.probes.keys()
        }
        began_at = self._monotonic()
        self._closings.update(dict.fromkeys(left, (began_at, float("inf"))))
        self._close_probes(probes)
        self._closings.update(dict.fromkeys(left, (began_at, self._monotonic())))
        for pid in left:
            self.prober.look_away(pid)

    def was_closing(self, pid: int, monotonic_ns: int) -> bool:
        """Whether the probes of a process were coming out then: one after the other, so an answer may be seen whose
        request was not. From any thread."""
        began_at, ended_at = self._closings.get(pid, _NEVER)
        return began_at <= monotonic_ns / 1e9 <= ended_at

    def _open_probes(self, held: HeldFile, pid: int) -> list[int]:
        """Raises OSError, and ChangedError where the file is not what was searched, also while they went in."""
        held.check()
        self.prober.attach()  # Where nothing is probed, no program runs at all.
        probes = self.prober.open_probes(held.way, held.find_places(self.prober.has_cookies), pid)
        try:
            held.check()
        except BaseException:
            self._close_probes(probes)
            raise
        return probes
