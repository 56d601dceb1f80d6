"""What the kernel holds of a process that lets others go first."""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer

from common.time_slice import SLICE_NS
from scripts.live.host import start_collector
from sensor.cli import commands as cli

# Prints slice and niceness of a thread before it asked and after, of one that it started, and of one with low priority.
SCRIPT = """
import json, os, threading
from common.time_slice import let_others_first, lets_others_first, lower_priority
from tests.common.test_time_slice import read_slice
found = []
os.nice(3)
found.append(read_slice(0))
assert not lets_others_first() and let_others_first() and lets_others_first()
found.append(read_slice(0))
for niceness in (0, 19):
    thread = threading.Thread(target=lambda: (niceness and lower_priority(niceness), found.append(read_slice(0))))
    thread.start()
    thread.join()
found.append(read_slice(0))
print(json.dumps(found))
"""


def read_slice(thread: int) -> tuple[int, int]:
    """Nanoseconds of its slice, and its niceness (sched_getattr(2)); 0: the calling one."""
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    buffer = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(number, thread, buffer, 48, 0) == 0
    attributes = struct.unpack("=IIQiIQQQ", buffer.raw)
    return attributes[5], attributes[3]


def tells_slices() -> bool:
    """Linux 6.12."""
    release = platform.release().split(".")
    return (int(release[0]), int(release[1].split("-")[0])) >= (6, 12)


with_slices = pytest.mark.skipif(not tells_slices(), reason="kernels before 6.12 have no slices of normal tasks")


@with_slices
def test_a_thread_and_those_it_starts_have_a_long_slice_but_for_one_of_low_priority() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    (default, _), *found = json.loads(done.stdout)
    assert default < SLICE_NS
    assert found == [[SLICE_NS, nice], [SLICE_NS, nice], [default, 19], [SLICE_NS, nice]]


@with_slices
def test_all_threads_of_a_collector_have_it(tmp_path: Path) -> None:
    """Those of its store and of its detectors too."""
    collector, _ = start_collector(tmp_path / "data", tmp_path)
    try:
        pids = [collector.pid, *list_children(collector.pid)]
        threads = [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        assert len(pids) > 1 and len(threads) > 10
        assert {read_slice(thread)[0] for thread in threads} == {SLICE_NS}
    finally:
        assert collector.stop() == 0


def list_children(pid: int) -> list[int]:
    """Processes that one of its threads started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_the_sensor_asks_before_it_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(cli, "let_others_first", lambda: threads.append(threading.active_count()))
    with pytest.raises(typer.Exit):
        cli.run_sensor(collector="no port")
    assert threads == [threading.active_count()]
