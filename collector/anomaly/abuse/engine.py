"""All abuse detectors behind the volume engine's roster: rows of a batch in, signals out."""

from collections.abc import Callable, Sequence

import numpy as np

from collector.alerts.alert import AlertKind
from collector.alerts.signal import AbuseSignal
from collector.anomaly.abuse.asking import CodeEndpoints
from collector.anomaly.abuse.consumption import ConsumptionDetector
from collector.anomaly.abuse.contract import AbuseDetector, Finding
from collector.anomaly.abuse.events import read_events
from collector.anomaly.abuse.functions import FunctionDetector
from collector.anomaly.abuse.guesses import GuessDetector
from collector.anomaly.abuse.injection import InjectionDetector
from collector.anomaly.abuse.missing import MissingDetector
from collector.anomaly.abuse.objects import ObjectDetector
from collector.anomaly.abuse.overload import OverloadDetector
from collector.anomaly.abuse.owners import OwnerDetector
from collector.anomaly.abuse.pair_calls import PairCalls
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.records import RecordDetector
from collector.anomaly.abuse.rotation import RotationDetector
from collector.anomaly.abuse.sharing import SharingDetector
from collector.anomaly.abuse.state import split
from collector.anomaly.abuse.walks import Walks
from collector.anomaly.columns import Columns
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.subjects import SubjectName

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
