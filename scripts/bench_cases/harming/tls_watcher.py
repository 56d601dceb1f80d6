"""What a sensor does to processes in order to read TLS, over and over: its probes in, its reader, its probes out.

    python -m scripts.bench_cases.harming.tls_watcher PID.. --seed N [--is-classic]

The product's own attacher, programs and reader, without the rest of the sensor, whose start takes seconds. Only these
processes are looked at. Says `attached` each time and, when it is told to end, `done` with how often. With
`--is-classic` the probes are events instead of links, as before Linux 6.6.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from scripts.live.host import CACHE_DIRECTORY
from sensor.capture.tls.attacher import Attacher
from sensor.capture.tls.capture import RING_BYTES, refuse_session
from sensor.capture.tls.choice import TlsChoices
from sensor.capture.tls.finder import search_file
from sensor.capture.tls.processes import ProcessFiles
from sensor.capture.tls.reader import TlsReader
from sensor.capture.tls.turns import TurnTaker
from sensor.core.read_tls import ReadTls
from sensor.core.sandbox import Sandbox
from sensor.ebpf.ring import Ring
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import TlsProgram, close_probes, load_tls

ATTACHED_SECONDS: Final = (0.05, 1.0)
DETACHED_SECONDS: Final = (0.02, 0.5)
READ_SECONDS: Final = 0.025


def open_program(*, is_linking: bool = True) -> TlsProgram:
    """The product's, with its budget lifted: every call goes up. `is_linking`: False as on a kernel without links."""
    settings = ProbeSettings(ring_bytes=RING_BYTES, calls_per_second=10**6, calls_burst=10**6)
    program = load_tls(settings, CACHE_DIRECTORY, is_linking=is_linking)
    program.try_choosing(Path("/proc"))
    return program


def make_proc(directory: Path, pids: Sequence[int]) -> Path:
    """A proc tree with these processes alone."""
    for pid in pids:
        (directory / str(pid)).symlink_to(f"/proc/{pid}")
    return directory


def say(event: str, **more: object) -> None:
    """A line for `scripts.live.program`."""
    print(json.dumps({"event": event, **more}), flush=True)


def watch(pids: Sequence[int], seed: int, stopping: threading.Event, *, is_classic: bool) -> tuple[int, int]:
    """Until it is told to stop: how often the probes went in, and what was read."""
    chance = random.Random(seed)
    program = open_program(is_linking=not is_classic)
    # Started nice, for its start is not what is looked at; but who puts probes in holds locks of the process meanwhile.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    ring, cycles = Ring(program.maps["events"], RING_BYTES), 0
    reader = TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=partial(refuse_session, program))
    with tempfile.TemporaryDirectory(prefix="apidae-proc-") as name:
        proc = str(make_proc(Path(name), pids))
        while not stopping.is_set():
            files = ProcessFiles(proc, min_age_seconds=0, uptime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
            attacher = Attacher(
                turns=TurnTaker(
                    prober=program,
                    close_probes=close_probes,
                    choices=TlsChoices(ReadTls.FULL, calls_per_second=2_000, calls_burst=5_000),
                    duty=None,
                    monotonic=time.monotonic,
                ),
                processes=files,
                searcher=Sandbox(search_file),
                monotonic=time.monotonic,
            )
            attacher.start()
            while not attacher.files and not stopping.wait(READ_SECONDS):
                pass  # The first look is in its thread.
            cycles += 1
            say("attached", probes=sum(file.probes for file in attacher.files))
            until = time.monotonic() + chance.uniform(*ATTACHED_SECONDS)
            while time.monotonic() < until and not stopping.wait(READ_SECONDS):
                reader.take(ring.read(100_000))
            attacher.stop()
            program.detach()
            stopping.wait(chance.uniform(*DETACHED_SECONDS))
    reader.take(ring.read(1 << 20))
    return cycles, reader.stage.count().used


def main() -> None:
    parser = argparse.ArgumentParser(prog="tls_watcher")
    parser.add_argument("pids", nargs="+", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--is-classic", action="store_true")
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    cycles, calls = watch(options.pids, options.seed, stopping, is_classic=options.is_classic)
    say("done", cycles=cycles, calls=calls)


if __name__ == "__main__":
    main()
