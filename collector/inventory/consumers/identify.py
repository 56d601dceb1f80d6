"""Finds the consumer behind a token, key, user or subject that a person pastes, and keeps nothing of it.

Sensors report keyed hashes, and the collector has the installation's keys. So a text is hashed in every form in which a
client may have sent it (`list_forms`), under every key that is kept, and the hashes are looked up in the rows of calls.
Only hashes reach the store. A `Form` shows no text in its `repr`.
"""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from collector.core.keys import InstallationKey
from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import Consumer, ConsumerName
from collector.inventory.consumers.consumers import ConsumerInventory
from collector.inventory.query import Span
from collector.storage.records import Reader, select
from common import principals
from common.keyed_hash import hash_value

PASTE_CHARACTERS_MAX: Final = 16_384  # A head of HTTP.
ISSUERS_MAX: Final = 20
_PAIRS_MAX: Final = 50
# A header line, as `curl -v` and browsers show it; without the blank it may be `user:password` or a URN.
_HEADER: Final = re.compile(r"(?:-H\s+)?['\"]?([A-Za-z][A-Za-z0-9_-]*):\s+(.*?)['\"]?\Z", re.DOTALL)
_PAIR: Final = re.compile(r"([\w.\-\[\]]+)=([^&;\s]+)")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9-]*\Z")
# How clients spell the schemes under which one token travels.
_SPELLINGS: Final = (
    b"Bearer", b"bearer", b"BEARER", b"Token", b"token", b"JWT", b"jwt", b"DPoP", b"ApiKey", b"apikey", b"Api-Key",
    b"api-key", b"Key", b"key", b"SSWS", b"Bot", b"PrivateToken", b"ApiToken", b"AccessToken",
)  # fmt: skip
# Hosts of issuers that sensors saw; their `iss` is a URL.
_ISSUER_HOSTS: Final = """
SELECT DISTINCT claim.2 AS host FROM (
    SELECT arrayJoin(JSONExtract(operations, 'Array(Tuple(String, String, UInt64))')) AS claim
    FROM schemas WHERE part = 110
) WHERE claim.1 = 'issuer' AND claim.2 LIKE '%.%' ORDER BY host LIMIT 20"""
_Named = Callable[[bytes], bytes]
_SIGNED: Final[dict[bytes, tuple[str, _Named]]] = {
    b"digest": ("user of Digest", principals.name_digest_user),
    b"oauth": ("key of OAuth 1", principals.name_oauth1_key),
    b"signature": ("key of a signature", principals.name_signature_key),
    **dict.fromkeys(
        (b"aws4-hmac-sha256", b"aws4-ecdsa-p256-sha256", b"aws4-hmac-sha256-payload"),
        ("access key of AWS", principals.name_sigv4_key),
    ),
}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to read a text: what it would be, in words, and what sensors would hash."""

    kind: ConsumerKind
    words: str
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """A consumer whose calls carried the text: what it was there, and the keys of its hashes."""

    consumer: Consumer
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a text is called where it is sent in this form under this key, seen or not."""

    name: ConsumerName
    words: str
    key_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """Who was found, busiest first, and all names that were looked up."""

    found: tuple[Identified, ...]
    candidates: tuple[Candidate, ...]


def list_forms(text: str, issuers: Sequence[str] = ()) -> tuple[Form, ...]:
    """Every form that a pasted text may have had in a request, each once. `issuers`: who may have issued a JWT whose
    subject or client the text is."""
    value = text.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    found = dict.fromkeys(form for piece in _list_pieces(value) for form in _read_credential(piece))
    found |= dict.fromkeys(_read_name(value.encode("utf-8", "replace"), issuers))
    return tuple(form for form in found if form.text)


def _list_pieces(value: str) -> Iterator[bytes]:
    """The values in a header line, in cookies and in a query; first the text as it is."""
    yield value.encode("utf-8", "replace")
    header = _HEADER.match(value)
    if header is not None:
        yield header[2].strip().encode("utf-8", "replace")
    for pair in list(_PAIR.finditer(value))[:_PAIRS_MAX]:
        raw = pair[2].encode("utf-8", "replace")
        yield raw
        yield unquote_to_bytes(raw)


