"""Shares the few places for probes of single processes among those that run a file. Pure: numbers and cgroups come in.

Places go along the cgroup tree, so a container with a thousand processes of a shared library takes no more of them than
its neighbour with one. Within a cgroup processes follow each other, and those whose probes were never hit come less
often.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from sensor.capture.tls.processes import CgroupShares

# Processes of a file that have probes of their own at a time.
MAX_APART: Final = 32
# So many times as long waits a process whose probes were never hit.
IDLE_WAIT: Final = 6


class ProbePlaces:
    """Of one file. Mutable: who had a place when."""

    def __init__(self) -> None:
        self._round = -1
        self._served: dict[int, int] = {}  # The last round of a process; of a new one, some time ago.
        self._chosen: frozenset[int] = frozenset()
        self.shares: Mapping[int, float] = {}  # Of the time in which a process has a place; empty: all have one.

    def choose(self, number: int, cgroups: Mapping[int, str], hit: Collection[int]) -> Collection[int]:
        """Processes that have a place in this round. `cgroups`: of each one that may be read; `hit`: those whose probes
        were hit at any time. Within a round nobody gives a place to another."""
        if len(cgroups) <= MAX_APART:
            self._chosen, self._served, self.shares = frozenset(), {}, {}
            return cgroups.keys()
        kept = self._chosen & cgroups.keys() if number == self._round else frozenset()
        if len(kept) < MAX_APART:
            self._served = {pid: self._served.get(pid, number - IDLE_WAIT) for pid in cgroups}
            kept = self._fill(number, kept, cgroups, hit)
            self._served.update(dict.fromkeys(kept, number))
            self._note_shares(kept, cgroups)
        self._round, self._chosen = number, kept
        return kept

    def _fill(
        self, number: int, kept: Collection[int], cgroups: Mapping[int, str], hit: Collection[int]
    ) -> frozenset[int]:
        """With others up to `MAX_APART`."""

        def order(pid: int) -> tuple[float, int]:
            waited = number - self._served[pid]
            return -waited / (1 if pid in hit else IDLE_WAIT), pid

        shares, chosen = CgroupShares(), set(kept)
        for pid in kept:
            shares.add(cgroups[pid], 1)
        waiting: dict[str, list[int]] = {}
        for pid in sorted(cgroups.keys() - chosen, key=order, reverse=True):
            waiting.setdefault(cgroups[pid], []).append(pid)
        queue = [(shares.rank(cgroup), order(pids[-1]), cgroup) for cgroup, pids in waiting.items()]
        heapq.heapify(queue)
        while queue and len(chosen) < MAX_APART:
            rank, _, cgroup = heapq.heappop(queue)
            pids = waiting[cgroup]
            if rank == shares.rank(cgroup):
                chosen.add(pids.pop())
                shares.add(cgroup, 1)
            if pids:
                heapq.heappush(queue, (shares.rank(cgroup), order(pids[-1]), cgroup))
        return frozenset(chosen)

    def _note_shares(self, chosen: Collection[int], cgroups: Mapping[int, str]) -> None:
        processes, places = Counter(cgroups.values()), Counter(cgroups[pid] for pid in chosen)
        usual = MAX_APART / len(processes)
        self.shares = {pid: min(1.0, (places[cgroup] or usual) / processes[cgroup]) for pid, cgroup in cgroups.items()}
