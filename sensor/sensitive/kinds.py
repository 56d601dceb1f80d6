"""The kinds of sensitive data, the class of each, the places where it is found, and the checks of its numbers.

Numbers of states, banks and clinics use the checks of python-stdnum, a module a country. A module is loaded when a
field of that name or form is first met. A number without a check digit counts only where the field's name says what it
is.
"""

import re
from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum
from functools import lru_cache
from importlib import import_module
from typing import Final


class DataKind(StrEnum):
    """What a value is. Names are those that data-loss tools share."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    PERSON_NAME = "PERSON_NAME"
    ADDRESS = "ADDRESS"
    DATE_OF_BIRTH = "DATE_OF_BIRTH"
    SSN = "SSN"  # United States social security number.
    AADHAAR = "AADHAAR"  # India.
    CPF = "CPF"  # Brazil.
    IBAN = "IBAN"
    CREDIT_CARD = "CREDIT_CARD"
    IP_ADDRESS = "IP_ADDRESS"
    PASSWORD = "PASSWORD"
    JWT = "JWT"
    PRIVATE_KEY = "PRIVATE_KEY"
    AWS_KEY = "AWS_KEY"
    GOOGLE_API_KEY = "GOOGLE_API_KEY"
    GITHUB_TOKEN = "GITHUB_TOKEN"
    SLACK_TOKEN = "SLACK_TOKEN"
    STRIPE_KEY = "STRIPE_KEY"
    PASSPORT = "PASSPORT"  # Number of a passport.
    DRIVER_LICENSE = "DRIVER_LICENSE"
    NATIONAL_ID = "NATIONAL_ID"  # Of a country not named here.
    TAX_ID = "TAX_ID"  # Of a person, of a country not named here.
    NINO = "NINO"  # United Kingdom, national insurance.
    SIN = "SIN"  # Canada, social insurance.
    NIR = "NIR"  # France, social security.
    DNI = "DNI"  # Spain: DNI and NIE.
    CODICE_FISCALE = "CODICE_FISCALE"  # Italy.
    STEUER_ID = "STEUER_ID"  # Germany, tax.
    BSN = "BSN"  # Netherlands.
    PESEL = "PESEL"  # Poland.
    PERSONNUMMER = "PERSONNUMMER"  # Sweden.
    HETU = "HETU"  # Finland.
    RESIDENT_ID = "RESIDENT_ID"  # China.
    CURP = "CURP"  # Mexico.
    PAN = "PAN"  # India, tax.
    RRN = "RRN"  # Korea, resident registration.
    GENDER = "GENDER"
    NATIONALITY = "NATIONALITY"  # Or ethnic origin, religion.
    LOCATION = "LOCATION"  # Coordinates of a person or device.
    CARD_SECURITY_CODE = "CARD_SECURITY_CODE"
    BANK_ACCOUNT = "BANK_ACCOUNT"
    BIC = "BIC"
    ROUTING_NUMBER = "ROUTING_NUMBER"  # United States, ABA.
    SALARY = "SALARY"
    CRYPTO_ADDRESS = "CRYPTO_ADDRESS"
    MEDICAL_RECORD = "MEDICAL_RECORD"
    DIAGNOSIS = "DIAGNOSIS"
    MEDICATION = "MEDICATION"
    BLOOD_TYPE = "BLOOD_TYPE"
    HEALTH_INSURANCE = "HEALTH_INSURANCE"
    NHS_NUMBER = "NHS_NUMBER"  # United Kingdom.
    API_KEY = "API_KEY"  # Of a vendor not named here, by its field's name.
    GITLAB_TOKEN = "GITLAB_TOKEN"
    CONNECTION_STRING = "CONNECTION_STRING"  # With a password in it.
    ACCESS_TOKEN = "ACCESS_TOKEN"  # Access and refresh tokens, by the field's name.
    MAC_ADDRESS = "MAC_ADDRESS"
    STACK_TRACE = "STACK_TRACE"  # Of a program that failed.
    DATABASE_ERROR = "DATABASE_ERROR"  # As a database words it.
    CUSTOM_1 = "CUSTOM_1"  # The sensor's settings say what it is.
    CUSTOM_2 = "CUSTOM_2"
    CUSTOM_3 = "CUSTOM_3"
    CUSTOM_4 = "CUSTOM_4"

    # Kinds are hashed for every value that is found; an enum's own hash is ten times as slow.
    __hash__ = str.__hash__


class DataClass(StrEnum):
    """Why a kind is sensitive."""

    IDENTITY = "identity"
    CONTACT = "contact"
    FINANCIAL = "financial"
    HEALTH = "health"
    SECRET = "secret"
    TECHNICAL = "technical"
    CUSTOM = "custom"


class DataPlace(IntEnum):
    """Where in a call it was found; numbers of the wire (apidae.v1.DataPlace)."""

    REQUEST_BODY = 1
    RESPONSE_BODY = 2
    PATH = 3
    QUERY = 4
    REQUEST_HEADER = 5
    CALL = 6  # Of the call as a whole: CallFact instead of DataKind.
    # What a GraphQL request asks for, a number instead of a DataKind (sensor.describe.bodies.graphql).
    QUERY_DEPTH = 7
    QUERY_REPEATS = 8
    QUERY_BATCH = 9
    # A field that no other caller sends: a number of common.privileges (sensor.describe.bodies.assignment).
    EXTRA_FIELD = 10
    SET_FIELD = 11  # And the answer shows that it took effect.
    # What a client does with the tools of an MCP server, a number (sensor.describe.schemas.agents).
    TOOL_REPEATS = 12
    NEW_TOOLS = 13


class CallFact(IntEnum):
    """What a call says besides; numbers of the wire (apidae.v1.CallFact)."""

    ENCRYPTED = 1  # Over TLS, which ended here or in front of the service.
    LOOPBACK = 2  # The client is this host itself.
    INTROSPECTION = 3  # It asks a GraphQL service for its schema,
    INTROSPECTION_SERVED = 4  # and got it, or a part of it.
    LOGIN = 5  # A secret went in, and a credential came out (sensor/describe/bodies/logins.py).


_MEMBERS: Final = {
    DataClass.IDENTITY: (
        "PERSON_NAME DATE_OF_BIRTH SSN AADHAAR CPF PASSPORT DRIVER_LICENSE NATIONAL_ID TAX_ID NINO SIN NIR "
        "DNI CODICE_FISCALE STEUER_ID BSN PESEL PERSONNUMMER HETU RESIDENT_ID CURP PAN RRN GENDER "
        "NATIONALITY"
    ),
    DataClass.CONTACT: "EMAIL PHONE ADDRESS LOCATION",
    DataClass.FINANCIAL: "IBAN CREDIT_CARD CARD_SECURITY_CODE BANK_ACCOUNT BIC ROUTING_NUMBER SALARY CRYPTO_ADDRESS",
    DataClass.HEALTH: "MEDICAL_RECORD DIAGNOSIS MEDICATION BLOOD_TYPE HEALTH_INSURANCE NHS_NUMBER",
    DataClass.SECRET: (
        "PASSWORD JWT PRIVATE_KEY AWS_KEY GOOGLE_API_KEY GITHUB_TOKEN SLACK_TOKEN STRIPE_KEY API_KEY "
        "GITLAB_TOKEN CONNECTION_STRING ACCESS_TOKEN"
    ),
    DataClass.TECHNICAL: "IP_ADDRESS MAC_ADDRESS STACK_TRACE DATABASE_ERROR",
    DataClass.CUSTOM: "CUSTOM_1 CUSTOM_2 CUSTOM_3 CUSTOM_4",
}
DATA_CLASSES: Final = {DataKind(name): one for one, names in _MEMBERS.items() for name in names.split()}

# Numbers of the wire (apidae.v1.DataKind), never used twice.
DATA_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(DataKind, 1)}
# A place and a kind as one number.
PLACE_SHIFT: Final = 6
# Path, query and headers of the call were looked at.
HEAD_READ: Final = DataPlace.PATH << PLACE_SHIFT


# Numbers are exact below this; above, four steps double them.
_EXACT: Final = 16
_LARGEST_STEP: Final = 63


def encode_number(number: int) -> int:
    """A number of a place that has numbers, in six bits."""
    if number < _EXACT:
        return number
    step = _EXACT
    while step < _LARGEST_STEP and decode_number(step + 1) <= number:
        step += 1
    return step


def decode_number(step: int) -> int:
    """The least number of a step."""
    return step if step < _EXACT else round(_EXACT * 2 ** ((step - _EXACT) / 4))


def make_codes(place: DataPlace, kinds: Iterable[DataKind]) -> set[int]:
    """The codes of some kinds in one place."""
    return {place << PLACE_SHIFT | DATA_KIND_NUMBERS[kind] for kind in kinds}


def list_kinds(codes: Iterable[int], place: DataPlace) -> list[DataKind]:
    """The kinds of one place, in the order of DataKind."""
    found = {code & (1 << PLACE_SHIFT) - 1 for code in codes if code >> PLACE_SHIFT == place}
    return [kind for kind, number in DATA_KIND_NUMBERS.items() if number in found]


class Text(str):
    """Text without a type of its own: of a form, a query, a header."""

    __slots__ = ()


class Prose(str):
    """Text out of a page or a sentence: what follows the word `password` there may be another word."""

    __slots__ = ()


class Binary(bytes):
    """Bytes that are not read: a file in a form, a field of protobuf, a body of another type."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Binary({len(self)} bytes)"


