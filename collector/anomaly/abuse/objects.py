"""Who takes many different objects of one endpoint: enumeration, scraping, objects of others (OWASP API1:2023).

Counted are objects that the pair of consumer and endpoint had not touched before, so that reading the same ones again
costs nothing; and of a walker most calls do: one who mostly comes back to what it knows is told by the volume detectors
if at all. Peers are the endpoint's other consumers. Many consumers who each take a little are seen at the endpoint:
there count the objects that are new to consumers who have called it for some time, so that a crowd of newcomers (a
campaign, a launch) is none.
"""

import numpy as np
from numpy.typing import NDArray

from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.adopters import Adopters
from collector.anomaly.abuse.adoption import Adoption, Fresh
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Bools, Events
from collector.anomaly.abuse.pair_calls import HORIZONS, PairCalls
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.state import join, split
from collector.anomaly.abuse.sums import find, sum_by_slot
from collector.anomaly.abuse.walks import Walks
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, grow

PLAN = (
    Horizon(seconds=60, prior=120, floor=56, factor=1.35),  # A page may load 50 objects at once.
    Horizon(seconds=600, prior=300, floor=45, burst=20),  # Nor does a page make a walk.
    Horizon(seconds=3_600, prior=600, floor=100),
    Horizon(seconds=86_400, prior=1_000, floor=240),
    Horizon(seconds=604_800, prior=2_000, floor=800),
)

_HOUR, _WEEK = 2, 4  # Of the plan.
_HORIZONS = np.array([HORIZONS.index(horizon.seconds) for horizon in PLAN])  # Where those of pairs' calls are.
ENDPOINT_PLAN = (
    Horizon(seconds=60, prior=2_000, floor=300),
    Horizon(seconds=600, prior=10_000, floor=1_500),
    Horizon(seconds=3_600, prior=40_000, floor=6_000),
)
NOVEL_SHARE = 0.5  # Of a walker's calls;
HIDDEN_SHARE, HIDDEN_EXCESS = 0.2, 3.0  # or so much of them, at so many times the ceiling: within a busy caller's own.
CROWD_MEMBER_MAX = 100.0  # New objects within the hour: who takes more is judged by itself, and no part of a crowd.
KNOWN_SECONDS = 3_600  # After its first call a pair is no newcomer.
_SOME = 1e-6  # Calls, which fade: fewer are none.


