"""Compares how long a server takes to answer while it is read with how long it takes while it is not, and says who is
to be left alone.

A *trial* is of one listening port. It has pairs of slots, one in which the port's processes are read and one in which
they are not, in an order that is drawn for each pair. The kernel counts answer times in both without any probe
(sensor.capture.tls.waits). Pure: times, counts and draws come in.

**The test.** If reading changes nothing, which slot of a pair has the longer answers is the draw of a coin, however the
load swings, and however long it remembers: the order was drawn. So one may bet on it. `Bets` begins with one unit and
bets a part of what it has on "longer while it is read" before each pair. Without an effect it is no more than one unit
on average whenever one looks, so it ever reaches 1 / p with a chance of at most p (Ville's inequality; Shafer, "Testing
by betting", 2021). Two such accounts have to be convinced, for the median or the 90th percentile of answers:

- that there is any effect: with a chance of `FALSE_STOP` for a trial without one;
- that in most pairs the difference is more than `LONGER_RATIO` and `LONGER_NS`, of which the second is some ten times
  what probes cost a call: chance `FALSE_SIZE` where it is less in most pairs.

A third account bets that it is less than that in most pairs, and when it is convinced the trial is over.

**Where it is worth it.** Each switch costs calls: connections of HTTP/2 that stay open lose the paths of their calls.
So there is a trial only where the breakpoints of one answer take as much as either bound (`WORTH`). And a difference of
more than `WORK_MAX` times what they take comes from something else, or from somebody who makes it: such a trial says
nothing, and is counted.

A trial begins soon after a port is read, and is repeated after 1 h, then after 2 h and so on up to a day: at most five
on the first day. So without an effect less than one process in 1,000 is stopped a day. A port that is stopped is tried
again as rarely.

**What it cannot see**: an effect on ports with less than `RATE_MIN` answers a second, on clients, on less than one call
in ten, on answers after their first bytes, on servers that answer each connection once and send no tickets (TLS 1.3),
and on processes whose sockets are not known. Of HTTP/2 the time from a client's last bytes to the server's next is
compared, whichever stream they are of.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import exp, log, tanh
from statistics import median
from types import MappingProxyType
from typing import Final

from sensor.capture.tls.waits import Port, find_start_ns

Members = Mapping[int, bool]  # Processes of a port, and whether their probes are in place.

# More than this is longer: both.
LONGER_RATIO: Final = 1.05
LONGER_NS: Final = 50_000
# Breakpoints of one answer that take less than this part of both bounds cannot make it longer by much.
WORTH: Final = 1.0
# What they take delays others in a queue too, but not by more than so many times as much.
WORK_MAX: Final = 20.0
# Until a port without a trial, for that reason, is looked at again.
CHEAP_REST_SECONDS: Final = 600.0
# Of one percentile of a trial; there are two.
FALSE_STOP: Final = 0.5e-4
FALSE_SIZE: Final = 0.3
FALSE_END: Final = 0.1
PERCENTILES: Final = (0.5, 0.9)
# How boldly an account bets: small ones win where the effect is nearly lost in noise, large ones win soon.
STAKES: Final = (0.5, 1.5)
MOST: Final = 0.8
PAIRS_MAX: Final = 50
# Pairs with fewer answers in a slot say nothing; slots are longer where it takes longer to have twice as many, and
# shorter where so many come sooner.
ANSWERS_MIN: Final = 20
ANSWERS_ENOUGH: Final = 200
SHORTEST_SLOT_SECONDS: Final = 2.0
SLOT_SECONDS: Final = 4.0
LONGEST_SLOT_SECONDS: Final = 16.0
RATE_MIN: Final = 2 * ANSWERS_MIN / LONGEST_SLOT_SECONDS
# After a switch: the kernel takes time to put probes in, and the sensor to read what came before.
SETTLE_SECONDS: Final = 0.5
# Before the first look whether a switch is done; the next ones come after as long as it has taken so far.
GLANCE_SECONDS: Final = 0.1
# So long a port has the same processes before a trial of it begins, and a switch may take.
STEADY_SECONDS: Final = 10.0
SWITCH_SECONDS: Final = 15.0
# Pairs that broke off: processes came and went, or their probes.
BREAKS_MAX: Final = 20
REST_SECONDS: Final = 3_600.0
LONGEST_REST_SECONDS: Final = 86_400.0
# At a time; of one cgroup one. And processes of a port: as many as may have probes of their own.
TRIALS_MAX: Final = 4
MEMBERS_MAX: Final = 32
# What is known of a port stays so long without processes that were read there: servers restart.
LINGER_SECONDS: Final = 900.0
PORTS_MAX: Final = 512


class Verdict(Enum):
    """Of a trial."""

    OPEN = "open"
    LONGER = "longer"
    ALIKE = "alike"  # Or it cannot be known.


class Bets:
    """An account that bets on the outcome of pairs."""

    def __init__(self) -> None:
        self._parts = [1.0 for _ in STAKES]

    def add(self, is_won: bool, weight: float = 1.0) -> None:
        """`weight`: how much the outcome will say; it may depend on anything but who wins."""
        sign = 1 if is_won else -1
        self._parts = [
            part * (1 + sign * min(tanh(stake * weight), MOST)) for part, stake in zip(self._parts, STAKES, strict=True)
        ]

    @property
    def wealth(self) -> float:
        """What it has of the one unit that it began with."""
        return sum(self._parts) / len(self._parts)


def find_percentile_ns(counts: Sequence[int], share: float) -> float:
    """Of a histogram as the kernel has it, with at least one answer; within a bucket they are taken for evenly
    spread."""
    wanted = share * sum(counts)
    below = 0
    for bucket, count in enumerate(counts):
        if count and below + count >= wanted:
            start, end = find_start_ns(bucket), find_start_ns(bucket + 1)
            return start + (end - start) * (wanted - below) / count
        below += count
    raise ValueError("there are no answers")


class Comparison:
    """Of one percentile: pairs so far."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._ratios: list[float] = []  # Logarithms.
        self._unread_ns: list[float] = []
        self._any, self._large, self._small = Bets(), Bets(), Bets()

    def add(self, read: Sequence[int], unread: Sequence[int]) -> None:
        """A pair's answers."""
        read_ns, unread_ns = (max(find_percentile_ns(one, self._share), 1.0) for one in (read, unread))
        ratio = log(read_ns / unread_ns)
        self._ratios.append(ratio)
        self._unread_ns.append(unread_ns)
        if ratio:
            # Small differences are noise, and say less.
            usual = median(map(abs, self._ratios))
            self._any.add(ratio > 0, abs(ratio) / usual if usual else 1.0)
        is_large = ratio > log(LONGER_RATIO) and read_ns - unread_ns > LONGER_NS
        self._large.add(is_large)
        self._small.add(not is_large)

    @property
    def is_longer(self) -> bool:
        """Whether it is sure that answers take longer while they are read."""
        return self._any.wealth >= 1 / FALSE_STOP and self._large.wealth >= 1 / FALSE_SIZE

    @property
    def is_alike(self) -> bool:
        """Whether it is sure enough that they do not, or not by much."""
        return self._small.wealth >= 1 / FALSE_END

    @property
    def difference_ns(self) -> float:
        """Of most pairs."""
        return median(self._unread_ns) * (exp(median(self._ratios)) - 1)

    def describe(self) -> str:
        """The difference, for people."""
        unread_ns = median(self._unread_ns)
        ratio = exp(median(self._ratios))
        name = "median" if self._share == PERCENTILES[0] else f"p{self._share * 100:g}"
        return (
            f"answers took {(ratio - 1) * 100:.0f} % longer while it was read "
            f"({name} {unread_ns * ratio / 1e6:.3g} ms instead of {unread_ns / 1e6:.3g} ms)"
        )


