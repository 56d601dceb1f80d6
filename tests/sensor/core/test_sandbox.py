"""Files of others are read where they can do no harm: without rights, within bounds, and each for itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sensor.core import sandbox
from sensor.core.sandbox import NoAnswerError, Sandbox, SandboxError
from tests.sensor.core import sandbox_tasks as tasks
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
HOSTILE = [task for name, task in vars(tasks).items() if getattr(task, "__module__", "") == tasks.__name__]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    opened = Sandbox(*HOSTILE, seconds_max=1)
    yield opened
    opened.close()


def run(box: Sandbox, task: Callable[[int, str], str], argument: str = "it", path: Path | None = None) -> str:
    descriptor = os.open(path or sys.executable, os.O_RDONLY)
    try:
        return box.run(task, descriptor, argument)
    finally:
        os.close(descriptor)


EXPECTED = "it: b'\\x7fELF\\x02\\x01\\x01\\x00'"


def test_a_task_reads_the_file_that_was_opened(box: Sandbox) -> None:
    assert run(box, tasks.read_start) == EXPECTED


def test_a_file_that_cannot_be_read_is_an_error_of_the_file(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        run(box, tasks.read_start, path=tmp_path)


def test_the_program_ends_when_it_is_idle_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Sandbox(tasks.read_start)
    assert run(box, tasks.read_start) == EXPECTED
    first = box._program
    box.close_idle()
    assert box._program is first and first is not None
    monkeypatch.setattr(sandbox, "IDLE_SECONDS", 0)
    box.close_idle()
    assert box._program is None and first.returncode is not None
    assert run(box, tasks.read_start) == EXPECTED
    box.close()


@pytest.fixture
def busy_processor() -> Iterator[None]:
    """What is started has one processor, beside a program that always runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)


def test_waiting_for_a_processor_is_not_used_by_a_file(busy_processor: None) -> None:
    box = Sandbox(tasks.compute)
    run(box, tasks.compute, "0")
    began = time.monotonic()
    assert run(box, tasks.compute, "0.2") == "done"
    assert 0.15 < box.used_seconds < 0.8 * (time.monotonic() - began)
    box.close()


def test_waiting_for_a_file_is_used_by_it(box: Sandbox) -> None:
    assert run(box, tasks.wait, "0.1") == "False"
    assert box.used_seconds > 0.09


def test_a_program_that_was_killed_costs_one_file() -> None:
    box = Sandbox(tasks.read_start)
    assert run(box, tasks.read_start) == EXPECTED
    assert box._program is not None
    box._program.kill()
    box._program.wait()
    with pytest.raises(NoAnswerError):
        run(box, tasks.read_start)
    assert run(box, tasks.read_start) == EXPECTED
    box.close()


@pytest.mark.parametrize(
    ("task", "refusal"),
    [
        (tasks.take_memory, "took more than 256 MB"),
        (tasks.share_memory, "took more than 256 MB"),
        (tasks.take_time, "took too much"),
        (tasks.end, "ended its worker"),
        (tasks.answer_at_length, "took too much"),
        (tasks.answer_in_another_form, "another form"),
        (tasks.answer_raw, "another form"),
        (tasks.answer_in_no_utf8, "another form"),
        (tasks.open_file, "Operation not permitted"),
        (tasks.run_program, "Operation not permitted"),
        (tasks.connect, "Operation not permitted"),
        (tasks.start_process, "Operation not permitted"),
        (tasks.signal_parent, "Operation not permitted"),
        (tasks.limit_others, "Operation not permitted"),
    ],
)
def test_what_a_worker_may_not_do(box: Sandbox, task: Callable[[int, str], str], refusal: str) -> None:
    """Whatever the file makes it do; the next file is read as if nothing had been."""
    with pytest.raises((SandboxError, OSError), match=refusal):
        run(box, task, str(os.getpid()))
    assert run(box, tasks.read_start) == EXPECTED


@pytest.mark.parametrize(("argument", "kind"), [("", SandboxError), ("file", OSError)])
def test_a_reason_is_printable_and_bounded(box: Sandbox, argument: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as error:
        run(box, tasks.refuse_at_length, argument)
    assert str(error.value).isprintable() and len(str(error.value)) <= 300


def test_a_worker_has_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIDAE_TOKEN", "s3cret")
    box = Sandbox(tasks.read_environment)
    assert run(box, tasks.read_environment, "APIDAE_TOKEN") == "None"
    box.close()


def test_no_module_of_the_working_directory_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which others may be able to write, and which `python -m` would take first."""
    (tmp_path / "msgspec.py").write_text("from pathlib import Path\nPath('taken').touch()\n")
    monkeypatch.chdir(tmp_path)
    box = Sandbox(tasks.read_start)
    assert run(box, tasks.read_start) == EXPECTED
    box.close()
    assert not (tmp_path / "taken").exists()


def test_every_program_that_is_started_leaves_the_working_directory_out() -> None:
    sources = [path.read_text() for side in ("sensor", "collector") for path in (ROOT / side).rglob("*.py")]
    assert sum('sys.executable, "-P", "-m"' in source for source in sources) >= 3
    assert not any('sys.executable, "-m"' in source for source in sources)


def test_a_worker_reaches_no_log_and_no_other_answer(box: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    box.close()  # Its next program has the log of this test.
    assert run(box, tasks.write_elsewhere) == "reached []"
    assert run(box, tasks.answer_twice) == "sent []"
    assert run(box, tasks.read_start) == EXPECTED
    assert capfd.readouterr().err == ""


def read_score(pid: str) -> int:
    """How soon the kernel ends a process where memory is short; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    except OSError:
        return 0


def test_the_kernel_ends_a_worker_before_the_sensor(box: Sandbox) -> None:
    run(box, tasks.read_start)
    assert box._program is not None
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, box, tasks.take_time)
        children = Path(f"/proc/{box._program.pid}/task/{box._program.pid}/children")
        wait_until(lambda: [read_score(pid) for pid in children.read_text().split()] == [1_000], "who goes first")
        with pytest.raises(SandboxError):
            running.result()


@pytest.mark.skipif(os.geteuid() != 0, reason="root has capabilities, others have none to give up")
def test_it_has_no_capabilities(box: Sandbox) -> None:
    run(box, tasks.read_start)
    assert box._program is not None
    status = Path(f"/proc/{box._program.pid}/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert lines["CapPrm"] == lines["CapEff"] == "0" * 16 and lines["NoNewPrivs"] == "1"
