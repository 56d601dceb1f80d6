"""Probes for TLS in processes, put in and taken out by whom holds this, with a reader beside: the product's own
programs, places and reader, in this process."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from scripts.bench_cases.harming.tls_watcher import READ_SECONDS, make_proc, open_program
from sensor.kernel.ring import Ring
from sensor.kernel.uprobes import close_probes
from sensor.tls.capture import RING_BYTES
from sensor.tls.finder import Finder
from sensor.tls.processes import ProcessFiles
from sensor.tls.reader import TlsReader


@dataclass(frozen=True, slots=True)
class Change:
    """Probes went in or out, in unix seconds."""

    began: float
    ended: float
    is_in: bool


class ToggledProbes:
    """Of these processes alone; out until `change`. The reader runs with that niceness."""

    def __init__(self, pids: Sequence[int], nice: int) -> None:
        self._nice = nice
        self.changes: list[Change] = []
        self.is_in = False
        self._program = open_program()
        self._ring = Ring(self._program.maps["events"], RING_BYTES)
        self._reader = TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=lambda event, verdict: None)
        self._places: list[tuple[str, list[tuple[int, str]], int]] = []
        with TemporaryDirectory(prefix="apidae-proc-") as name:
            files = ProcessFiles(str(make_proc(Path(name), pids)), min_age_seconds=0, uptime=lambda: 1e12).look()
            for file in files:
                sites = [(site.offset, site.program) for site in Finder().find(file.path).sites]
                self._places += [(f"/proc/{pid}/root{file.name}", sites, pid) for pid in file.pids if sites]
        self._probes: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._program.attach()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        close_probes(self._probes)
        self._stopping.set()
        self._thread.join()
        self._program.close()
        self._ring.close()

    def _read(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        while not self._stopping.wait(READ_SECONDS):
            self._reader.take(self._ring.read(100_000))

    def change(self, *, is_in: bool) -> None:
        """As in a turn of `sensor.tls.duty`."""
        began = time.time()
        if is_in:
            for path, sites, pid in self._places:
                self._probes += self._program.open_probes(path, sites, pid)
        else:
            close_probes(self._probes)
            self._probes.clear()
            for _, _, pid in self._places:
                self._program.look_away(pid)
        self.is_in = is_in
        self.changes.append(Change(began, time.time(), is_in))
