"""What is weak about a JWT, by tokens made here."""

import time

import pytest

from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.principal import Principals, find_weaknesses
from sensor.http.http1.head import RequestHead, parse_request_head
from tests.collector.risk.traffic import make_jwt

NOW = time.time()
WEAKNESSES = Kind.JWT_UNSIGNED | Kind.JWT_KNOWN_KEY | Kind.JWT_NO_EXPIRY | Kind.JWT_LONG_LIVED


@pytest.mark.parametrize(
    ("name", "weakness"),
    [
        ("good", Kind.NONE),
        ("hour", Kind.NONE),
        ("none", Kind.JWT_UNSIGNED),
        ("secret", Kind.JWT_KNOWN_KEY),
        ("your-256-bit-secret", Kind.JWT_KNOWN_KEY),
        ("no_expiry", Kind.JWT_NO_EXPIRY),
        ("year", Kind.JWT_LONG_LIVED),
    ],
)
@pytest.mark.parametrize("carrier", ["Authorization: Bearer {}", "X-Auth-Token: {}", "Cookie: session={}"])
def test_weaknesses_by_carrier(name: str, weakness: Kind, carrier: str) -> None:
    principals = Principals(KeyedHash(1, b"sixteen bytes!!!"))
    line = carrier.format(make_jwt(name, NOW))
    for _ in range(2):  # The second is known.
        head = parse_request_head(f"GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n".encode(), False)
        assert isinstance(head, RequestHead)
        kinds = principals.read(head).authentication
        assert kinds & WEAKNESSES == weakness
        assert kinds & ~WEAKNESSES


@pytest.mark.parametrize("value", [b"", b"a.b.c", b"eyJ.eyJ.x", b"eyJhbGciOiJIUzI1NiJ9.!!!.x", b"e" * 10_000])
def test_what_is_no_jwt_has_none(value: bytes) -> None:
    assert find_weaknesses(value) is Kind.NONE
