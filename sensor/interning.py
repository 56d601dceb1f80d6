"""A bounded table of things as small numbers, of which the longest unused give way. See `sensor.facts`."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

# A table is swept when so much of it is taken, and then down to half. 50,000 consumers stay below it: whoever keeps
# numbers asks for all of them anew after a sweep. What is free above takes the 10,000 that may be new in a second.
SWEEP_RATIO: Final = 0.8
KEPT_RATIO: Final = 0.5

_Key = TypeVar("_Key", bound=Hashable)


class Table(Generic[_Key]):
    """Keys to numbers 0 .. limit - 1 and back; number 0 is that of the first key, for ever."""

    def __init__(self, first: _Key, limit: int) -> None:
        self.keys: list[_Key] = [first]
        self.limit = limit
        self.numbers: dict[_Key, int] = {first: 0}
        self.used = np.zeros(limit, np.int64)  # Tick of the last use, by number.
        self._free: list[int] = []

    def add(self, key: _Key, tick: int) -> int | None:
        """A number for a key that has none, or None when all are taken."""
        if self._free:
            number = self._free.pop()
            self.keys[number] = key
        elif len(self.keys) < self.limit:
            number = len(self.keys)
            self.keys.append(key)
        else:
            return None
        self.numbers[key] = number
        self.used[number] = tick
        return number

    @property
    def is_crowded(self) -> bool:
        """Worth sweeping."""
        return len(self.numbers) > self.limit * SWEEP_RATIO

    def sweep(self, oldest_tick: int) -> NDArray[np.int64]:
        """Forget what was last used before `oldest_tick`, longest unused first, down to half; gives the numbers."""
        excess_count = len(self.numbers) - int(self.limit * KEPT_RATIO)
        numbers = np.fromiter(self.numbers.values(), np.int64, len(self.numbers))
        used = self.used[numbers]
        last_tick = min(int(np.partition(used, excess_count - 1)[excess_count - 1]), oldest_tick - 1)
        return self.forget(numbers[(used <= last_tick) & (numbers != 0)])

    def forget(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Free these numbers."""
        for number in numbers.tolist():
            del self.numbers[self.keys[number]]
            self._free.append(number)
        return numbers
