"""A long time slice of the scheduler, for a process beside others whose work must not wait for it.

sched_setattr(2), since Linux 6.12 (EEVDF): a task that wakes may preempt one that asked for a longer slice than its
own. Without that, a request that meets a busy thread of Apidae waits up to 4 ms. Its share of a processor is
unchanged. Older kernels take no slice from a normal task, and nothing changes there.
"""

import contextlib
import ctypes
import os
import platform
import struct
import threading
from typing import Final

# More than anybody's who did not ask: the default is 0.7 to 2.8 ms, by the number of processors.
SLICE_NS: Final = 20_000_000
_SETTERS: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, .., runtime, ..
_taken: list[bool] = []  # What the kernel said, once it was asked.


def let_others_first() -> bool:
    """Ask for a long slice, for this thread and those that it starts from now on; whether the kernel took it. To be
    called before there are others."""
    _taken[:] = [_ask_for_slice(SLICE_NS)]
    return lets_others_first()


def lets_others_first() -> bool:
    """Whether this process asked for the long slice and the kernel took it."""
    return any(_taken)


def lower_priority(niceness: int) -> None:
    """This thread alone, never to less niceness than it was given: for seconds of work inside the kernel. It gets the
    default slice, for there a long one keeps those waiting that wake."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
    _ask_for_slice(0)


def _ask_for_slice(slice_ns: int) -> bool:
    """For this thread; 0: the default. Whether the kernel took it."""
    number, policy = _SETTERS.get(platform.machine()), os.sched_getscheduler(0)
    if number is None or policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return False
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, slice_ns, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
