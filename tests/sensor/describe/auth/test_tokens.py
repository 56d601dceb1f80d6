"""What a JWT says of itself, and what of it is told."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from sensor.describe.auth.tokens import find_token_facts
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import make_origin


def encode(part: object) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def make_head(
    claims: Any, *, algorithm: Any = "RS256", signature: str = "c2lnbmF0dXJl", cut: int | None = None
) -> RequestHead:
    token = f"{encode({'alg': algorithm})}.{encode(claims)}.{signature}"
    raw = f"GET /v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    head = parse_request_head(raw[:cut], is_truncated=cut is not None)
    assert isinstance(head, RequestHead)
    return head


def tell(head: RequestHead) -> set[tuple[str, str]]:
    """As it leaves the node."""
    book = SchemaBook(load_vocabulary(), SampleRule(first_count=1 << 30))
    book.learn_head(7, 200, head, make_origin(), 1)
    schemas = [schema for message in book.take(1) for schema in message]
    return {(claim, value) for schema in schemas for claim, value, _ in schema.tokens}


AUDIENCES = (("audience", "api.example.com"), ("audience", "orders-api"))
NEVER = ("lifetime", "unbounded")
LOGIN = ("issuer", "login.example.com")


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"iss": "https://login.example.com/realms/ada", "iat": 100, "exp": 1_000}, {LOGIN, ("lifetime", "900")}),
        ({"iss": "HTTPS://Login.Example.com:8443", "nbf": 0, "exp": 86_401}, {LOGIN, ("lifetime", "2592000")}),
        ({"iss": "https://ada@localhost/x"}, {("issuer", "{url}"), NEVER}),
        ({"iss": "https://login.example.com", "exp": 9}, {LOGIN, ("lifetime", "unknown")}),
        ({"aud": ["https://api.example.com/v1", "orders-api"]}, {*AUDIENCES, NEVER}),
        ({"aud": "3f2504e0-4f89-11d3-9a0c-0305e82c3301"}, {("audience", "{uuid}"), NEVER}),
        ({"iss": "ada@example.org"}, {("issuer", "{email}"), NEVER}),
        ({"aud": "Ada Lovelace"}, {("audience", "{token}"), NEVER}),
        ({"iat": 0, "exp": 1e10}, {("lifetime", "longer")}),
    ],
)
def test_claims_are_told_by_host_word_or_pattern(claims: dict[str, Any], told: set[tuple[str, str]]) -> None:
    assert tell(make_head(claims)) == told | {("algorithm", "RS256")}


@pytest.mark.parametrize(
    ("algorithm", "signature", "told"),
    [("ES256", "x", "ES256"), ("none", "", "none"), ("HS256", "", "none"), ("ada", "x", "{word}")],
)
def test_algorithms_are_those_of_the_standard(algorithm: str, signature: str, told: str) -> None:
    assert ("algorithm", told) in tell(make_head({"sub": "7"}, algorithm=algorithm, signature=signature))


@pytest.mark.parametrize("claims", [[], "x", 7, None, {"iss": 7}, {"exp": "soon"}])
def test_what_is_no_token_says_nothing(claims: object) -> None:
    assert find_token_facts(make_head(claims)) == []


def test_a_token_that_was_cut_says_nothing() -> None:
    head = make_head({"iss": "https://login.example.com/", "exp": 1})
    whole = len(b"GET /v1/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: ") + 40
    assert find_token_facts(head)
    assert find_token_facts(make_head({"iss": "https://login.example.com/", "exp": 1}, cut=whole)) == []


def test_its_text_does_not_show_what_it_says() -> None:
    assert "example" not in repr(find_token_facts(make_head({"iss": "https://login.example.com/"})))
