"""Which endpoints ask for one-time codes, by the words of their paths."""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.abuse.events import Bools, Events
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, grow

_CODE_WORDS: Final = frozenset({"otp", "totp", "code", "pin", "mfa", "2fa", "passcode", "verification", "captcha"})
# Those of second factors; and codes that are checked, for there are codes of coupons, countries and programs.
_FACTORS: Final = frozenset({"otp", "totp", "mfa", "2fa", "passcode"})
_CHECKS: Final = frozenset({"verify", "verification", "confirm", "check", "validate", "challenge", "auth", "login"})
_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_UNREAD, _OTHER, _ASKS = 0, 1, 2


class CodeEndpoints:
    """By endpoint slot, each path read once. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._asks: NDArray[np.int8] = np.zeros(0, np.int8)

    def take(self, events: Events, placed: Placed, roster: Roster) -> None:
        """Read the paths that are new in a batch."""
        self._asks = grow(self._asks, roster.endpoints.table.capacity)
        self._asks[placed.evicted_endpoints] = _UNREAD
        for slot in set(events.endpoint[self._asks[events.endpoint] == _UNREAD].tolist()):
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
    return {word.lower() for word in _WORD.findall(label)}
