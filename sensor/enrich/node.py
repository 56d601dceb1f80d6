"""Puts the identity of this node together and keeps it fresh: what the sensor's composition root asks for.

`build_identity` wires the tables to the running kernel; `RefreshTimer` reads them anew in a thread, so that the hot
path never waits for more than a first sight.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.container_names import name_container
from sensor.enrich.identity import NodeIdentity
from sensor.enrich.listeners import ListenerTable
from sensor.enrich.processes import ProcessTable
from sensor.enrich.sockets import KernelSockets

# A process that takes over a port is renamed after this at the latest; a reading of 35 ms every 15 s is 0.2 % of a
# core.
REFRESH_SECONDS = 15.0


def build_identity(
    *,
    cluster: str,
    node: str,
    cgroup_mount: Path | None,
    proc: Path = Path("/proc"),
    host_root: Path = Path("/"),
    clock: Callable[[], float] = time.monotonic,
) -> tuple[NodeIdentity, ListenerTable]:
    """The identity, and the listeners it asks (for the coverage). Nothing is read yet: call `refresh` or start a timer.

    `cgroup_mount` is `find_cgroup2_mount`'s, None where there is none; `host_root` is where the host's files are
    mounted, for names of containers.
    """
    processes = ProcessTable(proc)
    sockets = KernelSockets(processes, root=proc)
    listeners = ListenerTable(sockets, processes, clock=clock)
    identity = NodeIdentity(
        cluster=cluster,
        node=node,
        cgroups=CgroupTree(cgroup_mount, clock=clock),
        listeners=listeners,
        sockets=sockets,
        processes=processes,
        name_container=partial(name_container, root=host_root),
        clock=clock,
    )
    return identity, listeners


class RefreshTimer:
    """Calls `refresh` at once and then every `interval_seconds`, in a thread of its own."""

    def __init__(self, refresh: Callable[[], None], *, interval_seconds: float = REFRESH_SECONDS) -> None:
        self._refresh = refresh
        self._interval_seconds = interval_seconds
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apidae-identity", daemon=True)
        self.failed_count = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._is_stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._refresh()
            except Exception:  # A loop's boundary: names get old, capture goes on, and the count says so.
                self.failed_count += 1
            if self._is_stopping.wait(self._interval_seconds):
                return
