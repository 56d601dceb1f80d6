"""One detector of a level on one kind of subject over windows of one length: the windows, the detector, and the
installation's bar.

`WindowedBursts` scores touched subjects at once, because a count only grows and what is past the threshold stays past
it. It scores every window again when it closes, and learns it. `WindowedSeason` scores every live subject when a window
closes, silent ones too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Direction
from collector.alerting.wording import is_scrape
from collector.core.kinds import LEVELS, RANKS, Sensitivity
from collector.detection.framework.distinct import list_distinct
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.slots import SlotTable, SubjectName
from collector.detection.framework.state import F64, Bools, DetectorState, Slots, column, record
from collector.detection.framework.windows import OpenWindows
from collector.detection.volume.burst import GRACE_CLIP, GRACE_WINDOWS, BurstDetector
from collector.detection.volume.level import Observation, Verdict
from collector.detection.volume.population import PEERS_MIN, Population
from collector.detection.volume.season import SeasonDetector

_RAISE = 0.25  # A breach is reported again within its window when the score grew by this share.
_GAP_WINDOWS = 2  # A reported episode goes on across so many calm ones.
_LOSS_MAX = 0.95  # Of what is hardly read nobody knows how much there was.
_CALLS_WEIGHT = 0.5  # Of a call; the rest needs an object the subject had not touched before.


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One subject past a detector's threshold and the installation's bar. Levels are in calls a window."""

    kind: AlertKind
    slot: int
    window: int
    window_seconds: int
    is_above: bool
    calls: float
    novel: float = 0.0
    expected: float
    threshold: float
    score: float
    peers: int = 0
    basis: Basis
    quietest: Sensitivity
    loss_ratio: float = 0.0  # Of its calls, as far as the sensors know.
    elapsed_seconds: int = 0  # From the first call to the window's end or until now; 0: all of it.

    def report(self, name: SubjectName) -> AlertSignal:
        """As a signal about `name`, with rates."""
        seconds = self.window_seconds
        return AlertSignal(
            kind=self.kind,
            direction=Direction.ABOVE if self.is_above else Direction.BELOW,
            endpoint_id=name.endpoint_id,
            endpoint_label=name.label,
            route_ids=name.route_ids,
            consumer=name.consumer,
            window_start=self.window * seconds,
            window_seconds=seconds,
            calls=round(self.calls),
            expected_rate=self.expected / seconds,
            threshold_rate=self.threshold / seconds,
            score=1 - 0.5**self.score,
            excess=self.score - 1,
            basis=self.basis,
            novel_objects=round(self.novel),
            peers=self.peers,
            loss_ratio=self.loss_ratio,
            quietest=self.quietest,
            elapsed_seconds=self.elapsed_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is asked of some slots; as it stands, where nothing is known of any."""

    find_loss: Callable[[Slots], F64 | None]  # Observation.loss.
    find_parents: Callable[[Slots], Slots] = lambda slots: np.full(len(slots), -1, np.int64)  # Endpoint slots.
    find_floor: Callable[[Slots], F64] = lambda slots: np.zeros(len(slots))  # What the parent makes normal.
    find_season: Callable[[Slots, int], F64 | None] = lambda slots, window: None  # Observation.season.


class WindowedDetector(DetectorState):
    """What windows of bursts and of seasons have in common."""

    slot_parts = ("windows", "detector")
    parts: ClassVar[tuple[str, ...]] = ("bar",)
    _remembers_all = True  # What no level reports is remembered too.
    _reported_window = column(np.int32, fill=-1)
    # Of those past the threshold, by slot, for they are few: the score that was reported last, and the rank of its
    # level.
    _reported_score = record(dict[int, float])
    _reported_level = record(dict[int, int])

    def __init__(self, kind: AlertKind, table: SlotTable, windows: OpenWindows) -> None:
        super().__init__()
        self.kind = kind
        self.windows = windows
        self.bar = InstallationBar()
        self._table = table

    def was_reported(self, slots: Slots, time: int) -> Bools:
        """Which of `slots` were reported in a window that ended after `time`, unix seconds."""
        reported = self._reported_window.take(slots).astype(np.int64)
        is_late: Bools = (reported >= 0) & ((reported + 1) * self.windows.window_seconds > time)
        return is_late

    def forget(self, slots: Slots) -> None:
        super().forget(slots)
        for slot in slots.tolist() if self._reported_score else ():
            self._reported_score.pop(slot, None)
            self._reported_level.pop(slot, None)

    def _find_reported(
        self, window: int, slots: Slots, verdict: Verdict, calls: F64, novel: F64
    ) -> list[tuple[int, Sensitivity]]:
        """Rows that become signals, with the quietest level of each: past the threshold and admitted, or a reported
        episode that goes on."""
        reported: list[tuple[int, Sensitivity]] = []
        is_past = verdict.score >= 1.0
        if verdict.is_ongoing is not None:
            is_past |= verdict.is_ongoing & (self._reported_window[slots] >= window - _GAP_WINDOWS)
        for i in is_past.nonzero()[0].tolist():
            slot, score = int(slots[i]), float(verdict.score[i])
            is_same = self._reported_window[slot] == window
            if is_same and score <= self._reported_score.get(slot, 0.0):
                continue
            time, key = window * self.windows.window_seconds, int(self._table.keys[slot])
            if score < 1.0:
                level: Sensitivity | None = LEVELS[self._reported_level.get(slot, 0)]
            else:
                level = self.bar.admit(key, score, time, len(self._table))
            if level is None and is_scrape(calls[i], novel[i]):
                level = Sensitivity.QUIET
            # A louder level reported it before: for a quieter one it is news.
            is_news = level is not None and RANKS[level] < self._reported_level.get(slot, 0)
            if is_same and not is_news and score < self._reported_score.get(slot, 0.0) * (1 + _RAISE):
                continue
            if level is None and not self._remembers_all:
                continue
            self._reported_window[slot], self._reported_score[slot] = window, score
            if level is not None:
                self._reported_level[slot] = RANKS[level]
                reported.append((i, level))
        return reported


class WindowedBursts(WindowedDetector):
    """Windows of sparse subjects."""

    parts = ("bar", "population")

    def __init__(self, kind: AlertKind, detector: BurstDetector, table: SlotTable, endpoints: SlotTable) -> None:
        super().__init__(kind, table, OpenWindows(detector.window_seconds, is_timed=True))
        self.detector = detector
        self.population = Population(detector.prior_level * 2 / 3)
        table.follow(self)
        endpoints.follow(self.population)

    def list_notable(self, window: int, slots: Slots, context: Context) -> Slots:
        """Which of `slots` (they may repeat) may be past the threshold in an open window, ascending and distinct: a
        count that is normal for a subject nobody knows is normal for all."""
        if window - self.windows.first < GRACE_WINDOWS:
            return slots[:0]
        # No evidence is more than the calls, and few call so much.
        slots = slots[self.windows.read_calls(window, slots) >= self.detector.least_evidence]
        if not len(slots):
            return slots
        evidence = _weigh(*self.windows.read(window, slots))
        return list_distinct(slots[self._find_notable(window, slots, evidence, context)])

    def list_due(self, window: int) -> Slots:
        """What `close` takes: those that were called."""
        return np.zeros(0, np.int64) if self.windows.is_empty(window) else self.windows.touched(window)

    def close(self, window: int, slots: Slots, calls: F64, novel: F64, context: Context) -> tuple[list[Breach], F64]:
        """Score, learn and clear the oldest open window, of the slots `list_due`, which had so many `calls` and `novel`
        objects. What is less than may be past the threshold is normal whatever peers and parents do. Of what is sparse
        no calls are expected."""
        self.bar.start(window * self.windows.window_seconds)
        breaches: list[Breach] = []
        if self.windows.is_empty(window):  # Nothing to score nor to learn.
            self.population.fade()
            self.windows.close(window)
            return breaches, np.zeros(0)
        values, floor = _weigh(calls, novel), np.zeros(len(slots))
        age = window - self.windows.first
        if age >= GRACE_WINDOWS:
            notable = self._find_notable(window, slots, values, context)
            if len(notable):
                breaches, floor[notable] = self._score(window, slots[notable], context, calls[notable], novel[notable])
        season = context.find_season(slots, window)
        levels = self.detector.level(slots, window)
        expected, usual = self.detector.expected(slots, window, season), self.detector.usual(slots, window)
        self.population.learn(context.find_parents(slots), levels, values, expected, usual)
        self.detector.learn(Observation(slots=slots, window=window, values=values, floor=floor, age=age, season=season))
        self.windows.close(window)
        return breaches, np.zeros(0)

    def score_open(self, window: int, slots: Slots, ends: Slots, context: Context) -> list[Breach]:
        """Score distinct touched `slots` in an open window. `ends`: until when each was seen, in unix seconds."""
        calls, novel = self.windows.read(window, slots)
        return self._score(window, slots, context, calls, novel, ends)[0]

    def levels(self, slots: Slots) -> F64:
        """The customary burst of each slot."""
        return self.detector.level(slots, max(self.windows.next_window, 0))

    def _score(
        self, window: int, slots: Slots, context: Context, calls: F64, novel: F64, ends: Slots | None = None
    ) -> tuple[list[Breach], F64]:
        """Breaches, and the floors that peers and parents give."""
        parents, floor = context.find_parents(slots), context.find_floor(slots)
        season = context.find_season(slots, window)
        if season is not None:
            floor = floor * np.fmin(season, 1.0)
        values, peers = _weigh(calls, novel), np.zeros(len(slots))
        if self.kind is AlertKind.VOLUME_PAIR and len(slots):
            is_placed = parents >= 0
            common = self.population.floor(parents, self.detector.expected(slots, window, season), season)
            floor = np.where(is_placed, np.maximum(floor, common), floor)
            peers = np.where(is_placed, self.population.peers[parents], 0.0)
        if self.windows.next_window < self.windows.first + GRACE_WINDOWS:
            floor = np.maximum(floor, self._pending_level(window, slots))
        # A newcomer whom no peers measure may call as steadily as it likes: what speaks against it is new objects.
        is_alone = self.detector.is_new(slots) & (peers < PEERS_MIN)
        mere = np.minimum(_CALLS_WEIGHT * calls, self.detector.prior_level)
        values = np.where(is_alone, mere + values - _CALLS_WEIGHT * calls, values)
        age, loss = window - self.windows.first, context.find_loss(slots)
        verdict = self.detector.score(
            Observation(slots=slots, window=window, values=values, floor=floor, age=age, loss=loss, season=season)
        )
        breaches = []
        for i, level in self._find_reported(window, slots, verdict, calls, novel):
            share = calls[i] / values[i] if values[i] else 1.0  # Evidence back to calls, for people.
            end = int(ends[i]) if ends is not None else None
            breaches.append(
                Breach(
                    kind=self.kind,
                    slot=int(slots[i]),
                    window=window,
                    window_seconds=self.windows.window_seconds,
                    is_above=bool(verdict.is_above[i]),
                    calls=float(calls[i]),
                    novel=float(min(novel[i], calls[i])),
                    expected=float(verdict.expected[i] * share),
                    threshold=float(verdict.threshold[i] * share),
                    score=float(verdict.score[i]),
                    peers=int(peers[i]),
                    basis=self._name_basis(float(floor[i]), float(verdict.expected[i])),
                    quietest=level,
                    loss_ratio=0.0 if loss is None else float(loss[i]),
                    elapsed_seconds=self._find_elapsed(window, int(slots[i]), end),
                )
            )
        return breaches, floor

    def _find_notable(self, window: int, slots: Slots, evidence: F64, context: Context) -> Slots:
        """Indexes of those whose evidence may be past the threshold."""
        notable: Slots = (evidence >= self.detector.least_evidence).nonzero()[0]
        if len(notable):
            own = slots[notable]
            least = self.detector.find_least(own, window, context.find_season(own, window))
            notable = notable[evidence[notable] >= least]
        return notable

    def _find_elapsed(self, window: int, slot: int, end: int | None) -> int:
        """In how many seconds the calls of a window were made, until `end` or its own; 0: in all of it."""
        length = self.windows.window_seconds
        begun = int(self.windows.read_begun(window, np.array([slot]))[0])
        last = (window + 1) * length
        seconds = max(min(last if end is None else end, last) - begun, 1)
        return seconds if seconds < length else 0

    def _pending_level(self, window: int, slots: Slots) -> F64:
        """What windows of the grace period show that are not closed yet: they will be learnt, and clients are busy
        already."""
        level = np.zeros(len(slots))
        first = self.windows.first
        for earlier in range(max(first, self.windows.next_window), min(first + GRACE_WINDOWS, window)):
            level = np.maximum(level, _weigh(*self.windows.read(earlier, slots)))
        return np.minimum(level, self.detector.prior_level * GRACE_CLIP)

    def _name_basis(self, floor: float, expected: float) -> Basis:
        if expected <= self.detector.prior_level:
            return Basis.PRIOR
        return Basis.PEERS if floor >= expected else Basis.HISTORY


class WindowedSeason(WindowedDetector):
    """Windows of busy subjects."""

    last_scores = column(np.float64)  # Of the window closed last: what tests.accuracy reads.
    last_expected = column(np.float64)  # In that window, calls.
    _remembers_all = False

    def __init__(
        self, kind: AlertKind, detector: SeasonDetector, table: SlotTable, finer: SeasonDetector | None = None
    ) -> None:
        """`finer`: the same subjects in shorter windows; what it covers is learnt here and not scored."""
        super().__init__(kind, table, OpenWindows(detector.window_seconds))
        self.detector = detector
        self._finer = finer
        table.follow(self)

    def list_due(self, window: int) -> Slots:
        """What `close` takes: every live subject."""
        return self._table.live()

    def close(self, window: int, slots: Slots, calls: F64, novel: F64, context: Context) -> tuple[list[Breach], F64]:
        """Score, learn and clear the oldest open window, of the slots `list_due`, which had so many `calls`; gives the
        calls that were expected too."""
        self.bar.start(window * self.windows.window_seconds)
        loss = context.find_loss(slots)
        observation = Observation(
            slots=slots,
            window=window,
            # What sensors did not read, because it was lost or between turns, was called all the same.
            values=calls if loss is None else calls / (1 - np.minimum(loss, _LOSS_MAX)),
            floor=np.zeros(len(slots)),
            age=window - self.windows.first,
            loss=loss,
        )
        verdict = self.detector.score(observation)
        if self._finer is not None:
            verdict = replace(verdict, score=np.where(self._finer.covers(slots), 0.0, verdict.score))
        breaches = [
            Breach(
                kind=self.kind,
                slot=int(slots[i]),
                window=window,
                window_seconds=self.windows.window_seconds,
                is_above=bool(verdict.is_above[i]),
                calls=float(calls[i]),
                expected=float(verdict.expected[i]),
                threshold=float(verdict.threshold[i]),
                score=float(verdict.score[i]),
                basis=Basis.SEASON if self.detector.has_season(int(slots[i])) else Basis.HISTORY,
                quietest=level,
                loss_ratio=0.0 if loss is None else float(loss[i]),
            )
            for i, level in self._find_reported(window, slots, verdict, calls, novel)
        ]
        self.last_scores[:] = 0
        self.last_scores[slots] = verdict.score
        self.last_expected[slots] = verdict.expected
        self.detector.learn(observation)
        self.windows.close(window)
        return breaches, verdict.expected


def _weigh(calls: F64, novel: F64) -> F64:
    """Evidence: a call counts half, and whole when it touched an object that the subject had not touched before."""
    evidence: F64 = _CALLS_WEIGHT * calls + (1 - _CALLS_WEIGHT) * np.minimum(novel, calls)
    return evidence
