"""Decides which processes' TLS is read all the time, and which in turns because they make more calls than their budget.

A probe costs its process some 0.6 us whether its call is reported or not. So beyond the budget, only removing the
probes saves anything. In each period of a few seconds, a turn lasts until its calls are the period's budget. The call
rate is measured in the turns. Calls between turns are estimated (sensor.capture.tls.capture). Pure: times and counts
come in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

# As the governor of heads (sensor.offload.governor): a burst is over after so many seconds above the budget, and
# below this part of it there is room for all.
PATIENCE: Final = 2
COMFORT: Final = 0.7
# All processes together have so many times the budget of one (bpf/syscall_budget.h).
NODE_FACTOR: Final = 2
# Putting probes in and taking them out costs some 0.1 s, little of it the processor's.
LEAST_TURN_SECONDS: Final = 0.1
LONGEST_PERIOD_SECONDS: Final = 10.0
# Less says little of a rate: the switch of another process came between two looks.
LEAST_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DutySettings:
    """The budget: calls a second of one process, and how many may come at once."""

    calls_per_second: int
    calls_burst: int

    @property
    def period_seconds(self) -> float:
        """In which the budget is what may come at once: so a whole turn may go up."""
        return min(max(self.calls_burst / self.calls_per_second, 1.0), LONGEST_PERIOD_SECONDS)


@dataclass(slots=True)
class _Watched:
    """One process. `share` of the time it is read; below 1 it has turns."""

    calls: int  # When it was looked at last, or when its turn began.
    since: float
    rate: float = 0.0  # Calls a second, when that was last known.
    seconds_over: int = 0
    share: float = 1.0
    is_read: bool = True
    switch_at: float = 0.0  # Where it has turns: when this one ends, or the next one begins.
    next_turn: float = 0.0


class DutyCycle:
    """Mutable: what each process did so far."""

    def __init__(self, settings: DutySettings) -> None:
        self._settings = settings
        self._watched: dict[int, _Watched] = {}
        self.turns = 0

    def limit(self, calls_per_second: int) -> None:
        """The budget of a process, as governed. From any thread: it holds from the next step on."""
        self._settings = replace(self._settings, calls_per_second=calls_per_second)

    @property
    def shares(self) -> Mapping[int, float]:
        """Processes that are read a part of the time, and which."""
        return {pid: one.share for pid, one in self._watched.items() if one.share < 1}

    @property
    def over(self) -> Mapping[int, float]:
        """The same, with those that make more calls than are read and have no turns yet."""
        return {pid: one.share for pid, one in self._watched.items() if one.share < 1 or one.seconds_over}

    def is_read(self, pid: int) -> bool:
        """Whether its probes are to be in place now."""
        one = self._watched.get(pid)
        return one is None or one.is_read

    def next_switch(self) -> float:
        """When `step` has something to do before its second is over."""
        return min((one.switch_at for one in self._watched.values() if one.share < 1), default=float("inf"))

    def forget(self, pids: set[int]) -> None:
        """All but these are not followed any more."""
        for pid in self._watched.keys() - pids:
            del self._watched[pid]

    def step(self, now: float, calls: Mapping[int, int]) -> None:
        """Calls by process so far. Once a second, and when it is time for a switch. Whose calls nobody counts any more
        is as one that was never seen."""
        self.forget(set(calls))
        limit = find_limit((one.rate for one in self._watched.values()), self._settings.calls_per_second)
        for pid, count in calls.items():
            one = self._watched.get(pid)
            if one is None or count < one.calls:
                self._watched[pid] = _Watched(calls=count, since=now)
            elif one.share < 1:
                self._turn(one, now, count, limit)
            else:
                self._judge(one, now, count, limit)

    def _judge(self, one: _Watched, now: float, count: int, limit: float) -> None:
        seconds = now - one.since
        if seconds < LEAST_LOOK_SECONDS:
            return
        one.rate = (count - one.calls) / seconds
        one.calls, one.since = count, now
        one.seconds_over = one.seconds_over + 1 if one.rate > limit else 0
        if one.seconds_over >= PATIENCE:
            one.share = self._find_share(one.rate, limit)
            one.is_read, one.switch_at = False, now + self._settings.period_seconds

    def _turn(self, one: _Watched, now: float, count: int, limit: float) -> None:
        if now < one.switch_at:
            return
        if not one.is_read:
            period = self._settings.period_seconds
            one.is_read, one.calls, one.since = True, count, now
            one.switch_at = now + max(LEAST_TURN_SECONDS, one.share * period)
            one.next_turn = now + period
            self.turns += 1
            return
        one.rate = (count - one.calls) / max(now - one.since, LEAST_TURN_SECONDS)
        one.calls, one.since = count, now
        if one.rate < COMFORT * limit:
            one.share, one.seconds_over = 1.0, 0
            return
        one.share = self._find_share(one.rate, limit)
        one.is_read, one.switch_at = False, max(one.next_turn, now + LEAST_TURN_SECONDS)

    def _find_share(self, rate: float, limit: float) -> float:
        """With the shortest turn at least, and the shortest rest."""
        least = LEAST_TURN_SECONDS / self._settings.period_seconds
        return min(max(limit / rate, least), 1 - least)


def find_limit(rates: Iterable[float], budget: float) -> float:
    """Calls a second of each process that may be read: the budget, or less where all together would have more than the
    node's; who needs less than its part leaves the rest to the others."""
    room = NODE_FACTOR * budget
    waiting = sorted(rates)
    for place, rate in enumerate(waiting):
        part = room / (len(waiting) - place)
        if rate > part:
            return min(budget, part)
        room -= rate
    return budget
