"""What the collector's processes use: processor seconds by stage of the work, and resident memory.

A stage is a thread or a kind of thread. Python's threads are known by their names. The others are known by the name
that the system has of them, and belong to the embedded engine or to gRPC. Child processes are the detectors'.
Sources: proc(5), and Documentation/scheduler/sched-stats.rst of the kernel for the nanoseconds of a thread.
"""

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.figures import Figure, make_labelled

# Of Python's threads, by the beginning of the name; all others do jobs.
_PYTHON_STAGES: Final = {
    "MainThread": "event_loop",
    "log": "log",
    "writer": "writer",
    "detectors": "signals",
    "AnyIO worker thread": "requests",
}
# gRPC makes its poller a thread of Python, which has no name of its own.
_GRPC_POLLER: Final = "_poll_wrapper"
_JOBS, _ENGINE, _DETECTORS, _OTHER = "jobs", "engine", "detectors", "other"
# Of native threads; all others are the engine's.
_NATIVE_STAGES: Final = ((re.compile("grpc|event_engine|lifeguard"), "grpc"), (re.compile("Merge"), "merges"))
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage:
    """Of this process and its children. Any thread."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._read: dict[int, float] = {}  # Seconds of each thread and child at the last look.
        self._seconds: dict[str, float] = defaultdict(float)  # By stage.

    def list_figures(self) -> tuple[Figure, ...]:
        """For metrics. What a thread did between the last look and its end is in the stage `other`."""
        with self._lock:
            used, memory, children_memory = self._look(self._proc / str(os.getpid()))
            ended = used - sum(seconds for stage, seconds in self._seconds.items() if stage not in (_OTHER, _DETECTORS))
            self._seconds[_OTHER] = max(self._seconds[_OTHER], ended)
            seconds = sorted(self._seconds.items())
        text = "Processor time of all processes of the collector, by stage of the work."
        cpu = make_labelled("cpu_seconds", text, "stage", seconds)
        by_process = (("collector", memory), (_DETECTORS, children_memory))
        text = "Resident memory, by process of the collector."
        return (*cpu, *make_labelled("memory_bytes", text, "process", by_process, is_total=False))

    def _look(self, place: Path) -> tuple[float, int, int]:
        """Add what was done since the last look. Returns this process's seconds, its memory, and its children's."""
        read: dict[int, float] = {}
        for number, stage, seconds in self._list_threads(place):
            self._add(number, stage, seconds)
            read[number] = seconds
        children_memory = 0
        for child in _list_children(place):
            seconds, memory = _read_process(self._proc / str(child))
            self._add(child, _DETECTORS, seconds)
            read[child] = seconds
            children_memory += memory
        self._read = read
        return *_read_process(place), children_memory

    def _add(self, number: int, stage: str, seconds: float) -> None:
        before = self._read.get(number, 0.0)
        # Less than before: another one has the number of one that ended.
        self._seconds[stage] += seconds - before if seconds >= before else seconds

    def _list_threads(self, place: Path) -> Iterator[tuple[int, str, float]]:
        stages = {one.native_id: _find_python_stage(one.name) for one in threading.enumerate()}
        for task in (place / "task").iterdir():
            try:
                ran_ns = int((task / "schedstat").read_text().split()[0])
                stage = stages.get(int(task.name)) or _find_stage((task / "comm").read_text())
            except (OSError, ValueError, IndexError):
                continue  # It ended meanwhile, or the kernel keeps no such time.
            yield int(task.name), stage, ran_ns / 1e9


def _find_python_stage(name: str) -> str:
    return "grpc" if _GRPC_POLLER in name else _PYTHON_STAGES.get(name.split("_")[0], _JOBS)


def _find_stage(name: str) -> str:
    return next((stage for pattern, stage in _NATIVE_STAGES if pattern.match(name)), _ENGINE)


def _list_children(place: Path) -> list[int]:
    children: list[int] = []
    for task in (place / "task").iterdir():
        try:
            children += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return children


def _read_process(place: Path) -> tuple[float, int]:
    """Processor seconds, and bytes of resident memory; 0 of one that has ended."""
    try:
        fields = (place / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE_BYTES
