"""Detects scanning and forced browsing: addresses that look for what is not there.

It counts routes that an address requested in vain and had not requested before. So a client that polls one dead link a
thousand times is not a scanner. A request is in vain if the route is missing. It also is in vain if it has no
credential and is answered 401 where nobody was ever let in, at a service that lets somebody in elsewhere. A server that
asks for a login before it looks for the page answers a word list in this way. Where somebody is let in, a refusal is an
expired session. A service that refuses everybody has a policy or an outage, and so has a path that is answered 403.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.alerting.wording import MISSING, MISSING_OR_CLOSED
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.distinct import find_distinct
from collector.detection.framework.loss import Losses
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import SubjectName, Subjects
from collector.detection.framework.state import DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.detection.health.services import Services

PLAN = (
    Horizon(seconds=60, prior=20, floor=15),
    Horizon(seconds=600, prior=30, floor=25),
    Horizon(seconds=3_600, prior=60, floor=40),
)
SOURCES_MAX = 50_000
_MISSES = (404, 405, 410, 501)
_UNAUTHORIZED = (401,)
_NOT_MODIFIED = 304


class _Endpoints(DetectorState):
    """By endpoint."""

    is_served = column(np.bool_)  # Somebody was let in.


class _Sources(DetectorState):
    """By address."""

    was_refused = column(np.bool_)  # Some of what it looked for asks for a login.


class ScanningDetector(AbuseDetector):
    """New routes requested in vain, by address, against a ceiling."""

    name = "abuse.scanning"
    kinds = frozenset({AlertKind.SCANNING})
    parts = ("_sources", "_refused", "_asked", "_ceiling", "_endpoints")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity, services: Services) -> None:
        super().__init__(subjects, losses, rarity)
        self._services = services
        self._sources = Subjects(SOURCES_MAX)
        self._refused = _Sources()
        self._asked = NoveltyBitmap()  # Routes of each address.
        self._ceiling = Ceiling(PLAN, self._sources)
        self._endpoints = _Endpoints()
        self._sources.follow(self._asked, self._refused)
        subjects.endpoints.follow(self._endpoints)

    def find(self, events: Events) -> list[Finding]:
        is_served = self._endpoints.is_served
        is_served[events.endpoint[events.is_success | (events.status == _NOT_MODIFIED)]] = True
        refused = events.list_answered(_UNAUTHORIZED)
        refused = refused[events.is_anonymous[refused] & ~is_served[events.endpoint[refused]]]
        if len(refused):
            serving = self._services.keys(is_served.nonzero()[0])
            refused = refused[np.isin(self._services.keys(events.endpoint[refused]), serving)]
        rows = np.sort(np.concatenate((events.list_answered(_MISSES), refused)))
        rows = rows[events.address[rows] != 0]
        if not len(rows):
            return []
        distinct, first, inverse = find_distinct(events.address[rows])
        found = self._sources.touch_named(
            distinct, events.time, lambda index: SubjectName(consumer=events.name_address(int(rows[first[index]])))
        )
        self._ceiling.refresh(events.time)
        source = found[inverse]
        new = self._asked.count_novel(source, events.batch.route_id[events.rows[rows]])
        self._refused.was_refused[source[(new > 0) & np.isin(rows, refused)]] = True
        slots, routes = sum_by_slot(source, new.astype(np.float64))
        excess = self._ceiling.add(slots, routes, events.time)
        return make_findings(
            AlertKind.SCANNING, excess, self._sources.name, events, source, rows, describe=self._describe
        )

    def _describe(self, slot: int) -> str:
        """What it looked for."""
        return MISSING_OR_CLOSED if self._refused.was_refused[slot] else MISSING
