"""Memory of this process that nothing needs: how the C library's heap is kept small, and what is held (mallopt(3),
malloc_trim(3), mallinfo(3)).

A sensor has a dozen threads that hardly allocate, and its start uses far more than its life: images of programs,
modules, the verifier's buffers. Later what a busy window took lies free between what stays. Other C libraries than
glibc have none of these functions; there nothing happens.
"""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

# Heaps of threads; glibc makes up to eight a processor, each of which keeps what it had at its height.
ARENAS_COUNT: Final = 1
_M_ARENA_MAX: Final = -8
# So much more must be free than the last trim left before it is worth the next.
EXCESS_BYTES: Final = 2 << 20


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2: glibc 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def limit_arenas() -> None:
    """All threads share a heap. To be called before there are any."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_COUNT)


def trim() -> None:
    """Gives free pages back to the kernel. Cost: some ms."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class Trimmer:
    """Gives back from time to time what has become free. Where pages cannot be given back because something is left on
    each, it does not try again and again."""

    def __init__(self) -> None:
        self._left_bytes = 0

    def trim_excess(self) -> None:
        """Cost: some us, and that of `trim` where there is much."""
        free_bytes = read_free_bytes()
        self._left_bytes = min(self._left_bytes, free_bytes)
        if free_bytes > self._left_bytes + EXCESS_BYTES:
            trim()
            self._left_bytes = read_free_bytes()


def read_free_bytes() -> int:
    """What the heap holds and nobody uses; 0 where that is not known."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return 0
    mallinfo.restype = _Mallinfo
    return int(mallinfo().fordblks)


def read_resident_bytes() -> int:
    """Resident set (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
