"""Detects steady callers that fall silent: an hour of a consumer against the least of its days at that hour.

Nothing is added per row: an hour is read when it closes. For the busiest consumers, the least calls an hour had are
kept, by hour of the day, for weekdays and weekends. A lower hour lowers it at once, and it rises by an eighth a day.
The evidence is how many doublings an hour is below that, summed over the hours of a fall. As the largest burst of some
days bounds the next (collector/detection/volume/burst.py), the least of some days bounds the next, whatever the
distribution.

A fall that is not one caller's own is not reported. That is where several fall in the same hour, or where the other
callers of its endpoints fall too. It also is where the endpoint was reported, or a consumer new within two days took
over. See docs/internals/detection.md.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, Basis
from collector.core.kinds import LEVELS, RANKS
from collector.core.rates import LocalTime
from collector.detection.framework.contract import F64, State
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.loss import Losses
from collector.detection.framework.slots import Slots, grow
from collector.detection.framework.subject_index import Roster
from collector.detection.volume.windowed import Crossing, Watch

HOUR_SECONDS = 3_600
CALLERS_MAX = 2_048
CALLS_MIN = 50  # Of an hour that is judged, at the least, in the least of its days.
DAYS_MIN = (6, 4)  # Of weekdays and of weekends, before theirs are judged.
_HOURS = 24
_STEADY_HOURS = 16  # Of a day: nobody is at work for so long.
_STEADY_HOURS_WORKLOAD = 4  # A workload inside is no person.
_SCALE = 16.0  # Steps a doubling.
_UNSEEN = 255
_LIMIT = round(_SCALE * math.log2(CALLS_MIN + 1))
_FADED = 48  # Of the scale, 7 calls: what is less is known as that much a day later.
_RISE = 3  # Of the scale, a day.
_NEED = 8.0  # Doublings that tell.
_FALL = int(3.4 * _SCALE)  # An hour of a fall is below a tenth.
_FALL_HOURS = 2
_SCORE_MAX = 3.0
_TOGETHER_MAX = 3  # So many may fall in the same hour,
_TOGETHER_SHARE = 5  # or one of so many, and be told.
_AGAIN_HOURS = 7 * _HOURS
_SINCE_HOURS = 24  # Who had no busy hour for so long stopped before it was judged.
_ONGOING_HOURS = 24
_EXCUSED_HOURS = 48
_GONE_HOURS = 7 * _HOURS
_KNOWN_HOURS = 2 * _HOURS  # Who is known for less may have taken over,
_TAKEN_OVER = (0.4, 5.0)  # with so much of the least calls that are missing,
_ALIKE = 0.55  # where the calls are spread so much alike; 1: the same.
_MAIN = 0.25  # Of its busiest endpoint: where a consumer mostly calls.
_TOLD_SHARE = 0.5  # Of its calls: an endpoint with fewer may be told for its silence.
_OTHERS_MIN = 0.2  # Of an endpoint's calls: with fewer, others say nothing.
_OTHERS_FALL = 0.5
_LOSS_MAX = 0.02
_NEVER = -(1 << 30)
_CALM, _TOLD, _EXCUSED = 0, 1, 2


class SteadyCallers:
    """See the module. Rows are of consumers; what is by slot is of the roster's."""

    def __init__(self, roster: Roster, pairs: Watch, endpoints: Sequence[Watch], local: LocalTime) -> None:
        """`pairs`: the watch of their hours; `endpoints`: all of theirs, that of hours last."""
        self._roster, self._pairs, self._endpoints = roster, pairs, endpoints
        self._local = local
        self.bar = InstallationBar()
        self._first: NDArray[np.int32] = np.zeros(0, np.int32)  # Hour a consumer was seen first, by slot.
        self._set_rows(0)
        self._noted: dict[int, tuple[Slots, F64]] = {}  # Hours of consumers, until those of endpoints close.

    def _set_rows(self, count: int) -> None:
        self._slot: NDArray[np.int32] = np.full(count, -1, np.int32)  # -1: free.
        self._least: NDArray[np.uint8] = np.full((2 * _HOURS, count), _UNSEEN, np.uint8)
        self._days: NDArray[np.uint8] = np.zeros((2, count), np.uint8)
        self._is_workload: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self._seen: NDArray[np.int32] = np.zeros(count, np.int32)  # Hour that was busy last.
        self._told: NDArray[np.int32] = np.full(count, _NEVER, np.int32)  # Hour.
        self._state: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self._rank: NDArray[np.uint8] = np.zeros(count, np.uint8)  # Of the level that told it.
        self._fallen: NDArray[np.float32] = np.zeros((2, count), np.float32)  # Doublings and hours of a fall.

    def __len__(self) -> int:
        return int(np.count_nonzero(self._slot >= 0))

    def note(self, hour: int, slots: Slots, calls: F64) -> None:
        """Calls of the consumers of an hour that closes."""
        self._noted[hour] = slots, calls
        self._first = grow(self._first, self._roster.consumers.table.capacity)
        fresh = slots[self._first[slots] == 0]
        self._first[fresh] = hour

    def close(self, hour: int, endpoints: Slots, calls: F64, losses: Losses) -> list[Crossing]:
        """Judge and learn an hour that was noted, when it has closed for `endpoints`, which had so many `calls`."""
        slots, own = self._noted.pop(hour, (np.zeros(0, np.int64), np.zeros(0)))
        self._noted.clear()
        self.bar.start(hour * HOUR_SECONDS)
        # An installation's first hour is a part of one; that no row came at all is no silence.
        if not len(slots) or hour <= self._endpoints[-1].windows.first:
            return []
        by_slot = np.zeros(max(len(self._first), 1))
        by_slot[slots] = own
        rows = (self._slot >= 0).nonzero()[0]
        rows = rows[~self._find_lossy(rows, losses)]  # Nor is what was lost.
        by_endpoint = np.zeros(self._roster.endpoints.table.capacity)
        by_endpoint[endpoints] = calls
        crossings = self._judge(hour, rows, by_slot, by_endpoint)
        self._learn(hour, rows, by_slot[self._slot[rows]])
        self._admit(hour, slots, own)
        return crossings

    def forget(self, slots: Slots) -> None:
        """Clear evicted consumers."""
        self._first[slots[slots < len(self._first)]] = 0
        self._free(np.isin(self._slot, slots).nonzero()[0])

    def expect(self, slot: int) -> None:
        """A person says that its silence is ordinary: its days are learnt anew."""
        self._free((self._slot == slot).nonzero()[0])

    def turn(self, hours: int) -> None:
        """The clocks show so many hours more than when days were learnt: another time zone was set."""
        self._least = np.roll(self._least.reshape(2, _HOURS, -1), hours, axis=1).reshape(2 * _HOURS, -1)

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        rows: State = {"slot": self._slot, "least": self._least, "days": self._days, "workload": self._is_workload}
        rows |= {"seen": self._seen, "told": self._told, "state": self._state, "rank": self._rank}
        rows |= {"fallen": self._fallen, "first": self._first}
        return {"steady": rows, "steady.bar": self.bar.dump()}

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`; a state of before leaves all to be learnt."""
        if "steady" not in parts:
            return
        state = parts["steady"]
        self._slot, self._least = state["slot"].astype(np.int32), state["least"].astype(np.uint8)
        self._days, self._is_workload = state["days"].astype(np.uint8), state["workload"].astype(np.bool_)
        self._seen, self._told = state["seen"].astype(np.int32), state["told"].astype(np.int32)
        self._state, self._rank = state["state"].astype(np.uint8), state["rank"].astype(np.uint8)
        self._fallen, self._first = state["fallen"].astype(np.float32), state["first"].astype(np.int32)
        self.bar.load(parts["steady.bar"])

    def _find_lossy(self, rows: Slots, losses: Losses) -> NDArray[np.bool_]:
        """Of whose calls, or of those at the endpoints where it mostly calls, sensors lost too many to judge it."""
        slots = self._slot[rows].astype(np.int64)
        own = losses.consumers.ratios(slots, HOUR_SECONDS)
        is_lossy = np.zeros(len(rows), np.bool_) if own is None else own > _LOSS_MAX
        capacity = self._roster.endpoints.table.capacity
        by_endpoint = losses.endpoints.ratios(np.arange(capacity), HOUR_SECONDS)
        if by_endpoint is None:
            return is_lossy
        for place in (~is_lossy).nonzero()[0].tolist():
            levels = self._find_levels(int(slots[place]))
            is_lossy[place] = float(levels @ by_endpoint) > _LOSS_MAX * float(levels.sum())
        return is_lossy

    def _judge(self, hour: int, rows: Slots, by_slot: F64, by_endpoint: F64) -> list[Crossing]:
        part, cell = self._find_cell(hour)
        least, calls = self._least[cell, rows].astype(np.int64), by_slot[self._slot[rows]]
        scaled = _scale(calls)
        is_busy = (least >= _LIMIT) & (least != _UNSEEN)
        is_low = is_busy & (least - scaled >= _FALL)
        self._fallen[0, rows] = np.where(is_low, self._fallen[0, rows] + (least - scaled) / _SCALE, 0)
        self._fallen[1, rows] = np.where(is_low, self._fallen[1, rows] + 1, 0)
        self._state[rows[(scaled >= _LIMIT) & (scaled >= least - _SCALE)]] = _CALM
        is_judged = is_busy & self._find_steady(part, rows)
        self._excuse(rows, is_busy, is_judged, is_low)
        crossings = []
        for place in (is_low & is_judged).nonzero()[0].tolist():
            row, expected = int(rows[place]), _unscale(int(least[place]))
            score = min(float(self._fallen[0, row]) / _NEED, _SCORE_MAX)
            if self._is_told(hour, row, score, expected, by_slot, by_endpoint):
                crossings.append(self._cross(hour, row, float(calls[place]), expected, score))
        return crossings

    def _find_steady(self, part: int, rows: Slots) -> NDArray[np.bool_]:
        """Whose days of this part of the week are known, and busy at most hours."""
        of_day = self._least[part * _HOURS : (part + 1) * _HOURS, rows]
        hours = np.count_nonzero((of_day >= _LIMIT) & (of_day != _UNSEEN), axis=0)
        needed = np.where(self._is_workload[rows], _STEADY_HOURS_WORKLOAD, _STEADY_HOURS)
        is_steady: NDArray[np.bool_] = (self._days[part, rows] >= DAYS_MIN[part]) & (hours >= needed)
        return is_steady

    def _excuse(
        self,
        rows: Slots,
        is_busy: NDArray[np.bool_],
        is_judged: NDArray[np.bool_],
        is_low: NDArray[np.bool_],
    ) -> None:
        """Where several fall at once it is a holiday, or a sensor that is away: it is told of nobody."""
        is_falling = is_low & (self._state[rows] == _CALM)
        is_away = is_low & (self._state[rows] != _TOLD)  # Those who began their day earlier too.
        is_common = np.count_nonzero(is_away) * _TOGETHER_SHARE > np.count_nonzero(is_busy) > _TOGETHER_SHARE
        count = int(np.count_nonzero(is_judged))
        if is_common:
            self._state[rows[is_falling]] = _EXCUSED
        elif np.count_nonzero(is_falling & is_judged) > min(_TOGETHER_MAX, max(1, count // _TOGETHER_SHARE)):
            self._state[rows[is_falling & is_judged]] = _EXCUSED

    def _is_told(self, hour: int, row: int, score: float, expected: float, by_slot: F64, by_endpoint: F64) -> bool:
        """Whether an hour of a fall is told; remembers it."""
        if self._state[row] == _TOLD:
            return hour - int(self._told[row]) < _ONGOING_HOURS
        is_over = score >= 1 and self._fallen[1, row] >= _FALL_HOURS
        is_late = hour - int(self._seen[row]) > _SINCE_HOURS or hour - int(self._told[row]) < _AGAIN_HOURS
        if not is_over or is_late or self._state[row] == _EXCUSED:
            return False
        slot = int(self._slot[row])
        endpoints = self._find_endpoints(slot)
        if self._has_fallen(row, endpoints, expected, float(by_slot[slot]), by_endpoint, hour):
            self._fallen[:, row] = 0  # Told of the endpoint; of who does not come back with it later.
            return False
        if self._is_followed(hour, slot, endpoints, expected, by_slot):
            self._state[row] = _EXCUSED
            return False
        key = int(self._roster.consumers.table.keys[slot])
        level = self.bar.admit(key, score, hour * HOUR_SECONDS, len(self))
        if level is None:
            return False
        self._state[row], self._told[row], self._rank[row] = _TOLD, hour, RANKS[level]
        return True

    def _find_endpoints(self, slot: int) -> Slots:
        """Where a consumer mostly calls."""
        levels = self._find_levels(slot)
        main: Slots = ((levels > 0) & (levels >= _MAIN * np.max(levels))).nonzero()[0]
        return main

    def _find_levels(self, slot: int) -> F64:
        """A consumer's customary hour at each endpoint, by endpoint slot."""
        pairs: Slots = (self._roster.pair_consumer == slot).nonzero()[0]
        pairs = pairs[self._roster.pair_endpoint[pairs] >= 0]
        capacity = max(self._roster.endpoints.table.capacity, 1)
        levels: F64 = np.bincount(self._roster.pair_endpoint[pairs], self._pairs.levels(pairs), capacity)
        return levels

    def _has_fallen(self, row: int, endpoints: Slots, expected: float, own: float, by_endpoint: F64, hour: int) -> bool:
        """Whether endpoints with most of its calls were told since it fell, or their other callers fell too; of one
        that nearly nobody else calls only the former."""
        since = (hour - int(self._fallen[1, row])) * HOUR_SECONDS
        if not len(endpoints):
            return True
        is_told = np.any([watch.was_told(endpoints, since) for watch in self._endpoints], axis=0)
        levels = self._find_levels(int(self._slot[row]))
        if float(levels[endpoints[is_told]].sum()) >= _TOLD_SHARE * float(levels.sum()):
            return True
        foreseen = float(self._endpoints[-1].last_expected[endpoints].sum())
        others = foreseen - expected
        if others < _OTHERS_MIN * foreseen:
            return False
        return float(by_endpoint[endpoints].sum()) - own < _OTHERS_FALL * others

    def _is_followed(self, hour: int, slot: int, endpoints: Slots, expected: float, by_slot: F64) -> bool:
        """Whether a consumer that is new took over at its endpoints: another credential, or another workload."""
        there = self._roster.pair_consumer[np.isin(self._roster.pair_endpoint, endpoints)]
        there = np.unique(there[(there >= 0) & (there != slot)])
        share = by_slot[there] / expected
        is_new = (hour - self._first[there] < _KNOWN_HOURS) & (share >= _TAKEN_OVER[0]) & (share <= _TAKEN_OVER[1])
        # Many come to a busy endpoint within two days; calls of one caller are spread alike under either key.
        return bool((self._find_overlap(slot, there[is_new]) >= _ALIKE).any())

    def _find_overlap(self, slot: int, others: Slots) -> F64:
        """How alike the calls of each of `others` (distinct, ascending) are spread over endpoints: the Bhattacharyya
        coefficient of the roots, for a level is the largest burst."""
        own, roster = np.sqrt(self._find_levels(slot)), self._roster
        own /= max(float(own.sum()), 1e-9)
        pairs: Slots = (np.isin(roster.pair_consumer, others) & (roster.pair_endpoint >= 0)).nonzero()[0]
        index, levels = np.searchsorted(others, roster.pair_consumer[pairs]), np.sqrt(self._pairs.levels(pairs))
        total = np.maximum(np.bincount(index, levels, len(others)), 1e-9)
        common = np.sqrt(levels / total[index] * own[roster.pair_endpoint[pairs]])
        overlap: F64 = np.bincount(index, common, len(others))
        return overlap

    def _cross(self, hour: int, row: int, calls: float, expected: float, score: float) -> Crossing:
        return Crossing(
            kind=AlertKind.VOLUME_CONSUMER,
            slot=int(self._slot[row]),
            window=hour,
            window_seconds=HOUR_SECONDS,
            is_above=False,
            calls=calls,
            novel=0.0,
            expected=expected,
            threshold=expected * 2.0 ** (-_FALL / _SCALE),
            score=max(score, 1.0),
            peers=0,
            basis=Basis.SEASON,
            quietest=LEVELS[int(self._rank[row])],
        )

    def _learn(self, hour: int, rows: Slots, calls: F64) -> None:
        """What is a holiday's teaches nothing, for two days."""
        part, cell = self._find_cell(hour)
        hours = self._fallen[1, rows]
        is_excused = (self._state[rows] == _EXCUSED) & (hours > 0) & (hours <= _EXCUSED_HOURS)
        self._seen[rows[calls >= CALLS_MIN]] = hour
        known, scaled = self._least[cell, rows].astype(np.int64), _scale(calls)
        risen = np.where(known == _UNSEEN, scaled, np.maximum(known, _FADED) + _RISE)
        self._least[cell, rows] = np.where(is_excused, known, np.minimum(scaled, risen))
        if cell % _HOURS == _HOURS - 1:
            self._days[part, rows] = np.minimum(self._days[part, rows], 100) + 1
        self._free(rows[self._seen[rows] < hour - _GONE_HOURS])

    def _admit(self, hour: int, slots: Slots, calls: F64) -> None:
        """Keep the days of busy consumers from here on, the busiest first; where there is no room, instead of those
        who are not steady."""
        is_busy = calls >= CALLS_MIN
        is_busy &= ~np.isin(slots, self._slot)
        busy = slots[is_busy][np.argsort(-calls[is_busy], kind="stable")]
        if not len(busy):
            return
        free = (self._slot < 0).nonzero()[0]
        if len(free) < len(busy):
            free = self._make_room(len(busy))
        rows, busy = free[: len(busy)], busy[: len(free)]
        self._slot[rows], self._seen[rows] = busy, hour
        self._is_workload[rows] = [self._roster.consumers.name(slot).consumer.startswith("workload:") for slot in busy]

    def _make_room(self, wanted: int) -> Slots:
        free = (self._slot < 0).nonzero()[0]
        count = min(CALLERS_MAX, max(len(self._slot) + wanted - len(free), len(self._slot) * 5 // 4))
        if count > len(self._slot):
            self._grow(count)
        free = (self._slot < 0).nonzero()[0]
        if len(free) < wanted:
            hours = np.count_nonzero((self._least >= _LIMIT) & (self._least != _UNSEEN), axis=0)
            is_old = (self._days >= np.array([[2], [0]])).all(axis=0)
            unsteady = ((self._slot >= 0) & is_old & (hours < _STEADY_HOURS_WORKLOAD)).nonzero()[0]
            self._free(unsteady[: wanted - len(free)])
            free = (self._slot < 0).nonzero()[0]
        return free

    def _grow(self, count: int) -> None:
        self._slot, self._told = grow(self._slot, count, -1), grow(self._told, count, _NEVER)
        self._least, self._days = grow(self._least, count, _UNSEEN), grow(self._days, count)
        self._is_workload, self._seen = grow(self._is_workload, count), grow(self._seen, count)
        self._state, self._rank = grow(self._state, count), grow(self._rank, count)
        self._fallen = grow(self._fallen, count)

    def _free(self, rows: Slots) -> None:
        self._slot[rows], self._told[rows], self._least[:, rows] = -1, _NEVER, _UNSEEN
        for part in (self._days, self._is_workload, self._seen, self._state, self._rank, self._fallen):
            part[..., rows] = 0

    def _find_cell(self, hour: int) -> tuple[int, int]:
        """0 of a weekday, 1 of a weekend; the hour of its day, those of weekends behind."""
        clock = int(self._local.read(hour * HOUR_SECONDS)) // HOUR_SECONDS
        part = int((clock // _HOURS + 4) % 7 in (0, 6))  # 1970 began on a Thursday; 0 is Sunday.
        return part, part * _HOURS + clock % _HOURS


def _scale(calls: F64) -> Slots:
    """Sixteen steps a doubling, up to 60,000 calls."""
    scaled: Slots = np.minimum(np.round(_SCALE * np.log2(calls + 1)), _UNSEEN - 1).astype(np.int64)
    return scaled


def _unscale(scaled: int) -> float:
    return float(2.0 ** (scaled / _SCALE) - 1)
