"""What is new of endpoints: themselves, the data that they return, and a login that went."""

import pytest

from collector.alerting.alert import AlertKind, Confidence, Severity
from collector.core.kinds import Sensitivity
from tests.collector.detection.changes.office import BEARER, CARDS, DAY, EMPTY, HOUR, NAMED, PUBLIC, Office
from tests.collector.inventory.seed import NOW

pytestmark = pytest.mark.store


def test_a_new_endpoint_of_a_known_service_is_told_once(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    fresh = office.endpoint(2, "/export")
    office.call((fresh, BEARER), (known, {}))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.LOW, "API9:2023", "ep0002")
    assert alert.confidence is Confidence.HIGH and "specification" in alert.advice
    assert alert.title == "orders:8080 answers at GET /export, which is new"
    assert "the service is known since" in alert.why and "GET /export" in alert.why
    assert alert.window_start == pytest.approx(office.now - 60, abs=60)
    office.now += 600
    office.call((fresh, BEARER), (known, {}))
    assert len(office.told) == 1 and office.watch.dropped_count == 0


def test_fifty_endpoints_of_a_deploy_are_one_alert_that_does_not_page(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call(*((office.endpoint(100 + n, f"/v2/thing{n:02d}"), BEARER) for n in range(30)))
    office.now += HOUR
    office.call(*((office.endpoint(200 + n, f"/v2/other{n:02d}"), BEARER) for n in range(20)))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert alert.severity is Severity.LOW and alert.measure == 50
    assert alert.title == "orders:8080 has 50 new endpoints"
    assert "GET /v2/thing00, " in alert.why and "and 40 more." in alert.why
    office.now += DAY
    office.call((office.endpoint(300, "/v3/late"), BEARER))
    assert sorted(alert.measure for alert in office.alerts()) == [1, 50]


def test_nothing_is_told_on_the_first_day_nor_of_a_new_service(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}", first_seen=NOW - 9 * DAY)
    office.call((known, BEARER))
    office.now += 20 * HOUR
    office.call((office.endpoint(2, "/export"), {**NAMED, **PUBLIC}), (known, {**CARDS, **BEARER}))
    assert office.told == []
    office.now += 5 * HOUR
    office.call((office.endpoint(3, "/born", workload="newborn"), {}), (known, BEARER))
    office.now += HOUR
    office.call((office.endpoint(4, "/next", workload="newborn"), {}), (known, BEARER))
    assert office.told == []


def test_an_endpoint_that_only_refuses_is_none(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call((office.endpoint(2, "/.env"), {"status_code": 404}))
    assert office.told == []


def test_a_new_class_of_data_is_told(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**EMPTY, **BEARER}))
    office.call((known, {**CARDS, **BEARER}))
    alert = office.the_alert(AlertKind.NEW_DATA_CLASS)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.MEDIUM, "API3:2023", "ep0001")
    assert alert.title == "GET /orders/{order_id} of orders:8080 returns financial data, which is new"
    office.now += 600
    office.call((known, {**CARDS, **BEARER}))
    assert len(office.told) == 1
    office.now += 600
    office.call((known, {**NAMED, **BEARER}))
    alert = office.the_alert(AlertKind.NEW_DATA_CLASS)
    assert alert.measure == 3 and "contact data at GET /orders/{order_id}" in alert.why


def test_a_class_of_an_endpoint_whose_bodies_were_never_read_is_no_news(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, BEARER))
    office.call((known, {**CARDS, **BEARER}))
    assert office.told == []


def test_a_login_that_went_is_told_at_every_level(office: Office) -> None:
    office.level = Sensitivity.QUIET
    office.start()
    known = office.lose_login()
    alert = office.the_alert(AlertKind.MISSING_AUTHENTICATION)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.HIGH, "API2:2023", "ep0001")
    assert "nearly all did at" in alert.why and alert.advice == "See which release took the login away."
    office.now += 120
    office.call((known, {}), count=40)
    assert len(office.told) == 1
