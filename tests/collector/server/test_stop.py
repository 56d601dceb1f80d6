"""The collector ends within its deadline, whatever its threads are doing."""

import subprocess
import sys
import time

import pytest

from tests.collector.running import clean_environment

_PROGRAM = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from collector.server.run import end_at_deadline
threading.Thread(target=time.sleep, args=(BUSY,)).start()
ThreadPoolExecutor().submit(time.sleep, BUSY)
end_at_deadline(DEADLINE)
"""


@pytest.mark.parametrize(("busy", "deadline", "is_cut"), [(600, 1, True), (0, 600, False)])
def test_a_process_ends_at_its_deadline_or_before(busy: int, deadline: int, is_cut: bool) -> None:
    program = _PROGRAM.replace("BUSY", str(busy)).replace("DEADLINE", str(deadline))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and time.monotonic() - began < 120
    assert ("Work was still under way 1 s after the stop" in done.stderr) is is_cut
