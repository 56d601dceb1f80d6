"""A start gives way, and what runs afterwards does not."""

import resource
import subprocess
import sys

import pytest

from sensor.courtesy import NICENESS, may_return

_ALL, _NONE = "CapEff:\t000001ffffffffff\n", "CapEff:\t00000000000000c0\n"
_LIFE = """
import os, threading
from sensor.courtesy import give_way, take_back
def niceness(): return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
give_way()
given, go, told = niceness(), threading.Event(), []
thread = threading.Thread(target=lambda: (told.append(niceness()), go.wait(), told.append(niceness())))
thread.start()
while not told: pass
take_back()
go.set()
thread.join()
print(given, *told, niceness())
"""


@pytest.mark.parametrize(
    ("usual", "status", "limit", "may"),
    [
        (0, _ALL, 0, True),
        (0, _NONE, 0, False),
        (0, "", 0, False),
        (0, _NONE, 20, True),
        (-5, _NONE, 20, False),
        (15, _NONE, 5, True),
        (0, _NONE, resource.RLIM_INFINITY, True),
    ],
)
def test_who_may_return(usual: int, status: str, limit: int, may: bool) -> None:
    assert may_return(usual, status, limit) is may


def test_all_threads_return() -> None:
    done = subprocess.run([sys.executable, "-c", _LIFE], capture_output=True, text=True, check=True)
    given, born, *after = map(int, done.stdout.split())
    own = after[-1]  # Who runs the tests may be nice already, and may lack the right to return.
    assert after == [own, own]
    assert given == born
    assert given in (max(own, NICENESS), own)