MAX_CHARACTERS: Final = 40
_MODULES: Final = {
    DataKind.SIN: "stdnum.ca.sin",
    DataKind.NIR: "stdnum.fr.nir",
    DataKind.CODICE_FISCALE: "stdnum.it.codicefiscale",
    DataKind.STEUER_ID: "stdnum.de.idnr",
    DataKind.BSN: "stdnum.nl.bsn",
    DataKind.PESEL: "stdnum.pl.pesel",
    DataKind.PERSONNUMMER: "stdnum.se.personnummer",
    DataKind.HETU: "stdnum.fi.hetu",
    DataKind.RESIDENT_ID: "stdnum.cn.ric",
    DataKind.CURP: "stdnum.mx.curp",
    DataKind.PAN: "stdnum.in_.pan",
    DataKind.RRN: "stdnum.kr.rrn",
    DataKind.NHS_NUMBER: "stdnum.gb.nhs",
    DataKind.BIC: "stdnum.bic",
    DataKind.ROUTING_NUMBER: "stdnum.us.rtn",
}
_NATIONAL_FORMS: Final = {
    # HM Revenue and Customs, NIM39110: letters that were never given, and a suffix A to D.
    DataKind.NINO: re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:\d{2} ?){3}[A-D]\Z"),
    # ICAO Doc 9303: up to nine letters and digits.
    DataKind.PASSPORT: re.compile(r"(?=.*\d)[A-Z0-9<]{6,9}\Z", re.IGNORECASE),
    DataKind.DRIVER_LICENSE: re.compile(r"(?=.*\d)[A-Z0-9 -]{5,20}\Z", re.IGNORECASE),
    DataKind.NATIONAL_ID: re.compile(r"(?=(?:.*\d){4})[A-Z0-9 .-]{5,20}\Z", re.IGNORECASE),
    DataKind.TAX_ID: re.compile(r"(?=(?:.*\d){6})[A-Z0-9 ./-]{8,20}\Z", re.IGNORECASE),
    DataKind.BANK_ACCOUNT: re.compile(r"(?=(?:.*\d){6})[\d -]{6,24}\Z"),
    DataKind.CARD_SECURITY_CODE: re.compile(r"\d{3,4}\Z"),
    DataKind.MEDICAL_RECORD: re.compile(r"(?=(?:.*\d){4})[A-Z0-9-]{4,20}\Z", re.IGNORECASE),
    DataKind.HEALTH_INSURANCE: re.compile(r"(?=(?:.*\d){4})[A-Z0-9 -]{6,24}\Z", re.IGNORECASE),
    DataKind.BLOOD_TYPE: re.compile(r"(?:A|B|AB|O|0)(?: ?(?:[+-]|pos(?:itive)?|neg(?:ative)?))?\Z", re.IGNORECASE),
    # Bitcoin (base58 and bech32), Ethereum.
    DataKind.CRYPTO_ADDRESS: re.compile(r"(?:[13][1-9A-HJ-NP-Za-km-z]{25,39}|bc1[a-z0-9]{11,71}|0x[0-9A-Fa-f]{40})\Z"),
}
_DNI: Final = ("stdnum.es.dni", "stdnum.es.nie")


def is_number(kind: DataKind, value: object) -> bool:
    """Whether a value may be a number of this kind. Never raises. Cost: 1 to 10 us."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    text = str(value).strip()
    if not 3 <= len(text) <= MAX_CHARACTERS and kind is not DataKind.BLOOD_TYPE:
        return bool(kind is DataKind.CRYPTO_ADDRESS and len(text) < 100 and _NATIONAL_FORMS[kind].match(text))
    if kind is DataKind.DNI:
        return any(_load(name)(text) for name in _DNI)
    module = _MODULES.get(kind)
    if module is not None:
        return _load(module)(text)
    return _NATIONAL_FORMS[kind].match(text) is not None


@lru_cache(maxsize=32)
def _load(name: str) -> Callable[[str], bool]:
    """The check of a module: True or False, whatever the text. At most as many as the tables above name."""
    check = import_module(name).is_valid

    def is_valid(text: str) -> bool:
        try:
            return bool(check(text))
        except Exception:  # A check that a strange text breaks has not passed.
            return False

    return is_valid
