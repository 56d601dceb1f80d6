"""The subjects of detection: endpoints, consumers and pairs, each with a slot and a name; bounded, evictions
counted."""

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import Slots, SlotTable, Touched

ENDPOINTS_MAX = 20_000
CONSUMERS_MAX = 100_000
PAIRS_MAX = 200_000

U64 = NDArray[np.uint64]


class SubjectName(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a signal says of its subject."""

    endpoint_id: str = ""
    label: str = ""  # Of the endpoint, `GET /items/{id}`.
    route_ids: tuple[int, ...] = ()
    consumer: str = ""


class Subjects:
    """A slot table with names."""

    def __init__(self, limit: int) -> None:
        self.table = SlotTable(limit)
        self._names: list[SubjectName | None] = []  # By slot.

    def touch(self, keys: U64, time: int, name: Callable[[int], SubjectName]) -> tuple[Slots, Slots]:
        """Slots of `keys`, which may repeat, and those emptied; `name(i)` names key i, asked only for new ones."""
        touched = self.take(keys, time, lambda first: map(name, first))
        return touched.slots, touched.emptied

    def take(self, keys: U64, time: int, list_names: Callable[[list[int]], Iterable[SubjectName]]) -> Touched:
        """The same, with what is new; `list_names` names some keys, by their indexes, all new ones at once."""
        touched = self.table.touch(keys, time)
        if len(touched.new):
            self._names += [None] * (self.table.capacity - len(self._names))
            for slot in touched.emptied.tolist():
                self._names[slot] = None
            names = self._names
            for slot, name in zip(touched.new.tolist(), list_names(touched.first.tolist()), strict=True):
                names[slot] = name
        return touched

    def name(self, slot: int) -> SubjectName:
        """The name behind a slot in use."""
        name = self._names[slot]
        if name is None:
            raise KeyError(f"slot {slot} is free; only slots in use have names")
        return name

    def list_names(self, slots: Iterable[int]) -> list[SubjectName | None]:
        """The names behind slots, as far as they have one."""
        names = self._names
        return [names[slot] for slot in slots]

    def find(self, endpoint_id: str, consumer: str) -> int:
        """The slot of a name; -1 where there is none. Looks at every name: for what a person asks."""
        for slot, name in enumerate(self._names):
            if name is not None and name.endpoint_id == endpoint_id and name.consumer == consumer:
                return slot
        return -1

    def rename(self, slot: int, name: SubjectName) -> None:
        """A subject grew (an endpoint got another route), or is called otherwise."""
        self._names[slot] = name

    def release(self, slots: Slots) -> None:
        """Give up slots in use, which are distinct."""
        self.table.release(slots)
        for slot in slots.tolist():
            self._names[slot] = None

    def dump(self) -> tuple[dict[str, NDArray[np.generic]], bytes]:
        """Arrays and names for a checkpoint."""
        names = {slot: name for slot, name in enumerate(self._names) if name is not None}
        return self.table.dump(), msgspec.msgpack.encode(names)

    def load(self, arrays: dict[str, NDArray[np.generic]], names: bytes, texts: dict[str, str] | None = None) -> None:
        """The inverse of `dump`. `texts`: of names that tables share, so that each is kept once."""
        self.table.load(arrays)
        self._names = [None] * self.table.capacity
        texts = {} if texts is None else texts
        for slot, name in msgspec.msgpack.decode(names, type=dict[int, SubjectName]).items():
            self._names[slot] = SubjectName(
                endpoint_id=texts.setdefault(name.endpoint_id, name.endpoint_id),
                label=texts.setdefault(name.label, name.label),
                route_ids=name.route_ids,
                consumer=texts.setdefault(name.consumer, name.consumer),
            )
