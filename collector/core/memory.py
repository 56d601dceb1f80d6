"""Gives back memory that the start of a process needed and nothing after it.

`release_library_pages` takes the pages of loaded libraries out of the process. The loader, the constructors of the
engine and what the kernel maps around each page that is touched leave 300 MB of them behind, of which a collector uses
a fifth. They are clean pages of files: one that is used again is mapped again, some 0.5 us each while it is in the page
cache, where others of it may stay for as long as the kernel likes.
EDGE: /proc/self/smaps, madvise(2).
"""

import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_SMAPS: Final = Path("/proc/self/smaps")
_MADV_DONTNEED: Final = 4
_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d*\s+/.*\.so\b")
_ANY_HEAD: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")
_SMALL_BYTES: Final = 1_000_000  # Not worth a call.


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
    try:
        mappings = list(find_clean_mappings(_SMAPS.read_text().splitlines()))
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, length in mappings:
        if length >= _SMALL_BYTES:
            madvise(start, length, _MADV_DONTNEED)
