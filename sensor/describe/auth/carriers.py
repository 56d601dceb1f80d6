"""Names where the credentials of a request are: `Evidence`s in, one text that may leave the node out.

`header authorization bearer,cookie sessionid`: place and name, and in `Authorization` the scheme. Names of credentials
are chosen when an API is written, and its clients need them. A client may send any name, so one that looks like a
value is reported as its pattern (`cookie {integer}`), as names of fields are (`sensor.describe.schemas.tree`). An
unknown word is reported as a keyed hash of the name without its digits, which keeps two such carriers apart. Headers
that are credentials are reported in all but such forms, for their names have fixed words and no data.

Possible credentials are named only where a request has no other: the collector decides by such requests.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.keyed import KeyedHash
from sensor.describe.auth import schemes
from sensor.describe.auth.authentication import Evidence, Place
from sensor.describe.schemas.tree import MAX_DIGITS, WORD_PATTERN, judge_name
from sensor.routes.shared_use import Telling
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.values import find_kinds

# Of one request: an API asks for one or two, and a browser's cookies are many.
CARRIERS_MAX: Final = 3
_NAMES_KEPT: Final = 4_096
_KEPT_NAME_BYTES: Final = 64  # Hostile names would fill the cache.
_HASH_BITS: Final = 32
_SEPARATORS: Final = frozenset(" ,{}")  # Of what is reported.
_DIGITS: Final = re.compile(rb"\d+")
_HEADER_NAME: Final = re.compile(r"(?=.{1,64}\Z)[a-z0-9]{1,20}(?:[-_.][a-z0-9]{1,20})*\Z")
_HEX: Final = re.compile(r"(?=[a-f]*\d)[0-9a-f]{8}")
_AUTHORIZATION: Final = b"authorization"
# Flattened names of published tables, which say nothing of who uses them.
_PUBLIC: Final = frozenset().union(
    *(schemes.SESSION_COOKIES, schemes.KEY_COOKIES, schemes.QUERY_KEYS, schemes.SESSION_PARAMETERS),
    *(schemes.DOCUMENTED_KEYS, schemes.JWT_HEADERS, schemes.SIGNATURE_HEADERS),
    (schemes.flatten_name(name) for name in schemes.CERTIFICATE_HEADERS),
)
_SCHEMES: Final = frozenset((*schemes.AUTHORIZATION_SCHEMES, *schemes.BEARER_SCHEMES))


class CarrierNames:
    """Names under one installation key. Holds a bounded cache."""

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._hash = keyed_hash.compute
        self._find = lru_cache(maxsize=_NAMES_KEPT)(self._make)

    def name(self, found: Iterable[Evidence]) -> str:
        """The carriers of a request. Those of credentials are in the order of the request, possible ones sorted."""
        known: dict[str, None] = {}
        possible: set[str] = set()
        for evidence in found:
            find = self._find if len(evidence.name) <= _KEPT_NAME_BYTES else self._make
            if evidence.kind is Kind.POSSIBLE_CREDENTIAL:
                possible.add(find(evidence.place, evidence.name, False))
            else:
                known[find(evidence.place, evidence.name, True) + _read_scheme(evidence)] = None
        return ",".join((list(known) or sorted(possible))[:CARRIERS_MAX])

    def _make(self, place: Place, name: bytes, is_credential: bool) -> str:
        text = name.decode("latin-1")
        telling, pattern = judge_name(text.lstrip("."), load_vocabulary())
        is_public = schemes.flatten_name(name) in _PUBLIC and text.isprintable() and not _SEPARATORS.intersection(text)
        is_shared = is_credential and (telling is Telling.SHARED or (place is Place.HEADER and _is_header_name(text)))
        if is_public or is_shared or telling is Telling.NOW:
            return f"{place} {text}"
        if pattern == WORD_PATTERN:
            pattern = f"{WORD_PATTERN}:{self._hash(b'carrier ' + _DIGITS.sub(b'', name)) >> 64 - _HASH_BITS:08x}"
        return f"{place} {{{pattern}}}"


def _is_header_name(text: str) -> bool:
    """Whether a name has the form of those that APIs choose: short words with few digits, no vendor's form of a key."""
    is_plain = _HEADER_NAME.match(text) is not None and sum(character.isdigit() for character in text) <= MAX_DIGITS
    return is_plain and not _HEX.search(text) and not find_kinds(text)


def _read_scheme(evidence: Evidence) -> str:
    """The scheme of an `Authorization` header, if it is one of the known ones."""
    if evidence.name != _AUTHORIZATION:
        return ""
    scheme, blank, _ = evidence.value.partition(b" ")
    lower = scheme.lower()
    return f" {lower.decode()}" if blank and lower in _SCHEMES else ""
