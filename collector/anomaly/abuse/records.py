"""Who takes many records at a time: lists in large pages, exports (OWASP API6:2023).

Counted are the records that responses to the pair of consumer and endpoint returned, as the sensors counted them in
bodies or told from sizes; a list of a thousand is one call and no object at all. What the endpoint's other consumers
take, and what the pair took on past days, is ordinary.
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

PLAN = (
    Horizon(seconds=60, prior=5_000, floor=800),
    Horizon(seconds=600, prior=20_000, floor=3_000),
    Horizon(seconds=3_600, prior=60_000, floor=10_000),
    Horizon(seconds=86_400, prior=300_000, floor=60_000),
)


class RecordDetector:
    """See the module."""

    name = "records"

    def __init__(self, rarity: Rarity) -> None:
        self._rarity = rarity
        self._ceiling = Ceiling(PLAN, is_trade=True)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        pairs = roster.pairs.table
        self._ceiling.grow(pairs.capacity, roster.endpoints.table.capacity)
        self._ceiling.forget(placed.evicted_pairs)
        self._ceiling.refresh(lambda: self._rarity.list_peers(roster), roster.pair_endpoint, time)
        records = events.columns.read(events.batch.records_returned).astype(np.float64)
        rows = ((records > events.calls) & (events.pair >= 0)).nonzero()[0]  # One a call is an object's own page.
        if not len(rows):
            return []
        slots, amounts = sum_by_slot(events.pair[rows], records[rows])
        excess = self._ceiling.add(slots, amounts, roster.pair_endpoint[slots], time)
        return find(
            lambda _: AlertKind.BULK_READING,
            self._ceiling,
            excess,
            roster.pairs.name,
            events.pair[rows],
            events.calls[rows],
            events.is_internal[rows],
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.BULK_READING and self._ceiling.expect(roster.pairs.find(endpoint_id, consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says."""
        self._ceiling.project(roster.pairs.table.live(), time)

    def dump(self) -> State:
        """State for a checkpoint."""
        return self._ceiling.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._ceiling.load(state)
