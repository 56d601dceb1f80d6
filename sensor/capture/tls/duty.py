"""Decides which processes' TLS is read all the time, and which in turns because they take more than their budget.

A budget is so many calls a second, and so much of a process's own processor time for its breakpoints, which cost it
some 1 us each whether a call is reported or not. So beyond the budget, only removing the probes saves anything. In each
period of a few seconds, a turn lasts until it has used the period's budget. What a process does is measured in the
turns. Calls between turns are estimated (sensor.capture.tls.capture). Pure: times and counts come in.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

# As the governor of heads (sensor.offload.governor): a burst is over after so many seconds above the budget, and
# below this part of it there is room for all. Where a process's own time counts, a second with the calls of two is
# enough: its first seconds are those in which a busy server would notice that it is read.
PATIENCE: Final = 2
COMFORT: Final = 0.7
# All processes together have so many times the calls of one that is read in full (bpf/syscall_budget.h).
NODE_FACTOR: Final = 2
# Putting probes in and taking them out costs some 0.1 s, little of it the processor's.
LEAST_TURN_SECONDS: Final = 0.1
LONGEST_PERIOD_SECONDS: Final = 10.0
# Less says little of a rate: the switch of another process came between two looks.
LEAST_LOOK_SECONDS: Final = 0.5
# Breakpoints that take so much of one core are within every budget: a server with few calls uses so little itself that
# a part of it is a call or two a second.
FREE_CORE_RATIO: Final = 0.001
# The kernel counts a process's time in steps of 10 ms, so it is taken over so long at least.
CPU_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Of one process: `calls_per_second` that are read, and the part of its own processor time that its breakpoints may
    take, None for any. `most_per_second`: the kernel refuses calls beyond it within a turn; None: it refuses none."""

    calls_per_second: float
    cpu_ratio: float | None = None
    period_seconds: float
    most_per_second: int | None = None

    @classmethod
    def of_burst(cls, calls_per_second: int, calls_burst: int) -> "Budget":
        """Of so many calls, in turns so long that all of one may be read: as many as may come at once."""
        seconds = min(max(calls_burst / calls_per_second, 1.0), LONGEST_PERIOD_SECONDS)
        return cls(calls_per_second=calls_per_second, period_seconds=seconds)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process did so far where it has probes: calls, nanoseconds of its breakpoints, and which of the calls the
    kernel refused."""

    calls: int
    probe_ns: float
    refused: int = 0


NO_USAGE: Final = Usage(0, 0.0)


@dataclass(slots=True)
class _Watched:
    """One process. `share` of the time it is read; below 1 it has turns."""

    usage: Usage  # When it was looked at last, or when its turn began.
    since: float
    rate: float = 0.0  # Calls a second, when that was last known; those that the kernel refuses in `auto` cost nothing.
    is_refused: bool = False  # The kernel refused some of its calls since the look before.
    probe_ratio: float = 0.0  # Of one core, for its breakpoints, while it is read.
    seconds_over: int = 0
    share: float = 1.0
    is_read: bool = True
    switch_at: float = 0.0  # Where it has turns: when this one ends, or the next one begins.
    next_turn: float = 0.0
    cpu_ns: int = -1  # At `cpu_at`; below 0: nobody asked yet.
    cpu_at: float = 0.0
    cpu_ratio: float = -1.0  # Of one core, over the last while; below 0: not known yet.


class DutyCycle:
    """Mutable: what each process did so far."""

    def __init__(
        self,
        *,
        node_calls_per_second: float,
        find_budget: Callable[[int], Budget],
        read_cpu_ns: Callable[[int], int] = lambda _: 0,
    ) -> None:
        """`find_budget` is of a process; `read_cpu_ns`: processor time so far of a process, asked for where its
        breakpoints are more than `FREE_CORE_RATIO`."""
        self._find_budget = find_budget
        self._read_cpu_ns = read_cpu_ns
        self._node_calls_per_second = node_calls_per_second
        self._watched: dict[int, _Watched] = {}
        self._looked_at: float | None = None  # The last time.
        self.turns = 0
        self.evictions = 0  # Accounts that were gone though their process lives.

    def limit(self, node_calls_per_second: float) -> None:
        """The budget of the node, as governed. From any thread: it holds from the next step on."""
        self._node_calls_per_second = node_calls_per_second

    @property
    def followed(self) -> Collection[int]:
        """Processes that are followed."""
        return self._watched.keys()

    @property
    def shares(self) -> Mapping[int, float]:
        """Processes that are read a part of the time, and which."""
        return {pid: one.share for pid, one in self._watched.items() if one.share < 1}

    @property
    def over(self) -> Mapping[int, float]:
        """The same, with those that take more than their budget and have no turns: their calls are refused."""
        return {
            pid: one.share for pid, one in self._watched.items() if one.share < 1 or one.seconds_over or one.is_refused
        }

    def is_read(self, pid: int) -> bool:
        """Whether its probes are to be in place now."""
        one = self._watched.get(pid)
        return one is None or one.is_read

    def next_switch(self) -> float:
        """When `step` has something to do before its second is over."""
        return min((one.switch_at for one in self._watched.values() if one.share < 1), default=float("inf"))

    def drop(self, pids: Iterable[int]) -> None:
        """These are not followed any more."""
        for pid in pids:
            self._watched.pop(pid, None)

    def begin_turn(self, pid: int, now: float) -> None:
        """The probes of a process are in place: its turn lasts from now on."""
        one = self._watched.get(pid)
        if one is not None and one.share < 1 and one.is_read:
            one.switch_at += now - one.since
            one.since = now

    def step(self, now: float, usages: Mapping[int, Usage]) -> None:
        """Usage by process so far. Once a second, and when it is time for a switch. A process is followed until `drop`:
        whoever fills the kernel's table of accounts has those of resting processes evicted, which then begin at 0."""
        budgets = {pid: self._find_budget(pid) for pid in usages.keys() | self._watched.keys()}
        wanted = [min(one.rate, budgets[pid].calls_per_second) for pid, one in self._watched.items()]
        part = find_part(wanted, self._node_calls_per_second)
        since, self._looked_at = self._looked_at, now
        for pid, budget in budgets.items():
            one, usage = self._watched.get(pid), usages.get(pid, NO_USAGE)
            if one is None:
                # What it did, it did since the last look: it had no account then. One that was off before may have
                # done more, and has one turn too many.
                one = _Watched(usage=usage, since=now) if since is None else _Watched(usage=NO_USAGE, since=since)
                self._watched[pid] = one
            if usage.calls < one.usage.calls:
                self.evictions += 1
                one.usage = NO_USAGE
            limit = min(budget.calls_per_second, part)
            if one.share < 1:
                self._turn(pid, one, now, usage, budget, limit)
            else:
                self._compare(pid, one, now, usage, budget, limit)

    def _compare(self, pid: int, one: _Watched, now: float, usage: Usage, budget: Budget, limit: float) -> None:
        if now - one.since < LEAST_LOOK_SECONDS:
            return
        _measure(one, now, usage, budget)
        excess = self._find_excess(pid, one, now, budget, limit)
        seconds = min(int(excess), PATIENCE) if budget.cpu_ratio is not None else 1
        one.seconds_over = one.seconds_over + seconds if excess > 1 else 0
        if one.seconds_over >= PATIENCE:
            one.share = _find_share(excess, budget)
            one.is_read, one.switch_at = False, now + budget.period_seconds

    def _turn(self, pid: int, one: _Watched, now: float, usage: Usage, budget: Budget, limit: float) -> None:
        if now < one.switch_at:
            return
        if not one.is_read:
            one.is_read, one.usage, one.since = True, usage, now
            one.switch_at = now + max(LEAST_TURN_SECONDS, one.share * budget.period_seconds)
            one.next_turn = now + budget.period_seconds
            self.turns += 1
            return
        _measure(one, now, usage, budget)
        excess = self._find_excess(pid, one, now, budget, limit)
        if excess < COMFORT:
            one.share, one.seconds_over = 1.0, 0
            return
        one.share = _find_share(excess, budget)
        one.is_read, one.switch_at = False, max(one.next_turn, now + LEAST_TURN_SECONDS)

    def _find_excess(self, pid: int, one: _Watched, now: float, budget: Budget, limit: float) -> float:
        """So many times its budget a process would take if it were read all the time."""
        excess = one.rate / limit
        if budget.cpu_ratio is None or one.probe_ratio <= FREE_CORE_RATIO:
            return excess
        if now - one.cpu_at >= CPU_SECONDS or one.cpu_ns < 0:
            cpu_ns = self._read_cpu_ns(pid)
            if one.cpu_ns >= 0:
                one.cpu_ratio = max(0, cpu_ns - one.cpu_ns) / 1e9 / (now - one.cpu_at)
            one.cpu_ns, one.cpu_at = cpu_ns, now
        if one.cpu_ratio < 0:
            return excess
        return max(excess, one.probe_ratio / max(FREE_CORE_RATIO, budget.cpu_ratio * one.cpu_ratio))


def _measure(one: _Watched, now: float, usage: Usage, budget: Budget) -> None:
    """What it did since the last time, or in its turn."""
    seconds = max(now - one.since, LEAST_TURN_SECONDS)
    refused = usage.refused - one.usage.refused
    one.is_refused = refused > 0
    one.rate = (usage.calls - one.usage.calls - (refused if budget.most_per_second is not None else 0)) / seconds
    one.probe_ratio = (usage.probe_ns - one.usage.probe_ns) / 1e9 / seconds
    one.usage, one.since = usage, now


def _find_share(excess: float, budget: Budget) -> float:
    """With the shortest turn at least, and the shortest rest."""
    least = LEAST_TURN_SECONDS / budget.period_seconds
    return min(max(1 / excess, least), 1 - least)


def find_part(wanted: Iterable[float], room: float) -> float:
    """Calls a second of each process that may be read, where all together may have `room`: who needs less than its part
    leaves the rest to the others. Infinite where there is room for all."""
    waiting = sorted(wanted)
    for place, rate in enumerate(waiting):
        part = room / (len(waiting) - place)
        if rate > part:
            return part
        room -= rate
    return float("inf")
