"""Child programs: their events, their end, and what is told when they fail."""

import signal
import sys
from pathlib import Path

import pytest

from scripts.live.program import Program, ProgramError
from tests.waiting import DEADLINE_SECONDS


def start(code: str, directory: Path) -> Program:
    return Program("child", [sys.executable, "-c", code], directory / "child.log")


def test_events_are_read_and_other_lines_skipped(tmp_path: Path) -> None:
    code = (
        'print("hello"); print("{broken"); print(\'{"event": "other"}\');'
        ' print(\'{"event": "ready", "port": 7}\', flush=True); import time; time.sleep(60)'
    )
    program = start(code, tmp_path)
    assert program.wait_for("ready", DEADLINE_SECONDS) == {"event": "ready", "port": 7}
    program.stop()
    assert "hello" in program.log_tail()


def test_an_early_end_is_told_with_its_log(tmp_path: Path) -> None:
    program = start("import sys; sys.exit('the port 80 is taken')", tmp_path)
    with pytest.raises(ProgramError, match=r"child ended with exit code 1:\nthe port 80 is taken"):
        program.wait_for("ready", DEADLINE_SECONDS)
    assert program.stop() == 1


def test_one_that_says_nothing_is_told(tmp_path: Path) -> None:
    program = start("import time; time.sleep(60)", tmp_path)
    with pytest.raises(ProgramError, match="did not say 'ready' within 0 s"):
        program.wait_for("ready", 0.2)
    assert program.stop() == -signal.SIGTERM


def test_one_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        ' print(\'{"event": "ready"}\', flush=True); time.sleep(60)'
    )
    program = start(code, tmp_path)
    program.wait_for("ready", DEADLINE_SECONDS)
    assert program.stop(timeout_seconds=0.1) == -signal.SIGKILL
    assert not program.is_running
