"""Finds endpoints that ask for one-time codes, by the words of their paths."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from collector.alerting.alert import Signal
from collector.detection.framework.detector import Detector
from collector.detection.framework.rows import Events
from collector.detection.framework.state import Bools, Slots, column
from collector.detection.framework.subject_index import SubjectIndex

_CODE_WORDS: Final = frozenset({"otp", "totp", "code", "pin", "mfa", "2fa", "passcode", "verification", "captcha"})
# Those of second factors; and codes that are checked, for there are codes of coupons, countries and programs.
_FACTORS: Final = frozenset({"otp", "totp", "mfa", "2fa", "passcode"})
_CHECKS: Final = frozenset({"verify", "verification", "confirm", "check", "validate", "challenge", "auth", "login"})
_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_UNREAD, _OTHER, _ASKS = 0, 1, 2


class CodeEndpoints(Detector):
    """By endpoint, each path read once. Reports nothing itself."""

    name = "abuse.code_endpoints"
    _asks = column(np.int8)

    def __init__(self, subjects: SubjectIndex) -> None:
        super().__init__()
        self._subjects = subjects
        subjects.endpoints.follow(self)

    def feed(self, events: Events) -> Sequence[Signal]:
        for slot in set(events.endpoint[self._asks[events.endpoint] == _UNREAD].tolist()):
            self._asks[slot] = _ASKS if asks_for_code(self._subjects.endpoints.name(slot).label) else _OTHER
        return ()

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
    return {word.lower() for word in _WORD.findall(label)}
