"""The contract of the abuse detectors: `Events` in, `Finding`s out, one kind of evidence each.

`take` counts the rows of one batch and gives the findings that they cause. It is deterministic. Its work is on arrays,
except for findings. All state is arrays by slot of bounded tables. `read_events` reads the rows of a batch: who, from
where, on what, with which outcome. `find` makes findings of the sums past a ceiling.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, Basis
from collector.core.kinds import Sensitivity
from collector.detection.abuse.ceiling import Ceiling, Excess
from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import F64, State
from collector.detection.framework.slots import Slots, find_distinct
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import SubjectName, hash_text
from collector.storage.columns import RowBatch

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One subject that did too much of something."""

    kind: AlertKind
    subject: SubjectName
    count: float  # Of what the kind counts (docs/use/alerts.md), within the horizon, older ones weighing less.
    ceiling: float
    seconds: int  # The horizon.
    basis: Basis
    calls: float  # Of the rows at hand.
    is_internal: bool
    is_notice: bool  # Nothing to accuse anybody of.
    sources: tuple[str, ...] = ()  # Addresses that took part, where they are many.
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is told.
    walk: str = ""  # That its objects came in order, a clause.


class AbuseDetector(Protocol):
    """One of them."""

    name: str  # Of its state in a checkpoint.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """Count and judge; `time` is the newest row's, unix seconds."""
        ...

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """A person says that this is ordinary; False where it is not this detector's or not known."""
        ...

    def project(self, roster: Roster, time: int) -> None:
        """The installation's first hour is over: what went on in it steadily is ordinary."""
        ...

    def dump(self) -> State:
        """State for a checkpoint."""
        ...

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        ...


def sum_by_slot(slots: Slots, amounts: F64) -> tuple[Slots, F64]:
    """Distinct slots (those of -1 left out) and the sum of each one's amounts, 0 too."""
    known = slots >= 0
    distinct, _, inverse = find_distinct(slots[known])
    return distinct, np.bincount(inverse, amounts[known], len(distinct)).astype(np.float64, copy=False)


def find(
    kind: Callable[[int], AlertKind],
    ceiling: Ceiling,
    excess: Excess,
    name: Callable[[int], SubjectName],
    slots: Slots,
    calls: F64,
    is_internal: Bools,
    is_notice: Callable[[int], bool] = lambda _: False,
    describe_walk: Callable[[int], str] = lambda _: "",
    describe: Callable[[int], str] = lambda _: "",
) -> list[Finding]:
    """Findings of an excess, whose slots ascend. `slots`, `calls` and `is_internal` are the rows'; `kind`, `name`,
    `is_notice`, `describe_walk` and `describe` (the detail) are asked by slot."""
    if not len(excess.slots):
        return []
    place = np.minimum(np.searchsorted(excess.slots, slots), len(excess.slots) - 1)
    own = (excess.slots[place] == slots).nonzero()[0]
    place = place[own]
    made = np.bincount(place, calls[own], len(excess.slots)).tolist()
    external = np.bincount(place, ~is_internal[own], len(excess.slots)).tolist()
    return [
        Finding(
            kind=kind(slot),
            subject=name(slot),
            count=float(excess.sums[index]),
            ceiling=float(excess.ceilings[index]),
            seconds=ceiling.plan[int(excess.horizon[index])].seconds,
            basis=excess.basis[index],
            calls=made[index],
            is_internal=not external[index],
            is_notice=is_notice(slot),
            detail=describe(slot),
            walk=describe_walk(slot),
        )
        for index, slot in enumerate(excess.slots.tolist())
    ]
