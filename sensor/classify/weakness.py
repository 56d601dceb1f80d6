"""What is weak about a JWT: unsigned, signed with a key that everybody knows, never expiring, too long-lived.

Read once for each credential (sensor/classify/principal.py keeps the answer); neither the token nor its claims leave
the node. Sources: RFC 8725 (best practices for JWT), sections 2.1, 2.2 and 3.5; the known keys are those that
documentation and tutorials print.
"""

import hmac
import re
from base64 import urlsafe_b64decode
from typing import Final

import msgspec

from sensor.calls import AuthenticationKind as Kind

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
    except (ValueError, msgspec.DecodeError):
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
