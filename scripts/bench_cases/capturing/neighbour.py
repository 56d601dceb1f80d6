"""A hostile cgroup floods heads that nobody knows; its neighbour must keep exact counts and its share of heads.

Both are nginx servers in cgroups of their own. The neighbour's consumers are all new while the flood lasts, so that
each of them needs a head.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

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
    """Prints what became of the neighbour's calls."""
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_cgroups)
        servers = []
        for role in ("hostile", "neighbour"):
            with _own_cgroup(role):
                servers.append(stack.enter_context(run_constant(directory / f"{name}-{role}")))
        hostile, neighbour = servers
        product = stack.enter_context(run_product(directory / name))
        flooded: list[int] = []
        flood = threading.Thread(
            target=lambda: flooded.append(_FLOOD.run(hostile.port, SECONDS + 2 * FLOOD_LEAD_SECONDS))
        )
        flood.start()
        threading.Event().wait(FLOOD_LEAD_SECONDS)
        made = _NEIGHBOUR.run(neighbour.port, SECONDS)
        flood.join()
        threading.Event().wait(FLOOD_LEAD_SECONDS)
        memory, dropped = product.read_memory(), product.read_dropped()
        seen, flood_seen = product.count_calls(neighbour.port), product.count_calls(hostile.port)
        known, consumers = _count_known(product, neighbour.port)
        line = {
            "scenario": name,
            "made": made,
            "seen": seen,
            "seen_at_their_route": known,
            "consumers": CONSUMERS,
            "consumers_told": consumers,
            "flood_made": flooded[0],
            "flood_seen": flood_seen,
            "dropped": dropped,
            "memory_bytes": memory,
        }
        print(json.dumps(line), flush=True)


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
