"""Measures how long BPF programs have run, from the kernel's own statistics (BPF_ENABLE_STATS, Linux 5.8).

Counting costs some 50 ns a run of a program, so it is on only while a file descriptor is open. The meter counts one
second of each minute and estimates the rest from the calls seen. The run time of a tail call counts to the program that
was entered first.
"""

import os
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sensor.ebpf.bpf_syscall import create_object, read_info

_ENABLE_STATS: Final = 32
_RUN_TIME_STATS: Final = 0
# Of struct bpf_prog_info (include/uapi/linux/bpf.h), and of run_time_ns in it, which run_cnt follows.
_INFO_BYTES, _RUN_TIME_OFFSET = 232, 192


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
    nanoseconds, runs = struct.unpack_from("<QQ", read_info(program_fd, _INFO_BYTES), _RUN_TIME_OFFSET)
    return RunTime(nanoseconds=nanoseconds, runs=runs)


# Of each minute one second is counted; the others are estimated by what a call took in it.
COUNTED_NS: Final = 1_000_000_000
INTERVAL_NS: Final = 60_000_000_000
# Until something was counted, and where nothing may be: tests/bpf/cost.py, both ends of a call.
UNKNOWN_NS_PER_CALL: Final = 2_500
# What a breakpoint that the kernel emulates takes beside its program, which nobody counts (docs/internals/tls.md),
# where it was not measured on this host; and its program, until it was counted.
BREAKPOINT_NS: Final = 600
UNKNOWN_PROGRAM_NS: Final = 300
# A second with fewer calls says little: packets that are no calls cost time too.
_CALLS_MIN: Final = 100


class RunTimeMeter:
    """Estimates how long programs have run in all, from the calls they saw. Not thread-safe."""

    def __init__(
        self,
        program_fds: Sequence[int],
        *,
        breakpoint_fds: Collection[int] = (),
        unknown_ns_per_call: int = UNKNOWN_NS_PER_CALL,
        enable: Callable[[], int] = enable_statistics,
        read: Callable[[int], RunTime] = read_run_time,
        close: Callable[[int], None] = os.close,
    ) -> None:
        """`breakpoint_fds`: of the programs, those that run at breakpoints."""
        self._program_fds = program_fds
        self._breakpoint_fds = breakpoint_fds
        self._enable, self._read, self._close = enable, read, close
        self._statistics_fd = -1  # Open while a second is counted.
        self._started = (0, 0, 0)  # Of that second: time, nanoseconds, calls.
        self._next_ns = 0
        self._calls = 0
        self._total_ns = 0.0
        self.ns_per_call = float(unknown_ns_per_call)
        self.breakpoint_ns = BREAKPOINT_NS  # To be replaced by what was measured.
        self._ns_per_run = float(UNKNOWN_PROGRAM_NS)  # Of programs at breakpoints.
        self._started_runs = RunTime(nanoseconds=0, runs=0)

    @property
    def ns_per_breakpoint(self) -> float:
        """With its program."""
        return self.breakpoint_ns + self._ns_per_run

    def observe(self, *, now_ns: int, calls: int) -> int:
        """Takes the calls so far; gives nanoseconds so far. Call it about once a second."""
        self._total_ns += max(0, calls - self._calls) * self.ns_per_call
        self._calls = calls
        if self._statistics_fd >= 0:
            if now_ns - self._started[0] >= COUNTED_NS:
                self._end(calls)
        elif now_ns >= self._next_ns:
            self._next_ns = now_ns + INTERVAL_NS
            try:
                self._statistics_fd = self._enable()
                self._started = now_ns, self._sum(), calls
                self._started_runs = self._sum_breakpoints()
            except OSError:
                self.stop()  # Not allowed, or not known: the estimate stays.
        return int(self._total_ns)

    def stop(self) -> None:
        """Counts no more for now."""
        if self._statistics_fd >= 0:
            self._close(self._statistics_fd)
            self._statistics_fd = -1

    def _end(self, calls: int) -> None:
        _, nanoseconds, before = self._started
        try:
            if calls - before >= _CALLS_MIN:
                self.ns_per_call = (self._sum() - nanoseconds) / (calls - before)
                ran = self._sum_breakpoints()
                if ran.runs > self._started_runs.runs:
                    spent = ran.nanoseconds - self._started_runs.nanoseconds
                    self._ns_per_run = spent / (ran.runs - self._started_runs.runs)
        except OSError:
            pass  # As if nothing had been counted.
        self.stop()

    def _sum(self) -> int:
        ran = {fd: self._read(fd) for fd in self._program_fds}
        breakpoints = sum(ran[fd].runs for fd in self._breakpoint_fds)
        return sum(one.nanoseconds for one in ran.values()) + self.breakpoint_ns * breakpoints

    def _sum_breakpoints(self) -> RunTime:
        ran = [self._read(fd) for fd in self._breakpoint_fds]
        return RunTime(nanoseconds=sum(one.nanoseconds for one in ran), runs=sum(one.runs for one in ran))
