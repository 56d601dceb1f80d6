"""Runs all abuse detectors on the subjects of the volume engine: rows of a batch in, signals out.

`RecordDetector` detects mass export: a consumer that takes many records at a time (OWASP API6:2023). It counts the
records returned to the pair of consumer and endpoint, which sensors counted in bodies or estimated from sizes. A list
of a thousand is one call and no object at all. The baseline is what the endpoint's other consumers take, and what the
pair took on past days.
"""

from collections.abc import Callable, Sequence

import numpy as np

from collector.alerting.alert import AbuseSignal, AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import split
from collector.detection.abuse.consumption import ConsumptionDetector
from collector.detection.abuse.contract import AbuseDetector, Events, Finding, find, read_events, sum_by_slot
from collector.detection.abuse.functions import CodeEndpoints, FunctionDetector
from collector.detection.abuse.guesses import GuessDetector
from collector.detection.abuse.injection import InjectionDetector
from collector.detection.abuse.missing import MissingDetector
from collector.detection.abuse.objects import ObjectDetector, Walks
from collector.detection.abuse.overload import OverloadDetector
from collector.detection.abuse.owners import OwnerDetector
from collector.detection.abuse.rarity import PairCalls, Rarity
from collector.detection.abuse.rotation import RotationDetector
from collector.detection.abuse.sharing import SharingDetector
from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import State
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import SubjectName

PLAN = (
    Horizon(seconds=60, prior=5_000, floor=800),
    Horizon(seconds=600, prior=20_000, floor=3_000),
    Horizon(seconds=3_600, prior=60_000, floor=10_000),
    Horizon(seconds=86_400, prior=300_000, floor=60_000),
)


