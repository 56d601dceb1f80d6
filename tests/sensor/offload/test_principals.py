"""No two principals are ever told as one, and none as two, whichever way their calls go: tokens of one issuer (signed
anew, too), users with one password, sessions behind long cookies, keys."""

import json
from base64 import b64encode, urlsafe_b64encode

from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.core.calls import PrincipalKind
from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.kernel import Call
from tests.sensor.rows import find_actor

KINDS = {
    "jwt": PrincipalKind.JWT_SUBJECT,
    "basic": PrincipalKind.BASIC_USER,
    "cookie": PrincipalKind.SESSION,
    "key": PrincipalKind.API_KEY,
    "token": PrincipalKind.TOKEN,
}
Principal = tuple[str, int]
# Who calls, which of their tokens, how long what stands around it is, for which order.
CALLS = st.tuples(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 5)),
    st.integers(0, 2),
    st.sampled_from((0, 3, 60, 400, 900, 1_300, 1_700)),
    st.integers(100, 999),
)


def encode(part: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def write_line(principal: Principal, turn: int, size: int) -> str:
    """Alike but for what tells them apart, at the end or in the middle of a long line."""
    kind, number = principal
    filler = "c" * size
    match kind:
        case "jwt":
            claims = {"iss": "https://issuer.example", "aud": filler[:600], "sub": f"user-{number}", "exp": turn}
            return f"Authorization: Bearer {encode({'alg': 'RS256'})}.{encode(claims)}.signature{turn}"
        case "basic":
            return f"Authorization: Basic {b64encode(f'user{number}:one password'.encode()).decode()}"
        case "cookie":
            return f"Cookie: theme={filler}; sessionid=abcdef{number:04d}; seen={turn}"
        case "key":
            return f"X-Api-Key: {'k' * 30}{number:04d}"
    return f"Authorization: Bearer opaque{'t' * 200}{number:04d}"


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(CALLS, min_size=20, max_size=120))
def test_principals_and_what_is_told_are_one_to_one(
    calls: list[tuple[Principal, int, int, int]],
) -> None:
    sensor = Sensor()
    told: dict[Principal, set[tuple[int, PrincipalKind]]] = {}
    for principal, turn, size, order in calls:
        lines = (f"GET /v1/orders/{order} HTTP/1.1", "Host: shop.example", write_line(principal, turn, size), "", "")
        call = Call(head="\r\n".join(lines).encode())
        if sensor.take(call) == "record":
            (row,) = sensor.convert()
            actor = find_actor(sensor.facts, int(row["actor"]))
            found = (actor.principal, actor.principal_kind)
        else:
            record = sensor.describe(call)
            found = (record.credentials.principal, record.credentials.principal_kind)
        told.setdefault(principal, set()).add(found)
    for (kind, _), found_of_one in told.items():
        assert len(found_of_one) == 1  # None split.
        assert {told_kind for _, told_kind in found_of_one} == {KINDS[kind]}
    assert len({found for found_of_one in told.values() for found in found_of_one}) == len(told)  # None merged.


def test_most_of_such_calls_are_recognised() -> None:
    """Else the property would speak of one way only."""
    sensor, ways = Sensor(), list[str]()
    for number in range(400):
        principal = sorted(KINDS)[number % 5], number % 7
        lines = (f"GET /v1/orders/{100 + number} HTTP/1.1", "Host: shop.example", write_line(principal, 0, 60), "", "")
        ways.append(sensor.take(Call(head="\r\n".join(lines).encode())))
    assert ways.count("record") > 300
