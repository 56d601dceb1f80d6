"""The detectors' one entrance: batches in the order of the log in, crossings out as signals. Pure and deterministic.

Reads server-side rows (the end that accepted the connection) without those of proxies. Early rows and the rows that
follow add up. Gives AlertSignals of endpoints, services, consumers and pairs, AbuseSignals of
collector/detection/abuse, and HealthSignals of collector/detection/health. It has no clock. The theory is in
docs/internals/detection.md.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, AlertSignal, HealthSignal, Signal
from collector.core.rates import UTC_NAME, LocalTime
from collector.core.rows import CONSUMER_ORDER, ConsumerColumn
from collector.detection.abuse.engine import AbuseEngine
from collector.detection.framework.columns import Columns, find_latest
from collector.detection.framework.contract import F64, State
from collector.detection.framework.loss import Losses, SubjectLoss
from collector.detection.framework.slots import Slots
from collector.detection.framework.subject_index import CROWD_MIN, Placed, Roster
from collector.detection.framework.subjects import CONSUMERS_MAX, ENDPOINTS_MAX, PAIRS_MAX, SubjectName, Subjects
from collector.detection.health.engine import HealthEngine
from collector.detection.volume.burst import BurstDetector
from collector.detection.volume.season import SeasonDetector
from collector.detection.volume.service_volume import ServiceVolume
from collector.detection.volume.silence import SteadyCallers
from collector.detection.volume.windowed import NO_CONTEXT, Context, Crossing, Watch, WindowRows
from collector.storage.columns import RowBatch

ROLE_SERVER = 1
HOP_PROXY = 2
AHEAD_SECONDS = 5  # A row may start this long after the collector received it: clocks differ.
_PARENT_SHARE = 0.5  # Of a consumer's customary burst may go to an endpoint that is new to it.

# Evidence that a subject nobody knows may show in a window and be ordinary, by window length: the stated priors.
PAIR_PRIORS = {10: 12.0, 300: 150.0, 3_600: 1_000.0}
CONSUMER_PRIORS = {10: 25.0, 300: 300.0, 3_600: 2_000.0}
CROWDED_FLOORS = {10: 24.0}  # Of pairs, where many call: among them are pages that load 50 objects at once.
ENDPOINT_WINDOWS = (60, 300, 3_600)


class Engine:
    """All detectors of one installation (or of the partitions one collector owns)."""

    def __init__(
        self,
        *,
        endpoint_of_route: Mapping[int, str] | None = None,
        consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER,
        time_zone: str = UTC_NAME,
        endpoints_max: int = ENDPOINTS_MAX,
        consumers_max: int = CONSUMERS_MAX,
        pairs_max: int = PAIRS_MAX,
    ) -> None:
        """`endpoint_of_route`: the inventory's mapping; a route it does not hold is an endpoint of its own.
        `consumer_order`, `time_zone` (of the endpoints' hours and days): the collector's settings. Raises ValueError
        where the zone is not known."""
        self._local_time = LocalTime(time_zone)
        self._endpoint_of_route = {} if endpoint_of_route is None else endpoint_of_route
        self._consumer_order = consumer_order
        self.roster = Roster(
            endpoint_of_route=self._endpoint_of_route,
            consumer_order=consumer_order,
            endpoints_max=endpoints_max,
            consumers_max=consumers_max,
            pairs_max=pairs_max,
        )
        self.abuse = AbuseEngine()
        self.losses = Losses()
        self._sizes: tuple[int, ...] = ()  # Of the tables, that the watches have room for.
        self.watermark = 0
        self.used_calls = 0
        self.dropped_calls = {"client_side": 0, "proxy": 0, "late": 0, "ahead": 0}
        self.pair_watches = [
            self._watch_bursts(AlertKind.VOLUME_PAIR, length, level) for length, level in PAIR_PRIORS.items()
        ]
        self.consumer_watches = [
            self._watch_bursts(AlertKind.VOLUME_CONSUMER, length, level) for length, level in CONSUMER_PRIORS.items()
        ]
        seasons = [SeasonDetector(window_seconds=length, local_time=self._local_time) for length in ENDPOINT_WINDOWS]
        self.endpoint_watches = [
            Watch(AlertKind.VOLUME_ENDPOINT, season, self.roster.endpoints.table, finer)
            for season, finer in zip(seasons, [None, *seasons], strict=False)
        ]
        self._hours = seasons[-1]
        self.health = HealthEngine(self.roster, ENDPOINT_WINDOWS)
        self.services = ServiceVolume(self.roster, self.health.services, self.endpoint_watches, self._local_time)
        self.steady = SteadyCallers(self.roster, self.pair_watches[-1], self.endpoint_watches, self._local_time)
        self._seasons = [*seasons, *self.services.seasons]

    def make_new(self) -> "Engine":
        """One that has learned nothing, of the same limits and the same mapping."""
        endpoints, consumers, pairs = (part.table.limit for part in self.roster.parts)
        return Engine(
            endpoint_of_route=self._endpoint_of_route,
            consumer_order=self._consumer_order,
            time_zone=self._local_time.name,
            endpoints_max=endpoints,
            consumers_max=consumers,
            pairs_max=pairs,
        )

    @property
    def watches(self) -> list[Watch]:
        """Every watch, in a fixed order."""
        return [*self.pair_watches, *self.consumer_watches, *self.endpoint_watches]

    @property
    def evicted_count(self) -> int:
        """Subjects forgotten because there were too many."""
        return sum(part.table.evicted_count for part in self.roster.parts) + self.services.table.evicted_count

    @property
    def held_back_count(self) -> int:
        """Crossings under the installation's bar."""
        return (
            self.abuse.held_back_count
            + self.health.held_back_count
            + self.services.held_back_count
            + self.steady.bar.held_back_count
            + sum(watch.bar.held_back_count for watch in self.watches)
        )

    def feed(self, batch: RowBatch, received_at: int | Slots, parts: Sequence[RowBatch] = ()) -> list[Signal]:
        """Take one batch; `received_at` in unix seconds, of all rows or of each, bounds how far a sensor's clock may
        run ahead. `parts`: the batches that were merged into it, in the order of its rows; none: it is one."""
        chosen = self._choose(batch, received_at)
        if not len(chosen):
            return []
        newest = int(np.max(batch.window_start[chosen]))
        signals: list[Signal] = [*self.advance(newest)]  # First, so that rows of one batch do not fall out of the ring.
        columns = Columns(batch, chosen)
        placed = self.roster.place(columns, self.watermark)
        self._make_room(placed)
        self.losses.take(columns, placed, parts or (batch,), self._sizes, newest)
        self.abuse.walks.take(columns, placed, self.roster, newest)
        rows, ends = WindowRows(columns, placed.novel), columns.find_ends(received_at)
        used = np.zeros(len(chosen), np.bool_)
        if len(placed.by_pair.rows):
            self.roster.count_consumers(self.watermark)  # Whatever is judged, so that all judge by the same count.
        for watch in self.endpoint_watches:
            for _, own, _ in rows.add(watch, placed.endpoint, placed.by_endpoint.rows):
                used[own] = True
        self.health.take(columns, placed, self.endpoint_watches)
        for watches, slots in ((self.pair_watches, placed.pair), (self.consumer_watches, placed.consumer)):
            for watch in watches:
                for window, seen, own in rows.add(watch, slots, placed.by_pair.rows):
                    notable = watch.list_notable(window, own, self._context(watch))
                    if len(notable):
                        signals += self._judge(watch, window, notable, find_latest(notable, own, ends[seen]))
        signals += self.abuse.take(columns, placed, self.roster, time=newest, find_loss=self._find_loss)
        used_calls = int(columns.calls[used].sum())
        self.used_calls += used_calls
        self.dropped_calls["late"] += int(columns.calls.sum()) - used_calls
        return signals

    def advance(self, watermark: int) -> list[AlertSignal | HealthSignal]:
        """Close what may close when the newest row starts at `watermark` (unix seconds)."""
        self.watermark = max(self.watermark, watermark)
        signals: list[AlertSignal | HealthSignal] = []
        for watch in self.watches:
            for window in watch.windows.due(self.watermark):
                signals += self._close(watch, window)
            watch.skipped_windows += watch.windows.skip(self.watermark)
        return signals

    def _close(self, watch: Watch, window: int) -> list[AlertSignal | HealthSignal]:
        slots = watch.due_slots(window)
        signals: list[AlertSignal | HealthSignal] = []
        calls = None
        if watch.kind is AlertKind.VOLUME_ENDPOINT:
            signals += self.health.close(watch, window, slots, self.losses.endpoints)
            calls = watch.windows.read(window, slots)[0]
        elif watch is self.consumer_watches[-1]:
            self.steady.note(window, slots, watch.windows.read(window, slots)[0])
        crossings = watch.close(window, slots, self._context(watch))
        if calls is not None:  # Told before its endpoints, which join it; judged after them.
            signals += self.services.close(watch, window, slots, calls, self.losses.endpoints)
        if calls is not None and watch is self.endpoint_watches[-1]:
            fallen = self.steady.close(window, slots, calls, self.losses)
            signals += [self._tell(self.consumer_watches[-1], crossing) for crossing in fallen]
        return [*signals, *(self._tell(watch, crossing) for crossing in crossings)]

    def remap(self, routes: Set[int]) -> None:
        """The mapping changed for these routes. Levels, errors and latency of endpoints that have more or fewer routes
        than before are learnt anew."""
        changed, gone = self.roster.remap(routes)
        anew = np.concatenate([changed, gone])
        if not len(anew):
            return
        for watch in self.endpoint_watches:
            watch.forget(anew)
        self.health.forget(anew)

    def find_newest(self, batch: RowBatch, received_at: int | Slots) -> int:
        """When the newest row of a batch that counts begins; 0 where none does."""
        left = np.ones(len(batch), np.bool_)
        for mask in _list_reasons(batch, received_at).values():
            left &= ~mask
        return int(np.max(batch.window_start[left], initial=0))

    def resume(self, time: int, counted: "Engine") -> None:
        """Go on at `time` (unix seconds) after one of which nothing is known: no window that has a part of it is taken
        for silence. What was `counted` meanwhile stays counted."""
        for watch in self.watches:
            if watch.windows.next_window >= 0:
                begun, rest = divmod(time, watch.windows.window_seconds)
                watch.windows.leave(begun + (watch.is_dense and rest > 0))
        self.health.leave()
        self.used_calls, self.dropped_calls = counted.used_calls, dict(counted.dropped_calls)

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """A person marked a level as expected: the detectors of that subject learn it at once. False when it is
        unknown."""
        volume = {
            AlertKind.VOLUME_PAIR: (self.pair_watches, self.roster.pairs),
            AlertKind.VOLUME_CONSUMER: (self.consumer_watches, self.roster.consumers),
            AlertKind.VOLUME_ENDPOINT: (self.endpoint_watches, self.roster.endpoints),
        }
        if kind is AlertKind.VOLUME_SERVICE:
            return self.services.expect(endpoint_id, calls_per_second)
        if kind not in volume:
            return self.health.expect(kind, endpoint_id) or self.abuse.expect(kind, endpoint_id, consumer, self.roster)
        watches, subjects = volume[kind]
        slot = subjects.find(endpoint_id, consumer)
        if slot < 0:
            return False
        for watch in watches:
            watch.expect(slot, calls_per_second * watch.windows.window_seconds)
        if kind is AlertKind.VOLUME_CONSUMER:
            self.steady.expect(slot)
        return True

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        counts = np.array([self.watermark, self.used_calls, *self.dropped_calls.values()])
        zone = np.frombuffer(self._local_time.name.encode(), np.uint8)
        parts: dict[str, State] = {
            "engine": {"counts": counts, "time_zone": zone},
            **self.losses.dump(),
            **self.roster.dump(),
        }
        parts |= self.abuse.dump() | self.health.dump() | self.services.dump() | self.steady.dump()
        for index, watch in enumerate(self.watches):
            parts |= {f"watch{index}.{name}": state for name, state in watch.dump().items()}
        return parts

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`, into an engine of the same limits."""
        self.watermark, self.used_calls, *dropped = (int(value) for value in parts["engine"]["counts"])
        self.dropped_calls = dict(zip(self.dropped_calls, dropped, strict=True))
        self.losses.load(parts)
        self.roster.load(parts)
        self._sizes = ()
        self.abuse.load(parts)
        self.health.load(parts, self.roster.endpoints.table.capacity)
        self.services.load(parts)
        self.steady.load(parts)
        for index, watch in enumerate(self.watches):
            prefix = f"watch{index}."
            own = {name.removeprefix(prefix): state for name, state in parts.items() if name.startswith(prefix)}
            watch.load(own)
        self._turn_seasons(parts["engine"])

    def _turn_seasons(self, state: State) -> None:
        """What was learnt under another time zone keeps its hours."""
        before = state["time_zone"].tobytes().decode() if "time_zone" in state else UTC_NAME
        if before == self._local_time.name:
            return
        try:
            ago = LocalTime(before)
        except ValueError:  # A database of before knew it: the season is learnt anew where it does not fit.
            return
        hours = round((self._local_time.read(self.watermark) - ago.read(self.watermark)) / 3_600)
        for season in self._seasons:
            season.turn_season(hours)
        self.steady.turn(hours)

    def _watch_bursts(self, kind: AlertKind, length: int, level: float) -> Watch:
        is_pair = kind is AlertKind.VOLUME_PAIR
        has_season = is_pair and length in ENDPOINT_WINDOWS
        detector = BurstDetector(window_seconds=length, prior_level=level, has_season=has_season)
        return Watch(kind, detector, (self.roster.pairs if is_pair else self.roster.consumers).table)

    def _choose(self, batch: RowBatch, received_at: int | Slots) -> Slots:
        """Indexes of the rows that count; the others' calls are counted by reason."""
        left = np.ones(len(batch), np.bool_)
        for reason, mask in _list_reasons(batch, received_at).items():
            if np.count_nonzero(mask):
                self.dropped_calls[reason] += int(batch.calls[left & mask].sum())
                left &= ~mask
        return left.nonzero()[0]

    def _make_room(self, placed: Placed) -> None:
        sizes = tuple(part.table.capacity for part in self.roster.parts)
        if sizes == self._sizes and not placed.has_evicted:
            return
        self._sizes = sizes
        endpoints = self.roster.endpoints.table.capacity
        self.health.grow(endpoints)
        if len(placed.evicted_endpoints):
            self.health.forget(placed.evicted_endpoints)
        if len(placed.evicted_consumers):
            self.steady.forget(placed.evicted_consumers)
        for watches, part, losses, evicted in (
            (self.endpoint_watches, self.roster.endpoints, self.losses.endpoints, placed.evicted_endpoints),
            (self.consumer_watches, self.roster.consumers, self.losses.consumers, placed.evicted_consumers),
            (self.pair_watches, self.roster.pairs, self.losses.pairs, placed.evicted_pairs),
        ):
            if len(evicted):
                losses.forget(evicted)
            for watch in watches:
                watch.grow(part.table.capacity, endpoints)
                if len(evicted):
                    watch.forget(evicted)
                if len(placed.evicted_endpoints) and watch.population is not None:
                    watch.population.forget(placed.evicted_endpoints)

    def _judge(self, watch: Watch, window: int, slots: Slots, ends: Slots) -> list[AlertSignal]:
        """Judge touched slots of an open window, which were seen until `ends`."""
        crossings = watch.judge_open(window, slots, ends, self._context(watch))
        return [self._tell(watch, crossing) for crossing in crossings]

    def _context(self, watch: Watch) -> Context:
        losses = {
            AlertKind.VOLUME_PAIR: self.losses.pairs,
            AlertKind.VOLUME_CONSUMER: self.losses.consumers,
            AlertKind.VOLUME_ENDPOINT: self.losses.endpoints,
        }[watch.kind]
        if watch.kind is not AlertKind.VOLUME_PAIR:
            return replace(NO_CONTEXT, loss=losses.ratios)
        levels = self.consumer_watches[self.pair_watches.index(watch)].levels
        crowded = CROWDED_FLOORS.get(watch.windows.window_seconds, 0.0)

        def find_season(slots: Slots, window: int) -> F64 | None:
            return self._find_season(watch, slots, window)

        def find_floor(slots: Slots) -> F64:
            consumers, endpoints = self.roster.pair_consumer[slots], self.roster.pair_endpoint[slots]
            floor = np.where(consumers >= 0, _PARENT_SHARE * levels(np.maximum(consumers, 0)), 0.0)
            if crowded:
                is_crowded = self.roster.count_consumers(self.watermark)[np.maximum(endpoints, 0)] >= CROWD_MIN
                floor = np.where(is_crowded & (endpoints >= 0), np.maximum(floor, crowded), floor)
            return floor

        return Context(
            parents=lambda slots: self.roster.pair_endpoint[slots],
            floor=find_floor,
            season=find_season,
            loss=losses.ratios,
        )

    def _find_loss(self, subject: SubjectName) -> float:
        """Of a subject's calls; of one that is in no table, of those of its endpoint."""
        known: list[tuple[Subjects, SubjectLoss, str, str]] = []
        if subject.consumer:
            known.append((self.roster.pairs, self.losses.pairs, subject.endpoint_id, subject.consumer))
            known.append((self.roster.consumers, self.losses.consumers, "", subject.consumer))
        known.append((self.roster.endpoints, self.losses.endpoints, subject.endpoint_id, ""))
        for subjects, losses, endpoint_id, consumer in known if self.losses.is_known else ():
            slot = subjects.find(endpoint_id, consumer)
            if slot >= 0:
                return losses.share(np.array([slot]))
        return 0.0

    def _find_season(self, watch: Watch, slots: Slots, window: int) -> F64 | None:
        """What the hour makes of the calls of the endpoints of pairs."""
        seconds, endpoints = watch.windows.window_seconds, self.roster.pair_endpoint[slots]
        if seconds not in ENDPOINT_WINDOWS:
            return None
        factors = self._hours.read_factors(window * seconds // self._hours.window_seconds)
        return np.where(endpoints >= 0, factors.take(np.maximum(endpoints, 0)), np.nan)

    def _consumer_of(self, watch: Watch, slot: int) -> int:
        """The consumer's slot of a pair's or a consumer's own; -1: none."""
        if watch.kind is AlertKind.VOLUME_CONSUMER:
            return slot
        return int(self.roster.pair_consumer[slot]) if watch.kind is AlertKind.VOLUME_PAIR else -1

    def _tell(self, watch: Watch, crossing: Crossing) -> AlertSignal:
        """A crossing with names and rates."""
        part = {
            AlertKind.VOLUME_PAIR: self.roster.pairs,
            AlertKind.VOLUME_CONSUMER: self.roster.consumers,
            AlertKind.VOLUME_ENDPOINT: self.roster.endpoints,
        }[watch.kind]
        name = part.name(crossing.slot)
        signal = crossing.tell(name)
        if not name.consumer:
            return signal
        walks = crossing.kind is AlertKind.VOLUME_PAIR
        return msgspec.structs.replace(
            signal,
            walk=self.abuse.walks.describe(crossing.slot, self.watermark) if walks else "",
            is_notice=self.abuse.is_young(self._consumer_of(watch, crossing.slot), self.watermark),
        )


def _list_reasons(batch: RowBatch, received_at: int | Slots) -> dict[str, NDArray[np.bool_]]:
    """Why rows do not count, and which."""
    return {
        "client_side": batch.role != ROLE_SERVER,
        "proxy": batch.hop == HOP_PROXY,
        "ahead": batch.window_start.astype(np.int64) > received_at + AHEAD_SECONDS,
    }
