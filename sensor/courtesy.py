"""A start that gives way: until a sensor captures, whoever else wants the processors has them first.

To import, compile and verify takes some seconds of a processor, and on a small node its neighbours wait meanwhile. It
is done only where the process may take its priority back: Linux lets everybody give it up, but not everybody return
(setpriority(2): CAP_SYS_NICE, or RLIMIT_NICE). Niceness is a thread's own on Linux, and threads inherit it.
"""

import contextlib
import functools
import os
import re
import resource
from pathlib import Path
from typing import Final

NICENESS: Final = 10
_CAP_SYS_NICE: Final = 23
_STATUS_PATH: Final = Path("/proc/self/status")
_TASKS_PATH: Final = Path("/proc/self/task")


@functools.cache
def _find_usual() -> int:
    """Niceness that the process was started with: first asked before it gives way."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def may_return(usual: int, status: str, nice_limit: int) -> bool:
    """Whether a process may have niceness `usual` again. `status` is its /proc/PID/status, `nice_limit` its soft
    RLIMIT_NICE: 20 less the lowest niceness it may take."""
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    has_capability = capabilities is not None and bool(int(capabilities[1], 16) >> _CAP_SYS_NICE & 1)
    return has_capability or nice_limit == resource.RLIM_INFINITY or 20 - nice_limit <= usual


def give_way() -> None:
    """From now on, and threads and children that are made meanwhile. To be called before there are threads."""
    usual = _find_usual()
    with contextlib.suppress(OSError):
        if may_return(usual, _STATUS_PATH.read_text(), resource.getrlimit(resource.RLIMIT_NICE)[0]):
            os.setpriority(os.PRIO_PROCESS, 0, max(usual, NICENESS))


def take_back() -> None:
    """All threads are as the process was started."""
    for task in _TASKS_PATH.iterdir():
        with contextlib.suppress(OSError):  # It ended just now.
            os.setpriority(os.PRIO_PROCESS, int(task.name), _find_usual())
