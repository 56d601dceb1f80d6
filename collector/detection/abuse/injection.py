"""Detects injection: consumers that send payloads of attacks such as SQL injection, scripts, traversal or commands
(OWASP A03:2021), and SSRF (API7:2023), where all payloads of a sender are of that class.

Sensors send keyed hashes of payloads, each with its class and the evidence in the response. A payload alone is not an
alert. A consumer is reported if a response confirms a payload, or if it sent PAYLOADS_MIN different ones within
HORIZON_SECONDS. Payloads need no history, so this works from the first minute, for insiders too.

A service that calls an inner host which a request from inside named may be meant to: a webhook, a health check. So
that is a notice.
"""

from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.core.kinds import (
    INSIDE_CONTACTED,
    LOW_BITS,
    count_classes,
    explain_evidence,
    name_class,
    read_evidence,
)
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.framework.distinct import find_distinct, list_distinct
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import Subjects
from collector.detection.framework.state import U64, Bools, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex

HORIZON_SECONDS: Final = 600
PAYLOADS_MIN: Final = 5
SENDERS_MAX: Final = 20_000  # Consumers who sent payloads; the least recently seen are forgotten.
KEPT: Final = 32  # Payloads of a sender: the newest; who sends more is reported long before.
_RAISE: Final = 2  # A sender is reported again when so many times as many are there.
_LOW_MASK: Final = np.uint64((1 << LOW_BITS) - 1)


class _Senders(DetectorState):
    """By sender."""

    payloads = column(np.uint64, KEPT)  # With their low 8 bits; 0: none.
    times = column(np.int64, KEPT)  # When each was seen last.
    reported = column(np.int64, 2)  # Payloads, and whether confirmed, when it was reported.
    allowed = column(np.int64)  # Different payloads that a person says are normal.


class InjectionDetector(AbuseDetector):
    """Different payloads by consumer within HORIZON_SECONDS, and those that a response confirms."""

    name = "abuse.injection"
    kinds = frozenset({AlertKind.INJECTION, AlertKind.SSRF})
    parts = ("_senders", "_known")
    needs_history = False

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._senders = Subjects(SENDERS_MAX)
        self._known = _Senders()
        self._senders.follow(self._known)

    def find(self, events: Events) -> list[Finding]:
        if not len(events.batch.payloads.values):
            return []
        lengths = np.diff(events.batch.payloads.offsets)[events.rows]
        rows = ((lengths > 0) & (events.consumer >= 0)).nonzero()[0]
        if not len(rows):
            return []
        consumers = self._subjects.consumers
        distinct, first, inverse = find_distinct(consumers.keys[events.consumer[rows]])
        found = self._senders.touch_named(
            distinct, events.time, lambda index: consumers.name(int(events.consumer[rows[first[index]]]))
        )
        findings = (self._judge(slot, rows[inverse == index], events) for index, slot in enumerate(found.tolist()))
        return [finding for finding in findings if finding is not None]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """So many payloads are normal for it, a confirmed one is not."""
        slot = self._senders.find("", consumer)
        if slot >= 0:
            self._known.allowed[slot] = max(self._known.allowed[slot], self._known.reported[0, slot])
        return slot >= 0

    def _judge(self, slot: int, rows: Slots, events: Events) -> Finding | None:
        batch, row_of, time = events.batch, events.rows[rows], events.time
        if not self._is_recent(slot, time).any():
            self._known.reported[:, slot] = 0  # What was reported is over.
        offsets, is_meant = batch.payloads.offsets, True
        for own, row in zip(rows.tolist(), row_of.tolist(), strict=True):
            payloads = batch.payloads.values[offsets[row] : offsets[row + 1]]
            self._remember(slot, payloads, time)
            shown = {read_evidence(payload) for payload in payloads.tolist()}
            is_meant &= shown == {INSIDE_CONTACTED} and bool(events.is_internal[own])
        recent = self._known.payloads[self._is_recent(slot, time), slot]
        count = len(list_distinct(recent & ~_LOW_MASK))
        evidence = max(read_evidence(payload) for payload in recent.tolist())
        reported_count, reported_evidence = (int(value) for value in self._known.reported[:, slot])
        limit = max(PAYLOADS_MIN, int(self._known.allowed[slot]) + 1)
        is_many = count >= limit and (not reported_count or count >= _RAISE * reported_count)
        is_confirmed = evidence > 0 and (not reported_evidence or evidence > reported_evidence == INSIDE_CONTACTED)
        if not is_many and not is_confirmed:
            return None
        self._known.reported[:, slot] = max(count, reported_count), max(evidence, reported_evidence)
        pair = int(events.pair[rows[int(batch.attacks_confirmed[row_of].argmax(axis=0))]])
        is_forgery = {name_class(payload) for payload in recent.tolist()} == {"ssrf"}
        return Finding(
            kind=AlertKind.SSRF if is_forgery else AlertKind.INJECTION,
            subject=self._subjects.pairs.name(pair) if pair >= 0 else self._senders.name(slot),
            count=count,
            ceiling=limit - 1 if is_many else count - 1,  # Of confirmed ones none is normal.
            seconds=HORIZON_SECONDS,
            basis=Basis.PRIOR,
            calls=max(1.0, float(batch.attacks[row_of].sum())),  # A part of a call that was counted before has none.
            is_internal=False,
            is_notice=is_meant,
            detail=count_classes(recent.tolist()),
            confirmation=explain_evidence(evidence),
        )

    def _is_recent(self, slot: int, time: int) -> Bools:
        recent: Bools = (self._known.times[:, slot] > time - HORIZON_SECONDS) & (self._known.payloads[:, slot] > 0)
        return recent

    def _remember(self, slot: int, payloads: U64, time: int) -> None:
        for payload in payloads[-KEPT:]:
            same = ((self._known.payloads[:, slot] & ~_LOW_MASK) == (payload & ~_LOW_MASK)).nonzero()[0]
            place = int(same[0]) if len(same) else int(self._known.times[:, slot].argmin(axis=0))
            # What confirms a payload is kept when it comes again without.
            known = self._known.payloads[place, slot] if len(same) else np.uint64(0)
            self._known.payloads[place, slot] = max(payload, known)
            self._known.times[place, slot] = max(time, int(self._known.times[place, slot]))
