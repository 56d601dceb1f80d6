"""The contract of the detectors of abuse: one kind of evidence each. They count the rows of a batch against a ceiling.

`Rarity` finds endpoints that hardly anybody calls, and staff: consumers that are let in there, such as administrators
and support. Pairs of consumer and endpoint are counted. Nothing is rare before there are some consumers, because with
three of them everything is. Where most call from outside, consumers who only ever call from inside are staff too:
support reads data of others at work.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from collector.alerting.alert import AbuseSignal, AlertKind, Basis, Signal
from collector.core.kinds import Sensitivity
from collector.detection.abuse.ceiling import Ceiling, Excess
from collector.detection.framework.detector import Detector
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import SubjectName, Subjects
from collector.detection.framework.state import Bools, DetectorState, Slots, array, column, number
from collector.detection.framework.subject_index import SubjectIndex

YOUNG_SECONDS = 3_600  # Since the installation's first row: nobody is accused, for nothing is known of anybody.
INTERNAL_YOUNG_SECONDS = 2 * 86_400  # The same of who calls from inside: nightly jobs and exports show in two days.
CONSUMERS_MIN = 20
RARE_SHARE = 0.03  # Of all consumers.
RARE_MIN = 6  # So many consumers are few in any case.
_REFRESH_SECONDS = 30
_WHOLE = 1e-6  # Nearer to a whole number, a count is one.


class _Consumers(DetectorState):
    """By consumer."""

    is_staff = column(np.bool_)
    is_external = column(np.bool_)  # It has called from outside.


class Rarity(Detector):
    """Reports nothing itself."""

    name = "abuse.rarity"
    parts = ("_consumers",)
    _is_rare = array(np.bool_)  # By endpoint.
    _first_time = number(0)  # Of the installation's rows, unix seconds.
    _is_public = number(False)  # Most consumers have called from outside.
    _refreshed_at = number(0)

    def __init__(self, subjects: SubjectIndex) -> None:
        super().__init__()
        self._subjects = subjects
        self._consumers = _Consumers()
        self._peers: Slots | None = None
        subjects.consumers.follow(self._consumers)

    def feed(self, events: Events) -> Sequence[Signal]:
        """Learns who is let in where few are."""
        self._first_time = self._first_time or events.time
        self._peers = None
        subjects, known = self._subjects, self._consumers
        known.is_external[events.consumer[(events.consumer >= 0) & ~events.is_internal]] = True
        if events.time >= self._refreshed_at + _REFRESH_SECONDS or len(self._is_rare) < subjects.endpoints.capacity:
            self._refreshed_at = events.time
            pairs = subjects.pair_endpoint[subjects.pairs.live()]
            count = np.bincount(pairs[pairs >= 0], minlength=subjects.endpoints.capacity)
            consumers = len(subjects.consumers)
            self._is_public = 2 * int(known.is_external[subjects.consumers.live()].sum()) > consumers
            self._is_rare = (count <= max(RARE_MIN, RARE_SHARE * consumers)) & (consumers >= CONSUMERS_MIN)
        let_in = (events.consumer >= 0) & ~events.is_anonymous & events.is_success
        known.is_staff[events.consumer[let_in & self._is_rare[events.endpoint]]] = True
        return ()

    def knows_for(self, seconds: int, time: int) -> bool:
        """Whether the installation's first row is so long ago."""
        return time - self._first_time >= seconds

    def is_young(self, consumer: int, time: int) -> bool:
        """Whether too little is known to accuse the consumer in this slot, or who calls from inside (-1)."""
        is_external = consumer >= 0 and bool(self._consumers.is_external[consumer])
        return not self.knows_for(YOUNG_SECONDS if is_external else INTERNAL_YOUNG_SECONDS, time)

    @property
    def is_public(self) -> bool:
        """Whether most consumers have called from outside."""
        return self._is_public

    def is_rare(self, endpoints: Slots) -> Bools:
        """Whether few call `endpoints`."""
        rare: Bools = self._is_rare[endpoints]
        return rare

    def is_staff(self, consumers: Slots) -> Bools:
        """Whether `consumers` were let in where few are, or call from inside where most do not."""
        staff: Bools = self._consumers.is_staff[consumers] | self.is_inside(consumers)
        return staff

    def is_inside(self, consumers: Slots) -> Bools:
        """Whether `consumers` only ever call from inside where most call from outside."""
        inside: Bools = self._is_public & ~self._consumers.is_external[consumers]
        return inside

    def list_peers(self) -> Slots:
        """Pairs that say what is common at an endpoint: a job that calls from inside is no peer of people outside. Of a
        batch they are found once."""
        if self._peers is None:
            pairs = self._subjects.pairs.live()
            consumers = self._subjects.pair_consumer[pairs]
            self._peers = pairs[(consumers >= 0) & ~self.is_inside(consumers)]
        return self._peers


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One subject that did too much of something."""

    kind: AlertKind
    subject: SubjectName
    count: float  # Of what the kind counts (docs/use/alerts.md), within the horizon, older ones weighing less.
    ceiling: float
    seconds: int  # The horizon.
    basis: Basis
    calls: float  # Of the rows at hand.
    is_internal: bool
    is_notice: bool  # Nothing to accuse anybody of.
    sources: tuple[str, ...] = ()  # Addresses that took part, where they are many.
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is reported.
    walk: str = ""  # That its objects came in order, a clause.


class AbuseDetector(Detector):
    """One of them: `find` is its formula."""

    needs_history = True  # Of the installation: while it is young, findings accuse nobody.
    _is_projected = number(False)

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__()
        self._subjects, self._losses, self._rarity = subjects, losses, rarity

    @abstractmethod
    def find(self, events: Events) -> Iterable[Finding]:
        """Count the rows, and find who did too much."""

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """What the subject does is expected of each ceiling that knows it, by both names or as a consumer."""
        asked = [
            ceiling.expect(max(table.find(endpoint_id, consumer), table.find("", consumer) if consumer else -1))
            for ceiling in self._list_ceilings()
            if isinstance(table := ceiling.table, Subjects)
        ]
        return any(asked)

    def _list_ceilings(self) -> list[Ceiling]:
        return [part for _, part in self._list_parts(self.parts) if isinstance(part, Ceiling)]

    def feed(self, events: Events) -> Sequence[AbuseSignal]:
        if not self._is_projected and self._rarity.knows_for(YOUNG_SECONDS, events.time):
            self._is_projected = True
            for ceiling in self._list_ceilings():
                if ceiling.is_projected:
                    ceiling.project(events.time)
        return [self._report(finding, events.time) for finding in self.find(events)]

    def _report(self, finding: Finding, time: int) -> AbuseSignal:
        known_for = INTERNAL_YOUNG_SECONDS if finding.is_internal else YOUNG_SECONDS
        count = max(round(finding.count), round(finding.ceiling) + 1)  # It is more, if by a half.
        is_young = self.needs_history and not self._rarity.knows_for(known_for, time)
        return AbuseSignal(
            kind=finding.kind,
            endpoint_id=finding.subject.endpoint_id,
            endpoint_label=finding.subject.label,
            route_ids=finding.subject.route_ids,
            consumer=finding.subject.consumer,
            time=time,
            seconds=finding.seconds,
            count=count,
            is_estimate=abs(finding.count - count) > _WHOLE,
            ceiling=round(finding.ceiling),
            calls=round(finding.calls),
            basis=finding.basis,
            is_notice=is_young or finding.is_notice,
            sources=finding.sources,
            loss_ratio=self._losses.find(finding.subject),
            detail=finding.detail,
            quietest=finding.quietest,
            walk=finding.walk,
            confirmation=finding.confirmation,
        )


def make_findings(
    kind: AlertKind | Callable[[int], AlertKind],
    excess: Excess,
    name: Callable[[int], SubjectName],
    events: Events,
    slots: Slots,
    rows: Slots | None = None,
    is_notice: Callable[[int], bool] = lambda _: False,
    describe_walk: Callable[[int], str] = lambda _: "",
    describe: Callable[[int], str] = lambda _: "",
) -> list[Finding]:
    """Findings of an excess, whose slots ascend. `slots` are those of the events, or of some `rows` of them; `kind`,
    `name`, `is_notice`, `describe_walk` and `describe` (the detail) are asked by slot."""
    if not len(excess.slots):
        return []
    place = np.minimum(np.searchsorted(excess.slots, slots), len(excess.slots) - 1)
    own = (excess.slots[place] == slots).nonzero()[0]
    place, own = place[own], own if rows is None else rows[own]
    made = np.bincount(place, events.calls[own], len(excess.slots)).tolist()
    external = np.bincount(place, ~events.is_internal[own], len(excess.slots)).tolist()
    return [
        Finding(
            kind=kind if isinstance(kind, AlertKind) else kind(slot),
            subject=name(slot),
            count=float(excess.sums[index]),
            ceiling=float(excess.ceilings[index]),
            seconds=excess.plan[int(excess.horizon[index])].seconds,
            basis=excess.basis[index],
            calls=made[index],
            is_internal=not external[index],
            is_notice=is_notice(slot),
            detail=describe(slot),
            walk=describe_walk(slot),
        )
        for index, slot in enumerate(excess.slots.tolist())
    ]