class Evidence:
    """Of one trial."""

    def __init__(self) -> None:
        self._comparisons = [Comparison(share) for share in PERCENTILES]
        self.pairs = 0  # Those with too few answers too.

    def add(self, read: Sequence[int], unread: Sequence[int]) -> None:
        """Answers of a pair's slots by their wait."""
        self.pairs += 1
        if min(sum(read), sum(unread)) < ANSWERS_MIN:
            return
        for one in self._comparisons:
            one.add(read, unread)

    def judge(self) -> Verdict:
        """What can be said by now."""
        if any(one.is_longer for one in self._comparisons):
            return Verdict.LONGER
        if self.pairs >= PAIRS_MAX or all(one.is_alike for one in self._comparisons):
            return Verdict.ALIKE
        return Verdict.OPEN

    @property
    def difference_ns(self) -> float:
        """Of LONGER: by how much, where that is least."""
        return min(one.difference_ns for one in self._comparisons if one.is_longer)

    def describe(self) -> str:
        """Of LONGER: by how much."""
        return next(one.describe() for one in self._comparisons if one.is_longer)


def find_slot_seconds(rate: float) -> float:
    """How long a slot is at so many answers a second, at least `RATE_MIN`."""
    return max(2 * ANSWERS_MIN / rate, min(SLOT_SECONDS, ANSWERS_ENOUGH / rate), SHORTEST_SLOT_SECONDS)


