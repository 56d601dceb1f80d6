"""What is told of integer objects instead of their values: how often a consumer's next one is the next or the last.

Somebody who walks an endpoint's ids asks for n, n + 1, n + 2; the steps are counted, the numbers stay here. The last
number of each pair of route and consumer is remembered across windows.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.runs import Index, find_order, find_runs, number_values

# Pairs remembered, 24 bytes each; those unused for longest are forgotten, a quarter at a time.
PAIRS_LIMIT: Final = 65_536
_KEPT_RATIO: Final = 0.75
# No step leads here: the first number of a pair is neither one more nor one less.
_NO_NUMBER: Final = -2


class NumberMemory:
    """Last integer object by pair of route and consumer."""

    def __init__(self) -> None:
        self._pairs = np.empty(0, np.uint64)  # Ascending.
        self._numbers = np.empty(0, np.int64)
        self._ticks = np.empty(0, np.int64)

    def find_steps(
        self, pairs: NDArray[np.uint64], rows: Index, places: Index, numbers: NDArray[np.int64], tick: int
    ) -> NDArray[np.bool_]:
        """Which numbers are one more or one less than the one before them of their pair; the last ones are remembered.

        `pairs` has the pair of each row; `rows` (ascending), `places` in time and `numbers` have an element a call.
        """
        distinct, _, inverse = number_values(pairs)
        if len(distinct) == len(pairs):  # As it mostly is; then calls of a pair stand together already.
            starts = find_runs(rows)
            previous = _shift(numbers)
            lasts = np.empty(len(pairs), np.int64)
            lasts[inverse] = numbers[np.append(starts[1:], len(rows)) - 1]
            previous[starts] = self._exchange(distinct, lasts, tick)[inverse]
            return _find_neighbours(numbers, previous)
        # A pair may have several rows (statuses): its calls are put together again, in their order in time.
        owners = inverse[rows]
        place_bits = int(np.max(places)).bit_length()
        order = find_order(owners << place_bits | places, len(distinct).bit_length() + place_bits)
        owners, numbers = owners[order], numbers[order]
        starts = find_runs(owners)
        previous = _shift(numbers)
        previous[starts] = self._exchange(distinct, numbers[np.append(starts[1:], len(owners)) - 1], tick)
        is_step = np.empty(len(numbers), np.bool_)
        is_step[order] = _find_neighbours(numbers, previous)
        return is_step

    def _exchange(self, pairs: NDArray[np.uint64], numbers: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
        """The remembered numbers of these pairs, which ascend; from now on these are."""
        places = self._pairs.searchsorted(pairs)
        is_known = np.zeros(len(pairs), np.bool_)
        inside = places < len(self._pairs)
        is_known[inside] = self._pairs[places[inside]] == pairs[inside]
        known = places[is_known]
        previous = np.full(len(pairs), _NO_NUMBER, np.int64)
        previous[is_known] = self._numbers[known]
        self._numbers[known] = numbers[is_known]
        self._ticks[known] = tick
        is_new = ~is_known
        if is_new.any():
            self._insert(places[is_new], pairs[is_new], numbers[is_new], tick)
        return previous

    def _insert(self, places: Index, pairs: NDArray[np.uint64], numbers: NDArray[np.int64], tick: int) -> None:
        self._pairs = np.insert(self._pairs, places, pairs)
        self._numbers = np.insert(self._numbers, places, numbers)
        self._ticks = np.insert(self._ticks, places, np.int64(tick))
        if len(self._pairs) > PAIRS_LIMIT:
            excess_count = len(self._pairs) - int(PAIRS_LIMIT * _KEPT_RATIO)
            # Of one tick all go or stay: there may be fewer left than asked for.
            is_kept = self._ticks > np.partition(self._ticks, excess_count - 1)[excess_count - 1]
            self._pairs, self._numbers, self._ticks = self._pairs[is_kept], self._numbers[is_kept], self._ticks[is_kept]

    def __len__(self) -> int:
        return len(self._pairs)


def _shift(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The one before each; the first is the caller's to fill."""
    previous = np.empty_like(numbers)
    previous[1:] = numbers[:-1]
    return previous


def _find_neighbours(numbers: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.bool_]:
    # Numbers are below 2^63 and not negative, so the difference does not overflow.
    is_step: NDArray[np.bool_] = np.abs(numbers - previous) == 1
    return is_step


def name_pairs(route_ids: NDArray[np.uint64], consumers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for each pair (a finaliser of MurmurHash3 over both)."""
    pairs = route_ids * np.uint64(0x9E3779B97F4A7C15) ^ consumers
    pairs ^= pairs >> np.uint64(33)
    pairs *= np.uint64(0xFF51AFD7ED558CCD)
    pairs ^= pairs >> np.uint64(33)
    return pairs
