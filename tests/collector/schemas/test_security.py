"""Security schemes say what calls really sent, and which of it was enough."""

from typing import Any

import pytest

from collector.schemas.openapi import build_openapi
from collector.schemas.postman import build_postman
from collector.schemas.security import list_alternatives
from collector.schemas.service import Described

BASIC, BEARER, JWT, KEY, QUERY, SESSION, HMAC = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 8, 1 << 12
MTLS, POSSIBLE = 1 << 16, 1 << 23


def _describe(template: str, *credentials: tuple[str, int], share: float | None = 1.0) -> Described:
    return Described(
        id=template, service="shop:80", host="shop.example", method="GET", template=template, calls=9, last_seen=1,
        statuses={200: 9}, credentials=credentials, authenticated_share=share,
    )  # fmt: skip


def _export(*described: Described) -> dict[str, Any]:
    return build_openapi("shop:80", described, {})


@pytest.mark.parametrize(
    ("carriers", "bits", "name", "scheme"),
    [
        ("header authorization basic", BASIC, "basic", {"type": "http", "scheme": "basic"}),
        ("header authorization bearer", BEARER, "bearer", {"type": "http", "scheme": "bearer"}),
        (
            "header authorization bearer", JWT, "bearer",
            {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        ),
        (
            "header authorization token", KEY, "token",
            {
                "type": "apiKey", "in": "header", "name": "Authorization", "x-apidae-scheme": "Token",
                "description": "The value is `Token`, a space and the key.",
            },
        ),
        (
            "header authorization aws4-hmac-sha256", 1 << 9, "aws4_hmac_sha256",
            {
                "type": "apiKey", "in": "header", "name": "Authorization", "x-apidae-scheme": "aws4-hmac-sha256",
                "description": "The value is `aws4-hmac-sha256`, a space and a signature of the request.",
            },
        ),
        ("header authorization", KEY, "authorization", {"type": "apiKey", "in": "header", "name": "Authorization"}),
        ("header x-auth", KEY, "header_x_auth", {"type": "apiKey", "in": "header", "name": "X-Auth"}),
        ("query API_key", QUERY, "query_api_key", {"type": "apiKey", "in": "query", "name": "API_key"}),
        ("cookie JSESSIONID", SESSION, "cookie_jsessionid", {"type": "apiKey", "in": "cookie", "name": "JSESSIONID"}),
    ],
)  # fmt: skip
def test_a_scheme_has_the_carrier_that_calls_used(carriers: str, bits: int, name: str, scheme: dict[str, Any]) -> None:
    document = _export(_describe("/orders", (carriers, bits)))
    assert document["components"]["securitySchemes"] == {name: scheme}
    assert document["paths"]["/orders"]["get"]["security"] == [{name: []}]


def test_a_forwarded_certificate_is_mutual_tls() -> None:
    document = _export(_describe("/orders", ("header x-forwarded-client-cert", MTLS)))
    assert document["components"]["securitySchemes"]["mutual_tls"]["type"] == "mutualTLS"


def test_carriers_that_come_together_are_one_alternative_unless_fewer_are_enough() -> None:
    pair = ("header dd-api-key,header dd-application-key", KEY)
    (both,) = list_alternatives([pair])
    assert [one.name for one in both] == ["dd-api-key", "dd-application-key"]
    (alone,) = list_alternatives([pair, ("header dd-api-key", KEY)])
    assert [one.name for one in alone] == ["dd-api-key"]


def test_possible_credentials_and_calls_without_ask_for_nothing() -> None:
    document = _export(_describe("/open", ("header x-zorbl", POSSIBLE), ("", 0), share=0.0))
    assert "components" not in document and "security" not in document["paths"]["/open"]["get"]


def test_where_calls_without_were_served_too_none_is_an_alternative() -> None:
    document = _export(_describe("/orders", ("header x-shop-key", KEY), share=0.5))
    assert document["paths"]["/orders"]["get"]["security"] == [{"header_x_shop_key": []}, {}]


def test_each_operation_asks_for_its_own() -> None:
    one, other = _describe("/a", ("header x-shop-key", KEY)), _describe("/b", ("header authorization basic", BASIC))
    paths = _export(one, other)["paths"]
    assert paths["/a"]["get"]["security"] == [{"header_x_shop_key": []}]
    assert paths["/b"]["get"]["security"] == [{"basic": []}]


def test_postman_keeps_slashes_and_sends_each_key_where_it_belongs() -> None:
    described = [
        _describe("/api/orders/", ("header authorization token", KEY)),
        _describe("/carts", ("cookie shop_session", SESSION)),
        _describe("/readings", ("query api_key", QUERY)),
    ]
    items = [one["request"] for folder in build_postman(_export(*described))["item"] for one in folder["item"]]
    requests = {one["url"]["path"][-2 if one["url"]["path"][-1] == "" else -1]: one for one in items}
    assert requests["orders"]["url"]["path"] == ["api", "orders", ""]
    assert requests["orders"]["url"]["raw"] == "{{baseUrl}}/api/orders/"
    assert requests["orders"]["header"] == [{"key": "Authorization", "value": "Token {{token}}", "disabled": False}]
    assert requests["carts"]["header"][0]["value"] == "shop_session={{cookie_shop_session}}"
    assert requests["readings"]["url"]["query"] == [{"key": "api_key", "value": "{{query_api_key}}", "disabled": False}]
