"""Who calls is the same over HTTP/1 and HTTP/2, from any address, and after a token was refreshed."""

import base64
import json

import pytest

from sensor.core.keyed import KeyedHash
from sensor.describe.auth.principal import Principals
from sensor.http.hpack import Field, HeaderBlock
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.http.http2.heads import StreamRequest, read_request


def write_jwt(expires: int) -> str:
    parts = [{"alg": "RS256"}, {"iss": "https://id.example", "sub": "ada", "exp": expires}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*encoded, f"c2lnbmF0dXJl{expires}"))


def read_first(name: str, value: str, query: str) -> RequestHead:
    head = parse_request_head(f"GET /orders{query} HTTP/1.1\r\nHost: h\r\n{name}: {value}\r\n\r\n".encode(), False)
    assert isinstance(head, RequestHead)
    return head


def read_second(name: str, value: str, query: str) -> RequestHead:
    pairs = [(":method", "GET"), (":scheme", "https"), (":path", f"/orders{query}"), (":authority", "h")]
    fields: list[Field] = [(key.encode(), text.encode()) for key, text in (*pairs, (name.lower(), value))]
    found = read_request(HeaderBlock(fields))
    assert isinstance(found, StreamRequest)
    return found.head


@pytest.mark.parametrize(
    ("name", "value", "query"),
    [
        ("Authorization", f"Bearer {write_jwt(1)}", ""),
        ("Authorization", "Bearer 8f3kD92kd0sLq83hf7a2", ""),
        ("Authorization", "Basic YWRhOnNlY3JldA==", ""),
        ("X-Api-Key", "8f3kD92kd0sLq83hf7a2", ""),
        ("Cookie", "theme=dark; PHPSESSID=8f3kD92kd0sLq83hf7a2", ""),
        ("X-A", "b", "?api_key=8f3kD92kd0sLq83hf7a2"),
    ],
)
def test_one_principal_over_both_versions(name: str, value: str, query: str) -> None:
    principals = Principals(KeyedHash(1, b"0123456789abcdef"))
    first, second = principals.read(read_first(name, value, query)), principals.read(read_second(name, value, query))
    assert first == second and first.principal != 0


def test_one_principal_after_a_refresh_over_the_other_version() -> None:
    principals = Principals(KeyedHash(1, b"0123456789abcdef"))
    first = principals.read(read_first("Authorization", f"Bearer {write_jwt(1)}", ""))
    second = principals.read(read_second("Authorization", f"Bearer {write_jwt(2)}", ""))
    assert first.principal == second.principal and first.credential != second.credential
