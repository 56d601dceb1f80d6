"""Keeps probes in the files with libraries of TLS that processes run: one set a file, whoever maps it, and none where
nobody does any more. While one of its processes makes more calls than are read (`duty`), each has a set of its own.

A thread of its own looks at processes every second, has new files searched, puts probes in and takes them out. What it
did is plain data for the coverage and for metrics; the thread that reads events never waits for it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sensor.tls.duty import DutyCycle
from sensor.tls.finder import search_file
from sensor.tls.processes import FileId, MappedFile, ProcessFiles
from sensor.tls.site import Site, Sites
from sensor.tls.unread import UnreadProcesses

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
# Whatever waits, so that what fails again and again takes no processor.
SHORTEST_REST_SECONDS: Final = 0.02
# Probes stay so long after the last process that maps the file has gone: the next one may start at once.
LINGER_SECONDS: Final = 60.0
# Files with probes; a node with so many containers has more than 100 of them.
MAX_FILES: Final = 512
# Beside those that have turns, so many processes of a file may have probes of their own; where there are more, nobody
# has turns, for each set of probes makes the hits of all others dearer.
MAX_APART: Final = 32
# What holds for all processes of a file, now and later.
EVERYBODY: Final = 0
BROKEN: Final = (
    "Looking for its library of TLS failed, which the sensor's log tells: a bug of Apidae, please report it."
)
# Files remembered that have no TLS.
MAX_PLAIN: Final = 65_536


class Prober(Protocol):
    """What puts programs into files: `sensor.kernel.uprobes.TlsProgram`."""

    def open_probes(self, path: str, sites: Iterable[tuple[int, str, int]], pid: int = EVERYBODY) -> list[int]:
        """The fds that hold them. Raises OSError."""
        ...

    def look_away(self, pid: int) -> None:
        """The probes of a process were taken out."""
        ...

    def read_calls(self) -> Mapping[int, int]:
        """Calls so far by process."""
        ...

    @property
    def is_choosing(self) -> bool:
        """Whether probes may be put into one process."""
        ...

    @property
    def has_cookies(self) -> bool:
        """Whether programs are told the cookies of places."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedFile:
    """One file with a library of TLS: how it is read, or why it is not."""

    library: str
    path: str  # As one of its processes sees it.
    pids: tuple[int, ...]
    sites: tuple[Site, ...]  # Of the probes that are in it; empty where it is not read.
    reason: str


@dataclass(slots=True, kw_only=True)
class _Held:
    sites: Sites
    chosen: tuple[Site, ...]
    mapped: MappedFile
    seen_at: float
    reason: str = ""
    probes: dict[int, list[int]] = field(default_factory=dict)  # By process, or of EVERYBODY.
    is_resting: bool = False  # Out of all, until a turn begins.

    @property
    def is_repeatable(self) -> bool:
        """Whether nothing is told twice where a place has two probes for a moment: so who moves from one to the other
        is read all the time. Go's writes are told where they begin, by every probe that is there; of two at a place
        of OpenSSL's, the second is silent (bpf/tls.c)."""
        return not any(site.program.startswith("go_") for site in self.chosen)

    @property
    def places(self) -> list[tuple[int, str, int]]:
        """Of all probes."""
        return [site.probe for site in self.chosen]


