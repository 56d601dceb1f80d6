"""A login is recognised by what the call does, whatever its method and format; what resembles one is not one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import AuthenticationKind
from sensor.describe.bodies.documents import read_document
from sensor.describe.bodies.logins import FIELDS_MAX, Login, LoginRequest, LoginResponse, find_login
from sensor.sensitive.document import find_sensitive

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
OPAQUE = "k3N9vQ2xT7bL0pWz"
HASH = "$2b$12$K8uXh1dPpPq0mZ4c7TqD9e2a3b4c5d6e7f8g9h0i1j2k3l4m5n6o7"
PLAIN = {"name": "ada", "password": "correct-horse"}
GRAPHQL = 'mutation { login(email: "ada@example.org", password: "correct-horse") { token } }'
XML_RPC = (
    "<methodCall><methodName>blog.login</methodName><params><param><value><string>ada</string></value></param>"
    "<param><value><string>correct-horse</string></value></param></params></methodCall>"
)
SOAP = "<Envelope><Body><LogOn><user>ada</user><password>correct-horse</password></LogOn></Body></Envelope>"
COOKIE = b"HTTP/1.1 302 Found\r\nSet-Cookie: id=9a8b7c6d5e4f3a2b1c0d9e8f; HttpOnly\r\nLocation: /\r\n\r\n"

TEXT = st.text(alphabet=st.characters())
NAMES = TEXT | st.sampled_from(["password", "token", "method", "params", "query", "methodCall", "code"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def read(body: Any, media_type: str) -> Any:
    """The values that the reader of bodies has of a body."""
    if body is None:
        return None
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    document = read_document(data, media_type, is_complete=True)
    assert document is not None
    return document.tree if isinstance(document.tree, dict | list) else document.values


def look(
    sent: Any = None,
    told: Any = None,
    *,
    method: str = "POST",
    status: int = 200,
    query: str = "",
    head: bytes = b"",
    authentication: int = 0,
    records: int = 1,
    sent_type: str = "application/json",
    told_type: str = "application/json",
) -> Login:
    values = read(told, told_type)
    kinds = frozenset(one.kind for one in find_sensitive(values)) if values is not None else frozenset()
    return find_login(
        LoginRequest(method, query, authentication, read(sent, sent_type)),
        LoginResponse(status, head, values, kinds, records),
    )


LOGINS: dict[str, dict[str, Any]] = {
    "npm": {"sent": PLAIN, "told": {"ok": True, "token": JWT}, "method": "PUT", "status": 201},
    "opaque token": {"sent": PLAIN, "told": {"session_id": OPAQUE}, "method": "PUT"},
    "by PATCH": {"sent": PLAIN, "told": {"access_token": OPAQUE}, "method": "PATCH"},
    "profile beside": {"sent": PLAIN, "told": {"token": JWT, "user": {"email": "ada@example.org"}}},
    "form and redirect": {
        "sent": "username=ada&password=correct-horse",
        "sent_type": "application/x-www-form-urlencoded",
        "status": 302,
        "head": COOKIE,
    },
    "token in the head": {"sent": PLAIN, "method": "PUT", "head": b"HTTP/1.1 200\r\nX-Subject-Token: a9f8b7c6\r\n\r\n"},
    "by query": {"method": "GET", "query": "user=ada&password=correct-horse", "told": {"token": JWT}},
    "oauth code": {
        "sent": "grant_type=authorization_code&code=SplxlOBeZQQYbYS6WxSbIA",
        "sent_type": "application/x-www-form-urlencoded",
        "told": {"access_token": OPAQUE, "token_type": "bearer", "refresh_token": OPAQUE + "x"},
    },
    "oauth client": {
        "sent": "grant_type=client_credentials&client_secret=5e4d3c2b1a0f9e8d7c6b",
        "sent_type": "application/x-www-form-urlencoded",
        "told": {"access_token": JWT},
    },
    "refresh": {"sent": {"refresh_token": OPAQUE}, "told": {"access_token": JWT}, "method": "PUT"},
    "exchange of a basic credential": {
        "method": "GET",
        "query": "service=registry&scope=repository:a:pull",
        "authentication": AuthenticationKind.BASIC,
        "told": {"token": JWT, "expires_in": 300},
    },
    "json-rpc by name": {
        "sent": {"jsonrpc": "2.0", "id": 1, "method": "user.login", "params": {"user": "a", "password": "correct"}},
        "told": {"jsonrpc": "2.0", "id": 1, "result": {"token": JWT}},
    },
    "json-rpc by position": {
        "sent": {"jsonrpc": "2.0", "id": 1, "method": "login", "params": ["db", "ada", "correct-horse"]},
        "told": {"jsonrpc": "2.0", "id": 1, "result": {"session_id": OPAQUE}},
    },
    "xml-rpc": {
        "sent": XML_RPC,
        "sent_type": "text/xml",
        "told": "<r><session>k3N9vQ2xT7bL0pWz</session></r>",
        "told_type": "text/xml",
    },
    "soap": {
        "sent": SOAP,
        "sent_type": "text/xml",
        "told": "<Envelope><Body><R><token>k3N9vQ2xT7bL0pWz</token></R></Body></Envelope>",
        "told_type": "text/xml",
    },
    "graphql by variables": {
        "sent": {"query": "mutation L($p: String!) { login(p: $p) { token } }", "variables": {"password": "correct"}},
        "told": {"data": {"login": {"token": JWT}}},
    },
    "graphql inline": {"sent": {"query": GRAPHQL}, "told": {"data": {"login": {"token": JWT}}}},
    "registration by PUT": {"sent": {"data": {"password": "correct-horse"}}, "method": "PUT", "status": 201},
    "registration with what is no credential": {
        "sent": {"password": "correct-horse"},
        "method": "PUT",
        "status": 201,
        "authentication": AuthenticationKind.UNKNOWN << 5,
    },
    "password replaced": {"sent": {"old_password": "correct", "new_password": "horse"}, "method": "PUT", "status": 204},
    "password by code": {"sent": {"reset_code": "481516", "password": "horse"}, "method": "PATCH", "status": 200},
    "short names": {"sent": {"user": "ada", "pass": "correct-horse"}, "told": {"sid": OPAQUE}, "method": "PUT"},
    "vault's secret id": {
        "sent": {"role_id": "ci", "secret_id": OPAQUE},
        "told": {"auth": {"client_token": "hvs." + OPAQUE}},
        "method": "PUT",
    },
    "nested, token in the head": {
        "sent": {"auth": {"identity": {"password": {"user": {"name": "ada", "password": "correct-horse"}}}}},
        "told": {"token": {"user": {"name": "ada"}}},
        "status": 201,
        "head": b"HTTP/1.1 201 C\r\nX-Subject-Token: gAAAAABabcdef\r\n\r\n",
    },
    "logout": {"sent": {"refresh_token": OPAQUE}, "method": "DELETE", "status": 204},
    "guest token": {"sent": {"device": "phone"}, "status": 201, "told": {"access_token": JWT}},
}
NO_LOGINS: dict[str, dict[str, Any]] = {
    "refused": {"sent": PLAIN, "told": {"error": "wrong", "trace": JWT}, "status": 401},
    "read without a secret": {"method": "GET", "told": {"id": 7, "token": JWT}},
    "lookup": {"sent": {"id": 7}, "told": {"id": 7, "name": "Ada Lovelace", "api_key": OPAQUE}},
    "list of tokens": {"sent": PLAIN, "told": [{"token": JWT}, {"token": JWT + "x"}], "records": 2},
    "echo": {"sent": PLAIN, "told": PLAIN, "method": "PUT"},
    "hash": {"sent": PLAIN, "told": {"name": "ada", "password": HASH}, "method": "PUT"},
    "another's password set": {"sent": {"password": "horse"}, "told": {"ok": True}, "method": "PUT"},
    "confirmed twice": {
        "sent": {"password": "horse", "password_confirmation": "horse"},
        "told": {"ok": True},
        "method": "PUT",
    },
    "key for a key": {"method": "GET", "query": f"api_key={OPAQUE}", "told": {"id": 9, "api_key": "another" + OPAQUE}},
    "profile by a basic credential": {
        "method": "GET",
        "authentication": AuthenticationKind.BASIC,
        "told": {"email": "ada@example.org", "api_key": OPAQUE},
    },
    "cookie of every page": {"sent": {"note": "hello"}, "method": "PUT", "head": COOKIE, "status": 200},
    "cookie after a code": {"sent": {"code": "SAVE10"}, "method": "PUT", "head": COOKIE, "status": 200},
    "deleted by its code": {"method": "DELETE", "query": "code=SAVE10", "status": 204},
    "made without a credential": {"sent": {"title": "a"}, "told": {"id": 7}, "method": "PUT", "status": 201},
    "made by a caller who is known": {
        "sent": {"password": "horse"},
        "told": {"id": 7},
        "method": "PUT",
        "status": 201,
        "authentication": AuthenticationKind.BEARER_OPAQUE,
    },
    "too long to be one": {"sent": [PLAIN] * FIELDS_MAX, "told": {"token": JWT}},
}


@pytest.mark.parametrize("case", LOGINS.values(), ids=LOGINS)
def test_a_secret_in_and_a_credential_out_is_a_login(case: dict[str, Any]) -> None:
    assert look(**case).is_login


@pytest.mark.parametrize("case", NO_LOGINS.values(), ids=NO_LOGINS)
def test_what_resembles_a_login_is_not_one(case: dict[str, Any]) -> None:
    assert look(**case) == Login(False)


@pytest.mark.parametrize("token", ["ada.77kd8s9w0q2m", '["ada", [], true].awzCrA.bUSxTEaL2v0nV1-po59B2OnsI6M'])
def test_a_token_that_is_called_a_password_is_issued(token: str) -> None:
    """As devpi answers its login."""
    told = {"type": "proxyauth", "result": {"password": token, "expiration": 36_000}}
    assert look({"user": "ada", "password": "correct-horse"}, told) == Login(True, True)


@pytest.mark.parametrize("password", ["correct-horse", HASH, "pbkdf2_sha256$600000$salt$hash", "two words"])
def test_a_password_that_was_sent_or_is_a_hash_is_not_issued(password: str) -> None:
    told = {"token": JWT, "user": {"password": password}}
    assert look(PLAIN, told) == Login(True, False)


@given(DOCUMENTS, DOCUMENTS, TEXT, st.binary(), st.sampled_from([200, 201, 302]), st.sampled_from([0, 2]))
def test_no_body_raises(sent: object, told: object, query: str, head: bytes, status: int, authentication: int) -> None:
    answer = LoginResponse(status, head, told, frozenset(), 1)
    assert isinstance(find_login(LoginRequest("PUT", query, authentication, sent), answer), Login)
