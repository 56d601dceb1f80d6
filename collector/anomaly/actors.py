"""Who calls, as a key and a name, a row each: the first known of principal, credential, client address and client
workload, or in the order that `consumer_order` of the collector's settings gives.

The name is `kind:value` with the kinds of the inventory (`principal`, `credential`, `address`, `workload`); keyed
hashes are 16 hex digits. Rows past an endpoint's cap and rows without any actor have no consumer: key 0.
"""

import hashlib
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.columns import Columns
from collector.anomaly.distinct import find_distinct
from collector.anomaly.slots import mix
from collector.rows import CONSUMER_ORDER, ConsumerColumn, RowBatch

_Scalar = TypeVar("_Scalar", bound=np.generic)
U64 = NDArray[np.uint64]

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
