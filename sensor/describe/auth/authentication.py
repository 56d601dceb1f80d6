"""Finds the credentials of a request: a `RequestHead` in, `Evidence` out (the kind and raw value of each credential).

Names decide, by the tables of `sensor.describe.auth.schemes`. A JWT is evidence, because of its form. A value that
looks random is not evidence: under a name that says nothing it is `POSSIBLE_CREDENTIAL`. The collector then compares
calls with and without it (collector/inventory/credentials.py).

Values stay on the node. `sensor.describe.auth.principal` turns them into keyed hashes.
"""

import re
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from common.principals import is_jwt
from sensor.core.calls import AuthenticationKind as Kind
from sensor.describe.auth import schemes
from sensor.describe.auth.schemes import HeaderRole, classify_header_name
from sensor.http.http1.head import Header, RequestHead

# What a server signed and gives back to itself, under any name: payload and HMAC (SHA-1, SHA-256, SHA-512). In order:
# itsdangerous and Flask, Django's signing, Express, Rails.
_SIGNED: Final = re.compile(
    rb"(?:[\w=-]{4,}\.[\w-]{5,8}\.(?:[\w-]{27}|[\w-]{43}|[\w-]{86})"
    rb"|[\w=-]{4,}:[\w-]{5,8}:(?:[\w-]{27}|[\w-]{43})"
    rb"|s:[\w-]{8,}\.[A-Za-z0-9+/]{43}"
    rb"|[\w+/=-]{16,}--(?:[0-9a-f]{40}|[0-9a-f]{64}))\Z"
)
# Cookies in one header are few; browsers keep at most 180 a site (RFC 6265 asks for 50).
MAX_COOKIES: Final = 200
MAX_QUERY_PARAMETERS: Final = 200
# Shorter values are flags and codes, not keys.
_KEY_BYTES: Final = 6
# The shortest keys of vendors' documentation.
_OPAQUE_BYTES: Final = 16
# Roles and answers by name; longer names are classified anew. Under 1 MB.
# Lines whose evidence is kept, and the longest value; dropped whole when full.
_LINE_CACHE_ENTRIES: Final = 1_024
_CACHED_VALUE_BYTES: Final = 2_048
_NAME_CACHE_ENTRIES: Final = 4_096
_CACHED_NAME_BYTES: Final = 64

_OPAQUE = re.compile(rb"[A-Za-z0-9._~+/=\-|:]+\Z")
_DIGIT = re.compile(rb"[0-9]")
_LETTER = re.compile(rb"[A-Za-z]")
_VERSION = re.compile(rb"\d+(\.\d+)+")
_DATE = re.compile(rb"(?<![0-9A-Za-z])\d{4}-\d\d-\d\d(?![0-9A-Za-z])")
# `token=next:...` pages through a list.
_PAGE_TOKEN = re.compile(rb"(next|prev|previous|page|cursor|after|before|offset|start)[:=_.|]", re.IGNORECASE)


class Place(StrEnum):
    """Where in a request a credential is."""

    HEADER = "header"
    QUERY = "query"
    COOKIE = "cookie"


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """One credential found, or what might be one. `value` never leaves the node."""

    kind: Kind
    name: bytes  # Header name in lower case, query parameter or cookie.
    value: bytes
    is_cut: bool  # The copy limit may have cut the value.
    place: Place = Place.HEADER

    def __repr__(self) -> str:
        return f"Evidence(kind={self.kind!r}, is_cut={self.is_cut}, value redacted)"


# Headers that `classify_header_name` calls ignored, and that are read for themselves or to explain another one.
_READ_OTHERWISE: Final = frozenset((b"authorization", b"cookie", b"signature-input", *schemes.CERTIFICATE_VERDICTS))
# Query parameters that are credentials only together.
_SIGNATURE_PARAMETERS: Final = frozenset(
    (
        "x-amz-signature", "sig", "sv", "se", "signature", "expires", "x-goog-credential", "key-pair-id",
        "x-goog-signature", "oauth_signature",
    )
)  # fmt: skip
# Stands for the reading of a header that says nothing without the others of its head.
_IN_CONTEXT: Final = (Evidence(Kind.NONE, b"", b"", False),)


def is_opaque(value: bytes) -> bool:
    """Whether `value` looks random: long, one word, letters and digits mixed, no date, version or address."""
    if len(value) < _OPAQUE_BYTES or not _OPAQUE.match(value) or _VERSION.match(value) or _DATE.search(value):
        return False
    digits, letters = len(_DIGIT.findall(value)), len(_LETTER.findall(value))
    return digits >= 2 and letters >= 2 and digits + letters >= len(value) * 3 // 4 and b"://" not in value


def is_unread_header(name: bytes) -> bool:
    """Whether a header of this name (lower case) says nothing of credentials, whatever its value and its
    neighbours."""
    if name in _READ_OTHERWISE:
        return False
    return name == b"proxy-authorization" or classify_header_name(name).is_ignored


