"""Detects resource exhaustion (OWASP API4:2023): consumers that go on although the server limits them.

It counts a consumer's calls answered 429 or 503. Mere volume is left to the volume detectors.
"""

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.subject_index import SubjectIndex

PLAN = (Horizon(seconds=60, prior=60, floor=60), Horizon(seconds=600, prior=200, floor=200))
_LIMITED = (429, 503)


class ResourceExhaustionDetector(AbuseDetector):
    """Limited calls by consumer, against a ceiling."""

    name = "abuse.resource_exhaustion"
    kinds = frozenset({AlertKind.RESOURCE_EXHAUSTION})
    parts = ("_ceiling",)

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._ceiling = Ceiling(PLAN, subjects.consumers)

    def find(self, events: Events) -> list[Finding]:
        rows = events.list_answered(_LIMITED)
        rows = rows[events.consumer[rows] >= 0]
        if not len(rows):
            return []
        self._ceiling.refresh(events.time)
        slots, calls = sum_by_slot(events.consumer[rows], events.calls[rows])
        excess = self._ceiling.add(slots, calls, events.time)
        return make_findings(
            AlertKind.RESOURCE_EXHAUSTION, excess, self._subjects.consumers.name, events, events.consumer
        )
