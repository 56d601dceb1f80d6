"""One detector on one kind of subject over windows of one length: the windows, the detector, and the installation's
bar.

The engine gives a `Watch` every row of its kind. The watch scores touched subjects at once, because a count only grows
and what is past the threshold stays past it. It scores every window again when it closes, learns it, and gives
crossings.

`WindowRows` has the rows of a batch by window, found once for each length and shared by the watches. A row longer than
the window (merged while a sensor was away) does not belong to one window. It counts for the longer windows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Direction
from collector.alerting.wording import is_scrape
from collector.core.kinds import LEVELS, RANKS, Sensitivity
from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import F64, Detector, Observation, State, Verdict
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.slots import Slots, SlotTable, grow, list_distinct
from collector.detection.framework.subjects import SubjectName
from collector.detection.framework.windows import C128, OpenWindows, join_amounts
from collector.detection.volume.burst import GRACE_CLIP, GRACE_WINDOWS, BurstDetector
from collector.detection.volume.population import PEERS_MIN, Population
from collector.detection.volume.season import SeasonDetector

_RAISE = 0.25  # A crossing is told again within its window when the score grew by this share.
_GAP_WINDOWS = 2  # A told episode goes on across so many calm ones.
_CALLS_WEIGHT = 0.5  # Of a call; the rest needs an object the subject had not touched before.


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """One subject past a detector's threshold and the installation's bar. Levels are in calls a window."""

    kind: AlertKind
    slot: int
    window: int
    window_seconds: int
    is_above: bool
    calls: float
    novel: float
    expected: float
    threshold: float
    score: float
    peers: int
    basis: Basis
    quietest: Sensitivity
    loss_ratio: float = 0.0  # Of its calls, as far as the sensors know.
    elapsed_seconds: int = 0  # From the first call to the window's end or until now; 0: all of it.

    def tell(self, name: SubjectName) -> AlertSignal:
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
    """What a watch is told of slots when it asks: of most it need not know all."""

    parents: Callable[[Slots], Slots]  # Endpoint slot of each, -1: none.
    floor: Callable[[Slots], F64]  # What its parent makes ordinary.
    season: Callable[[Slots, int], F64 | None]  # In a window: Observation.season.
    loss: Callable[[Slots], F64 | None]  # Observation.loss.


NO_CONTEXT = Context(
    parents=lambda slots: np.full(len(slots), -1, np.int64),
    floor=lambda slots: np.zeros(len(slots)),
    season=lambda slots, window: None,
    loss=lambda slots: None,
)


class Watch:
    """See the module. Endpoint watches are dense: every live subject is judged at each close, silent ones too."""

    def __init__(
        self, kind: AlertKind, detector: Detector, table: SlotTable, finer: SeasonDetector | None = None
    ) -> None:
        """`finer`: the same subjects in shorter windows; what it covers is learnt here and not judged."""
        self.kind = kind
        self.detector = detector
        self._finer = finer
        self.windows = OpenWindows(detector.window_seconds, is_timed=isinstance(detector, BurstDetector))
        self.bar = InstallationBar()
        self.population = Population(detector.prior_level * 2 / 3) if isinstance(detector, BurstDetector) else None
        self.skipped_windows = 0
        self.last_scores: F64 = np.zeros(
            0
        )  # Of the window closed last, by slot, of dense watches: what tests.accuracy reads.
        self.last_expected: F64 = np.zeros(0)  # In that window, calls.
        self._table = table
        self._told_window: NDArray[np.int32] = np.zeros(0, np.int32)
        # Of those who crossed, by slot, for they are few: the score that was told last, and the rank of its level.
        self._told_score: dict[int, float] = {}
        self._told_level: dict[int, int] = {}

    @property
    def is_dense(self) -> bool:
        """Whether silence is an observation."""
        return isinstance(self.detector, SeasonDetector)

    def grow(self, capacity: int, endpoints: int) -> None:
        """Make room for slots below `capacity`, and endpoint slots below `endpoints`."""
        self.detector.grow(capacity)
        self.windows.grow(capacity)
        self._told_window = grow(self._told_window, capacity, -1)
        if self.is_dense:
            self.last_scores = grow(self.last_scores, capacity)
            self.last_expected = grow(self.last_expected, capacity)
        if self.population is not None:
            self.population.grow(endpoints)

    def list_notable(self, window: int, slots: Slots, context: Context) -> Slots:
        """Which of `slots` (they may repeat) may be past the threshold in an open window, ascending and distinct: a
        count that is ordinary for a subject nobody knows is ordinary for all."""
        if not isinstance(self.detector, BurstDetector) or window - self.windows.first < GRACE_WINDOWS:
            return slots[:0]
        # No evidence is more than the calls, and few call so much.
        slots = slots[self.windows.read_calls(window, slots) >= self.detector.least_evidence]
        if not len(slots):
            return slots
        evidence = _weigh(*self.windows.read(window, slots))
        return list_distinct(slots[_find_notable(self.detector, window, slots, evidence, context)])

    def judge_open(self, window: int, slots: Slots, ends: Slots, context: Context) -> list[Crossing]:
        """Judge distinct touched `slots` in an open window; only sparse watches. `ends`: until when each was seen, in
        unix seconds."""
        calls, novel = self.windows.read(window, slots)
        return self._judge(window, slots, context, calls, novel, ends)[0]

    def due_slots(self, window: int) -> Slots:
        """What `close` takes: every live subject of a dense watch, else those that were called."""
        if self.is_dense:
            return self._table.live()
        return np.zeros(0, np.int64) if self.windows.is_empty(window) else self.windows.touched(window)

    def close(self, window: int, slots: Slots, context: Context) -> list[Crossing]:
        """Judge, learn and clear the oldest open window, of `due_slots`."""
        self.bar.start(window * self.windows.window_seconds)
        if not self.is_dense and self.windows.is_empty(window):  # Nothing to judge nor to learn.
            if self.population is not None:
                self.population.fade()
            self.windows.close(window)
            return []
        calls, novel = self.windows.read(window, slots)
        if isinstance(self.detector, BurstDetector):
            crossings = self._close_bursts(self.detector, window, slots, context, calls, novel)
        else:
            crossings, verdict, observation = self._judge(window, slots, context, calls, novel)
            self.last_scores[:] = 0
            self.last_scores[slots] = verdict.score
            self.last_expected[slots] = verdict.expected
            self.detector.learn(observation)
        self.windows.close(window)
        return crossings

    def _close_bursts(
        self,
        detector: BurstDetector,
        window: int,
        slots: Slots,
        context: Context,
        calls: F64,
        novel: F64,
    ) -> list[Crossing]:
        """Judge and learn. What is less than may be past the threshold is ordinary whatever peers and parents do."""
        values, floor = _weigh(calls, novel), np.zeros(len(slots))
        crossings: list[Crossing] = []
        age = window - self.windows.first
        if age >= GRACE_WINDOWS:
            notable = _find_notable(detector, window, slots, values, context)
            if len(notable):
                crossings, _, judged = self._judge(window, slots[notable], context, calls[notable], novel[notable])
                floor[notable] = judged.floor
        season = context.season(slots, window)
        if self.population is not None:
            levels = detector.level(slots, window)
            expected, usual = detector.expected(slots, window, season), detector.usual(slots, window)
            self.population.learn(context.parents(slots), levels, values, expected, usual)
        observation = Observation(slots=slots, window=window, values=values, floor=floor, age=age, season=season)
        detector.learn(observation)
        return crossings

    def levels(self, slots: Slots) -> F64:
        """The customary burst of each slot; 0 where the detector keeps none."""
        if not isinstance(self.detector, BurstDetector):
            return np.zeros(len(slots))
        return self.detector.level(slots, max(self.windows.next_window, 0))

    def was_told(self, slots: Slots, time: int) -> NDArray[np.bool_]:
        """Which of `slots` were told in a window that ended after `time`, unix seconds."""
        told = self._told_window.take(slots).astype(np.int64)
        is_late: NDArray[np.bool_] = (told >= 0) & ((told + 1) * self.windows.window_seconds > time)
        return is_late

    def expect(self, slot: int, calls: float) -> None:
        """A person marked this level as expected."""
        self.detector.expect(np.array([slot]), max(self.windows.next_window, 0), np.array([calls]))

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self.detector.forget(slots)
        self.windows.forget(slots)
        self._told_window[slots] = -1
        for slot in slots.tolist() if self._told_score else ():
            self._told_score.pop(slot, None)
            self._told_level.pop(slot, None)

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        parts = {"detector": self.detector.dump(), "windows": self.windows.dump(), "bar": self.bar.dump()}
        parts["told"] = {
            "window": self._told_window,
            "score": _spread(self._told_score, len(self._told_window), np.float64),
            "level": _spread(self._told_level, len(self._told_window), np.int8),
            "skipped": np.array([self.skipped_windows]),
        }
        if self.population is not None:
            parts["population"] = self.population.dump()
        return parts

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`."""
        self.detector.load(parts["detector"])
        self.windows.load(parts["windows"])
        self.bar.load(parts["bar"])
        self._told_window = parts["told"]["window"].astype(np.int32)
        self._told_score = _gather(parts["told"]["score"])
        self._told_level = _gather(parts["told"]["level"])
        self.skipped_windows = int(parts["told"]["skipped"][0])
        self.last_scores = np.zeros(len(self._told_window) if self.is_dense else 0)
        self.last_expected = np.zeros_like(self.last_scores)
        if self.population is not None:
            self.population.load(parts["population"])

    def _judge(
        self, window: int, slots: Slots, context: Context, calls: F64, novel: F64, ends: Slots | None = None
    ) -> tuple[list[Crossing], Verdict, Observation]:
        parents, floor, season = context.parents(slots), context.floor(slots), context.season(slots, window)
        if season is not None:
            floor = floor * np.fmin(season, 1.0)
        values = calls
        peers: F64 = np.zeros(len(slots))
        if isinstance(self.detector, BurstDetector) and self.population is not None:
            values = _weigh(calls, novel)
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
        observation = Observation(
            slots=slots,
            window=window,
            values=values,
            floor=floor,
            age=window - self.windows.first,
            loss=context.loss(slots),
            season=season,
        )
        verdict = self.detector.score(observation)
        if self._finer is not None:
            verdict = replace(verdict, score=np.where(self._finer.covers(slots), 0.0, verdict.score))
        crossings = []
        for i, level in self._find_told(window, slots, verdict, calls, novel):
            slot, score = int(slots[i]), float(verdict.score[i])
            share = calls[i] / values[i] if values[i] else 1.0  # Evidence back to calls, for people.
            crossings.append(
                Crossing(
                    kind=self.kind,
                    slot=slot,
                    window=window,
                    window_seconds=self.windows.window_seconds,
                    is_above=bool(verdict.is_above[i]),
                    calls=float(calls[i]),
                    novel=float(min(novel[i], calls[i])),
                    expected=float(verdict.expected[i] * share),
                    threshold=float(verdict.threshold[i] * share),
                    score=score,
                    peers=int(peers[i]),
                    basis=self._name_basis(slot, float(floor[i]), float(verdict.expected[i])),
                    quietest=level,
                    loss_ratio=0.0 if observation.loss is None else float(observation.loss[i]),
                    elapsed_seconds=self._find_elapsed(window, slot, int(ends[i]) if ends is not None else None),
                )
            )
        return crossings, verdict, observation

    def _find_elapsed(self, window: int, slot: int, end: int | None) -> int:
        """In how many seconds the calls of a window were made, until `end` or its own; 0: in all of it."""
        length = self.windows.window_seconds
        begun = int(self.windows.read_begun(window, np.array([slot]))[0])
        last = (window + 1) * length
        seconds = max(min(last if end is None else end, last) - begun, 1)
        return seconds if seconds < length else 0

    def _find_told(
        self, window: int, slots: Slots, verdict: Verdict, calls: F64, novel: F64
    ) -> list[tuple[int, Sensitivity]]:
        """Rows that become signals, with the quietest level that tells each: past the threshold and admitted, or a told
        episode that goes on."""
        told: list[tuple[int, Sensitivity]] = []
        is_past = verdict.score >= 1.0
        if verdict.is_ongoing is not None:
            is_past |= verdict.is_ongoing & (self._told_window[slots] >= window - _GAP_WINDOWS)
        for i in is_past.nonzero()[0].tolist():
            slot, score = int(slots[i]), float(verdict.score[i])
            is_same = self._told_window[slot] == window
            if is_same and score <= self._told_score.get(slot, 0.0):
                continue
            time, key = window * self.windows.window_seconds, int(self._table.keys[slot])
            if score < 1.0:
                level: Sensitivity | None = LEVELS[self._told_level.get(slot, 0)]
            else:
                level = self.bar.admit(key, score, time, len(self._table))
            if level is None and is_scrape(calls[i], novel[i]):
                level = Sensitivity.QUIET
            # A louder level told it before: for a quieter one it is news.
            is_news = level is not None and RANKS[level] < self._told_level.get(slot, 0)
            if is_same and not is_news and score < self._told_score.get(slot, 0.0) * (1 + _RAISE):
                continue
            if self.is_dense and level is None:
                continue
            self._told_window[slot], self._told_score[slot] = window, score
            if level is not None:
                self._told_level[slot] = RANKS[level]
                told.append((i, level))
        return told

    def _pending_level(self, window: int, slots: Slots) -> F64:
        """What windows of the grace period show that are not closed yet: they will be learnt, and clients are busy
        already."""
        level = np.zeros(len(slots))
        first = self.windows.first
        for earlier in range(max(first, self.windows.next_window), min(first + GRACE_WINDOWS, window)):
            level = np.maximum(level, _weigh(*self.windows.read(earlier, slots)))
        ceiling = self.detector.prior_level * GRACE_CLIP if isinstance(self.detector, BurstDetector) else 0.0
        return np.minimum(level, ceiling)

    def _name_basis(self, slot: int, floor: float, expected: float) -> Basis:
        if isinstance(self.detector, SeasonDetector):
            return Basis.SEASON if self.detector.has_season(slot) else Basis.HISTORY
        if not isinstance(self.detector, BurstDetector):
            return Basis.HISTORY
        if expected <= self.detector.prior_level:
            return Basis.PRIOR
        return Basis.PEERS if floor >= expected else Basis.HISTORY


