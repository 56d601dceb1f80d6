"""Watchers (`tls_watcher`) that come, attach and detach, and end at random: told to, or by SIGKILL, also while they
attach. And whether their probes are out of the processes: a breakpoint left in a text would show."""

import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_cases.harming.disturbing import Disturbing
from scripts.bench_cases.harming.tls_watcher import make_proc
from scripts.bench_cases.searching import search_path
from scripts.live.kernel_objects import list_held
from scripts.live.program import Program
from sensor.capture.tls.processes import ProcessFiles

LIVING_SECONDS: Final = (0.0, 4.0)
KILLED_SHARE: Final = 0.6
ATTACH_SECONDS: Final = 60.0
CLEAN_SECONDS: Final = 30.0
# What probes do to a process is looked for, and not what a watcher's start takes of the processors.
NICE: Final = ("nice", "-n", "19")


class TlsDisturber(Disturbing):
    """Watchers of these processes; with `is_classic` as on kernels before 6.6."""

    def __init__(self, pids: Sequence[int], directory: Path, seed: int, *, is_classic: bool = False) -> None:
        super().__init__(directory, seed)
        self._pids = pids
        self._options = ["--is-classic"] if is_classic else []

    def _live_once(self) -> None:
        command = [*NICE, sys.executable, "-m", "scripts.bench_cases.harming.tls_watcher", *map(str, self._pids)]
        command += ["--seed", str(self._random.randrange(1 << 30)), *self._options]
        watcher = Program("watcher", command, self._directory / "watcher.log")
        try:
            watcher.wait_for("attached", ATTACH_SECONDS)
            self.held |= list_held(watcher.pid)
            self._rest(LIVING_SECONDS)
            self.held |= list_held(watcher.pid)
            if not self.actions["killed"] or self._random.random() < KILLED_SHARE:
                watcher.kill()
                self.actions["killed"] += 1
            else:
                self._stop(watcher)
            self.actions["attached"] += watcher.log_path.read_text().count('"attached"')
        finally:
            watcher.kill()

    def _stop(self, watcher: Program) -> None:
        code = watcher.stop(ATTACH_SECONDS)
        self.actions["stopped"] += 1
        if code:
            self.failures.append(f"a watcher that was stopped ended with {code}: {watcher.log_tail()}")


def list_tree(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in path.read_text().split()]
    return found


@dataclass(frozen=True, slots=True)
class Texts:
    """Places of probes in processes' memory: how many were looked at, and those where it is not what the file says."""

    looked: int
    changed: tuple[str, ...]


def read_texts(pids: Sequence[int]) -> Texts:
    """Now."""
    with tempfile.TemporaryDirectory(prefix="apidae-proc-") as name:
        proc = make_proc(Path(name), pids)
        looked, changed = 0, list[str]()
        for mapped in ProcessFiles(str(proc), min_age_seconds=0, uptime=lambda: math.inf).look():
            content = Path(mapped.ways[0]).read_bytes()
            found = search_path(mapped.ways[0])
            offsets = sorted({site.offset for site in (*found.sites, *found.plain)})
            texts = [(pid, *text) for pid in pids for text in _list_texts(pid, mapped.name)]
            for pid, start, first, size in texts:
                for offset in offsets:
                    if first <= offset < first + size:
                        looked += 1
                        if _read_byte(pid, start + offset - first) != content[offset]:
                            changed.append(f"{mapped.name}+{offset:#x} of process {pid}")
    return Texts(looked, tuple(changed))


def wait_for_texts(pids: Sequence[int]) -> Texts:
    """When nothing is changed any more, or what still is after a while."""
    deadline = time.monotonic() + CLEAN_SECONDS
    while True:
        texts = read_texts(pids)
        if not texts.changed or time.monotonic() > deadline:
            return texts
        time.sleep(0.2)


def _list_texts(pid: int, name: str) -> list[tuple[int, int, int]]:
    """Executable mappings of a file: address, offset in the file, length."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[5] == name:
            start, _, end = fields[0].partition("-")
            found.append((int(start, 16), int(fields[2], 16), int(end, 16) - int(start, 16)))
    return found


def _read_byte(pid: int, address: int) -> int:
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, 1, address)[0]
    finally:
        os.close(descriptor)
