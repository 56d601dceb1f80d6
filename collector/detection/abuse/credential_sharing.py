"""Detects stolen or shared credentials (OWASP API2:2023): one credential that is used from many places.

It counts outside networks (/24, /48) from which the credential had not come before. A telephone has a few a day. A
service's key that a fleet uses has had its networks before.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.loss import Losses
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.rows import Events
from collector.detection.framework.subject_index import SubjectIndex

PLAN = (
    Horizon(seconds=600, prior=8, floor=8),
    Horizon(seconds=3_600, prior=10, floor=10),
    Horizon(seconds=86_400, prior=30, floor=30),
)


class CredentialSharingDetector(AbuseDetector):
    """New networks by consumer, against a ceiling."""

    name = "abuse.credential_sharing"
    kinds = frozenset({AlertKind.CREDENTIAL_SHARING})
    parts = ("_networks", "_ceiling")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._networks = NoveltyBitmap()
        self._ceiling = Ceiling(PLAN, subjects.consumers)
        subjects.consumers.follow(self._networks)

    def find(self, events: Events) -> list[Finding]:
        rows = ((events.consumer >= 0) & ~events.is_anonymous & ~events.is_internal).nonzero()[0]
        if not len(rows):
            return []
        self._ceiling.refresh(events.time)
        who = events.consumer[rows]
        new = self._networks.count_novel(who, events.network[rows]).nonzero()[0]
        slots, networks = sum_by_slot(who[new], np.ones(len(new)))
        excess = self._ceiling.add(slots, networks, events.time)
        return make_findings(
            AlertKind.CREDENTIAL_SHARING, excess, self._subjects.consumers.name, events, events.consumer
        )
