"""What workloads were called before Kubernetes said who they are: calls of that time get their name by it."""

import threading
from typing import Final

# Containers that were called by their ids; the first ones are forgotten, and their calls keep the id.
FORMER_NAMES_MAX: Final = 1_000


class FormerNames:
    """Thread-safe: one thread renames, another tells."""

    def __init__(self) -> None:
        self._workloads: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def add(self, former: str, *, namespace: str, workload: str) -> None:
        """What was called `former` is this workload."""
        with self._lock:
            self._workloads[former] = namespace, workload
            if len(self._workloads) > FORMER_NAMES_MAX:
                del self._workloads[next(iter(self._workloads))]

    def by_workload(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Former names by namespace and workload."""
        found: dict[tuple[str, str], list[str]] = {}
        with self._lock:
            for former, place in self._workloads.items():
                found.setdefault(place, []).append(former)
        return {place: tuple(names) for place, names in found.items()}
