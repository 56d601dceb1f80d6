"""Key -> slot: gives each 64-bit key a small integer that indexes the detectors' arrays; bounded, least recently seen
go first."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)

U64 = NDArray[np.uint64]
Slots = NDArray[np.int64]

_FIRST_CAPACITY = 1_024
_EVICTED_SHARE = 0.05  # Of the limit at a time, so that a full table does not sort at every batch.


class SlotTable:
    """Slots of up to `limit` keys. `touch` is the only way in; whoever holds arrays by slot clears what `touch`
    evicted."""

    def __init__(self, limit: int) -> None:
        """`limit`: keys held at once."""
        self.limit = limit
        self.evicted_count = 0
        self._slot_by_key: dict[int, int] = {}
        self._free: list[int] = []
        self.keys: U64 = np.zeros(min(_FIRST_CAPACITY, limit), np.uint64)
        self.seen_at: NDArray[np.int64] = np.full(len(self.keys), -1, np.int64)  # -1: the slot is free.

    def __len__(self) -> int:
        return len(self._slot_by_key)

    @property
    def capacity(self) -> int:
        """Length that arrays by slot need."""
        return len(self.keys)

    def touch(self, keys: U64, time: int) -> tuple[Slots, Slots, Slots]:
        """Slots of distinct `keys`, in order; those of them that are new; and those emptied to make room. About 0.1
        us a known key.

        Raises ValueError when there are more keys than the limit: the caller cuts its batches.
        """
        if len(keys) > self.limit:
            raise ValueError(f"{len(keys)} keys do not fit a table of {self.limit}; raise the limit or cut the batch")
        known = self._slot_by_key
        slots = [known.get(key, -1) for key in keys.tolist()]
        result = np.array(slots, np.int64)
        self.seen_at[result[result >= 0]] = time
        missing = np.flatnonzero(result < 0)
        emptied = self._make_room(len(missing))
        if len(missing):
            new = self._take(len(missing))
            result[missing] = new
            self.keys[new] = keys[missing]
            self.seen_at[new] = time
            known.update(zip(keys[missing].tolist(), new.tolist(), strict=True))
        return result, result[missing], emptied

    def live(self) -> Slots:
        """Slots in use, ascending."""
        return np.flatnonzero(self.seen_at >= 0)

    def find(self, key: int) -> int:
        """The slot of a key; -1 where it has none."""
        return self._slot_by_key.get(key, -1)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        return {
            "keys": self.keys,
            "seen_at": self.seen_at,
            "evicted": np.array([self.evicted_count]),
            "free": np.array(self._free, np.int64),
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self.keys = state["keys"].astype(np.uint64)
        self.seen_at = state["seen_at"].astype(np.int64)
        self.evicted_count = int(state["evicted"][0])
        live = self.live()
        self._slot_by_key = dict(zip(self.keys[live].tolist(), live.tolist(), strict=True))
        self._free = state["free"].tolist()

    def _make_room(self, wanted: int) -> Slots:
        excess = len(self) + wanted - self.limit
        if excess <= 0:
            return np.zeros(0, np.int64)
        count = max(excess, int(self.limit * _EVICTED_SHARE))
        live = self.live()
        # Keys of this very batch carry the newest time; a stable sort keeps the choice the same in every run.
        oldest = live[np.argsort(self.seen_at[live], kind="stable")[:count]]
        for key in self.keys[oldest].tolist():
            del self._slot_by_key[key]
        self.seen_at[oldest] = -1
        self._free.extend(oldest[::-1].tolist())
        self.evicted_count += len(oldest)
        return oldest

    def _take(self, count: int) -> Slots:
        if not self._free and len(self._slot_by_key) == 0:
            self._free = list(range(self.capacity - 1, -1, -1))
        while len(self._free) < count:
            old = self.capacity
            new = min(self.limit, max(old * 2, old + 1))
            self.keys = grow(self.keys, new)
            self.seen_at = grow(self.seen_at, new, -1)
            self._free[:0] = range(new - 1, old - 1, -1)
        taken = [self._free.pop() for _ in range(count)]
        return np.array(taken, np.int64)


def grow(array: NDArray[_Scalar], length: int, fill: float = 0) -> NDArray[_Scalar]:
    """`array` with its last axis lengthened to `length`, new places holding `fill`."""
    if array.shape[-1] >= length:
        return array
    longer = np.full((*array.shape[:-1], length), fill, array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def mix(left: U64, right: U64) -> U64:
    """One 64-bit key of two (the finalizer of SplitMix64); order matters. Never 0."""
    with np.errstate(over="ignore"):
        word = left * np.uint64(0x9E3779B97F4A7C15) + right
        word ^= word >> np.uint64(30)
        word *= np.uint64(0xBF58476D1CE4E5B9)
        word ^= word >> np.uint64(27)
        word *= np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
    key: U64 = np.maximum(word, np.uint64(1))
    return key
