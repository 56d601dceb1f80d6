"""Detects GraphQL requests that ask for too much (OWASP API4:2023), and callers who ask for the schema (API8:2023).

Sensors report three numbers of a request, where they are not small: levels of nested fields, most selections of one
field in one place, and requests in one call. The limit of a number is TIMES the largest that the endpoint's other
callers sent. It never falls below a floor. The floor of an endpoint with CALLERS_MIN callers is lower, since their
smaller numbers say what clients of this service send. One request is enough, because one can exhaust a service. What
was reported counts for others once REPORTED_MIN callers, and REPORTED_SHARE of all, send it: then it is a release.

The first caller who asks for the schema of an endpoint with CALLERS_MIN callers is a notice: developers' tools do it,
and so do attackers before they begin.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import (
    INTROSPECTION,
    PLACE_SIZE,
    QUERY_BATCH,
    QUERY_DEPTH,
    QUERY_REPEATS,
    decode_number,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """One number of a request. `known_floor`: where the callers of an endpoint are a baseline."""

    place: int
    words: str
    floor: int
    known_floor: int


# Clients that generate their queries reach some 15 levels and 20 repeats; servers that have limits set 10 to 15 levels
# and 10 to 30 aliases or requests.
LIMITS: Final = (
    _Limit(place=QUERY_DEPTH, words="levels of nested fields", floor=24, known_floor=18),
    _Limit(place=QUERY_REPEATS, words="selections of one field", floor=60, known_floor=30),
    _Limit(place=QUERY_BATCH, words="requests sent at once", floor=40, known_floor=20),
)
_CODES: Final = np.array(
    [INTROSPECTION, *(limit.place * PLACE_SIZE + step for limit in LIMITS for step in range(PLACE_SIZE))], np.uint64
)
TIMES: Final = 2
CALLERS_MIN: Final = 20
REPORTED_MIN, REPORTED_SHARE = 3, 0.03  # Of the endpoint's callers.
HORIZON_SECONDS: Final = 600


class _Endpoints(DetectorState):
    """By endpoint: the largest numbers, who sent them (a pair's key), and the largest of all others."""

    largest = column(np.int64, len(LIMITS))
    sender = column(np.uint64, len(LIMITS))
    second = column(np.int64, len(LIMITS))
    reported = column(np.int64, len(LIMITS))  # Callers who were reported, and the least number of them.
    least_reported = column(np.int64, len(LIMITS))
    introspectors = column(np.int64)  # Callers who asked for the schema.


class _Pairs(DetectorState):
    """By caller and endpoint."""

    reported = column(np.int64, len(LIMITS))  # The number, when it was reported,
    reported_at = column(np.int64)  # last.
    allowed = column(np.int64, len(LIMITS))  # What a person says is normal.
    has_introspected = column(np.bool_)
    may_introspect = column(np.bool_)


class QueryCostDetector(AbuseDetector):
    """Numbers of GraphQL requests by caller and endpoint, against those of its other callers."""

    name = "abuse.query_cost"
    kinds = frozenset({AlertKind.QUERY_COST, AlertKind.INTROSPECTION})
    parts = ("_endpoints", "_pairs")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._endpoints, self._pairs = _Endpoints(), _Pairs()
        subjects.endpoints.follow(self._endpoints)
        subjects.pairs.follow(self._pairs)

    def find(self, events: Events) -> list[Finding]:
        findings = []
        for row, codes in events.list_found(_CODES):
            findings += self._find_introspection(row, codes, events)
            findings += self._find_excess(row, codes, events)
        return findings

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """Such numbers are normal for it, or that it asks for the schema."""
        pair = self._subjects.pairs.find(endpoint_id, consumer)
        if pair < 0:
            return False
        if kind is AlertKind.INTROSPECTION:
            self._pairs.may_introspect[pair] = True
        else:
            allowed = self._pairs.allowed
            allowed[:, pair] = np.maximum(allowed[:, pair], self._pairs.reported[:, pair])
        return True

    def _find_excess(self, row: int, codes: set[int], events: Events) -> list[Finding]:
        """The number that is furthest over its limit; all of them are remembered."""
        pair, endpoint = int(events.pair[row]), int(events.endpoint[row])
        is_known = self._count_callers(endpoint) >= CALLERS_MIN
        worst: tuple[float, int, int, int] | None = None
        for which, limit in enumerate(LIMITS):
            sent = [decode_number(code % PLACE_SIZE) for code in codes if code // PLACE_SIZE == limit.place]
            number = max(sent, default=0)
            if not number:
                continue
            floor = limit.known_floor if is_known else limit.floor
            usual = TIMES * self._find_largest(which, pair, endpoint)
            ceiling = max(floor, usual, int(self._pairs.allowed[which, pair]))
            self._learn(which, number, pair, endpoint, is_reported=number > ceiling)
            if number > ceiling and (worst is None or number / ceiling > worst[0]):
                worst = number / ceiling, which, number, ceiling
        if worst is None:
            return []
        _, which, number, ceiling = worst
        reported = int(self._pairs.reported[which, pair])
        if events.time < self._pairs.reported_at[pair] + HORIZON_SECONDS and number < TIMES * reported:
            return []
        self._pairs.reported[which, pair] = max(number, reported)
        self._pairs.reported_at[pair] = events.time
        return [
            Finding(
                kind=AlertKind.QUERY_COST,
                subject=self._subjects.pairs.name(pair),
                count=number,
                ceiling=ceiling,
                seconds=HORIZON_SECONDS,
                basis=Basis.PEERS if is_known else Basis.PRIOR,
                calls=float(events.calls[row]),
                is_internal=bool(events.is_internal[row]),
                is_notice=False,
                detail=LIMITS[which].words,
            )
        ]

    def _find_largest(self, which: int, pair: int, endpoint: int) -> int:
        """The largest number that the endpoint's other callers sent."""
        known = self._endpoints
        is_own = known.sender[which, endpoint] == self._subjects.pairs.keys[pair]
        largest = int((known.second if is_own else known.largest)[which, endpoint])
        is_usual = known.reported[which, endpoint] >= max(REPORTED_MIN, REPORTED_SHARE * self._count_callers(endpoint))
        return max(largest, int(known.least_reported[which, endpoint])) if is_usual else largest

    def _learn(self, which: int, number: int, pair: int, endpoint: int, *, is_reported: bool) -> None:
        """What is reported is not what others do, until enough callers do it."""
        known, key = self._endpoints, self._subjects.pairs.keys[pair]
        if is_reported:
            if not self._pairs.reported[which, pair]:
                least = int(known.least_reported[which, endpoint])
                known.least_reported[which, endpoint] = min(least, number) if least else number
                known.reported[which, endpoint] += 1
            return
        is_own = bool(known.sender[which, endpoint] == key)
        if number > known.largest[which, endpoint]:
            if not is_own:
                known.second[which, endpoint] = known.largest[which, endpoint]
            known.largest[which, endpoint], known.sender[which, endpoint] = number, key
        elif not is_own:
            known.second[which, endpoint] = max(int(known.second[which, endpoint]), number)

    def _find_introspection(self, row: int, codes: set[int], events: Events) -> list[Finding]:
        pair, endpoint = int(events.pair[row]), int(events.endpoint[row])
        if INTROSPECTION not in codes or self._pairs.has_introspected[pair]:
            return []
        self._pairs.has_introspected[pair] = True
        before = int(self._endpoints.introspectors[endpoint])
        self._endpoints.introspectors[endpoint] += 1
        callers = self._count_callers(endpoint)
        if callers < CALLERS_MIN or before or self._pairs.may_introspect[pair]:
            return []
        return [
            Finding(
                kind=AlertKind.INTROSPECTION,
                subject=self._subjects.pairs.name(pair),
                count=1,
                ceiling=0,
                seconds=HORIZON_SECONDS,
                basis=Basis.PEERS,
                calls=float(events.calls[row]),
                is_internal=bool(events.is_internal[row]),
                is_notice=True,
                detail=f"none of the {callers:,} callers known here did before",
            )
        ]

    def _count_callers(self, endpoint: int) -> int:
        return int(self._subjects.counted_consumers()[endpoint])
