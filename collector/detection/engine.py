"""The detectors' one entrance: batches in the order of the log in, signals out. Pure and deterministic.

Reads server-side rows (the end that accepted the connection) without those of proxies. Early rows and the rows that
follow add up. The engine gives the rows their subjects, closes windows, and asks each detector of its list
(collector/detection/framework/detector.py). It has no clock. The theory is in docs/internals/detection.md.
"""

from collections.abc import Mapping, Set

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, Signal
from collector.core.kinds import HOP_PROXY
from collector.core.rates import UTC_NAME, LocalTime
from collector.detection.abuse.bfla import BflaDetector
from collector.detection.abuse.bola import BolaDetector
from collector.detection.abuse.credential_rotation import CredentialRotationDetector
from collector.detection.abuse.credential_sharing import CredentialSharingDetector
from collector.detection.abuse.credential_stuffing import CredentialStuffingDetector
from collector.detection.abuse.detector import Rarity
from collector.detection.abuse.entrances import Entrances
from collector.detection.abuse.enumeration import EnumerationDetector
from collector.detection.abuse.injection import InjectionDetector
from collector.detection.abuse.mass_assignment import MassAssignmentDetector
from collector.detection.abuse.mass_export import MassExportDetector
from collector.detection.abuse.pair_history import PairCalls, Walks
from collector.detection.abuse.query_cost import QueryCostDetector
from collector.detection.abuse.resource_consumption import ResourceConsumptionDetector
from collector.detection.abuse.resource_exhaustion import ResourceExhaustionDetector
from collector.detection.abuse.scanning import ScanningDetector
from collector.detection.abuse.tool_use import ToolUseDetector
from collector.detection.abuse.unread_traffic import UnreadTrafficDetector
from collector.detection.framework.detector import Detector
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import FLAG_ESTIMATED, Events
from collector.detection.framework.slots import Subjects
from collector.detection.framework.state import Arrays, DetectorState, Slots, StateError, number
from collector.detection.framework.subject_index import CONSUMERS_MAX, ENDPOINTS_MAX, PAIRS_MAX, SubjectIndex
from collector.detection.framework.witnesses import Witnesses
from collector.detection.health.health import HealthDetector
from collector.detection.volume.service_volume import ServiceVolume
from collector.detection.volume.silence import SilenceDetector
from collector.detection.volume.volume import ConsumerVolume, EndpointVolume, PairVolume
from collector.storage.columns import RowBatch
from collector.storage.row_group import RowGroup, make_group
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

ROLE_SERVER = 1
NODE_SECONDS = 600
AHEAD_SECONDS = 5  # A row may start this long after the collector received it: clocks differ.
_TIME_ZONE = "time_zone"


