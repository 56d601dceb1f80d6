"""What failed in the collector's own threads and tasks, counted. The log has it once a minute while it is the same."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from common.figures import total

LOG_AGAIN_SECONDS: Final = 60.0  # Of an error that comes again.

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ErrorCounts:
    """By where it failed."""

    wal_errors: int = total("Writes of the log that the disk refused.")
    writer_errors: int = total("Attempts to write the tables that failed; each is repeated.")
    detector_errors: int = total("Errors while signals of detectors were taken; what the store refused is taken again.")
    housekeeping_errors: int = total("Rounds of housekeeping that failed; the next one begins anew.")
    policy_errors: int = total("Times that the policy of sensors could not be read; it is tried again within a second.")


class Failures:
    """Any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts = ErrorCounts()
        self._monotonic = monotonic
        self._logged: dict[str, tuple[str, float]] = {}  # By name: the sentence, and when it was logged last.

    def note(self, name: str, error: Exception) -> None:
        """`name` is one of the counts."""
        setattr(self.counts, name, getattr(self.counts, name) + 1)
        sentence, now = first_line(error), self._monotonic()
        known, logged_at = self._logged.get(name, ("", 0.0))
        if sentence != known or now - logged_at >= LOG_AGAIN_SECONDS:
            self._logged[name] = sentence, now
            logger.error("%s: %s", name.replace("_", " "), sentence)

    def noting(self, name: str) -> Callable[[Exception], None]:
        """Notes what it is called with."""
        return partial(self.note, name)


def first_line(error: BaseException) -> str:
    """Of its sentence; its name where it has no sentence."""
    return str(error).split("\n", 1)[0] or type(error).__name__
