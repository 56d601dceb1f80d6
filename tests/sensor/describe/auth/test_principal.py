"""Kinds, principals and credentials of requests."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import AuthenticationKind as Kind
from sensor.core.calls import PrincipalKind
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.principal import Principals
from sensor.describe.client_address import ClientAddresses
from sensor.http.http1.head import RequestHead, parse_request_head

KEYED = KeyedHash(1, b"0123456789abcdef")


def _head(*lines: str, query: str = "", is_cut: bool = False) -> RequestHead:
    end = "" if is_cut else "\r\n\r\n"
    head = parse_request_head(
        f"GET /{query} HTTP/1.1\r\n{chr(13) + chr(10)}".encode()[:-2] + "\r\n".join(lines).encode() + end.encode(),
        is_cut,
    )
    assert isinstance(head, RequestHead)
    return head


def _jwt(signature: str, **claims: object) -> str:
    def encode(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(claims)}.{signature}"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Authorization: Basic dTpw", Kind.BASIC),
        ("Authorization: Bearer abcdef", Kind.BEARER_OPAQUE),
        ('Authorization: Digest username="u", response="x"', Kind.DIGEST),
        ("Authorization: Negotiate YII=", Kind.NEGOTIATE),
        ("Authorization: Wonder thing", Kind.OTHER),
        ("X-Api-Key: abcdef0123456789", Kind.API_KEY_HEADER),
        ("X-Vendor-Thing: 8f3kD92kd0sLq83hf7a2", Kind.POSSIBLE_CREDENTIAL),
        ("Cookie: theme=dark; PHPSESSID=abc", Kind.COOKIE_SESSION),
        ("Cookie: _ga=GA1.2.3.4; AWSALB=8f3kD92kd0sLq83hf7a2", Kind.NONE),
        ("X-Request-Token-Trace-Id: 8f3kD92kd0sLq83hf7a2", Kind.NONE),
        ("X-Correlation-Id: 8f3kD92kd0sLq83hf7a2", Kind.NONE),
    ],
)
def test_kinds(line, kind):
    assert Principals(KEYED).read(_head(line)).authentication == kind


def test_refreshed_jwt_keeps_its_principal():
    principals = Principals(KEYED)
    first = principals.read(_head("Authorization: Bearer " + _jwt("aaaa", iss="i", sub="s", exp=1)))
    second = principals.read(_head("Authorization: Bearer " + _jwt("bbbb", iss="i", sub="s", exp=2)))
    other = principals.read(_head("Authorization: Bearer " + _jwt("cccc", iss="i", sub="t", exp=2)))
    assert first.principal_kind == PrincipalKind.JWT_SUBJECT
    assert first.principal == second.principal != other.principal
    assert first.credential != second.credential


def test_cut_credential_is_truncated_and_never_hashed():
    read = Principals(KEYED).read(_head("Host: h", "Authorization: Bearer abcdef", is_cut=True))
    assert (read.is_truncated, read.credential, read.principal) == (True, 0, 0)


@given(st.binary(max_size=300))
def test_never_raises(data):
    head = parse_request_head(
        b"GET /?token=a%FF HTTP/1.1\r\nAuthorization: Bearer eyJh.e.\r\nCookie: " + data + b"\r\n\r\n", False
    )
    if isinstance(head, RequestHead):
        Principals(KEYED).read(head)


def test_forwarded_headers_count_only_from_trusted_hops():
    head = _head("X-Forwarded-For: 203.0.113.9, 10.0.0.7")
    assert ClientAddresses(()).find(head, "10.0.0.1") == "10.0.0.1"
    assert ClientAddresses(("10.0.0.0/8",)).find(head, "192.0.2.1") == "192.0.2.1"
    assert ClientAddresses(("10.0.0.0/8",)).find(head, "10.0.0.1") == "203.0.113.9"
