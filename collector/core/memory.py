"""Gives back memory that the start of a process needed and nothing after it.

`release_library_pages` takes the pages of loaded libraries out of the process. The loader and the constructors of the
engine leave 300 MB of them behind, of which a collector at rest uses a tenth. Each question to the engine brings 100 MB
back, for the kernel maps much around a page that is touched. They are clean pages of files: one that is used again is
mapped again, while it is in the page cache, where others of it may stay for as long as the kernel likes.

So `LibraryPages.look` gives them back again soon after a use, and not for each of many. A look takes 20 us of
processor time, to give them back 2 ms, and the next question then takes 2 ms more.
EDGE: /proc/self, madvise(2), malloc_trim(3).
"""

import contextlib
import ctypes
import gc
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

_SMAPS: Final = Path("/proc/self/smaps")
_MAPS: Final = Path("/proc/self/maps")
_SIZES: Final = Path("/proc/self/statm")
_MADV_DONTNEED: Final = 4
_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d*\s+/.*\.so\b")
_ANY_HEAD: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")
_SMALL_BYTES: Final = 1_000_000  # Not worth a call.
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
GROWN_BYTES: Final = 24_000_000  # So much of files came since pages were given back.
APART_SECONDS: Final = 10.0  # So long from one time to the next at least.


def find_clean_mappings(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Start and length of private mappings of libraries that nobody can write and nobody has written to, of the lines
    of an smaps file. One that was written to before it was protected (relocations) holds what is in no file."""
    found: tuple[int, int] | None = None
    for line in lines:
        if _ANY_HEAD.match(line):
            head = _HEAD.match(line)
            found = (int(head[1], 16), int(head[2], 16) - int(head[1], 16)) if head is not None else None
        elif found is not None and line.startswith("Anonymous:") and line.split()[1] == "0":
            yield found


def release_library_pages() -> None:
    """Do it, where the system allows it. Some milliseconds; other threads go on."""
    with contextlib.suppress(OSError):
        _give_back(find_clean_mappings(_SMAPS.read_text().splitlines()))


def _give_back(mappings: Iterable[tuple[int, int]]) -> None:
    try:
        madvise = ctypes.CDLL(None).madvise
    except AttributeError:
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, length in mappings:
        if length >= _SMALL_BYTES:
            madvise(start, length, _MADV_DONTNEED)


def release_free_memory() -> None:
    """Collect garbage, and give back what the C library keeps of freed memory: after the load of a large state more
    than half of what the load took. Some milliseconds."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # Not of this C library.
        return


class LibraryPages:
    """Gives pages back when enough came since the last time. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept_bytes = 0
        self._libraries: list[str] = []  # As the system listed them when those that are clean were found.
        self._clean: list[tuple[int, int]] = []
        self._again_at = float("-inf")

    def look(self) -> None:
        """Where the system says how many there are."""
        try:
            if self._clock() < self._again_at or _measure_file_pages() < self._kept_bytes + GROWN_BYTES:
                return
            self._find_clean()
            _give_back(self._clean)
            self._kept_bytes, self._again_at = _measure_file_pages(), self._clock() + APART_SECONDS
        except OSError:
            return

    def _find_clean(self) -> None:
        """Anew where libraries came or went. For it the system looks at every page, which takes 7 ms; nobody writes to
        what is loaded and protected."""
        libraries = [line for line in _MAPS.read_text().splitlines() if ".so" in line]
        if libraries != self._libraries:
            self._clean = list(find_clean_mappings(_SMAPS.read_text().splitlines()))
            self._libraries = libraries


def _measure_file_pages() -> int:
    """Bytes of files that are mapped now."""
    return int(_SIZES.read_text().split()[2]) * _PAGE_BYTES
