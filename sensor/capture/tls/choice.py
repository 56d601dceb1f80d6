"""Says for each process whether its TLS is read, how much of it, and why.

`read_tls` of the settings holds for everybody. In Kubernetes, the label `apidae.io/read-tls` of a namespace and the
annotation of a Pod choose again: the lesser of both. `off` in the settings is final.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

Port = tuple[int, int]  # Cgroup and port of a server.


class LatencyTrials(Protocol):
    """Whether answers of a server take longer while it is read (sensor.capture.tls.latency). Times are monotonic
    seconds. A trial is of a port: all of its processes are switched together."""

    trials_total: int
    stops_total: int

    def step(
        self, now: float, waits: Mapping[Port, Sequence[int]], members: Mapping[Port, Mapping[int, bool]]
    ) -> None:
        """Once a second, and when `next_switch` is due. `waits`: answers so far by their time, one count a bucket;
        `members`: the processes that were read at a port and live, and whether their probes are in place now. What was
        counted while they were not all as the slot wants says nothing."""

    def next_switch(self) -> float:
        """When `step` has something to do before its second is over; infinite where nothing is due."""

    @property
    def slots(self) -> Mapping[int, bool]:
        """Processes in a trial, and whether their probes are wanted in this slot."""

    @property
    def stopped(self) -> Mapping[int, str]:
        """Processes that are left alone, and why, in a sentence for the coverage."""
