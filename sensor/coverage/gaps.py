"""Records the times without capture: between one sensor of a node and the next, and while it was paused.

The modification time of a file in the state directory is the time until which calls were captured. It is updated while
they are. So the next start knows where the gap began: to the millisecond after SIGTERM, at most `TOUCH_SECONDS` too
early after kill -9. A host that was down got no calls, so the gap then begins with its boot.
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from common.figures import Figure, make_totals
from sensor.core.calls import Service
from sensor.coverage.row import PortCoverage, build_node_row

FILE_NAME: Final = "captured-until"
TOUCH_SECONDS: Final = 1.0
ROW_NAME: Final = "time without capture"

logger = logging.getLogger(__name__)


class Gaps:
    """Begins with no gap; the sensor says when it captures and when it stops."""

    def __init__(self, path: Path, *, unix_ns: Callable[[], int], boot_unix_ns: int) -> None:
        """`path`: of the file; `boot_unix_ns`: when the host started."""
        self._path = path
        self._unix_ns = unix_ns
        self._boot_unix_ns = boot_unix_ns
        self._is_capturing = False
        self._touched_ns = 0
        self._attached_ns: int | None = None
        self._last = (0, 0)  # Unix ns.
        self.count = 0
        self.total_ns = 0

    @property
    def is_attached(self) -> bool:
        """Whether `begin` speaks of an earlier moment."""
        return self._attached_ns is not None

    def note_attached(self, unix_ns: int) -> None:
        """What `begin` says next held from then on: capture was attached before this sensor could read it."""
        self._attached_ns = unix_ns

    def begin(self) -> None:
        """Capture runs from now on."""
        now = self._unix_ns() if self._attached_ns is None else self._attached_ns
        self._attached_ns = None
        until = self._read()
        if until is not None:
            begin = max(until, self._boot_unix_ns)
            if now > begin:
                self._last = (begin, now)
                self.count += 1
                self.total_ns += now - begin
                logger.info("nothing was captured for %s s before this", _format_seconds(now - begin))
        self._is_capturing = True
        self._write(now)

    def touch(self) -> None:
        """Capture still runs; often."""
        now = self._unix_ns()
        if self._is_capturing and abs(now - self._touched_ns) >= TOUCH_SECONDS * 1e9:
            self._write(now)

    def end(self) -> None:
        """Nothing is captured from now on."""
        if self._is_capturing:
            self._is_capturing = False
            self._write(self._unix_ns())

    def cover(self, unknown_service: Service) -> Iterator[PortCoverage]:
        """The row of what was missed; `connections` is the number of gaps since this sensor's start."""
        if not self.count:
            return
        begin, end = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in self._last)
        reason = (
            f"Nothing was captured for {_format_seconds(self.total_ns)} s in all, the last time from "
            f"{begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC: the sensor was restarted or paused. "
            "Calls of that time are missing."
        )
        row = build_node_row(unknown_service, ROW_NAME, reason, connections=self.count)
        yield replace(row, uncaptured_ms=self.total_ns // 1_000_000)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Seconds without capture before this sensor's start and while it was paused."
        return make_totals([("gap_seconds", text, self.total_ns / 1e9)])

    def _read(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None  # Never captured here, as far as anybody knows.

    def _write(self, now: int) -> None:
        self._touched_ns = now
        try:
            if not self._path.exists():
                self._path.touch(mode=0o600)
            os.utime(self._path, ns=(now, now))
        except OSError as error:
            # The next start will take the gap for longer than it is.
            logger.debug("%s cannot be written: %s", self._path, error)


def _format_seconds(ns: int) -> str:
    """To the millisecond, where it is short."""
    return f"{ns / 1e9:.{1 if ns >= 1e9 else 3}f}"
