"""Who calls functions that its peers do not: broken function level authorization (OWASP API5:2023).

Counted are a consumer's calls with a credential to functions that hardly anybody calls: those that were refused, and
those that were answered where the function is staff's and the consumer is none of them (`staff.py`). A wrong one-time
code is a guess, and no call of a function.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from collector.alerts.abuse import ANSWERED, REFUSED
from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.asking import CodeEndpoints
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Events
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.staff import StaffFunctions
from collector.anomaly.abuse.state import join, split
from collector.anomaly.abuse.sums import find, sum_by_slot
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots

PLAN: Final = (Horizon(seconds=3_600, prior=2, floor=2), Horizon(seconds=86_400, prior=4, floor=4))
_REFUSALS = (401, 403)


class FunctionDetector:
    """See the module."""

    name = "functions"

    def __init__(self, rarity: Rarity, codes: CodeEndpoints) -> None:
        self._rarity, self._codes = rarity, codes
        self._refused, self._answered = Ceiling(PLAN), Ceiling(PLAN)
        self._staff = StaffFunctions(rarity)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        for ceiling in (self._refused, self._answered):
            ceiling.grow(roster.consumers.table.capacity, 0)
            ceiling.forget(placed.evicted_consumers)
        named = (events.consumer >= 0) & ~events.is_anonymous
        answered = self._staff.take(events, named, placed, roster, time)
        rows = events.list_answered(_REFUSALS)
        rows = rows[named[rows]]
        rows = rows[self._rarity.is_rare(events.endpoint[rows]) & ~self._codes.find(events.endpoint[rows])]
        return [
            *_count(self._refused, rows, REFUSED, events, roster, time),
            *_count(self._answered, answered, ANSWERED, events, roster, time),
        ]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says; a person says so of both."""
        if kind is not AlertKind.FUNCTION_PROBING:
            return False
        slot = roster.consumers.find("", consumer)
        return self._refused.expect(slot) and self._answered.expect(slot)

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        parts = {"refused": self._refused.dump(), "answered": self._answered.dump()}
        return join({**parts, "staff": self._staff.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        if "staff" not in parts:  # Older states have those refused alone.
            self._refused.load(state)
            return
        self._refused.load(parts["refused"])
        self._answered.load(parts["answered"])
        self._staff.load(parts["staff"])


def _count(ceiling: Ceiling, rows: Slots, detail: str, events: Events, roster: Roster, time: int) -> list[Finding]:
    """Findings of the calls of `rows`."""
    if not len(rows):
        return []
    slots, amounts = sum_by_slot(events.consumer[rows], events.calls[rows])
    excess = ceiling.add(slots, amounts, np.full(len(slots), -1, np.int64), time)
    pair_of = dict(zip(events.consumer[rows].tolist(), events.pair[rows].tolist(), strict=True))
    found = find(
        lambda _: AlertKind.FUNCTION_PROBING,
        ceiling,
        excess,
        lambda slot: roster.pairs.name(pair_of[slot]),
        events.consumer[rows],
        events.calls[rows],
        events.is_internal[rows],
    )
    return [replace(finding, detail=detail) for finding in found]
