"""The collector ends within its deadline, whatever its threads are doing, and its exit status says how."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from collector.core.budget import BudgetBook, check_budget
from collector.core.feature import LEASED, Job
from collector.server import run
from collector.server.duties import repeat_jobs
from collector.server.run import EXIT_CUT_OFF, EXIT_FAILED, cancel_work
from collector.storage.state.leases import Leases
from collector.storage.state.store import open_state
from scripts.bench_cases.capturing.cpu import read_cpu_seconds
from scripts.bench_cases.pair import write_config
from tests.collector.running import RunningCollector, clean_environment
from tests.collector.storage.http_server import RunningServer
from tests.waiting import wait_in_loop, wait_until

_PROGRAM = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from collector.server.run import end_at_deadline
threading.Thread(target=time.sleep, args=(BUSY,)).start()
ThreadPoolExecutor().submit(time.sleep, BUSY)
end_at_deadline(DEADLINE, 3)
"""


@pytest.mark.parametrize(("busy", "deadline", "status"), [(600, 1, 3), (0, 600, 0)])
def test_a_process_ends_at_its_deadline_or_before(busy: int, deadline: int, status: int) -> None:
    program = _PROGRAM.replace("BUSY", str(busy)).replace("DEADLINE", str(deadline))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status and time.monotonic() - began < 120
    assert ("Work was still under way 1 s after the stop" in done.stderr) is bool(status)


def test_a_stop_ends_housekeeping_that_is_under_way() -> None:
    book, errors, begun = BudgetBook(), list[Exception](), threading.Event()

    def work() -> None:
        begun.set()
        while True:
            check_budget()
            time.sleep(0.001)

    async def main() -> None:
        repeating = asyncio.create_task(repeat_jobs(lambda: iter([Job(works=(work,))]), errors.append, book))
        await wait_in_loop(begun.is_set)
        book.stop()
        await repeating

    asyncio.run(main())
    assert not errors and len(book) == 0


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_stop_lets_requests_end_that_do_not_take_long(monkeypatch: pytest.MonkeyPatch, is_answered: bool) -> None:
    monkeypatch.setattr(run, "ANSWER_SECONDS", 3_600.0 if is_answered else 0.0)
    book = BudgetBook()

    async def answer(may_end: asyncio.Event) -> None:
        with book.open(seconds=20) as budget:
            await may_end.wait()
            budget.check()

    async def main() -> None:
        may_end = asyncio.Event()
        http = asyncio.create_task(answer(may_end))
        await asyncio.sleep(0)
        cancelling = asyncio.create_task(cancel_work(book, http))
        (budget,) = book._open.values()
        if not is_answered:
            await wait_in_loop(lambda: budget._is_cancelled)
        may_end.set()
        await cancelling
        assert (http.exception() is None) is is_answered

    asyncio.run(main())


def find_detectors(pid: int) -> list[int]:
    """Ids of the process of detectors that a collector has started."""
    children = [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]
    return [one for one in children if b"run_program" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.e2e
@pytest.mark.parametrize("make_break", ["jobs", "thread"])
def test_the_exit_status_says_what_began_the_end_and_whether_work_was_cut_off(tmp_path: Path, make_break: str) -> None:
    """A task of the collector's own that ends is a failure. After a signal, only work that was cut off is."""
    constants: dict[str, object] = {"collector.server.run.STOP_SECONDS_MAX": 2.0}
    if make_break == "jobs":
        constants["collector.server.duties.ROUND_SECONDS"] = "no number"
    else:
        constants["collector.detection.process._TOLD_SECONDS"] = 3_600.0  # The detectors' thread does not see the stop.
    collector = RunningCollector(tmp_path, "--no-auth", constants=constants)
    if make_break == "thread":  # The detectors' process would wake it with its counts.
        wait_until(lambda: find_detectors(collector.process.pid))
        (detectors,) = find_detectors(collector.process.pid)
        os.kill(detectors, signal.SIGSTOP)
    if make_break == "jobs":
        assert collector.process.wait(60) == EXIT_FAILED
        collector.stop()
        assert "housekeeping ended by itself" in "".join(collector.errors)
    else:
        began = time.monotonic()
        collector.process.terminate()
        status = collector.process.wait(60)
        os.kill(detectors, signal.SIGKILL)  # It holds the other end of the collector's output.
        collector.stop()
        assert status == EXIT_CUT_OFF and time.monotonic() - began < 60


@pytest.mark.e2e
def test_who_stops_gives_its_leases_back_before_it_waits_for_anything_else(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    """Here the detectors do not end, as other work may not."""
    url = new_postgresql()
    store = RunningServer()
    config = write_config(tmp_path, url, store.port)
    constants = {"collector.detection.process._TOLD_SECONDS": 3_600.0}
    collector = RunningCollector(tmp_path / "data", "--no-auth", "--config", str(config), constants=constants)
    state = open_state(tmp_path / "state", url)
    leases = Leases(state)
    try:
        wait_until(lambda: find_detectors(collector.process.pid))
        (detectors,) = find_detectors(collector.process.pid)
        os.kill(detectors, signal.SIGSTOP)
        assert all(leases.find(role) is not None for role in LEASED)
        collector.process.terminate()
        wait_until(lambda: all(leases.find(role) is None for role in LEASED))
        assert collector.process.poll() is None, "it was waited for"
        os.kill(detectors, signal.SIGKILL)
    finally:
        collector.kill()
        state.close()
        store.stop()


@pytest.mark.e2e
def test_a_stop_ends_a_statement_of_the_engine(tmp_path: Path) -> None:
    """The client of the statement hears of the stop, and nothing has to be cut off."""
    endless = "SELECT count() FROM numbers(1000000000000) WHERE modulo(cityHash64(number), 7) = 3"
    collector = RunningCollector(tmp_path, "--no-auth", constants={"collector.specs.report._SAYING": endless})
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(collector.get("/specs")))
    before = read_cpu_seconds([collector.process.pid])
    asking.start()
    # Nothing else in an idle collector takes so much. A client whose request is not being answered yet hears nothing.
    wait_until(lambda: read_cpu_seconds([collector.process.pid]) > before + 3)
    assert collector.stop() == 0
    asking.join(60)
    assert answers[0].status_code == 503 and "the collector is stopping" in answers[0].json()["detail"]
