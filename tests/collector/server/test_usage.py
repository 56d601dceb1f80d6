"""What the collector says that its processes use, read from a directory like /proc."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.server.usage import Usage

STAT = "{pid} (apidae) S 1 {pid} {pid} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 0 0 {pages} 0"
SECOND_NS = 1_000_000_000


class FakeProc:
    """This process and its children, as the kernel would show them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_process(os.getpid(), seconds=0)

    def set_process(self, pid: int, *, seconds: int, pages: int = 0) -> None:
        place = self.path / str(pid)
        (place / "task").mkdir(parents=True, exist_ok=True)
        ticks = seconds * os.sysconf("SC_CLK_TCK")
        (place / "stat").write_text(STAT.format(pid=pid, ticks=ticks, pages=pages))

    def set_thread(self, number: int, *, seconds: int, name: str = "apidae", children: str = "") -> None:
        task = self.path / str(os.getpid()) / "task" / str(number)
        task.mkdir(parents=True, exist_ok=True)
        for file, text in (("schedstat", f"{seconds * SECOND_NS} 0 1"), ("comm", f"{name}\n"), ("children", children)):
            (task / file).write_text(text)

    def end_thread(self, number: int) -> None:
        task = self.path / str(os.getpid()) / "task" / str(number)
        for file in task.iterdir():
            file.unlink()
        task.rmdir()


@contextmanager
def run_thread(name: str) -> Iterator[int]:
    """The system's number of a thread of Python that waits."""
    is_over = threading.Event()
    thread = threading.Thread(target=is_over.wait, name=name)
    thread.start()
    try:
        assert thread.native_id is not None
        yield thread.native_id
    finally:
        is_over.set()
        thread.join()


def read_figures(usage: Usage, name: str) -> dict[str, float]:
    return {figure.labels[0][1]: figure.value for figure in usage.list_figures() if figure.name == name}


def test_processor_time_counts_to_the_stage_of_its_thread(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.set_process(os.getpid(), seconds=21)
    with (
        run_thread("writer") as writer,
        run_thread("asyncio_0") as job,
        run_thread("log_0") as log,
        run_thread("Thread-1 (_poll_wrapper)") as poller,
    ):
        proc.set_thread(os.getpid(), seconds=1)
        proc.set_thread(writer, seconds=2, name="Unknown")  # The engine renames who calls it.
        proc.set_thread(job, seconds=3)
        proc.set_thread(log, seconds=1)
        proc.set_thread(poller, seconds=1)
        proc.set_thread(8_000_001, seconds=4, name="grpc_global_tim")
        proc.set_thread(8_000_002, seconds=5, name="MergeMutate")
        proc.set_thread(8_000_003, seconds=3, name="ThreadPool")
        seconds = read_figures(Usage(tmp_path), "cpu_seconds")
    assert seconds == {
        "event_loop": 1,
        "writer": 2,
        "jobs": 3,
        "log": 1,
        "grpc": 5,
        "merges": 5,
        "engine": 3,
        "other": 1,
    }


def test_processor_time_of_a_thread_that_ended_is_kept_and_its_number_is_free(tmp_path: Path) -> None:
    proc, usage = FakeProc(tmp_path), Usage(tmp_path)
    proc.set_thread(8_000_001, seconds=5, name="ThreadPool")
    assert read_figures(usage, "cpu_seconds")["engine"] == 5
    proc.end_thread(8_000_001)
    assert read_figures(usage, "cpu_seconds")["engine"] == 5
    proc.set_thread(8_000_001, seconds=2, name="ThreadPool")
    assert read_figures(usage, "cpu_seconds")["engine"] == 7


def test_child_processes_are_the_detectors_and_one_that_starts_again_adds_to_them(tmp_path: Path) -> None:
    proc, usage = FakeProc(tmp_path), Usage(tmp_path)
    proc.set_process(os.getpid(), seconds=0, pages=100)
    proc.set_process(9_000_001, seconds=6, pages=50)
    proc.set_thread(os.getpid(), seconds=0, children="9000001 ")
    assert read_figures(usage, "cpu_seconds")["detectors"] == 6
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    assert read_figures(usage, "memory_bytes") == {"collector": 100 * page_bytes, "detectors": 50 * page_bytes}
    proc.set_process(9_000_002, seconds=1)
    proc.set_thread(os.getpid(), seconds=0, children="9000002 ")
    assert read_figures(usage, "cpu_seconds")["detectors"] == 7
