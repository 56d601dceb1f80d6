"""What the kinds of the log take: bytes per second, milliseconds of one append, and processor time for each megabyte.

    scripts/bench log [--kinds files postgresql] [--writers N] [--kilobytes N] [--seconds S]

Each writer is a thread that appends groups of so many kilobytes, as one collector does of all its streams. One reader
follows and commits, as the writer of the tables. PostgreSQL is started for it, with fsync, on this machine's disk.
Kafka is not measured: the mock brokers of librdkafka keep no more than some megabytes. One JSON line a kind: megabytes
and appends per second, p50 and p99 of an append, and the processor time of this process and of the server for each
megabyte that was appended and read.
"""

import argparse
import contextlib
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from collector.log.base import STORE, Append, Log
from collector.log.files import FileLog
from collector.log.open import LogPlace, open_log
from collector.storage.state.store import open_state
from tests.collector import postgresql

BATCH_BYTES: Final = 2_000  # Of some 14 rows.
KINDS: Final = ("files", "postgresql")


@contextmanager
def open_kind(kind: str, directory: Path) -> Iterator[tuple[Callable[[], Log], int]]:
    """Opens the log for one collector more; and the process of the server, 0 without one."""
    with ExitStack() as stack:
        state = open_state(directory)
        stack.callback(state.close)
        if kind == "files":
            log = FileLog(directory / "wal", readers=(STORE,))
            stack.callback(log.close)
            yield lambda: log, 0
            return
        programs = postgresql.find_programs()
        if programs is None:
            raise SystemExit("PostgreSQL is not installed (Debian's package postgresql).")
        url = stack.enter_context(postgresql.run_server(programs, options="-c listen_addresses="))
        directory_of_server = Path(str(make_url(url).query["host"]))
        postmaster = int((directory_of_server / "data" / "postmaster.pid").read_text().split()[0])

        def open_one() -> Log:
            opened = open_log(LogPlace(directory=directory, url=url), state)
            stack.callback(opened.close)
            return opened

        yield open_one, postmaster


def measure(kind: str, *, writers: int, group_bytes: int, seconds: float) -> dict[str, Any]:
    """One kind."""
    times: list[float] = []
    read_bytes = 0
    with tempfile.TemporaryDirectory() as name, open_kind(kind, Path(name)) as (open_one, postmaster):
        logs = [open_one() for _ in range(writers)]
        reader = logs[0].open_reader(STORE)
        ends_at = time.monotonic() + seconds
        lock = threading.Lock()

        def append(number: int, log: Log) -> None:
            sequence = 0
            while time.monotonic() < ends_at:
                batches = list(make_batches(number, sequence, group_bytes))
                sequence += len(batches)
                begun_at = time.monotonic()
                if kind == "files":  # One collector writes its files.
                    with lock:
                        log.append(batches)
                else:
                    log.append(batches)
                times.append(time.monotonic() - begun_at)

        before, begun_at = measure_processor(postmaster), time.monotonic()
        threads = [threading.Thread(target=append, args=one) for one in enumerate(logs)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or reader.position < reader.find_end():
            entries = reader.read(until=reader.find_end())
            read_bytes += sum(len(entry.payload) for entry in entries)
            if entries:
                reader.commit(entries[-1].end)
            else:
                time.sleep(0.01)
        elapsed, used = time.monotonic() - begun_at, measure_processor(postmaster) - before
    appended = len(times) * (group_bytes // BATCH_BYTES) * BATCH_BYTES
    assert read_bytes == appended, f"{read_bytes} bytes were read of {appended}"
    ordered = sorted(times)
    return {
        "kind": kind,
        "writers": writers,
        "group_kilobytes": group_bytes // 1000,
        "megabytes_per_second": round(appended / 1e6 / elapsed, 1),
        "appends_per_second": round(len(times) / elapsed),
        "append_p50_ms": round(1e3 * ordered[len(ordered) // 2], 1),
        "append_p99_ms": round(1e3 * ordered[len(ordered) * 99 // 100], 1),
        "cpu_ms_per_megabyte": round(1e3 * used / (appended / 1e6), 2),
    }


def make_batches(number: int, first: int, group_bytes: int) -> Iterator[Append]:
    for sequence in range(first, first + group_bytes // BATCH_BYTES):
        yield Append(
            node=f"node-{number}",
            boot_id="b",
            sequence=sequence,
            received_unix_ns=time.time_ns(),
            payload=bytes(BATCH_BYTES),
        )


def measure_processor(postmaster: int) -> float:
    """Seconds of this process, and of a server with its processes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat") if postmaster else ():
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if postmaster in (int(fields[1]), int(path.parent.name)):
                ticks += int(fields[11]) + int(fields[12])
    return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(prog="scripts/bench log", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--kilobytes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    for kind in options.kinds:
        figures = measure(kind, writers=options.writers, group_bytes=options.kilobytes * 1000, seconds=options.seconds)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
