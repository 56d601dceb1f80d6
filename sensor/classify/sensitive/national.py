"""Numbers that states, banks and clinics give to people: each with the check of its issuer, by name of kind.

The checks are those of python-stdnum, a module a country, loaded when a field of that name or form is first met: most
installations meet a few. A number without any check digit is judged by its form alone, and so only where a field's
name says what it is.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Final

from sensor.classify.sensitive.kinds import DataKind

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
_FORMS: Final = {
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
        return bool(kind is DataKind.CRYPTO_ADDRESS and len(text) < 100 and _FORMS[kind].match(text))
    if kind is DataKind.DNI:
        return any(_load(name)(text) for name in _DNI)
    module = _MODULES.get(kind)
    if module is not None:
        return _load(module)(text)
    return _FORMS[kind].match(text) is not None


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
