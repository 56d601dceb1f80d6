"""Interning tables: routes, actors and media types as small numbers, so that calls can be summed as columns of them.

An **actor** is who called and how: an *identity* (the columns that tell rows apart) in the low 16 bits, the request's
media type with the client's software in the next 15, and whether the credential was truncated in the last; to everyone
but aggregation it is one opaque number. Looking something up gives its number, the same one each time.

**Life of a number.** The tables are bounded. What no open window holds and was not used for longest is forgotten, and
its number is given to something else; this happens in `sweep` only, which the aggregator calls at the beginning of a
poll. `generation` rises then: whoever keeps numbers must ask anew after that. When a table is full of things in use, an
actor becomes one of `other` (its calls count, its name is lost), a media type becomes the empty one, and a route
becomes `NO_ROUTE`, whose calls the aggregator counts as lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sensor.calls import AuthenticationKind, CallKind, PrincipalKind, Route
from sensor.config import ConsumerColumn
from sensor.identities import Identities, Identity, pack_manner
from sensor.interning import Table
from sensor.ragged import Ragged

NO_ROUTE: Final = 0
NO_MEDIA_TYPE: Final = 0
# Routes have 16 bits in the key of a row.
ROUTES_LIMIT: Final = 1 << 16
MEDIA_TYPES_LIMIT: Final = 1 << 14
# Sets of kinds of data: few, for an endpoint holds what it holds.
DATA_SETS_LIMIT: Final = 1 << 14
NO_DATA: Final = 0
_IDENTITY_BITS: Final = 16
_IDENTITY_MASK: Final = (1 << _IDENTITY_BITS) - 1
_MEDIA_TYPE_MASK: Final = (1 << 15) - 1
_TRUNCATED_SHIFT: Final = 31
_SOFTWARE: Final = "\n"  # Between a media type and software, as neither holds it.

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
    client_software: str = ""  # As of a CallRecord.

    def __repr__(self) -> str:
        return "ActorFacts(redacted)"


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
        self._routes: Table[int] = Table(NO_ROUTE, ROUTES_LIMIT)
        self._routes_known: list[Route | None] = [None]
        self.route_ids = np.zeros(ROUTES_LIMIT, np.uint64)  # By number.
        self._media_types: Table[str] = Table("", MEDIA_TYPES_LIMIT)
        self._identities = Identities(consumer_order)
        self._data_sets: dict[tuple[int, ...], int] = {(): NO_DATA}
        self._data_by_number: list[tuple[int, ...]] = [()]
        self.data_sets_lost = 0  # Calls of which is not told what was found: the sets are full.
        self.identities = self._identities.columns

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

    def request_type(self, media_type: str, software: str) -> int:
        """Number of a request's media type and the client's software; without the software where there is no room."""
        if not software:
            return self.media_type(media_type)
        text = f"{media_type}{_SOFTWARE}{software}"
        number = self._media_types.numbers.get(text)
        if number is None:
            plain = self.media_type(media_type)  # First, while there is room for one.
            number = self.media_type(text) or plain
        return number

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
        """Number of an actor. Cost: 2 us."""
        identity = Identity(
            actor.principal,
            actor.credential,
            self.text(actor.client_address),
            self.text(actor.client_workload),
            self.text(actor.protocol_version),
            pack_manner(actor.authentication, actor.kind, actor.principal_kind),
        )
        number = self._identities.number(identity, self._tick)
        media_type = self.request_type(actor.request_content_type, actor.client_software)
        return number | media_type << _IDENTITY_BITS | actor.is_credential_truncated << _TRUNCATED_SHIFT

    def actors(self, identities: Identity, media_types: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of many actors whose credentials are whole; their texts are numbers of `text`, and `media_types` of
        `request_type`."""
        return self._identities.number_all(identities, self._tick) | media_types << _IDENTITY_BITS

    def text(self, text: str) -> int:
        """Number of a text of identities."""
        return self._identities.number_text(text, self._tick)

    def find_route(self, number: int) -> Route:
        """The route of a number that `route` gave. Raises LookupError for `NO_ROUTE`."""
        route = self._routes_known[number]
        if route is None:
            raise LookupError(f"route {number} stands for no route")
        return route

    def find_media_type(self, number: int) -> str:
        """The media type of a number that `media_type` or `request_type` gave."""
        return self._media_types.keys[number].partition(_SOFTWARE)[0]

    def find_software(self, number: int) -> str:
        """The software of a number that `request_type` gave; empty of others."""
        return self._media_types.keys[number].partition(_SOFTWARE)[2]

    def find_texts(self, numbers: list[int]) -> list[str]:
        """Texts of numbers in the columns of identities: different ones of different numbers, the empty one of 0."""
        texts = self._identities.texts.keys
        return [texts[number] for number in numbers]

    def find_actor(self, number: int) -> ActorFacts:
        """The actor of a number that `actor` gave; of one of `other`, with its name lost."""
        identity, columns, texts = number & _IDENTITY_MASK, self.identities, self._identities.texts.keys
        return ActorFacts(
            int(columns.principal[identity]),
            PrincipalKind(columns.principal_kind[identity]),
            int(columns.credential[identity]),
            bool(number >> _TRUNCATED_SHIFT),
            texts[columns.client_address[identity]],
            texts[columns.client_workload[identity]],
            AuthenticationKind(int(columns.authentication[identity])),
            texts[columns.protocol_version[identity]],
            self.find_media_type(number >> _IDENTITY_BITS & _MEDIA_TYPE_MASK),
            CallKind(columns.kind[identity]),
            self.find_software(number >> _IDENTITY_BITS & _MEDIA_TYPE_MASK),
        )

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
        tables: tuple[Table[Any] | Identities, ...] = (self._routes, self._identities, self._media_types)
        nothing = np.empty(0, np.int64)
        routes, identities, media_types = (
            table.sweep(oldest_tick) if table.is_crowded else nothing for table in tables
        )
        if len(routes) or len(identities) or len(media_types):
            self.generation += 1
        return Freed(routes=routes, identities=identities)


def get_identities(actors: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Identities of actors."""
    return actors.astype(np.uint16)  # The low 16 bits.


def get_media_types(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Media types of actors' requests."""
    return actors >> np.uint32(_IDENTITY_BITS) & np.uint32(_MEDIA_TYPE_MASK)


def get_truncated(actors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """1 where the credential was truncated."""
    return actors >> np.uint32(_TRUNCATED_SHIFT)
