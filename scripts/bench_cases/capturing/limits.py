"""Whether a sensor and the one that takes its place hold the chart's limit of memory: each in a cgroup that has it.

Both compile their kernel side, as after an upgrade. The first learns under load until it is replaced under load; the
second waits beside it, then goes on. A limit that does not hold shows as processes killed.
"""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.bench_cases.capturing.lines import print_line
from scripts.bench_cases.capturing.loads import NO_PAUSE, UnavailableError, Wrk
from scripts.bench_cases.capturing.memory_cgroup import count_kills, enter, make_memory_cgroup, read_memory, read_peak
from scripts.bench_cases.capturing.servers import run_constant
from scripts.bench_cases.restart import WAITING, WAITING_SECONDS
from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program

VALUES_PATH: Final = Path(__file__).parents[3] / "deploy/helm/apidae/values.yaml"
ROUTES, CREDENTIALS = 1_000, 5_000
LOAD_SECONDS: Final = 10
_UNITS: Final = {"Mi": 1 << 20, "Gi": 1 << 30}


def read_limit() -> int:
    """Bytes of memory that the chart gives a sensor by default."""
    limit: str = yaml.safe_load(VALUES_PATH.read_text())["sensor"]["resources"]["limits"]["memory"]
    return int(limit[:-2]) * _UNITS[limit[-2:]]


def measure_limits(name: str, directory: Path) -> None:
    """Prints what both took, and whether one was killed."""
    place = directory / name
    with (
        run_constant(directory / f"{name}-server") as server,
        _run_collector(place) as address,
        contextlib.ExitStack() as stack,
    ):
        load = Wrk(pace=NO_PAUSE, kind="cycle", credentials=CREDENTIALS, routes=ROUTES)
        first = _Limited(place, "first", address, stack)
        first.sensor.wait_for("capturing", WAITING_SECONDS)
        compiled = read_peak(first.cgroup)
        made = [load.run(server.port, LOAD_SECONDS)]
        shutil.rmtree(place / "cache")  # The next one has to compile too.
        second = _Limited(place, "second", address, stack, f"takeover_wait_seconds = {WAITING_SECONDS}\n")
        loading = threading.Thread(target=lambda: made.append(load.run(server.port, 2 * LOAD_SECONDS)))
        loading.start()
        second.wait()
        waiting = read_memory(second.cgroup, second.sensor.pid)
        first_facts = first.tell()
        first.sensor.stop()
        second.sensor.wait_for("capturing", WAITING_SECONDS)
        loading.join()
        made.append(load.run(server.port, LOAD_SECONDS))
        second_facts = second.tell()
        line = {
            "scenario": name,
            "memory_bytes": second_facts["memory_bytes"],
            "limit_bytes": read_limit(),
            "made": sum(made),
            "start_peak_bytes": compiled,
            "waiting_bytes": waiting,
            "first": first_facts,
            "second": second_facts,
        }
        print_line(line)


class _Limited:
    """A sensor in a cgroup with the chart's limit."""

    def __init__(
        self, place: Path, name: str, address: CollectorAddress, stack: contextlib.ExitStack, settings: str = ""
    ) -> None:
        cgroup = make_memory_cgroup(read_limit())
        if cgroup is None:
            raise UnavailableError("no memory cgroup can be made")
        self.cgroup = cgroup
        stack.callback(cgroup.rmdir)
        logs = place / name
        logs.mkdir()
        (logs / "sensor.toml").write_text(settings)
        options = ["--config", str(logs / "sensor.toml")]
        options += ["--run-dir", str(place / "run")]
        with enter(cgroup):
            self.sensor: Program = start_sensor(address, place / "state", logs, *options, wait=False)
        stack.callback(self.sensor.stop)

    def wait(self) -> None:
        """Till it is ready beside the other."""
        self.sensor.wait_until_logged(WAITING, WAITING_SECONDS)

    def tell(self) -> dict[str, Any]:
        """What it took so far."""
        return {
            "peak_bytes": read_peak(self.cgroup),
            "memory_bytes": read_memory(self.cgroup, self.sensor.pid),
            "killed": count_kills(self.cgroup),
        }


@contextlib.contextmanager
def _run_collector(place: Path) -> Iterator[CollectorAddress]:
    place.mkdir()
    collector, address = start_collector(place / "data", place)
    try:
        yield address
    finally:
        collector.stop()
