"""Detects BFLA (OWASP API5:2023): a consumer that calls functions that its peers do not call.

It counts a consumer's calls with a credential to functions that hardly anybody calls. These are refused calls, and
answered calls where the function is staff's and the consumer is not staff. A wrong one-time code is a guess and not
such a call.

A function is staff's where few call it, and one of these holds in its first two days:

- Only callers from inside were let in, while most of all consumers call from outside.
- Its path says so (`admin`, `internal`, ..), and at most RARE_MIN consumers call it at all. Where each customer has
  an administrator there are more. Only consumers known by more than a session or an opaque token count.

Staff are those who came in these days, who call from inside, or who have been let in for a day. Anybody else is
reported on the first day.
"""

import re
from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind
from collector.alerting.wording import ANSWERED, REFUSED
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import RARE_MIN, AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.entrances import Entrances
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import Bools, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex

PLAN: Final = (Horizon(seconds=3_600, prior=2, floor=2), Horizon(seconds=86_400, prior=4, floor=4))
_REFUSALS = (401, 403)
LEARN_SECONDS: Final = 2 * 86_400  # Of a function: who is let in meanwhile is staff.
NEW_SECONDS: Final = 86_400  # Since a consumer was let in first: it is new.
_WORDS: Final = frozenset(
    {"admin", "admins", "administrator", "administration", "backoffice", "internal", "staff", "superuser", "root"}
)
_WORD: Final = re.compile(r"[A-Za-z][a-z]*|[A-Z]+(?![a-z])")
# Kinds of principals (proto PrincipalKind) that are the same at the next login: no sessions, and no opaque tokens.
_IS_LASTING: Final = np.isin(np.arange(9), (1, 2, 3, 4, 6))
_UNREAD, _PLAIN, _SAYS_SO = 0, 1, 2


class _Functions(DetectorState):
    """By endpoint."""

    first = column(np.int64)  # When somebody named was let in first; 0: never.
    is_outside = column(np.bool_)  # From outside too, in its first days.
    word = column(np.int8)  # What its path says.


class _Callers(DetectorState):
    """By consumer."""

    since = column(np.int64)  # When such a function let it in first; 0: never.
    is_learned = column(np.bool_)  # It was in a function's first days.


class BflaDetector(AbuseDetector):
    """Refused calls and answered calls by consumer, each against a ceiling."""

    name = "abuse.bfla"
    kinds = frozenset({AlertKind.BFLA})
    parts = ("_refused", "_answered", "_functions", "_callers")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity, entrances: Entrances) -> None:
        super().__init__(subjects, losses, rarity)
        self._entrances = entrances
        self._refused = Ceiling(PLAN, subjects.consumers, has_peers=False)
        self._answered = Ceiling(PLAN, subjects.consumers, has_peers=False)
        self._functions, self._callers = _Functions(), _Callers()
        subjects.endpoints.follow(self._functions)
        subjects.consumers.follow(self._callers)

    def find(self, events: Events) -> list[Finding]:
        named = (events.consumer >= 0) & ~events.is_anonymous
        answered = self._find_strangers(events, named)
        rows = events.list_answered(_REFUSALS)
        rows = rows[named[rows]]
        rows = rows[
            self._rarity.is_rare(events.endpoint[rows]) & ~self._entrances.asks_for_codes(events.endpoint[rows])
        ]
        return [
            *self._count(self._refused, rows, REFUSED, events),
            *self._count(self._answered, answered, ANSWERED, events),
        ]

    def _count(self, ceiling: Ceiling, rows: Slots, detail: str, events: Events) -> list[Finding]:
        """Findings of the calls of `rows`."""
        if not len(rows):
            return []
        slots, amounts = sum_by_slot(events.consumer[rows], events.calls[rows])
        excess = ceiling.add(slots, amounts, events.time)
        pair_of = dict(zip(events.consumer[rows].tolist(), events.pair[rows].tolist(), strict=True))
        return make_findings(
            AlertKind.BFLA,
            excess,
            lambda slot: self._subjects.pairs.name(pair_of[slot]),
            events,
            events.consumer[rows],
            rows,
            describe=lambda _: detail,
        )

    def _find_strangers(self, events: Events, named: Bools) -> Slots:
        """Which of the rows, those `named` by a credential, are answers of staff's functions to who is not staff."""
        rows = (named & events.is_success).nonzero()[0]
        rows = rows[self._rarity.is_rare(events.endpoint[rows])]
        if not len(rows):
            return np.zeros(0, np.int64)
        functions, callers, time = self._functions, self._callers, events.time
        endpoint, consumer, is_outside = events.endpoint[rows], events.consumer[rows], ~events.is_internal[rows]
        functions.first[endpoint[functions.first[endpoint] == 0]] = time
        is_young = time - functions.first[endpoint] < LEARN_SECONDS
        functions.is_outside[endpoint[is_young & is_outside]] = True
        is_few = self._subjects.count_consumers(time)[endpoint] <= RARE_MIN
        is_inside = self._rarity.is_public & ~functions.is_outside[endpoint]
        # Who is known by a session or an opaque token is another one at the next login, staff too.
        is_lasting = _IS_LASTING[np.minimum(events.batch.principal_kind[events.rows[rows]], 8)]
        is_staffs = is_inside | (is_few & is_lasting & self._say_so(endpoint))
        callers.is_learned[consumer[is_young & is_staffs]] = True
        callers.since[consumer[is_staffs & (callers.since[consumer] == 0)]] = time
        is_new = time - callers.since[consumer] < NEW_SECONDS
        strangers: Slots = rows[is_staffs & is_outside & is_new & ~callers.is_learned[consumer]]
        return strangers

    def _say_so(self, endpoints: Slots) -> Bools:
        """Whether the paths of `endpoints` name staff; each is read once."""
        word = self._functions.word
        for slot in endpoints[word[endpoints] == _UNREAD].tolist():
            path = self._subjects.endpoints.name(slot).label.partition(" ")[2]
            words = {word.lower() for word in _WORD.findall(path)}
            word[slot] = _SAYS_SO if words & _WORDS else _PLAIN
        says_so: Bools = word[endpoints] == _SAYS_SO
        return says_so
