"""Detects injection: consumers that send payloads of attacks such as SQL injection, scripts, traversal or commands
(OWASP A03:2021).

Sensors send keyed hashes of payloads, each with its class and the evidence in the response. A payload alone is not an
alert. A consumer is reported if a response confirms a payload, or if it sent PAYLOADS_MIN different ones within
HORIZON_SECONDS. Payloads need no history, so this works from the first minute, for insiders too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, Basis
from collector.core.kinds import LOW_BITS, count_classes, explain_evidence, read_evidence
from collector.detection.abuse.columns import dump_subjects, join, load_subjects, split
from collector.detection.abuse.contract import Events, Finding
from collector.detection.framework.contract import State
from collector.detection.framework.slots import Slots, find_distinct, grow, list_distinct
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import Subjects

HORIZON_SECONDS: Final = 600
PAYLOADS_MIN: Final = 5
SENDERS_MAX: Final = 20_000  # Consumers who sent payloads; the least recently seen are forgotten.
KEPT: Final = 32  # Payloads of a sender: the newest; who sends more is told long before.
_RAISE: Final = 2  # A sender is told again when so many times as many are there.
_LOW_MASK: Final = np.uint64((1 << LOW_BITS) - 1)


class InjectionDetector:
    """See the module."""

    name = "injection"

    def __init__(self) -> None:
        self._senders = Subjects(SENDERS_MAX)
        self._payloads = np.zeros((KEPT, 0), np.uint64)  # With their low 8 bits; 0: none.
        self._times = np.zeros((KEPT, 0), np.int64)  # When each was seen last.
        self._told = np.zeros((2, 0), np.int64)  # Payloads, and whether confirmed, when a sender was told.
        self._allowed = np.zeros(0, np.int64)  # Different payloads that a person says are ordinary.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        if not len(events.batch.payloads.values):
            return []
        lengths = np.diff(events.batch.payloads.offsets)[events.rows]
        rows = ((lengths > 0) & (events.consumer >= 0)).nonzero()[0]
        if not len(rows):
            return []
        keys = roster.consumers.table.keys[events.consumer[rows]]
        distinct, first, inverse = find_distinct(keys)
        found, evicted = self._senders.touch(
            distinct, time, lambda index: roster.consumers.name(int(events.consumer[rows[first[index]]]))
        )
        self._grow(self._senders.table.capacity)
        self._forget(evicted)
        findings = []
        for index, slot in enumerate(found.tolist()):
            own = rows[inverse == index]
            finding = self._judge(slot, own, events, roster, time)
            if finding is not None:
                findings.append(finding)
        return findings

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says: so many payloads are ordinary for it, a confirmed one is not."""
        slot = self._senders.find("", consumer) if kind is AlertKind.INJECTION else -1
        if slot < 0:
            return False
        self._allowed[slot] = max(self._allowed[slot], self._told[0, slot])
        return True

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        own: State = {"payloads": self._payloads, "times": self._times, "told": self._told, "allowed": self._allowed}
        return join({"senders": dump_subjects(self._senders), "own": own})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        load_subjects(self._senders, parts["senders"])
        own = parts["own"]
        self._payloads, self._times = own["payloads"].astype(np.uint64), own["times"].astype(np.int64)
        self._told, self._allowed = own["told"].astype(np.int64), own["allowed"].astype(np.int64)

    def _grow(self, capacity: int) -> None:
        self._payloads, self._times = grow(self._payloads, capacity), grow(self._times, capacity)
        self._told, self._allowed = grow(self._told, capacity), grow(self._allowed, capacity)

    def _forget(self, slots: Slots) -> None:
        self._payloads[:, slots] = 0
        self._times[:, slots] = 0
        self._told[:, slots] = 0
        self._allowed[slots] = 0

    def _judge(self, slot: int, rows: Slots, events: Events, roster: Roster, time: int) -> Finding | None:
        batch, row_of = events.batch, events.rows[rows]
        if not self._is_recent(slot, time).any():
            self._told[:, slot] = 0  # What was told is over.
        offsets = batch.payloads.offsets
        for row in row_of.tolist():
            self._remember(slot, batch.payloads.values[offsets[row] : offsets[row + 1]], time)
        recent = self._payloads[self._is_recent(slot, time), slot]
        count = len(list_distinct(recent & ~_LOW_MASK))
        evidence = max(read_evidence(payload) for payload in recent.tolist())
        told_count, told_confirmed = (int(value) for value in self._told[:, slot])
        limit = max(PAYLOADS_MIN, int(self._allowed[slot]) + 1)
        is_many = count >= limit and (not told_count or count >= _RAISE * told_count)
        if not is_many and not (evidence and not told_confirmed):
            return None
        self._told[:, slot] = max(count, told_count), max(evidence, told_confirmed)
        pair = int(events.pair[rows[int(batch.attacks_confirmed[row_of].argmax(axis=0))]])
        return Finding(
            kind=AlertKind.INJECTION,
            subject=roster.pairs.name(pair) if pair >= 0 else self._senders.name(slot),
            count=count,
            ceiling=limit - 1,
            seconds=HORIZON_SECONDS,
            basis=Basis.PRIOR,
            calls=float(batch.attacks[row_of].sum()),
            is_internal=False,
            is_notice=False,
            detail=count_classes(recent.tolist()),
            confirmation=explain_evidence(evidence),
        )

    def _is_recent(self, slot: int, time: int) -> NDArray[np.bool_]:
        recent: NDArray[np.bool_] = (self._times[:, slot] > time - HORIZON_SECONDS) & (self._payloads[:, slot] > 0)
        return recent

    def _remember(self, slot: int, payloads: NDArray[np.uint64], time: int) -> None:
        for payload in payloads[-KEPT:]:
            same = ((self._payloads[:, slot] & ~_LOW_MASK) == (payload & ~_LOW_MASK)).nonzero()[0]
            place = int(same[0]) if len(same) else int(self._times[:, slot].argmin(axis=0))
            # What confirms a payload is kept when it comes again without.
            known = self._payloads[place, slot] if len(same) else np.uint64(0)
            self._payloads[place, slot] = max(payload, known)
            self._times[place, slot] = max(time, int(self._times[place, slot]))
