"""Keeps probes in the files with libraries of TLS that processes run: one set a file, whoever maps it, and none where
nobody does any more.

A thread of its own looks at processes every second, has new files searched, puts probes in and takes them out. What it
did is plain data for the coverage and for metrics; the thread that reads events never waits for it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sensor.tls.finder import Finder
from sensor.tls.processes import FileId, MappedFile, ProcessFiles
from sensor.tls.site import Site, Sites
from sensor.tls.unread import UnreadProcesses

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
# Probes stay so long after the last process that maps the file has gone: the next one may start at once.
LINGER_SECONDS: Final = 60.0
# Files with probes; a node with so many containers has more than 100 of them.
MAX_FILES: Final = 512
# Files remembered that have no TLS.
MAX_PLAIN: Final = 65_536


class Prober(Protocol):
    """What puts programs into files: `sensor.kernel.uprobes.TlsProgram`."""

    def open_probes(self, path: str, sites: Iterable[tuple[int, str]]) -> list[int]:
        """The fds that hold them. Raises OSError."""
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
    probes: list[int]
    mapped: MappedFile
    seen_at: float
    reason: str = ""


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
    ) -> None:
        self._unread = unread or UnreadProcesses()
        self._prober = prober
        self._close_probes = close_probes
        self._processes = processes
        self._monotonic = monotonic
        self._finder = Finder()
        self._held: dict[FileId, _Held] = {}
        self._plain: set[FileId] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._files: tuple[ProbedFile, ...] = ()
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
        self._close_probes([probe for held in self._held.values() for probe in held.probes])
        self._held.clear()
        self._files = ()
        self._unread.update(None)

    def _run(self) -> None:
        has_failed = False
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
                has_failed = False
            except Exception:
                # A loop boundary: what is probed stays probed.
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
                self._close_probes(held.probes)
                del self._held[file]
        for file, one in mapped.items():
            if self._stopping.is_set():
                return
            if file not in self._held and file not in self._plain and len(self._held) < MAX_FILES:
                self._take_up(one, now)
        self._files = tuple(
            ProbedFile(
                library=held.sites.library,
                path=held.mapped.name,
                pids=held.mapped.pids if file in mapped else (),
                sites=held.sites.sites if held.probes else (),
                reason=held.reason,
            )
            for file, held in self._held.items()
        )
        self._unread.update(self._files)

    def _take_up(self, one: MappedFile, now: float) -> None:
        try:
            sites = self._finder.find(one.path)
        except OSError as error:
            logger.debug("%s cannot be read: %s", one.path, error)
            return  # Its process may have ended; another one may run it.
        if not sites.library:
            if len(self._plain) >= MAX_PLAIN:
                self._plain.clear()
            self._plain.add(one.file)
            return
        held = _Held(sites=sites, probes=[], mapped=one, seen_at=now, reason=sites.reason)
        if sites.sites:
            try:
                held.probes = self._prober.open_probes(one.path, [(site.offset, site.program) for site in sites.sites])
                self.attached_total += 1
                logger.info("reading TLS of %s in %s: %d probes", sites.library, one.name, len(sites.sites))
            except OSError as error:
                self.failed_total += 1
                held.reason = f"The kernel refused the probes: {error.strerror}."
                logger.warning("TLS of %s in %s is not read: %s", sites.library, one.name, error.strerror)
        self._held[one.file] = held
