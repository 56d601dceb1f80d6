"""A certificate that ends soon and was not renewed is an alert: dates in, reports and healings out. Pure.

Sensors and collector renew after two thirds of a certificate's life and try again until it ends; half of the last third
is left for them, the other half for a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.report import Report
from collector.alerts.silence import Findings

EXPIRY_RATIO: Final = 1 / 6  # Of a certificate's life.
# A year's certificate is no alert for two months; to change an authority takes longer, for all have to learn the next.
EXPIRY_SECONDS_MAX: Final = 14 * 86_400.0
AUTHORITY_SECONDS_MAX: Final = 90 * 86_400.0
LAST_RATIO: Final = 1 / 5  # Of the time of the alert: then it is high.
REPORT_SECONDS: Final = 3_600.0  # Days are told by the hour; what heals or becomes grave, at once.
# A sensor that was not heard for so long is of a node that is gone, or is told as silent.
HEARD_SECONDS: Final = 86_400.0
_CALM_SECONDS: Final = 2.5 * REPORT_SECONDS


class Holder(Protocol):
    """What the registry knows of one sensor (collector.sensors). Times are unix seconds."""

    @property
    def node(self) -> str:
        """Its name."""
        ...

    @property
    def certificate_not_after(self) -> float:
        """Of the certificate it connected with last; 0 without one."""
        ...

    @property
    def last_heard_at(self) -> float:
        """When it last spoke."""
        ...

    @property
    def is_paused(self) -> bool:
        """It said goodbye."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """A certificate of the collector's own. Times are unix seconds."""

    kind: AlertKind
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Certificate:
    kind: AlertKind
    node: str
    name: str  # As in a sentence.
    life_seconds: float
    not_after: float
    consequence: str
    advice: str


_OWN: Final = {
    AlertKind.COLLECTOR_CERTIFICATE: (
        "the collector's listeners",
        "sensors and people are refused by themselves from then on",
        "Renew tls_cert_file, or see in the collector's log why it makes no other.",
    ),
    AlertKind.AUTHORITY_CERTIFICATE: (
        "the authority of sensors and collector",
        "no certificate of it is taken from then on",
        "Run `apidae certificates rotate-authority`, or renew ca_cert_file.",
    ),
}


class ExpiryWatch:
    """Remembers what it told last, to say it by the hour."""

    def __init__(self, sensor_certificate_seconds: float) -> None:
        """`sensor_certificate_seconds`: how long the certificates are good for that sensors are given."""
        self._sensor_seconds = sensor_certificate_seconds
        self._told: dict[tuple[AlertKind, str], tuple[Severity, float]] = {}

    def look(self, sensors: Sequence[Holder], own: Sequence[Validity], now: float) -> Findings:
        """Judge all certificates."""
        reports: list[Report] = []
        healed: list[tuple[AlertKind, str]] = []
        told: dict[tuple[AlertKind, str], tuple[Severity, float]] = {}
        for certificate in (*self._list_sensors(sensors, now), *map(_name_own, own)):
            key = certificate.kind, certificate.node
            severity = _grade(certificate, now)
            if severity is None:
                healed.append(key)
                continue
            last = self._told.get(key)
            if last is not None and last[0] is severity and now - last[1] < REPORT_SECONDS:
                told[key] = last
                continue
            told[key] = severity, now
            reports.append(_report(certificate, severity, now))
        healed += [key for key in self._told if key not in told and key not in healed]
        self._told = told
        return Findings(reports=tuple(reports), healed=tuple(healed))

    def _list_sensors(self, sensors: Sequence[Holder], now: float) -> list[_Certificate]:
        return [
            _Certificate(
                kind=AlertKind.SENSOR_CERTIFICATE,
                node=sensor.node,
                name=f"sensor {sensor.node}",
                life_seconds=self._sensor_seconds,
                not_after=sensor.certificate_not_after,
                consequence="the sensor is refused from then on, and what it sees waits on its node",
                advice="See in the sensor's log why; `apidae enroll` with a new token gives it another.",
            )
            for sensor in sensors
            if sensor.certificate_not_after and not sensor.is_paused and now - sensor.last_heard_at < HEARD_SECONDS
        ]


def _name_own(validity: Validity) -> _Certificate:
    name, consequence, advice = _OWN[validity.kind]
    return _Certificate(
        kind=validity.kind,
        node="",
        name=name,
        life_seconds=validity.not_after - validity.not_before,
        not_after=validity.not_after,
        consequence=consequence,
        advice=advice,
    )


def _grade(certificate: _Certificate, now: float) -> Severity | None:
    """None: it is good for long enough."""
    longest = AUTHORITY_SECONDS_MAX if certificate.kind is AlertKind.AUTHORITY_CERTIFICATE else EXPIRY_SECONDS_MAX
    limit = min(certificate.life_seconds * EXPIRY_RATIO, longest)
    left = certificate.not_after - now
    if left > limit:
        return None
    return Severity.HIGH if left <= limit * LAST_RATIO else Severity.MEDIUM


def _report(certificate: _Certificate, severity: Severity, now: float) -> Report:
    end = datetime.fromtimestamp(certificate.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
    left = certificate.not_after - now
    verb = "expires" if left > 0 else "expired"
    span = f"{abs(left) / 86_400:.1f} days" if abs(left) >= 86_400 else f"{abs(left) / 3_600:.1f} hours"
    when = f"in {span}" if left > 0 else f"{span} ago"
    return Report(
        kind=certificate.kind,
        severity=severity,
        title=f"The certificate of {certificate.name} {verb} on {end}",
        why=(f"The certificate of {certificate.name} {verb} {when} and is not renewed yet; {certificate.consequence}."),
        calm_seconds=_CALM_SECONDS,
        window_start=now,
        window_end=now,
        node=certificate.node,
        advice=certificate.advice,
    )
