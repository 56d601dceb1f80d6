"""Detects mass export: a consumer that takes many records at a time (OWASP API6:2023).

It counts the records returned to the pair of consumer and endpoint, which sensors counted in bodies or estimated from
sizes. A list of a thousand is one call and no object at all. The baseline is what the endpoint's other consumers take,
and what the pair took on past days.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.subject_index import SubjectIndex

PLAN = (
    Horizon(seconds=60, prior=5_000, floor=800),
    Horizon(seconds=600, prior=20_000, floor=3_000),
    Horizon(seconds=3_600, prior=60_000, floor=10_000),
    Horizon(seconds=86_400, prior=300_000, floor=60_000),
)


class MassExportDetector(AbuseDetector):
    """Records by pair, against a ceiling."""

    name = "abuse.mass_export"
    kinds = frozenset({AlertKind.MASS_EXPORT})
    parts = ("_ceiling",)

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._ceiling = Ceiling(PLAN, subjects.pairs, groups=subjects.endpoints, is_trade=True, is_projected=True)

    def find(self, events: Events) -> list[Finding]:
        endpoints = self._subjects.pair_endpoint
        self._ceiling.refresh(events.time, self._rarity.list_peers, endpoints)
        records = events.read(events.batch.records_returned).astype(np.float64)
        rows = ((records > events.calls) & (events.pair >= 0)).nonzero()[0]  # One a call is an object's own page.
        if not len(rows):
            return []
        slots, amounts = sum_by_slot(events.pair[rows], records[rows])
        excess = self._ceiling.add(slots, amounts, events.time, endpoints[slots])
        return make_findings(AlertKind.MASS_EXPORT, excess, self._subjects.pairs.name, events, events.pair[rows], rows)
