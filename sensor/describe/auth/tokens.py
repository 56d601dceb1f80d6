"""Reads facts about a JWT that may leave the node: algorithm, issuer, audience and lifetime. A head in, `TokenFact`s
out.

Only what an API's operator chose is reported, never what names a bearer. An issuer or audience that is a URL gives its
host, because hosts are reported anyway. Others give words of API schemas, or the pattern of the value (`{uuid}`).
Lifetimes are reported as the shortest of a few spans that hold them.

Sources: RFC 7519 section 4.1, RFC 7518 section 3.1, RFC 8037.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sensor.http.http1.head import RequestHead

TOKEN_BYTES_MAX: Final = 4_096
HEADERS_MAX: Final = 64
AUDIENCES_MAX: Final = 4
_HOST_CHARACTERS_MAX: Final = 253
_JWT: Final = re.compile(rb"(?<![A-Za-z0-9_\-.])e[yw][A-Za-z0-9_\-]{6,}\.e[yw][A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*")
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\Z")
_ALGORITHMS: Final = frozenset(
    f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)
) | {"EdDSA", "ES256K", "none"}  # fmt: skip
# Upper bounds in seconds: five minutes, a quarter, an hour, a day, a month, a year.
LIFETIMES: Final = (300, 900, 3_600, 86_400, 2_592_000, 31_536_000)
UNBOUNDED: Final = "unbounded"  # Without expiry.
LONGER: Final = "longer"
UNKNOWN: Final = "unknown"  # It does not say when it began.
OTHER: Final = "{word}"


class Claim(StrEnum):
    """What is reported."""

    ALGORITHM = "algorithm"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    LIFETIME = "lifetime"  # Seconds at most.


class TokenFact(msgspec.Struct, frozen=True):
    """`value` is as the token has it where the claim is an issuer or audience that is no URL: private to the node until
    `sensor.describe.schemas.book` has judged it (`is_judged` False)."""

    claim: Claim
    value: str
    is_judged: bool = True

    def __repr__(self) -> str:
        return f"TokenFact(claim={self.claim!r}, redacted)"


class _Header(msgspec.Struct):
    alg: str = ""


class _Claims(msgspec.Struct):
    iss: str | None = None
    aud: Any = None
    exp: int | float | None = None
    iat: int | float | None = None
    nbf: int | float | None = None


_read_header: Final = msgspec.json.Decoder(_Header)
_read_claims: Final = msgspec.json.Decoder(_Claims)


def find_token_facts(head: RequestHead) -> list[TokenFact]:
    """Facts of the first whole JWT in a head, if any. Never raises. Cost: some 10 us, of few calls."""
    headers = head.headers[:-1] if head.is_last_header_cut else head.headers
    for header in headers[:HEADERS_MAX]:
        match = _JWT.search(header.value) if b"ey" in header.value or b"ew" in header.value else None
        if match is not None and len(match.group()) <= TOKEN_BYTES_MAX:
            return list(_read(match.group()))
    return []


def _read(token: bytes) -> Iterator[TokenFact]:
    first, second, signature = token.split(b".")
    try:
        algorithm = _read_header.decode(_decode(first)).alg
        claims = _read_claims.decode(_decode(second))
    except ValueError:
        return
    if not signature:
        algorithm = "none"
    yield TokenFact(Claim.ALGORITHM, algorithm if algorithm in _ALGORITHMS else OTHER)
    yield TokenFact(Claim.LIFETIME, _span(claims))
    if claims.iss:
        yield _judge(Claim.ISSUER, claims.iss)
    audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
    for audience in audiences[:AUDIENCES_MAX]:
        if isinstance(audience, str) and audience:
            yield _judge(Claim.AUDIENCE, audience)


def _judge(claim: Claim, text: str) -> TokenFact:
    """A host of a URL; other text is for others to judge."""
    if "://" in text:
        try:
            host = urlsplit(text).hostname or ""
        except ValueError:
            host = ""
        is_host = len(host) <= _HOST_CHARACTERS_MAX and "." in host and _HOST.match(host)
        return TokenFact(claim, host if is_host else "{url}")
    return TokenFact(claim, text, False)


def _span(claims: _Claims) -> str:
    if claims.exp is None:
        return UNBOUNDED
    began = claims.iat if claims.iat is not None else claims.nbf
    if began is None:
        return UNKNOWN
    seconds = claims.exp - began
    return next((str(span) for span in LIFETIMES if seconds <= span), LONGER)


def _decode(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"==")
