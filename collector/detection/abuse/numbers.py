"""The detectors of numbers that sensors report of single calls: one caller's against those of an endpoint's others.

A number is reported where it is not small. Its limit is TIMES the largest that the endpoint's other callers sent. It
never falls below a floor. The floor of an endpoint with CALLERS_MIN callers may be lower, since their smaller numbers
say what clients of this service do. What was reported counts for others once REPORTED_MIN callers, and REPORTED_SHARE
of all, send it: then it is a release.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import U64, DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import PLACE_SIZE, decode_number


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLimit:
    """One number of a call. `known_floor`: where the callers of an endpoint are a baseline."""

    kind: AlertKind
    place: int  # Of its codes (proto DataPlace).
    words: str  # What it counts.
    floor: int
    known_floor: int


TIMES: Final = 2
CALLERS_MIN: Final = 20
REPORTED_MIN, REPORTED_SHARE = 3, 0.03  # Of the endpoint's callers.
HORIZON_SECONDS: Final = 600


class _Endpoints(DetectorState):
    """By endpoint: the largest numbers, who sent them (a pair's key), and the largest of all others."""

    largest = column(np.int64, "limits")
    sender = column(np.uint64, "limits")
    second = column(np.int64, "limits")
    reported = column(np.int64, "limits")  # Callers who were reported, and the least number of them.
    least_reported = column(np.int64, "limits")


class _Pairs(DetectorState):
    """By caller and endpoint."""

    reported = column(np.int64, "limits")  # The number, when it was reported,
    reported_at = column(np.int64, "limits")  # last.
    allowed = column(np.int64, "limits")  # What a person says is normal.


class NumberDetector(AbuseDetector):
    """Numbers by caller and endpoint, against those of its other callers."""

    limits: ClassVar[tuple[NumberLimit, ...]]
    # A number that grows from call to call is small at first, of whoever it is: it says nothing of what others do.
    is_growing: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ("_endpoints", "_pairs")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._endpoints, self._pairs = _Endpoints(limits=len(self.limits)), _Pairs(limits=len(self.limits))
        self._codes = list_codes(*(limit.place for limit in self.limits))
        subjects.endpoints.follow(self._endpoints)
        subjects.pairs.follow(self._pairs)

    def find(self, events: Events) -> list[Finding]:
        findings = []
        for row, codes in events.list_found(self._codes):
            findings += self.find_excess(row, codes, events)
        return findings

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """Such numbers are normal for it."""
        pair = self._subjects.pairs.find(endpoint_id, consumer)
        if pair < 0:
            return False
        own = [which for which, limit in enumerate(self.limits) if limit.kind is kind]
        allowed = self._pairs.allowed
        allowed[own, pair] = np.maximum(allowed[own, pair], self._pairs.reported[own, pair])
        return True

    def find_excess(self, row: int, codes: Set[int], events: Events) -> list[Finding]:
        """Of each kind the number of a row that is furthest over its limit; all of them are remembered."""
        pair, endpoint = int(events.pair[row]), int(events.endpoint[row])
        is_known = self.count_callers(endpoint) >= CALLERS_MIN
        worst: dict[AlertKind, tuple[float, int, int, int]] = {}
        for which, limit in enumerate(self.limits):
            sent = [decode_number(code % PLACE_SIZE) for code in codes if code // PLACE_SIZE == limit.place]
            number = max(sent, default=0)
            if not number:
                continue
            floor = limit.known_floor if is_known else limit.floor
            usual = max(TIMES * self._find_largest(which, pair, endpoint), self.find_own(which, pair, events.time))
            ceiling = max(floor, usual, int(self._pairs.allowed[which, pair]))
            self._learn(which, number, pair, endpoint, is_reported=number > ceiling)
            self.learn_own(which, min(number, TIMES * ceiling), pair, events.time)
            excess = number / ceiling, which, number, ceiling
            if number > ceiling and (limit.kind not in worst or excess > worst[limit.kind]):
                worst[limit.kind] = excess
        found = (self._make_finding(*excess[1:], pair, row, events, is_known=is_known) for excess in worst.values())
        return [finding for finding in found if finding is not None]

    def find_own(self, which: int, pair: int, time: int) -> int:
        """The most that follows from a caller's own past; a caller of whom nobody asks it cannot raise its limit."""
        return 0

    def learn_own(self, which: int, number: int, pair: int, time: int) -> None:
        """Learn what `find_own` gives."""

    def count_callers(self, endpoint: int) -> int:
        """Consumers known at an endpoint."""
        return int(self._subjects.counted_consumers()[endpoint])

    def _make_finding(
        self, which: int, number: int, ceiling: int, pair: int, row: int, events: Events, *, is_known: bool
    ) -> Finding | None:
        """None where it was reported lately."""
        reported = int(self._pairs.reported[which, pair])
        if events.time < self._pairs.reported_at[which, pair] + HORIZON_SECONDS and number < TIMES * reported:
            return None
        self._pairs.reported[which, pair] = max(number, reported)
        self._pairs.reported_at[which, pair] = events.time
        return Finding(
            kind=self.limits[which].kind,
            subject=self._subjects.pairs.name(pair),
            count=number,
            ceiling=ceiling,
            seconds=HORIZON_SECONDS,
            basis=Basis.PEERS if is_known else Basis.PRIOR,
            calls=float(events.calls[row]),
            is_internal=bool(events.is_internal[row]),
            is_notice=False,
            detail=self.limits[which].words,
        )

    def _find_largest(self, which: int, pair: int, endpoint: int) -> int:
        """The largest number that the endpoint's other callers sent."""
        known = self._endpoints
        is_own = known.sender[which, endpoint] == self._subjects.pairs.keys[pair]
        largest = 0 if self.is_growing else int((known.second if is_own else known.largest)[which, endpoint])
        is_usual = known.reported[which, endpoint] >= max(REPORTED_MIN, REPORTED_SHARE * self.count_callers(endpoint))
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


def list_codes(*places: int) -> U64:
    """All numbers of these places."""
    return np.array([place * PLACE_SIZE + step for place in places for step in range(PLACE_SIZE)], np.uint64)