class Attacher:
    """Runs from `start` to `stop`; after `stop` nothing is attached."""

    def __init__(
        self,
        *,
        prober: Prober,
        close_probes: Callable[[Iterable[int]], None],
        processes: ProcessFiles,
        monotonic: Callable[[], float],
        unread: UnreadProcesses | None = None,
        duty: DutyCycle | None = None,
    ) -> None:
        """`duty`: who is read a part of the time; without it everybody always is."""
        self._duty = duty
        self._unread = unread or UnreadProcesses()
        self._prober = prober
        self._close_probes = close_probes
        self._processes = processes
        self._monotonic = monotonic
        self._held: dict[FileId, _Held] = {}
        self._plain: set[FileId] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._files: tuple[ProbedFile, ...] = ()
        self.shares: Mapping[int, float] = {}  # Of processes that have turns.
        self.over: Mapping[int, float] = {}  # These, and those that make more calls than are read; the same.
        self.attached_total = 0
        self.failed_total = 0

    @property
    def files(self) -> Sequence[ProbedFile]:
        """Files with a library of TLS, as of the last look. From any thread."""
        return self._files

    @property
    def unreadable(self) -> int:
        """Processes whose mappings could not be read."""
        return self._processes.unreadable

    def start(self) -> None:
        """What runs now is probed when this returns; what starts later, within seconds."""
        self._stopping.clear()
        self.look()
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes every probe out and waits for it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._close_probes([probe for held in self._held.values() for each in held.probes.values() for probe in each])
        self._held.clear()
        self._files, self.shares, self.over = (), {}, {}
        self._unread.update(None)

    def _run(self) -> None:
        has_failed = False
        look_at = self._monotonic() + LOOK_SECONDS
        while not self._stopping.wait(max(SHORTEST_REST_SECONDS, self._find_next(look_at) - self._monotonic())):
            try:
                if self._monotonic() >= look_at:
                    look_at = self._monotonic() + LOOK_SECONDS
                    self.look()
                else:
                    self.take_turns()
                has_failed = False
            except Exception:
                # A loop boundary: what is probed stays probed.
                look_at = self._monotonic() + LOOK_SECONDS
                if not has_failed:
                    logger.exception("looking for libraries of TLS failed; told once until it works again")
                has_failed = True

    def look(self) -> None:
        """Once: new files in, forgotten ones out."""
        now = self._monotonic()
        mapped = {one.file: one for one in self._processes.look()}
        for file in list(self._held):
            held = self._held[file]
            if file in mapped:
                held.mapped, held.seen_at = mapped[file], now
            elif now - held.seen_at > LINGER_SECONDS:
                self._close(held, list(held.probes))
                del self._held[file]
        for file, one in mapped.items():
            if self._stopping.is_set():
                return
            if file not in self._held and file not in self._plain and len(self._held) < MAX_FILES:
                self._take_up(one, now)
        if self._duty is not None:
            self._duty.forget({pid for one in mapped.values() for pid in one.pids})
        self.take_turns()
        self._files = tuple(
            ProbedFile(
                library=held.sites.library,
                path=held.mapped.name,
                pids=held.mapped.pids if file in mapped else (),
                sites=held.chosen if held.probes or held.is_resting else (),
                reason=held.reason,
            )
            for file, held in self._held.items()
        )
        self._unread.update(self._files)

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
            if held.probes or held.is_resting:
                self._arrange(held, self._duty)

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
                held.probes[pid] = self._prober.open_probes(held.mapped.path, held.places, pid)
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

    def _take_up(self, one: MappedFile, now: float) -> None:
        try:
            with open(one.path, "rb", buffering=0) as file:  # noqa: PTH123 - a path through /proc, not to be resolved.
                sites = search_file(file.fileno(), one.path.rpartition("/")[2]).sites
        except OSError as error:
            logger.debug("%s cannot be read: %s", one.path, error)
            return  # Its process may have ended; another one may run it.
        except Exception:
            # Anybody's file: what is wrong with one must not keep the others from being read.
            self.failed_total += 1
            logger.exception("looking for a library of TLS in %s failed: a bug, please report it", one.name)
            sites = Sites(library="unknown", reason=BROKEN)
        if not sites.library:
            if len(self._plain) >= MAX_PLAIN:
                self._plain.clear()
            self._plain.add(one.file)
            return
        chosen = sites.choose(has_cookies=self._prober.has_cookies)
        held = _Held(sites=sites, chosen=chosen, mapped=one, seen_at=now, reason=sites.reason)
        if chosen:
            try:
                held.probes[EVERYBODY] = self._prober.open_probes(one.path, held.places)
                self.attached_total += 1
                logger.info("reading TLS of %s in %s: %d probes", sites.library, one.name, len(chosen))
            except FileNotFoundError:
                return  # As above: its process ended since.
            except OSError as error:
                self.failed_total += 1
                held.reason = f"The kernel refused the probes: {error.strerror}."
                logger.warning("TLS of %s in %s is not read: %s", sites.library, one.name, error.strerror)
        self._held[one.file] = held
