"""What a head says of the call as a whole: whether TLS was on its way, and whether it came from this host."""

import pytest

from sensor.describe.bodies.reader import read_head
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.sensitive.kinds import PLACE_SHIFT, CallFact, DataPlace

_HEAD = b"GET /api/v1/orders HTTP/1.1\r\nHost: shop.example\r\n%s\r\n"


def read_facts(field: bytes = b"", address: str = "192.0.2.7", *, is_encrypted: bool = False) -> set[CallFact]:
    head = parse_request_head(_HEAD % field, False)
    assert isinstance(head, RequestHead)
    codes = read_head(head, address, is_encrypted=is_encrypted)
    return {fact for fact in CallFact if DataPlace.CALL << PLACE_SHIFT | fact in codes}


@pytest.mark.parametrize(
    ("field", "is_encrypted", "facts"),
    [
        (b"", False, set()),
        (b"", True, {CallFact.ENCRYPTED}),
        (b"X-Forwarded-Proto: https\r\n", False, {CallFact.ENCRYPTED}),
        (b"X-Forwarded-Proto: http\r\n", False, set()),
        (b"X-Forwarded-Proto: http, https\r\n", False, set()),
        (b'Forwarded: for=192.0.2.1;proto="https"\r\n', False, {CallFact.ENCRYPTED}),
    ],
)
def test_tls_on_the_way(field: bytes, is_encrypted: bool, facts: set[CallFact]) -> None:
    assert read_facts(field, is_encrypted=is_encrypted) == facts


@pytest.mark.parametrize(
    ("address", "is_here"), [("127.0.0.1", True), ("::1", True), ("192.0.2.7", False), ("", False)]
)
def test_clients_of_this_host(address: str, is_here: bool) -> None:
    assert (CallFact.LOOPBACK in read_facts(address=address)) == is_here
