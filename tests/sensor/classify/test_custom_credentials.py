"""Credentials that the operator named are credentials, on both ways of a call, and what is none is refused at start."""

from collections.abc import Callable

import pytest

from sensor.calls import AuthenticationKind as Kind
from sensor.classify.custom_credentials import read_custom_credentials
from sensor.classify.principal import Principals
from sensor.config import CUSTOM_CREDENTIALS_MAX, ConfigError, load_settings
from sensor.keyed import KeyedHash
from sensor.protocols.http1 import RequestHead, parse_request_head
from tests.sensor.recognition.conftest import Sensor
from tests.sensor.recognition.kernel import Call
from tests.sensor.recognition.test_recogniser import make

CUSTOM = read_custom_credentials(("header:X-Acme-Badge", "cookie:acme", "query:Badge", "query:ticket_id"))
GIVEN = {"collector": "127.0.0.1:1"}
KEYED = KeyedHash(1, b"0123456789abcdef")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def read(target: str, *lines: str) -> RequestHead:
    head = parse_request_head("\r\n".join((f"GET {target} HTTP/1.1", *lines, "", "")).encode(), False)
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize(
    ("target", "line", "kind"),
    [
        ("/", "X-Acme-Badge: words", Kind.NONE),  # Shorter than any key.
        ("/", "X-Acme-Badge: open sesame", Kind.API_KEY_HEADER),
        ("/", f"X-Acme-Badge: {JWT}", Kind.JWT_CUSTOM_HEADER),
        ("/", "Cookie: theme=dark; Acme=seven words", Kind.COOKIE_SESSION),
        ("/?badge=open-sesame", "X-A: b", Kind.API_KEY_QUERY),
        ("/?BADGE=open-sesame&page=2", "X-A: b", Kind.API_KEY_QUERY),
    ],
)
def test_kinds(target: str, line: str, kind: Kind) -> None:
    weak = Kind.JWT_NO_EXPIRY | Kind.JWT_KNOWN_KEY
    assert Principals(KEYED, CUSTOM).read(read(target, line)).kinds & ~weak == kind
    # By name alone: another line, as what a line says is noted on it.
    other = Principals(KEYED).read(read(target.replace("sesame", "simsim"), line.replace("se", "si")))
    assert other.kinds & ~weak in (Kind.NONE, Kind.JWT_CUSTOM_HEADER)


@pytest.mark.parametrize(
    "write",
    [
        lambda n: make("/v1/orders/17", f"X-Acme-Badge: open sesame {n}"),
        lambda n: make("/v1/orders/17", f"Cookie: theme=dark; acme=open-sesame-{n}"),
        lambda n: make(f"/v1/orders/17?badge=open-sesame-{n}"),
        lambda n: make(f"/v1/orders/17?ticket_id=open-sesame-{n}"),
    ],
    ids=["header", "cookie", "query", "object"],
)
def test_the_kernel_keeps_principals_apart_as_python_does(write: Callable[[int], Call]) -> None:
    sensor = Sensor(custom=CUSTOM)
    calls = [write(number) for number in range(5)]
    told = [sensor.describe(call) for call in calls]
    assert len({one.principal for one in told}) == 5 and 0 not in {one.principal for one in told}
    recognised: set[int] = set()
    for _ in range(30):
        for call, one in zip(calls, told, strict=True):
            if sensor.take(call) == "record":
                rows = sensor.convert()
                actors = [sensor.facts.find_actor(int(actor)) for actor in rows["actor"]]
                assert [actor.principal for actor in actors] == [one.principal]
                recognised.add(one.principal)
    is_object = b"ticket_id" in calls[0].head
    assert len(recognised) == (0 if is_object else 5)  # A credential that names objects is always read whole.


def test_what_is_none_is_one_sentence() -> None:
    many = [f"header:x-{number}" for number in range(CUSTOM_CREDENTIALS_MAX + 1)]
    for entries in (["x-acme"], ["header:"], ["body:x"], ["header:a b"], ["header:Cookie"], ["header:x-real-ip"], many):
        with pytest.raises(ConfigError, match="custom_credentials"):
            load_settings({**GIVEN, "custom_credentials": entries}, environment={})
    text = "header:X-Acme, cookie:acme"
    given = load_settings({**GIVEN, "custom_credentials": text}, environment={}).custom_credentials
    assert given == ("header:X-Acme", "cookie:acme")
