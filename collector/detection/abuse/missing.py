"""Detects scanning and forced browsing: addresses that look for what is not there.

It counts routes that an address requested in vain and had not requested before. So a client that polls one dead link a
thousand times is not a scanner. A request is in vain if the route is missing. It also is in vain if it has no
credential and is refused where nobody was ever let in. A server that asks for a login before it looks for the page
answers a word list in this way. Where somebody is let in, a refusal is an expired session.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import dump_subjects, join, load_subjects, split
from collector.detection.abuse.contract import Bools, Events, Finding, find, sum_by_slot
from collector.detection.framework.contract import State
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.slots import find_distinct, grow
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import SubjectName, Subjects

PLAN = (
    Horizon(seconds=60, prior=20, floor=15),
    Horizon(seconds=600, prior=30, floor=25),
    Horizon(seconds=3_600, prior=60, floor=40),
)
SOURCES_MAX = 50_000
_MISSES = (404, 405, 410, 501)
_REFUSALS = (401, 403)
_NOT_MODIFIED = 304


class MissingDetector:
    """See the module."""

    name = "missing"

    def __init__(self) -> None:
        self._sources = Subjects(SOURCES_MAX)
        self._asked = NoveltyBitmap()  # Routes of each address.
        self._ceiling = Ceiling(PLAN)
        self._is_served: Bools = np.zeros(0, np.bool_)  # By endpoint slot: somebody was let in.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        self._learn_served(events, placed, roster)
        refused = events.list_answered(_REFUSALS)
        refused = refused[events.is_anonymous[refused] & ~self._is_served[events.endpoint[refused]]]
        rows = np.sort(np.concatenate((events.list_answered(_MISSES), refused)))
        rows = rows[events.address[rows] != 0]
        if not len(rows):
            return []
        distinct, first, inverse = find_distinct(events.address[rows])

        def name(index: int) -> SubjectName:
            row = int(rows[first[index]])
            return SubjectName(
                consumer=f"address:{events.batch.strings[events.batch.client_address[events.rows[row]]]}"
            )

        found, evicted = self._sources.touch(distinct, time, name)
        self._ceiling.grow(self._sources.table.capacity, 1)
        self._asked.grow(self._sources.table.capacity)
        self._ceiling.forget(evicted)
        if len(evicted):
            self._asked.forget(evicted)
        self._ceiling.refresh(self._sources.table.live, None, time)
        source = found[inverse]
        new = self._asked.count_novel(source, events.batch.route_id[events.rows[rows]])
        slots, amounts = sum_by_slot(source, new.astype(np.float64))
        excess = self._ceiling.add(slots, amounts, np.zeros(len(slots), np.int64), time)
        return find(
            lambda _: AlertKind.SCANNING,
            self._ceiling,
            excess,
            self._sources.name,
            source,
            events.calls[rows],
            events.is_internal[rows],
        )

    def _learn_served(self, events: Events, placed: Placed, roster: Roster) -> None:
        if len(self._is_served) < roster.endpoints.table.capacity:
            self._is_served = grow(self._is_served, roster.endpoints.table.capacity)
        self._is_served[placed.evicted_endpoints] = False
        served = ((events.status >= 200) & (events.status < 300)) | (events.status == _NOT_MODIFIED)
        self._is_served[events.endpoint[served]] = True

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.SCANNING and self._ceiling.expect(self._sources.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        sources = dump_subjects(self._sources)
        served: State = {"is": self._is_served}
        return join({"sources": sources, "asked": self._asked.dump(), "own": self._ceiling.dump(), "served": served})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        load_subjects(self._sources, parts["sources"])
        self._asked.load(parts["asked"])
        self._ceiling.load(parts["own"])
        # Older states have none: who is let in shows within minutes.
        self._is_served = parts["served"]["is"].astype(np.bool_) if "served" in parts else np.zeros(0, np.bool_)
