"""The kinds of sensitive data, the class of each, and the places where it is found."""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
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


class CallFact(IntEnum):
    """What the head of a call says besides; numbers of the wire (apidae.v1.CallFact)."""

    ENCRYPTED = 1  # Over TLS, which ended here or in front of the service.
    LOOPBACK = 2  # The client is this host itself.


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


def make_codes(place: DataPlace, kinds: Iterable[DataKind]) -> set[int]:
    """The codes of some kinds in one place."""
    return {place << PLACE_SHIFT | DATA_KIND_NUMBERS[kind] for kind in kinds}


def list_kinds(codes: Iterable[int], place: DataPlace) -> list[DataKind]:
    """The kinds of one place, in the order of DataKind."""
    found = {code & (1 << PLACE_SHIFT) - 1 for code in codes if code >> PLACE_SHIFT == place}
    return [kind for kind, number in DATA_KIND_NUMBERS.items() if number in found]
