"""The contract of a part of the collector: what it starts, stops, repeats and shows, and which role it belongs to.

Each part is a `Feature`, made in the package that it belongs to and listed in `collector/server/compose.py`. A
process starts the features of its roles. Those of `LEASED` roles are done by one process at a time, the holder of the
lease of that name: they start when the lease comes, and no process starts them twice.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collector.core.limits import Limit
from common.figures import Figure


class Role(StrEnum):
    """What a process of the collector does (setting `roles`)."""

    INGEST = "ingest"  # Takes batches of sensors into the log.
    WRITER = "writer"  # Writes the log into the tables.
    DETECT = "detect"  # Has the detectors evaluate the log.
    JOBS = "jobs"  # Alerts, blocks, and whatever is repeated.
    API = "api"  # Answers people and programs.


LEASED: Final = (Role.JOBS, Role.WRITER, Role.DETECT)  # In the order in which they are taken.


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that is repeated every so many seconds, 0 for each round; `is_late`: not before the first have passed."""

    works: tuple[Callable[[], object], ...]
    seconds: float = 0.0
    is_late: bool = False


def _do_nothing() -> None:
    """Of a feature without threads of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One part of the collector. Without a role it belongs to every process. `start`, `renew` and `stop` block, and the
    latter two come after `start` alone; `renew` where the lease was lost and came again before anybody else had it.
    `jobs` are done from the start on, `figures` and `limits` are asked for always."""

    name: str
    role: Role | None = None
    start: Callable[[], None] = _do_nothing
    renew: Callable[[], None] = _do_nothing
    stop: Callable[[], None] = _do_nothing
    jobs: tuple[Job, ...] = ()
    figures: Callable[[], Iterable[Figure]] = tuple
    limits: Callable[[], Iterable[Limit]] = tuple


# Tables are asked so often for the metrics, however often these are. A question wakes the whole engine: 100 MB of its
# code, which is given back in between.
KEPT_SECONDS: Final = 60.0


class KeptFigures:
    """Figures of the tables, for metrics, as of at most `KEPT_SECONDS` ago. Any thread."""

    def __init__(self, read: Callable[[], Iterable[Figure]], clock: Callable[[], float] = time.monotonic) -> None:
        """What `read` raises is raised, and it is asked again."""
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._kept: tuple[Figure, ...] = ()
        self._until = float("-inf")

    def __call__(self) -> tuple[Figure, ...]:
        with self._lock:
            now = self._clock()
            if now >= self._until:
                self._kept, self._until = tuple(self._read()), now + KEPT_SECONDS
            return self._kept


class Worker:
    """A thread that runs until it is stopped."""

    def __init__(self, name: str, run: Callable[[threading.Event], None]) -> None:
        """`run` ends soon after its argument is set."""
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=run, args=(self._is_stopping,), name=name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._is_stopping.set()
        self._thread.join()
