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

`CodeEndpoints` finds endpoints that ask for one-time codes, by the words of their paths.
"""

import re
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind
from collector.alerting.wording import ANSWERED, REFUSED
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import join, split
from collector.detection.abuse.contract import Bools, Events, Finding, find, sum_by_slot
from collector.detection.abuse.rarity import RARE_MIN, Rarity
from collector.detection.framework.contract import State
from collector.detection.framework.slots import Slots, grow
from collector.detection.framework.subject_index import Placed, Roster
from collector.inventory.consumers.consumer import PRINCIPAL_KINDS

LEARN_SECONDS: Final = 2 * 86_400  # Of a function: who is let in meanwhile is staff.
NEW_SECONDS: Final = 86_400  # Since a consumer was let in first: it is new.
_WORDS: Final = frozenset(
    {"admin", "admins", "administrator", "administration", "backoffice", "internal", "staff", "superuser", "root"}
)
_WORD: Final = re.compile(r"[A-Za-z][a-z]*|[A-Z]+(?![a-z])")
# By kind of principal; the last is of kinds that are not known here.
_IS_LASTING: Final = np.array([kind not in ("", "session", "token") for kind in PRINCIPAL_KINDS.values()] + [False])
_UNREAD, _PLAIN, _SAYS_SO = 0, 1, 2

Int64s = NDArray[np.int64]


class StaffFunctions:
    """See the module."""

    def __init__(self, rarity: Rarity) -> None:
        self._rarity = rarity
        self._first: Int64s = np.zeros(0, np.int64)  # By endpoint: when somebody named was let in first; 0: never.
        self._is_outside: Bools = np.zeros(0, np.bool_)  # By endpoint: from outside too, in its first days.
        self._word: NDArray[np.int8] = np.zeros(0, np.int8)  # By endpoint: what its path says.
        self._since: Int64s = np.zeros(0, np.int64)  # By consumer: when such a function let it in first; 0: never.
        self._is_learnt: Bools = np.zeros(0, np.bool_)  # By consumer: that was in a function's first days.

    def take(self, events: Events, named: Bools, placed: Placed, roster: Roster, time: int) -> Slots:
        """Which of the rows, those `named` by a credential, are answers of staff's functions to who is none."""
        self._make_room(placed, roster)
        rows = (named & (events.status >= 200) & (events.status < 300)).nonzero()[0]
        rows = rows[self._rarity.is_rare(events.endpoint[rows])]
        if not len(rows):
            return np.zeros(0, np.int64)
        endpoint, consumer, is_outside = events.endpoint[rows], events.consumer[rows], ~events.is_internal[rows]
        new = endpoint[self._first[endpoint] == 0]
        self._first[new] = time
        is_young = time - self._first[endpoint] < LEARN_SECONDS
        self._is_outside[endpoint[is_young & is_outside]] = True
        is_few = roster.count_consumers(time)[endpoint] <= RARE_MIN
        is_inside = self._rarity.is_public & ~self._is_outside[endpoint]
        # Who is known by a session or an opaque token is another one at the next login, staff too.
        is_lasting = _IS_LASTING[np.minimum(events.batch.principal_kind[events.rows[rows]], len(_IS_LASTING) - 1)]
        is_staffs = is_inside | (is_few & is_lasting & self._say_so(endpoint, roster))
        self._is_learnt[consumer[is_young & is_staffs]] = True
        entered = consumer[is_staffs & (self._since[consumer] == 0)]
        self._since[entered] = time
        is_new = time - self._since[consumer] < NEW_SECONDS
        strangers: Slots = rows[is_staffs & is_outside & is_new & ~self._is_learnt[consumer]]
        return strangers

    def dump(self) -> State:
        """State for a checkpoint."""
        return {
            "first": self._first,
            "outside": self._is_outside,
            "since": self._since,
            "learnt": self._is_learnt,
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._first, self._is_outside = state["first"].astype(np.int64), state["outside"].astype(np.bool_)
        self._since, self._is_learnt = state["since"].astype(np.int64), state["learnt"].astype(np.bool_)
        self._word = np.zeros(len(self._first), np.int8)

    def _make_room(self, placed: Placed, roster: Roster) -> None:
        endpoints, consumers = roster.endpoints.table.capacity, roster.consumers.table.capacity
        if len(self._first) < endpoints:
            self._first, self._is_outside = grow(self._first, endpoints), grow(self._is_outside, endpoints)
            self._word = grow(self._word, endpoints)
        if len(self._since) < consumers:
            self._since, self._is_learnt = grow(self._since, consumers), grow(self._is_learnt, consumers)
        if len(placed.evicted_endpoints):
            for of_endpoint in (self._first, self._is_outside, self._word):
                of_endpoint[placed.evicted_endpoints] = 0
        if len(placed.evicted_consumers):
            for of_consumer in (self._since, self._is_learnt):
                of_consumer[placed.evicted_consumers] = 0

    def _say_so(self, endpoints: Slots, roster: Roster) -> Bools:
        """Whether the paths of `endpoints` name staff; each is read once."""
        for slot in endpoints[self._word[endpoints] == _UNREAD].tolist():
            path = roster.endpoints.name(slot).label.partition(" ")[2]
            words = {word.lower() for word in _WORD.findall(path)}
            self._word[slot] = _SAYS_SO if words & _WORDS else _PLAIN
        says_so: Bools = self._word[endpoints] == _SAYS_SO
        return says_so


_CODE_WORDS: Final = frozenset({"otp", "totp", "code", "pin", "mfa", "2fa", "passcode", "verification", "captcha"})
# Those of second factors; and codes that are checked, for there are codes of coupons, countries and programs.
_FACTORS: Final = frozenset({"otp", "totp", "mfa", "2fa", "passcode"})
_CHECKS: Final = frozenset({"verify", "verification", "confirm", "check", "validate", "challenge", "auth", "login"})
_ASKING_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_ASKING_UNREAD, _OTHER, _ASKS = 0, 1, 2


class CodeEndpoints:
    """By endpoint slot, each path read once. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._asks: NDArray[np.int8] = np.zeros(0, np.int8)

    def take(self, events: Events, placed: Placed, roster: Roster) -> None:
        """Read the paths that are new in a batch."""
        self._asks = grow(self._asks, roster.endpoints.table.capacity)
        self._asks[placed.evicted_endpoints] = _ASKING_UNREAD
        for slot in set(events.endpoint[self._asks[events.endpoint] == _ASKING_UNREAD].tolist()):
            self._asks[slot] = _ASKS if asks_for_code(roster.endpoints.name(slot).label) else _OTHER

    def find(self, endpoints: Slots) -> Bools:
        """Of n slots of this batch, which ask for a code."""
        found: Bools = self._asks[endpoints] == _ASKS
        return found


def speaks_of_codes(label: str) -> bool:
    """Whether what is refused there may be a code."""
    return bool(_split(label) & _CODE_WORDS)


def asks_for_code(label: str) -> bool:
    """Whether a call there is an attempt at a code."""
    words = _split(label)
    return bool(words & _FACTORS) or ("code" in words and bool(words & _CHECKS))


def _split(label: str) -> set[str]:
    return {word.lower() for word in _ASKING_WORD.findall(label)}


PLAN: Final = (Horizon(seconds=3_600, prior=2, floor=2), Horizon(seconds=86_400, prior=4, floor=4))
_REFUSALS = (401, 403)


class FunctionDetector:
    """See the module."""

    name = "functions"

    def __init__(self, rarity: Rarity, codes: CodeEndpoints) -> None:
        self._rarity, self._codes = rarity, codes
        self._refused, self._answered = Ceiling(PLAN), Ceiling(PLAN)
        self._staff = StaffFunctions(rarity)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        for ceiling in (self._refused, self._answered):
            ceiling.grow(roster.consumers.table.capacity, 0)
            ceiling.forget(placed.evicted_consumers)
        named = (events.consumer >= 0) & ~events.is_anonymous
        answered = self._staff.take(events, named, placed, roster, time)
        rows = events.list_answered(_REFUSALS)
        rows = rows[named[rows]]
        rows = rows[self._rarity.is_rare(events.endpoint[rows]) & ~self._codes.find(events.endpoint[rows])]
        return [
            *_count(self._refused, rows, REFUSED, events, roster, time),
            *_count(self._answered, answered, ANSWERED, events, roster, time),
        ]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says; a person says so of both."""
        if kind is not AlertKind.BFLA:
            return False
        slot = roster.consumers.find("", consumer)
        return self._refused.expect(slot) and self._answered.expect(slot)

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        parts = {"refused": self._refused.dump(), "answered": self._answered.dump()}
        return join({**parts, "staff": self._staff.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        if "staff" not in parts:  # Older states have those refused alone.
            self._refused.load(state)
            return
        self._refused.load(parts["refused"])
        self._answered.load(parts["answered"])
        self._staff.load(parts["staff"])


def _count(ceiling: Ceiling, rows: Slots, detail: str, events: Events, roster: Roster, time: int) -> list[Finding]:
    """Findings of the calls of `rows`."""
    if not len(rows):
        return []
    slots, amounts = sum_by_slot(events.consumer[rows], events.calls[rows])
    excess = ceiling.add(slots, amounts, np.full(len(slots), -1, np.int64), time)
    pair_of = dict(zip(events.consumer[rows].tolist(), events.pair[rows].tolist(), strict=True))
    found = find(
        lambda _: AlertKind.BFLA,
        ceiling,
        excess,
        lambda slot: roster.pairs.name(pair_of[slot]),
        events.consumer[rows],
        events.calls[rows],
        events.is_internal[rows],
    )
    return [replace(finding, detail=detail) for finding in found]
