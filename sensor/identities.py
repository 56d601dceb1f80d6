"""Who called and how, as numbers below 65,536: columns, and the number of each combination of them.

Two combinations are told apart by 64 bits that their columns are folded to, so that an identity takes 70 bytes and a
crowd of new ones is taken in by a few numpy passes. See `sensor.facts` for the life of a number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensor.calls import AuthenticationKind, CallKind, PrincipalKind
from sensor.config import ConsumerColumn
from sensor.interning import KEPT_RATIO, SWEEP_RATIO, Table
from sensor.key_table import KeyTable, mix, mix_one
from sensor.runs import number_values

# 16 bits in the key of a row.
IDENTITIES_LIMIT: Final = 1 << 16
# Identities kept free for those of `other`: combinations of authentication kinds, version and kind of call.
_OTHERS_LIMIT: Final = 1 << 11
# What `other` keeps of credentials at least.
_LEAST: Final = (int(AuthenticationKind.NONE), int(AuthenticationKind.UNKNOWN), int(AuthenticationKind.OTHER))
_KIND_SHIFT: Final = 8
_AUTHENTICATION_SHIFT: Final = 16
_OTHER_SHIFT: Final = 63
_VERSION_SHIFT: Final = 40  # Above kinds of credentials and calls.
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityColumns:
    """What identities are made of, by number; the texts are numbers of `Identities.texts`."""

    principal: NDArray[np.uint64]
    credential: NDArray[np.uint64]
    client_address: NDArray[np.uint32]
    client_workload: NDArray[np.uint32]
    protocol_version: NDArray[np.uint32]
    authentication: NDArray[np.uint32]
    principal_kind: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    is_other: NDArray[np.bool_]
    other: NDArray[np.uint16]  # The identity of `other` that takes its calls; of `other`, the one that tells less.
    consumer: NDArray[np.uint64]  # Tells consumers apart on this node; 0 = nothing known.


class Identity(NamedTuple):
    """One row; of a batch, arrays of equal lengths. Texts are numbers of `Identities.texts`; see `pack_manner`."""

    principal: Any
    credential: Any
    client_address: Any
    client_workload: Any
    protocol_version: Any
    manner: Any


def pack_manner(authentication: AuthenticationKind, kind: CallKind, principal_kind: PrincipalKind) -> int:
    """How somebody called, in a number."""
    return authentication << _AUTHENTICATION_SHIFT | kind << _KIND_SHIFT | principal_kind


class Identities:
    """The table. Not thread-safe."""

    def __init__(self, consumer_order: Iterable[ConsumerColumn]) -> None:
        """The consumer is the first column of the order that is known."""
        self._consumer_order = tuple(consumer_order)
        self.columns = _make_columns()
        self.texts: Table[str] = Table("", 3 * IDENTITIES_LIMIT + 1)
        self._text_hashes = np.zeros(self.texts.limit, np.uint64)
        self.used = np.zeros(IDENTITIES_LIMIT, np.int64)  # Tick of the last use, by number.
        self._keys = np.zeros(IDENTITIES_LIMIT, np.uint64)
        self._is_living = np.zeros(IDENTITIES_LIMIT, np.bool_)
        self._table = KeyTable()
        self._free: list[int] = []
        self._end = 0  # Numbers given so far.
        self._find_other(0, 0, tick=0)  # Number 0 is nobody, for ever.

    def __len__(self) -> int:
        return len(self._table)

    def number_text(self, text: str, tick: int) -> int:
        """Number of a text in the columns; that of the empty one where there is no room."""
        number = self.texts.numbers.get(text)
        if number is None:
            number = self.texts.add(text, tick)
            if number is None:  # Full of texts of identities for which there was no room.
                return 0
            self._text_hashes[number] = hash(text) & _MASK
        return number

    def number(self, identity: Identity, tick: int) -> int:
        """Number of one identity; of `other` where there is no room. Cost: 1 us, of a new one some 5."""
        key = _fold_one(identity)
        number = self._table.find_one(key)
        if number is not None:
            return number
        other = self._find_other(identity.protocol_version, identity.manner >> _KIND_SHIFT << _KIND_SHIFT, tick)
        if len(self) >= IDENTITIES_LIMIT - _OTHERS_LIMIT:
            return other
        return self._fill_one(key, identity, other, tick, is_other=False)

    def number_all(self, identities: Identity, tick: int) -> NDArray[np.int64]:
        """Numbers of identities; of `other` where there is no room. Cost: some 0.1 us each."""
        keys = _fold(identities)
        numbers, missing = self._table.find(keys)
        if len(missing):
            distinct, firsts, inverse = number_values(keys[missing])
            new = Identity(*(column[missing[firsts]] for column in identities))
            numbers[missing] = self._add(distinct, new, tick)[inverse]
        return numbers

    @property
    def is_crowded(self) -> bool:
        """Worth sweeping."""
        return len(self) > IDENTITIES_LIMIT * SWEEP_RATIO

    def sweep(self, oldest_tick: int) -> NDArray[np.int64]:
        """As `Table.sweep`."""
        numbers = np.flatnonzero(self._is_living)
        excess_count = len(numbers) - int(IDENTITIES_LIMIT * KEPT_RATIO)
        used = self.used[numbers]
        last_tick = min(int(np.partition(used, excess_count - 1)[excess_count - 1]), oldest_tick - 1)
        gone: NDArray[np.int64] = numbers[(used <= last_tick) & (numbers != 0)]
        if len(gone):
            self._is_living[gone] = False
            self._free += gone.tolist()
            living = np.flatnonzero(self._is_living)
            self._table.clear()
            self._table.put(self._keys[living], living)
        self._forget_texts()
        return gone

    def mark_used(self, numbers: NDArray[Any], tick: int) -> None:
        """These are in use at this tick."""
        for _ in range(3):  # The identity, its `other`, and that one's.
            self.used[numbers] = tick
            numbers = self.columns.other[numbers]

    def _forget_texts(self) -> None:
        columns, living = self.columns, self._is_living
        is_used = np.zeros(self.texts.limit, np.bool_)
        is_used[0] = True
        for column in (columns.client_address, columns.client_workload, columns.protocol_version):
            is_used[column[living]] = True
        numbers = np.fromiter(self.texts.numbers.values(), np.int64, len(self.texts.numbers))
        self.texts.forget(numbers[~is_used[numbers]])

    def _add(self, keys: NDArray[np.uint64], new: Identity, tick: int) -> NDArray[np.int64]:
        others = self._find_others(new.protocol_version, new.manner, tick)
        room = max(0, IDENTITIES_LIMIT - _OTHERS_LIMIT - len(self))
        numbers = others.copy()
        if room:
            part = Identity(*(column[:room] for column in new))
            numbers[:room] = self._fill(keys[:room], part, others[:room], tick)
        return numbers

    def _find_others(self, versions: NDArray[Any], manners: NDArray[Any], tick: int) -> NDArray[np.int64]:
        """The identities of `other` of versions, kinds of calls and kinds of credentials. The principal's kind goes
        with the principal."""
        kinds = manners.astype(np.uint64) >> np.uint64(_KIND_SHIFT)
        distinct, _, place = number_values(versions.astype(np.uint64) << np.uint64(_VERSION_SHIFT) | kinds)
        numbers = [
            self._find_other(pair >> _VERSION_SHIFT, (pair & (1 << _VERSION_SHIFT) - 1) << _KIND_SHIFT, tick)
            for pair in distinct.tolist()
        ]
        return np.array(numbers, np.int64)[place]

    def _find_other(self, version: int, manner: int, tick: int) -> int:
        identity = Identity(0, 0, 0, 0, version, manner | 1 << _OTHER_SHIFT)
        key = _fold_one(identity)
        number = self._table.find_one(key)
        if number is not None:
            return number
        # Which kinds of credentials is lost, whether there were any, or nobody knows, is not.
        authentication = manner >> _AUTHENTICATION_SHIFT
        less = -1
        if authentication not in _LEAST:
            kind = manner >> _KIND_SHIFT & 0xFF
            reduced = int(AuthenticationKind.OTHER) << _AUTHENTICATION_SHIFT | kind << _KIND_SHIFT
            less = self._find_other(version, reduced, tick)
        if len(self) >= IDENTITIES_LIMIT:
            return max(less, 0)
        return self._fill_one(key, Identity(0, 0, 0, 0, version, manner), less, tick, is_other=True)

    def _fill_one(self, key: int, new: Identity, other: int, tick: int, *, is_other: bool) -> int:
        """The row of one that is not known, for which there is room. `other`: -1 for the row itself."""
        number = self._free.pop() if self._free else self._end
        self._end = max(self._end, number + 1)
        columns = self.columns
        columns.principal[number], columns.credential[number] = new.principal, new.credential
        columns.client_address[number], columns.client_workload[number] = new.client_address, new.client_workload
        columns.protocol_version[number] = new.protocol_version
        columns.authentication[number] = new.manner >> _AUTHENTICATION_SHIFT
        columns.kind[number] = new.manner >> _KIND_SHIFT & 0xFF
        columns.principal_kind[number] = new.manner & 0xFF
        columns.is_other[number] = is_other
        columns.other[number] = number if other < 0 else other
        columns.consumer[number] = self._name_consumer(new)
        self._keys[number], self.used[number], self._is_living[number] = key, tick, True
        self._table.put_one(key, number)
        return number

    def _fill(self, keys: NDArray[np.uint64], new: Identity, others: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
        """Rows of identities that are not known, for which there is room."""
        numbers = self._take_numbers(len(keys))
        columns = self.columns
        columns.principal[numbers], columns.credential[numbers] = new.principal, new.credential
        columns.client_address[numbers], columns.client_workload[numbers] = new.client_address, new.client_workload
        columns.protocol_version[numbers] = new.protocol_version
        columns.authentication[numbers] = new.manner >> np.uint64(_AUTHENTICATION_SHIFT)
        columns.kind[numbers] = (new.manner >> np.uint64(_KIND_SHIFT)).astype(np.uint8)
        columns.principal_kind[numbers] = new.manner.astype(np.uint8)
        columns.is_other[numbers] = False
        columns.other[numbers] = others
        columns.consumer[numbers] = self._name_consumers(new)
        self._keys[numbers], self.used[numbers], self._is_living[numbers] = keys, tick, True
        self._table.put(keys, numbers)
        return numbers

    def _take_numbers(self, count: int) -> NDArray[np.int64]:
        again_count = min(count, len(self._free))
        again = self._free[len(self._free) - again_count :]
        del self._free[len(self._free) - again_count :]
        end = self._end + count - again_count
        numbers = np.append(np.array(again, np.int64), np.arange(self._end, end))
        self._end = end
        return numbers

    def _name_consumers(self, new: Identity) -> NDArray[np.uint64]:
        """By the first column that says something, and which that is."""
        columns = {
            ConsumerColumn.PRINCIPAL: new.principal,
            ConsumerColumn.CREDENTIAL: new.credential,
            ConsumerColumn.CLIENT_ADDRESS: self._text_hashes[new.client_address],
            ConsumerColumn.CLIENT_WORKLOAD: self._text_hashes[new.client_workload],
        }
        consumers = np.zeros(len(new.principal), np.uint64)
        for place, name in enumerate(self._consumer_order, start=1):
            said = np.flatnonzero((consumers == 0) & (columns[name] != 0))
            consumers[said] = mix(np.full(len(said), mix_one(0, place), np.uint64), columns[name][said])
        return consumers

    def _name_consumer(self, new: Identity) -> int:
        """The same of one."""
        columns = {
            ConsumerColumn.PRINCIPAL: new.principal,
            ConsumerColumn.CREDENTIAL: new.credential,
            ConsumerColumn.CLIENT_ADDRESS: self._text_hashes.item(new.client_address),
            ConsumerColumn.CLIENT_WORKLOAD: self._text_hashes.item(new.client_workload),
        }
        for place, name in enumerate(self._consumer_order, start=1):
            if columns[name]:
                return mix_one(mix_one(0, place), columns[name])
        return 0


def _fold(identities: Identity) -> NDArray[np.uint64]:
    principals, credentials, addresses, workloads, versions, manners = (
        column.astype(np.uint64, copy=False) for column in identities
    )
    shift = np.uint64(32)
    # The first is mixed by itself: it may be equal to the second.
    key = mix(mix(np.zeros(len(principals), np.uint64), principals), credentials)
    return mix(mix(mix(key, addresses << shift | workloads), versions), manners)


def _fold_one(identity: Identity) -> int:
    """The same of one."""
    principal, credential, address, workload, version, manner = identity
    key = mix_one(mix_one(0, principal), credential)
    return mix_one(mix_one(mix_one(key, address << 32 | workload), version), manner)


def _make_columns() -> IdentityColumns:
    n = IDENTITIES_LIMIT
    return IdentityColumns(
        principal=np.zeros(n, np.uint64),
        credential=np.zeros(n, np.uint64),
        client_address=np.zeros(n, np.uint32),
        client_workload=np.zeros(n, np.uint32),
        protocol_version=np.zeros(n, np.uint32),
        authentication=np.zeros(n, np.uint32),
        principal_kind=np.zeros(n, np.uint8),
        kind=np.zeros(n, np.uint8),
        is_other=np.zeros(n, np.bool_),
        other=np.zeros(n, np.uint16),
        consumer=np.zeros(n, np.uint64),
    )
