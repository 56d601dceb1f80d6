"""Interning tables: routes, actors and media types as small numbers, so that calls can be summed as columns of them.

An **actor** is who called and how: an *identity* (the columns that tell rows apart) in the low 16 bits, the request's
media type in the next 15, and whether the credential was truncated in the last; to everyone but aggregation it is one
opaque number. Looking something up gives its number, the same one each time.

**Life of a number.** The tables are bounded. What no open window holds and was not used for longest is forgotten, and
its number is given to something else; this happens in `sweep` only, which the aggregator calls at the beginning of a
poll. `generation` rises then: whoever keeps numbers must ask anew after that. When a table is full of things in use, an
actor becomes one of `other` (its calls count, its name is lost), a media type becomes the empty one, and a route
becomes `NO_ROUTE`, whose calls the aggregator counts as lost.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sensor.calls import AuthenticationKind, CallKind, PrincipalKind, Route
from sensor.config import ConsumerColumn
from sensor.ragged import Ragged

NO_ROUTE: Final = 0
NO_MEDIA_TYPE: Final = 0
# Routes and identities have 16 bits in the key of a row. An identity takes some 400 bytes: 26 MB at most, under a flood
# of clients that all differ.
ROUTES_LIMIT: Final = 1 << 16
IDENTITIES_LIMIT: Final = 1 << 16
MEDIA_TYPES_LIMIT: Final = 1 << 14
# Identities kept free for those of `other`: combinations of authentication kinds, version and kind of call.
_OTHERS_LIMIT: Final = 1 << 11
# A table is swept when so much of it is taken, and then down to half. 50,000 consumers stay below it: whoever keeps
# numbers asks for all of them anew after a sweep. What is free above takes the 10,000 that may be new in a second.
_SWEEP_RATIO: Final = 0.8
_KEPT_RATIO: Final = 0.5
# What `other` keeps of credentials at least.
_LEAST: Final = (int(AuthenticationKind.NONE), int(AuthenticationKind.UNKNOWN), int(AuthenticationKind.OTHER))
# Sets of kinds of data: few, for an endpoint holds what it holds.
DATA_SETS_LIMIT: Final = 1 << 14
NO_DATA: Final = 0
_MASK: Final = (1 << 64) - 1
_IDENTITY_BITS: Final = 16
_IDENTITY_MASK: Final = (1 << _IDENTITY_BITS) - 1
_MEDIA_TYPE_MASK: Final = (1 << 15) - 1
_TRUNCATED_SHIFT: Final = 31

DEFAULT_CONSUMER_ORDER: Final = tuple(ConsumerColumn)


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

    def __repr__(self) -> str:
        return "ActorFacts(redacted)"


# (principal, credential, client address, client workload, version, packed, is other); packed is authentication << 16 |
# kind << 8 | principal kind.
_Identity = tuple[int, int, str, str, str, int, bool]
_NOBODY: Final[_Identity] = (0, 0, "", "", "", 0, True)
_COLUMN_PLACES: Final = {
    ConsumerColumn.PRINCIPAL: 0,
    ConsumerColumn.CREDENTIAL: 1,
    ConsumerColumn.CLIENT_ADDRESS: 2,
    ConsumerColumn.CLIENT_WORKLOAD: 3,
}

_Key = TypeVar("_Key", bound=Hashable)


class Table(Generic[_Key]):
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
        return len(self.numbers) > self.limit * _SWEEP_RATIO

    def sweep(self, oldest_tick: int) -> NDArray[np.int64]:
        """Forget what was last used before `oldest_tick`, longest unused first, down to half; gives the numbers."""
        excess_count = len(self.numbers) - int(self.limit * _KEPT_RATIO)
        numbers = np.fromiter(self.numbers.values(), np.int64, len(self.numbers))
        used = self.used[numbers]
        last_tick = min(int(np.partition(used, excess_count - 1)[excess_count - 1]), oldest_tick - 1)
        return self.forget(numbers[(used <= last_tick) & (numbers != 0)])

    def forget(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Free these numbers."""
        for number in numbers.tolist():
            del self.numbers[self.keys[number]]
            self._free.append(number)
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityColumns:
    """What identities are made of, by number; the texts are numbers of `Facts.texts`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """Numbers that stand for nothing now."""

    routes: NDArray[np.int64]
    identities: NDArray[np.int64]


class Facts:
    """The tables of one aggregator. Not thread-safe."""

    def __init__(self, consumer_order: Iterable[ConsumerColumn] = DEFAULT_CONSUMER_ORDER) -> None:
        """The consumer is the first column of the order that is known."""
        self.generation = 0
        self._tick = 0
        self._consumer_places = tuple(_COLUMN_PLACES[column] for column in consumer_order)
        self._routes: Table[int] = Table(NO_ROUTE, ROUTES_LIMIT)
        self._routes_known: list[Route | None] = [None]
        self.route_ids = np.zeros(ROUTES_LIMIT, np.uint64)  # By number.
        self._media_types: Table[str] = Table("", MEDIA_TYPES_LIMIT)
        self._identities: Table[_Identity] = Table(_NOBODY, IDENTITIES_LIMIT)
        self._texts: Table[str] = Table("", 3 * IDENTITIES_LIMIT + 1)
        self._data_sets: dict[tuple[int, ...], int] = {(): NO_DATA}
        self._data_by_number: list[tuple[int, ...]] = [()]
        self.data_sets_lost = 0  # Calls of which is not told what was found: the sets are full.
        self.identities = _make_columns()
        self.identities.is_other[0] = True

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

    def data(self, codes: tuple[int, ...]) -> int:
        """Number of what was found where (codes of sensor.classify.sensitive.kinds, ascending). Never forgotten."""
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
        """Number of an actor. Cost: 1 us."""
        key = (
            actor.principal,
            actor.credential,
            actor.client_address,
            actor.client_workload,
            actor.protocol_version,
            # Integers on purpose: hashing an enum's member is a call into Python.
            actor.authentication << 16 | actor.kind << 8 | actor.principal_kind,
            False,
        )
        identity = self._identities.numbers.get(key)
        if identity is None:
            identity = self._add_identity(key)
        media_type = self.media_type(actor.request_content_type)
        return identity | media_type << _IDENTITY_BITS | actor.is_credential_truncated << _TRUNCATED_SHIFT

    def find_route(self, number: int) -> Route:
        """The route of a number that `route` gave. Raises LookupError for `NO_ROUTE`."""
        route = self._routes_known[number]
        if route is None:
            raise LookupError(f"route {number} stands for no route")
        return route

    def find_media_type(self, number: int) -> str:
        """The media type of a number that `media_type` gave."""
        return self._media_types.keys[number]

    def find_texts(self, numbers: list[int]) -> list[str]:
        """Texts of numbers in the columns of identities: different ones of different numbers, the empty one of 0."""
        texts = self._texts.keys
        return [texts[number] for number in numbers]

    def find_actor(self, number: int) -> ActorFacts:
        """The actor of a number that `actor` gave; of one of `other`, with its name lost."""
        key = self._identities.keys[number & _IDENTITY_MASK]
        principal, credential, client_address, client_workload, protocol_version, packed, _ = key
        return ActorFacts(
            principal,
            PrincipalKind(packed & 0xFF),
            credential,
            bool(number >> _TRUNCATED_SHIFT),
            client_address,
            client_workload,
            AuthenticationKind(packed >> 16),
            protocol_version,
            self.find_media_type(number >> _IDENTITY_BITS & _MEDIA_TYPE_MASK),
            CallKind(packed >> 8 & 0xFF),
        )

    def begin_tick(self) -> int:
        """A new tick, of what is used from now on."""
        self._tick += 1
        return self._tick

    def mark_used(self, routes: NDArray[Any], identities: NDArray[Any], *media_types: NDArray[Any]) -> None:
        """These are in use at this tick."""
        self._routes.used[routes] = self._tick
        for _ in range(3):  # The identity, its `other`, and that one's.
            self._identities.used[identities] = self._tick
            identities = self.identities.other[identities]
        for numbers in media_types:
            self._media_types.used[numbers] = self._tick

    @property
    def is_crowded(self) -> bool:
        """Whether `sweep` would be worth its while."""
        return self._routes.is_crowded or self._identities.is_crowded or self._media_types.is_crowded

    def sweep(self, oldest_tick: int) -> Freed:
        """Forget what was not used since `oldest_tick`, as far as the tables are crowded."""
        tables: tuple[Table[Any], ...] = (self._routes, self._identities, self._media_types)
        nothing = np.empty(0, np.int64)
        routes, identities, media_types = (
            table.sweep(oldest_tick) if table.is_crowded else nothing for table in tables
        )
        if len(identities):
            self._forget_texts()
        if len(routes) or len(identities) or len(media_types):
            self.generation += 1
        return Freed(routes=routes, identities=identities)

    def _forget_texts(self) -> None:
        columns = self.identities
        living = np.fromiter(self._identities.numbers.values(), np.int64, len(self._identities.numbers))
        is_used = np.zeros(self._texts.limit, np.bool_)
        is_used[0] = True
        for column in (columns.client_address, columns.client_workload, columns.protocol_version):
            is_used[column[living]] = True
        numbers = np.fromiter(self._texts.numbers.values(), np.int64, len(self._texts.numbers))
        self._texts.forget(numbers[~is_used[numbers]])

    def _add_identity(self, key: _Identity) -> int:
        other = self._find_other(key[4], key[5] >> 8 & 0xFF, key[5] >> 16)
        if len(self._identities.numbers) >= IDENTITIES_LIMIT - _OTHERS_LIMIT:
            return other
        number = self._identities.add(key, self._tick)
        if number is None:
            return other
        self._fill_identity(number, key, other)
        return number

    def _find_other(self, protocol_version: str, kind: int, authentication: int) -> int:
        """The identity of `other` of a version, a kind of call and kinds of credentials."""
        key = (0, 0, "", "", protocol_version, authentication << 16 | kind << 8, True)
        number = self._identities.numbers.get(key)
        if number is None:
            # Which kinds of credentials is lost, whether there were any, or nobody knows, is not.
            reduced = authentication if authentication in _LEAST else int(AuthenticationKind.OTHER)
            less = self._find_other(protocol_version, kind, reduced) if authentication != reduced else None
            number = self._identities.add(key, self._tick)
            if number is None:
                return less or 0
            self._fill_identity(number, key, number if less is None else less)
        return number

    def _fill_identity(self, number: int, key: _Identity, other: int) -> None:
        columns = self.identities
        columns.principal[number], columns.credential[number] = key[0], key[1]
        columns.client_address[number] = self._number_text(key[2])
        columns.client_workload[number] = self._number_text(key[3])
        columns.protocol_version[number] = self._number_text(key[4])
        columns.authentication[number], columns.principal_kind[number] = key[5] >> 16, key[5] & 0xFF
        columns.kind[number] = key[5] >> 8 & 0xFF
        columns.is_other[number], columns.other[number] = key[6], other
        columns.consumer[number] = self._name_consumer(key)

    def _number_text(self, text: str) -> int:
        number = self._texts.numbers.get(text)
        if number is None:
            number = self._texts.add(text, self._tick)
        # There is room: three texts an identity.
        return number or 0

    def _name_consumer(self, key: _Identity) -> int:
        for place in self._consumer_places:
            if key[place]:
                return hash((place, key[place])) & _MASK
        return 0


def get_identities(actors: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Identities of actors."""
    return actors.astype(np.uint16)  # The low 16 bits.


def get_media_types(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Media types of actors' requests."""
    return actors >> np.uint32(_IDENTITY_BITS) & np.uint32(_MEDIA_TYPE_MASK)


def get_truncated(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """1 where the credential was truncated."""
    return actors >> np.uint32(_TRUNCATED_SHIFT)


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
