"""What the kernel holds of a process that lets others go first."""

import json
import os
import platform
import subprocess
import sys
import threading

import pytest
import typer

from common.time_slice import SLICE_NS
from sensor.cli import commands as cli

# Prints runtime and niceness of the thread that asked, and of one that it started, as sched_getattr(2) says.
SCRIPT = """
import ctypes, json, os, struct, threading
from common.time_slice import let_others_first, lets_others_first
number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
def read():
    buffer = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(number, 0, buffer, 48, 0) == 0
    attributes = struct.unpack("=IIQiIQQQ", buffer.raw)
    told.append([attributes[5], attributes[3]])
told = []
os.nice(3)
assert not lets_others_first() and let_others_first() and lets_others_first()
read()
thread = threading.Thread(target=read)
thread.start()
thread.join()
print(json.dumps(told))
"""


def tells_slices() -> bool:
    """Linux 6.12."""
    release = platform.release().split(".")
    return (int(release[0]), int(release[1].split("-")[0])) >= (6, 12)


@pytest.mark.skipif(not tells_slices(), reason="kernels before 6.12 have no slices of normal tasks")
def test_a_thread_and_those_it_starts_have_a_long_slice_and_their_niceness() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    assert json.loads(done.stdout) == [[SLICE_NS, nice], [SLICE_NS, nice]]


def test_the_sensor_asks_before_it_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(cli, "let_others_first", lambda: threads.append(threading.active_count()))
    with pytest.raises(typer.Exit):
        cli.run_sensor(collector="no port")
    assert threads == [threading.active_count()]
