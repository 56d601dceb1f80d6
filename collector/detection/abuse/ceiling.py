"""Decides whether a subject did too much of something: fading sums against a ceiling for each horizon.

The ceiling is the highest of three:

- what the plan states, less where peers or past days are known
- FACTOR times the subject's own highest sum of past days
- FACTOR times what all but RARE_SHARE of its peers reached, lately or in their first days, because new users explore

A subject's own actions make no ceiling before a whole day has passed, and never one of more than twice the present. So
an attack over midnight, or one that grows daily, is still found. What a subject did steadily in the installation's
first hour may go on (`project`), because crawlers and partners came before Apidae.

`RepeatedDays`: a subject may do much every night, such as an export that began after the installation. A ceiling learns
at most twice itself a day, so a nightly job a thousand times above it would be reported for weeks. So what a subject
reached on two days running is known, since both were reported. Sums over a day and longer rise further by a known
share. Few subjects are that high, and only those have a row (`SparseColumns`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import Basis
from collector.detection.abuse.columns import CompactRows, FadingSums
from collector.detection.framework.contract import F64, State
from collector.detection.framework.slots import Slots, grow, grow_rows

F32 = NDArray[np.float32]  # What is kept of each subject: six figures are enough for a maximum.

_FIRST_CAPACITY = 16


class SparseColumns:
    """H figures a row; all are 0 where nothing was put."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._clear()

    def take(self, rows: Slots) -> F32:
        """Of `rows`, H x n."""
        if not self._place_of:
            return np.zeros((self._height, len(rows)), np.float32)
        find = self._place_of.get
        figures: F32 = self._figures.take([find(row, 0) for row in rows.tolist()], axis=1)
        return figures

    def put(self, rows: Slots, figures: F32) -> None:
        """Set those of distinct `rows`, H x n."""
        is_some = figures.any(axis=0)
        self.forget(rows[~is_some])
        some = is_some.nonzero()[0]
        if len(some):
            places = self._make_places(rows[some].tolist())
            self._figures[:, places] = figures[:, some]

    def forget(self, rows: Slots) -> None:
        """Clear those of `rows`."""
        if not self._place_of:
            return
        for row in rows.tolist():
            if (place := self._place_of.pop(row, None)) is not None:
                self._free.append(place)

    def dump(self, count: int) -> F32:
        """Of all `count` rows, H x count."""
        dense = np.zeros((self._height, count), np.float32)
        dense[:, list(self._place_of)] = self._figures[:, list(self._place_of.values())]
        return dense

    def load(self, dense: F32) -> None:
        """The inverse of `dump`."""
        self._clear()
        rows = dense.any(axis=0).nonzero()[0]
        self.put(rows, dense[:, rows])

    def _clear(self) -> None:
        self._place_of: dict[int, int] = {}  # Column of a row.
        self._figures: F32 = np.zeros((self._height, 1), np.float32)  # The first is that of rows without any.
        self._free: list[int] = []

    def _make_places(self, rows: list[int]) -> list[int]:
        """The column of each, which it has then."""
        places = []
        for row in rows:
            place = self._place_of.get(row)
            if place is None:
                if not self._free:
                    self._widen()
                place = self._place_of[row] = self._free.pop()
            places.append(place)
        return places

    def _widen(self) -> None:
        known = self._figures.shape[1]
        self._figures = grow(self._figures, known + max(known // 2, _FIRST_CAPACITY))
        self._free = list(range(self._figures.shape[1] - 1, known - 1, -1))


_DAY_SECONDS = 86_400


class RepeatedDays:
    """Highest sums of today and of yesterday, by slot of a ceiling's rows, for H horizons."""

    def __init__(self, horizons_seconds: tuple[int, ...]) -> None:
        """Horizons ascend."""
        # What goes on day after day fills a sum over a day and longer to so many times what one day brings.
        is_long = np.array(horizons_seconds) >= _DAY_SECONDS
        self._source = np.where(is_long, int(np.argmax(is_long)), np.arange(len(horizons_seconds)))
        self._rise: F64 = np.where(is_long, 1 / (1 - np.exp(-_DAY_SECONDS / np.array(horizons_seconds))), 1.0)[:, None]
        self._rows = CompactRows()
        self._today: F32 = np.zeros((len(horizons_seconds), 0), np.float32)
        self._yesterday: F32 = np.zeros((len(horizons_seconds), 0), np.float32)

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._rows.grow(capacity)

    def add(self, slots: Slots, sums: F64, taught: F64) -> None:
        """Keep `sums` (H x n) of distinct slots where they are above what the day teaches."""
        over = (sums > taught).any(axis=0).nonzero()[0]
        if not len(over):
            return
        rows = self._rows.take(slots[over])
        self._today, self._yesterday = (
            grow(self._today, self._rows.capacity),
            grow(self._yesterday, self._rows.capacity),
        )
        self._today[:, rows] = np.maximum(self._today[:, rows], sums[:, over])

    def turn_day(self) -> tuple[Slots, F64]:
        """A day ended: slots, and the sums that each comes to if it goes on as on this day and the one before
        (H x n)."""
        rows = self._list_rows()
        slots = self._rows.slot_of[rows].astype(np.int64)
        reached = np.minimum(self._today[:, rows], self._yesterday[:, rows])
        self._yesterday, self._today = self._today, np.zeros_like(self._today)
        self.forget(slots[~self._yesterday[:, rows].any(axis=0)])
        is_repeated = reached.any(axis=0)
        return slots[is_repeated], self._rise * reached[self._source][:, is_repeated]

    def forget(self, slots: Slots) -> None:
        """Clear slots."""
        rows = self._rows.release(slots)
        self._today[:, rows] = 0
        self._yesterday[:, rows] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"today": self._today, "yesterday": self._yesterday, **self._rows.dump()}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._rows.load(state)
        self._today, self._yesterday = state["today"].astype(np.float32), state["yesterday"].astype(np.float32)

    def _list_rows(self) -> Slots:
        return (self._rows.slot_of[: self._today.shape[1]] >= 0).nonzero()[0]


FACTOR = 1.6
RARE_SHARE = 0.03
PEERS_MIN = 10  # Fewer say nothing.
_LEARN_MAX = 2.0  # Of a ceiling: what a day above it teaches at most.
_HOUR_SECONDS = 3_600
_PEAK_DEVIATIONS = 4.0  # Of a count, that the highest window of a day is above its mean.
_FADE_A_DAY = 0.9  # Of what past days teach.
_KNOWN_DAYS = 2  # After them what a subject does on its days is known, if it is nothing.
_ALMOST = 0.999  # Figures are rounded.
_AS_FAR = 1 - 1e-9  # So little below another is as far above.
_RAISE = 1.5  # A subject above its ceiling is told again when its sum grew by this.
_CALM = 0.8  # Of a ceiling: below it a subject is told anew when it crosses again.
_REFRESH_SECONDS = 60
_BITS, _LOW = np.uint64(32), np.uint64(2**32 - 1)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """One horizon of a plan, and the sums that are ordinary whatever is known."""

    seconds: int
    prior: float  # Where neither peers nor past days say more.
    floor: float  # Where they are known: they raise it.
    factor: float = FACTOR  # Times the highest of the peers and of past days.
    burst: float = np.inf  # So much of what comes at once counts at the most.


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Subjects above a ceiling that are to be told, n of them."""

    slots: Slots
    sums: F64
    ceilings: F64
    horizon: Ints  # Index into the plan.
    basis: tuple[Basis, ...]

    def choose(self, chosen: NDArray[np.bool_]) -> "Excess":
        """Some of them."""
        return Excess(
            slots=self.slots[chosen],
            sums=self.sums[chosen],
            ceilings=self.ceilings[chosen],
            horizon=self.horizon[chosen],
            basis=tuple(basis for basis, is_chosen in zip(self.basis, chosen.tolist(), strict=True) if is_chosen),
        )


class Ceiling:
    """Sums, days and peers of one measure. A group is what makes subjects peers: an endpoint, or 0 for all."""

    def __init__(self, plan: tuple[Horizon, ...], *, is_trade: bool = False) -> None:
        """`is_trade`: some do this day after day and may."""
        self.plan = plan
        self._priors: F64 = np.array([horizon.prior for horizon in plan])[:, None]
        self._floors: F64 = np.array([horizon.floor for horizon in plan])[:, None]
        self._nearly = _ALMOST * self._floors
        self._seconds: F64 = np.array([horizon.seconds for horizon in plan], np.float64)[:, None]
        self._bursts: F64 = np.array([horizon.burst for horizon in plan])[:, None]
        self._has_bursts = bool(np.isfinite(self._bursts).any())
        lengths = [horizon.seconds for horizon in plan]
        self._hour = lengths.index(_HOUR_SECONDS) if _HOUR_SECONDS in lengths else -1
        self._factors: F64 = np.array([horizon.factor for horizon in plan])[:, None]
        self._rows = CompactRows()  # What follows is by row: who never did anything has none.
        self._sums = FadingSums(tuple(horizon.seconds for horizon in plan))
        self._today: F32 = np.zeros((0, len(plan)), np.float32)  # All of a row side by side; the next the other way.
        self._yesterday: F32 = np.zeros((len(plan), 0), np.float32)
        self._past: F32 = np.zeros((len(plan), 0), np.float32)
        # Highest sum of a subject's first days, less this one.
        self._begun: F32 = np.zeros((len(plan), 0), np.float32)
        self._common: F64 = np.zeros((len(plan), 1))  # By group.
        self._peers: Ints = np.zeros(1, np.int64)
        self._born: NDArray[np.uint16] = np.zeros(0, np.uint16)  # Day of its first sum; 0: it has none.
        # Sum over ceiling when a subject was told, while it stays above; 0: it was not.
        self._told = SparseColumns(len(plan))
        self._was_told: NDArray[np.bool_] = np.zeros(0, np.bool_)  # Whether any of it is not 0.
        # Whether a subject may be so high that it raises what is common; never false where it is.
        self._is_high: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._repeated = RepeatedDays(tuple(lengths)) if is_trade else None
        self._day = 0
        self._refreshed_at = 0

    def grow(self, capacity: int, groups: int) -> None:
        """Make room for slots below `capacity` and groups below `groups`."""
        if self._rows.slot_capacity >= capacity and len(self._peers) >= groups:
            return
        self._rows.grow(capacity)
        self._common, self._peers = grow(self._common, groups), grow(self._peers, groups)

    def add(
        self,
        slots: Slots,
        amounts: F64,
        groups: Slots,
        time: int,
        may_tell: Callable[[Slots], Bools] | None = None,
        find_most: Callable[[Slots], F64] | None = None,
    ) -> Excess:
        """Count `amounts` of distinct `slots`, whose peers are those of `groups` (-1: none). `may_tell` is asked, once
        they are counted, which of some of them (indexes into `slots`) may be told, one by one or by horizon (H x n);
        who may not now is told when it may, at the next amount. `find_most` is asked, of some of them, what their
        sums cannot exceed (H x n), where amounts are estimates."""
        self._turn_day(time)
        if not len(slots):
            return _NOTHING
        rows = self._take_rows(slots)
        sums = self._sums.add(rows, np.minimum(amounts, self._bursts) if self._has_bursts else amounts, time)
        self._keep_births(rows)
        # No ceiling is below a floor, so that few need theirs found, for few are above one or were.
        loud = ((sums > self._floors).any(axis=0) | self._was_told.take(rows)).nonzero()[0]
        if not len(loud):
            self._learn(rows, sums)
            return _NOTHING
        loud_rows, loud_sums = rows[loud], sums[:, loud]
        if find_most is not None:
            loud_sums = np.minimum(loud_sums, find_most(loud))
        ceilings = self._find_ceilings(loud_rows, groups[loud])
        taught = sums.copy()
        taught[:, loud] = loud_taught = np.minimum(loud_sums, _LEARN_MAX * ceilings)
        self._learn(rows, taught)
        if self._repeated is not None:
            self._repeated.add(loud_rows, loud_sums, loud_taught)
        # Few are above a ceiling or were: the others need no further look.
        some = ((loud_sums > ceilings).any(axis=0) | self._was_told.take(loud_rows)).nonzero()[0]
        if not len(some):
            return _NOTHING
        which = loud[some]
        is_more = amounts[..., which] > 0
        sums, ceilings = loud_sums[:, some], ceilings[:, some]
        chosen, horizon = self._choose(
            rows[which], sums / ceilings, is_more if may_tell is None else is_more & may_tell(which)
        )
        own, where = which[chosen], (horizon, chosen)
        return Excess(
            slots=slots[own],
            sums=sums[where],
            ceilings=ceilings[where],
            horizon=horizon,
            basis=self._name_bases(rows[own], groups[own], horizon, ceilings[where]),
        )

    def _keep_births(self, rows: Slots) -> None:
        born = self._born.take(rows)
        if np.count_nonzero(born) < len(born):
            self._born[rows[born == 0]] = self._day

    def _learn(self, rows: Slots, taught: F64) -> None:
        """Keep what the day teaches of each row, H x n."""
        today = self._today.take(rows, axis=0).T
        self._today[rows] = np.maximum(today, taught).T
        self._is_high[rows[(taught * self._factors > self._nearly).any(axis=0).nonzero()[0]]] = True

    def _find_ceilings(self, rows: Slots, groups: Slots) -> F64:
        """Of each row now, H x n."""
        own = self._factors * self._past.take(rows, axis=1)
        is_known = self._born.take(rows) <= self._day - _KNOWN_DAYS
        is_grouped = groups >= 0
        if np.count_nonzero(is_grouped):
            own = np.maximum(own, self._find_common(groups, is_grouped))
            is_known |= is_grouped & (self._peers.take(groups) >= PEERS_MIN)
        ceilings: F64 = np.maximum(own, np.where(is_known, self._floors, self._priors))
        return ceilings

    def _find_common(self, groups: Slots, is_grouped: Bools) -> F64:
        """What peers make ordinary, H x n."""
        common: F64 = self._factors * self._common.take(groups, axis=1)
        return common if np.count_nonzero(is_grouped) == len(groups) else np.where(is_grouped, common, 0.0)

    def _choose(self, rows: Slots, ratios: F64, may_tell: Bools) -> tuple[Slots, Ints]:
        """Which of `rows` are to be told, and of which horizon; remembers them. `ratios` are H x n."""
        told = self._told.take(rows)
        is_told = (ratios > 1.0) & may_tell & (ratios >= _RAISE * told)
        chosen = is_told.any(axis=0).nonzero()[0]
        told = np.where(is_told, ratios, np.where(ratios < _CALM, 0.0, told))
        self._told.put(rows, told)
        self._was_told[rows] = told.any(axis=0)
        farthest = np.where(is_told, ratios, 0.0)[:, chosen]
        # Of those that are as far above the first, whichever way this processor rounds.
        return chosen, (farthest >= farthest.max(axis=0, initial=0.0) * _AS_FAR).argmax(axis=0)

    def _name_bases(self, rows: Slots, groups: Slots, horizon: Ints, ceilings: F64) -> tuple[Basis, ...]:
        own = (self._factors * self._past.take(rows, axis=1))[horizon, np.arange(len(rows))]
        peers = self._find_common(groups, groups >= 0)[horizon, np.arange(len(rows))]
        return tuple(map(_name_basis, own.tolist(), peers.tolist(), ceilings.tolist()))

    def is_told(self, slots: Slots) -> NDArray[np.bool_]:
        """Whether `slots` are above their ceilings and told."""
        rows = self._rows.find(slots)
        told = rows >= 0
        told[told] = self._was_told.take(rows[told])
        return told

    def sums(self, slots: Slots, time: int) -> F64:
        """Of `slots` now, a row a horizon of the plan."""
        rows = self._rows.find(slots)
        known = rows >= 0
        if np.count_nonzero(known) == len(known):
            return self._sums.read(rows, time)
        sums = np.zeros((len(self.plan), len(slots)))
        sums[:, known] = self._sums.read(rows[known], time)
        return sums

    def sums_over(self, which: int, slots: Slots, time: int) -> F64:
        """The same over one horizon of the plan, by its index."""
        rows = self._rows.find(slots)
        known = rows >= 0
        if np.count_nonzero(known) == len(known):
            return self._sums.read_one(which, rows, time)
        sums = np.zeros(len(slots))
        sums[known] = self._sums.read_one(which, rows[known], time)
        return sums

    def refresh(self, list_peers: Callable[[], Slots], group_of: Slots | None, time: int) -> None:
        """Learn, once a minute, what is common among the peers of each group. `group_of` is by slot, -1 is none;
        without it all are of one. Who is no peer makes nothing common, and is held against those who are."""
        if time < self._refreshed_at + _REFRESH_SECONDS:
            return
        self._refreshed_at = time
        live = list_peers()
        groups = np.zeros(len(live), np.int64) if group_of is None else group_of[live]
        live, groups = live[groups >= 0], groups[groups >= 0]
        count = self._common.shape[1]
        peers = self._peers = np.bincount(groups, minlength=count)
        rank = np.maximum(np.ceil(RARE_SHARE * peers).astype(np.int64), 1)  # So many may be higher.
        some = self._is_high.nonzero()[0]
        lately = np.maximum(self._today.take(some, axis=0).T, self._yesterday.take(some, axis=1))
        once = np.maximum(self._past.take(some, axis=1), self._begun.take(some, axis=1))
        peaks = np.maximum(lately, once)
        # A level below the prior makes no difference, and few are above.
        is_high = peaks * self._factors > self._floors
        own_slots = self._rows.slot_of[some]
        is_peer = np.zeros(self._rows.slot_capacity, np.bool_)
        is_peer[live] = True
        group_of_some = np.zeros(len(some), np.int64) if group_of is None else group_of[own_slots]
        group_of_some = np.where((own_slots >= 0) & is_peer[own_slots], group_of_some, -1)
        self._is_high[some] = is_high.any(axis=0)
        self._common[:] = 0.0
        is_counted = group_of_some >= 0
        enough = (peers >= PEERS_MIN).nonzero()[0]
        for row in is_high.any(axis=1).nonzero()[0].tolist():
            high = (is_high[row] & is_counted).nonzero()[0]
            own, heights = _sort_descending(group_of_some[high], peaks[row, high])
            place = np.searchsorted(own, enough) + rank[enough]
            has = place < len(own)
            has[has] = own[place[has]] == enough[has]
            self._common[row, enough[has]] = heights[place[has]]

    def project(self, live: Slots, time: int) -> None:
        """The installation's first hour is over: what each of the `live` slots did in it, at the most what the plan
        states for an hour, is ordinary from now on, for as long as it goes on."""
        hour = self._hour
        live = self._rows.find(live[live < self._rows.slot_capacity])  # There is no room yet for who came just now.
        live = live[live >= 0]  # Who did nothing has nothing to go on with.
        if hour < 0 or not len(live):
            return
        seen = self._sums.read(live, time)[hour] / (1 - np.exp(-1.0))  # An hour's rate fills the sum to that share.
        steady = np.minimum(seen, self._priors[hour]) * self._seconds / _HOUR_SECONDS
        self._is_high[live] = True
        # A day has many windows: the highest of them stands out of their mean.
        self._past[:, live] = np.maximum(self._past.take(live, axis=1), steady + _PEAK_DEVIATIONS * np.sqrt(steady))

    def expect(self, slot: int) -> bool:
        """A person says that what the subject does is ordinary: the highest so far is its own past. False for -1."""
        if slot < 0:
            return False
        row = int(self._rows.find(np.array([slot]))[0])
        if row >= 0:
            seen = self._sums.read(np.array([row]), 0)[:, 0]  # As it was when it grew last.
            late = np.maximum(np.maximum(self._yesterday[:, row], self._today[row]), seen)
            self._past[:, row] = np.maximum(self._past[:, row], late)
            self._is_high[row] = True
            self._told.forget(np.array([row]))
            self._was_told[row] = False
        return True

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        if not len(slots):
            return
        rows = self._rows.release(slots)
        self._sums.forget(rows)
        if self._repeated is not None:
            self._repeated.forget(rows)
        self._today[rows] = 0
        self._told.forget(rows)
        for part in (self._yesterday, self._past, self._begun):
            part[:, rows] = 0
        self._born[rows] = 0
        self._is_high[rows] = self._was_told[rows] = False

    def dump(self) -> State:
        """State for a checkpoint."""
        clock = np.array([self._day, self._refreshed_at])
        today = np.ascontiguousarray(self._today.T)
        own: State = {"today": today, "yesterday": self._yesterday, "past": self._past}
        own |= {"common": self._common, "peers": self._peers, "clock": clock}
        own |= {"born": self._born, "begun": self._begun, "told": self._told.dump(len(self._born))}
        own |= {f"rows.{name}": array for name, array in self._rows.dump().items()}
        if self._repeated is not None:
            own |= {f"repeated.{name}": array for name, array in self._repeated.dump().items()}
        return own | {f"sums.{name}": array for name, array in self._sums.dump().items()}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._today = np.ascontiguousarray(state["today"].T, np.float32)
        self._yesterday, self._past, self._begun = (
            state[name].astype(np.float32) for name in ("yesterday", "past", "begun")
        )
        self._told.load(state["told"].astype(np.float32))
        self._was_told = state["told"].any(axis=0)
        count = len(state["born"])
        self._is_high = np.ones(count, np.bool_)  # The next refresh knows.
        # Version 8 had a row for each slot.
        every: State = {"slot_of": np.arange(count), "slots": np.array([count])}
        self._rows.load({name: state.get(f"rows.{name}", array) for name, array in every.items()})
        self._common = state["common"].astype(np.float64)
        self._peers, self._born = state["peers"].astype(np.int64), state["born"].astype(np.uint16)
        self._day, self._refreshed_at = (int(value) for value in state["clock"])
        self._sums.load({"sums": state["sums.sums"], "at": state["sums.at"]})
        if self._repeated is not None:
            self._repeated.grow(count)
            if "repeated.today" in state:  # Older states have none.
                named = ((name.partition("repeated."), array) for name, array in state.items())
                self._repeated.load({name: array for (before, _, name), array in named if not before})

    def _take_rows(self, slots: Slots) -> Slots:
        rows, capacity = self._rows.take(slots), self._rows.capacity
        if capacity > len(self._born):
            self._sums.grow(capacity)
            self._today, self._yesterday = grow_rows(self._today, capacity), grow(self._yesterday, capacity)
            self._past, self._born = grow(self._past, capacity), grow(self._born, capacity)
            self._begun = grow(self._begun, capacity)
            self._is_high, self._was_told = grow(self._is_high, capacity), grow(self._was_told, capacity)
            if self._repeated is not None:
                self._repeated.grow(capacity)
        return rows

    def _turn_day(self, time: int) -> None:
        day = time // _DAY_SECONDS
        if day <= self._day:
            return
        passed = day - self._day if self._day else 1
        young = ((self._born > self._day - _KNOWN_DAYS) & (self._born > 0)).nonzero()[0]
        self._begun[:, young] = np.maximum(self._begun[:, young], self._today[young].T)
        today = np.ascontiguousarray(self._today.T)
        ended = self._yesterday if passed == 1 else np.maximum(self._yesterday, today)
        self._past = np.maximum(self._past * _FADE_A_DAY**passed, ended)
        if self._repeated is not None and self._day:
            rows, reached = self._repeated.turn_day()
            self._past[:, rows] = np.maximum(self._past[:, rows], reached)
            self._is_high[rows] = True
        self._yesterday = today if passed == 1 else np.zeros_like(today)
        self._today = np.zeros_like(self._today)
        self._day = day


_NOTHING = Excess(
    slots=np.zeros(0, np.int64), sums=np.zeros(0), ceilings=np.zeros(0), horizon=np.zeros(0, np.int64), basis=()
)


def _sort_descending(groups: Slots, heights: F32) -> tuple[Slots, F32]:
    """Groups ascending, and within each the heights, which are not negative, descending. The bits of such numbers
    ascend as they do, so that both are one number: sorted in a tenth of the time that two keys take."""
    keys = (groups.astype(np.uint64) << _BITS) | (_LOW - heights.view(np.uint32).astype(np.uint64))
    keys.sort()
    return (keys >> _BITS).astype(np.int64), (_LOW - (keys & _LOW)).astype(np.uint32).view(np.float32)


def _name_basis(own: float, peers: float, ceiling: float) -> Basis:
    if own >= ceiling:
        return Basis.HISTORY
    return Basis.PEERS if peers >= ceiling else Basis.PRIOR
