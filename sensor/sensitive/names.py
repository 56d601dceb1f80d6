"""Classifies a field by its name: `firstName`, `dob`, `password`. Pure, a table of word sequences.

A name alone proves little, so each kind also has a check of the value (`fits`). A `phone` that is `true` is a setting,
and an `address` that is an object is searched instead. Numbers without a form of their own are recognised by the
field's name alone, and checked as far as their issuer defines a check.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final

from sensor.sensitive.kinds import DataKind, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """One kind: names that end in one of `endings` (whole words), with none of `unless`, and values that `fit`."""

    kind: DataKind
    endings: tuple[tuple[str, ...], ...]
    fits: Callable[[object], bool]
    unless: frozenset[str] = frozenset()


def list_endings(names: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split()) for name in names.split(","))


_WORD = re.compile(r"[^\W\d_]{2,}")
_MASKED = re.compile(r"[*•xX.#-]{3,}\Z")
_SECRET_CHARACTERS_MIN: Final = 8


def _is_words(value: object) -> bool:
    """A few words, as people write them into a form."""
    return isinstance(value, str) and 1 < len(value) <= 400 and _WORD.search(value) is not None


def _is_choice(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 40


def _is_amount(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return value > 0
    return isinstance(value, str) and sum(map(str.isdigit, value)) >= 3 and len(value) <= 24


def _is_long_secret(value: object) -> bool:
    return (
        isinstance(value, str)
        and _SECRET_CHARACTERS_MIN <= len(value) <= 4_096
        and " " not in value
        and not _MASKED.match(value)
        and "://" not in value
    )


def _is_code(value: object) -> bool:
    """Of a disease or drug: ICD-10, SNOMED, ATC, or in words."""
    return isinstance(value, str) and 2 < len(value) <= 200


def _rule(kind: DataKind, names: str, *, fits: Callable[[object], bool] | None = None, unless: str = "") -> NameRule:
    return NameRule(
        kind=kind,
        endings=list_endings(names),
        fits=fits if fits is not None else partial(is_number, kind),
        unless=frozenset(unless.split()),
    )


MORE_RULES: Final = (
    _rule(DataKind.PASSPORT, "passport, passport number, passport no, passport num"),
    _rule(
        DataKind.DRIVER_LICENSE,
        "driver license, drivers license, driver licence, driving licence, driving license, license number driver, "
        "driver license number, drivers license number, driving licence number",
    ),
    _rule(DataKind.NINO, "nino, national insurance number, ni number"),
    _rule(DataKind.SIN, "sin, social insurance number, sin number"),
    _rule(DataKind.NIR, "nir, numero securite sociale, num secu, insee number"),
    _rule(DataKind.DNI, "dni, nie, dni number, documento identidad"),
    _rule(DataKind.CODICE_FISCALE, "codice fiscale, fiscal code"),
    _rule(
        DataKind.STEUER_ID, "steuer id, steuer idnr, steueridentifikationsnummer, idnr, tax identification number de"
    ),
    _rule(DataKind.BSN, "bsn, burgerservicenummer"),
    _rule(DataKind.PESEL, "pesel"),
    _rule(DataKind.PERSONNUMMER, "personnummer, personal identity number"),
    _rule(DataKind.HETU, "hetu, henkilotunnus"),
    _rule(DataKind.RESIDENT_ID, "resident id, resident identity card, id card number, shenfenzheng"),
    _rule(DataKind.CURP, "curp"),
    _rule(DataKind.PAN, "pan, pan number, pan card"),
    _rule(DataKind.RRN, "rrn, resident registration number"),
    _rule(DataKind.NHS_NUMBER, "nhs number, nhs no, nhs"),
    _rule(
        DataKind.NATIONAL_ID,
        "national id, national id number, national identity number, identity card number, id card no, citizen id, "
        "identity number, government id",
        unless="transaction",
    ),
    _rule(
        DataKind.TAX_ID,
        "tax id, tax number, taxpayer id, tin, tax identification number, itin",
        unless="company vat business",
    ),
    _rule(
        DataKind.LOCATION,
        "home location, current location, last location, last known location, user location, device location, "
        "gps location, gps coordinates, home coordinates",
        fits=lambda value: isinstance(value, str) and 2 < len(value) <= 200,
    ),
    _rule(DataKind.GENDER, "gender, sex", fits=_is_choice),
    _rule(
        DataKind.NATIONALITY,
        "nationality, citizenship, ethnicity, ethnic group, race, religion, religious belief",
        fits=_is_words,
    ),
    _rule(
        DataKind.CARD_SECURITY_CODE,
        "cvv, cvc, cvv 2, cvv2, cvc 2, cvc2, card security code, card verification value, card cvv, security code",
        unless="required check",
    ),
    _rule(
        DataKind.BANK_ACCOUNT,
        "bank account, bank account number, account number, acct number, bank account no, bban",
        unless="contract",
    ),
    _rule(DataKind.BIC, "bic, swift, swift code, bic code, bank identifier code"),
    _rule(DataKind.ROUTING_NUMBER, "routing number, aba number, aba routing number, routing transit number"),
    _rule(
        DataKind.SALARY,
        "salary, wage, annual income, net income, gross salary, monthly income, base salary, annual salary, net worth",
        fits=_is_amount,
        unless="min max range",
    ),
    _rule(
        DataKind.CRYPTO_ADDRESS,
        "wallet address, bitcoin address, btc address, eth address, ethereum address, wallet, crypto address",
    ),
    _rule(
        DataKind.MEDICAL_RECORD,
        "mrn, medical record number, medical record, patient number, patient id, health record id",
    ),
    _rule(
        DataKind.DIAGNOSIS,
        "diagnosis, diagnoses, diagnosis code, icd code, icd 10, icd10, condition code, medical condition, disease, "
        "symptoms, allergies, allergy, diagnosis description",
        fits=_is_code,
    ),
    _rule(
        DataKind.MEDICATION,
        "medication, medications, prescription, drug name, medicine, prescribed drug, medication name, dosage",
        fits=_is_code,
    ),
    _rule(DataKind.BLOOD_TYPE, "blood type, blood group"),
    _rule(
        DataKind.HEALTH_INSURANCE,
        "health insurance number, insurance policy number, health plan id, medicare number, medicare id, "
        "insurance member id, health insurance id, medicaid id, insurance number",
    ),
    _rule(
        DataKind.ACCESS_TOKEN,
        "access token, refresh token, id token, auth token, session token, bearer token, oauth token, csrf session",
        fits=_is_long_secret,
        unless="type expires expiry url endpoint",
    ),
    _rule(
        DataKind.API_KEY,
        "api key, apikey, client secret, secret key, app secret, private token, consumer secret, webhook secret, "
        "signing secret, api secret, api token, secret access key",
        fits=_is_long_secret,
        unless="public publishable url",
    ),
)


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)")
_SPLIT = re.compile(r"[^A-Za-z0-9]+")
_DATE = re.compile(r"(?:18|19|20)\d\d[-/.]?\d\d?[-/.]?\d\d?(?:[T ].*)?\Z|\d{1,2}[-/.]\d{1,2}[-/.](?:18|19|20)?\d\d\Z")
_HAS_LETTER = re.compile(r"[^\W\d_]")
_NETWORK = re.compile(r"[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(?:%.*)?\Z")
_PHONE_LETTER = re.compile(r"(?![xet])[^\W\d_]")  # None but those of `ext` and `x12`.
_NAME_ENTRIES: Final = 16_384
MAX_NAME_CHARACTERS: Final = 128
MAX_PERSON_CHARACTERS: Final = 100
MAX_ADDRESS_CHARACTERS: Final = 200
MIN_PHONE_DIGITS: Final = 6


def split_words(name: str) -> tuple[str, ...]:
    """`addressLine1`, `address_line_1` -> `address line 1`."""
    parts = _SPLIT.split(_CAMEL.sub(" ", name[:MAX_NAME_CHARACTERS]))
    return tuple(part.lower() for part in parts if part)


def _is_person(value: object) -> bool:
    if not isinstance(value, str) or not 1 < len(value) <= MAX_PERSON_CHARACTERS:
        return False
    return _HAS_LETTER.search(value) is not None and "@" not in value and "://" not in value and "_" not in value


def _is_street(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return 0 < value < 100_000
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_ADDRESS_CHARACTERS:
        return False
    return "@" not in value and "://" not in value and not value.startswith("0x") and not _is_network(value)


def _is_phone(value: object) -> bool:
    if isinstance(value, bool):
        return False
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or len(text) > 40:
        return False
    return _PHONE_LETTER.search(text) is None and sum(map(str.isdigit, text)) >= MIN_PHONE_DIGITS


def _is_secret(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 512 and not _MASKED.match(value)


def _is_birth_date(value: object) -> bool:
    return isinstance(value, str) and _DATE.match(value.strip()) is not None


def _is_network(value: object) -> bool:
    if not isinstance(value, str):
        return False
    text = value.partition("/")[0].strip()
    if not _NETWORK.match(text):  # The check is dear where it fails.
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _has_digits(count: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return False
        return sum(map(str.isdigit, str(value))) >= count

    return check


_TECHNICAL: Final = frozenset(
    ("ipv", "nexthop", "mac", "email", "mail", "web", "url", "ip", "memory", "wallet", "contract", "bitcoin", "type")
)
_RULES: Final = (
    NameRule(
        kind=DataKind.PASSWORD,
        endings=list_endings(
            "password, passwd, passphrase, pwd, password repeat, password confirmation, password identifier"
        ),
        fits=_is_secret,
        unless=frozenset(
            ["reset", "policy", "expires", "expiry", "length", "require", "url", "hint", "changed", "last"]
        ),
    ),
    NameRule(
        kind=DataKind.DATE_OF_BIRTH,
        endings=list_endings("date of birth, birth date, birthdate, birthday, dob, birth date string, born, birth day"),
        fits=_is_birth_date,
    ),
    NameRule(
        kind=DataKind.SSN, endings=list_endings("ssn, social security number, social security"), fits=_has_digits(9)
    ),
    NameRule(
        kind=DataKind.PERSON_NAME,
        endings=list_endings(
            "first name, last name, full name, middle name, given name, family name, surname, firstname, "
            "lastname, fullname, middlename, maiden name, forename, contact name, emergency contact name, "
            "legal name, cardholder name, holder name, patient name, employee name, customer name, person "
            "name"
        ),
        fits=_is_person,
        unless=frozenset(
            ["file", "repository", "repo", "project", "package", "class", "company", "domain", "host", "resource"]
        ),
    ),
    NameRule(
        kind=DataKind.PHONE,
        endings=list_endings(
            "phone, phones, phone number, telephone, telephone number, mobile, mobile number, cell, cell "
            "phone, cellphone, fax, fax number, msisdn, phone numbers, mobile phone, tel, phone 1, phone 2, "
            "phone 3, phone e 164"
        ),
        fits=_is_phone,
    ),
    NameRule(
        kind=DataKind.ADDRESS,
        endings=list_endings(
            "street, street name, street number, street address, address line 1, line 1, address 1, address "
            "street, address line 1 check, streetaddress"
        ),
        fits=_is_street,
        unless=_TECHNICAL,
    ),
    NameRule(
        kind=DataKind.ADDRESS,
        endings=list_endings("address, address line"),
        # Much is called an address; one of a house has a number.
        fits=lambda value: isinstance(value, str) and _is_street(value) and any(map(str.isdigit, value)),
        unless=_TECHNICAL,
    ),
    NameRule(
        kind=DataKind.IP_ADDRESS,
        endings=list_endings("ip, ip address, ipaddress, ipv4, ipv6, ip addr, remote addr, client ip, host ip"),
        fits=_is_network,
    ),
)


# Rules by each of their endings, the first in the tables first; a name is asked for as many endings as it has words.
_ALL_RULES: Final = (*_RULES, *MORE_RULES)
_BY_ENDING: Final = {
    ending: tuple((place, rule) for place, rule in enumerate(_ALL_RULES) if ending in rule.endings)
    for rule in _ALL_RULES
    for ending in rule.endings
}
_LONGEST_ENDING: Final = max(map(len, _BY_ENDING))


def _read_name(name: str) -> NameRule | None:
    words = split_words(name)
    found: tuple[int, NameRule] | None = None
    for count in range(1, min(len(words), _LONGEST_ENDING) + 1):
        for place, rule in _BY_ENDING.get(words[-count:], ()):
            if (found is None or place < found[0]) and rule.unless.isdisjoint(words):
                found = place, rule
    return None if found is None else found[1]


class _NameRules(dict[str, NameRule | None]):
    """The rule for a field's name; None where it says nothing. Holds what was asked: a name costs 5 us once, then what
    a dictionary does. Starts anew when it is full.
    """

    def __missing__(self, name: str) -> NameRule | None:
        if len(self) >= _NAME_ENTRIES:
            self.clear()
        rule = _read_name(name)
        if len(name) <= MAX_NAME_CHARACTERS:
            self[name] = rule
        return rule


NAME_RULES: Final = _NameRules()


def find_rule(name: str) -> NameRule | None:
    """The rule for a field's name; None where it says nothing."""
    return NAME_RULES[name]
