"""Identifies the caller of a request: `Evidence` in, keyed hashes of principal and credential out, no values.

The *credential* is the whole value presented. The *principal* is who it belongs to: a refreshed JWT is a new credential
of the same principal. A request that is signed anew each time presents its key, not its signature. A signature without
a key name (`_UNNAMED`) names nobody. Of several credentials the strongest names the caller, in the order of
`_STRENGTH`.

A credential that the copy limit may have cut is `truncated` and never hashed. JWTs of one issuer share their first
bytes, so two callers would become one.

Weak JWTs are marked: unsigned, signed with a key that everybody knows, never expiring, or too long-lived. The token and
its claims never leave the node. Sources: RFC 8725 (best practices for JWT), sections 2.1, 2.2 and 3.5. The known keys
are those that documentation and tutorials print.
"""

import hmac
import re
from base64 import urlsafe_b64decode
from functools import lru_cache
from typing import Final

import msgspec

from common.principals import (
    is_jwt,
    name_basic_user,
    name_bearer,
    name_certificate,
    name_digest_user,
    name_oauth1_key,
    name_signature_key,
    name_sigv4_key,
)
from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.calls import Credentials, PrincipalKind
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.authentication import Authenticator, Evidence
from sensor.describe.auth.carriers import CarrierNames
from sensor.http.http1.head import RequestHead

# A token that is good for longer is a password that nobody chose; RFC 8725 asks for short lives without a number.
LONG_LIFE_SECONDS: Final = 24 * 3_600
TOKEN_BYTES_MAX: Final = 4_096
_HASHES: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
# What an attacker tries first. Each costs a hash (2 us) once a token.
KNOWN_KEYS: Final = (
    b"", b"secret", b"secretkey", b"secret_key", b"secret-key", b"your-256-bit-secret", b"your-384-bit-secret",
    b"your-512-bit-secret", b"your_jwt_secret", b"jwt_secret", b"jwtsecret", b"jwt-secret", b"JWT_SECRET",
    b"mysecret", b"my_secret", b"my-secret", b"supersecret", b"super-secret", b"shhhhh", b"shhhhhared-secret",
    b"password", b"changeme", b"change-me", b"key", b"test", b"dev", b"development", b"default", b"admin",
    b"123456", b"12345678", b"1234567890", b"qwerty", b"token", b"private", b"hs256", b"HS256", b"jwt", b"null",
    b"a-string-secret-at-least-256-bits-long", b"AllYourBase", b"gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr9C", b"0",
)  # fmt: skip
_JWT = re.compile(rb"e[yw][A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*")


class _Header(msgspec.Struct):
    alg: str = ""


class _Times(msgspec.Struct):
    exp: int | float | None = None
    iat: int | float | None = None
    nbf: int | float | None = None


_read_header: Final = msgspec.json.Decoder(_Header)
_read_times: Final = msgspec.json.Decoder(_Times)


def find_weaknesses(value: bytes) -> Kind:
    """The weaknesses of the JWT in a credential, as bits; none where there is no JWT. Never raises. Cost: 100 us with
    an HMAC signature, 5 without."""
    match = _JWT.search(value) if len(value) <= TOKEN_BYTES_MAX else None
    if match is None:
        return Kind.NONE
    signed, _, signature = match.group().rpartition(b".")
    head, _, payload = signed.partition(b".")
    try:
        algorithm = _read_header.decode(_decode(head)).alg
        times = _read_times.decode(_decode(payload))
    except ValueError:
        return Kind.NONE
    return _judge_signature(algorithm, signed, signature) | _judge_life(times)


def _judge_signature(algorithm: str, signed: bytes, signature: bytes) -> Kind:
    if algorithm.lower() == "none" or not signature:
        return Kind.JWT_UNSIGNED
    name = _HASHES.get(algorithm)
    if name is None:
        return Kind.NONE
    try:
        given = _decode(signature)
    except ValueError:
        return Kind.NONE
    is_known = any(hmac.compare_digest(hmac.digest(key, signed, name), given) for key in KNOWN_KEYS)
    return Kind.JWT_KNOWN_KEY if is_known else Kind.NONE


def _judge_life(times: _Times) -> Kind:
    if times.exp is None:
        return Kind.JWT_NO_EXPIRY
    began = times.iat if times.iat is not None else times.nbf
    return Kind.JWT_LONG_LIVED if began is not None and times.exp - began > LONG_LIFE_SECONDS else Kind.NONE


def _decode(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"==")


# Principals by credential hash and kind, so that one JWT is decoded once: the same text may be a key under one name and
# a session under another. Dropped whole when full; an entry costs ~220 bytes.
_PRINCIPAL_CACHE_ENTRIES: Final = 16_384
# Requests with one credential, by its value: nearly all. Dropped whole when full; longer values are read anew, so
# hostile ones make it hold 9 MB.
_KNOWN_ENTRIES: Final = 4_096
_KNOWN_VALUE_BYTES: Final = 2_048
_KIND_ENTRIES: Final = 1_024

# What names the caller best, best first. A JWT names its subject, a certificate its workload, a key its owner; a
# session only itself.
_STRENGTH: Final = (
    Kind.BEARER_JWT, Kind.JWT_CUSTOM_HEADER, Kind.BASIC, Kind.DIGEST, Kind.MTLS_FORWARDED, Kind.AWS_SIGV4,
    Kind.AWS_SIGV4_QUERY, Kind.OAUTH1,
    Kind.BEARER_OPAQUE, Kind.API_KEY_HEADER, Kind.API_KEY_QUERY, Kind.API_KEY_COOKIE, Kind.HTTP_MESSAGE_SIGNATURE,
    Kind.COOKIE_SESSION,
    Kind.NEGOTIATE, Kind.OTHER, Kind.HMAC_SIGNATURE,
)  # fmt: skip
_MAY_BE_JWT: Final = (
    Kind.BEARER_JWT | Kind.JWT_CUSTOM_HEADER | Kind.COOKIE_SESSION | Kind.API_KEY_COOKIE | Kind.API_KEY_QUERY
).value
# By plain number: an operation on members of a flag costs 1 us, on their numbers 0.03.
_RANK: Final = {kind.value: rank for rank, kind in enumerate(_STRENGTH)}