class Engine(DetectorState):
    """All detectors of one installation."""

    parts = ("subjects", "losses", "witnesses", "detectors")
    used_calls = number(0)
    _client_side_calls = number(0)
    _proxy_calls = number(0)
    _estimated_calls = number(0)
    _late_calls = number(0)
    _ahead_calls = number(0)

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
        super().__init__()
        self._local_time = LocalTime(time_zone)
        self._endpoint_of_route = {} if endpoint_of_route is None else endpoint_of_route
        self._consumer_order = consumer_order
        self.subjects = subjects = SubjectIndex(
            endpoint_of_route=self._endpoint_of_route,
            consumer_order=consumer_order,
            endpoints_max=endpoints_max,
            consumers_max=consumers_max,
            pairs_max=pairs_max,
        )
        self.losses = losses = Losses(subjects.tables)
        walks, rarity = Walks(subjects), Rarity(subjects)
        calls, entrances = PairCalls(subjects), Entrances(subjects)
        endpoints = self.endpoints = EndpointVolume(subjects, losses, self._local_time)
        consumers = self.consumers = ConsumerVolume(subjects, losses, rarity)
        pairs = self.pairs = PairVolume(subjects, losses, rarity, walks, consumers, endpoints)
        windowed = list(endpoints.windowed.values())
        health = HealthDetector(subjects, losses.endpoints, [one.windows for one in windowed])
        self.witnesses = Witnesses(subjects, health.services)
        self.services = ServiceVolume(subjects, health.services, windowed, losses.endpoints, self._local_time)
        self.silence = SilenceDetector(
            subjects, losses, pairs.windowed[3_600], windowed, consumers.report, self._local_time
        )
        shared = subjects, losses, rarity
        # In the order in which they are fed, and see windows that have closed.
        in_order: list[Detector] = [
            *(walks, endpoints, health, pairs, consumers, self.services, self.silence, rarity, entrances, calls),
            EnumerationDetector(*shared, calls, walks),
            MassExportDetector(*shared),
            CredentialStuffingDetector(*shared, entrances),
            ScanningDetector(*shared, health.services),
            CredentialSharingDetector(*shared),
            CredentialRotationDetector(*shared),
            ResourceExhaustionDetector(*shared),
            ResourceConsumptionDetector(*shared, calls),
            QueryCostDetector(*shared),
            ToolUseDetector(*shared),
            BflaDetector(*shared, entrances),
            BolaDetector(*shared),
            InjectionDetector(*shared),
            MassAssignmentDetector(*shared),
            UnreadTrafficDetector(*shared),
        ]
        self.detectors = {detector.name: detector for detector in in_order}

    def make_new(self) -> "Engine":
        """One that has learned nothing, of the same limits and the same mapping."""
        endpoints, consumers, pairs = (table.limit for table in self.subjects.tables)
        return Engine(
            endpoint_of_route=self._endpoint_of_route,
            consumer_order=self._consumer_order,
            time_zone=self._local_time.name,
            endpoints_max=endpoints,
            consumers_max=consumers,
            pairs_max=pairs,
        )

    @property
    def watermark(self) -> int:
        """Start of the newest row, unix seconds."""
        return self.subjects.watermark

    def list_nodes(self) -> list[str]:
        """Those that sent rows in the minutes before the newest."""
        return self.losses.nodes.list_nodes(self.watermark - NODE_SECONDS)

    @property
    def dropped_calls(self) -> dict[str, int]:
        """Calls that were not evaluated, by reason."""
        return {
            "client_side": self._client_side_calls,
            "proxy": self._proxy_calls,
            "estimated": self._estimated_calls,
            "late": self._late_calls,
            "ahead": self._ahead_calls,
        }

    def count_subjects(self) -> dict[str, tuple[int, int]]:
        """How many endpoints, consumers and pairs are known, and the most."""
        names = "endpoints", "consumers", "pairs"
        return {name: (len(table), table.limit) for name, table in zip(names, self.subjects.tables, strict=True)}

    @property
    def evicted_count(self) -> int:
        """Subjects forgotten because there were too many."""
        return sum(table.evicted_count for table in (*self.subjects.tables, self.services.table))

    @property
    def held_back_count(self) -> int:
        """Values past a threshold that the normal level of sensitivity does not report."""
        return sum(detector.held_back_count for detector in self.detectors.values())

    def feed(self, rows: RowBatch | RowGroup, received_at: int | Slots) -> list[Signal]:
        """Take a batch, or several as one; `received_at` in unix seconds, of all rows or of each, bounds how far a
        sensor's clock may run ahead."""
        group = rows if isinstance(rows, RowGroup) else make_group(rows)
        batch = group.rows
        chosen = self._choose(batch, received_at)
        if not len(chosen):
            return []
        events = Events(batch, chosen, received_at, [loss for head in group.heads for loss in head.service_losses])
        signals = self._close_windows(events.time)  # First, so that rows of one batch do not fall out of the ring.
        self.subjects.place(events)
        self.losses.take(events, group)
        self.witnesses.take(events, group)
        if len(events.by_pair.rows):
            self.subjects.count_consumers(self.watermark)  # First, so that all use the same count.
        for detector in self.detectors.values():
            signals += detector.feed(events)
        used_calls = int(events.calls[events.is_used].sum())
        self.used_calls += used_calls
        self._late_calls += int(events.calls.sum()) - used_calls
        return self.witnesses.attach(signals)

    def advance(self, watermark: int) -> list[Signal]:
        """Close what may close when the newest row starts at `watermark` (unix seconds)."""
        return self.witnesses.attach(self._close_windows(watermark))

    def _close_windows(self, watermark: int) -> list[Signal]:
        self.subjects.watermark = max(self.watermark, watermark)
        signals: list[Signal] = []
        for volume in (self.pairs, self.consumers, self.endpoints):
            for closed in volume.advance(self.watermark):
                for detector in self.detectors.values():
                    signals += detector.close(closed)
                signals += closed.signals  # Last, so that endpoints join the alert of their service.
        return signals

    def remap(self, routes: Set[int]) -> None:
        """The mapping changed for these routes. Levels, errors and latency of endpoints that have more or fewer routes
        than before are learned anew."""
        changed, gone = self.subjects.remap(routes)
        anew = np.concatenate([changed, gone])
        for detector in self.detectors.values() if len(anew) else ():
            detector.change_routes(anew)

    def find_newest(self, batch: RowBatch, received_at: int | Slots) -> int:
        """When the newest row of a batch that counts begins; 0 where none does."""
        left = np.ones(len(batch), np.bool_)
        for mask in _list_reasons(batch, received_at).values():
            left &= ~mask
        return int(np.max(batch.window_start[left], initial=0))

    def resume(self, time: int, counted: "Engine") -> None:
        """Go on at `time` (unix seconds) after one of which nothing is known: no window that has a part of it is taken
        for silence. What was `counted` meanwhile stays counted."""
        for detector in self.detectors.values():
            detector.resume(time)
        for name in self._others:
            setattr(self, name, getattr(counted, name))

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """A person marked a level as expected: the detectors of that subject learn it at once. False when it is
        unknown."""
        asked = [
            detector.expect(kind, endpoint_id, consumer, calls_per_second)
            for detector in self.detectors.values()
            if kind in detector.kinds
        ]
        return any(asked)

    def erase(self, consumer: str) -> int:
        """Forget the name of a consumer: what was learned of it stays under no name, and ages. Gives how many subjects
        were its."""
        return sum(part.erase(consumer) for part in self.walk() if isinstance(part, Subjects))

    def dump(self, path: str = "") -> Arrays:
        zone = np.frombuffer(self._local_time.name.encode(), np.uint8)
        return super().dump(path) | {_TIME_ZONE: zone}

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        """Into an engine of the same limits. What was learned under another time zone keeps its hours."""
        if unknown := saved.keys() - self.dump().keys():
            raise StateError(f"{min(unknown)} is unknown")
        super().load(saved, path)
        before = saved[_TIME_ZONE].tobytes().decode()
        if before == self._local_time.name:
            return
        try:
            ago = LocalTime(before)
        except ValueError:  # An earlier database knew it: the season is learned anew where it does not fit.
            return
        hours = round((self._local_time.read(self.watermark) - ago.read(self.watermark)) / 3_600)
        for detector in self.detectors.values():
            detector.turn_clock(hours)

    def _choose(self, batch: RowBatch, received_at: int | Slots) -> Slots:
        """Indexes of the rows that count; the others' calls are counted by reason."""
        left = np.ones(len(batch), np.bool_)
        for name, mask in _list_reasons(batch, received_at).items():
            if np.count_nonzero(mask):
                setattr(self, name, getattr(self, name) + int(batch.calls[left & mask].sum()))
                left &= ~mask
        return left.nonzero()[0]


def _list_reasons(batch: RowBatch, received_at: int | Slots) -> dict[str, NDArray[np.bool_]]:
    """Why rows do not count, by the attribute that counts their calls, and which."""
    return {
        "_client_side_calls": batch.role != ROLE_SERVER,
        "_proxy_calls": batch.hop == HOP_PROXY,
        # Of endpoints that nobody knows: they correct those that are read (collector/detection/framework/loss.py).
        "_estimated_calls": batch.flags & FLAG_ESTIMATED > 0,
        "_ahead_calls": batch.window_start.astype(np.int64) > received_at + AHEAD_SECONDS,
    }
