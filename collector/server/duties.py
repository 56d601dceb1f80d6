"""Which features this process does: those of its roles, started and stopped in order, and their jobs repeated.

Features of roles that several processes share start with the process. Those of `LEASED` roles are done by one process
at a time, so they start when this one comes to hold their lease.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from collector.core.budget import BudgetBook, StoppedError
from collector.core.feature import Feature, Job, Role
from collector.core.rates import Interval

ROUND_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Duties:
    """Features start in their order and stop in the opposite one. Methods that start and stop block."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self.features = tuple(features)
        self._done: list[Feature] = []  # In the order in which they were started.
        self._is_stopping = False
        self._lock = threading.Lock()  # Held while features are started.

    def start(self, roles: Collection[Role]) -> None:
        """Start the features of these roles, and those that belong to every process, whichever were not started."""
        with self._lock:
            for feature in self.features:
                if self._is_stopping:
                    return
                if feature in self._done or (feature.role is not None and feature.role not in roles):
                    continue
                feature.start()
                self._done.append(feature)

    def renew(self, role: Role) -> None:
        """The lease of a role has another epoch."""
        for feature in [one for one in self._done if one.role is role]:
            feature.renew()

    def stop(self, roles: Collection[Role | None]) -> None:
        """Stop the started features of these roles; None is that of every process."""
        self._is_stopping = True
        with self._lock:
            done = [one for one in self._done if one.role in roles]
        for feature in reversed(done):
            feature.stop()
            self._done.remove(feature)

    def list_jobs(self) -> Iterator[Job]:
        """Those of the features that are started, in the order of the list."""
        done = tuple(self._done)
        return (job for feature in self.features if feature in done for job in feature.jobs)


async def repeat_jobs(
    list_jobs: Callable[[], Iterator[Job]], on_error: Callable[[Exception], None], budgets: BudgetBook
) -> None:
    """Do the jobs that are due, each second and in their order, until cancelled. A round runs in one thread. What fails
    is given to `on_error`, and the next is done. A stop of the budgets ends the one that runs."""
    intervals: dict[Job, Interval] = {}

    def find_due() -> Iterator[Job]:
        for job in list_jobs():
            if job not in intervals:
                intervals[job] = Interval(job.seconds, is_late=job.is_late)
            if intervals[job].take():
                yield job

    def do_round() -> None:
        for work in (work for job in find_due() for work in job.works):
            try:
                with budgets.open() as budget:
                    budget.check()
                    work()
            except StoppedError:
                raise
            except Exception as error:
                on_error(error)

    with contextlib.suppress(StoppedError):
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await asyncio.to_thread(do_round)