# Every signature differs, so the key that it names is the credential too; and where it names none, nobody is named.
_SIGNED: Final = frozenset(
    kind.value for kind in (Kind.AWS_SIGV4, Kind.AWS_SIGV4_QUERY, Kind.DIGEST, Kind.OAUTH1, Kind.HTTP_MESSAGE_SIGNATURE)
)
_UNNAMED: Final = Kind.HMAC_SIGNATURE.value
_NONE: Final = Credentials(Kind.NONE, 0, PrincipalKind.UNSPECIFIED, 0, False)


@lru_cache(maxsize=_KIND_ENTRIES)
def _combine(bits: int) -> Kind:
    return Kind(bits)


class Principals:
    """Reads the credentials of a request under one installation key. A possible credential names nobody."""

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._hash = keyed_hash
        self._authenticator = Authenticator()
        self._cache: dict[tuple[int, int], tuple[int, PrincipalKind]] = {}  # By credential and its kind.
        self._carriers = CarrierNames(keyed_hash)
        self._known: dict[bytes, tuple[bytes, Credentials]] = {}  # With the carrier's name, by value.

    def read(self, head: RequestHead) -> Credentials:
        """Kinds of every credential, hashes of the strongest. Cost: 0.4 us for a request without any, 0.6 us with a
        known one.
        """
        found = self._authenticator.find(head)
        if not found:
            return _NONE
        if len(found) > 1:
            return self._read_many(found)
        only = found[0]
        known = self._known.get(only.value)
        if known is not None and known[0] == only.name and not only.is_cut:
            credentials = known[1]
            if credentials.authentication.value & only.kind.value:
                return credentials
        credentials = self._read_many(found)
        if not only.is_cut and credentials.credential and len(only.value) <= _KNOWN_VALUE_BYTES:
            if len(self._known) >= _KNOWN_ENTRIES:
                self._known.clear()
            self._known[only.value] = only.name, credentials
        return credentials

    def _read_many(self, found: list[Evidence]) -> Credentials:
        bits = 0
        best: Evidence | None = None
        best_rank = len(_STRENGTH)
        for evidence in found:
            number = evidence.kind.value
            bits |= number
            if number & _MAY_BE_JWT and not evidence.is_cut:
                bits |= find_weaknesses(evidence.value).value
            rank = _RANK.get(number, best_rank)
            if rank < best_rank:
                best, best_rank = evidence, rank
        kinds, carriers = _combine(bits), self._carriers.name(found)
        if best is None or best.kind.value == _UNNAMED:
            return Credentials(kinds, 0, PrincipalKind.UNSPECIFIED, 0, False, carriers)
        if best.is_cut:
            return Credentials(kinds, 0, PrincipalKind.UNSPECIFIED, 0, True, carriers)
        if best.kind.value in _SIGNED:
            named, text = identify(best)
            key = self._hash(text)
            return Credentials(kinds, key, named, key, False, carriers)
        # The carrier's name is part of it: the same text under two names is two credentials only where the server reads
        # both.
        credential = self._hash(best.value)
        principal, kind = self._name(best, credential)
        return Credentials(kinds, principal, kind, credential, False, carriers)

    def _name(self, evidence: Evidence, credential: int) -> tuple[int, PrincipalKind]:
        key = (credential, evidence.kind.value)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        kind, identity = identify(evidence)
        named = (credential if identity == evidence.value else self._hash(identity), kind)
        if len(self._cache) >= _PRINCIPAL_CACHE_ENTRIES:
            self._cache.clear()
        self._cache[key] = named
        return named


def identify(evidence: Evidence) -> tuple[PrincipalKind, bytes]:
    """Kind of principal and the text that names it (never to leave the node unhashed)."""
    value = evidence.value
    kind = evidence.kind
    if kind in (Kind.BEARER_JWT, Kind.JWT_CUSTOM_HEADER, Kind.COOKIE_SESSION, Kind.API_KEY_COOKIE, Kind.API_KEY_QUERY):
        token = value.rpartition(b" ")[2]
        if is_jwt(token):
            named = name_bearer(token)
            if named is not None:
                text, is_client = named
                return PrincipalKind.JWT_CLIENT if is_client else PrincipalKind.JWT_SUBJECT, text
    if kind == Kind.BASIC:
        return PrincipalKind.BASIC_USER, name_basic_user(value)
    if kind == Kind.DIGEST:
        return PrincipalKind.BASIC_USER, name_digest_user(value)
    if kind in (Kind.AWS_SIGV4, Kind.AWS_SIGV4_QUERY):
        return PrincipalKind.API_KEY, name_sigv4_key(value)
    if kind == Kind.OAUTH1:
        return PrincipalKind.API_KEY, name_oauth1_key(value)
    if kind == Kind.HTTP_MESSAGE_SIGNATURE:
        return PrincipalKind.API_KEY, name_signature_key(value)
    if kind == Kind.MTLS_FORWARDED:
        return PrincipalKind.SPIFFE, name_certificate(value)
    if kind in (Kind.API_KEY_HEADER, Kind.API_KEY_QUERY, Kind.API_KEY_COOKIE):
        return PrincipalKind.API_KEY, value
    if kind == Kind.COOKIE_SESSION:
        return PrincipalKind.SESSION, value
    return PrincipalKind.TOKEN, value