class ObjectDetector:
    """See the module."""

    name = "objects"

    def __init__(self, rarity: Rarity, calls: PairCalls, walks: Walks) -> None:
        self._rarity = rarity
        self._walks = walks
        self._ceiling = Ceiling(PLAN, is_trade=True)
        self._calls = calls
        self._endpoint_ceiling = Ceiling(ENDPOINT_PLAN)
        self._adoption, self._adopters = Adoption(), Adopters()
        self._first: NDArray[np.uint32] = np.zeros(0, np.uint32)  # By pair: when it was first seen; 0: never.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        pairs = roster.pairs.table
        self._ceiling.grow(pairs.capacity, roster.endpoints.table.capacity)
        self._ceiling.forget(placed.evicted_pairs)
        self._first = grow(self._first, pairs.capacity)
        if len(placed.evicted_pairs):
            self._first[placed.evicted_pairs] = 0
        self._ceiling.refresh(lambda: self._rarity.list_peers(roster), roster.pair_endpoint, time)
        slots, amounts = placed.by_pair.slots, placed.by_pair.sum(events.novel)
        is_first = self._first.take(slots) == 0
        if np.count_nonzero(is_first):
            self._first[slots[is_first]] = time
        pairs_touched, taken = slots, amounts
        walked = (amounts > 0).nonzero()[0]
        slots, amounts = slots[walked], amounts[walked]
        excess = self._ceiling.add(
            slots,
            amounts,
            roster.pair_endpoint[slots],
            time,
            # New objects are estimated, and a call has one at most.
            find_most=lambda some: self._calls.touched[np.ix_(_HORIZONS, walked[some])],
        )
        made = self._calls.read(excess.slots, time)[_HORIZONS[excess.horizon], np.arange(len(excess.slots))]
        is_hidden = (excess.sums >= HIDDEN_SHARE * made) & (excess.sums >= HIDDEN_EXCESS * excess.ceilings)
        excess = excess.choose((excess.sums >= NOVEL_SHARE * made) | is_hidden)
        found = find(
            lambda _: AlertKind.ENUMERATION,
            self._ceiling,
            excess,
            roster.pairs.name,
            events.pair,
            events.calls,
            events.is_internal,
            describe_walk=lambda slot: self._walks.describe(slot, time),
        )
        found += self._judge_adopters(events, placed, roster, time)
        return found + self._judge_endpoints(events, placed, roster, pairs_touched, taken, time)

    def _judge_endpoints(
        self, events: Events, placed: Placed, roster: Roster, pairs: Slots, amounts: F64, time: int
    ) -> list[Finding]:
        """What pairs that are no newcomers took together; who is told by itself is no part of a crowd."""
        self._endpoint_ceiling.grow(roster.endpoints.table.capacity, 0)
        self._endpoint_ceiling.forget(placed.evicted_endpoints)
        counted = (amounts > 0).nonzero()[0]
        counted = counted[self._is_of_crowd(pairs[counted], time)]
        taken = np.zeros(len(pairs))
        taken[counted] = amounts[counted]
        if placed.endpoint_of_pair is None:
            slots, sums = sum_by_slot(roster.pair_endpoint[pairs], taken)
        else:
            slots = placed.by_endpoint.slots
            sums = np.bincount(placed.endpoint_of_pair, taken, len(slots))
        excess = self._endpoint_ceiling.add(slots, sums, np.full(len(slots), -1, np.int64), time)
        return find(
            lambda _: AlertKind.ENUMERATION,
            self._endpoint_ceiling,
            excess,
            roster.endpoints.name,
            events.endpoint,
            events.calls,
            events.is_internal,
        )

    def _judge_adopters(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """The same of those whose software is new to them, against what each took before."""
        self._adopters.forget_endpoints(placed.evicted_endpoints)
        fresh = self._adoption.take(events, placed, roster, time)
        if not len(fresh.rows):
            return []
        kept = self._is_of_crowd(events.pair[fresh.rows], time).nonzero()[0]
        fresh = Fresh(rows=fresh.rows[kept], codes=fresh.codes[kept])
        pairs, calls = events.pair[fresh.rows], events.calls[fresh.rows]
        made = self._calls.read_one(_HORIZONS[_WEEK], pairs, time) - calls
        taken = self._ceiling.sums_over(_WEEK, pairs, time) - events.novel[fresh.rows]
        # Of whom nothing is known before the row all may be new.
        share = np.where(made > _SOME, np.clip(taken / np.maximum(made, _SOME), 0, 1), 1)
        return self._adopters.take(events, fresh, share * calls, roster, time)

    def _is_of_crowd(self, pairs: Slots, time: int) -> Bools:
        """Whether `pairs` are no newcomers, take little and were not told themselves."""
        is_of: Bools = self._first.take(pairs) <= time - KNOWN_SECONDS
        known = is_of.nonzero()[0]
        is_little = self._ceiling.sums_over(_HOUR, pairs[known], time) <= CROWD_MEMBER_MAX
        is_of[known] = is_little & ~self._ceiling.is_told(pairs[known])
        return is_of

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        if kind is not AlertKind.ENUMERATION:
            return False
        if consumer:
            return self._ceiling.expect(roster.pairs.find(endpoint_id, consumer))
        endpoint = roster.endpoints.find(endpoint_id, consumer)
        is_known = self._adopters.expect(endpoint)
        return self._endpoint_ceiling.expect(endpoint) or is_known

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says."""
        self._ceiling.project(roster.pairs.table.live(), time)

    def dump(self) -> State:
        """State for a checkpoint."""
        first: State = {"first": self._first}
        parts = {"own": self._ceiling.dump(), "endpoints": self._endpoint_ceiling.dump(), "pairs": first}
        parts |= {"adoption": self._adoption.dump(), "adopters": self._adopters.dump()}
        return join(parts)

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._ceiling.load(parts["own"])
        self._endpoint_ceiling.load(parts["endpoints"])
        self._first = parts["pairs"]["first"].astype(np.uint32)
        if "adopters" in parts:  # Older states have none.
            self._adoption.load(parts["adoption"])
            self._adopters.load(parts["adopters"])
