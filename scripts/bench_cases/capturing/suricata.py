"""Debian's suricata as a watcher: it logs HTTP on loopback, tuned to see all (TPACKET_V3, no stream depth limit)."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.loads import UnavailableError
from scripts.bench_cases.capturing.memory_cgroup import read_memory

_READY_SECONDS: Final = 60.0
_CONFIGURATION: Final = """%YAML 1.1
---
vars: {{address-groups: {{HOME_NET: "any", EXTERNAL_NET: "any"}}}}
default-log-dir: {directory}
stats: {{enabled: yes, interval: 1}}
outputs:
  - eve-log: {{enabled: yes, filetype: regular, filename: eve.json, types: [http, {{stats: {{threads: no}}}}]}}
af-packet:
  - {{interface: lo, threads: 1, cluster-id: 99, cluster-type: cluster_flow, defrag: no, use-mmap: yes, tpacket-v3: yes,
      ring-size: 20000, block-size: 1048576, checksum-checks: no}}
app-layer: {{protocols: {{http: {{enabled: yes}}}}}}
stream: {{memcap: 256mb, checksum-validation: no, midstream: true, async-oneside: false,
          reassembly: {{memcap: 512mb, depth: 0}}}}
max-pending-packets: 8192
runmode: workers
detect: {{profile: low}}
logging: {{default-log-level: notice, outputs: [{{file: {{enabled: yes, filename: {directory}/suricata.log}}}}]}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suricata:
    """A running suricata."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    @property
    def program_pid(self) -> int:
        return 0

    def collector_pids(self) -> list[int]:
        return []

    def read_dropped(self) -> int:
        """Packets, by its own statistics; not calls."""
        last = 0
        for line in self._read_lines('"event_type":"stats"'):
            last = int(json.loads(line)["stats"]["capture"]["kernel_drops"])
        return last

    def read_memory(self) -> int:
        return read_memory(None, self.process.pid)

    def count_calls(self, port: int) -> int:
        self.process.terminate()
        self.process.wait(_READY_SECONDS)
        return sum(json.loads(line)["dest_port"] == port for line in self._read_lines('"event_type":"http"'))

    def _read_lines(self, part: str) -> Iterator[str]:
        with (self.directory / "eve.json").open() as log:
            yield from (line for line in log if part in line and line.endswith("\n"))


@contextlib.contextmanager
def run_suricata(directory: Path) -> Iterator[Suricata]:
    """Raises UnavailableError where it is not installed."""
    program = shutil.which("suricata")
    if program is None:
        raise UnavailableError("suricata is not installed: apt-get install suricata")
    directory.mkdir(parents=True)
    configuration = directory / "suricata.yaml"
    configuration.write_text(_CONFIGURATION.format(directory=directory))
    log = directory / "suricata.log"
    process = subprocess.Popen(
        [program, "-c", configuration, "--af-packet=lo", "-S", "/dev/null", "-l", directory, "-k", "none"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not (log.exists() and "engine started" in log.read_text().lower()):
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text()[-300:] if log.exists() else "it wrote no log"
                raise UnavailableError(f"suricata did not start: {text}")
            time.sleep(0.2)
        yield Suricata(process=process, directory=directory)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(_READY_SECONDS)
