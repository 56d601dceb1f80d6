"""Calls that wait for their second to end: one growing array, filled from both ways of a call."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.columns import Calls, make_calls

_FIRST_CAPACITY: Final = 1_024


class WaitingCalls:
    """At most `limit` calls, in the order in which they came. What is taken is good until something is added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._array = make_calls(min(_FIRST_CAPACITY, limit))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be added."""
        return self._count >= self._limit

    @property
    def calls(self) -> Calls:
        """All of them."""
        return self._array[: self._count]

    def append(self, call: tuple[int, ...]) -> None:
        """One more, its columns in the order of `CALL`; there must be room. Raises TypeError on what is no number."""
        self._grow(1)
        self._array[self._count] = call
        self._count += 1

    def extend(self, calls: Calls) -> int:
        """As many of them as there is room for, from the first; gives their number."""
        self._grow(len(calls))
        taken = calls[: len(self._array) - self._count]
        self._array[self._count : self._count + len(taken)] = taken
        self._count += len(taken)
        return len(taken)

    def take(self) -> Calls:
        """All of them; none is left."""
        calls = self.calls
        self._count = 0
        return calls

    def keep_where(self, is_kept: NDArray[np.bool_]) -> None:
        """Only those where `is_kept` stay."""
        rest = self.calls.take(np.flatnonzero(is_kept))
        self._count = 0
        self.extend(rest)

    def _grow(self, count: int) -> None:
        wanted = min(self._count + count, self._limit)
        if wanted > len(self._array):
            grown = make_calls(min(max(wanted, 2 * len(self._array)), self._limit))
            grown[: self._count] = self.calls
            self._array = grown
