"""Classifies a field by its name: `firstName`, `dob`, `password`. Pure, a table of word sequences.

A name alone proves little, so each kind also has a check of the value (`fits`). A `phone` that is `true` is a setting,
and an `address` that is an object is searched instead. Numbers without a form of their own are recognised by the
field's name alone, and checked as far as their issuer defines a check.

Some names say little alone: `name` is a person's beside `email`, and a product's beside `price`. Their rules have a
`beside`: the check that applies by words of the holder's name and of the fields next to it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Final

from sensor.sensitive.kinds import DataKind, Prose, is_number
from sensor.sensitive.persons import Evidence, is_person_name

Fits = Callable[[object], bool]


# What an object is of, by words of its holder's name and of the names of its fields. Bits of plain numbers: those of
# an enum cost 20 times as much, and they are asked of every body.
OF_PERSON: Final = 1
OF_THING: Final = 2
OF_NAME: Final = 4
OF_ADDRESS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """One kind: names that end in one of `endings` (whole words), with none of `unless`, and values that `fit`."""

    kind: DataKind
    endings: tuple[tuple[str, ...], ...]
    fits: Fits
    unless: frozenset[str] = frozenset()
    is_whole: bool = False  # An ending is the whole name.
    beside: tuple[tuple[int, Fits], ...] = ()  # Checks that apply in some surroundings; the first counts.

    kinds: frozenset[DataKind] = field(init=False)  # `kind` alone.

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", frozenset((self.kind,)))

    def choose_fits(self, surroundings: int) -> Fits:
        """The check of values of a field with these surroundings."""
        for bits, fits in self.beside:
            if bits & surroundings:
                return fits
        return self.fits


def list_endings(names: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split()) for name in names.split(","))


_WORD = re.compile(r"[^\W\d_]{2,}")
_MASKED = re.compile(r"[*•xX.#-]{3,}\Z")
_SECRET_CHARACTERS_MIN: Final = 8
# A sentence has a capital and then small words, or ends as one; a passphrase seldom does.
_SENTENCE = re.compile(r"[A-Z][^ ]*(?: [a-z]+){2}|[^ ]+ [^.!?]*[.!?]\Z")
_HAS_ALPHANUMERIC = re.compile(r"[^\W_]")
_SAID_OF_SECRETS: Final = frozenset(
    (
        *("string", "str", "text", "required", "optional", "null", "none", "nil", "undefined", "true", "false", "yes"),
        *("no", "invalid", "redacted", "hidden", "masked", "filtered", "removed", "encrypted", "<redacted>", "n/a"),
        *("[redacted]", "[filtered]", "[hidden]", "<hidden>", "<string>", "(hidden)", "not set", "unset", "empty"),
    )
)


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


def _rule(kind: DataKind, names: str, *, fits: Fits | None = None, unless: str = "") -> NameRule:
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
# A host or an address of IP with a port, or in brackets; a path.
_ENDPOINT = re.compile(
    r"\[?[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(?:%\w+)?\]?(?:/\d+)?(?::\d+)?\Z|[\w.-]+:\d{1,5}\Z|[/~]|[A-Z]+ /"
)
_HAS_DIGIT = re.compile(r"\d")
# Two parts, one of them a word; scripts without spaces between words need none.
_PARTED_WORD = re.compile(
    r"[^\W\d_]{2,}[.,]?[\s,]|[\s,][^\W\d_]{2,}|[\u0e00-\u0eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]{2}|[^\W\d_]{4,}\d"
)
_PHONE_LETTER = re.compile(r"(?![xet])[^\W\d_]")  # None but those of `ext` and `x12`.
_NAME_ENTRIES: Final = 16_384
MAX_NAME_CHARACTERS: Final = 128
MAX_ADDRESS_CHARACTERS: Final = 200
MIN_PHONE_DIGITS: Final = 6


def split_words(name: str) -> tuple[str, ...]:
    """`addressLine1`, `address_line_1` -> `address line 1`."""
    parts = _SPLIT.split(_CAMEL.sub(" ", name[:MAX_NAME_CHARACTERS]))
    return tuple(part.lower() for part in parts if part)


def _is_never(value: object) -> bool:
    """Of names that say nothing alone."""
    return False


def _is_street(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return 0 < value < 100_000
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_ADDRESS_CHARACTERS:
        return False
    return "@" not in value and "://" not in value and not value.startswith("0x") and not _ENDPOINT.match(value)


def _is_postal(value: object) -> bool:
    """Much is called an address; one of a house has a number and words apart."""
    return (
        isinstance(value, str)
        and _is_street(value)
        and _HAS_DIGIT.search(value) is not None
        and _PARTED_WORD.search(value.strip()) is not None
    )


def _is_address_line(value: object) -> bool:
    return _is_street(value) and not (isinstance(value, str) and _HAS_LETTER.search(value) is None)


def _is_phone(value: object) -> bool:
    if isinstance(value, bool):
        return False
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or len(text) > 40:
        return False
    return _PHONE_LETTER.search(text) is None and sum(map(str.isdigit, text)) >= MIN_PHONE_DIGITS


def _is_secret(value: object) -> bool:
    """Neither masked, nor what a form or a schema says of the field, nor a sentence about it."""
    if not isinstance(value, str) or not 1 < len(value) <= 512 or _MASKED.match(value) or _SENTENCE.match(value):
        return False
    if isinstance(value, Prose) and (value.isalpha() or not value.isprintable() or " " in value or "/" in value):
        return False
    return value.lower() not in _SAID_OF_SECRETS and _HAS_ALPHANUMERIC.search(value) is not None


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
_NAMED_THINGS: Final = frozenset(
    (
        *("file", "repository", "repo", "project", "package", "class", "company", "domain", "host", "resource", "id"),
        *("algo", "algorithm", "model", "metric", "method", "product", "cluster", "service", "module", "path", "index"),
        *("type", "count", "url", "key", "role", "team", "group", "agent"),
    )
)
# Who a field may name, and what holds one who is named.
_ROLES: Final = (
    ("judge",),
    ("heir",),
    *list_endings(
        "author, authors, creator, owner, assignee, reporter, manager, supervisor, patient, doctor, physician, "
        "practitioner, clinician, nurse, surgeon, attending, therapist, contact, contact person, emergency contact, "
        "customer, client, beneficiary, payee, payer, debtor, creditor, recipient, sender, cardholder, account holder, "
        "card holder, policy holder, policyholder, holder, signatory, subscriber, caller, technician, installer, "
        "driver, passenger, passengers, guest, guests, traveler, traveller, student, pupil, teacher, instructor, "
        "professor, tutor, lecturer, employee, worker, colleague, member, members, person, people, applicant, "
        "candidate, interviewer, interviewers, referrer, witness, plaintiff, defendant, lawyer, attorney, "
        "landlord, lessee, buyer, seller, reviewer, reviewers, editor, translator, maintainer, maintainers, committer, "
        "contributor, contributors, participant, participants, attendee, attendees, organizer, organiser, speaker, "
        "artist, actor, director, composer, byline, advisor, adviser, approver, requester, requestor, submitter, "
        "inspector, on call, next of kin, kin, spouse, husband, wife, mother, father, guardian, lead, curator, "
        "annotator, labeler, insured, claimant, officer, resident, citizen, voter, donor, follower, friend, friends, "
        "player, coach, user, users, profile, account owner, created by, updated by, modified by, ordered by, approved "
        "by, assigned to, submitted by, requested by, signed by, reviewed by, prepared by, written by, reported by, "
        "uploaded by, recorded by, performed by, prescribed by, patron, nominee, tenant contact, consignee, shipper, "
        "commenter, poster, ansprechpartner, empfaenger, kunde, mitarbeiter"
    ),
)
_OF_PERSONS: Final = frozenset(
    (
        *(role[0] for role in _ROLES if len(role) == 1),
        *("email", "emails", "mail", "phone", "phones", "mobile", "tel", "telephone", "birthday", "birthdate", "birth"),
        *("born", "dob", "gender", "sex", "salary", "ssn", "cpf", "passport", "nationality", "avatar", "firstname"),
        *("surname", "lastname", "staff", "customers", "clients", "patients", "employees", "students", "authors"),
        *("applicants", "candidates", "contacts", "leads", "drivers", "doctors", "owners", "managers", "persons"),
    )
)
_OF_THINGS: Final = frozenset(
    (
        *("price", "sku", "brand", "currency", "quantity", "stock", "version", "versions", "publisher", "latitude"),
        *("lat", "longitude", "lon", "lng", "population", "iso", "code", "country", "countries", "cities", "regions"),
        *("codename", "products", "product", "models", "strength", "network", "filename", "mime", "unit", "units"),
        *("airport", "album", "track", "genre", "isbn", "vendor", "vendors", "merchant", "company", "companies"),
        *("organization", "organisation", "org", "campaign", "category", "tags", "repository", "roles", "plan"),
    )
)
_OF_ADDRESSES: Final = frozenset(
    (
        *("address", "addresses", "city", "town", "zip", "zipcode", "postcode", "postal", "country", "street", "state"),
        *("billing", "shipping", "delivery", "residence"),
    )
)
_SURROUNDINGS: Final = {
    **dict.fromkeys(_OF_ADDRESSES, OF_ADDRESS),
    **dict.fromkeys(("names", "fullname"), OF_NAME),
    "name": OF_NAME,
    **dict.fromkeys(_OF_THINGS, OF_THING),
    "country": OF_THING | OF_ADDRESS,
    **dict.fromkeys(_OF_PERSONS, OF_PERSON),
}
_FIRST_OR_LAST: Final = partial(is_person_name, evidence=Evidence.FIRST_OR_LAST)
_PERSON: Final = partial(is_person_name, evidence=Evidence.PERSON)
_NAME_ONLY: Final = partial(is_person_name, evidence=Evidence.NAME_ONLY)
_RULES: Final = (
    NameRule(
        kind=DataKind.PASSWORD,
        endings=list_endings(
            "password, passwd, passphrase, pwd, password repeat, password confirmation, password identifier, "
            "passwort, kennwort, mot de passe, contrasena, senha, wachtwoord"
        ),
        fits=_is_secret,
        unless=frozenset(
            [
                *(
                    "reset",
                    "policy",
                    "expires",
                    "expiry",
                    "length",
                    "require",
                    "url",
                    "hint",
                    "changed",
                    "last",
                    "label",
                ),
                *("has", "is", "set", "validator", "help", "error", "errors", "placeholder", "message"),
            ]
        ),
    ),
    NameRule(
        kind=DataKind.PASSWORD,
        endings=list_endings("password hash, passwd hash, pwd hash, hashed password, password digest, pass hash"),
        fits=lambda value: _is_long_secret(value) and _HAS_LETTER.search(str(value)) is not None,
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
            "first name, last name, middle name, given name, family name, surname, firstname, lastname, middlename, "
            "maiden name, forename, vorname, nachname, apellido, apellidos, prenom, nom de famille, cognome, imie, "
            "nazwisko, voornaam, achternaam, fornavn, etternavn, efternavn, fornamn, efternamn, sobrenome, soyad"
        ),
        fits=_FIRST_OR_LAST,
        unless=_NAMED_THINGS,
    ),
    NameRule(
        kind=DataKind.PERSON_NAME,
        endings=(
            *list_endings("full name, fullname, person name, nombre completo, nome completo, ad soyad"),
            *((*role, *end) for role in _ROLES for end in ((), ("name",), ("display", "name"))),
        ),
        fits=_PERSON,
        unless=_NAMED_THINGS,
    ),
    NameRule(
        kind=DataKind.PERSON_NAME,
        endings=list_endings(
            "name, display name, displayname, real name, realname, preferred name, legal name, nome, nombre"
        ),
        fits=_NAME_ONLY,
        is_whole=True,
        beside=((OF_PERSON, _PERSON), (OF_THING, _is_never)),
    ),
    NameRule(
        kind=DataKind.PERSON_NAME,
        endings=list_endings("family, given, first, last, middle"),
        fits=_is_never,
        is_whole=True,
        beside=((OF_NAME, _PERSON),),
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
            "street, street name, street number, street address, address line 1, address 1, address "
            "street, address line 1 check, streetaddress"
        ),
        fits=_is_street,
        unless=_TECHNICAL,
    ),
    NameRule(
        kind=DataKind.ADDRESS,
        endings=list_endings("line 1"),
        fits=_is_never,
        beside=((OF_ADDRESS, _is_address_line),),
        unless=_TECHNICAL,
    ),
    NameRule(
        kind=DataKind.ADDRESS,
        endings=list_endings("address, address line, adresse, direccion, endereco, indirizzo, anschrift"),
        fits=_is_postal,
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
_NO_RULES: Final[tuple[tuple[int, NameRule], ...]] = ()
_LONGEST_ENDING: Final = max(map(len, _BY_ENDING))


def _read_name(name: str) -> NameRule | None:
    words = split_words(name)
    found: tuple[int, NameRule] | None = None
    for count in range(1, min(len(words), _LONGEST_ENDING) + 1):
        for place, rule in _BY_ENDING.get(words[-count:], _NO_RULES):
            is_first = found is None or place < found[0]
            if is_first and rule.unless.isdisjoint(words) and (not rule.is_whole or count == len(words)):
                found = place, rule
    return None if found is None else found[1]


class _NameSurroundings(dict[str, int]):
    """What a name says of what is beside it. Holds what was asked; starts anew when it is full."""

    def __missing__(self, name: str) -> int:
        if len(self) >= _NAME_ENTRIES:
            self.clear()
        found = 0
        for word in split_words(name):
            found |= _SURROUNDINGS.get(word, 0)
        if len(name) <= MAX_NAME_CHARACTERS:
            self[name] = found
        return found


NAME_SURROUNDINGS: Final = _NameSurroundings()


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
