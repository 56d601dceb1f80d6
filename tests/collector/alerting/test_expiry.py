"""Certificates that end soon: when they are told, how often, and that what is renewed heals."""

from dataclasses import dataclass

import pytest

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.self_monitoring import ExpiryWatch, Validity

DAY = 86_400.0
LIFE = 30 * DAY  # So the alert begins 5 days before the end, and is high 1 day before.
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Sensor:
    certificate_not_after: float
    node: str = "n1"
    last_heard_at: float = NOW
    is_paused: bool = False


def look(
    watch: ExpiryWatch, *sensors: Sensor, now: float = NOW, own: tuple[Validity, ...] = ()
) -> list[tuple[AlertKind, str, Severity]]:
    return [(report.kind, report.node, report.severity) for report in watch.look(sensors, own, now).reports]


@pytest.mark.parametrize(
    ("days", "severity"),
    [
        (30, None),
        (10.1, None),
        (5.1, None),
        (4.9, Severity.MEDIUM),
        (1.1, Severity.MEDIUM),
        (0.9, Severity.HIGH),
        (-1, Severity.HIGH),
    ],
)
def test_a_sensors_certificate_is_told_in_the_last_sixth_of_its_life(days: float, severity: Severity | None) -> None:
    found = look(ExpiryWatch(LIFE), Sensor(NOW + days * DAY))
    assert found == ([] if severity is None else [(AlertKind.SENSOR_CERTIFICATE, "n1", severity)])


@pytest.mark.parametrize(
    "sensor",
    [
        Sensor(0.0),  # By token.
        Sensor(NOW + DAY, is_paused=True),
        Sensor(NOW + DAY, last_heard_at=NOW - 2 * DAY),
    ],
)
def test_who_needs_none_or_is_gone_is_left_alone(sensor: Sensor) -> None:
    assert look(ExpiryWatch(LIFE), sensor) == []


def test_it_is_said_by_the_hour_and_at_once_when_it_becomes_grave_and_heals() -> None:
    watch, sensor = ExpiryWatch(LIFE), Sensor(NOW + 1.01 * DAY)
    assert look(watch, sensor) == [(AlertKind.SENSOR_CERTIFICATE, "n1", Severity.MEDIUM)]
    assert look(watch, sensor, now=NOW + 600) == []
    assert look(watch, sensor, now=NOW + 900) == [(AlertKind.SENSOR_CERTIFICATE, "n1", Severity.HIGH)]
    assert look(watch, sensor, now=NOW + 4_000) == []
    assert look(watch, sensor, now=NOW + 4_600) == [(AlertKind.SENSOR_CERTIFICATE, "n1", Severity.HIGH)]
    findings = watch.look([Sensor(NOW + 30 * DAY)], (), NOW + 4_700)
    assert not findings.reports and findings.healed == ((AlertKind.SENSOR_CERTIFICATE, "n1"),)


def test_a_sensor_that_is_forgotten_heals() -> None:
    watch = ExpiryWatch(LIFE)
    assert look(watch, Sensor(NOW + DAY))
    assert watch.look([], (), NOW + 1).healed == ((AlertKind.SENSOR_CERTIFICATE, "n1"),)


def test_own_certificates_are_judged_by_their_own_lives() -> None:
    def own(kind: AlertKind, life_days: float, left_days: float) -> tuple[Validity, ...]:
        return (Validity(kind=kind, not_before=NOW - (life_days - left_days) * DAY, not_after=NOW + left_days * DAY),)

    listener, authority = AlertKind.COLLECTOR_CERTIFICATE, AlertKind.AUTHORITY_CERTIFICATE
    assert look(ExpiryWatch(LIFE), own=own(listener, 365, 15)) == []
    assert look(ExpiryWatch(LIFE), own=own(listener, 365, 13)) == [(listener, "", Severity.MEDIUM)]
    assert look(ExpiryWatch(LIFE), own=own(authority, 3_650, 91)) == []
    assert look(ExpiryWatch(LIFE), own=own(authority, 3_650, 89)) == [(authority, "", Severity.MEDIUM)]
    assert look(ExpiryWatch(LIFE), own=own(listener, 2 / 24, 0.5 / 24)) == []
    assert look(ExpiryWatch(LIFE), own=own(listener, 2 / 24, 0.3 / 24)) == [(listener, "", Severity.MEDIUM)]
    (report,) = ExpiryWatch(LIFE).look((), own(listener, 90, 2.5), NOW).reports
    assert report.title == "The certificate of the collector's listeners expires on 2023-11-17 10:13 UTC"
    assert report.why.startswith(
        "The certificate of the collector's listeners expires in 2.5 days and is not renewed yet"
    )
