"""Measures files instead of processes, where the kernel puts probes into all processes of a file or into none.

Then all processes of a file have their turns together, and the busiest one decides: what a file uses is what a process
would use that is at each moment as busy as the busiest of them. So none of them takes more than its budget, and the
others are read less than theirs. Pure: counts come in.
"""

from collections.abc import Collection, Mapping
from itertools import count

from sensor.capture.tls.duty import NO_USAGE, Usage

# The number of a file, which stands where that of a process does. Below zero, so it is of no process.
_numbers = count(-1, -1)


def make_number() -> int:
    """Of a file that is probed from now on."""
    return next(_numbers)


class FileUsages:
    """Mutable: what each process and each file used so far."""

    def __init__(self) -> None:
        self._seen: Mapping[int, Usage] = {}  # By process, as of the last time.
        self._used: dict[int, Usage] = {}  # By file.

    def take(self, usages: Mapping[int, Usage], files: Mapping[int, Collection[int]]) -> Mapping[int, Usage]:
        """Usage so far of each file; `usages`: of processes, `files`: the processes of each."""
        more = {pid: _subtract(usage, self._seen.get(pid, NO_USAGE)) for pid, usage in usages.items()}
        self._seen = dict(usages)
        self._used = {
            file: _add_busiest(self._used.get(file, NO_USAGE), [more[pid] for pid in pids if pid in more])
            for file, pids in files.items()
        }
        return self._used


def _subtract(usage: Usage, before: Usage) -> Usage:
    """What was used since; an account that was evicted, or is another process's by now, began at 0."""
    if usage.calls < before.calls or usage.probe_ns < before.probe_ns:
        return usage
    return Usage(usage.calls - before.calls, usage.probe_ns - before.probe_ns, usage.refused - before.refused)


def _add_busiest(used: Usage, more: Collection[Usage]) -> Usage:
    busiest = max(more, key=lambda one: one.calls - one.refused, default=NO_USAGE)
    return Usage(
        used.calls + busiest.calls,
        used.probe_ns + max((one.probe_ns for one in more), default=0.0),
        used.refused + busiest.refused,
    )
