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
from collections.abc import Callable, Sequence

import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal, Basis
from collector.core.kinds import LEVELS, RANKS
from collector.core.rates import LocalTime
from collector.detection.framework.detector import ClosedWindow, Detector
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.loss import Losses
from collector.detection.framework.state import F64, Bools, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.detection.volume.windowed import Breach, WindowedBursts, WindowedSeason

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
_TOGETHER_SHARE = 5  # or one of so many, and be reported.
_AGAIN_HOURS = 7 * _HOURS
_SINCE_HOURS = 24  # Who had no busy hour for so long stopped before it was judged.
_ONGOING_HOURS = 24
_EXCUSED_HOURS = 48
_GONE_HOURS = 7 * _HOURS
_KNOWN_HOURS = 2 * _HOURS  # Who is known for less may have taken over,
_TAKEN_OVER = (0.4, 5.0)  # with so much of the least calls that are missing,
_ALIKE = 0.55  # where the calls are spread so much alike; 1: the same.
_MAIN = 0.25  # Of its busiest endpoint: where a consumer mostly calls.
_REPORTED_SHARE = 0.5  # Of its calls: an endpoint with fewer may be reported for its silence.
_OTHERS_MIN = 0.2  # Of an endpoint's calls: with fewer, others say nothing.
_OTHERS_FALL = 0.5
_LOSS_MAX = 0.02
_NEVER = -(1 << 30)
_CALM, _REPORTED, _EXCUSED = 0, 1, 2


class _Callers(DetectorState):
    """By row."""

    has_own_size = True
    slot = column(np.int32, fill=-1)  # Of a consumer; -1: the row is free.
    least = column(np.uint8, 2 * _HOURS, fill=_UNSEEN)
    days = column(np.uint8, 2)
    is_workload = column(np.bool_)
    seen = column(np.int32)  # Hour that was busy last.
    reported = column(np.int32, fill=_NEVER)  # Hour.
    state = column(np.uint8)
    rank = column(np.uint8)  # Of the level that reported it.
    fallen = column(np.float32, 2)  # Doublings and hours of a fall.