class RecordDetector:
    """See the module."""

    name = "records"

    def __init__(self, rarity: Rarity) -> None:
        self._rarity = rarity
        self._ceiling = Ceiling(PLAN, is_trade=True)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        pairs = roster.pairs.table
        self._ceiling.grow(pairs.capacity, roster.endpoints.table.capacity)
        self._ceiling.forget(placed.evicted_pairs)
        self._ceiling.refresh(lambda: self._rarity.list_peers(roster), roster.pair_endpoint, time)
        records = events.columns.read(events.batch.records_returned).astype(np.float64)
        rows = ((records > events.calls) & (events.pair >= 0)).nonzero()[0]  # One a call is an object's own page.
        if not len(rows):
            return []
        slots, amounts = sum_by_slot(events.pair[rows], records[rows])
        excess = self._ceiling.add(slots, amounts, roster.pair_endpoint[slots], time)
        return find(
            lambda _: AlertKind.MASS_EXPORT,
            self._ceiling,
            excess,
            roster.pairs.name,
            events.pair[rows],
            events.calls[rows],
            events.is_internal[rows],
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.MASS_EXPORT and self._ceiling.expect(roster.pairs.find(endpoint_id, consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says."""
        self._ceiling.project(roster.pairs.table.live(), time)

    def dump(self) -> State:
        """State for a checkpoint."""
        return self._ceiling.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._ceiling.load(state)


YOUNG_SECONDS = 3_600  # Since the installation's first row: nobody is accused, for nothing is known of anybody.
INTERNAL_YOUNG_SECONDS = 2 * 86_400  # The same of who calls from inside: nightly jobs and exports show in two days.

_LATER = frozenset({ConsumptionDetector.name, RotationDetector.name})  # They begin anew where a state has none.
_AGELESS = frozenset({AlertKind.INJECTION})  # What needs no knowledge of what is ordinary.


class AbuseEngine:
    """One roster's worth of them. `walks` takes a batch before anything is judged, for the volume detectors name them
    too."""

    def __init__(self) -> None:
        self._rarity, self._codes = Rarity(), CodeEndpoints()
        self._calls = PairCalls()
        self.walks = Walks()
        self._consumption = ConsumptionDetector(self._rarity, self._calls)
        self.detectors: tuple[AbuseDetector, ...] = (
            ObjectDetector(self._rarity, self._calls, self.walks),
            RecordDetector(self._rarity),
            GuessDetector(self._codes),
            MissingDetector(),
            SharingDetector(),
            RotationDetector(),
            OverloadDetector(),
            self._consumption,
            FunctionDetector(self._rarity, self._codes),
            OwnerDetector(self._rarity),
            InjectionDetector(),
        )
        self._first_time = 0
        self._is_projected = False

    def take(
        self,
        columns: Columns,
        placed: Placed,
        roster: Roster,
        *,
        time: int,
        find_loss: Callable[[SubjectName], float],
    ) -> Sequence[AbuseSignal]:
        """Judge the rows of a batch; `time` is the newest row's, unix seconds. `find_loss`: of a subject's calls."""
        self._first_time = self._first_time or time
        events = read_events(columns, placed)
        self._rarity.take(events, placed, roster, time)
        self._codes.take(events, placed, roster)
        self._calls.take(events, placed, roster, time)
        if not self._is_projected and time >= self._first_time + YOUNG_SECONDS:
            self._is_projected = True
            for detector in self.detectors:
                detector.project(roster, time)
        return [
            self._tell(finding, time, find_loss(finding.subject))
            for detector in self.detectors
            for finding in detector.take(events, placed, roster, time)
        ]

    def is_young(self, consumer: int, time: int) -> bool:
        """Whether too little is known to accuse the consumer in this slot, or who calls from inside (-1)."""
        is_external = self._rarity.is_external(consumer)
        return time - self._first_time < (YOUNG_SECONDS if is_external else INTERNAL_YOUNG_SECONDS)

    @property
    def held_back_count(self) -> int:
        """Crossings under the installation's bar."""
        return self._consumption.held_back_count

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """A person says that this is ordinary; False where it is not known."""
        return any(detector.expect(kind, endpoint_id, consumer, roster) for detector in self.detectors)

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        own = {f"abuse.{detector.name}": detector.dump() for detector in self.detectors}
        return own | {
            "abuse": {"first_time": np.array([self._first_time, self._is_projected])},
            "abuse.rarity": self._rarity.dump(),
            "abuse.pair_calls": self._calls.dump(),
            "abuse.walks": self.walks.dump(),
        }

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`."""
        self._first_time, projected = (int(value) for value in parts["abuse"]["first_time"])
        self._is_projected = bool(projected)
        self._rarity.load(parts["abuse.rarity"])
        # Older states have these with the objects, and neither walks nor all detectors.
        self._calls.load(parts.get("abuse.pair_calls") or split(parts["abuse.objects"])["calls"])
        if "abuse.walks" in parts:
            self.walks.load(parts["abuse.walks"])
        for detector in self.detectors:
            if f"abuse.{detector.name}" in parts or detector.name not in _LATER:
                detector.load(parts[f"abuse.{detector.name}"])

    def _tell(self, finding: Finding, time: int, loss_ratio: float) -> AbuseSignal:
        age = time - self._first_time
        is_young = age < (INTERNAL_YOUNG_SECONDS if finding.is_internal else YOUNG_SECONDS)
        return AbuseSignal(
            kind=finding.kind,
            endpoint_id=finding.subject.endpoint_id,
            endpoint_label=finding.subject.label,
            route_ids=finding.subject.route_ids,
            consumer=finding.subject.consumer,
            time=time,
            seconds=finding.seconds,
            count=max(round(finding.count), round(finding.ceiling) + 1),  # It is more, if by a half.
            ceiling=round(finding.ceiling),
            calls=round(finding.calls),
            basis=finding.basis,
            is_notice=(is_young and finding.kind not in _AGELESS) or finding.is_notice,
            sources=finding.sources,
            loss_ratio=loss_ratio,
            detail=finding.detail,
            quietest=finding.quietest,
            walk=finding.walk,
            confirmation=finding.confirmation,
        )
