"""Detects stolen or shared credentials (OWASP API2:2023): one credential that is used from many places.

It counts outside networks (/24, /48) from which the credential had not come before. A telephone has a few a day. A
service's key that a fleet uses has had its networks before.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import join, split
from collector.detection.abuse.contract import Events, Finding, find, sum_by_slot
from collector.detection.framework.contract import State
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.subject_index import Placed, Roster

PLAN = (
    Horizon(seconds=600, prior=8, floor=8),
    Horizon(seconds=3_600, prior=10, floor=10),
    Horizon(seconds=86_400, prior=30, floor=30),
)


class SharingDetector:
    """See the module."""

    name = "sharing"

    def __init__(self) -> None:
        self._networks = NoveltyBitmap()
        self._ceiling = Ceiling(PLAN)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        consumers = roster.consumers.table
        self._ceiling.grow(consumers.capacity, 1)
        self._networks.grow(consumers.capacity)
        self._ceiling.forget(placed.evicted_consumers)
        if len(placed.evicted_consumers):
            self._networks.forget(placed.evicted_consumers)
        rows = ((events.consumer >= 0) & ~events.is_anonymous & ~events.is_internal).nonzero()[0]
        if not len(rows):
            return []
        self._ceiling.refresh(consumers.live, None, time)
        who = events.consumer[rows]
        new = self._networks.count_novel(who, events.network[rows]).nonzero()[0]
        slots, amounts = sum_by_slot(who[new], np.ones(len(new)))
        excess = self._ceiling.add(slots, amounts, np.zeros(len(slots), np.int64), time)
        return find(
            lambda _: AlertKind.CREDENTIAL_SHARING,
            self._ceiling,
            excess,
            roster.consumers.name,
            events.consumer,
            events.calls,
            events.is_internal,
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.CREDENTIAL_SHARING and self._ceiling.expect(roster.consumers.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        return join({"networks": self._networks.dump(), "own": self._ceiling.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._networks.load(parts["networks"])
        self._ceiling.load(parts["own"])
