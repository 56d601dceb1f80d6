"""What a hostile cgroup does to its neighbour, which must keep exact counts and its share of what goes up.

Both are nginx servers in cgroups of their own. In one case the flood is of heads that nobody knows, and the neighbour's
consumers are all new while it lasts, so that each of them needs a head. In the other all is known, and the sensor is
stopped again and again, so that the flood fills the ring of records.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from scripts.bench_cases.capturing.lines import print_line
from scripts.bench_cases.capturing.loads import NO_PAUSE, UnavailableError, Wrk
from scripts.bench_cases.capturing.servers import run_constant
from scripts.bench_cases.capturing.watchers import Product, read_port, run_product
from sensor.enrich.cgroup_tree import find_cgroup2_mount

SECONDS: Final = 10
FLOOD_LEAD_SECONDS: Final = 3
CONSUMERS: Final = 200
# A call each 20 ms on 4 connections: 200 a second.
_NEIGHBOUR = Wrk(pace=20.0, kind="cycle", credentials=CONSUMERS, connections=4)
_FLOOD = Wrk(pace=NO_PAUSE, kind="once", routes=10_000, connections=16)
_KNOWN_FLOOD = Wrk(pace=NO_PAUSE, connections=16)
# Of the sensor, by turns; a full ring takes half a second.
STOPPED_SECONDS: Final = 2.0
RUNNING_SECONDS: Final = 1.0


@contextlib.contextmanager
def _own_cgroup(name: str) -> Iterator[None]:
    """What is started meanwhile is in a cgroup of that name."""
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    if mount is None or not os.access(mount, os.W_OK):
        raise UnavailableError("no cgroup v2 that can be written")
    back = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    path = mount / f"apidae-bench-{name}-{os.getpid()}"
    path.mkdir(exist_ok=True)
    (path / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (mount / back.lstrip("/") / "cgroup.procs").write_text("0")


def measure_neighbour(name: str, directory: Path) -> None:
    """Prints what became of the neighbour's calls while heads were flooded."""
    with _run_pair(name, directory) as (product, hostile, neighbour):
        flood = _Flood(_FLOOD, hostile, SECONDS + 2 * FLOOD_LEAD_SECONDS)
        threading.Event().wait(FLOOD_LEAD_SECONDS)
        made = _NEIGHBOUR.run(neighbour, SECONDS)
        flood.join()
        _tell(name, product, made=made, neighbour=neighbour, flooded=flood.made, hostile=hostile)


def measure_full_ring(name: str, directory: Path) -> None:
    """Prints the same of a ring of records that was full most of the time."""
    with _run_pair(name, directory) as (product, hostile, neighbour):
        made, flooded = _NEIGHBOUR.run(neighbour, FLOOD_LEAD_SECONDS), _KNOWN_FLOOD.run(hostile, FLOOD_LEAD_SECONDS)
        flood = _Flood(_KNOWN_FLOOD, hostile, SECONDS)
        stopping = threading.Thread(target=_stop_by_turns, args=(product.sensor.pid, SECONDS))
        stopping.start()
        made += _NEIGHBOUR.run(neighbour, SECONDS)
        stopping.join()
        flood.join()
        _tell(name, product, made=made, neighbour=neighbour, flooded=flooded + flood.made, hostile=hostile)


@contextlib.contextmanager
def _run_pair(name: str, directory: Path) -> Iterator[tuple[Product, int, int]]:
    """A sensor, and the ports of a hostile server and its neighbour."""
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_cgroups)
        ports = []
        for role in ("hostile", "neighbour"):
            with _own_cgroup(role):
                ports.append(stack.enter_context(run_constant(directory / f"{name}-{role}")).port)
        product = stack.enter_context(run_product(directory / name))
        yield product, ports[0], ports[1]


class _Flood:
    """A load that runs beside."""

    def __init__(self, load: Wrk, port: int, seconds: int) -> None:
        self.made = 0
        self._thread = threading.Thread(target=self._run, args=(load, port, seconds))
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self, load: Wrk, port: int, seconds: int) -> None:
        self.made = load.run(port, seconds)


def _stop_by_turns(pid: int, seconds: float) -> None:
    for _ in range(int(seconds / (STOPPED_SECONDS + RUNNING_SECONDS))):
        os.kill(pid, signal.SIGSTOP)
        try:
            threading.Event().wait(STOPPED_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        threading.Event().wait(RUNNING_SECONDS)


def _tell(name: str, product: Product, *, made: int, neighbour: int, flooded: int, hostile: int) -> None:
    threading.Event().wait(FLOOD_LEAD_SECONDS)
    memory, dropped = product.read_memory(), product.read_dropped()
    seen, flood_seen = product.count_calls(neighbour), product.count_calls(hostile)
    known, consumers = _count_known(product, neighbour)
    line = {
        "scenario": name,
        "made": made,
        "seen": seen,
        "seen_at_their_route": known,
        "consumers": CONSUMERS,
        "consumers_told": consumers,
        "flood_made": flooded,
        "flood_seen": flood_seen,
        "dropped": dropped,
        "memory_bytes": memory,
    }
    print_line(line)


def _remove_cgroups() -> None:
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    assert mount is not None
    for path in mount.glob(f"apidae-bench-*-{os.getpid()}"):
        with contextlib.suppress(OSError):
            path.rmdir()


def _count_known(product: Product, port: int) -> tuple[int, int]:
    """Calls at routes of a port that are not `other`, and how many principals were told of them."""
    calls = principals = 0
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=10) as client:
        for item in client.get("/endpoints", params={"limit": 200}).json()["items"]:
            if read_port(item["service"]) == port and item["method"] != "_OTHER":
                calls += item["calls"]
                principals = max(principals, int(item.get("consumers", 0)))
    return calls, principals
