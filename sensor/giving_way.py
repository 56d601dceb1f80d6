"""How the sensor shares processors with what it watches: whoever wakes goes first (sched_setattr(2)).

A task that wakes may take over at once from one that asked for a longer slice than its own (EEVDF, Linux 6.12), and
else waits for the end of that slice: up to 4 ms for a request that meets a busy thread of ours. With a long slice the
sensor's share of a processor is what it was. Kernels before 6.12 take no slice from a normal task; nothing changes
there.
"""

import ctypes
import os
import platform
import struct
from typing import Final

# More than anybody's who did not ask: the default is 0.7 to 2.8 ms, by the number of processors.
SLICE_NS: Final = 20_000_000
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, .., runtime, ..


def let_others_first() -> bool:
    """Ask for a long slice, for this thread and those that it starts from now on; whether the kernel took it. To be
    called before there are others."""
    number, policy = _SCHED_SETATTR.get(platform.machine()), os.sched_getscheduler(0)
    if number is None or policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, SLICE_NS, 0, 0)
    return int(ctypes.CDLL(None).syscall(number, 0, attributes, 0)) == 0