class Trial:
    """Of one port: which slot it is, and what was counted in it."""

    def __init__(self, pids: Collection[int], rate: float, now: float, draw: Callable[[], bool]) -> None:
        """`rate`: answers a second; `draw`: a coin."""
        self.pids = frozenset(pids)
        self._draw = draw
        self._slot_seconds = find_slot_seconds(rate)
        self._evidence = Evidence()
        self._breaks = 0
        self._begin_pair(now)

    def _begin_pair(self, now: float) -> None:
        self._counted: dict[bool, Sequence[int]] = {}
        self._begin_slot(self._draw(), now)

    def _begin_slot(self, is_read: bool, now: float) -> None:
        self.is_read = is_read
        self._began_at = now
        self._glance_at = now + GLANCE_SECONDS
        self._settled_at: float | None = None  # When it will be.
        self._before: Sequence[int] | None = None  # Where it is counted.
        self._ends_at = now + self._slot_seconds

    @property
    def next_switch(self) -> float:
        """When something is to be looked at."""
        if self._before is not None:
            return self._ends_at
        return self._settled_at if self._settled_at is not None else self._glance_at

    def step(self, now: float, counts: Sequence[int], members: Members) -> Verdict:
        """Answers of the port so far, and its processes. May change `is_read`."""
        if members.keys() != self.pids:
            self.pids = frozenset(members)
            return self._break_off(now)
        if any(is_in_place != self.is_read for is_in_place in members.values()):
            if self._before is not None or now - self._began_at > SWITCH_SECONDS:
                return self._break_off(now)
            self._settled_at = None
            self._glance_at = now + max(GLANCE_SECONDS, now - self._began_at)
        elif self._settled_at is None:
            self._settled_at = now + SETTLE_SECONDS
        elif self._before is None:
            if now >= self._settled_at:
                self._before, self._ends_at = counts, now + self._slot_seconds
        elif now >= self._ends_at:
            self._counted[self.is_read] = [late - early for late, early in zip(counts, self._before, strict=True)]
            if len(self._counted) == 1:
                self._begin_slot(not self.is_read, now)
                return Verdict.OPEN
            self._evidence.add(self._counted[True], self._counted[False])
            self._begin_pair(now)
            return self._evidence.judge()
        return Verdict.OPEN

    def _break_off(self, now: float) -> Verdict:
        self._breaks += 1
        self._begin_pair(now)
        return Verdict.ALIKE if self._breaks > BREAKS_MAX or len(self.pids) > MEMBERS_MAX else Verdict.OPEN

    def describe(self) -> str:
        """Of LONGER: by how much."""
        return self._evidence.describe()

    @property
    def difference_ns(self) -> float:
        """Of LONGER: by how much."""
        return self._evidence.difference_ns


