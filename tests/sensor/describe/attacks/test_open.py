"""The classifier is made when a request is worth it, and not before."""

import pytest

from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks import open as opening
from sensor.describe.attacks.classes import AttackClass
from sensor.describe.attacks.reader import Answer, AttackedRequest, AttackReader
from tests.sensor.describe.attacks.test_reader import read_class

HASH = KeyedHash(1, bytes(16))
ANSWER = Answer(route_id=1, status_code=200, response_bytes=400, duration_ns=1_000_000, is_final=True)
ORDINARY = (
    b"GET /v1/users/17/orders?page=2 HTTP/1.1\r\nHost: shop.example:8443\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)"
    b' AppleWebKit/537.36 (KHTML, like Gecko)\r\nAccept: */*;q=0.8\r\nIf-None-Match: "x"\r\n'
    b"Cookie: sid=abc.def-1; lang=de\r\n"
    b"Content-Type: application/json; charset=utf-8\r\nConnection: keep-alive\r\nAuthorization: Bearer a.b.c\r\n\r\n"
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each classifier that is made."""
    found: list[int] = []

    class Watched(opening.AttackClassifier):
        def __init__(self, *arguments: object) -> None:
            found.append(1)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "AttackClassifier", Watched)
    return found


def open_reader() -> AttackReader:
    reader = opening.open_attacks(HASH, bytes_per_second=1 << 20, account=AttackAccount())
    assert reader is not None
    return reader


def read(reader: AttackReader, head: bytes = ORDINARY, **changes: object) -> int:
    target = head.split(b" ", 2)[1].decode().partition("?")
    values: dict[str, object] = {"method": "GET", "path": target[0], "query": target[2]} | changes
    return reader.read(
        AttackedRequest(consumer=1, head=head, headers=(), content_type="", time_ns=0, answer=ANSWER, **values)  # type: ignore[arg-type]
    )


def test_ordinary_heads_need_no_classifier(made: list[int]) -> None:
    reader = open_reader()
    assert read(reader) == 0
    assert made == []
    assert opening.open_attacks(HASH, bytes_per_second=0, account=AttackAccount()) is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ((b"page=2", b"page=2'%20or%201=1--"), AttackClass.SQLI),
        ((b"Mozilla/5.0 (X11; Linux x86_64)", b"env --version"), AttackClass.RCE),
        ((b"lang=de", b"lang=../../etc/passwd"), AttackClass.TRAVERSAL),
        ((b"Connection: keep-alive", b"Connection: keep-alive, close"), AttackClass.PROTOCOL),
        ((b"lang=de", b"state=rO0ABQAA"), AttackClass.RCE),
        ((b"Host: ", b"X-Class: java.lang.Runtime\r\nHost: "), AttackClass.RCE),
        ((b"Host: ", b"X-File-Name: a.jsp\r\nHost: "), AttackClass.RCE),
        ((b"Mozilla/5.0 (X11; Linux x86_64)", b"sqlmap"), AttackClass.PROBING),
        ((b"Host: ", b"Proxy: a\r\nHost: "), AttackClass.PROTOCOL),
        ((b"/users/17", b"/users/..%2f..%2fetc"), AttackClass.TRAVERSAL),
    ],
)
def test_what_holds_a_payload_makes_one(made: list[int], change: tuple[bytes, bytes], kind: AttackClass) -> None:
    reader = open_reader()
    told = read(reader, ORDINARY.replace(b"AppleWebKit/537.36 (KHTML, like Gecko)", b"").replace(*change))
    assert read_class(told) is kind
    assert made == [1]
    assert read(reader) == 0
    assert made == [1]