def is_signature_header(name: bytes) -> bool:
    """Whether a header of this name (lower case) is a signature of its request whatever its value, if it has one."""
    return (
        name not in _READ_OTHERWISE
        and name != b"proxy-authorization"
        and classify_header_name(name).kind is Kind.HMAC_SIGNATURE
    )


def is_key_header(name: bytes) -> bool:
    """Whether each value of `KEY_BYTES` or more in a header of this name (lower case) is a key, unless it is a JWT."""
    if name in _READ_OTHERWISE or name in (b"signature", b"proxy-authorization"):
        return False
    role = classify_header_name(name)
    return role.is_key and not role.is_ignored and role.kind in (Kind.NONE, Kind.JWT_CUSTOM_HEADER)


class Authenticator:
    """Finds the credentials of a request. Holds bounded caches of what header names mean, and lines by themselves."""

    def __init__(self) -> None:
        self._roles: dict[bytes, HeaderRole] = {}
        # Heads that hold the same line share its `Header` while that is among the lately met.
        self._lines: dict[Header, tuple[Evidence, ...]] = {}

    def find(self, head: RequestHead) -> list[Evidence]:
        """Every credential of `head`, in order of appearance: headers, then cookies, then query.

        A header that was met before costs one look.
        """
        found: list[Evidence] = []
        headers, cut = head.headers, None
        if head.is_last_header_cut and headers:
            headers, cut = headers[:-1], headers[-1]
        for header in headers:
            reading = self._lines.get(header)
            if reading is None:
                reading = self._read(header, False)
                if len(header.value) <= _CACHED_VALUE_BYTES:
                    if len(self._lines) >= _LINE_CACHE_ENTRIES:
                        self._lines.clear()
                    self._lines[header] = reading
            if reading:
                found += reading if reading is not _IN_CONTEXT else _read_in_context(head, header, False)
        if cut is not None:
            reading = self._read(cut, True)
            found += reading if reading is not _IN_CONTEXT else _read_in_context(head, cut, True)
        if head.query:
            found += _read_query(head.query)
        return found

    def _read(self, header: Header, is_cut: bool) -> tuple[Evidence, ...]:
        """What a line says by itself, or `_IN_CONTEXT`."""
        name, value = header.name, header.value
        if not value or name == b"proxy-authorization":
            return ()
        if name == b"authorization":
            return (_read_authorization(value, is_cut),)
        if name == b"cookie":
            return tuple(_read_cookies(value, is_cut))
        role = self._role(name)
        if role.is_ignored:
            return ()
        if name == b"signature" or role.kind is Kind.MTLS_FORWARDED:
            return _IN_CONTEXT
        return _read_header(role, name, value, is_cut)

    def _role(self, name: bytes) -> HeaderRole:
        role = self._roles.get(name)
        if role is None:
            role = classify_header_name(name)
            if len(name) <= _CACHED_NAME_BYTES:
                if len(self._roles) >= _NAME_CACHE_ENTRIES:
                    self._roles.clear()
                self._roles[name] = role
        return role


def _read_authorization(value: bytes, is_cut: bool) -> Evidence:
    """Scheme SP parameters (RFC 9110, section 11.4), or a bare key where the API asks for one."""
    scheme, _, parameters = value.partition(b" ")
    lower = scheme.lower()
    parameters = parameters.strip()
    if not parameters:
        # A bare value: clients of such APIs send the key or the JWT itself.
        kind = Kind.JWT_CUSTOM_HEADER if is_jwt(value) else Kind.API_KEY_HEADER
        if lower in schemes.BEARER_SCHEMES or lower in schemes.AUTHORIZATION_SCHEMES:
            kind = Kind.NONE if not is_cut else Kind.OTHER
        return Evidence(kind, b"authorization", value, is_cut)
    kind = schemes.AUTHORIZATION_SCHEMES.get(lower, Kind.NONE)
    if lower in schemes.BEARER_SCHEMES:
        opaque = Kind.API_KEY_HEADER if lower in schemes.KEY_TOKEN_SCHEMES else Kind.BEARER_OPAQUE
        kind = Kind.BEARER_JWT if is_jwt(parameters) else opaque
    elif kind == Kind.OAUTH1 and b"oauth_" not in parameters:
        kind = Kind.BEARER_JWT if is_jwt(parameters) else Kind.BEARER_OPAQUE
    elif kind == Kind.NONE:
        if b"hmac" in lower or b"signature" in parameters.lower():
            kind = Kind.HMAC_SIGNATURE
        elif is_jwt(parameters):
            kind = Kind.BEARER_JWT
        elif lower.endswith((b"key", b"token")):
            kind = Kind.API_KEY_HEADER
        else:
            kind = Kind.OTHER
    return Evidence(kind, b"authorization", value, is_cut)