def is_worth(counts: Sequence[int], work_ns: float) -> bool:
    """Whether breakpoints that take `work_ns` an answer can make answers longer, which took as long as counted."""
    longest = min(LONGER_NS, (LONGER_RATIO - 1) * find_percentile_ns(counts, PERCENTILES[0]))
    return work_ns >= WORTH * longest


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of a port."""

    seen_at: float  # With processes.
    pids: frozenset[int] = frozenset()
    steady_since: float = 0.0
    due_at: float = 0.0  # Of the next trial.
    rest_seconds: float = REST_SECONDS  # After it.
    reason: str = ""  # Why it is left alone.
    first: tuple[float, Sequence[int]] | None = None  # When it was looked at, and answers until then.
    rate: float = 0.0
    work_ns: float = float("inf")  # Of the breakpoints of an answer; infinite: not known.
    trial: Trial | None = None


class AnswerTrials:
    """Mutable: trials of all ports."""

    def __init__(self, draw: Callable[[], bool]) -> None:
        """`draw`: a coin."""
        self._draw = draw
        self._known: dict[Port, _Known] = {}
        self._places: Counter[int] = Counter()  # Ports of a cgroup that are known; empty: to be counted.
        self._heaviest = 0  # The cgroup that has most.
        self._tried: Counter[int] = Counter()  # Trials of a cgroup, as long as a port of it is known.
        self.trials_total = 0
        self.stops_total = 0
        self.doubted_total = 0  # Trials whose difference was more than breakpoints can make.
        self.left_out = 0  # Ports beyond the most that are compared, as of the last step.

    def list_ports(self, now: float, members: Mapping[Port, Members]) -> list[Port]:
        """Ports whose answers are to be counted until the next step: those in a trial, or soon in one."""
        return [
            port
            for port, pids in members.items()
            if pids and (one := self._known.get(port)) and (one.trial or now >= one.due_at - STEADY_SECONDS)
        ]

    def step(
        self,
        now: float,
        waits: Mapping[Port, Sequence[int]],
        members: Mapping[Port, Members],
        work_ns: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """Once a second, and when `next_switch` is due. `waits`: answers so far by their wait, a count a bucket;
        `members`: the processes that were read at a port and live, and whether their probes are in place now;
        `work_ns`: of a process, what the breakpoints of a call take."""
        self.left_out = 0
        self._places = Counter()
        for port, pids in members.items():
            if pids and (port in self._known or self._has_place(port[0])):
                known = self._known.setdefault(port, _Known(seen_at=now))
                known.work_ns = max((work_ns[pid] for pid in pids if pid in work_ns), default=float("inf"))
                self._look(known, now, waits.get(port), pids)
            elif pids:
                self.left_out += 1
        for port, known in list(self._known.items()):
            if not members.get(port):
                known.pids = frozenset()
                self._end_trial(known, Verdict.ALIKE, now)
                if now - known.seen_at > LINGER_SECONDS:
                    del self._known[port]
        self._begin_trials(now)

    def _has_place(self, cgroup: int) -> bool:
        """Whether one more port of a cgroup may be known: where there is no place left, a cgroup that has more ports
        gives one of its."""
        if len(self._known) < PORTS_MAX:
            return True
        if not self._places:
            self._places = Counter(port[0] for port in self._known)
            self._heaviest = max(self._places, key=self._places.__getitem__)
        heaviest = self._heaviest
        if self._places[heaviest] <= self._places[cgroup] + 1:
            return False
        given = max(
            (port for port in self._known if port[0] == heaviest),
            key=lambda port: (self._known[port].trial is None, not self._known[port].reason, self._known[port].due_at),
        )
        del self._known[given]
        self._places = Counter()
        return True

    def _look(self, known: _Known, now: float, counts: Sequence[int] | None, pids: Members) -> None:
        known.seen_at = now
        if known.pids != pids.keys():
            known.pids, known.steady_since = frozenset(pids), now
        if counts is None:
            known.first = None
            self._end_trial(known, Verdict.ALIKE, now)
        elif known.trial is not None:
            verdict = known.trial.step(now, counts, pids)
            if verdict is not Verdict.OPEN:
                self._end_trial(known, verdict, now)
        elif known.first is None:
            known.first = now, counts
        elif now - known.first[0] >= STEADY_SECONDS:
            answers = [late - early for late, early in zip(counts, known.first[1], strict=True)]
            known.rate = sum(answers) / (now - known.first[0])
            known.first = now, counts
            if known.rate >= RATE_MIN and not is_worth(answers, known.work_ns):
                known.due_at, known.reason = now + CHEAP_REST_SECONDS, ""
                known.first, known.rate = None, 0.0

    def _end_trial(self, known: _Known, verdict: Verdict, now: float) -> None:
        if known.trial is None:
            return
        known.reason = ""
        if verdict is Verdict.LONGER and known.trial.difference_ns > WORK_MAX * known.work_ns:
            self.doubted_total += 1
        elif verdict is Verdict.LONGER:
            self.stops_total += 1
            hours = known.rest_seconds / 3_600
            known.reason = f"It is not read for {hours:g} h: {known.trial.describe()}."
        known.due_at = now + known.rest_seconds
        known.rest_seconds = min(2 * known.rest_seconds, LONGEST_REST_SECONDS)
        known.trial, known.first, known.rate = None, None, 0.0

    def _begin_trials(self, now: float) -> None:
        """Of those cgroups first that had fewest, and in them of those that wait longest."""
        self._tried = Counter({port[0]: self._tried[port[0]] for port in self._known})
        running = [port for port, known in self._known.items() if known.trial is not None]
        cgroups = {cgroup for cgroup, _ in running}
        busy = {pid for port in running for pid in self._known[port].pids}
        for port, known in sorted(self._list_due(now), key=lambda one: (self._tried[one[0][0]], one[1].due_at)):
            if len(cgroups) >= TRIALS_MAX:
                return
            if port[0] not in cgroups and busy.isdisjoint(known.pids) and not self._is_stopped_elsewhere(port):
                known.trial = Trial(known.pids, known.rate, now, self._draw)
                self.trials_total += 1
                self._tried[port[0]] += 1
                cgroups.add(port[0])
                busy |= known.pids

    def _is_stopped_elsewhere(self, port: Port) -> bool:
        """Whether one of a port's processes is left alone because of another port."""
        pids = self._known[port].pids
        return any(one.reason and not pids.isdisjoint(one.pids) for at, one in self._known.items() if at != port)

    def _list_due(self, now: float) -> Iterator[tuple[Port, _Known]]:
        for port, known in self._known.items():
            is_steady = now - known.steady_since >= STEADY_SECONDS and 0 < len(known.pids) <= MEMBERS_MAX
            if is_steady and known.trial is None and now >= known.due_at and known.rate >= RATE_MIN:
                yield port, known

    def next_switch(self) -> float:
        """When `step` has something to do before its second is over; infinite where nothing is due."""
        return min(
            (one.trial.next_switch for one in self._known.values() if one.trial is not None), default=float("inf")
        )

    @property
    def slots(self) -> Mapping[int, bool]:
        """Processes in a trial, and whether their probes are wanted in this slot."""
        trials = [one.trial for one in self._known.values() if one.trial is not None]
        return {pid: trial.is_read for trial in trials for pid in trial.pids}

    @property
    def stopped(self) -> Mapping[int, str]:
        """Processes that are left alone, and why, in a sentence for the coverage."""
        return {pid: one.reason for one in self._known.values() if one.reason and not one.trial for pid in one.pids}
