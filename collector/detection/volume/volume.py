"""Detects changed volume: bursts of pairs and of consumers, and departures of endpoints, in windows of several lengths.

Bursts are reported while their window is open, and again when it closes. Endpoints are evaluated when it closes.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal
from collector.core.rates import LocalTime
from collector.detection.abuse.detector import Rarity
from collector.detection.abuse.pair_history import Walks
from collector.detection.framework.detector import ClosedWindow, Detector
from collector.detection.framework.loss import Losses, SubjectLoss
from collector.detection.framework.rows import Events, find_latest
from collector.detection.framework.slots import Subjects
from collector.detection.framework.state import F64, Slots
from collector.detection.framework.subject_index import CROWD_MIN, SubjectIndex
from collector.detection.volume.burst import BurstDetector
from collector.detection.volume.season import SeasonDetector
from collector.detection.volume.windowed import Breach, Context, WindowedBursts, WindowedSeason

_PARENT_SHARE = 0.5  # Of a consumer's customary burst may go to an endpoint that is new to it.
# Evidence that a subject nobody knows may show in a window and be normal, by window length: the stated priors.
PAIR_PRIORS = {10: 12.0, 300: 150.0, 3_600: 1_000.0}
CONSUMER_PRIORS = {10: 25.0, 300: 300.0, 3_600: 2_000.0}
CROWDED_FLOORS = {10: 24.0}  # Of pairs, where many call: among them are pages that load 50 objects at once.
ENDPOINT_WINDOWS = (60, 300, 3_600)


class VolumeDetector(Detector):
    """What those of all subjects have in common: the windows, by their lengths."""

    parts = ("windowed",)

    def __init__(
        self,
        subjects: SubjectIndex,
        table: Subjects,
        losses: SubjectLoss,
        windowed: Mapping[int, WindowedBursts] | Mapping[int, WindowedSeason],
    ) -> None:
        super().__init__()
        self.windowed = windowed
        self._subjects, self._table, self._losses = subjects, table, losses

    def advance(self, watermark: int) -> Iterator[ClosedWindow]:
        """Close what may close when the newest row starts at `watermark` (unix seconds)."""
        for windowed in self.windowed.values():
            windows = windowed.windows
            for window in windows.due(watermark):
                slots = windowed.list_due(window)
                calls, novel = windows.read(window, slots)
                breaches, expected = windowed.close(window, slots, calls, novel, self._find_context(windowed))
                yield ClosedWindow(
                    kind=windowed.kind,
                    seconds=windows.window_seconds,
                    window=window,
                    is_first=window <= windows.first,
                    slots=slots,
                    calls=calls,
                    expected=expected,
                    signals=[self.report(breach) for breach in breaches],
                )
            windows.skip(watermark)

    def report(self, breach: Breach) -> AlertSignal:
        """With names and rates."""
        return breach.report(self._table.name(breach.slot))

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        slot = self._table.find(endpoint_id, consumer)
        for seconds, windowed in self.windowed.items() if slot >= 0 else ():
            window = max(windowed.windows.next_window, 0)
            windowed.detector.expect(np.array([slot]), window, np.array([calls_per_second * seconds]))
        return slot >= 0

    def resume(self, time: int) -> None:
        """No window that has a part of what is unknown is taken for silence."""
        for seconds, windowed in self.windowed.items():
            if windowed.windows.next_window >= 0:
                begun, rest = divmod(time, seconds)
                windowed.windows.leave(begun + (isinstance(windowed, WindowedSeason) and rest > 0))

    @property
    def held_back_count(self) -> int:
        return sum(windowed.bar.held_back_count for windowed in self.windowed.values())

    def _find_context(self, windowed: WindowedBursts | WindowedSeason) -> Context:
        return Context(find_loss=self._losses.ratios)


class EndpointVolume(VolumeDetector):
    """Departures of endpoints, both ways (collector/detection/volume/season.py)."""

    name = "volume.endpoints"
    kinds = frozenset({AlertKind.VOLUME_ENDPOINT})
    windowed: Mapping[int, WindowedSeason]

    def __init__(self, subjects: SubjectIndex, losses: Losses, local_time: LocalTime) -> None:
        seasons = [SeasonDetector(window_seconds=length, local_time=local_time) for length in ENDPOINT_WINDOWS]
        windowed = {
            season.window_seconds: WindowedSeason(AlertKind.VOLUME_ENDPOINT, season, subjects.endpoints, finer)
            for season, finer in zip(seasons, [None, *seasons], strict=False)
        }
        super().__init__(subjects, subjects.endpoints, losses.endpoints, windowed)

    def feed(self, events: Events) -> Sequence[AlertSignal]:
        for windowed in self.windowed.values():
            known = events.by_endpoint.rows
            for _, rows, _ in windowed.windows.add_events(events, events.endpoint, known, is_novel=False):
                events.is_used[rows] = True
        return ()

    def change_routes(self, endpoints: Slots) -> None:
        """Levels are learned anew."""
        for windowed in self.windowed.values():
            windowed.forget(endpoints)

    def turn_clock(self, hours: int) -> None:
        for windowed in self.windowed.values():
            windowed.detector.turn_season(hours)


class ConsumerVolume(VolumeDetector):
    """Bursts of consumers (collector/detection/volume/burst.py)."""

    name = "volume.consumers"
    kinds = frozenset({AlertKind.VOLUME_CONSUMER})
    windowed: Mapping[int, WindowedBursts]

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        windowed = {
            length: WindowedBursts(
                AlertKind.VOLUME_CONSUMER,
                BurstDetector(window_seconds=length, prior_level=prior),
                subjects.consumers,
                subjects.endpoints,
            )
            for length, prior in CONSUMER_PRIORS.items()
        }
        super().__init__(subjects, subjects.consumers, losses.consumers, windowed)
        self._rarity = rarity

    def feed(self, events: Events) -> Sequence[AlertSignal]:
        return self._judge_open(events, events.consumer)

    def report(self, breach: Breach) -> AlertSignal:
        is_young = self._rarity.is_young(self._find_consumer(breach.slot), self._subjects.watermark)
        return msgspec.structs.replace(super().report(breach), is_notice=is_young)

    def _find_consumer(self, slot: int) -> int:
        return slot

    def _judge_open(self, events: Events, slots: Slots) -> list[AlertSignal]:
        """Add the rows to windows, and evaluate those that they touch."""
        signals: list[AlertSignal] = []
        for windowed in self.windowed.values():
            context = self._find_context(windowed)
            for window, rows, own in windowed.windows.add_events(events, slots, events.by_pair.rows, is_novel=True):
                notable = windowed.list_notable(window, own, context)
                if len(notable):
                    ends = find_latest(notable, own, events.ends[rows])
                    breaches = windowed.score_open(window, notable, ends, context)
                    signals += [self.report(breach) for breach in breaches]
        return signals


class PairVolume(ConsumerVolume):
    """Bursts of pairs: against what the endpoint's other consumers, the consumer and the hour make normal too."""

    name = "volume.pairs"
    kinds = frozenset({AlertKind.VOLUME_PAIR})

    def __init__(
        self,
        subjects: SubjectIndex,
        losses: Losses,
        rarity: Rarity,
        walks: Walks,
        consumers: ConsumerVolume,
        endpoints: EndpointVolume,
    ) -> None:
        windowed = {
            length: WindowedBursts(
                AlertKind.VOLUME_PAIR,
                BurstDetector(window_seconds=length, prior_level=prior, has_season=length in ENDPOINT_WINDOWS),
                subjects.pairs,
                subjects.endpoints,
            )
            for length, prior in PAIR_PRIORS.items()
        }
        VolumeDetector.__init__(self, subjects, subjects.pairs, losses.pairs, windowed)
        self._rarity, self._walks, self._consumers = rarity, walks, consumers
        self._hours = endpoints.windowed[3_600].detector

    def feed(self, events: Events) -> Sequence[AlertSignal]:
        return self._judge_open(events, events.pair)

    def report(self, breach: Breach) -> AlertSignal:
        walk = self._walks.describe(breach.slot, self._subjects.watermark)
        return msgspec.structs.replace(super().report(breach), walk=walk)

    def _find_consumer(self, slot: int) -> int:
        return int(self._subjects.pair_consumer[slot])

    def _find_context(self, windowed: WindowedBursts | WindowedSeason) -> Context:
        seconds = windowed.windows.window_seconds
        return Context(
            find_loss=self._losses.ratios,
            find_parents=lambda slots: self._subjects.pair_endpoint[slots],
            find_floor=lambda slots: self._find_floor(seconds, slots),
            find_season=lambda slots, window: self._find_season(seconds, slots, window),
        )

    def _find_floor(self, seconds: int, slots: Slots) -> F64:
        """What the consumer makes normal, and how many call the endpoint."""
        consumers, endpoints = self._subjects.pair_consumer[slots], self._subjects.pair_endpoint[slots]
        levels = self._consumers.windowed[seconds].levels(np.maximum(consumers, 0))
        floor = np.where(consumers >= 0, _PARENT_SHARE * levels, 0.0)
        if crowded := CROWDED_FLOORS.get(seconds, 0.0):
            counts = self._subjects.count_consumers(self._subjects.watermark)
            is_crowded = counts[np.maximum(endpoints, 0)] >= CROWD_MIN
            floor = np.where(is_crowded & (endpoints >= 0), np.maximum(floor, crowded), floor)
        return floor

    def _find_season(self, seconds: int, slots: Slots, window: int) -> F64 | None:
        """What the hour makes of the calls of the endpoints of pairs."""
        if seconds not in ENDPOINT_WINDOWS:
            return None
        endpoints = self._subjects.pair_endpoint[slots]
        factors = self._hours.read_factors(window * seconds // self._hours.window_seconds)
        return np.where(endpoints >= 0, factors.take(np.maximum(endpoints, 0)), np.nan)