class SilenceDetector(Detector):
    """Steady callers that fall silent. Rows are of callers; what is by slot is of all consumers."""

    name = "silence"
    kinds = frozenset({AlertKind.VOLUME_CONSUMER})
    parts = ("_rows", "bar")
    _first = column(np.int32)  # Hour a consumer was seen first.

    def __init__(
        self,
        subjects: SubjectIndex,
        losses: Losses,
        pairs: WindowedBursts,
        endpoints: Sequence[WindowedSeason],
        report: Callable[[Breach], AlertSignal],
        local_time: LocalTime,
    ) -> None:
        """`pairs`: their hours; `endpoints`: all of theirs, hours last; `report` names a consumer."""
        super().__init__()
        self._subjects, self._losses, self._pairs, self._endpoints = subjects, losses, pairs, endpoints
        self._report, self._local = report, local_time
        self.bar = InstallationBar()
        self._rows = _Callers()
        self._noted: dict[int, tuple[Slots, F64]] = {}  # Hours of consumers, until those of endpoints close.
        subjects.consumers.follow(self)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._rows.slot >= 0))

    @property
    def held_back_count(self) -> int:
        return self.bar.held_back_count

    def close(self, closed: ClosedWindow) -> Sequence[AlertSignal]:
        if closed.seconds == HOUR_SECONDS and closed.kind is AlertKind.VOLUME_CONSUMER:
            self._noted[closed.window] = closed.slots, closed.calls
            self._first[closed.slots[self._first[closed.slots] == 0]] = closed.window
        elif closed.seconds == HOUR_SECONDS and closed.kind is AlertKind.VOLUME_ENDPOINT:
            return [self._report(breach) for breach in self._close_hour(closed)]
        return ()

    def _close_hour(self, closed: ClosedWindow) -> list[Breach]:
        """Evaluate and learn an hour of consumers, which has closed for endpoints."""
        hour = closed.window
        slots, own = self._noted.pop(hour, (np.zeros(0, np.int64), np.zeros(0)))
        self._noted.clear()
        self.bar.start(closed.start)
        # An installation's first hour is a part of one; that no row came at all is no silence.
        if not len(slots) or closed.is_first:
            return []
        by_slot = np.zeros(self.size)
        by_slot[slots] = own
        rows = (self._rows.slot >= 0).nonzero()[0]
        rows = rows[~self._find_lossy(rows)]  # Nor is what was lost.
        by_endpoint = np.zeros(self._subjects.endpoints.capacity)
        by_endpoint[closed.slots] = closed.calls
        breaches = self._judge(hour, rows, by_slot, by_endpoint)
        self._learn(hour, rows, by_slot[self._rows.slot[rows]])
        self._admit(hour, slots, own)
        return breaches

    def forget(self, slots: Slots) -> None:
        super().forget(slots)
        self._rows.forget(np.isin(self._rows.slot, slots).nonzero()[0])

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """The days of the consumer are learned anew."""
        slot = self._subjects.consumers.find("", consumer)
        self._rows.forget((self._rows.slot == slot).nonzero()[0] if slot >= 0 else np.zeros(0, np.int64))
        return slot >= 0

    def turn_clock(self, hours: int) -> None:
        least = self._rows.least.reshape(2, _HOURS, -1)
        self._rows.least = np.roll(least, hours, axis=1).reshape(2 * _HOURS, -1)

    def _find_lossy(self, rows: Slots) -> Bools:
        """Of whose calls, or of those at the endpoints where it mostly calls, sensors lost too many to judge it."""
        slots = self._rows.slot[rows].astype(np.int64)
        own = self._losses.consumers.ratios(slots, HOUR_SECONDS)
        is_lossy = np.zeros(len(rows), np.bool_) if own is None else own > _LOSS_MAX
        capacity = self._subjects.endpoints.capacity
        by_endpoint = self._losses.endpoints.ratios(np.arange(capacity), HOUR_SECONDS)
        if by_endpoint is None:
            return is_lossy
        for place in (~is_lossy).nonzero()[0].tolist():
            levels = self._find_levels(int(slots[place]))
            is_lossy[place] = float(levels @ by_endpoint) > _LOSS_MAX * float(levels.sum())
        return is_lossy

    def _judge(self, hour: int, rows: Slots, by_slot: F64, by_endpoint: F64) -> list[Breach]:
        part, cell = self._find_cell(hour)
        least, calls = self._rows.least[cell, rows].astype(np.int64), by_slot[self._rows.slot[rows]]
        scaled = _scale(calls)
        is_busy = (least >= _LIMIT) & (least != _UNSEEN)
        is_low = is_busy & (least - scaled >= _FALL)
        self._rows.fallen[0, rows] = np.where(is_low, self._rows.fallen[0, rows] + (least - scaled) / _SCALE, 0)
        self._rows.fallen[1, rows] = np.where(is_low, self._rows.fallen[1, rows] + 1, 0)
        self._rows.state[rows[(scaled >= _LIMIT) & (scaled >= least - _SCALE)]] = _CALM
        is_judged = is_busy & self._find_steady(part, rows)
        self._excuse(rows, is_busy, is_judged, is_low)
        breaches = []
        for place in (is_low & is_judged).nonzero()[0].tolist():
            row, expected = int(rows[place]), _unscale(int(least[place]))
            score = min(float(self._rows.fallen[0, row]) / _NEED, _SCORE_MAX)
            if self._is_reported(hour, row, score, expected, by_slot, by_endpoint):
                breaches.append(self._cross(hour, row, float(calls[place]), expected, score))
        return breaches

    def _find_steady(self, part: int, rows: Slots) -> Bools:
        """Whose days of this part of the week are known, and busy at most hours."""
        of_day = self._rows.least[part * _HOURS : (part + 1) * _HOURS, rows]
        hours = np.count_nonzero((of_day >= _LIMIT) & (of_day != _UNSEEN), axis=0)
        needed = np.where(self._rows.is_workload[rows], _STEADY_HOURS_WORKLOAD, _STEADY_HOURS)
        is_steady: Bools = (self._rows.days[part, rows] >= DAYS_MIN[part]) & (hours >= needed)
        return is_steady

    def _excuse(
        self,
        rows: Slots,
        is_busy: Bools,
        is_judged: Bools,
        is_low: Bools,
    ) -> None:
        """Where several fall at once it is a holiday, or a sensor that is away: it is reported of nobody."""
        is_falling = is_low & (self._rows.state[rows] == _CALM)
        is_away = is_low & (self._rows.state[rows] != _REPORTED)  # Those who began their day earlier too.
        is_common = np.count_nonzero(is_away) * _TOGETHER_SHARE > np.count_nonzero(is_busy) > _TOGETHER_SHARE
        count = int(np.count_nonzero(is_judged))
        if is_common:
            self._rows.state[rows[is_falling]] = _EXCUSED
        elif np.count_nonzero(is_falling & is_judged) > min(_TOGETHER_MAX, max(1, count // _TOGETHER_SHARE)):
            self._rows.state[rows[is_falling & is_judged]] = _EXCUSED

    def _is_reported(self, hour: int, row: int, score: float, expected: float, by_slot: F64, by_endpoint: F64) -> bool:
        """Whether an hour of a fall is reported; remembers it."""
        if self._rows.state[row] == _REPORTED:
            return hour - int(self._rows.reported[row]) < _ONGOING_HOURS
        is_over = score >= 1 and self._rows.fallen[1, row] >= _FALL_HOURS
        is_late = hour - int(self._rows.seen[row]) > _SINCE_HOURS or hour - int(self._rows.reported[row]) < _AGAIN_HOURS
        if not is_over or is_late or self._rows.state[row] == _EXCUSED:
            return False
        slot = int(self._rows.slot[row])
        endpoints = self._find_endpoints(slot)
        if self._has_fallen(row, endpoints, expected, float(by_slot[slot]), by_endpoint, hour):
            self._rows.fallen[:, row] = 0  # Reported of the endpoint; of who does not come back with it later.
            return False
        if self._is_followed(hour, slot, endpoints, expected, by_slot):
            self._rows.state[row] = _EXCUSED
            return False
        key = int(self._subjects.consumers.keys[slot])
        level = self.bar.admit(key, score, hour * HOUR_SECONDS, len(self))
        if level is None:
            return False
        self._rows.state[row], self._rows.reported[row], self._rows.rank[row] = _REPORTED, hour, RANKS[level]
        return True

    def _find_endpoints(self, slot: int) -> Slots:
        """Where a consumer mostly calls."""
        levels = self._find_levels(slot)
        main: Slots = ((levels > 0) & (levels >= _MAIN * np.max(levels))).nonzero()[0]
        return main

    def _find_levels(self, slot: int) -> F64:
        """A consumer's customary hour at each endpoint, by endpoint slot."""
        pairs: Slots = (self._subjects.pair_consumer == slot).nonzero()[0]
        pairs = pairs[self._subjects.pair_endpoint[pairs] >= 0]
        capacity = max(self._subjects.endpoints.capacity, 1)
        levels: F64 = np.bincount(self._subjects.pair_endpoint[pairs], self._pairs.levels(pairs), capacity)
        return levels

    def _has_fallen(self, row: int, endpoints: Slots, expected: float, own: float, by_endpoint: F64, hour: int) -> bool:
        """Whether endpoints with most of its calls were reported since it fell, or their other callers fell too; of one
        that nearly nobody else calls only the former."""
        since = (hour - int(self._rows.fallen[1, row])) * HOUR_SECONDS
        if not len(endpoints):
            return True
        is_reported = np.any([watch.was_reported(endpoints, since) for watch in self._endpoints], axis=0)
        levels = self._find_levels(int(self._rows.slot[row]))
        if float(levels[endpoints[is_reported]].sum()) >= _REPORTED_SHARE * float(levels.sum()):
            return True
        foreseen = float(self._endpoints[-1].last_expected[endpoints].sum())
        others = foreseen - expected
        if others < _OTHERS_MIN * foreseen:
            return False
        return float(by_endpoint[endpoints].sum()) - own < _OTHERS_FALL * others

    def _is_followed(self, hour: int, slot: int, endpoints: Slots, expected: float, by_slot: F64) -> bool:
        """Whether a consumer that is new took over at its endpoints: another credential, or another workload."""
        there = self._subjects.pair_consumer[np.isin(self._subjects.pair_endpoint, endpoints)]
        there = np.unique(there[(there >= 0) & (there != slot)])
        share = by_slot[there] / expected
        is_new = (hour - self._first[there] < _KNOWN_HOURS) & (share >= _TAKEN_OVER[0]) & (share <= _TAKEN_OVER[1])
        # Many come to a busy endpoint within two days; calls of one caller are spread alike under either key.
        return bool((self._find_overlap(slot, there[is_new]) >= _ALIKE).any())

    def _find_overlap(self, slot: int, others: Slots) -> F64:
        """How alike the calls of each of `others` (distinct, ascending) are spread over endpoints: the Bhattacharyya
        coefficient of the roots, for a level is the largest burst."""
        own, subjects = np.sqrt(self._find_levels(slot)), self._subjects
        own /= max(float(own.sum()), 1e-9)
        pairs: Slots = (np.isin(subjects.pair_consumer, others) & (subjects.pair_endpoint >= 0)).nonzero()[0]
        index, levels = np.searchsorted(others, subjects.pair_consumer[pairs]), np.sqrt(self._pairs.levels(pairs))
        total = np.maximum(np.bincount(index, levels, len(others)), 1e-9)
        common = np.sqrt(levels / total[index] * own[subjects.pair_endpoint[pairs]])
        overlap: F64 = np.bincount(index, common, len(others))
        return overlap

    def _cross(self, hour: int, row: int, calls: float, expected: float, score: float) -> Breach:
        return Breach(
            kind=AlertKind.VOLUME_CONSUMER,
            slot=int(self._rows.slot[row]),
            window=hour,
            window_seconds=HOUR_SECONDS,
            is_above=False,
            calls=calls,
            expected=expected,
            threshold=expected * 2.0 ** (-_FALL / _SCALE),
            score=max(score, 1.0),
            basis=Basis.SEASON,
            quietest=LEVELS[int(self._rows.rank[row])],
        )

    def _learn(self, hour: int, rows: Slots, calls: F64) -> None:
        """What is a holiday's teaches nothing, for two days."""
        part, cell = self._find_cell(hour)
        hours = self._rows.fallen[1, rows]
        is_excused = (self._rows.state[rows] == _EXCUSED) & (hours > 0) & (hours <= _EXCUSED_HOURS)
        self._rows.seen[rows[calls >= CALLS_MIN]] = hour
        known, scaled = self._rows.least[cell, rows].astype(np.int64), _scale(calls)
        risen = np.where(known == _UNSEEN, scaled, np.maximum(known, _FADED) + _RISE)
        self._rows.least[cell, rows] = np.where(is_excused, known, np.minimum(scaled, risen))
        if cell % _HOURS == _HOURS - 1:
            self._rows.days[part, rows] = np.minimum(self._rows.days[part, rows], 100) + 1
        self._rows.forget(rows[self._rows.seen[rows] < hour - _GONE_HOURS])

    def _admit(self, hour: int, slots: Slots, calls: F64) -> None:
        """Keep the days of busy consumers from here on, the busiest first; where there is no room, instead of those
        who are not steady."""
        is_busy = calls >= CALLS_MIN
        is_busy &= ~np.isin(slots, self._rows.slot)
        busy = slots[is_busy][np.argsort(-calls[is_busy], kind="stable")]
        if not len(busy):
            return
        free = (self._rows.slot < 0).nonzero()[0]
        if len(free) < len(busy):
            free = self._make_room(len(busy))
        rows, busy = free[: len(busy)], busy[: len(free)]
        self._rows.slot[rows], self._rows.seen[rows] = busy, hour
        self._rows.is_workload[rows] = [
            self._subjects.consumers.name(slot).consumer.startswith("workload:") for slot in busy
        ]

    def _make_room(self, wanted: int) -> Slots:
        free = (self._rows.slot < 0).nonzero()[0]
        count = min(CALLERS_MAX, max(self._rows.size + wanted - len(free), self._rows.size * 5 // 4))
        if count > self._rows.size:
            self._rows.grow(count)
        free = (self._rows.slot < 0).nonzero()[0]
        if len(free) < wanted:
            hours = np.count_nonzero((self._rows.least >= _LIMIT) & (self._rows.least != _UNSEEN), axis=0)
            is_old = (self._rows.days >= np.array([[2], [0]])).all(axis=0)
            unsteady = ((self._rows.slot >= 0) & is_old & (hours < _STEADY_HOURS_WORKLOAD)).nonzero()[0]
            self._rows.forget(unsteady[: wanted - len(free)])
            free = (self._rows.slot < 0).nonzero()[0]
        return free

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
