"""The texts that name the owner of a credential. Sensors hash them, and the collector hashes them alike to find a
caller by a token or a name.

A JWT names its subject or its client, Basic its user, a signature its key, a certificate its workload; every other
credential names only itself. Pure. Sources: RFC 7519 section 4.1, RFC 9068 section 2.2, OpenID Connect Core (`azp`),
RFC 7617, RFC 7515 section 3.1.
"""

import re
from base64 import urlsafe_b64decode
from typing import Final

import msgspec

# RFC 7519: three base64url parts, the first a JSON object (`{"` encodes as eyJ, `{ ` as eyA, `{\n` as ewo); the
# signature may be empty.
_JWT: Final = re.compile(rb"e[yw][A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{2,}\.[A-Za-z0-9_\-]*\Z")
_SIGV4_KEY: Final = re.compile(rb"Credential=([^/,%\s&]+)", re.IGNORECASE)
_DIGEST_USER: Final = re.compile(rb'username="?([^",]+)')
_OAUTH1_KEY: Final = re.compile(rb'oauth_(?:token|consumer_key)="?([^",&]+)')
_KEY_ID: Final = re.compile(rb'keyid="?([^",;]+)', re.IGNORECASE)
_SPIFFE: Final = re.compile(rb"URI=\"?(spiffe://[^;,\"\s]+)")
_SUBJECT: Final = re.compile(rb"Subject=\"([^\"]+)\"")


class _Claims(msgspec.Struct):
    """The claims that name a bearer."""

    iss: str | None = None
    sub: str | int | None = None
    client_id: str | None = None
    azp: str | None = None
    appid: str | None = None  # Microsoft Entra ID, version 1 tokens.


_claims_decoder: Final = msgspec.json.Decoder(_Claims)


def is_jwt(value: bytes) -> bool:
    """Whether `value` has the form of a signed or unsecured JWT (JWS compact serialization)."""
    return value[:1] == b"e" and _JWT.match(value) is not None


def name_bearer(token: bytes) -> tuple[bytes, bool] | None:
    """The text of a JWT's issuer and subject, or of its client where it was issued to a program, and whether it is a
    client; None when the payload names nobody."""
    try:
        claims = _claims_decoder.decode(urlsafe_b64decode(token.split(b".", 2)[1] + b"=="))
    except ValueError:
        return None
    issuer = (claims.iss or "").encode("utf-8", "replace")
    if claims.sub is not None and claims.sub != "":
        return name_subject(issuer, str(claims.sub).encode("utf-8", "replace")), False
    client = claims.client_id or claims.azp or claims.appid
    if client:
        return name_client(issuer, client.encode("utf-8", "replace")), True
    return None


def name_subject(issuer: bytes, subject: bytes) -> bytes:
    """Of a JWT's subject."""
    return b"\0".join((b"jwt", issuer, subject))


def name_client(issuer: bytes, client: bytes) -> bytes:
    """Of the program that a JWT was issued to."""
    return b"\0".join((b"jwt client", issuer, client))


def name_user(user: bytes) -> bytes:
    """Of a user of Basic or Digest."""
    return b"basic\0" + user


def name_basic_user(value: bytes) -> bytes:
    """Of `Basic ...`, by the user-id of RFC 7617; of the whole value where it is not base64."""
    encoded = value.partition(b" ")[2].strip()
    try:
        decoded = urlsafe_b64decode(encoded.replace(b"+", b"-").replace(b"/", b"_") + b"==")
    except ValueError:
        return name_user(value)
    return name_user(decoded.partition(b":")[0])


def name_digest_user(value: bytes) -> bytes:
    """Of `Digest ...`."""
    return _first_group(_DIGEST_USER, value, b"basic\0")


def name_sigv4_key(value: bytes) -> bytes:
    """Of a signature of AWS, version 4, in the header or the query: its access key id."""
    return _first_group(_SIGV4_KEY, value, b"sigv4\0")


def name_oauth1_key(value: bytes) -> bytes:
    """Of `OAuth oauth_...`: its token, or the key of the program."""
    return _first_group(_OAUTH1_KEY, value, b"oauth1\0")


def name_signature_key(value: bytes) -> bytes:
    """Of a signature of HTTP messages: its key id."""
    return _first_group(_KEY_ID, value, b"keyid\0")


def name_certificate(value: bytes) -> bytes:
    """Of a header that a TLS terminator sets: the SPIFFE id, else the subject."""
    return _first_group(_SPIFFE, value, b"") if _SPIFFE.search(value) else _first_group(_SUBJECT, value, b"subject\0")


def _first_group(pattern: re.Pattern[bytes], value: bytes, prefix: bytes) -> bytes:
    match = pattern.search(value)
    return value if match is None else prefix + match.group(1)
