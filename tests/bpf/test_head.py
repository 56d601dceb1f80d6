"""The kernel's head reader, compiled in user space: it agrees with the byte machine on where a head ends and how its
body is framed, and with a plain Python reference on what the head says; what is not plain it refuses."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.ebpf.abi import NameKind
from sensor.http.http1.head import read_mark
from tests.bpf.head_reader import (
    IGNORED,
    QUOTED,
    REFERENCE,
    REFUSED,
    SHAPED,
    TOKEN,
    VALUE,
    Frame,
    Reader,
    agree,
    frame,
    read,
)
from tests.bpf.varying_fields import IGNORED_KINDS, MARKED_KINDS, is_odd_value, read_cookies, read_line

__all__ = ["frame", "read"]

_part = st.sampled_from(
    [
        *(b"a", b"Mozilla/5.0 ", b"; ", b"(X11)", b"%20", b"q=0.9", b";q=", b'"v"', b"https://h/", b"1.", b".", b".."),
        *(
            b";id",
            b";id ",
            b";",
            b"%27",
            b"%2",
            b"%7B",
            b"$",
            b"'",
            b"{",
            b"<",
            b"\\",
            b"|",
            b"`",
            b"#",
            b"&",
            b"[",
            b"~",
        ),
        *(b"%00", b"\xa7", b"\xae\xae", b"-" * 7),
    ]
)
_told_value = st.one_of(
    VALUE,
    TOKEN,
    st.tuples(
        st.sampled_from(
            [
                *(
                    b"Bearer ",
                    b"bearer ",
                    b"BEARER ",
                    b"Bearer  ",
                    b"Bearer",
                    b"Basic ",
                    b"ey",
                    b"Bearer ey",
                    b"Bearer ew",
                ),
                *(
                    b"AWS4-HMAC-SHA256 Credential=",
                    b"AWS4-HMAC-SHA256 Credentia1=",
                    b"Digest username=",
                    b"Signature keyId=",
                ),
            ]
        ),
        TOKEN | VALUE | st.just(b"a" * 40),
        st.sampled_from([b"", b"", b" ", b", Signature=0123", b",", b" b", b"\x7f", b"\x80"]),
    ).map(b"".join),
)
_told_line = st.tuples(
    st.sampled_from([b"Authorization", b"authorization", b"X-Api-Key", b"X-Signature"]),
    st.sampled_from([b":", b": ", b":\t ", b":  "]),
    _told_value,
).map(b"".join)
_cookie = st.one_of(
    st.tuples(
        st.sampled_from([b"sid", b"JSESSIONID", b"_ga", b"_a_longer_name", b"SID", b"_GA", b"lang", b""]) | TOKEN,
        st.sampled_from([b"=", b"=", b"=", b"", b" ="]),
        TOKEN | VALUE | st.lists(_part, max_size=6).map(b"".join),
    ).map(b"".join),
    st.tuples(
        st.sampled_from([b"sid=", b"JSESSIONID=", b"_ga=", b"_a_longer_name=", b"_ga=/", b"sid=/"]),
        st.text("abz019-_~AZ", max_size=40).map(str.encode),
        st.sampled_from([b"", b".1", b"'", b" ", b"%27", b"%20", b"%2", b"%%", b"%C3", b"%u0", b":/", b":", b"/"])
        | st.sampled_from([b"", b"", b"(", b"..", b"=", b'"', b"\x7f", b"\xa0"]),
    ).map(b"".join),
)
_cookies = st.tuples(
    st.sampled_from([b"Cookie:", b"cookie: ", b"Cookie: ", b"COOKIE:\t "]),
    st.lists(_cookie, max_size=6),
    st.sampled_from([b"; ", b";", b";  ", b" ; "]),
).map(lambda one: one[0] + one[2].join(one[1]))
_line = st.one_of(
    _told_line,
    _cookies,
    st.tuples(
        st.sampled_from((*IGNORED, *QUOTED, *SHAPED)) | TOKEN,
        st.sampled_from([b":", b": ", b":\t ", b":  "]),
        VALUE | st.lists(_part, max_size=12).map(b"".join),
    ).map(b"".join),
    st.sampled_from(
        [
            *(b"Content-Length: 5", b"content-length:0", b"Content-Length: 123456789", b"Content-Length:12345678"),
            *(b"CONTENT-LENGTH: 000000000000012", b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"),
            *(b"Content-LengthX: 5", b"Transfer-Encodinh: chunked", b"Content\x0dLength: 4", b"Cookie: " + b"c" * 300),
        ]
    ),
)
_segment = st.text("abz019-_.~AZ", max_size=24).map(str.encode)
_pair = st.one_of(
    st.sampled_from([b"page=1", b"q=a%20b", b"api_key=secret", b"API_KEY=k", b"q", b"a_long_parameter_name=12345678"]),
    st.sampled_from([b"report_id=27173", b"REPORT_ID=5", b"report_id=" + b"9" * 18, b"report_id=" + b"9" * 19]),
    st.sampled_from([b"report_id=", b"report_id", b"report_id=a=b", b"email=a%40b.test", b"email=a@b.test"]),
    st.tuples(st.just(b"report_id="), TOKEN).map(b"".join),
    st.tuples(TOKEN, st.just(b"="), TOKEN).map(b"".join),
)


@st.composite
def plain_heads(draw: st.DrawFn) -> bytes:
    """Heads of the form that is taught, whatever they say."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PROPFIND", b"M", b"PATCH"]))
    target = b"/" + b"/".join(draw(st.lists(_segment, max_size=5)))
    pairs = draw(st.lists(_pair, max_size=4))
    has_query: bool = draw(st.booleans())
    if pairs or has_query:
        target += b"?" + b"&".join(pairs)
    lines = draw(st.lists(_line, max_size=8))
    host = draw(st.sampled_from([b"Host: h", b"HOST:api.example.org:8080", b"host: \t x"]))
    lines.insert(draw(st.integers(0, len(lines))), host)
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))
    return b"\r\n".join([b" ".join((method, target, version)), *lines, b"", b""])


