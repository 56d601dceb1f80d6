"""What the two sides of `apidae replay --report` pass to each other: the sensor's side reads a capture file, the
collector's side makes the report.

Neither side imports the other. The collector's function is found by the entry point group `REPORTS_GROUP`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

REPORTS_GROUP: Final = "apidae.reports"
FORMATS: Final = ("html", "json")  # By the ending of the report's name.


class CaptureReportError(Exception):
    """Why there is no report: one sentence that names the thing and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """What a sensor would have sent at a time of the capture: a serialised `Batch`, or serialised `Schemas`."""

    sent_unix_ns: int
    batch: bytes = b""
    schemas: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadPart:
    """Something of the capture that is in no figure of the report: what, how much, and why."""

    what: str
    count: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSummary:
    """What a capture held, once all of it was read. Times are unix ns, 0 without packets."""

    file_name: str
    file_bytes: int
    first_unix_ns: int
    last_unix_ns: int
    packets: int
    connections: int
    http_connections: int
    calls: int
    unread: Sequence[UnreadPart]


class CaptureSource(Protocol):
    """The sensor's side."""

    def read(self) -> Iterator[SentMessage]:
        """All messages in the order of their times; once. Raises CaptureReportError."""
        ...

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of those words of paths that may be shown, by hash."""
        ...

    def count(self) -> CaptureSummary:
        """What was read so far."""
        ...


WriteReport = Callable[[CaptureSource, Path], None]  # To a file with the ending of one of FORMATS.
