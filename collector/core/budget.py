"""The budget of one piece of work: how long it may take, and whether somebody still wants it.

A thread cannot be stopped from outside, and a long statement of the store neither. So whatever may take long runs under
a `Budget`, which is found by context (contextvars go with a request into its thread). Loops over many things call
`check_budget`, which raises once the time is over or the work was cancelled. The store names its statements by the
budget and ends them when it is cancelled (collector/storage/clickhouse.py).

Work that runs without a budget is never stopped: what must be written as a whole, and the writer of the tables.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from common.figures import total

_LOOK_SECONDS: Final = 0.1  # Between two looks of somebody who waits under a budget.


class BudgetError(Exception):
    """Work ended before it was done."""


class OverTimeError(BudgetError):
    """Its time was over."""


class StoppedError(BudgetError):
    """Nobody wants it any more: its client left, or the process ends."""


@dataclass(slots=True)
class BudgetCounts:
    """Work that was not done."""

    requests_over_time: int = total("Requests that took longer than they may, and were answered with 503.")
    requests_abandoned: int = total("Requests whose work was stopped because their client left.")
    requests_busy: int = total("Requests that were refused because too many waited, or that waited too long.")


class Budget:
    """Of one piece of work. `cancel` may be called from any thread, the rest from those that do the work."""

    def __init__(self, label: str, *, seconds: float | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`label` names it among all; `seconds` None: as long as it takes."""
        self.label = label
        self.seconds = seconds
        self._monotonic = monotonic
        self._ends_at = None if seconds is None else monotonic() + seconds
        self._is_cancelled = False
        self._interrupt: Callable[[], None] | None = None

    @property
    def left_seconds(self) -> float | None:
        """Until its time is over; None where it has no end."""
        return None if self._ends_at is None else self._ends_at - self._monotonic()

    @property
    def is_over_time(self) -> bool:
        """Whether its time is over."""
        return self._ends_at is not None and self._monotonic() > self._ends_at

    def check(self) -> None:
        """Raises StoppedError or OverTimeError where the work may not go on."""
        if self._is_cancelled:
            raise StoppedError("The work was stopped: its client left, or the collector is stopping.")
        if self.is_over_time:
            raise OverTimeError(f"The work took longer than {self.seconds:g} s.")

    def cancel(self) -> None:
        """Have the work end soon. May be called again until it did: a statement that begins meanwhile is not ended by
        the first call."""
        self._is_cancelled = True
        if (interrupt := self._interrupt) is not None:
            interrupt()

    @contextmanager
    def interrupted_by(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within it, `cancel` calls `interrupt`, which ends what the thread waits for."""
        self.check()
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None


_CURRENT: ContextVar[Budget | None] = ContextVar("budget", default=None)


def find_budget() -> Budget | None:
    """The one under which the caller works."""
    return _CURRENT.get()


def check_budget() -> None:
    """Raises BudgetError where the caller works under a budget that is used up. Some 0.1 us."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.check()


@contextmanager
def use_budget(budget: Budget | None) -> Iterator[None]:
    """Work under this one within it; None: under none."""
    token = _CURRENT.set(budget)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def hold(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock within it; whoever waits for it under a budget waits no longer than that allows."""
    while not lock.acquire(timeout=_LOOK_SECONDS if _CURRENT.get() is not None else -1):
        check_budget()
    try:
        yield
    finally:
        lock.release()


class BudgetBook:
    """All budgets in use. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts = BudgetCounts()
        self._monotonic = monotonic
        self._prefix = f"apidae-{token_hex(8)}-"
        self._number = 0
        self._lock = threading.Lock()
        self._open: dict[str, Budget] = {}
        self._is_stopping = False
        self._asked_at = float("-inf")

    def note_request(self) -> None:
        """Somebody asks for something that is stored."""
        self._asked_at = self._monotonic()

    def is_asked(self, seconds: float) -> bool:
        """Whether somebody did within so many seconds."""
        return self._monotonic() - self._asked_at < seconds

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, *, seconds: float | None = None) -> Iterator[Budget]:
        """Work under a new budget within it."""
        with self._lock:
            self._number += 1
            budget = Budget(f"{self._prefix}{self._number}", seconds=seconds, monotonic=self._monotonic)
            self._open[budget.label] = budget
        if self._is_stopping:
            budget.cancel()
        try:
            with use_budget(budget):
                yield budget
        finally:
            del self._open[budget.label]

    def stop(self) -> None:
        """Cancel all, and whatever opens later. May be called again, as `Budget.cancel`."""
        self._is_stopping = True
        with self._lock:
            budgets = list(self._open.values())
        for budget in budgets:
            budget.cancel()
