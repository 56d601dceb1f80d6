"""What client software is told of a head: its shape and a well-known product, never another word of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.keyed import KeyedHash
from sensor.describe.describer import PRODUCTS, SoftwareNames
from sensor.http.hpack import HeaderBlock
from sensor.http.http1.head import AGENT, MARK_NAMES, PRODUCT_BYTES, RequestHead, parse_request_head, read_mark
from sensor.http.http2.heads import StreamRequest, read_request

KEY = b"0123456789abcdef"
ALICE = b"Alice-Smith-App/1.0"


def name(*lines: bytes, key: bytes = KEY, is_cut: bool = False) -> str:
    head = parse_request_head(b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b"")), is_cut)
    assert isinstance(head, RequestHead)
    return SoftwareNames(KeyedHash(1, key)).name(head.marks)


def test_versions_and_what_a_call_is_about_are_left_out() -> None:
    curl = name(b"User-Agent: curl/8.14.1", b"Accept: */*")
    assert curl.split()[0] == "curl" and len(curl) == len("curl 01234567")
    assert name(b"User-Agent: curl/7.1", b"Accept: text/html", b"Cookie: a=1", b"X-Api-Key: abcdefgh") == curl
    assert name(b"user-agent: CURL", b"ACCEPT:x") != curl  # It is spelled otherwise.


def test_the_order_of_fields_tells_who_borrows_a_name() -> None:
    assert name(b"User-Agent: curl/8", b"Accept: */*") != name(b"Accept: */*", b"User-Agent: curl/8")
    assert name(b"User-Agent: curl/8") != name(b"User-Agent: curl/8", b"Connection: close")


@pytest.mark.parametrize("agent", [ALICE, b"", b"alice@example.org", b"curl8/1", b"/curl", b"my curl/1"])
def test_of_a_product_that_not_everybody_knows_there_is_a_hash_alone(agent: bytes) -> None:
    told = name(b"User-Agent: " + agent)
    assert len(told) == 8 and int(told, 16) >= 0
    assert told != name(b"User-Agent: " + agent, key=b"another key here")


def test_nothing_is_told_of_what_is_not_whole() -> None:
    cut = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\nAcc", True)
    assert isinstance(cut, RequestHead) and cut.marks == ()
    assert name() == "" and SoftwareNames(KeyedHash(1, KEY)).name(()) == ""


def read_block(*fields: tuple[bytes, bytes]) -> StreamRequest:
    pseudo = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
    request = read_request(HeaderBlock((*pseudo, *fields)))
    assert isinstance(request, StreamRequest)
    return request


def test_http_2_has_the_same_marks() -> None:
    fields = ((b"user-agent", b"Go-http-client/2.0"), (b"accept-encoding", b"gzip"), (b"x-id", b"7"))
    told = SoftwareNames(KeyedHash(1, KEY)).name(read_block(*fields).head.marks)
    assert told == name(b"User-Agent: Go-http-client/1.1", b"Accept-Encoding: gzip")
    assert told.startswith("go-http-client ")


@given(
    agent=st.one_of(st.sampled_from(sorted(PRODUCTS)).map(str.encode), st.binary(max_size=60)).filter(
        lambda agent: b"secret" not in agent
    ),
    rest=st.permutations(sorted(MARK_NAMES - {AGENT})),
)
def test_what_leaves_is_a_product_of_the_list_and_a_hash(agent: bytes, rest: list[bytes]) -> None:
    marks = (read_mark(AGENT, agent), *(read_mark(one, b"secret") for one in rest))
    *product, hashed = SoftwareNames(KeyedHash(1, KEY)).name(marks).split(" ")
    assert len(hashed) == 8 and int(hashed, 16) >= 0
    assert not product or (product[0] in PRODUCTS and agent.lower().startswith(product[0].encode()[:PRODUCT_BYTES]))
    assert b"secret" not in b"".join(marks)
