"""The subjects of detection: endpoints, consumers and pairs, each with a slot and a name; bounded, evictions
counted."""

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import Slots, SlotTable

ENDPOINTS_MAX = 20_000
CONSUMERS_MAX = 100_000
PAIRS_MAX = 200_000

U64 = NDArray[np.uint64]


class SubjectName(msgspec.Struct, frozen=True, kw_only=True):
    """What a signal says of its subject."""

    endpoint_id: str = ""
    label: str = ""  # Of the endpoint, `GET /items/{id}`.
    route_ids: tuple[int, ...] = ()
    consumer: str = ""


class Subjects:
    """A slot table with names."""

    def __init__(self, limit: int) -> None:
        self.table = SlotTable(limit)
        self._names: dict[int, SubjectName] = {}

    def touch(self, keys: U64, time: int, name: Callable[[int], SubjectName]) -> tuple[Slots, Slots]:
        """Slots of distinct `keys` and those emptied; `name(i)` names key i, asked only for new ones."""
        slots, new, emptied = self.table.touch(keys, time)
        for slot in emptied.tolist():
            self._names.pop(slot, None)
        if len(new):
            is_new = set(new.tolist())
            for index, slot in enumerate(slots.tolist()):
                if slot in is_new:
                    self._names[slot] = name(index)
        return slots, emptied

    def name(self, slot: int) -> SubjectName:
        """The name behind a slot in use."""
        return self._names[slot]

    def find(self, endpoint_id: str, consumer: str) -> int:
        """The slot of a name; -1 where there is none. Looks at every name: for what a person asks."""
        for slot, name in self._names.items():
            if name.endpoint_id == endpoint_id and name.consumer == consumer:
                return slot
        return -1

    def rename(self, slot: int, name: SubjectName) -> None:
        """A subject grew (an endpoint got another route)."""
        self._names[slot] = name

    def dump(self) -> tuple[dict[str, NDArray[np.generic]], bytes]:
        """Arrays and names for a checkpoint."""
        return self.table.dump(), msgspec.msgpack.encode(self._names)

    def load(self, arrays: dict[str, NDArray[np.generic]], names: bytes) -> None:
        """The inverse of `dump`."""
        self.table.load(arrays)
        self._names = msgspec.msgpack.decode(names, type=dict[int, SubjectName])
