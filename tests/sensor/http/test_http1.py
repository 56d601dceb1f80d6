"""Heads as servers in the field take them; never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.http.http1.head import (
    _LINE_CACHE_ENTRIES,
    HEAD_BYTES_KEPT,
    MAX_HEADERS,
    Malformed,
    RequestHead,
    _lines,
    parse_request_head,
    read_response_content_type,
    shorten_head,
)

TARGETS = [
    (b"GET /a/b?c=d HTTP/1.1\r\nHost: X.Example:80\r\n\r\n", ("GET", "/a/b", "c=d", "1.1", "x.example")),
    (b"GET /a HTTP/1.0\n\n", ("GET", "/a", "", "1.0", "")),
    (b"GET http://u:p@h.test:8080/a?b HTTP/1.1\r\nHost: other\r\n\r\n", ("GET", "/a", "b", "1.1", "h.test:8080")),
    (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", ("OPTIONS", "*", "", "1.1", "h")),
    (b"CONNECT h.test:443 HTTP/1.1\r\n\r\n", ("CONNECT", "", "", "1.1", "h.test")),
    (b"\r\nPURGE /x#frag HTTP/1.1\r\nhost:h\r\n\r\n", ("PURGE", "/x", "", "1.1", "h")),
    (b"GET  /x   HTTP/1.1\r\nHost: h\r\n\r\n", ("GET", "/x", "", "1.1", "h")),
]


@pytest.mark.parametrize(("data", "expected"), TARGETS)
def test_targets(data, expected):
    head = parse_request_head(data, False)
    assert isinstance(head, RequestHead)
    assert (head.method, head.path, head.query, head.version, head.host) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x16\x03\x01\x02\x00", "request_line"),
        (b"GET / HTTP/2.0\r\n\r\n", "version"),
        (b"G@T / HTTP/1.1\r\n\r\n", "method"),
        (b"GET a HTTP/1.1\r\n\r\n", "target"),
    ],
)
def test_malformed(data, reason):
    assert parse_request_head(data, False) == Malformed(reason)


def test_folded_and_repeated_headers():
    head = parse_request_head(b"GET / HTTP/1.1\r\nX-A: 1\r\n  2\r\nX-A: 3\r\n\r\nbody: no\r\n\r\n", False)
    assert isinstance(head, RequestHead)
    assert [(header.name, header.value) for header in head.headers] == [(b"x-a", b"1 2"), (b"x-a", b"3")]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_blank_before_the_first_header_belongs_to_it(end):
    head = parse_request_head(end.join((b"GET / HTTP/1.1", b" Host: h", b"X-A: 1", b"", b"")), False)
    assert isinstance(head, RequestHead)
    assert (head.host, head.get(b"x-a")) == ("h", b"1")


def test_line_feeds_end_lines_among_others_that_end_in_both():
    head = parse_request_head(b"GET / HTTP/1.1\r\nX-A: 1\nHost: h\r\n\r\n", False)
    assert isinstance(head, RequestHead)
    assert (head.host, head.get(b"x-a")) == ("h", b"1")


def test_lines_that_come_once_do_not_push_out_those_that_repeat():
    def parse(number: int) -> RequestHead:
        head = parse_request_head(b"GET / HTTP/1.1\r\nX-A: stays\r\nX-B: %d\r\n\r\n" % number, False)
        assert isinstance(head, RequestHead)
        return head

    first = parse(0).headers[0]
    assert all(parse(number).headers[0] is first for number in range(5_000))
    assert len(_lines._new) + len(_lines._old) <= 2 * _LINE_CACHE_ENTRIES


def test_cut_head_says_so():
    head = parse_request_head(b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ab", True)
    assert isinstance(head, RequestHead)
    assert head.is_last_header_cut
    assert parse_request_head(b"GET /a/b", True) == Malformed("request_line_truncated")


IDENTITY = b"Host: shop\r\nAuthorization: Bearer abc\r\nCookie: sid=1\r\nX-Api-Key: k\r\nX-Session-Token: t\r\n"


@pytest.mark.parametrize(
    "padding",
    [
        b"".join(b"X-Pad-%d: %s\r\n" % (number, b"p" * 900) for number in range(200)),
        b"A: b\r\n" * 20_000,
        b"X-Auth-Pad: " + b"p" * 60_000 + b"\r\n" + b"".join(b"X-Key-%d: k\r\n" % number for number in range(9_000)),
        b"X-Pad: " + b"p" * 200_000 + b"\n",
    ],
)
def test_who_calls_what_is_read_wherever_it_stands_in_a_long_head(padding):
    for raw in (b"GET /a?b=1 HTTP/1.1\r\n" + padding + IDENTITY + b"\r\n",
                b"GET /a?b=1 HTTP/1.1\r\n" + IDENTITY + padding + b"\r\n"):  # fmt: skip
        short = shorten_head(raw)
        assert len(short) <= 2 * HEAD_BYTES_KEPT + 2
        head = parse_request_head(short, True)
        assert isinstance(head, RequestHead)
        assert (head.path, head.query, head.host, head.is_last_header_cut) == ("/a", "b=1", "shop", False)
        assert (head.get(b"authorization"), head.get(b"cookie")) == (b"Bearer abc", b"sid=1")


def test_a_long_query_is_read_to_the_limit_and_does_not_hide_what_follows():
    attack = b"&q=1%20UNION%20SELECT%20*"
    raw = b"GET /search?p=" + b"x" * 30_000 + attack + b"x" * 90_000 + b" HTTP/1.1\r\n" + IDENTITY + b"\r\n"
    head = parse_request_head(shorten_head(raw), True)
    assert isinstance(head, RequestHead)
    assert attack.decode() in head.query and len(head.query) < HEAD_BYTES_KEPT
    assert (head.host, head.version, head.get(b"authorization")) == ("shop", "1.1", b"Bearer abc")


def test_of_a_longer_cookie_field_the_first_cookies_are_kept():
    raw = b"GET / HTTP/1.1\r\nCookie: sid=1; " + b"; ".join(b"c%d=1" % n for n in range(9_000)) + b"\r\nHost: h\r\n\r\n"
    head = parse_request_head(shorten_head(raw), True)
    assert isinstance(head, RequestHead)
    assert head.host == "h"
    assert head.get(b"cookie").startswith(b"sid=1; c0=1; ") and head.get(b"cookie").endswith(b"=1")


def test_fields_past_the_most_that_are_kept_are_read_where_they_identify():
    raw = b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 2 * MAX_HEADERS + IDENTITY + b"\r\n"
    head = parse_request_head(raw, False)
    assert isinstance(head, RequestHead)
    assert (head.host, head.get(b"authorization"), head.get(b"x-api-key")) == ("shop", b"Bearer abc", b"k")
    assert len(head.headers) == MAX_HEADERS + 4


@given(st.binary(max_size=300), st.integers(0, 300))
def test_shortening_never_raises_and_leaves_short_heads_alone(data, times):
    assert shorten_head(data) == data
    assert len(shorten_head(data * times)) <= 2 * HEAD_BYTES_KEPT + 300


def test_response_content_type():
    head = b"HTTP/1.1 200 OK\r\nX-Content-Type: a/b\r\ncontent-TYPE: Text/HTML; charset=x\r\n\r\nContent-Type: c/d\r\n"
    assert read_response_content_type(head) == "text/html"
    assert read_response_content_type(b"HTTP/1.1 200 OK\r\n\r\n\ncontent-type: a/b\r\n") == ""
    assert read_response_content_type(b"") == ""


@given(st.binary(max_size=400), st.booleans())
def test_never_raises(data, is_truncated):
    assert isinstance(parse_request_head(data, is_truncated), RequestHead | Malformed)
    assert isinstance(parse_request_head(b"GET /" + data, is_truncated), RequestHead | Malformed)
    assert isinstance(parse_request_head(b"GET / HTTP/1.1\r\n" + data, is_truncated), RequestHead | Malformed)
    assert isinstance(read_response_content_type(b"HTTP/1.1 200 " + data), str)


def test_repr_hides_values():
    head = parse_request_head(b"GET /secret?s=hunter2 HTTP/1.1\r\nAuthorization: Basic aHVudGVyMg==\r\n\r\n", False)
    assert "secret" not in repr(head)
    assert "aHVu" not in repr(head)
