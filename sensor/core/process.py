"""Keeps this process cheap for the node that it runs on: a small heap, and breaks while it reads.

Heap (mallopt(3), malloc_trim(3), mallinfo(3)): a start uses far more memory than later work, for program images,
modules and the verifier's buffers. Later, memory of a busy window lies free between what is still used. `Trimmer` gives
it back. C libraries other than glibc lack these functions, and then nothing happens.

Breaks: Python reads events for milliseconds at a time. A kernel that takes no slice from a task (`common.time_slice`)
preempts only at its ticks (4 ms at 250 Hz), and the application waits that long. There the reader sleeps briefly every
half millisecond. `sched_yield` would admit only tasks of the same cgroup. A reader that is behind takes no breaks,
because a full ring drops data.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from common.time_slice import lets_others_first

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


WORK_NS: Final = 500_000
# With the timer's slack and the switches some 0.1 ms.
BREAK_SECONDS: Final = 50e-6
_T = TypeVar("_T")


def with_breaks(items: Iterable[_T], *, is_behind: bool = False) -> Iterable[_T]:
    """The same, in order; what is done with each counts as work. Cost: 0.1 us each."""
    return items if is_behind or lets_others_first() else _take_breaks(items)


def _take_breaks(items: Iterable[_T]) -> Iterator[_T]:
    began = time.perf_counter_ns()
    for item in items:
        yield item
        if time.perf_counter_ns() - began >= WORK_NS:
            time.sleep(BREAK_SECONDS)
            began = time.perf_counter_ns()
