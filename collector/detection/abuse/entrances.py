"""Finds endpoints where callers prove who they are, with a password or a one-time code, and whether these let anybody
in.

Where callers send passwords is seen in sampled bodies of requests that have no credential, or only a cookie, as forms
have before the login. The share of them that carried a secret is the weight of an attempt. Where no body was read, the
words of the path say so, of requests without a cookie.

A refusal is an attempt at somebody else's account only where others are let in. It is a policy or an outage where

- nobody but the caller was ever let in, and the caller was not let in after it was refused;
- or at least CALLERS_MIN callers, who were let in before, were refused since anybody was let in, and fewer others.

Guessers are rarely among those who were let in before. So an attack at night, when no user logs in, is no outage.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from collector.alerting.alert import Signal
from collector.detection.framework.detector import Detector
from collector.detection.framework.rows import Events
from collector.detection.framework.state import F64, Bools, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import DATA_KINDS, PLACE_SIZE, DataClass

CALLERS_MIN: Final = 3
_CODE_WORDS: Final = frozenset({"otp", "totp", "code", "pin", "mfa", "2fa", "passcode", "verification", "captcha"})
# Those of second factors; and codes that are checked, for there are codes of coupons, countries and programs.
_FACTORS: Final = frozenset({"otp", "totp", "mfa", "2fa", "passcode"})
_CHECKS: Final = frozenset({"verify", "verification", "confirm", "check", "validate", "challenge", "auth", "login"})
_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_LOGIN: Final = re.compile(r"log-?[io]n|sign-?in|auth(?!or)|token|passw|session|credential", re.IGNORECASE)
_UNREAD, _OTHER, _CODE, _PASSWORD = 0, 1, 2, 3
# Codes of secrets in bodies of requests.
_SECRETS: Final = np.array(
    [PLACE_SIZE + kind for kind, (_, data_class) in DATA_KINDS.items() if data_class is DataClass.SECRET], np.uint64
)
_COOKIES: Final = 1 << 7 | 1 << 8  # AuthenticationKind: a key in a cookie, and a session.
_REFUSALS: Final = (401, 403)
_FOUND: Final = (302, 303)  # What a form answers that let somebody in; it shows itself again to others.


class _Callers(DetectorState):
    """By pair of endpoint and consumer."""

    was_let_in = column(np.bool_)
    came_back = column(np.bool_)  # It was refused first, and let in later.
    refused_in = column(np.int64)  # Period of its endpoint in which it was refused last.


class Entrances(Detector):
    """By endpoint. Reports nothing itself."""

    name = "abuse.entrances"
    parts = ("_callers",)
    _asks = column(np.int8)  # For what, by the words of its path, read once.
    _bodies = column(np.float64)  # Requests without a credential but a cookie whose bodies were read,
    _secrets = column(np.float64)  # and those of them that carried a secret.
    _let_in = column(np.int64)  # Callers that were.
    _period = column(np.int64)  # Ends, and the next begins, when somebody is let in.
    _known_refused = column(np.int64)  # Callers that were refused in this period: let in before,
    _new_refused = column(np.int64)  # and not.

    def __init__(self, subjects: SubjectIndex) -> None:
        super().__init__()
        self._subjects = subjects
        self._callers = _Callers()
        subjects.endpoints.follow(self)
        subjects.pairs.follow(self._callers)

    def feed(self, events: Events) -> Sequence[Signal]:
        for slot in set(events.endpoint[self._asks[events.endpoint] == _UNREAD].tolist()):
            label = self._subjects.endpoints.name(slot).label
            self._asks[slot] = (
                _CODE if asks_for_code(label) else _PASSWORD if _LOGIN.search(label) is not None else _OTHER
            )
        self._count_secrets(events)
        refused = events.list_answered(_REFUSALS)
        self._refuse(refused[events.pair[refused] >= 0], events)
        # Last: where a batch has both, not all are refused.
        self._admit((self.let_in(events) & (events.pair >= 0)).nonzero()[0], events)
        return ()

    def let_in(self, events: Events) -> Bools:
        """Which of n rows were answered as who is let in is."""
        is_found = events.is_writing & ((events.status == _FOUND[0]) | (events.status == _FOUND[1]))
        found: Bools = events.is_success | is_found
        return found

    def asks_for_codes(self, endpoints: Slots) -> Bools:
        """Of n slots of this batch, which ask for a code."""
        found: Bools = self._asks[endpoints] == _CODE
        return found

    def weigh(self, events: Events) -> F64:
        """Of n rows, how many attempts with a password each of their calls is, 0 to 1."""
        share = self._secrets[events.endpoint] / np.maximum(self._bodies[events.endpoint], 1)
        is_named = (self._asks[events.endpoint] == _PASSWORD) & events.is_anonymous
        weight = np.where(self._bodies[events.endpoint] > 0, share, is_named)
        return np.where(self._may_log_in(events), weight, 0.0)

    def _may_log_in(self, events: Events) -> Bools:
        may: Bools = events.is_writing & (events.read(events.batch.authentication) & ~np.uint32(_COOKIES) == 0)
        return may

    def lets_others_in(self, events: Events) -> Bools:
        """Of n rows, whether their endpoint lets others in than their caller."""
        pair, callers = events.pair, self._callers
        is_known = (pair >= 0) & callers.was_let_in[pair]
        others: Bools = (self._let_in[events.endpoint] > is_known) | ((pair >= 0) & callers.came_back[pair])
        return others & ~self.refuses_all(events.endpoint)

    def refuses_all(self, endpoints: Slots) -> Bools:
        """Of n slots, which refuse those whom they let in before."""
        known = self._known_refused[endpoints]
        found: Bools = (known >= CALLERS_MIN) & (known > self._new_refused[endpoints])
        return found

    def _count_secrets(self, events: Events) -> None:
        data = events.batch.data
        bodies = events.read(events.batch.request_bodies_read).astype(np.float64)
        rows = (self._may_log_in(events) & (bodies > 0)).nonzero()[0]
        if not len(rows):
            return
        is_secret = np.isin(data.values, _SECRETS)
        row = np.repeat(np.arange(len(events.batch)), np.diff(data.offsets))[is_secret]
        found = np.bincount(row, data.counts[is_secret].astype(np.float64), len(events.batch))[events.rows[rows]]
        np.add.at(self._bodies, events.endpoint[rows], bodies[rows])
        np.add.at(self._secrets, events.endpoint[rows], np.minimum(found, bodies[rows]))

    def _admit(self, rows: Slots, events: Events) -> None:
        if not len(rows):
            return
        pairs, first = np.unique(events.pair[rows], return_index=True)
        endpoints, callers = events.endpoint[rows[first]], self._callers
        np.add.at(self._let_in, endpoints[~callers.was_let_in[pairs]], 1)
        callers.came_back[pairs] |= callers.refused_in[pairs] > 0
        callers.was_let_in[pairs] = True
        endpoints = np.unique(endpoints)
        self._period[endpoints] += 1
        self._known_refused[endpoints] = self._new_refused[endpoints] = 0

    def _refuse(self, rows: Slots, events: Events) -> None:
        if not len(rows):
            return
        pairs, first = np.unique(events.pair[rows], return_index=True)
        endpoints, callers = events.endpoint[rows[first]], self._callers
        period = self._period[endpoints] + 1  # 0: never.
        is_first = callers.refused_in[pairs] != period
        callers.refused_in[pairs] = period
        is_known = callers.was_let_in[pairs]
        np.add.at(self._known_refused, endpoints[is_first & is_known], 1)
        np.add.at(self._new_refused, endpoints[is_first & ~is_known], 1)


def speaks_of_codes(label: str) -> bool:
    """Whether what is refused there may be a code."""
    return bool(_split(label) & _CODE_WORDS)


def asks_for_code(label: str) -> bool:
    """Whether a call there is an attempt at a code."""
    words = _split(label)
    return bool(words & _FACTORS) or ("code" in words and bool(words & _CHECKS))


def _split(label: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(label)}
