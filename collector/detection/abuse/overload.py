"""Detects resource exhaustion (OWASP API4:2023): consumers that go on although the server limits them.

It counts a consumer's calls answered 429 or 503. Mere volume is left to the volume detectors.
"""

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.contract import Events, Finding, find, sum_by_slot
from collector.detection.framework.contract import State
from collector.detection.framework.subject_index import Placed, Roster

PLAN = (Horizon(seconds=60, prior=60, floor=60), Horizon(seconds=600, prior=200, floor=200))
_LIMITED = (429, 503)


class OverloadDetector:
    """See the module."""

    name = "overload"

    def __init__(self) -> None:
        self._ceiling = Ceiling(PLAN)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        consumers = roster.consumers.table
        self._ceiling.grow(consumers.capacity, 1)
        self._ceiling.forget(placed.evicted_consumers)
        rows = events.list_answered(_LIMITED)
        rows = rows[events.consumer[rows] >= 0]
        if not len(rows):
            return []
        self._ceiling.refresh(consumers.live, None, time)
        slots, amounts = sum_by_slot(events.consumer[rows], events.calls[rows])
        excess = self._ceiling.add(slots, amounts, np.zeros(len(slots), np.int64), time)
        return find(
            lambda _: AlertKind.RESOURCE_EXHAUSTION,
            self._ceiling,
            excess,
            roster.consumers.name,
            events.consumer,
            events.calls,
            events.is_internal,
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.RESOURCE_EXHAUSTION and self._ceiling.expect(roster.consumers.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        return self._ceiling.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._ceiling.load(state)
