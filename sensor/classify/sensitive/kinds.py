"""The kinds of sensitive data, and the class of each (personal, financial, credential, network)."""

from collections.abc import Iterable
from enum import StrEnum
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


class DataClass(StrEnum):
    """Why a kind is sensitive."""

    PERSONAL = "personal"
    FINANCIAL = "financial"
    CREDENTIAL = "credential"
    NETWORK = "network"


DATA_CLASSES: Final = {
    DataKind.EMAIL: DataClass.PERSONAL,
    DataKind.PHONE: DataClass.PERSONAL,
    DataKind.PERSON_NAME: DataClass.PERSONAL,
    DataKind.ADDRESS: DataClass.PERSONAL,
    DataKind.DATE_OF_BIRTH: DataClass.PERSONAL,
    DataKind.SSN: DataClass.PERSONAL,
    DataKind.AADHAAR: DataClass.PERSONAL,
    DataKind.CPF: DataClass.PERSONAL,
    DataKind.IBAN: DataClass.FINANCIAL,
    DataKind.CREDIT_CARD: DataClass.FINANCIAL,
    DataKind.IP_ADDRESS: DataClass.NETWORK,
    DataKind.PASSWORD: DataClass.CREDENTIAL,
    DataKind.JWT: DataClass.CREDENTIAL,
    DataKind.PRIVATE_KEY: DataClass.CREDENTIAL,
    DataKind.AWS_KEY: DataClass.CREDENTIAL,
    DataKind.GOOGLE_API_KEY: DataClass.CREDENTIAL,
    DataKind.GITHUB_TOKEN: DataClass.CREDENTIAL,
    DataKind.SLACK_TOKEN: DataClass.CREDENTIAL,
    DataKind.STRIPE_KEY: DataClass.CREDENTIAL,
}

# Numbers of the wire (apidae.v1.DataKind), never used twice.
DATA_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(DataKind, 1)}
# Kinds of a request and of a response, as bits of one number: 1 << number, and that shifted.
RESPONSE_SHIFT: Final = 32


def pack_kinds(kinds: Iterable[DataKind]) -> int:
    """Bits of some kinds."""
    bits = 0
    for kind in kinds:
        bits |= 1 << DATA_KIND_NUMBERS[kind]
    return bits


def unpack_kinds(bits: int) -> list[DataKind]:
    """Kinds of some bits, in the order of DataKind; those of a request alone."""
    return [kind for kind, number in DATA_KIND_NUMBERS.items() if bits >> number & 1]
