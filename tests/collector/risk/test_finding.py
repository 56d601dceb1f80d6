"""Circumstances of an endpoint: whether people log in there, which secrets leak, and whether its answers name somebody.

Whole calls are in tests/data/risk/cases.jsonl; here are mixtures of calls, by their counts.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from collector.inventory.endpoints.bodies import Bodies, BodySide, DataClass, DataFound, RecordsBasis
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.risk.finding import Circumstances, Past, Recent
from collector.risk.rules import load_rules

CALLS = 100
CLASSES = {
    "jwt": DataClass.SECRET,
    "password": DataClass.SECRET,
    "email": DataClass.CONTACT,
    "phone": DataClass.CONTACT,
}
Counts = dict[str, int]


def look(
    *,
    method: str = "POST",
    template: str = "/v1/things",
    sent: Counts | None = None,
    told: Counts | None = None,
    logins: int = 0,
    records: int = CALLS,
    coverage: float = 0.0,
    operation: tuple[str, str] | None = None,
    requires_authentication: bool = False,
) -> Circumstances:
    """An endpoint with 100 calls that were all read. `sent` and `told`: calls by kind; `operation`: kind and name."""
    sides = ((BodySide.REQUEST, sent or {}), (BodySide.RESPONSE, told or {}))
    bodies = Bodies(
        requests_read=CALLS,
        responses_read=CALLS,
        records_returned=records,
        records_measured=records,
        records_basis=RecordsBasis.MEASURED,
        data=tuple(
            DataFound(
                kind=kind,
                data_class=CLASSES.get(kind, DataClass.IDENTITY),
                side=side,
                calls=calls,
                share=calls / CALLS,
            )
            for side, counts in sides
            for kind, calls in counts.items()
        ),
        logins=logins,
    )
    endpoint: Any = SimpleNamespace(
        method=method,
        template=template,
        bodies=bodies,
        status=SimpleNamespace(success=CALLS),
        authentication=SimpleNamespace(coverage=coverage, unseen_calls=0),
        operation=SimpleNamespace(kind=operation[0], name=operation[1]) if operation else None,
        exposure=SimpleNamespace(level=ExposureLevel.INTERNAL, reasons=()),
        spec=SimpleNamespace(requires_authentication=requires_authentication, spec="shop.yaml"),
    )
    return Circumstances(endpoint=endpoint, past=Past(), recent=Recent(), now=0.0, seconds=86_400)


def breaks(rule: str, seen: Circumstances) -> bool:
    """Whether a rule finds something."""
    return next(find for one, find in load_rules() if one.id == rule)(seen) is not None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"method": "PUT", "logins": 60}, True),
        ({"method": "GET", "logins": 100}, True),
        # Nearly all attempts fail; what they send shows that it is one.
        ({"method": "PUT", "sent": {"password": 100}, "logins": 2}, True),
        ({"method": "PUT", "sent": {"password": 100}}, False),
        ({"method": "POST", "sent": {"password": 100}}, True),
        # One path of many operations, of which a few log in.
        ({"sent": {"password": 10}, "logins": 10}, False),
        ({"template": "/api/login"}, True),
        ({"template": "/api/login", "method": "GET"}, False),
        ({"template": "/auth/guest", "told": {"jwt": 100}}, True),
        ({"template": "/auth/users", "told": {"person_name": 100, "phone": 100}}, False),
        ({"template": "/sessions/{session_id}/guests", "told": {"person_name": 100, "phone": 100}}, False),
        ({"template": "/graphql", "operation": ("mutation", "LogInUser")}, True),
        ({"template": "/graphql", "operation": ("mutation", "tokenAuth")}, True),
        ({"template": "/jsonrpc", "operation": ("method", "user.login")}, True),
        ({"template": "/graphql", "operation": ("query", "loginHistory")}, False),
        ({"template": "/graphql", "operation": ("mutation", "blogInsert")}, False),
    ],
)
def test_where_people_log_in(seen: dict[str, Any], expected: bool) -> None:
    assert look(**seen).is_login is expected


@pytest.mark.parametrize(
    ("seen", "leaked"),
    [
        ({"told": {"jwt": 30}, "logins": 30}, set()),
        ({"told": {"jwt": 60}, "logins": 30}, {"jwt"}),
        ({"told": {"jwt": 30, "password": 30}, "logins": 30}, {"password"}),
        ({"told": {"jwt": 100}, "logins": 100, "records": 5 * CALLS}, set()),
        ({"template": "/login", "told": {"jwt": 100}}, set()),
        ({"template": "/login", "told": {"jwt": 100}, "records": 5 * CALLS}, {"jwt"}),
        ({"told": {"jwt": 100}, "coverage": 1.0}, set()),
        ({"told": {"jwt": 100}, "coverage": 1.0, "records": 5 * CALLS}, {"jwt"}),
        ({"told": {"jwt": 100}, "coverage": 1.0, "method": "GET"}, {"jwt"}),
        ({"told": {"jwt": 100}}, {"jwt"}),
    ],
)
def test_what_was_not_issued_leaks(seen: dict[str, Any], leaked: set[str]) -> None:
    assert look(**seen).leaked_secrets == leaked


@pytest.mark.parametrize(
    ("seen", "is_named"),
    [
        ({"told": {"person_name": 100, "phone": 100}}, True),
        ({"told": {"person_name": 100}}, False),
        ({"told": {"email": 100, "phone": 100}}, False),
        ({"told": {"email": 100}, "records": 5 * CALLS}, True),
        ({"sent": {"person_name": 100, "phone": 100}, "told": {"person_name": 100, "phone": 100}}, False),
        ({"sent": {"person_name": 100}, "told": {"person_name": 100, "phone": 100}}, True),
        ({"sent": {"person_name": 10, "phone": 10}, "told": {"person_name": 100, "phone": 100}}, True),
    ],
)
def test_whom_answers_name(seen: dict[str, Any], is_named: bool) -> None:
    assert bool(look(**seen).personal_kinds) is is_named


def test_a_login_need_not_have_the_credentials_that_a_description_asks_for_everywhere() -> None:
    rule = "authentication_weaker_than_described"
    assert breaks(rule, look(requires_authentication=True))
    assert not breaks(rule, look(requires_authentication=True, logins=100))