def _is_plain(head: bytes) -> bool:
    """Whether the reader may not refuse it."""
    lines = head.split(b"\r\n")[1:]
    names = [line.partition(b":")[0].lower() for line in lines]
    return (
        names.count(b"host") == 1
        and names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        and not (b"transfer-encoding" in names and b" HTTP/1.0\r\n" in head)
        and not re.search(rb"[\r\x0b\x0c]", head.replace(b"\r\n", b""))
    )


@settings(max_examples=400, deadline=None)
@given(heads=st.lists(plain_heads(), min_size=1, max_size=6), rest=st.binary(max_size=40))
def test_plain_heads(read: Reader, frame: Frame, heads: list[bytes], rest: bytes) -> None:
    for head, told in zip(heads, read([head + rest for head in heads]), strict=True):
        if told.verdict != REFUSED:
            agree(head + rest, told, frame(head + rest))
            assert told.size == len(head)
        else:
            assert not _is_plain(head), head


@settings(max_examples=300, deadline=None)
@given(heads=st.lists(plain_heads(), min_size=1, max_size=3), data=st.data())
def test_damaged_heads_are_refused_or_read_alike(
    read: Reader, frame: Frame, heads: list[bytes], data: st.DataObject
) -> None:
    damaged = []
    for head in heads:
        at = data.draw(st.integers(0, len(head) - 1))
        new = data.draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"/", b"?", b"\0", b"\xff", b"#"])
        )
        damaged.append(head[:at] + new + head[at + data.draw(st.integers(0, 2)) :])
    for head, told in zip(damaged, read(damaged), strict=True):
        target = re.split(rb"[ \n]", head)[1:2]
        # A path that nobody would teach is never known, whatever else was read.
        if told.verdict != REFUSED and not told.is_unknown and not re.search(rb"[\0-\x20\x7f]", b"".join(target)):
            agree(head, told, frame(head))


