"""Who is new: consumers of what few read, and hosts outside that a workload calls."""

from typing import Any

import pytest

from collector.alerting.alert import AlertKind, Report, Severity
from collector.detection.changes.rules import STABLE_SECONDS
from tests.collector.detection.changes.office import BEARER, DAY, HOUR, NAMED, OUTBOUND, Office
from tests.collector.inventory.seed import SeedEndpoint

pytestmark = pytest.mark.store

STABLE_DAYS = STABLE_SECONDS / DAY + 0.2


def test_a_new_consumer_of_what_few_read_is_told(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=STABLE_DAYS)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}), (known, regular))
    alert = office.the_alert(AlertKind.NEW_CONSUMER)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.MEDIUM, "API5:2023", "ep0001")
    assert alert.consumer == "principal:0000000000000008"
    assert "only its known consumer was expected" in alert.why and "contact, identity data" in alert.why
    office.now += HOUR
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}))
    assert len(office.told) == 1


@pytest.mark.parametrize(
    "newcomer",
    [
        {"principal": 8, "key_id": 2},  # Perhaps the same, by another key of the installation.
        {"principal": 8, "key_id": 1, "status_code": 403},
    ],
)
def test_who_may_be_known_and_who_was_refused_is_no_new_consumer(office: Office, newcomer: dict[str, Any]) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=STABLE_DAYS)
    office.call((known, {**NAMED, **BEARER, **newcomer}), (known, regular))
    assert office.told == []


def test_pods_with_new_addresses_are_no_new_consumers(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, "client_address": "10.0.0.9"}), days=STABLE_DAYS)
    office.call((known, {**NAMED, "client_address": "10.7.1.2"}))
    assert office.told == []


def test_who_logs_in_anew_is_no_new_consumer(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, **BEARER, "principal": 7, "principal_kind": 5, "key_id": 1}), days=STABLE_DAYS)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "principal_kind": 5, "key_id": 1}))
    assert office.told == []
    office.now += HOUR
    office.call((known, {**NAMED, **BEARER, "principal": 9, "principal_kind": 3, "key_id": 1}))
    assert office.the_alert(AlertKind.NEW_CONSUMER).consumer == "principal:0000000000000009"


def test_the_first_to_call_from_inside_without_a_name_is_told(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, **BEARER, "principal": 7, "key_id": 1}), days=STABLE_DAYS)
    office.call((known, {**NAMED, "client_address": "10.7.1.2"}))
    alert = office.the_alert(AlertKind.NEW_CONSUMER)
    where = "GET shop.example/payroll/{id} of orders:8080"
    assert (alert.consumer, alert.title) == ("", f"A caller inside without a name reads {where} for the first time")


def test_an_open_population_is_left_alone(office: Office) -> None:
    known = office.endpoint(1, "/profile")
    people = [{**NAMED, **BEARER, "principal": n, "key_id": 1} for n in range(1, 13)]
    office.learn(*((known, person) for person in people), days=STABLE_DAYS)
    for days, principal in ((4, 1), (4, 99)):
        office.now += days * DAY
        office.call((known, {**people[0], "principal": principal}))
    assert office.told == []


def _third_party(office: Office, number: int, host: str) -> SeedEndpoint:
    return office.endpoint(number, "/v1/push", host=host, workload=f"9.9.9.{number % 250}", port=443)


def test_a_new_third_party_of_a_known_workload_is_told(office: Office) -> None:
    pay = _third_party(office, 10, "api.pay.example")
    office.learn((pay, OUTBOUND))
    office.call((_third_party(office, 11, "paste.example"), OUTBOUND), (pay, OUTBOUND))
    alert = office.the_alert(AlertKind.NEW_THIRD_PARTY)
    assert (alert.severity, alert.risk) == (Severity.MEDIUM, "API10:2023")
    assert alert.consumer == "workload:shop/orders"
    assert alert.title == "shop/orders calls paste.example for the first time"
    office.now += HOUR
    office.call((_third_party(office, 12, "drop.example"), OUTBOUND))
    alert = office.the_alert(AlertKind.NEW_THIRD_PARTY)
    assert alert.title == "shop/orders calls paste.example and 1 other host for the first time"


def test_the_first_third_party_of_a_service_is_told_and_of_a_new_program_is_not(office: Office) -> None:
    service = office.endpoint(1, "/orders/{order_id}", namespace="shop")
    office.learn((service, {}))
    newborn = {**OUTBOUND, "client_workload": "shop/newborn"}
    office.call((_third_party(office, 11, "paste.example"), OUTBOUND), (_third_party(office, 12, "a.example"), newborn))
    assert office.the_alert(AlertKind.NEW_THIRD_PARTY).consumer == "workload:shop/orders"


def test_what_a_new_consumer_does_is_another_alert_of_the_same_incident(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=STABLE_DAYS)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}))
    consumer = office.the_alert(AlertKind.NEW_CONSUMER).consumer
    office.now += HOUR
    scrape = Report(
        kind=AlertKind.ENUMERATION,
        severity=Severity.MEDIUM,
        title="reads much",
        why="It reads much.",
        calm_seconds=600,
        window_start=office.now - 60,
        window_end=office.now,
        endpoint_id="ep0001",
        consumer=consumer,
    )
    office.desk.take_found([scrape])
    kinds = {alert.kind: alert.incident_id for alert in office.alerts()}
    assert kinds.keys() == {AlertKind.NEW_CONSUMER, AlertKind.ENUMERATION} and len(set(kinds.values())) == 1
