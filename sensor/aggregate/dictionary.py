"""Dictionary encoding: routes, actors and media types as small numbers, so that calls are summed as columns.

An **actor** is who called and how. Its low 16 bits are an *identity*, the columns that keep rows apart. The next 15 are
the request's media type with the client's software and the carriers of credentials, the last one whether the credential
was truncated. Outside aggregation an actor is one opaque number. Two identities differ by 64 bits into which their
columns are folded. So an identity takes 70 bytes, and a cohort of new ones costs a few numpy passes.

**Life of a number.** The tables are bounded. Entries that no open window holds and that were unused for longest are
forgotten, and their numbers are given to others. That happens in `sweep` only, which the aggregator calls at the
beginning of a poll. `generation` rises then, and whoever keeps numbers must ask again.

When a table is full of entries in use, an actor becomes one of `other` (its calls count, its name is lost). A media
type becomes the empty one. A route becomes `NO_ROUTE`, whose calls the aggregator counts as lost.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from sensor.core.arrays import KeyTable, Ragged, mix, mix_one, number_values
from sensor.core.calls import AuthenticationKind, CallKind, PrincipalKind, Route

# A table is swept when so much of it is taken, and then down to half. 50,000 consumers stay below it: whoever keeps
# numbers asks for all of them anew after a sweep. What is free above takes the 10,000 that may be new in a second.
SWEEP_RATIO: Final = 0.8
KEPT_RATIO: Final = 0.5

_Key = TypeVar("_Key", bound=Hashable)


class NumberTable(Generic[_Key]):
    """Keys to numbers 0 .. limit - 1 and back; number 0 is that of the first key, for ever."""

    def __init__(self, first: _Key, limit: int) -> None:
        self.keys: list[_Key] = [first]
        self.limit = limit
        self.numbers: dict[_Key, int] = {first: 0}
        self.used = np.zeros(limit, np.int64)  # Tick of the last use, by number.
        self._free: list[int] = []

    def add(self, key: _Key, tick: int) -> int | None:
        """A number for a key that has none, or None when all are taken."""
        if self._free:
            number = self._free.pop()
            self.keys[number] = key
        elif len(self.keys) < self.limit:
            number = len(self.keys)
            self.keys.append(key)
        else:
            return None
        self.numbers[key] = number
        self.used[number] = tick
        return number

    @property
    def is_crowded(self) -> bool:
        """Worth sweeping."""
        return len(self.numbers) > self.limit * SWEEP_RATIO

    def sweep(self, oldest_tick: int) -> NDArray[np.int64]:
        """Forget what was last used before `oldest_tick`, longest unused first, down to half; gives the numbers."""
        excess_count = len(self.numbers) - int(self.limit * KEPT_RATIO)
        numbers = np.fromiter(self.numbers.values(), np.int64, len(self.numbers))
        used = self.used[numbers]
        last_tick = min(int(np.partition(used, excess_count - 1)[excess_count - 1]), oldest_tick - 1)
        return self.forget(numbers[(used <= last_tick) & (numbers != 0)])

    def forget(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        for number in numbers.tolist():
            del self.numbers[self.keys[number]]
            self._free.append(number)
        return numbers


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


class IdentityRow(NamedTuple):
    """One row; of a batch, arrays of equal lengths. Texts are numbers of `Identities.texts`; see `pack_manner`."""

    principal: Any
    credential: Any
    client_address: Any
    client_workload: Any
    protocol_version: Any
    manner: Any


def pack_manner(authentication: AuthenticationKind, kind: CallKind, principal_kind: PrincipalKind) -> int:
    return authentication << _AUTHENTICATION_SHIFT | kind << _KIND_SHIFT | principal_kind


class Identities:
    """The table. Not thread-safe."""

    def __init__(self) -> None:
        self._consumer_order = CONSUMER_ORDER
        self.columns = _make_columns()
        self.texts: NumberTable[str] = NumberTable("", 3 * IDENTITIES_LIMIT + 1)
        self._text_hashes = np.zeros(self.texts.limit, np.uint64)
        self.used = np.zeros(IDENTITIES_LIMIT, np.int64)  # Tick of the last use, by number.
        self._keys = np.zeros(IDENTITIES_LIMIT, np.uint64)
        self._is_living = np.zeros(IDENTITIES_LIMIT, np.bool_)
        self._table = KeyTable()
        self._free: list[int] = []
        self._end = 0  # Numbers given so far.
        self._find_other(0, 0, tick=0)  # Number 0 is nobody, for ever.

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """The consumer of each identity, known ones included, is the first column of this order that is known."""
        if order == self._consumer_order:
            return
        self._consumer_order = order
        columns, living = self.columns, np.flatnonzero(self._is_living)
        none = np.zeros(len(living), np.uint64)
        columns.consumer[living] = self._name_consumers(
            IdentityRow(
                columns.principal[living],
                columns.credential[living],
                columns.client_address[living],
                columns.client_workload[living],
                none,
                none,
            )
        )

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

    def number(self, identity: IdentityRow, tick: int) -> int:
        """Number of one identity; of `other` where there is no room. Cost: 1 us, of a new one some 5."""
        key = _fold_one(identity)
        number = self._table.find_one(key)
        if number is not None:
            return number
        other = self._find_other(identity.protocol_version, identity.manner >> _KIND_SHIFT << _KIND_SHIFT, tick)
        if len(self) >= IDENTITIES_LIMIT - _OTHERS_LIMIT:
            return other
        return self._fill_one(key, identity, other, tick, is_other=False)

    def number_all(self, identities: IdentityRow, tick: int) -> NDArray[np.int64]:
        """Numbers of identities; of `other` where there is no room. Cost: some 0.1 us each."""
        keys = _fold(identities)
        numbers, missing = self._table.find(keys)
        if len(missing):
            distinct, firsts, inverse = number_values(keys[missing])
            new = IdentityRow(*(column[missing[firsts]] for column in identities))
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

    def _add(self, keys: NDArray[np.uint64], new: IdentityRow, tick: int) -> NDArray[np.int64]:
        others = self._find_others(new.protocol_version, new.manner, tick)
        room = max(0, IDENTITIES_LIMIT - _OTHERS_LIMIT - len(self))
        numbers = others.copy()
        if room:
            part = IdentityRow(*(column[:room] for column in new))
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
        identity = IdentityRow(0, 0, 0, 0, version, manner | 1 << _OTHER_SHIFT)
        key = _fold_one(identity)
        number = self._table.find_one(key)
        if number is not None:
            return number
        # Which kinds of credentials is lost, whether there were any, or nobody knows, is not.
        authentication = manner >> _AUTHENTICATION_SHIFT
        less = -1
        if authentication not in _LEAST:
            kind = manner >> _KIND_SHIFT & 0xFF
            is_possible = authentication == AuthenticationKind.POSSIBLE_CREDENTIAL
            least = int(AuthenticationKind.NONE if is_possible else AuthenticationKind.OTHER)
            reduced = least << _AUTHENTICATION_SHIFT | kind << _KIND_SHIFT
            less = self._find_other(version, reduced, tick)
        if len(self) >= IDENTITIES_LIMIT:
            return max(less, 0)
        return self._fill_one(key, IdentityRow(0, 0, 0, 0, version, manner), less, tick, is_other=True)

    def _fill_one(self, key: int, new: IdentityRow, other: int, tick: int, *, is_other: bool) -> int:
        """The row of one that is not known, for which there is room. `other`: -1 for the row itself."""
        number = self._free.pop() if self._free else self._end
        self._end = max(self._end, number + 1)
        self._write(number, key, new, number if other < 0 else other, self._name_consumer(new), tick)
        self.columns.is_other[number] = is_other
        self._table.put_one(key, number)
        return number

    def _fill(
        self, keys: NDArray[np.uint64], new: IdentityRow, others: NDArray[np.int64], tick: int
    ) -> NDArray[np.int64]:
        """Rows of identities that are not known, for which there is room."""
        numbers = self._take_numbers(len(keys))
        self._write(numbers, keys, new, others, self._name_consumers(new), tick)
        self.columns.is_other[numbers] = False
        self._table.put(keys, numbers)
        return numbers

    def _write(self, numbers: Any, keys: Any, new: IdentityRow, others: Any, consumers: Any, tick: int) -> None:
        """The rows of one number, or of an array of them."""
        columns = self.columns
        columns.principal[numbers], columns.credential[numbers] = new.principal, new.credential
        columns.client_address[numbers], columns.client_workload[numbers] = new.client_address, new.client_workload
        columns.protocol_version[numbers] = new.protocol_version
        columns.authentication[numbers] = new.manner >> _AUTHENTICATION_SHIFT
        columns.kind[numbers] = new.manner >> _KIND_SHIFT & 0xFF
        columns.principal_kind[numbers] = new.manner & 0xFF
        columns.other[numbers], columns.consumer[numbers] = others, consumers
        self._keys[numbers], self.used[numbers], self._is_living[numbers] = keys, tick, True

    def _take_numbers(self, count: int) -> NDArray[np.int64]:
        again_count = min(count, len(self._free))
        again = self._free[len(self._free) - again_count :]
        del self._free[len(self._free) - again_count :]
        end = self._end + count - again_count
        numbers = np.append(np.array(again, np.int64), np.arange(self._end, end))
        self._end = end
        return numbers

    def _name_consumers(self, new: IdentityRow) -> NDArray[np.uint64]:
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

    def _name_consumer(self, new: IdentityRow) -> int:
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


def _fold(identities: IdentityRow) -> NDArray[np.uint64]:
    principals, credentials, addresses, workloads, versions, manners = (
        column.astype(np.uint64, copy=False) for column in identities
    )
    shift = np.uint64(32)
    # The first is mixed by itself: it may be equal to the second.
    key = mix(mix(np.zeros(len(principals), np.uint64), principals), credentials)
    return mix(mix(mix(key, addresses << shift | workloads), versions), manners)


def _fold_one(identity: IdentityRow) -> int:
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


NO_ROUTE: Final = 0
NO_MEDIA_TYPE: Final = 0
# Routes have 16 bits in the key of a row.
ROUTES_LIMIT: Final = 1 << 16
MEDIA_TYPES_LIMIT: Final = 1 << 14
# Sets of kinds of data: few, for an endpoint holds what it holds.
DATA_SETS_LIMIT: Final = 1 << 14
NO_DATA: Final = 0
_IDENTITY_BITS: Final = 16
_MEDIA_TYPE_MASK: Final = (1 << 15) - 1
_TRUNCATED_SHIFT: Final = 31
_MARK: Final = "\n"  # Between a media type, software and carriers, as none of them holds it.


class ActorFacts(msgspec.Struct, frozen=True):
    """Who called, and what their requests say of themselves."""

    principal: int  # Keyed hash; 0 = none.
    principal_kind: PrincipalKind
    credential: int  # Keyed hash of the whole credential; 0 = none or truncated.
    is_credential_truncated: bool
    client_address: str  # Textual IP, through trusted hops only.
    client_workload: str  # Of a client on this node; else empty.
    authentication: AuthenticationKind
    protocol_version: str  # `1.0` or `1.1`.
    request_content_type: str  # Media type, lower case, no parameters.
    kind: CallKind = CallKind.HTTP
    client_software: str = ""  # As of a CallRecord.
    carriers: str = ""  # As of Credentials.

    def __repr__(self) -> str:
        return "ActorFacts(redacted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """Numbers that stand for nothing now."""

    routes: NDArray[np.int64]
    identities: NDArray[np.int64]


class Facts:
    """The tables of one aggregator. Not thread-safe."""

    def __init__(self) -> None:
        self.generation = 0
        self._tick = 0
        self._routes: NumberTable[int] = NumberTable(NO_ROUTE, ROUTES_LIMIT)
        self._routes_known: list[Route | None] = [None]
        self.route_ids = np.zeros(ROUTES_LIMIT, np.uint64)  # By number.
        self._media_types: NumberTable[str] = NumberTable("", MEDIA_TYPES_LIMIT)
        self._identities = Identities()
        self._data_sets: dict[tuple[int, ...], int] = {(): NO_DATA}
        self._data_by_number: list[tuple[int, ...]] = [()]
        self.data_sets_lost = 0  # Calls of which is not told what was found: the sets are full.
        self.identities = self._identities.columns

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """As that of the identities."""
        self._identities.set_consumer_order(order)

    def route(self, route: Route) -> int:
        """Number of a route, or `NO_ROUTE` when there is no room. Cost: 0.1 us."""
        number = self._routes.numbers.get(route.route_id)
        if number is None:
            number = self._routes.add(route.route_id, self._tick)
            if number is None:
                return NO_ROUTE
            if number == len(self._routes_known):
                self._routes_known.append(route)
            else:
                self._routes_known[number] = route
            self.route_ids[number] = route.route_id
        elif self._routes_known[number] is not route:
            self._routes_known[number] = route  # Words of it were revealed.
        return number

    def media_type(self, text: str) -> int:
        """Number of a media type."""
        number = self._media_types.numbers.get(text)
        if number is None:
            number = self._media_types.add(text, self._tick)
        return NO_MEDIA_TYPE if number is None else number

    def request_type(self, media_type: str, software: str, carriers: str = "") -> int:
        """Number of a request's media type, the client's software and the carriers of credentials; of the media type
        alone where there is no room."""
        if not software and not carriers:
            return self.media_type(media_type)
        text = f"{media_type}{_MARK}{software}{_MARK}{carriers}"
        number = self._media_types.numbers.get(text)
        if number is None:
            plain = self.media_type(media_type)  # First, while there is room for one.
            number = self.media_type(text) or plain
        return number

    def data(self, codes: tuple[int, ...]) -> int:
        """Number of what was found where (codes of sensor.sensitive.kinds, ascending). Never forgotten."""
        number = self._data_sets.get(codes)
        if number is None:
            number = len(self._data_by_number)
            if number >= DATA_SETS_LIMIT:
                self.data_sets_lost += 1
                return NO_DATA
            self._data_sets[codes] = number
            self._data_by_number.append(codes)
        return number

    def find_data(self, numbers: NDArray[Any]) -> Ragged:
        """The codes of numbers that `data` gave, row by row."""
        sets = [self._data_by_number[number] for number in numbers.tolist()]
        lengths = np.array([len(one) for one in sets], np.int32)
        return Ragged(lengths, np.array([code for one in sets for code in one], np.uint16))

    def actor(self, actor: ActorFacts) -> int:
        identity = IdentityRow(
            actor.principal,
            actor.credential,
            self.text(actor.client_address),
            self.text(actor.client_workload),
            self.text(actor.protocol_version),
            pack_manner(actor.authentication, actor.kind, actor.principal_kind),
        )
        number = self._identities.number(identity, self._tick)
        media_type = self.request_type(actor.request_content_type, actor.client_software, actor.carriers)
        return number | media_type << _IDENTITY_BITS | actor.is_credential_truncated << _TRUNCATED_SHIFT

    def actors(self, identities: IdentityRow, media_types: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of many actors whose credentials are whole; their texts are numbers of `text`, and `media_types` of
        `request_type`."""
        return self._identities.number_all(identities, self._tick) | media_types << _IDENTITY_BITS

    def text(self, text: str) -> int:
        return self._identities.number_text(text, self._tick)

    def find_route(self, number: int) -> Route:
        """The route of a number that `route` gave. Raises LookupError for `NO_ROUTE`."""
        route = self._routes_known[number]
        if route is None:
            raise LookupError(f"route {number} stands for no route")
        return route

    def find_media_type(self, number: int) -> str:
        """The media type of a number that `media_type` or `request_type` gave."""
        return self._media_types.keys[number].partition(_MARK)[0]

    def find_software(self, number: int) -> str:
        """The software of a number that `request_type` gave; empty of others."""
        return self._media_types.keys[number].partition(_MARK)[2].partition(_MARK)[0]

    def find_carriers(self, number: int) -> str:
        """The carriers of a number that `request_type` gave; empty of others."""
        return self._media_types.keys[number].partition(_MARK)[2].partition(_MARK)[2]

    def find_texts(self, numbers: list[int]) -> list[str]:
        """Texts of numbers in the columns of identities: different ones of different numbers, the empty one of 0."""
        texts = self._identities.texts.keys
        return [texts[number] for number in numbers]

    def begin_tick(self) -> int:
        """A new tick, of what is used from now on."""
        self._tick += 1
        return self._tick

    def mark_used(self, routes: NDArray[Any], identities: NDArray[Any], *media_types: NDArray[Any]) -> None:
        """These are in use at this tick."""
        self._routes.used[routes] = self._tick
        self._identities.mark_used(identities, self._tick)
        for numbers in media_types:
            self._media_types.used[numbers] = self._tick

    @property
    def is_crowded(self) -> bool:
        """Whether `sweep` would be worth its while."""
        return self._routes.is_crowded or self._identities.is_crowded or self._media_types.is_crowded

    def sweep(self, oldest_tick: int) -> Freed:
        """Forget what was not used since `oldest_tick`, as far as the tables are crowded."""
        tables: tuple[NumberTable[Any] | Identities, ...] = (self._routes, self._identities, self._media_types)
        nothing = np.empty(0, np.int64)
        routes, identities, media_types = (
            table.sweep(oldest_tick) if table.is_crowded else nothing for table in tables
        )
        if len(routes) or len(identities) or len(media_types):
            self.generation += 1
        return Freed(routes=routes, identities=identities)


def get_identities(actors: NDArray[np.uint32]) -> NDArray[np.uint16]:
    return actors.astype(np.uint16)  # The low 16 bits.


def get_media_types(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return actors >> np.uint32(_IDENTITY_BITS) & np.uint32(_MEDIA_TYPE_MASK)


def get_truncated(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """1 where the credential was truncated."""
    return actors >> np.uint32(_TRUNCATED_SHIFT)
