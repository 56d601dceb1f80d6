"""Reads what an endpoint's bodies hold: a row of `collector.inventory.endpoints.metrics` in, kinds of data and records
out.

Only bodies of few calls are read (docs/internals/bodies.md). So a kind has the calls that carried it, and of how many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class DataClass(StrEnum):
    """Why a kind of data is sensitive."""

    IDENTITY = "identity"
    CONTACT = "contact"
    FINANCIAL = "financial"
    HEALTH = "health"
    SECRET = "secret"
    TECHNICAL = "technical"
    CUSTOM = "custom"


# Of a person: what the law protects.
PERSONAL: Final = frozenset({DataClass.IDENTITY, DataClass.CONTACT, DataClass.FINANCIAL, DataClass.HEALTH})


PERSONAL_DATA: Final = "personal"  # In filters: every kind of these classes.
ANY_DATA: Final = "any"


class BodySide(StrEnum):
    """Where in a call it was found."""

    REQUEST = "request"  # The body.
    RESPONSE = "response"
    PATH = "path"
    QUERY = "query"
    HEADER = "header"  # Of the request, beside credentials.


class RecordsBasis(StrEnum):
    """How the number of records is known."""

    MEASURED = "measured"  # All were counted in bodies.
    ESTIMATED = "estimated"  # Some or all follow from the sizes of responses.


# By the wire's DataKind, from 1 on.
_KINDS: Final = (
    ("email", DataClass.CONTACT),
    ("phone", DataClass.CONTACT),
    ("person_name", DataClass.IDENTITY),
    ("address", DataClass.CONTACT),
    ("date_of_birth", DataClass.IDENTITY),
    ("ssn", DataClass.IDENTITY),
    ("aadhaar", DataClass.IDENTITY),
    ("cpf", DataClass.IDENTITY),
    ("iban", DataClass.FINANCIAL),
    ("credit_card", DataClass.FINANCIAL),
    ("ip_address", DataClass.TECHNICAL),
    ("password", DataClass.SECRET),
    ("jwt", DataClass.SECRET),
    ("private_key", DataClass.SECRET),
    ("aws_key", DataClass.SECRET),
    ("google_api_key", DataClass.SECRET),
    ("github_token", DataClass.SECRET),
    ("slack_token", DataClass.SECRET),
    ("stripe_key", DataClass.SECRET),
    ("passport", DataClass.IDENTITY),
    ("driver_license", DataClass.IDENTITY),
    ("national_id", DataClass.IDENTITY),
    ("tax_id", DataClass.IDENTITY),
    ("nino", DataClass.IDENTITY),
    ("sin", DataClass.IDENTITY),
    ("nir", DataClass.IDENTITY),
    ("dni", DataClass.IDENTITY),
    ("codice_fiscale", DataClass.IDENTITY),
    ("steuer_id", DataClass.IDENTITY),
    ("bsn", DataClass.IDENTITY),
    ("pesel", DataClass.IDENTITY),
    ("personnummer", DataClass.IDENTITY),
    ("hetu", DataClass.IDENTITY),
    ("resident_id", DataClass.IDENTITY),
    ("curp", DataClass.IDENTITY),
    ("pan", DataClass.IDENTITY),
    ("rrn", DataClass.IDENTITY),
    ("gender", DataClass.IDENTITY),
    ("nationality", DataClass.IDENTITY),
    ("location", DataClass.CONTACT),
    ("card_security_code", DataClass.FINANCIAL),
    ("bank_account", DataClass.FINANCIAL),
    ("bic", DataClass.FINANCIAL),
    ("routing_number", DataClass.FINANCIAL),
    ("salary", DataClass.FINANCIAL),
    ("crypto_address", DataClass.FINANCIAL),
    ("medical_record", DataClass.HEALTH),
    ("diagnosis", DataClass.HEALTH),
    ("medication", DataClass.HEALTH),
    ("blood_type", DataClass.HEALTH),
    ("health_insurance", DataClass.HEALTH),
    ("nhs_number", DataClass.HEALTH),
    ("api_key", DataClass.SECRET),
    ("gitlab_token", DataClass.SECRET),
    ("connection_string", DataClass.SECRET),
    ("access_token", DataClass.SECRET),
    ("mac_address", DataClass.TECHNICAL),
    ("stack_trace", DataClass.TECHNICAL),
    ("database_error", DataClass.TECHNICAL),
    ("custom_1", DataClass.CUSTOM),
    ("custom_2", DataClass.CUSTOM),
    ("custom_3", DataClass.CUSTOM),
    ("custom_4", DataClass.CUSTOM),
)
DATA_KINDS: Final = dict(enumerate(_KINDS, 1))
# proto DataPlace, from 1 on; a code is place * 64 + kind.
_SIDES: Final = dict(enumerate(BodySide, 1))
PLACE_SIZE: Final = 64
# Places and kinds that name no data: the head was looked at, and what the call said (proto CallFact).
HEAD_READ: Final = 3 * PLACE_SIZE
ENCRYPTED: Final = 6 * PLACE_SIZE + 1
FROM_LOOPBACK: Final = 6 * PLACE_SIZE + 2
INTROSPECTION: Final = 6 * PLACE_SIZE + 3
INTROSPECTION_SERVED: Final = 6 * PLACE_SIZE + 4
LOGIN: Final = 6 * PLACE_SIZE + 5
# Places with a number instead of a kind: what a GraphQL request asks for.
QUERY_DEPTH, QUERY_REPEATS, QUERY_BATCH = 7, 8, 9
# Places with a number of common.privileges: fields that no other caller sends, and those that took effect.
EXTRA_FIELD, SET_FIELD = 10, 11
# Places with a number: what a client does with the tools of an MCP server.
TOOL_REPEATS, NEW_TOOLS = 12, 13
_EXACT: Final = 16
# Rows of 0.1: kinds below 32, of a response 32 more.
_OLD_CODES: Final = 64
_OLD_RESPONSE_SHIFT: Final = 32


def list_codes(name: str, side: BodySide | None) -> tuple[int, ...]:
    """The codes of those kinds, as rows have them; without `side`, in each place."""
    kinds = set(list_kinds(name))
    return tuple(
        place * PLACE_SIZE + code
        for place, one in _SIDES.items()
        if side in (None, one)
        for code, (kind, _) in DATA_KINDS.items()
        if kind in kinds
    )


def list_kinds(name: str) -> tuple[str, ...]:
    """The kinds of data that a person means by the name of a kind, of a class, `personal` or `any`; none where it is
    not known."""
    if name == ANY_DATA:
        return tuple(kind for kind, _ in _KINDS)
    return tuple(
        kind
        for kind, data_class in _KINDS
        if name in (kind, data_class) or (name == PERSONAL_DATA and data_class in PERSONAL)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFound:
    kind: str
    data_class: DataClass
    side: BodySide
    calls: int  # Sampled calls that held it there.
    share: float  # Of the calls whose place was read.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What was read of an endpoint's calls. `data`: most found first."""

    requests_read: int
    responses_read: int
    records_returned: int
    records_measured: int  # Of those, counted in bodies.
    records_basis: RecordsBasis
    data: tuple[DataFound, ...]
    heads_read: int = 0  # Calls whose path, query and headers were.
    encrypted_heads: int = 0  # Of those, over TLS at the service or in front of it.
    loopback_heads: int = 0  # Of those, from the host itself.
    schemas_served: int = 0  # Calls that asked a GraphQL service for its schema and got it.
    logins: int = 0  # Calls whose bodies were read and that logged their caller in.

    @property
    def data_classes(self) -> tuple[DataClass, ...]:
        """Of all that was found, in the order of DataClass."""
        found = {one.data_class for one in self.data}
        return tuple(one for one in DataClass if one in found)