def _read_in_context(head: RequestHead, header: Header, is_cut: bool) -> tuple[Evidence, ...]:
    """A header that another one explains: a signature by its input, a certificate by the verdict on it."""
    value = header.value
    if header.name == b"signature":
        is_message = head.get(b"signature-input") or b"keyId=" in value
        kind = Kind.HTTP_MESSAGE_SIGNATURE if is_message else Kind.HMAC_SIGNATURE
    else:
        kind = Kind.MTLS_FORWARDED
        verdicts = [other.value for other in head.headers if other.name in schemes.CERTIFICATE_VERDICTS]
        if any(text.lower() not in schemes.CERTIFICATE_VERIFIED for text in verdicts) or value in (b"-", b"(null)"):
            return ()
    return (Evidence(kind, header.name, value, is_cut),)


def _read_header(role: HeaderRole, name: bytes, value: bytes, is_cut: bool) -> tuple[Evidence, ...]:
    kind = role.kind
    if kind is Kind.NONE or kind is Kind.JWT_CUSTOM_HEADER:
        bare = value[7:].strip() if value[:7].lower() == b"bearer " else value
        if is_jwt(bare):
            kind = Kind.JWT_CUSTOM_HEADER
        elif role.is_key and len(value) >= _KEY_BYTES:
            kind = Kind.API_KEY_HEADER
        elif is_opaque(bare):
            kind = Kind.API_KEY_HEADER if role.is_documented else Kind.POSSIBLE_CREDENTIAL
        else:
            return ()
    return (Evidence(kind, name, value, is_cut),)


def _read_cookies(value: bytes, is_cut: bool) -> list[Evidence]:
    found = []
    pairs = value.split(b";")[:MAX_COOKIES]
    for index, pair in enumerate(pairs):
        raw, equals, text = pair.strip().partition(b"=")
        if not equals or not text:
            continue
        kind = _classify_cookie(raw, text)
        if kind:
            found.append(Evidence(kind, raw, text, is_cut and index == len(pairs) - 1, Place.COOKIE))
    return found


def _classify_cookie(raw: bytes, value: bytes) -> Kind:
    is_kept = len(raw) <= _CACHED_NAME_BYTES  # Hostile names would fill the cache.
    kind = schemes.classify_cookie_name(raw) if is_kept else schemes.classify_cookie_name.__wrapped__(raw)
    if kind is not None:
        return kind
    text = unquote_to_bytes(value.strip(b'"'))
    if is_jwt(value) or _SIGNED.match(text):
        return Kind.COOKIE_SESSION
    return Kind.POSSIBLE_CREDENTIAL if is_opaque(text) else Kind.NONE


def _read_query(query: str) -> list[Evidence]:
    found = []
    pairs = query.split("&", MAX_QUERY_PARAMETERS)[:MAX_QUERY_PARAMETERS]
    names = {pair.partition("=")[0].lower() for pair in pairs}
    if "x-amz-signature" in names:
        value = "&".join(pair for pair in pairs if pair.lower().startswith("x-amz-"))
        return [_read_signature(Kind.AWS_SIGV4_QUERY, b"X-Amz-Signature", value)]
    if ("sig" in names and names & {"sv", "se"}) or (
        "signature" in names and names & {"expires", "x-goog-credential", "key-pair-id"}
    ):
        return [_read_signature(Kind.HMAC_SIGNATURE, b"sig" if "sig" in names else b"Signature", query)]
    if "x-goog-signature" in names:
        return [_read_signature(Kind.HMAC_SIGNATURE, b"X-Goog-Signature", query)]
    if "oauth_signature" in names:
        return [_read_signature(Kind.OAUTH1, b"oauth_signature", query)]
    for pair in pairs:
        name, _, raw = pair.partition("=")
        if len(raw) < _KEY_BYTES:
            continue
        if not is_key_parameter(name):
            continue
        value_bytes = unquote_to_bytes(raw.encode("latin-1"))
        if schemes.is_session_parameter(name):
            kind = Kind.POSSIBLE_CREDENTIAL if is_opaque(value_bytes) and "eio" not in names else Kind.NONE
        else:
            kind = Kind.API_KEY_QUERY if is_jwt(value_bytes) or _is_key_value(value_bytes) else Kind.NONE
        if kind:
            found.append(Evidence(kind, name.encode("latin-1"), value_bytes, False, Place.QUERY))
    return found


def _read_signature(kind: Kind, name: bytes, value: str) -> Evidence:
    return Evidence(kind, name, value.encode("latin-1"), False, Place.QUERY)


def is_context_parameter(name: str) -> bool:
    """Whether a query parameter may be part of a signature, so that the others decide what it is."""
    lower = name.lower()
    return lower in _SIGNATURE_PARAMETERS or lower.startswith("x-amz-")


def is_key_parameter(name: str) -> bool:
    """Whether the name of a query parameter announces a key or the id of a session."""
    return len(name) <= _CACHED_NAME_BYTES and (schemes.is_key_parameter(name) or schemes.is_session_parameter(name))


def _is_key_value(value: bytes) -> bool:
    """A query value under a key's name: short words (`key=color`) are filters, not keys."""
    if b" " in value or _PAGE_TOKEN.match(value):
        return False
    return (len(value) >= 8 and _DIGIT.search(value) is not None) or len(value) >= 20
