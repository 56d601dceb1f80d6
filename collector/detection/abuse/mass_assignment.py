"""Detects mass assignment (OWASP API3:2023): a caller writes a field that the others do not send, such as `role`.

Sensors compare each sampled write that was answered 2xx with what other callers sent to the route
(sensor/describe/bodies/assignment.py). They report the number of the field's name and whether the answer shows that it
took effect. Here the callers of all nodes are counted: a field that OTHERS_MAX other callers wrote lately is one that
clients send now, after a release. A caller is reported once for each field while it is known.
"""

from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import U64, DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import EXTRA_FIELD, PLACE_SIZE, SET_FIELD
from common.privileges import is_weak, show_name

HORIZON_SECONDS: Final = 3_600
OTHERS_MAX: Final = 2
_PLACES: Final = (EXTRA_FIELD, SET_FIELD)
_CODES: Final = np.array([place * PLACE_SIZE + number for place in _PLACES for number in range(PLACE_SIZE)], np.uint64)
_UNNAMED: Final = "a field that answers have"
_TOOK_EFFECT: Final = "the answer has the value that was sent, which answers of others never had"


class _Endpoints(DetectorState):
    """By endpoint."""

    writers = column(np.int16, PLACE_SIZE)  # Callers who wrote the field of each number.


class _Pairs(DetectorState):
    """By caller and endpoint: a bit for each number."""

    written = column(np.uint64)
    taken = column(np.uint64)  # It took effect.
    allowed = column(np.uint64)  # A person says that it may write them.


class MassAssignmentDetector(AbuseDetector):
    """Fields by caller and endpoint that hardly any other caller writes."""

    name = "abuse.mass_assignment"
    kinds = frozenset({AlertKind.MASS_ASSIGNMENT})
    parts = ("_endpoints", "_pairs")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._endpoints, self._pairs = _Endpoints(), _Pairs()
        subjects.endpoints.follow(self._endpoints)
        subjects.pairs.follow(self._pairs)

    def find(self, events: Events) -> list[Finding]:
        found = (self._find_fields(row, codes, events) for row, codes in events.list_found(_CODES))
        return [finding for finding in found if finding is not None]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """It may write what was reported of it."""
        pair = self._subjects.pairs.find(endpoint_id, consumer)
        if pair >= 0:
            self._pairs.allowed[pair] |= self._pairs.written[pair]
        return pair >= 0

    def _find_fields(self, row: int, codes: set[int], events: Events) -> Finding | None:
        pair, endpoint = int(events.pair[row]), int(events.endpoint[row])
        numbers = sorted({code % PLACE_SIZE for code in codes})
        taken = {code % PLACE_SIZE for code in codes if code // PLACE_SIZE == SET_FIELD}
        known, writers = self._pairs, self._endpoints.writers
        fresh = []
        for number in numbers:
            is_written, is_taken = _has(known.written, pair, number), _has(known.taken, pair, number)
            others = int(writers[number, endpoint]) - is_written
            writers[number, endpoint] = min(others + 1, 1_000)
            known.written[pair] |= _bit(number)
            known.taken[pair] |= _bit(number) * np.uint64(number in taken)
            is_new = not is_written or (number in taken and not is_taken)
            if is_new and others < OTHERS_MAX and not _has(known.allowed, pair, number):
                fresh.append(number)
        if not fresh:
            return None
        is_sure = any(number in taken and not is_weak(number) for number in fresh)
        return Finding(
            kind=AlertKind.MASS_ASSIGNMENT,
            subject=self._subjects.pairs.name(pair),
            count=len(fresh),
            ceiling=0,
            seconds=HORIZON_SECONDS,
            basis=Basis.PEERS,
            calls=float(events.calls[row]),
            is_internal=bool(events.is_internal[row]),
            is_notice=not is_sure and self._is_staff(row, events),
            detail=", ".join(f"`{name}`" if (name := show_name(number)) else _UNNAMED for number in fresh),
            confirmation=_TOOK_EFFECT if taken.intersection(fresh) else "",
        )

    def _is_staff(self, row: int, events: Events) -> bool:
        """Who is let in among staff, or calls from inside, has forms of its own."""
        return bool(self._rarity.is_staff(events.consumer[row : row + 1])[0])


def _bit(number: int) -> np.uint64:
    return np.uint64(1 << number)


def _has(bits: U64, pair: int, number: int) -> bool:
    return bool(int(bits[pair]) >> number & 1)
