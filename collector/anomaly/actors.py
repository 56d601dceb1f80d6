"""Who calls, as a key and a name, a row each: the first known of principal, credential, client address and client
workload, or in the order that `consumer_order` of the collector's settings gives.

The name is `kind:value` with the kinds of the inventory (`principal`, `credential`, `address`, `workload`); keyed
hashes are 16 hex digits. Rows past an endpoint's cap and rows without any actor have no consumer: key 0.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import mix
from collector.rows import CONSUMER_ORDER, ConsumerColumn, RowBatch

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
    batch: RowBatch, order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
) -> tuple[U64, NDArray[np.int64]]:
    """Key and kind (index into the names above) of each row's consumer; key 0 where there is none."""
    has_address = np.array([bool(text) for text in batch.strings])[batch.client_address]
    has_workload = np.array([bool(text) for text in batch.strings])[batch.client_workload]
    known = (batch.principal != 0, batch.credential != 0, has_address, has_workload)
    kinds = [_KINDS[column] for column in order]
    kind = np.select([known[kind - 1] for kind in kinds], kinds, 0)
    kind = np.where((batch.flags & FLAG_OTHER) != 0, 0, kind).astype(np.int64)
    hashes = np.array([hash_text(text) for text in batch.strings], np.uint64)
    value = np.select(
        [kind == 1, kind == 2, kind == 3, kind == 4],
        [batch.principal, batch.credential, hashes[batch.client_address], hashes[batch.client_workload]],
        np.uint64(0),
    ).astype(np.uint64)
    return np.where(kind == 0, np.uint64(0), mix(kind.astype(np.uint64), value)), kind


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


def hash_text(text: str) -> int:
    """A stable 64-bit key of a name (Python's own hash differs from process to process)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