def _read_credential(value: bytes) -> Iterator[Form]:
    """A credential, and whom it names."""
    scheme, _, rest = value.partition(b" ")
    token = rest.strip() if rest and _SCHEME.match(scheme) else value
    for written in dict.fromkeys((value, token)):
        yield Form(ConsumerKind.PRINCIPAL, "key, session or token", written)
        yield Form(ConsumerKind.CREDENTIAL, "credential", written)
    if b" " not in token:
        for spelling in _SPELLINGS:
            yield Form(ConsumerKind.PRINCIPAL, f"token after {spelling.decode()}", spelling + b" " + token)
            yield Form(ConsumerKind.CREDENTIAL, f"token after {spelling.decode()}", spelling + b" " + token)
    if principals.is_jwt(token) and (named := principals.name_bearer(token)) is not None:
        owner, is_client = named
        yield Form(ConsumerKind.PRINCIPAL, "client of the JWT" if is_client else "subject of the JWT", owner)
    if scheme.lower() == b"basic" and rest:
        yield Form(ConsumerKind.PRINCIPAL, "user of Basic", principals.name_basic_user(value))
    elif b":" in value:
        encoded = b"Basic " + base64.b64encode(value)
        yield Form(ConsumerKind.CREDENTIAL, "user and password of Basic", encoded)
        yield Form(ConsumerKind.PRINCIPAL, "user of Basic", principals.name_basic_user(encoded))
    signed = _SIGNED.get(scheme.lower())
    if signed is not None:
        yield from _sign(signed[0], signed[1](value))
    if b"URI=" in value or b"Subject=" in value:
        yield Form(ConsumerKind.PRINCIPAL, "workload of a certificate", principals.name_certificate(value))


def _read_name(value: bytes, issuers: Sequence[str]) -> Iterator[Form]:
    """A name of somebody, as credentials have it."""
    yield Form(ConsumerKind.PRINCIPAL, "user of Basic or Digest", principals.name_user(value))
    for issuer in dict.fromkeys(("", *issuers)):
        of = f" of {issuer}" if issuer else ""
        issued_by = issuer.encode("utf-8", "replace")
        yield Form(ConsumerKind.PRINCIPAL, f"subject of a JWT{of}", principals.name_subject(issued_by, value))
        yield Form(ConsumerKind.PRINCIPAL, f"client of a JWT{of}", principals.name_client(issued_by, value))
    yield from _sign("access key of AWS", b"sigv4\0" + value)
    yield from _sign("key of OAuth 1", b"oauth1\0" + value)
    yield from _sign("key of a signature", b"keyid\0" + value)
    yield from _sign("user of Digest", principals.name_user(value))
    yield Form(ConsumerKind.PRINCIPAL, "subject of a certificate", b"subject\0" + value)


def _sign(words: str, text: bytes) -> Iterator[Form]:
    """Every signature differs, so the key that it names is the credential too."""
    yield Form(ConsumerKind.PRINCIPAL, words, text)
    yield Form(ConsumerKind.CREDENTIAL, words, text)


class ConsumerFinder:
    """`list_keys` gives all installation keys that are kept, the newest first."""

    def __init__(
        self, *, reader: Reader, consumers: ConsumerInventory, list_keys: Callable[[], Sequence[InstallationKey]]
    ) -> None:
        self._reader = reader
        self._consumers = consumers
        self._list_keys = list_keys

    def identify(self, text: str, issuers: Sequence[str], span: Span) -> Identification:
        """Who carried the text within the span. Raises KeyFileError, StoreError; no message has the text."""
        known = [row["host"] for row in select(self._reader, _ISSUER_HOSTS)]
        urls = [f"https://{host}{end}" for host in known for end in ("", "/")]
        forms = list_forms(text, (*issuers, *urls))
        hashes: dict[int, list[str]] = {}
        candidates: dict[ConsumerName, Candidate] = {}
        for key in self._list_keys():
            for form in forms:
                number = hash_value(key.secret, form.text)
                name = ConsumerName(kind=form.kind, value=f"{number:016x}")
                hashes.setdefault(number, []).append(form.words)
                candidates.setdefault(name, Candidate(name=name, words=form.words, key_id=key.key_id))
        found = tuple(
            Identified(consumer=consumer, forms=tuple(dict.fromkeys(words for one in seen for words in hashes[one])))
            for consumer, seen in self._consumers.find_hashed(list(hashes), span)
        )
        return Identification(found=found, candidates=tuple(candidates.values()))
