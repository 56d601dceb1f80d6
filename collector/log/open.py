"""Opens the log that the settings name: the files of `data_dir`, or one that several collectors share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collector.log.base import Log, LogError, LogReader
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog

if TYPE_CHECKING:  # SQL takes 15 MB, and detectors read files without it.
    from collector.log.cursors import Write
    from collector.storage.state.store import StateStore

DIRECTORY: Final = "wal"
POSTGRESQL: Final = ("postgresql://", "postgres://")
KAFKA: Final = "kafka://"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where the log is; what another process is given to read it."""

    directory: Path  # Of files.
    url: str = ""  # Empty: files.
    state_url: str = ""


def open_log(
    place: LogPlace, state: "StateStore", *, find_shortage: Callable[[], str] = lambda: "", write: "Write | None" = None
) -> Log:
    """`find_shortage` is of the disk of the files. `write` begins the transactions in which the readers of a shared log
    move, those of whoever holds a lease. Raises OSError, StoreError, ValueError with one sentence."""
    if not place.url:
        return FileLog(place.directory, find_shortage=find_shortage)
    if place.url.startswith(POSTGRESQL):
        from collector.log.postgresql import PostgresqlLog

        return PostgresqlLog(place.url, state, write=write)
    if place.url.startswith(KAFKA):
        try:
            from collector.log.kafka import KafkaLog
        except ImportError:
            raise LogError("The log_url needs the package confluent-kafka; install apidae[collector,kafka].") from None
        return KafkaLog(place.url, state, write=write)
    raise LogError(
        "The log_url is neither postgresql://user:password@host:port/database nor kafka://host:port/topic; write it in "
        "one of these forms."
    )


def open_reader(
    place: LogPlace, name: str, state: "StateStore | None" = None, write: "Write | None" = None
) -> LogReader:
    """In another process than the one that appends; a shared log needs the state. Raises as `open_log`."""
    if not place.url:
        return FileLogReader(place.directory, name)
    from collector.storage.state.store import open_state

    return open_log(place, state or open_state(place.directory, place.state_url), write=write).open_reader(name)
