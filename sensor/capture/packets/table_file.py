"""A file with the header tables of open HTTP/2 connections, from a sensor that stops to the next one of any version.

It holds header values, so it is written to the run directory, which is in memory, and not to the state directory, which
is on a disk. Its mode is 0600. It is whole or not there: it is written under another name and renamed. The next start
deletes it before it reads it, and uses it only if it is younger than a minute. A file that cannot be used costs no more
than the names of some calls (docs/internals/http2.md).
"""

import logging
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from common.durable import write_durably
from sensor.http.http2.connection import SavedTables
from sensor.http.http2.connections import MAX_CONNECTIONS

FILE_NAME: Final = "http2-tables"
# Another number for each change of what is written: a reader takes its own only.
VERSION: Final = 1
MAX_AGE_NS: Final = 60_000_000_000
# A usual connection has 1 to 4 KB. Those that were used longest ago are not written.
MAX_BYTES: Final = 16 << 20
_NUMBER_BYTES: Final = 9
_HEAD_BYTES: Final = 64

logger = logging.getLogger(__name__)


class _Versioned(msgspec.Struct):
    version: int


class _Content(_Versioned, forbid_unknown_fields=True):
    written_ns: int  # By the clock of the kernel's events, which begins anew with each boot.
    connections: Annotated[dict[int, SavedTables], msgspec.Meta(max_length=MAX_CONNECTIONS)]  # By socket cookie.


class TableFile:
    """In a directory that other users cannot write to. `monotonic_ns`: CLOCK_MONOTONIC."""

    def __init__(self, directory: Path, monotonic_ns: Callable[[], int]) -> None:
        self._path = directory / FILE_NAME
        self._new_path = directory / f"{FILE_NAME}.new"  # Of `write_durably`, which a crash may have left.
        self._monotonic_ns = monotonic_ns

    def write(self, connections: Iterable[tuple[int, SavedTables]]) -> None:
        """Leaves these to the next sensor, the first ones where there are too many."""
        encoder, size = msgspec.msgpack.Encoder(), _HEAD_BYTES
        kept: dict[int, SavedTables] = {}
        for number, tables in connections:
            size += _NUMBER_BYTES + len(encoder.encode(tables))
            if size > MAX_BYTES or len(kept) == MAX_CONNECTIONS:
                break
            kept[number] = tables
        if not kept:
            return
        content = _Content(version=VERSION, written_ns=self._monotonic_ns(), connections=kept)
        try:
            write_durably(self._path, encoder.encode(content))
        except OSError as error:
            logger.warning("HTTP/2 header tables are not left to the next sensor: %s", error)

    def read(self) -> dict[int, SavedTables]:
        """What the previous sensor left, by socket cookie, and deletes it; nothing where it is of no use."""
        try:
            self._new_path.unlink(missing_ok=True)
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                self._path.unlink()
                connections = self._decode(file.read(MAX_BYTES + 1), os.fstat(descriptor))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("HTTP/2 header tables of the previous sensor are not used: %s: %s", self._path, error)
            return {}
        logger.info("header tables of HTTP/2 connections from the previous sensor: %d", len(connections))
        return connections

    def _decode(self, data: bytes, status: os.stat_result) -> dict[int, SavedTables]:
        """Raises ValueError or RecursionError."""
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError(f"mode {status.st_mode:o}, user {status.st_uid}; it must be a file of this user alone")
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        version = msgspec.msgpack.decode(data, type=_Versioned).version
        if version != VERSION:
            raise ValueError(f"its version is {version}, and this sensor reads {VERSION}")
        content = msgspec.msgpack.decode(data, type=_Content)
        age_ns = self._monotonic_ns() - content.written_ns
        if not 0 <= age_ns <= MAX_AGE_NS:
            raise ValueError(f"its age is {age_ns / 1e9:.0f} s; it must be at most {MAX_AGE_NS / 1e9:.0f} s")
        return content.connections
