"""What an endpoint's bodies hold: reads a row of `collector.inventory.measures`; gives kinds of data and records.

Bodies of few calls are read (docs/bodies.md), so a kind comes with the calls that carried it and of how many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class DataClass(StrEnum):
    """Why a kind of data is sensitive."""

    PERSONAL = "personal"
    FINANCIAL = "financial"
    CREDENTIAL = "credential"
    NETWORK = "network"


class BodySide(StrEnum):
    """Which body it was found in."""

    REQUEST = "request"
    RESPONSE = "response"


class RecordsBasis(StrEnum):
    """How the number of records is known."""

    MEASURED = "measured"  # All were counted in bodies.
    ESTIMATED = "estimated"  # Some or all follow from the sizes of responses.


# By the wire's DataKind, from 1 on.
_KINDS: Final = (
    ("email", DataClass.PERSONAL),
    ("phone", DataClass.PERSONAL),
    ("person_name", DataClass.PERSONAL),
    ("address", DataClass.PERSONAL),
    ("date_of_birth", DataClass.PERSONAL),
    ("ssn", DataClass.PERSONAL),
    ("aadhaar", DataClass.PERSONAL),
    ("cpf", DataClass.PERSONAL),
    ("iban", DataClass.FINANCIAL),
    ("credit_card", DataClass.FINANCIAL),
    ("ip_address", DataClass.NETWORK),
    ("password", DataClass.CREDENTIAL),
    ("jwt", DataClass.CREDENTIAL),
    ("private_key", DataClass.CREDENTIAL),
    ("aws_key", DataClass.CREDENTIAL),
    ("google_api_key", DataClass.CREDENTIAL),
    ("github_token", DataClass.CREDENTIAL),
    ("slack_token", DataClass.CREDENTIAL),
    ("stripe_key", DataClass.CREDENTIAL),
)
DATA_KINDS: Final = dict(enumerate(_KINDS, 1))
# Of a response the wire adds this to the kind.
RESPONSE_SHIFT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFound:
    """One kind of data in one body of an endpoint's calls."""

    kind: str
    data_class: DataClass
    side: BodySide
    calls: int  # Sampled calls whose body held it.
    share: float  # Of the bodies of that side that were read.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What was read of an endpoint's bodies. `data`: most found first."""

    requests_read: int
    responses_read: int
    records_returned: int
    records_measured: int  # Of those, counted in bodies.
    records_basis: RecordsBasis
    data: tuple[DataFound, ...]

    @property
    def data_classes(self) -> tuple[DataClass, ...]:
        """Of all that was found, in the order of DataClass."""
        found = {one.data_class for one in self.data}
        return tuple(one for one in DataClass if one in found)


def read_bodies(row: Mapping[str, Any]) -> Bodies | None:
    """None where no body was read and no records are known."""
    requests, responses = int(row["request_bodies_read"]), int(row["response_bodies_read"])
    returned, measured = int(row["records_returned"]), int(row["records_measured"])
    if not requests and not responses and not returned:
        return None
    codes, calls = row["data"]
    found = [_find_data(int(code), int(count), requests, responses) for code, count in zip(codes, calls, strict=True)]
    return Bodies(
        requests_read=requests,
        responses_read=responses,
        records_returned=returned,
        records_measured=measured,
        records_basis=RecordsBasis.MEASURED if measured == returned else RecordsBasis.ESTIMATED,
        data=tuple(sorted(filter(None, found), key=lambda one: (-one.share, one.kind, one.side))),
    )


def _find_data(code: int, calls: int, requests: int, responses: int) -> DataFound | None:
    """None for a kind of a newer sensor."""
    known = DATA_KINDS.get(code % RESPONSE_SHIFT)
    is_response = code >= RESPONSE_SHIFT
    read = responses if is_response else requests
    if known is None or not read:
        return None
    side = BodySide.RESPONSE if is_response else BodySide.REQUEST
    return DataFound(kind=known[0], data_class=known[1], side=side, calls=calls, share=min(1.0, calls / read))
