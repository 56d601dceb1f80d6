"""Names of fields that hold numbers of people, bank and health data, and secrets; read after those of names.py.

Numbers without a form of their own are told by the field's name alone, checked by `national` as far as their issuer
gives a check.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from sensor.classify.sensitive.kinds import DataKind
from sensor.classify.sensitive.name_rule import NameRule, list_endings
from sensor.classify.sensitive.national import is_number

_WORD = re.compile(r"[^\W\d_]{2,}")
_MASKED = re.compile(r"[*\u2022xX.#-]{3,}\Z")
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


def _is_secret(value: object) -> bool:
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
        fits=_is_secret,
        unless="type expires expiry url endpoint",
    ),
    _rule(
        DataKind.API_KEY,
        "api key, apikey, client secret, secret key, app secret, private token, consumer secret, webhook secret, "
        "signing secret, api secret, api token, secret access key",
        fits=_is_secret,
        unless="public publishable url",
    ),
)