def _list_said(lines: list[bytes]) -> tuple[object, ...]:
    """What the profile has of field lines: most of them whole, of `tests.bpf.varying_fields` what does not change."""
    said: list[object] = []
    credential = 0
    for line in lines:
        name, _, value = line.lower().partition(b":")
        kind = REFERENCE.names.get((False, name), 0)
        is_passed = kind in IGNORED_KINDS and not is_odd_value(line, is_quoted=kind is NameKind.HEADER_QUOTED)
        if is_passed or name in (b"host", b"content-length", b"transfer-encoding"):
            continue
        parts: list[object] = []
        if kind is NameKind.HEADER_COOKIE:
            said.append(name)
            _, credential = read_cookies(
                line,
                0,
                credential,
                find_kind=lambda cookie: REFERENCE.cookies.get(cookie, 0),
                hash_name=lambda cookie, to=said: hash(to.append((cookie,))),
                hash_line=lambda part, to=said: hash(to.append(part)),
                hash_value=len,
            )
            continue
        _, told = read_line(
            kind,
            line,
            0,
            credential,
            name_hash=0,
            hash_line=lambda part, to=parts: hash(to.append(part)),
            hash_value=len,
        )
        is_told, credential = told != credential, told
        if kind in MARKED_KINDS:
            own = line.partition(b":")[2].strip(b" \t")
            said.append(read_mark(name, own if kind is NameKind.HEADER_AGENT else b""))
            said += parts
            continue
        said += parts or [(name, is_told or bool(value.strip(b" \t")))]
    return tuple(said)


@settings(max_examples=150, deadline=None)
@given(heads=st.lists(plain_heads(), min_size=2, max_size=12))
def test_profiles_part_what_differs_and_nothing_else(read: Reader, heads: list[bytes]) -> None:
    """Two heads have one profile exactly where all that is read in them is equal."""
    said: dict[int, object] = {}
    for head, told in zip(heads, read(heads), strict=True):
        if told.verdict == REFUSED or told.is_unknown:
            continue
        line, *lines = head[: told.size - 4].split(b"\r\n")
        query = line.split(b" ")[1].partition(b"?")[2]
        kept = (
            line[-1:],
            _list_said(lines),
            tuple(pair for pair in query.split(b"&") if pair.lower().startswith(b"api_key=")),
        )
        assert said.setdefault(told.profile, kept) == kept
    assert len(set(said.values())) == len(said)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # No Host.
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890123456\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
        b"BASELINE-CONTROL / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 2_100 + b"\r\n\r\n",
        b"",
        b"G",
    ],
)
def test_refused(read: Reader, head: bytes) -> None:
    """After a head of the same length that was read, so that stale bytes lie behind it."""
    filler = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"\r\n\r\n" * 400
    assert [told.verdict == REFUSED for told in read([filler, head])] == [False, True]


def test_long_heads_are_read_whole(read: Reader) -> None:
    """Some two thousand bytes, hashed or skipped, many short lines or one long one."""
    base = b"GET /a/b/c HTTP/1.1\r\nHost: a\r\n"
    heads = [
        base + b"Cookie: " + b"c" * (2_040 - len(base) - 16) + b"\r\n\r\n",
        base + b"Accept: " + b"c" * (2_040 - len(base) - 16) + b"\r\n\r\n",
        base + b"Cookie: sid=" + b"c" * (2_040 - len(base) - 20) + b"\r\n\r\n",
        base + b"Cookie: _ga=" + b"c" * 1_800 + b"'\r\n\r\n",
        base + b"Cookie: " + b"; ".join(b"lang%d=de_and_more" % i for i in range(60)) + b"\r\n\r\n",
        base + b"".join(b"X-Line-%d: value %d\r\n" % (i, i) for i in range(35)) + b"\r\n",
        base + b"".join(b"Accept: value %d\r\n" % i for i in range(50)) + b"\r\n",
    ]
    assert all(len(head) <= 2_048 for head in heads)
    for head, told in zip(heads, read(heads), strict=True):
        assert told.verdict != REFUSED, head[:80]
        assert told.size == len(head)
        assert (told.profile, told.host) == REFERENCE.profile_and_host(head)
