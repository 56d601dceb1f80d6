"""Who tries functions that its peers do not call: broken function level authorization (OWASP API5:2023).

Counted are a consumer's calls with a credential to functions that hardly anybody calls, where they were refused; one
who is let in at once has the role.
"""

import numpy as np

from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Events
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.sums import find, sum_by_slot
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster

PLAN = (Horizon(seconds=3_600, prior=2, floor=2), Horizon(seconds=86_400, prior=4, floor=4))
_REFUSALS = (401, 403)


class FunctionDetector:
    """See the module."""

    name = "functions"

    def __init__(self, rarity: Rarity) -> None:
        self._rarity = rarity
        self._ceiling = Ceiling(PLAN)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        self._ceiling.grow(roster.consumers.table.capacity, 0)
        self._ceiling.forget(placed.evicted_consumers)
        rows = events.list_answered(_REFUSALS)
        rows = rows[(events.consumer[rows] >= 0) & ~events.is_anonymous[rows]]
        rows = rows[self._rarity.is_rare(events.endpoint[rows])]
        if not len(rows):
            return []
        slots, amounts = sum_by_slot(events.consumer[rows], events.calls[rows])
        excess = self._ceiling.add(slots, amounts, np.full(len(slots), -1, np.int64), time)
        pair_of = dict(zip(events.consumer[rows].tolist(), events.pair[rows].tolist(), strict=True))
        return find(
            lambda _: AlertKind.FUNCTION_PROBING,
            self._ceiling,
            excess,
            lambda slot: roster.pairs.name(pair_of[slot]),
            events.consumer[rows],
            events.calls[rows],
            events.is_internal[rows],
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.FUNCTION_PROBING and self._ceiling.expect(roster.consumers.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        return self._ceiling.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._ceiling.load(state)
