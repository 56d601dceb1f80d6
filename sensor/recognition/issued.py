"""Numbers that stand for things in records: given once, never again, and remembered for a while after the thing is
forgotten, since a call that began before may end after."""

from typing import Final, Generic, TypeVar

# Forgotten things that still have a name; a call in flight outlives its route by its own duration only.
RETIRED_MAX: Final = 16_384

T = TypeVar("T")


class Issued(Generic[T]):
    """Things by their number, from 1 on; 0 stands for none. Bounded by whoever adds and retires, plus RETIRED_MAX."""

    __slots__ = ("_last", "_retired", "_things")

    def __init__(self) -> None:
        self._things: dict[int, T] = {}
        self._retired: dict[int, T] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._things)

    def next_number(self) -> int:
        """The number that the next `add` gives."""
        return self._last + 1

    def add(self, thing: T) -> int:
        """Gives it the next number."""
        self._last += 1
        self._things[self._last] = thing
        return self._last

    def find(self, number: int) -> T | None:
        """The thing, or None where it never was or was forgotten long ago."""
        thing = self._things.get(number)
        return thing if thing is not None else self._retired.get(number)

    def begin_after(self, number: int) -> None:
        """Numbers up to this one were given by somebody else."""
        self._last = max(self._last, number)

    def forget_all(self) -> None:
        """Nothing is known of any number given so far."""
        self._things.clear()
        self._retired.clear()

    def retire(self, number: int) -> None:
        """The kernel has been told to forget it."""
        thing = self._things.pop(number, None)
        if thing is None:
            return
        if len(self._retired) >= RETIRED_MAX:
            del self._retired[next(iter(self._retired))]
        self._retired[number] = thing