def _find_notable(detector: BurstDetector, window: int, slots: Slots, evidence: F64, context: Context) -> Slots:
    """Indexes of those whose evidence may be past the threshold: what is ordinary for a subject nobody knows is for
    all."""
    notable = (evidence >= detector.least_evidence).nonzero()[0]
    if len(notable):
        own = slots[notable]
        notable = notable[evidence[notable] >= detector.find_least(own, window, context.season(own, window))]
    return notable


def _weigh(calls: F64, novel: F64) -> F64:
    """Evidence: a call counts half, and whole when it touched an object that the subject had not touched before."""
    evidence: F64 = _CALLS_WEIGHT * calls + (1 - _CALLS_WEIGHT) * np.minimum(novel, calls)
    return evidence


def _spread(of_few: Mapping[int, float], count: int, dtype: DTypeLike) -> NDArray[Any]:
    """Figures of a few slots as an array of all of them."""
    dense = np.zeros(count, dtype)
    dense[list(of_few)] = list(of_few.values())
    return dense


def _gather(dense: NDArray[Any]) -> dict[int, Any]:
    """The inverse of `_spread`."""
    slots = dense.nonzero()[0]
    return dict(zip(slots.tolist(), dense[slots].tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Rows of one window."""

    window: int
    rows: Slots
    calls: C128  # For windows that count no novel objects;
    both: C128  # for those that do.


class WindowRows:
    """See the module. `novel` as `Placed` has it."""

    def __init__(self, columns: Columns, novel: F64) -> None:
        self._columns = columns
        self._calls: C128 = columns.calls.astype(np.complex128)
        # A window is cleared where it has calls.
        self._both = join_amounts(columns.calls, np.where(columns.calls > 0, novel, 0.0))
        self._parts: dict[tuple[int, int], list[_Part]] = {}

    def add(self, watch: Watch, slots: Slots, known: Slots) -> Iterator[tuple[int, Slots, Slots]]:
        """Add the rows `known`, which are those with a slot, to a watch's windows; yields each window touched with its
        rows' indexes and slots, oldest first."""
        for number, part in enumerate(self._split(watch.windows.window_seconds, known)):
            if not number:
                watch.windows.begin(part.window)
            if watch.windows.accepts(part.window):
                own = slots if len(part.rows) == len(slots) else slots[part.rows]
                amounts = part.calls if watch.is_dense else part.both
                watch.windows.add(part.window, own, amounts, self._columns.times.start[part.rows])
                yield part.window, part.rows, own

    def _split(self, seconds: int, known: Slots) -> list[_Part]:
        key = seconds, len(known)
        if key not in self._parts:
            parts = self._columns.times.split(known, seconds)
            self._parts[key] = [self._choose(window, rows) for window, rows in parts]
        return self._parts[key]

    def _choose(self, window: int, rows: Slots) -> _Part:
        calls, both = self._calls, self._both
        if len(rows) < len(calls):
            calls, both = calls[rows], both[rows]
        return _Part(window=window, rows=rows, calls=calls, both=both)
