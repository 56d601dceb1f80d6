"""The subjects of detection (endpoints, consumers, pairs), each with a slot and a name. Bounded, evictions counted.

`identify_consumers` names the consumer of each row: the first known of principal, credential, client address and client
workload, or in the order of the setting `consumer_order`. The name is `kind:value` with the inventory's kinds
(`principal`, `credential`, `address`, `workload`). Keyed hashes are 16 hex digits. Rows past an endpoint's cap and rows
without an actor have no consumer: key 0.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.core.rows import CONSUMER_ORDER, ConsumerColumn
from collector.detection.framework.columns import Columns
from collector.detection.framework.slots import Slots, SlotTable, Touched, find_distinct, mix
from collector.storage.columns import RowBatch

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


_Scalar = TypeVar("_Scalar", bound=np.generic)

FLAG_OTHER = 1 << 1  # ROW_FLAG_OTHER of the wire.

_KIND_NAMES = ("", "principal", "credential", "address", "workload")
_KINDS = {
    ConsumerColumn.PRINCIPAL: 1,
    ConsumerColumn.CREDENTIAL: 2,
    ConsumerColumn.CLIENT_ADDRESS: 3,
    ConsumerColumn.CLIENT_WORKLOAD: 4,
}  # Index into the names above.


def identify_consumers(
    columns: Columns, order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
) -> tuple[U64, NDArray[np.int64]]:
    """Key and kind (index into the names above) of the consumer of each row; key 0 where there is none."""
    count = len(columns)
    kind, value = np.zeros(count, np.int64), np.zeros(count, np.uint64)
    open_ = ((columns.read(columns.batch.flags) & FLAG_OTHER) == 0).nonzero()[0]
    for column in order:
        if not len(open_):
            break
        own = _read_hashes(columns, open_, column)
        taken = own.nonzero()[0]
        if len(taken) == count:  # Of all rows.
            kind[:] = _KINDS[column]
            return mix(kind.astype(np.uint64), own), kind
        kind[open_[taken]] = _KINDS[column]
        value[open_[taken]] = own[taken]
        open_ = open_[own == 0]
    return np.where(kind == 0, np.uint64(0), mix(kind.astype(np.uint64), value)), kind


def _read_hashes(columns: Columns, rows: NDArray[np.int64], column: ConsumerColumn) -> U64:
    """A column as hashes, 0 where it is not known; `rows` are indexes into those of the columns."""

    def read(whole: NDArray[_Scalar]) -> NDArray[_Scalar]:
        own = columns.read(whole)
        return own if len(rows) == len(own) else own[rows]

    batch = columns.batch
    match column:
        case ConsumerColumn.PRINCIPAL:
            return read(batch.principal)
        case ConsumerColumn.CREDENTIAL:
            return read(batch.credential)
        case ConsumerColumn.CLIENT_ADDRESS:
            index = read(batch.client_address)
        case ConsumerColumn.CLIENT_WORKLOAD:
            index = read(batch.client_workload)
    distinct, _, inverse = find_distinct(index)
    texts = [batch.strings[place] for place in distinct.tolist()]
    return np.array([hash_text(text) if text else 0 for text in texts], np.uint64)[inverse]


def name_consumer(batch: RowBatch, row: int, kind: int) -> str:
    """`kind:value` of one row's consumer; empty where it has none."""
    match _KIND_NAMES[kind]:
        case "principal":
            return f"principal:{int(batch.principal[row]):016x}"
        case "credential":
            return f"credential:{int(batch.credential[row]):016x}"
        case "address":
            return f"address:{batch.strings[batch.client_address[row]]}"
        case "workload":
            return f"workload:{batch.strings[batch.client_workload[row]]}"
    return ""


@lru_cache(maxsize=16_384)
def hash_text(text: str) -> int:
    """A stable 64-bit key of a name (Python's own hash differs from process to process)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
