"""What failed: exceptions that ended the work on one item (a call, a row, a file, a message) and nothing else.

A loop or thread of the sensor gives up the item, says so with `logger.exception`, and takes the next one. `Failures`
filters what the log's handler gets. So all that fails is counted by the place in the code and the exception's class,
for the metrics and the coverage, and each kind is logged once a minute. A traceback of the log has code and classes,
never the text of an exception, which may hold what was read.
"""

import asyncio
import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from common.figures import Figure

LOG_INTERVAL_SECONDS: Final = 60.0
# Kinds told apart; the code has fewer places.
MAX_KINDS: Final = 256
_OTHER: Final = ("other", "other")
_PACKAGE: Final = "sensor."
# Of a traceback, from where it was raised on: one of a recursion has a thousand.
_FRAMES_MAX: Final = 20
_CHAIN_MAX: Final = 5

logger = logging.getLogger(__name__)

_Record = TypeVar("_Record")


class Failures(logging.Filter):
    """A filter for the handler of the log. Threads share it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._counts: Counter[tuple[str, str]] = Counter()
        self._logged_at: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Counts a record of an exception, and keeps it from the log where its like was logged within the minute;
        every other record passes."""
        if not record.exc_info or record.exc_info[0] is None:
            return True
        kind = f"{record.name.removeprefix(_PACKAGE)}.{record.funcName}", record.exc_info[0].__name__
        now = self._monotonic()
        with self._lock:
            if kind not in self._counts and len(self._counts) >= MAX_KINDS:
                kind = _OTHER
            self._counts[kind] += 1
            record.failures = self._counts[kind]
            if now - self._logged_at.get(kind, float("-inf")) < LOG_INTERVAL_SECONDS:
                return False
            self._logged_at[kind] = now
            return True

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often something failed so far, by place (`pipeline._take_one`) and class of the exception."""
        with self._lock:
            return dict(self._counts)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return tuple(
            Figure(
                name="failures",
                documentation="Calls, rows, files or messages given up after an exception, by place in the code.",
                value=count,
                is_total=True,
                labels=(("place", place), ("exception", exception)),
            )
            for (place, exception), count in sorted(self.counts.items())
        )


def format_failure(error: BaseException) -> str:
    """The traceback of an exception and of those that it followed, by code and class. An OSError has its error's name,
    which is the system's; other texts are left out."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < _CHAIN_MAX:
        frames = "".join(traceback.format_tb(found.__traceback__, -_FRAMES_MAX))
        reason = f": {found.strerror}" if isinstance(found, OSError) and found.strerror else ""
        parts.append(f"{frames}{type(found).__name__}{reason}")
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n\nwhich followed\n\n".join(parts)


def take_each(records: Iterable[_Record], take: Callable[[Iterator[_Record]], None], log: logging.Logger) -> None:
    """Has `take` go through the records; where it fails at one, it goes on with the next. Costs nothing a record."""
    left = iter(records)
    while True:
        try:
            take(left)
            return
        except Exception:
            log.exception("an event of the kernel failed; the next one is taken", stacklevel=2)


def log_loop_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task or callback of the event loop caught; for `loop.set_exception_handler`."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        logger.error("a task or callback failed and ended", exc_info=error)
    else:
        loop.default_exception_handler(context)


def log_thread_failure(arguments: threading.ExceptHookArgs) -> None:
    """What a thread did not catch; for `threading.excepthook`."""
    name = arguments.thread.name if arguments.thread is not None else "unknown"
    logger.error("the thread %s failed and ended", name, exc_info=arguments.exc_value)
