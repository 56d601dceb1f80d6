"""Sessions beside cookies that change: the kernel reports the one and skips the other, and both ways say the same."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.auth.schemes import classify_cookie_name as read_cookie_name
from sensor.ebpf.abi import NameKind
from sensor.offload.name_table import classify_cookie_name, read_plain_head
from tests.sensor.offload.conftest import Sensor, tell
from tests.sensor.offload.test_matcher import make, teach
from tests.sensor.offload.test_names import JWT, VALUES, read
from tests.sensor.rows import find_actor

TOLD, IGNORED = NameKind.COOKIE_TOLD, NameKind.COOKIE_IGNORED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"session", TOLD), (b"JSESSIONID", TOLD), (b"connect.sid", TOLD), (b"api_key", TOLD), (b"_ga", IGNORED),
        (b"_ga_X1", IGNORED), (b"csrftoken", IGNORED), (b"lang", None), (b"_ga$x", None), (b"session'", None),
        (b"", None), (b"session" + b"x" * 64, None),
    ],
)  # fmt: skip
def test_names(name: bytes, kind: NameKind | None) -> None:
    assert classify_cookie_name(name) is kind


@given(
    name=st.sampled_from([b"_ga", b"csrftoken", b"session", b"token", b"lang", b"AWSALB", b"OptanonConsent"])
    | st.from_regex(rb"[A-Za-z0-9_.-]{1,12}", fullmatch=True),
    value=st.sampled_from(VALUES),
)
def test_the_name_alone_decides(name: bytes, value: bytes) -> None:
    found = [kind for kind, _, _ in read(b"Cookie: " + name + b"=" + value.replace(b" ", b"") + b"\r\n")]
    kind = classify_cookie_name(name)
    assert kind is None or len(found) == (kind is TOLD)
    assert kind is not TOLD or found == [read_cookie_name(name)]


def test_names_are_read_as_the_kernel_reads_them() -> None:
    head = read_plain_head(
        b"GET /a HTTP/1.1\r\nHost: h\r\nCOOKIE: a=1;b=x=y ; c;\td=;=z\r\nX: e=1\r\ncookie:f=2\r\n\r\n"
    )
    assert head is not None
    assert head.cookie_names == (b"a", b"b", b"d", b"", b"f")


def test_a_session_beside_a_cookie_that_changes_needs_no_head(sensor: Sensor) -> None:
    teach(sensor, make("/v1/orders/1717", "Cookie: session=one; _ga=GA1.2.1.1"))
    calls = [
        make(f"/v1/orders/{number}", f"Cookie: session=s{number % 7}; _ga=GA1.2.{number}.{number}")
        for number in range(1_000, 1_100)
    ]
    assert Counter(sensor.take(call) for call in calls) == {"record": 100}
    rows = sensor.convert()
    assert [sensor.told(row) for row in rows] == [tell(sensor.describe(call)) for call in calls]
    assert len({find_actor(sensor.facts, int(row["actor"])).principal for row in rows}) == 7
    assert sensor.figure("taught_profiles") == 1


@pytest.mark.parametrize(
    ("cookies", "is_matched"),
    [
        ("session={}; _ga=x'--", True),  # A sign of an attack beside it.
        ("session=x{}'; _ga=1", False),
        ("_ga=1(2); session={}", True),
        ("session={}; lang=de", True),  # A cookie whose value decides.
        ("session={}; token=abcdefgh", True),  # Which is the one that names the caller.
        ("session=abc; token=t{}", False),
        ("session={}.b", False),  # May be a JWT.
        ("session={}" + "x" * 300, False),
        ("lang={}", False),
    ],
)
def test_another_session_is_matched_where_all_else_is_alike(sensor: Sensor, cookies: str, is_matched: bool) -> None:
    teach(sensor, make("/v1/orders/1717", "Cookie: session=one; _ga=GA1.2.1.1"))
    first, second = (make("/v1/orders/1718", "Cookie: " + cookies.format(value)) for value in ("v1", "v2"))
    assert sensor.take(first) == "head"
    teach(sensor, first)
    assert sensor.take(first) == "record"
    assert sensor.take(second) == ("record" if is_matched else "head")
    for row, call in zip(sensor.convert(), (first, second), strict=False):
        assert sensor.told(row) == tell(sensor.describe(call))


def test_a_jwt_in_a_cookie_is_read_once_by_user_space(sensor: Sensor) -> None:
    other = JWT.replace(b"IxIn0", b"IyIn0")
    for token in (JWT, other):
        call = make("/v1/orders/1717", f"Cookie: session={token.decode()}; _ga=1")
        assert sensor.take(call) == "head"
        teach(sensor, call)
        assert sensor.take(call) == "record"
        (row,) = sensor.convert()
        assert sensor.told(row) == tell(sensor.describe(call))


def test_random_jars_are_reported_alike(sensor: Sensor) -> None:
    source, ways, equals = random.Random(11), Counter[str](), ["=", "=", "=", ""]
    names = [
        "session",
        "JSESSIONID",
        "jsessionid",
        "api_key",
        "_ga",
        "_GA",
        "csrftoken",
        "lang",
        "theme",
        "_hjSession_3",
    ]
    values = [
        "a",
        "abc123def456",
        "GA1.2.3.4",
        JWT.decode(),
        "x'y",
        "%20",
        "%3D%3D",
        '"q"',
        "",
        "a b",
        "a=b",
        "(1)",
        "é",
    ]
    for number in range(3_000):
        jar = source.choice(["; ", ";", " ; "]).join(
            f"{source.choice(names)}{source.choice(equals)}{source.choice(values)}{source.choice(['', number])}"
            for _ in range(source.randrange(5))
        )
        lines = [f"Cookie: {jar}", *([f"Authorization: Bearer tok{number % 3}abcdef"] if source.random() < 0.3 else [])]
        source.shuffle(lines)
        call = make(f"/v1/orders/{number + 1_000}", *lines)
        way = sensor.take(call)
        ways[way] += 1
        if way == "record":
            assert [sensor.told(row) for row in sensor.convert()] == [tell(sensor.describe(call))], lines
    assert ways["record"] > 600, ways
