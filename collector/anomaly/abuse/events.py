"""Rows as the abuse detectors see them: who, from where, on what, with which outcome."""

import ipaddress
import socket
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.actors import hash_text
from collector.anomaly.columns import Columns
from collector.anomaly.detectors.contract import F64
from collector.anomaly.roster import Placed
from collector.anomaly.slots import Slots
from collector.rows import RowBatch

U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

# First bytes of the blocks of which some are private or loopback, by the registry that is_private follows.
_SPECIAL = frozenset({0, 10, 127, 169, 172, 192, 198, 203, *range(240, 256)})
_WRITING = frozenset({"POST", "PUT", "PATCH"})
_NETWORK_BITS = {4: 24, 6: 48}  # Of one site: an address more of the same site is no other place.


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """n rows of one batch that count. Slots are -1 where there is no such subject."""

    batch: RowBatch
    rows: Slots  # Indexes into the batch.
    columns: Columns  # Of them.
    endpoint: Slots
    consumer: Slots
    pair: Slots
    calls: F64
    novel: F64  # Objects that the pair had not touched before.
    status: NDArray[np.int64]
    is_anonymous: Bools
    is_writing: Bools  # POST, PUT, PATCH.
    address: U64  # Hash of the client address; 0 where it is not known.
    network: U64  # The same of its /24 or /48.
    is_internal: Bools  # Private, loopback or not known.

    def list_answered(self, codes: tuple[int, ...]) -> Slots:
        """Which of the n were answered with one of `codes`, which are 400 or more."""
        return self.columns.list_answered(codes)


def read_events(columns: Columns, placed: Placed) -> Events:
    """The rows of a batch, with the subjects that the roster gave them."""
    batch = columns.batch
    places = [_read_address(text) for text in batch.strings]
    address = columns.read(batch.client_address)
    methods = np.array([route.method in _WRITING for route in batch.routes], np.bool_)
    return Events(
        batch=batch,
        rows=columns.rows,
        columns=columns,
        endpoint=placed.endpoint,
        consumer=placed.consumer,
        pair=placed.pair,
        calls=columns.calls,
        novel=placed.novel,
        status=columns.status,
        is_anonymous=columns.read(batch.authentication) == 0,
        is_writing=methods[columns.route],
        address=np.array([place[0] for place in places], np.uint64)[address],
        network=np.array([place[1] for place in places], np.uint64)[address],
        is_internal=np.array([place[2] for place in places], np.bool_)[address],
    )


@lru_cache(maxsize=65_536)
def _read_address(text: str) -> tuple[int, int, bool]:
    """Hash of an address, of its network, and whether it is internal."""
    try:
        packed = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return _read_other(text)
    network = int.from_bytes(packed) >> 32 - _NETWORK_BITS[4]
    # Asking the library about each takes ten times as long.
    is_internal = packed[0] in _SPECIAL and _is_internal(ipaddress.IPv4Address(packed))
    return hash_text(text), hash_text(f"4/{network}"), is_internal


def _read_other(text: str) -> tuple[int, int, bool]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # Another string of the batch.
        return 0, 0, True
    bits = address.max_prefixlen - _NETWORK_BITS[address.version]
    network = f"{address.version}/{int(address) >> bits}"  # A quarter of the time that an ip_network takes.
    return hash_text(text), hash_text(network), _is_internal(address)


def _is_internal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_private or address.is_loopback
