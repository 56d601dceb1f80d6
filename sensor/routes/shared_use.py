"""Counts the callers of one text: whether it belongs to the API or to a caller.

A caller chooses what it sends, so a text may be a name, a secret or a state of health. A text that several callers
share belongs to the API: a word of a path, a name of a field, of a parameter or of an operation.

- A caller counts if neither its network nor its principal has counted. So one person with many tokens is one caller,
  and so is one person with one token at many addresses.
- `MIN_CALLERS` must have used it, over `MIN_SPAN_NS` at least. A burst of one minute shows nothing.
- Behind a gateway all callers have one network, and the sensor believes no header that names another. Then
  `MIN_PRINCIPALS` must have used it, and each of them again `MIN_RETURN_NS` later. Tokens that one person renews do not
  return. `trusted_proxy_cidrs` makes the first way work behind a gateway.
"""

import enum
from array import array
from typing import Final

from sensor.core.calls import Origin

MIN_CALLERS: Final = 3
MIN_SPAN_NS: Final = 3_600_000_000_000
MIN_PRINCIPALS: Final = 12
MIN_RETURN_NS: Final = 24 * MIN_SPAN_NS
# Principals remembered of one text: those with the lowest numbers, which are random, so that many do not displace each
# other before they return.
_PRINCIPALS_MAX: Final = 32
_FORGET_NS: Final = 3 * MIN_RETURN_NS  # Who has not returned by then gives room.
_PRINCIPAL_BITS: Final = 32
_PRINCIPAL_MASK: Final = (1 << _PRINCIPAL_BITS) - 1
_SECOND_NS: Final = 1_000_000_000
_HAS_RETURNED: Final = 0  # In place of the time of a first call.

# Different unknown words at one place of a path, or keys of one object, beyond which they are values.
MAX_SIBLINGS: Final = 10


class Telling(enum.Enum):
    """When a name may leave."""

    NOW = enum.auto()
    SHARED = enum.auto()  # Once callers share it.
    NEVER = enum.auto()  # Only its pattern.


class SharedUse:
    """Who used one text, as far as that decides whether callers share it. Holds no text."""

    __slots__ = ("_callers", "_first_ns", "_principals", "is_shared")

    def __init__(self) -> None:
        self.is_shared = False
        self._first_ns = 0
        self._callers: tuple[Origin, ...] = ()
        self._principals: array[int] | None = None  # Sorted; each above the second of its first call.

    def note(self, origin: Origin, time_ns: int) -> None:
        """One use. Cost: 0.2 us, and up to 3 us where callers of one network are many."""
        if self.is_shared or not origin.network:
            return
        if not self._callers:
            self._first_ns = time_ns
        if len(self._callers) < MIN_CALLERS and not any(
            known.network == origin.network or known.principal == origin.principal for known in self._callers
        ):
            self._callers += (origin,)
        if len(self._callers) >= MIN_CALLERS:
            self.is_shared = time_ns - self._first_ns >= MIN_SPAN_NS
        else:
            self.is_shared = self._count_returned(origin.principal, time_ns) >= MIN_PRINCIPALS
        if self.is_shared:
            self._callers, self._principals = (), None

    def _count_returned(self, principal: int, time_ns: int) -> int:
        """Principals that used the text again much later, with this one."""
        known = self._principals
        if known is None:
            known = self._principals = array("Q")
        number, second = principal & _PRINCIPAL_MASK, time_ns // _SECOND_NS & _PRINCIPAL_MASK
        for place, entry in enumerate(known):
            if entry >> _PRINCIPAL_BITS == number:
                since = entry & _PRINCIPAL_MASK
                if since != _HAS_RETURNED and second - since >= MIN_RETURN_NS // _SECOND_NS:
                    known[place] = number << _PRINCIPAL_BITS | _HAS_RETURNED
                break
            if entry >> _PRINCIPAL_BITS > number:
                known.insert(place, number << _PRINCIPAL_BITS | second)
                break
        else:
            known.append(number << _PRINCIPAL_BITS | second)
        if len(known) > _PRINCIPALS_MAX:
            known.pop()
            earliest = second - _FORGET_NS // _SECOND_NS
            kept = (one for one in known if not 0 < one & _PRINCIPAL_MASK < earliest)
            known = self._principals = array("Q", kept)
        return sum(entry & _PRINCIPAL_MASK == _HAS_RETURNED for entry in known)
