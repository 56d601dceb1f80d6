"""The interface of the log, and what its kinds have in common.

`Log` is the appending side: a batch that `append` took is acknowledged, and survives kill -9 and power loss.
`LogReader` is the other side: one reader takes batches in their order and remembers durably how far it came. Batches
are read at least once. The store makes that exactly once with a claim: a range is claimed durably, inserted under a
token made of it, then committed. After a crash the same range comes again with the same token
(collector/receiver/writer.py). A batch that its sensor sent twice comes out of `read` once.

Two readers have names: `STORE`, the writer of the tables, and `DETECTORS`. What both have passed is deleted. Past half
of the log's limit only the first one holds batches back: the other loses the oldest, and counts them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from collector.core.limits import Limit
from common.figures import total

STORE: Final = "store"
DETECTORS: Final = "detectors"
READERS: Final = (STORE, DETECTORS)
READ_BYTES: Final = 4 * 1024 * 1024
STREAM: Final = 1  # The segment of all positions of a log that is elsewhere, where an offset counts batches.


class LogError(OSError):
    """A log that is elsewhere cannot be reached or used; one sentence that names it and the fix."""


class LogFullError(OSError):
    """The log takes nothing: it reached its limit, for the store does not keep up, or the disk is nearly full."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two batches: the segment's number and the offset in it, in files in bytes."""

    segment: int
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}:{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One batch to make durable: its key and its serialised form."""

    node: str
    boot_id: str
    sequence: int
    received_unix_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One batch as it came: `end` is the position after it. `payload` is a serialised Batch."""

    start: Position
    end: Position
    number: int
    received_unix_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCursor:
    """What a reader has finished (`position`), and the end of the range it was working on (None: none)."""

    position: Position
    claim_end: Position | None = None


@dataclass(slots=True, kw_only=True)
class LogCounts:
    """What a reader could not read, since it was made."""

    damaged_bytes: int = total("Bytes of the log that could not be read.")
    lost_batches: int = total("Batches in bytes of the log that could not be read, at most.", name="log_batches_lost")
    recovered_batches: int = total(
        "Batches of the log that were read behind damage in the same file.", name="log_batches_recovered"
    )
    skipped_batches: int = total(
        "Batches deleted from the log, which was past its limit, before they were in the tables.",
        name="log_batches_skipped",
    )
    duplicate_batches: int = total(
        "Batches that came to several collectors and were read once.", name="log_batches_duplicate"
    )


class LogReader(Protocol):
    """Reads forward from its cursor. Not thread-safe; one instance a name. Methods raise OSError."""

    @property
    def cursor(self) -> ReadCursor: ...

    @property
    def position(self) -> Position: ...

    @property
    def counts(self) -> LogCounts: ...

    def find_end(self) -> Position:
        """The durable end: nothing past it is to be stored, for its sensor will send it again."""
        ...

    def measure_waiting(self) -> int:
        """Bytes between the last commit and the durable end, as far as that costs little."""
        ...

    def read(self, limit_bytes: int = READ_BYTES, until: Position | None = None) -> list[Entry]:
        """The next batches, at most about `limit_bytes` (one at least) and none past `until`, the end of a batch; empty
        when there are none. What cannot be read is skipped and counted.
        """
        ...

    def read_again(self, start: Position, end: Position) -> Entry | None:
        """A batch that was read before; None where it is gone or damaged now."""
        ...

    def claim(self, end: Position) -> None:
        """Remember durably that [cursor, end) is being worked on."""
        ...

    def commit(self, end: Position) -> None:
        """Remember durably that everything before `end` is done."""
        ...

    def settle(self, end: Position) -> None:
        """Another process committed up to `end`, and this reader follows it: it does not go back before."""
        ...

    def rewind(self, position: Position | None = None) -> None:
        """Read again from a position of before, or else from the last commit."""
        ...


class Log(Protocol):
    """The appending side. Methods raise OSError."""

    @property
    def id(self) -> str:
        """Random, so that insert tokens of a new log never equal those of an old one."""
        ...

    @property
    def limit(self) -> Limit:
        """Of the nodes whose batches are known."""
        ...

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        """Whether a batch is in the log already, as far as this process knows. Any thread."""
        ...

    def append(self, appends: Sequence[Append]) -> None:
        """Make all durable, then remember their keys. After an OSError their sensors send all of them again."""
        ...

    def open_reader(self, name: str) -> LogReader:
        """A reader of this process. It begins at the oldest batch where the name is new."""
        ...

    def measure_bytes(self) -> int:
        """What the log takes, as it was known last."""
        ...

    def trim(self) -> int:
        """Delete what all readers have passed, and past the limit what only lesser readers still want. Returns how many
        segments went."""
        ...

    def erase(self, old: bytes, new: bytes) -> int:
        """Replace bytes in all batches by as many others; gives in how many batches they were. A log that cannot change
        what it holds leaves it."""
        ...

    def await_stored(self) -> None:
        """Wait until the tables have what their writer may have read before `erase`, in whichever process it is."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """What arrives waits, and files of the log stay as they are."""
        ...

    def close(self) -> None:
        """Release it; everything acknowledged is durable already."""
        ...
