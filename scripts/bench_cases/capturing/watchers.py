"""What may watch the traffic of a round: the product, or nothing; and what each is asked at the end.

A `Watcher` runs beside a round. Rivals of the product are in `rivals`.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from scripts.bench_cases.capturing.memory_cgroup import enter, make_memory_cgroup, read_file_bytes, read_memory
from scripts.live.host import start_collector, start_sensor
from scripts.live.program import Program
from scripts.ports import take_port

PAGE = 200
# A stopped sensor has told all; the collector makes its last rows readable within a second or two.
ARRIVAL_TRIES, ARRIVAL_SECONDS = 30, 0.5


class Watcher(Protocol):
    """Something that watches. `pids`: whose time is its cost. `program_pid`: who holds its BPF programs; 0: none."""

    @property
    def pids(self) -> list[int]: ...

    @property
    def program_pid(self) -> int: ...

    def collector_pids(self) -> list[int]: ...

    def read_dropped(self) -> int:
        """Calls that it says it lost so far."""
        ...

    def read_memory(self) -> int: ...

    def count_calls(self, port: int) -> int:
        """Ends it and says how many calls of the server's port it has told in all; -1: it does not tell."""
        ...


OpenWatcher = Callable[[Path], AbstractContextManager[Watcher]]


@dataclass(slots=True, kw_only=True)
class Product:
    """A running sensor with its collector."""

    sensor: Program
    collector: Program
    metrics: str
    url: str
    cgroup: Path | None

    @property
    def pids(self) -> list[int]:
        return [self.sensor.pid]

    @property
    def program_pid(self) -> int:
        return self.sensor.pid

    def collector_pids(self) -> list[int]:
        return [self.collector.pid]

    def read_dropped(self) -> int:
        """All stages together, of the whole node."""
        text = httpx.get(self.metrics, timeout=5).text
        values = re.findall(r"^apidae_sensor_dropped_total\{[^}]*\} (\S+)", text, re.MULTILINE)
        return int(sum(map(float, values)))

    def read_figure(self, name: str) -> float:
        """One of the sensor's metrics that has no labels; 0 where there is none."""
        match = re.search(rf"^apidae_sensor_{name} (\S+)", httpx.get(self.metrics, timeout=5).text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def read_known(self) -> tuple[int, int]:
        """Routes and profiles that the kernel was taught."""
        return int(self.read_figure("taught_routes")), int(self.read_figure("taught_profiles"))

    def read_memory(self) -> int:
        return read_memory(self.cgroup, self.sensor.pid)

    def read_file_bytes(self) -> int:
        """Pages of files in `read_memory`: programs and libraries, charged to whoever read them first."""
        return read_file_bytes(self.cgroup) if self.cgroup is not None else 0

    def count_calls(self, port: int) -> int:
        self.sensor.stop()
        count, tries = -1, 0
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while tries < ARRIVAL_TRIES:
                before, count, tries = count, _count_calls(client, port), tries + 1
                if count == before and count:
                    break
                time.sleep(ARRIVAL_SECONDS)
        return count


def _count_calls(client: httpx.Client, port: int) -> int:
    """Calls of all endpoints of a port in the collector's inventory."""
    calls: int = 0
    cursor = ""
    while True:
        page = client.get("/api/v1/endpoints", params={"limit": PAGE, **({"cursor": cursor} if cursor else {})}).json()
        calls += sum(item["calls"] for item in page["items"] if read_port(item["service"]) == port)
        cursor = page.get("next_cursor") or ""
        if not cursor:
            return calls


def read_port(service: object) -> int:
    return int(service["port"] if isinstance(service, dict) else str(service).rpartition(":")[2])


@contextlib.contextmanager
def run_product(directory: Path, *, settings: str = "") -> Iterator[Product]:
    """A collector and a sensor in its own memory cgroup, both ended at the end. `settings`: TOML for the sensor."""
    directory.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        collector, address = start_collector(directory / "data", directory)
        stack.callback(collector.stop)
        cgroup = make_memory_cgroup()
        if cgroup is not None:
            stack.callback(cgroup.rmdir)
        listen = f"127.0.0.1:{take_port()}"
        options = ["--metrics-listen", listen, "--run-dir", str(directory / "run")]
        if settings:
            (directory / "sensor.toml").write_text(settings)
            options += ["--config", str(directory / "sensor.toml")]
        with enter(cgroup):
            sensor = start_sensor(address, directory / "state", directory, *options)
        stack.callback(sensor.stop)
        yield Product(
            sensor=sensor, collector=collector, metrics=f"http://{listen}/metrics", url=address.url, cgroup=cgroup
        )
