"""How long programs have run, as the kernel counts it while statistics are on (Linux 5.8: BPF_ENABLE_STATS).

Counting costs some 50 ns a run of a program, so it is on only while a file descriptor says so. What runs behind a tail
call counts to the program that was entered.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from sensor.kernel.syscalls import call_bpf, create_object

_OBJ_GET_INFO_BY_FD: Final = 15
_ENABLE_STATS: Final = 32
_RUN_TIME_STATS: Final = 0
# Offsets in struct bpf_prog_info (include/uapi/linux/bpf.h): run_time_ns, run_cnt.
_INFO_BYTES, _RUN_TIME_OFFSET, _RUN_COUNT_OFFSET = 232, 192, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """Totals of the time in which statistics were on."""

    nanoseconds: int
    runs: int


def enable_statistics() -> int:
    """Counts until the file descriptor that it gives is closed. Raises OSError where that is not allowed
    (CAP_SYS_ADMIN) or not known."""
    return create_object(_ENABLE_STATS, struct.pack("<I", _RUN_TIME_STATS))


def read_run_time(program_fd: int) -> RunTime:
    """Of one program. Raises OSError."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", program_fd, _INFO_BYTES, ctypes.addressof(info)), 16)
    code = call_bpf(_OBJ_GET_INFO_BY_FD, attributes)
    if code:
        raise OSError(code, os.strerror(code) if code in errno.errorcode else f"error {code}")
    return RunTime(
        nanoseconds=struct.unpack_from("<Q", info.raw, _RUN_TIME_OFFSET)[0],
        runs=struct.unpack_from("<Q", info.raw, _RUN_COUNT_OFFSET)[0],
    )
