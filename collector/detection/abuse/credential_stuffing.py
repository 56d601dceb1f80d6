"""Detects credential stuffing and guessed one-time codes (OWASP API2:2023), by address and endpoint, and by endpoint.

By endpoint, it finds attacks in which many addresses take part. A guess is one of these:

- A call without a credential but a cookie that writes and is refused, where callers send passwords (`entrances.py`).
- Another refused call with a credential that this address had not shown before.
- Any wrong call where a path asks for a one-time code. A second factor has the session of the first, and a wrong code
  is often answered 400 or 422.

The first two count only where others are let in. Where all callers are refused, that is a policy or an outage.

A login that succeeds takes one guess away: users in an office behind one address mistype too, and then log in.
"""

from dataclasses import replace

import msgspec
import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.entrances import Entrances, speaks_of_codes
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.distinct import find_distinct, mix
from collector.detection.framework.loss import Losses
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import ERASED, SubjectName, Subjects
from collector.detection.framework.state import F64, U64, Bools, Slots
from collector.detection.framework.subject_index import SubjectIndex
from common.bounded import BoundedDict

PLAN = (
    Horizon(seconds=60, prior=20, floor=15),
    Horizon(seconds=600, prior=40, floor=30),
    Horizon(seconds=3_600, prior=90, floor=60),
)
ENDPOINT_PLAN = (
    Horizon(seconds=60, prior=60, floor=30),
    Horizon(seconds=600, prior=90, floor=50),
    Horizon(seconds=3_600, prior=300, floor=150),
)
HONEST_SHARE = 0.5  # Refused logins for one that succeeds that are ordinary at an endpoint.
SOURCES_MAX = 50_000
RECENT_MAX = 1_000  # Addresses of one endpoint that are remembered.
NAMED_MAX = 5  # Of them, the busiest, that a finding names.
_NAMED_MIN = 3.0  # Guesses of an address within the middle horizon that make it take part.
_ENDPOINTS_MAX = 1_000  # With refused logins, of which addresses are remembered.
_REFUSALS = (401, 403)
_WRONG = (400, 422)  # What a wrong code is answered beside refusals.


class _RecentSources:
    """Which addresses took part in guesses at an endpoint lately. It is not saved."""

    def __init__(self) -> None:
        # Endpoint slot -> source slot -> time; the newest last.
        self._recent: BoundedDict[int, BoundedDict[int, int]] = BoundedDict(_ENDPOINTS_MAX)

    def grow(self, size: int) -> None:
        """Endpoints are remembered by few of their slots."""

    def forget(self, slots: Slots) -> None:
        for slot in slots.tolist():
            self._recent.pop(slot, None)

    def add(self, endpoints: Slots, sources: Slots, time: int) -> None:
        """These took part now."""
        for endpoint, source in zip(endpoints.tolist(), sources.tolist(), strict=True):
            recent = self._recent.setdefault(endpoint, BoundedDict(RECENT_MAX))
            self._recent.move_to_end(endpoint)
            recent.renew(source, time)

    def list_sources(self, endpoint: int, since: int) -> Slots:
        """Those that took part since then."""
        return np.array([slot for slot, at in self._recent.get(endpoint, {}).items() if at >= since], np.int64)


