"""The bytes of a file that anybody may have made, read in pieces of bounded size.

Nothing is mapped: whoever cuts a mapped file short ends the process that reads it (SIGBUS). A read that the file does
not hold is an `ElfError`, and so is more work than any library of TLS takes: bytes read, bytes searched, and whatever
readers `spend` besides. So a file costs memory and time by what is looked at, never by the numbers that it claims.
"""

import errno
import os
from collections.abc import Collection, Iterator
from typing import Final, Protocol

# What is held at once of a search.
WINDOW_BYTES: Final = 1 << 20
# What is read at once into memory: a table. That of the symbols of a browser has some 30 MB.
READ_BYTES_MAX: Final = 64 << 20
# Places of a text that are looked at.
PLACES_MAX: Final = 1_024
# Units of work that a file may take: one a byte that is read, and one a byte and text that is searched for.
WORK_MAX: Final = 8 << 30
# A text that begins or ends with zero bytes may do so in a hole.
_AROUND_DATA: Final = 64


class ElfError(ValueError):
    """The file is no ELF file that can be read; the message says why."""


class Source(Protocol):
    """Where bytes come from."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """These bytes, or fewer where there are no more."""
        ...

    def find_data(self, offset: int) -> tuple[int, int]:
        """(start, end) of the next bytes that are no hole; both the size where there are none."""
        ...


class FileSource:
    """An open file; `fd` stays its owner's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """By pread(2)."""
        parts: list[bytes] = []
        while size and (part := os.pread(self._fd, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def find_data(self, offset: int) -> tuple[int, int]:
        """By lseek(2); a file system that does not know holes has none."""
        try:
            start = os.lseek(self._fd, offset, os.SEEK_DATA)
            return start, os.lseek(self._fd, start, os.SEEK_HOLE)
        except OSError as error:
            return (self.size, self.size) if error.errno == errno.ENXIO else (offset, self.size)


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """A slice."""
        return self._data[offset : offset + size]

    def find_data(self, offset: int) -> tuple[int, int]:
        """All of it."""
        return offset, self.size


class Content:
    """A file as it is looked at once. Not thread-safe."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size
        self.work = 0  # Units so far.

    def spend(self, units: int) -> None:
        """Raises ElfError where the file takes too much work."""
        self.work += units
        if self.work > WORK_MAX:
            raise ElfError("it takes more work than any file with a library of TLS")

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises ElfError."""
        self._check(offset, size)
        if size > READ_BYTES_MAX:
            raise ElfError(f"it has a table of {size} bytes; at most {READ_BYTES_MAX} are read")
        self.spend(size)
        data = self._source.read(offset, size)
        if len(data) != size:
            raise ElfError("it was cut while it was read")
        return data

    def read_up_to(self, offset: int, size: int) -> bytes:
        """These bytes, fewer at the file's end. Raises ElfError where it ends before."""
        return self.read(offset, min(size, max(self.size - offset, 0)))

    def read_text(self, offset: int, size: int) -> bytes:
        """The bytes from there up to a zero byte; empty where none is within `size` bytes. Raises ElfError."""
        text, end, _ = self.read_up_to(offset, size).partition(b"\0")
        return text if end else b""

    def read_windows(self, offset: int, size: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of pieces of WINDOW_BYTES, each with `overlap` bytes of the next one behind it. Raises
        ElfError."""
        self._check(offset, size)
        end = offset + size
        for start in range(offset, end, WINDOW_BYTES):
            yield start, self.read(start, min(WINDOW_BYTES + overlap, end - start))

    def find_all(self, texts: Collection[bytes], offset: int = 0, size: int | None = None) -> dict[bytes, list[int]]:
        """Where each text is, its first PLACES_MAX places, in one pass over what is no hole. Raises ElfError."""
        found: dict[bytes, list[int]] = {text: [] for text in texts}
        size = self.size - offset if size is None else size
        self._check(offset, size)
        overlap = max(map(len, found), default=1) - 1
        for start, length in self._list_data(offset, offset + size):
            for at, window in self.read_windows(start, length, overlap):
                self.spend(len(window) * len(found))
                for text, places in found.items():
                    _find_in(window, text, at, places)
        return found

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ElfError("it has an offset or a size beyond its end")

    def _list_data(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of what is no hole."""
        while offset < end:
            start, stop = self._source.find_data(offset)
            stop = min(stop, end)
            if start >= stop:
                return
            start = max(offset, start - _AROUND_DATA)
            yield start, min(stop + _AROUND_DATA, end) - start
            offset = stop


def _find_in(window: bytes, text: bytes, at: int, places: list[int]) -> None:
    """Adds the places of a text that begin in the window's own bytes; `at`: where it begins in the file."""
    place = window.find(text, 0, WINDOW_BYTES + len(text) - 1)
    while place >= 0 and len(places) < PLACES_MAX:
        places.append(at + place)
        place = window.find(text, place + 1, WINDOW_BYTES + len(text) - 1)
