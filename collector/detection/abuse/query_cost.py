"""Detects GraphQL requests that ask for too much (OWASP API4:2023), and callers who ask for the schema (API8:2023).

Sensors report three numbers of a request, where they are not small: levels of nested fields, most selections of one
field in one place, and requests in one call. One request is enough, because one can exhaust a service. Of each caller
and endpoint one number is reported at a time, the one that is furthest over its limit
(collector/detection/abuse/numbers.py).

The first caller who asks for the schema of an endpoint with CALLERS_MIN callers is a notice: developers' tools do it,
and so do attackers before they begin.
"""

from functools import partial
from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.detection.abuse.detector import Finding, Rarity
from collector.detection.abuse.numbers import CALLERS_MIN, HORIZON_SECONDS, NumberDetector, NumberLimit
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import INTROSPECTION, QUERY_BATCH, QUERY_DEPTH, QUERY_REPEATS

_limit: Final = partial(NumberLimit, kind=AlertKind.QUERY_COST)


class _Endpoints(DetectorState):
    """By endpoint."""

    introspectors = column(np.int64)  # Callers who asked for the schema.


class _Pairs(DetectorState):
    """By caller and endpoint."""

    has_introspected = column(np.bool_)
    may_introspect = column(np.bool_)


class QueryCostDetector(NumberDetector):
    """Numbers of GraphQL requests, and callers who ask for the schema."""

    name = "abuse.query_cost"
    kinds = frozenset({AlertKind.QUERY_COST, AlertKind.INTROSPECTION})
    parts = (*NumberDetector.parts, "_asked", "_askers")
    # Clients that generate their queries reach some 15 levels and 20 repeats; servers that have limits set 10 to 15
    # levels and 10 to 30 aliases or requests.
    limits = (
        _limit(place=QUERY_DEPTH, words="levels of nested fields", floor=24, known_floor=18),
        _limit(place=QUERY_REPEATS, words="selections of one field", floor=60, known_floor=30),
        _limit(place=QUERY_BATCH, words="requests sent at once", floor=40, known_floor=20),
    )

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._codes = np.append(self._codes, np.uint64(INTROSPECTION))
        self._asked, self._askers = _Endpoints(), _Pairs()
        subjects.endpoints.follow(self._asked)
        subjects.pairs.follow(self._askers)

    def find(self, events: Events) -> list[Finding]:
        findings = []
        for row, codes in events.list_found(self._codes):
            findings += self._find_introspection(row, codes, events)
            findings += self.find_excess(row, codes, events)
        return findings

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """Such numbers are normal for it, or that it asks for the schema."""
        if kind is not AlertKind.INTROSPECTION:
            return super().expect(kind, endpoint_id, consumer, calls_per_second)
        pair = self._subjects.pairs.find(endpoint_id, consumer)
        if pair >= 0:
            self._askers.may_introspect[pair] = True
        return pair >= 0

    def _find_introspection(self, row: int, codes: set[int], events: Events) -> list[Finding]:
        pair, endpoint = int(events.pair[row]), int(events.endpoint[row])
        if INTROSPECTION not in codes or self._askers.has_introspected[pair]:
            return []
        self._askers.has_introspected[pair] = True
        before = int(self._asked.introspectors[endpoint])
        self._asked.introspectors[endpoint] += 1
        callers = self.count_callers(endpoint)
        if callers < CALLERS_MIN or before or self._askers.may_introspect[pair]:
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