def decode_number(step: int) -> int:
    """The least number that a step stands for: below 16 itself, then four steps for each doubling."""
    return step if step < _EXACT else round(_EXACT * 2 ** ((step - _EXACT) / 4))


def read_bodies(row: Mapping[str, Any]) -> Bodies | None:
    """None where no body was read and no records are known."""
    requests, responses = int(row["request_bodies_read"]), int(row["response_bodies_read"])
    returned, measured = int(row["records_returned"]), int(row["records_measured"])
    found_calls = _count_codes(row)
    heads = found_calls.get(HEAD_READ, 0)
    if not requests and not responses and not returned and not found_calls:
        return None
    read = {BodySide.REQUEST: requests, BodySide.RESPONSE: responses}
    found = [_find_data(code, count, read, heads) for code, count in found_calls.items()]
    return Bodies(
        requests_read=requests,
        responses_read=responses,
        records_returned=returned,
        records_measured=measured,
        records_basis=RecordsBasis.MEASURED if measured == returned else RecordsBasis.ESTIMATED,
        data=tuple(sorted(filter(None, found), key=lambda one: (-one.share, one.kind, one.side))),
        heads_read=heads,
        encrypted_heads=found_calls.get(ENCRYPTED, 0),
        loopback_heads=found_calls.get(FROM_LOOPBACK, 0),
        schemas_served=found_calls.get(INTROSPECTION_SERVED, 0),
        logins=found_calls.get(LOGIN, 0),
    )


def _count_codes(row: Mapping[str, Any]) -> dict[int, int]:
    """Calls by code, as current sensors have them."""
    counts: dict[int, int] = {}
    for code, calls in zip(*row["data"], strict=True):
        number = int(code)
        if number < _OLD_CODES:
            number += PLACE_SIZE if number < _OLD_RESPONSE_SHIFT else 2 * PLACE_SIZE - _OLD_RESPONSE_SHIFT
        counts[number] = counts.get(number, 0) + int(calls)
    return counts


def _find_data(code: int, calls: int, bodies: Mapping[BodySide, int], heads: int) -> DataFound | None:
    """None for a kind or place of a newer sensor, and for what names no data."""
    side, known = _SIDES.get(code // PLACE_SIZE), DATA_KINDS.get(code % PLACE_SIZE)
    if side is None or known is None:
        return None
    read = bodies.get(side, heads)
    if not read:
        return None
    return DataFound(kind=known[0], data_class=known[1], side=side, calls=calls, share=min(1.0, calls / read))
