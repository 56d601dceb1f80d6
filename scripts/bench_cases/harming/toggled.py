"""Probes for TLS in processes, put in and taken out by whom holds this, with a reader beside: the product's own
programs, places and reader, in this process; and, to tell what of them costs, less than that.

Ways: `out`, none; `in`, all; `at_once`, the reader takes no breaks (`sensor.core.process`); `nice`, it does and is
nice; `unread`, the product's programs, of which nobody reads what they tell; `empty`, programs at the same places that
return at once, so that the breakpoints alone are left; `single`, one such breakpoint a call, where a write begins.
"""

import collections
import os
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from scripts.bench_cases.capturing.cpu import read_cpu_seconds
from scripts.bench_cases.harming.tls_watcher import READ_SECONDS, make_proc, open_program
from scripts.bench_cases.searching import search_path
from sensor.capture.tls.capture import RING_BYTES, refuse_session
from sensor.capture.tls.processes import ProcessFiles
from sensor.capture.tls.reader import TlsReader
from sensor.core.process import with_breaks
from sensor.ebpf.bpf_syscall import TRACE_UPROBE_MULTI, link_uprobes
from sensor.ebpf.compile import PROG_TYPE_KPROBE, Image, ProgramImage, load_image
from sensor.ebpf.ring import Ring
from sensor.ebpf.uprobes import close_probes

WAYS: Final = ("out", "in", "at_once", "nice", "unread", "empty", "single")
ALL_READ: Final = ("in", "at_once", "nice")
# Of the reader.
NICE: Final = 10
# mov $0, %r0; exit
_RETURN: Final = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """Probes went in or out, in unix seconds; processor seconds of the server then."""

    began: float
    ended: float
    way: str
    cpu_began: float = 0.0
    cpu_ended: float = 0.0


class ToggledProbes:
    """Of these processes alone; out until `change`. The reader runs with that niceness."""

    def __init__(self, pids: Sequence[int], nice: int, *, is_idle: bool) -> None:
        self._nice, self._is_idle = nice, is_idle
        self._pids = list(pids)
        self.changes: list[Change] = []
        self.way = "out"
        nothing = ProgramImage(name="nothing", instructions=_RETURN, maps=[], kind=PROG_TYPE_KPROBE)
        image = Image(maps=[], programs=[nothing], tail_calls=[])
        self._empty = load_image(image, {PROG_TYPE_KPROBE: TRACE_UPROBE_MULTI})
        self._program = open_program()
        self._ring = Ring(self._program.maps["events"], RING_BYTES)
        self._reader = TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=partial(refuse_session, self._program))
        self._places: list[tuple[str, list[tuple[int, str, int]], int]] = []
        with TemporaryDirectory(prefix="apidae-proc-") as name:
            files = ProcessFiles(str(make_proc(Path(name), pids)), min_age_seconds=0, uptime=lambda: 1e12).look()
            for file in files:
                sites = [site.probe for site in search_path(file.ways[0]).sites]
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
        self._empty.close()
        self._ring.close()

    def _read(self) -> None:
        if self._is_idle:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        while not self._stopping.wait(READ_SECONDS):
            self._be_nice()
            records = self._ring.read(100_000)
            if self.way == "unread":  # Away with them, or another way would have them to read.
                collections.deque(records, maxlen=0)
            else:
                self._reader.take(records if self.way == "at_once" else with_breaks(records))

    def _be_nice(self) -> None:
        """As the way is."""
        thread, nice = threading.get_native_id(), NICE if self.way == "nice" else self._nice
        if os.getpriority(os.PRIO_PROCESS, thread) != nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)

    def change(self, way: str) -> None:
        """As in a turn of `sensor.capture.tls.duty`; from `out` to another way, or back."""
        began, cpu_began = time.time(), read_cpu_seconds(self._pids)
        for path, sites, pid in self._places:
            if way in (*ALL_READ, "unread"):
                self._probes += self._program.open_probes(path, sites, pid)
            elif way != "out":
                offsets = {offset: 0 for offset, program, _ in sites if way == "empty" or "write" in program}
                self._probes.append(link_uprobes(path, offsets, self._empty.programs["nothing"], pid))
        if way == "out":
            close_probes(self._probes)
            self._probes.clear()
            for _, _, pid in self._places:
                self._program.look_away(pid)
        self.way = way
        self.changes.append(Change(began, time.time(), way, cpu_began, read_cpu_seconds(self._pids)))
