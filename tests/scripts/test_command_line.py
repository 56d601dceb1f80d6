"""`scripts/run` with a wrong command line: one sentence that names the thing, and an exit code that is not 0."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 60


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--demon"], "No such option: --demon"),
        (["--seconds", "soon"], "Invalid value for '--seconds'"),
        (["--seconds", "-1"], "Invalid value for '--seconds'"),
        (["--data-dir", ""], "Invalid value for '--data-dir'"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = run(arguments, tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("scripts/run: ") and done.stderr.endswith("; see `scripts/run --help`\n")
    assert done.stderr.count("\n") == 1


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(["--data-dir", str(tmp_path / "file" / "data")], tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"scripts/run: {tmp_path / 'file' / 'data'}: Not a directory\n"


def test_a_second_run_does_not_touch_the_logs_of_the_first(tmp_path: Path) -> None:
    (tmp_path / ".run" / "logs").mkdir(parents=True)
    log = tmp_path / ".run" / "logs" / "collector.log"
    log.write_text("of the first")
    with (tmp_path / ".run" / "run.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run([], tmp_path)
    assert done.returncode == 1
    assert done.stderr == "scripts/run: another one runs in this checkout; end it first, with Ctrl-C there\n"
    assert log.read_text() == "of the first"


def run(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """In a directory of its own, so that the logs of this checkout's last run stay."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.live", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