class CredentialStuffingDetector(AbuseDetector):
    """Guesses by address and endpoint, and by endpoint, each against a ceiling."""

    name = "abuse.credential_stuffing"
    kinds = frozenset({AlertKind.CREDENTIAL_STUFFING, AlertKind.CODE_GUESSING})
    parts = ("_sources", "_shown", "_ceiling", "_endpoint_ceiling")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity, entrances: Entrances) -> None:
        super().__init__(subjects, losses, rarity)
        self._entrances = entrances
        self._sources = Subjects(SOURCES_MAX)  # Address and endpoint.
        self._shown = NoveltyBitmap()  # Credentials of each.
        self._sources.follow(self._shown)
        self._ceiling = Ceiling(PLAN, self._sources)
        self._endpoint_ceiling = Ceiling(ENDPOINT_PLAN, subjects.endpoints, has_peers=False)
        self._recent = _RecentSources()
        subjects.endpoints.follow(self._recent)

    def find(self, events: Events) -> list[Finding]:
        entrances = self._entrances
        is_code = entrances.asks_for_codes(events.endpoint) & events.is_writing
        weight = np.where(is_code, 1.0, entrances.weigh(events))
        is_login = weight > 0
        refused = events.list_answered(_REFUSALS)
        tried = np.zeros(len(is_login), np.bool_)
        tried[refused] = is_login[refused] | ~events.is_anonymous[refused]
        tried &= is_code | entrances.lets_others_in(events)
        wrong = events.list_answered(_WRONG)
        tried[wrong] = is_code[wrong]
        tried &= (events.address != 0) & ~(is_code & entrances.refuses_all(events.endpoint))
        has_tried = bool(np.count_nonzero(tried))
        if not has_tried and not len(self._sources):
            return []
        if not has_tried and not np.count_nonzero(is_login):
            self._ceiling.refresh(events.time)
            return []
        key = mix(events.address, self._subjects.endpoints.keys[events.endpoint])
        source = self._place(events, tried, key)
        entered = is_login & entrances.let_in(events) & (events.address != 0)
        for row in entered.nonzero()[0].tolist():  # Of a known guesser only: others have nothing to make good.
            source[row] = self._sources.find_key(int(key[row]))
        amounts = np.where(
            tried, self._count(events, tried, is_login, weight, source), np.where(entered, -events.calls, 0.0)
        )
        findings = self._judge(events, source, amounts)
        amounts = np.where(entered, -HONEST_SHARE * events.calls, amounts)
        return findings + self._judge_endpoints(events, source, tried, amounts)

    def _place(self, events: Events, tried: Bools, key: U64) -> Slots:
        """Slot of the address and endpoint of each row that tried; -1 of the others."""
        rows = tried.nonzero()[0]
        distinct, first, inverse = find_distinct(key[rows])

        def name(index: int) -> SubjectName:
            row = int(rows[first[index]])
            endpoint = self._subjects.endpoints.name(int(events.endpoint[row]))
            return msgspec.structs.replace(endpoint, consumer=events.name_address(row))

        source = np.full(len(tried), -1, np.int64)
        source[rows] = self._sources.touch_named(distinct, events.time, name)[inverse]
        return source

    def _count(self, events: Events, tried: Bools, is_login: Bools, weight: F64, source: Slots) -> F64:
        """Guesses of each row that tried."""
        credential = events.read(events.batch.credential)
        with_one = tried & (credential != 0) & ~is_login
        guesses = np.where(tried & ~with_one, events.calls * np.where(is_login, weight, 1.0), 0.0)
        guesses[with_one] = self._shown.count_novel(source[with_one], credential[with_one])
        return guesses

    def _judge(self, events: Events, source: Slots, amounts: F64) -> list[Finding]:
        self._ceiling.refresh(events.time)
        excess = self._ceiling.add(*sum_by_slot(source, amounts), events.time)
        names = self._sources.name
        return make_findings(lambda slot: _name_kind(names(slot)), excess, names, events, source)

    def _judge_endpoints(self, events: Events, source: Slots, tried: Bools, amounts: F64) -> list[Finding]:
        is_counted = tried & (amounts > 0)
        # Who is reported as a single guesser is not part of a group of guessers.
        is_counted[is_counted] = ~self._ceiling.is_reported(source[is_counted])
        slots, sums = sum_by_slot(np.where(is_counted | (amounts < 0), events.endpoint, -1), amounts)
        self._recent.add(events.endpoint[is_counted], source[is_counted], events.time)
        excess = self._endpoint_ceiling.add(slots, sums, events.time)
        names = self._subjects.endpoints.name
        findings = make_findings(lambda slot: _name_kind(names(slot)), excess, names, events, events.endpoint)
        return [
            replace(finding, sources=self._list_sources(slot, events.time))
            for finding, slot in zip(findings, excess.slots.tolist(), strict=True)
        ]

    def _list_sources(self, endpoint: int, time: int) -> tuple[str, ...]:
        """Addresses that took part in the last ten minutes, the busiest first."""
        slots = self._recent.list_sources(endpoint, time - PLAN[1].seconds)
        guesses = self._ceiling.sums(slots, time)[1]
        order = np.argsort(-guesses, kind="stable")
        order = order[guesses[order] >= _NAMED_MIN][:NAMED_MAX]
        names = (self._sources.name(slot).consumer for slot in slots[order].tolist())
        return tuple(name for name in names if name != ERASED)


def _name_kind(name: SubjectName) -> AlertKind:
    """By the words of the endpoint: a code is guessed where codes are asked for."""
    return AlertKind.CODE_GUESSING if speaks_of_codes(name.label) else AlertKind.CREDENTIAL_STUFFING
