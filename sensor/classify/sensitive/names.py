"""What a field's name says of its value: `firstName`, `dob`, `password`. Pure; a table of word sequences.

A name alone proves little, so each kind also says what its values look like (`fits`): a `phone` that is `true` is a
setting, an `address` that is an object is looked into instead.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from sensor.classify.sensitive.kinds import DataKind
from sensor.classify.sensitive.more_names import MORE_RULES
from sensor.classify.sensitive.name_rule import NameRule, list_endings

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)")
_SPLIT = re.compile(r"[^A-Za-z0-9]+")
_DATE = re.compile(r"(?:18|19|20)\d\d[-/.]?\d\d?[-/.]?\d\d?(?:[T ].*)?\Z|\d{1,2}[-/.]\d{1,2}[-/.](?:18|19|20)?\d\d\Z")
_HAS_LETTER = re.compile(r"[^\W\d_]")
_NETWORK = re.compile(r"[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(?:%.*)?\Z")
_PHONE_LETTER = re.compile(r"(?![xet])[^\W\d_]")  # None but those of `ext` and `x12`.
_MASKED = re.compile(r"[*•xX.#-]{3,}\Z")
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
