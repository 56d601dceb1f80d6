"""Signs of an attack in values that the kernel passes over by their field's name: payloads have one, what browsers,
programs and bots send has none, so that no head goes up for it."""

import re

import pytest

from tests.bpf.head_reader import REFUSED, Reader, read

__all__ = ["read"]

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 [FBAN/FBIOS;FBAV=462.0.0;FBBV=1]",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2; .NET CLR 2.0.50727; .NET4.0C)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Dalvik/2.1.0 (Linux; U; Android 14; SM-S918B Build/UP1A.231005.007)",
    "Shop%20App/1024 CFNetwork/1496.0.7 Darwin/23.5.0",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "kube-probe/1.29",
    "grpc-go/1.62.0",
    "Go-http-client/1.1",
    "aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.5 md/GOOS#linux md/GOARCH#amd64 api/s3#1.58.2 m/E",
    "okhttp/4.12.0",
)
SENDERS = (
    "https://shop.example/",
    "https://shop.example/a/b.html?page=2&sort=price%20asc&from=%2Fcart%3Fstep%3D2#top",
    "https://shop.example/search?q=gr%C3%BCner+tee&filter[size]=10&tag=a,b",
    "https://example.org/%D0%B7%D0%B0%D0%BA%D0%B0%D0%B7%D1%8B/",
    "https://shop.example/list;jsessionid=0123456789ABCDEF.node1?x=(a)",
    "http://10.0.0.7:8080/admin/?id=7",
    "android-app://com.example.shop/",
)
IDS = (
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1",
    "105445aa7843bc8bf206b12000100000/1;o=1",
    "203.0.113.7, 70.41.3.18, 150.172.238.178",
    "for=192.0.2.43;proto=https;by=203.0.113.60, for=198.51.100.17",
    "6f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f",
    "userId=alice,serverNode=DF%2028,isProduction=false",
)
QUOTED = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8,application/signed;v=b3",
    '"Chromium";v="131", "Not_A Brand";v="24", "(Not(A:Brand";v="8", " Not;A Brand"',
    'W/"0815-%27..{}", "a;id "',
    "timeout=5, max=1000",
)
PAYLOADS = (
    "x' UNION SELECT password FROM users --",
    '" OR "1"="1',
    "0'XOR(if(now()=sysdate(),sleep(15),0))XOR'Z",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "/static/..%2f..%2fetc/passwd",
    "%2e%2e/%2E%2E/etc/passwd",
    "x;cat /etc/hosts",
    "1;sleep 5;",
    "1 | id",
    "`id`",
    "$(id)",
    "() { :; }; /bin/bash -c id",
    "{{7*7}}",
    "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///x'>]>",
    '{"user":{"$gt":""}}',
    "*)(uid=*))(|(uid=*",
    "${jndi:ldap://h/a}",
    "%24%7Bjndi:ldap://h/a%7D",
    "a%0d%0aSet-Cookie: b=c",
    "https://h/?q=%27%20or%201",
    "https://h/?q=%253Cscript%253E",
    "https://h/?q=%3cscript%3e",
    "..\\..\\windows",
)
PLAIN_PAYLOADS = ("${jndi:ldap://h/a}", "<script>", "x' or 1", "`id`", "1|id", "..\\..\\x")


def make(name: str, value: str) -> bytes:
    return f"GET /a HTTP/1.1\r\nHost: h\r\nX-Request-Id: 1\r\n{name}: {value}\r\nCookie: {{'a'\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("name", "values", "is_odd"),
    [
        ("User-Agent", BROWSERS, False),
        ("Referer", SENDERS, False),
        ("X-Request-Id", IDS, False),
        ("Accept", QUOTED, False),
        ("User-Agent", PAYLOADS, True),
        ("Accept", PLAIN_PAYLOADS, True),
    ],
)
def test_signs(read: Reader, name: str, values: tuple[str, ...], is_odd: bool) -> None:
    """At every place in a word of eight bytes."""
    for shift in range(8):
        shifted = ["-" * shift + " " * bool(shift) + value for value in values]
        told = read([make(name, value) for value in shifted])
        assert all(one.verdict != REFUSED for one in told)
        assert [value for value, one in zip(values, told, strict=True) if one.is_odd != is_odd] == []
        # Of what a User-Agent says its first product alone is part of the profile.
        same = [re.split("[ /]", value)[0] if name == "User-Agent" and not is_odd else "x" for value in shifted]
        plain = read([make(name, value) for value in same])
        assert {one.profile == other.profile for one, other in zip(told, plain, strict=True)} == {not is_odd}
        if is_odd:
            assert len({one.profile for one in told}) == len(values)


def test_cookies_that_are_skipped(read: Reader) -> None:
    """What counters and ids hold is no part of the profile; what has a sign of an attack is."""
    ordinary = [
        *("GA1.2.1234567890.1700000000", "GS1.1.1700000000.5.1.1700000100.0.0.0", "fb.1.1596403881668.1116446470", ""),
        *("a=b&c=d+e", "eyJpZCI6IjEiLCJhIjoxfQ==", "1-2_3~4|5"[:7], "%3D%2B%2F", "12:30:05,x@y", "5f8e7d6c/abc+d="),
    ]
    others = ["/etc/passwd", "C:/winnt/win.ini", "%c0%ae%c0%ae/boot.ini", "%%32%65", "%u003cscript"]
    others += ["1 or 1=1", "sleep(5)"]
    values = [*ordinary, *PAYLOADS, *others]
    for shift in range(8):
        head = b"GET /a HTTP/1.1\r\nHost: h\r\nCookie: %b_ga=%b; sid=abc\r\n\r\n"
        told = read([head % (b"x" * shift + b"=1; ", value.encode()) for value in ["1", *values]])
        assert all(one.verdict != REFUSED for one in told)
        assert [one.profile == told[0].profile for one in told[1:]] == [value in ordinary for value in values]
        assert {one.credential for one in told[1 : len(ordinary) + 1]} == {told[0].credential}


def test_marks_of_another_line_do_not_count(read: Reader) -> None:
    """Of a line of another name, of a signed Authorization behind its first comma, and of one that follows at once."""
    heads = [
        b"GET /a HTTP/1.1\r\nHost: h\r\nX-Other: '<${\r\n\r\n",
        b'GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Digest username="u", nonce="\'<{"\r\n\r\n',
        b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\nx$'{`: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n'<${'<${",
        b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\n\r\n'<${'<${",
    ]
    assert [one.is_odd for one in read(heads)] == [0] * len(heads)
