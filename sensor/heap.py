"""Memory of this process that nothing needs: how the C library's heap is kept small, and what is held (mallopt(3),
malloc_trim(3)).

A sensor has a dozen threads that hardly allocate, and its start uses far more than its life: images of programs,
modules, the verifier's buffers. Other C libraries than glibc have neither function; there nothing happens.
"""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

# Heaps of threads; glibc makes up to eight a processor, each of which keeps what it had at its height.
ARENAS_COUNT: Final = 1
_M_ARENA_MAX: Final = -8


def limit_arenas() -> None:
    """All threads share a heap. To be called before there are any."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_COUNT)


def trim() -> None:
    """Gives free pages back to the kernel. Cost: some ms."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def read_resident_bytes() -> int:
    """Resident set (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
