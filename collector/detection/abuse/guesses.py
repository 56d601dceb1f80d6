"""Detects credential stuffing and guessed one-time codes (OWASP API2:2023), by address and endpoint, and by endpoint.

By endpoint, it finds attacks in which many addresses take part. A guess is one of these:

- A call without a credential that writes (a login, a code) and is refused.
- A refused call with a credential that this address had not shown before.
- Any wrong call where a path asks for a one-time code (`functions.py`). A second factor has the session of the first,
  and a wrong code is often answered 400 or 422.

A login that succeeds takes one guess away: users in an office behind one address mistype too, and then log in.
"""

from dataclasses import replace

import msgspec
import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import dump_subjects, join, load_subjects, split
from collector.detection.abuse.contract import U64, Bools, Events, Finding, find, sum_by_slot
from collector.detection.abuse.functions import CodeEndpoints, speaks_of_codes
from collector.detection.framework.contract import F64, State
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.slots import Slots, find_distinct, mix
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import SubjectName, Subjects
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


class GuessDetector:
    """See the module."""

    name = "guesses"

    def __init__(self, codes: CodeEndpoints) -> None:
        self._sources = Subjects(SOURCES_MAX)  # Address and endpoint.
        self._shown = NoveltyBitmap()  # Credentials of each.
        self._ceiling = Ceiling(PLAN)
        self._endpoint_ceiling = Ceiling(ENDPOINT_PLAN)
        self._codes = codes
        # Endpoint slot -> source slot -> time; the newest last.
        self._recent: BoundedDict[int, BoundedDict[int, int]] = BoundedDict(_ENDPOINTS_MAX)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        is_code = self._codes.find(events.endpoint) & events.is_writing
        is_login = events.is_anonymous & events.is_writing | is_code
        refused = events.list_answered(_REFUSALS)
        tried = np.zeros(len(is_login), np.bool_)
        tried[refused] = is_login[refused] | ~events.is_anonymous[refused]
        wrong = events.list_answered(_WRONG)
        tried[wrong] = is_code[wrong]
        tried &= events.address != 0
        for slot in placed.evicted_endpoints.tolist():
            self._recent.pop(slot, None)
        if not np.count_nonzero(tried) and not len(self._sources.table):
            return []
        self._endpoint_ceiling.grow(roster.endpoints.table.capacity, 0)
        self._endpoint_ceiling.forget(placed.evicted_endpoints)
        if not np.count_nonzero(tried) and not np.count_nonzero(is_login):
            self._ceiling.refresh(self._sources.table.live, None, time)
            return []
        key = mix(events.address, roster.endpoints.table.keys[events.endpoint])
        source = self._place(events, tried, key, roster, time)
        entered = is_login & (events.status >= 200) & (events.status < 300) & (events.address != 0)
        for row in entered.nonzero()[0].tolist():  # Of a known guesser only: others have nothing to make good.
            source[row] = self._sources.table.find(int(key[row]))
        amounts = np.where(tried, self._count(events, tried, is_code, source), np.where(entered, -events.calls, 0.0))
        return [
            *self._judge(events, source, amounts, time),
            *self._judge_endpoints(
                events, source, tried, np.where(entered, -HONEST_SHARE * events.calls, amounts), roster, time
            ),
        ]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        if kind not in (AlertKind.CREDENTIAL_STUFFING, AlertKind.CODE_GUESSING):
            return False
        part, ceiling = (self._sources, self._ceiling) if consumer else (roster.endpoints, self._endpoint_ceiling)
        return ceiling.expect(part.find(endpoint_id, consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint; which addresses took part lately is not kept."""
        parts = {"sources": dump_subjects(self._sources), "shown": self._shown.dump()}
        return join({**parts, "own": self._ceiling.dump(), "endpoints": self._endpoint_ceiling.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        load_subjects(self._sources, parts["sources"])
        self._shown.load(parts["shown"])
        self._ceiling.load(parts["own"])
        self._endpoint_ceiling.load(parts["endpoints"])
        self._recent.clear()

    def _place(self, events: Events, tried: Bools, key: U64, roster: Roster, time: int) -> Slots:
        """Slot of the address and endpoint of each row that tried; -1 of the others."""
        rows = tried.nonzero()[0]
        distinct, first, inverse = find_distinct(key[rows])

        def name(index: int) -> SubjectName:
            row = int(rows[first[index]])
            address = events.batch.strings[events.batch.client_address[events.rows[row]]]
            return msgspec.structs.replace(
                roster.endpoints.name(int(events.endpoint[row])), consumer=f"address:{address}"
            )

        found, evicted = self._sources.touch(distinct, time, name)
        self._ceiling.grow(self._sources.table.capacity, 1)
        self._shown.grow(self._sources.table.capacity)
        self._ceiling.forget(evicted)
        if len(evicted):
            self._shown.forget(evicted)
        source = np.full(len(tried), -1, np.int64)
        source[rows] = found[inverse]
        return source

    def _count(self, events: Events, tried: Bools, is_code: Bools, source: Slots) -> F64:
        """Guesses of each row that tried."""
        credential = events.columns.read(events.batch.credential)
        with_one = tried & (credential != 0) & ~is_code
        guesses = np.where(tried & ~with_one, events.calls, 0.0)
        guesses[with_one] = self._shown.count_novel(source[with_one], credential[with_one])
        return guesses

    def _judge(self, events: Events, source: Slots, amounts: F64, time: int) -> list[Finding]:
        self._ceiling.refresh(self._sources.table.live, None, time)
        slots, sums = sum_by_slot(source, amounts)
        excess = self._ceiling.add(slots, sums, np.zeros(len(slots), np.int64), time)
        names = self._sources.name
        return find(
            lambda slot: _name_kind(names(slot)), self._ceiling, excess, names, source, events.calls, events.is_internal
        )

    def _judge_endpoints(
        self, events: Events, source: Slots, tried: Bools, amounts: F64, roster: Roster, time: int
    ) -> list[Finding]:
        is_counted = tried & (amounts > 0)
        # Who is told as a single guesser is no part of a crowd.
        is_counted[is_counted] = ~self._ceiling.is_told(source[is_counted])
        slots, sums = sum_by_slot(np.where(is_counted | (amounts < 0), events.endpoint, -1), amounts)
        self._remember(events.endpoint[is_counted], source[is_counted], time)
        excess = self._endpoint_ceiling.add(slots, sums, np.full(len(slots), -1, np.int64), time)
        findings = find(
            lambda slot: _name_kind(roster.endpoints.name(slot)),
            self._endpoint_ceiling,
            excess,
            roster.endpoints.name,
            events.endpoint,
            events.calls,
            events.is_internal,
        )
        return [
            replace(finding, sources=self._list_sources(slot, time))
            for finding, slot in zip(findings, excess.slots.tolist(), strict=True)
        ]

    def _remember(self, endpoints: Slots, sources: Slots, time: int) -> None:
        for endpoint, source in zip(endpoints.tolist(), sources.tolist(), strict=True):
            recent = self._recent.setdefault(endpoint, BoundedDict(RECENT_MAX))
            self._recent.move_to_end(endpoint)
            recent.renew(source, time)

    def _list_sources(self, endpoint: int, time: int) -> tuple[str, ...]:
        """Addresses that took part in the last ten minutes, the busiest first."""
        slots = np.array(
            [slot for slot, at in self._recent.get(endpoint, {}).items() if at >= time - PLAN[1].seconds], np.int64
        )
        guesses = self._ceiling.sums(slots, time)[1]
        order = np.argsort(-guesses, kind="stable")
        order = order[guesses[order] >= _NAMED_MIN][:NAMED_MAX]
        return tuple(self._sources.name(slot).consumer for slot in slots[order].tolist())


def _name_kind(name: SubjectName) -> AlertKind:
    """By the words of the endpoint: a code is guessed where codes are asked for."""
    return AlertKind.CODE_GUESSING if speaks_of_codes(name.label) else AlertKind.CREDENTIAL_STUFFING
