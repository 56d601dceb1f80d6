"""Alerts about Apidae itself: storage, sensors and certificates. State in, reports and recoveries out. Pure.

`StorageWatch` reports a damaged log, a nearly full disk, and tables that are behind. `SilenceWatch` reports a sensor
that is silent, loses calls or falls behind.

`ExpiryWatch` reports a certificate that ends soon and was not renewed. Sensors and collector renew after two thirds of
a certificate's life and try again until it ends. Half of the last third is for these tries, the other half for a
person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.wording import Report

SILENT_SECONDS = (
    10.0  # Without health or batch; health comes every 5 s. Checked at least every 2 s this is an alert within 12 s.
)
LOSS_RATIO_LIMIT = 0.01
LOSS_CALLS_MIN = 100  # Fewer seen calls say nothing of a share.
LAG_LIMIT_SECONDS = 30.0
_SILENCE_CALM_SECONDS = 30.0
_LOSS_SPAN_SECONDS = 60.0


class Liveness(Protocol):
    """What the registry knows of one sensor (collector.receiver.sensors). Times are unix seconds; totals since the
    sensor's
    start."""

    @property
    def node(self) -> str:
        """Its name."""
        ...

    @property
    def boot_id(self) -> str:
        """Its process."""
        ...

    @property
    def last_heard_at(self) -> float:
        """Of the last health or batch."""
        ...

    @property
    def is_paused(self) -> bool:
        """It said goodbye: paused or stopping. The inventory shows it, no alert."""
        ...

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest row not acknowledged."""
        ...

    @property
    def seen_calls(self) -> int:
        """Calls it saw, those it lost among them."""
        ...

    @property
    def lost_calls(self) -> int:
        """Calls it knows it lost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one look found: reports of what is wrong, and (kind, node) of what is well."""

    reports: tuple[Report, ...]
    healed: tuple[tuple[AlertKind, str], ...]


@dataclass(frozen=True, slots=True)
class _Account:
    time: float
    boot_id: str
    seen: int
    lost: int


class SilenceWatch:
    """Looks at all sensors; keeps an account of calls a minute old for each, to judge the loss of late."""

    def __init__(self) -> None:
        self._accounts: dict[str, list[_Account]] = {}
        # Nobody can be heard by a collector that does not run: silence counts from the first look at the earliest.
        self._started_at: float | None = None

    def look(self, sensors: Sequence[Liveness], now: float) -> Findings:
        """Judge every sensor; to be called at least every 2 s."""
        reports, healed = [], []
        if self._started_at is None:
            self._started_at = now
        for sensor in sensors:
            checks = (
                _check_silence(sensor, now, self._started_at),
                self._check_loss(sensor, now),
                _check_lag(sensor, now),
            )
            for kind, report in zip(_KINDS, checks, strict=True):
                if report is None:
                    healed.append((kind, sensor.node))
                else:
                    reports.append(report)
        known = {sensor.node for sensor in sensors}
        self._accounts = {node: accounts for node, accounts in self._accounts.items() if node in known}
        return Findings(reports=tuple(reports), healed=tuple(healed))

    def _check_loss(self, sensor: Liveness, now: float) -> Report | None:
        accounts = self._accounts.setdefault(sensor.node, [])
        if accounts and (accounts[-1].boot_id != sensor.boot_id or sensor.seen_calls < accounts[-1].seen):
            accounts.clear()
        accounts.append(_Account(now, sensor.boot_id, sensor.seen_calls, sensor.lost_calls))
        while len(accounts) > 2 and accounts[1].time <= now - _LOSS_SPAN_SECONDS:
            accounts.pop(0)
        seen, lost = accounts[-1].seen - accounts[0].seen, accounts[-1].lost - accounts[0].lost
        total = seen  # Used and lost together.
        if total < LOSS_CALLS_MIN or lost <= LOSS_RATIO_LIMIT * total:
            return None
        why = (
            f"Sensor {sensor.node} lost {lost:,} of {total:,} calls in the last minute ({lost / total:.1%}; limit "
            f"{LOSS_RATIO_LIMIT:.0%}); give it more memory or CPU, or see its drop reasons in /api/v1/sensors."
        )
        title = f"Sensor {sensor.node} loses {lost / total:.1%} of the calls"
        return _report(sensor, AlertKind.SENSOR_LOSS, Severity.MEDIUM, title, why, now, lost / total)


_KINDS = (AlertKind.SENSOR_SILENT, AlertKind.SENSOR_LOSS, AlertKind.SENSOR_LAG)


def _check_silence(sensor: Liveness, now: float, started_at: float) -> Report | None:
    silent = now - max(sensor.last_heard_at, started_at)
    if sensor.is_paused or silent <= SILENT_SECONDS:
        return None
    why = (
        f"Sensor {sensor.node} has sent nothing for {silent:.0f} s (limit {SILENT_SECONDS:.0f} s) and did not say it "
        "would pause; calls on that node are not seen. See whether the node and its sensor run."
    )
    return _report(sensor, AlertKind.SENSOR_SILENT, Severity.HIGH, f"Sensor {sensor.node} is silent", why, now, 0.0)


def _check_lag(sensor: Liveness, now: float) -> Report | None:
    if sensor.is_paused or sensor.lag_seconds <= LAG_LIMIT_SECONDS:
        return None
    why = (
        f"The oldest row sensor {sensor.node} has not delivered is {sensor.lag_seconds:.0f} s old (the limit is "
        f"{LAG_LIMIT_SECONDS:.0f} s); what it saw since is not judged yet. See the link to it and the collector's load."
    )
    title = f"Sensor {sensor.node} is {sensor.lag_seconds:.0f} s behind"
    return _report(sensor, AlertKind.SENSOR_LAG, Severity.MEDIUM, title, why, now, 0.0)


def _report(
    sensor: Liveness, kind: AlertKind, severity: Severity, title: str, why: str, now: float, loss: float
) -> Report:
    return Report(
        kind=kind,
        severity=severity,
        title=title,
        why=why,
        calm_seconds=_SILENCE_CALM_SECONDS,
        window_start=sensor.last_heard_at,
        window_end=now,
        node=sensor.node,
        loss_ratio=loss,
    )


LAG_SECONDS_MAX: Final = 60.0
_CALM_SECONDS: Final = 30.0
_FAILING: Final = "The tables take no rows; the collector's log says why."
_DAMAGE_CALM_SECONDS: Final = 86_400.0  # It is reported once, and a person should still find it open.


class StorageStatus(StrEnum):
    """Whether what comes is stored."""

    OK = "ok"
    BEHIND = "behind"  # The tables lack what came over a minute ago.
    FAILING = "failing"  # The tables took no rows the last time; the log keeps them.
    DISK_FULL = "disk_full"  # Batches get RETRY: sensors send them again.


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageState:
    """What is known of log, disk and tables now; counts since the collector's start."""

    damaged_bytes: int = 0  # Of the log,
    lost_batches: int = 0  # the batches that were in them, at most,
    recovered_batches: int = 0  # and those behind them that were read.
    shortage: str = ""  # Why the disk's reserve lets no rows in; empty where it does.
    is_failing: bool = False  # The tables took no rows the last time.
    lag_seconds: float = 0.0  # Age of the oldest batch that is not in the tables.

    @property
    def is_behind(self) -> bool:
        """Whether the tables lack what came over a minute ago, and not for want of room."""
        return not self.shortage and self.lag_seconds > LAG_SECONDS_MAX

    @property
    def status(self) -> StorageStatus:
        """The gravest that is so."""
        if self.shortage:
            return StorageStatus.DISK_FULL
        if self.is_failing:
            return StorageStatus.FAILING
        return StorageStatus.BEHIND if self.is_behind else StorageStatus.OK

    @property
    def trouble(self) -> str:
        """What is wrong now, in a sentence; empty where nothing is."""
        if self.shortage:
            return self.shortage
        if self.is_behind:
            return _explain_lag(self)
        return _FAILING if self.is_failing else ""


class StorageWatch:
    """Remembers what of the log's damage was reported."""

    def __init__(self) -> None:
        self._damage = 0, 0

    def look(self, state: StorageState, now: float) -> Findings:
        """Judge the state."""
        reports: list[Report] = []
        healed: list[tuple[AlertKind, str]] = []
        damage = state.damaged_bytes, state.lost_batches
        if damage != self._damage:
            self._damage = damage
            reports.append(_report_damage(state, now))
        for kind, report in (
            (AlertKind.DISK_FULL, _report_shortage(state, now) if state.shortage else None),
            (AlertKind.STORE_BEHIND, _report_lag(state, now) if state.is_behind else None),
        ):
            if report is None:
                healed.append((kind, ""))
            else:
                reports.append(report)
        return Findings(reports=tuple(reports), healed=tuple(healed))


def _report_damage(state: StorageState, now: float) -> Report:
    return Report(
        kind=AlertKind.LOG_DAMAGED,
        severity=Severity.HIGH,
        title=f"The collector's log was damaged (batches lost: {state.lost_batches:,} at most)",
        why=(
            f"Since the collector's start, bytes of the log that were damaged: {state.damaged_bytes:,}; batches after "
            f"them that were recovered: {state.recovered_batches:,}; batches that were lost: {state.lost_batches:,} at "
            "most."
        ),
        advice="Look at the disk of data_dir and its file system: they changed or lost bytes that they had taken.",
        calm_seconds=_DAMAGE_CALM_SECONDS,
        window_start=now,
        window_end=now,
    )


def _report_shortage(state: StorageState, now: float) -> Report:
    return Report(
        kind=AlertKind.DISK_FULL,
        severity=Severity.HIGH,
        title="The collector's disk is nearly full, so it takes no rows",
        why=f"{state.shortage} Sensors keep what they count in their spools, and send it once there is room.",
        advice="Make room before the sensors' spools are full: then the oldest rows go.",
        calm_seconds=_CALM_SECONDS,
        window_start=now,
        window_end=now,
    )


def _report_lag(state: StorageState, now: float) -> Report:
    return Report(
        kind=AlertKind.STORE_BEHIND,
        severity=Severity.MEDIUM,
        title=f"The collector's tables are {state.lag_seconds:,.0f} s behind",
        why=f"{_explain_lag(state)} Pages and the API lack what came since; detectors judge it all the same.",
        advice="See the collector's log and load; past wal_limit_bytes sensors have to send again what they hold.",
        calm_seconds=_CALM_SECONDS,
        window_start=now - state.lag_seconds,
        window_end=now,
    )


def _explain_lag(state: StorageState) -> str:
    sentence = f"The oldest batch that is not in the tables came {state.lag_seconds:,.0f} s ago."
    return f"{sentence} {_FAILING}" if state.is_failing else sentence


EXPIRY_RATIO: Final = 1 / 6  # Of a certificate's life.
# A year's certificate is no alert for two months; to change an authority takes longer, for all have to learn the next.
EXPIRY_SECONDS_MAX: Final = 14 * 86_400.0
AUTHORITY_SECONDS_MAX: Final = 90 * 86_400.0
LAST_RATIO: Final = 1 / 5  # Of the time of the alert: then it is high.
REPORT_SECONDS: Final = 3_600.0  # Days are told by the hour; what heals or becomes grave, at once.
# A sensor that was not heard for so long is of a node that is gone, or is told as silent.
HEARD_SECONDS: Final = 86_400.0
_EXPIRY_CALM_SECONDS: Final = 2.5 * REPORT_SECONDS


class Holder(Protocol):
    """What the registry knows of one sensor (collector.receiver.sensors). Times are unix seconds."""

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
            reports.append(_report_expiry(certificate, severity, now))
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


def _report_expiry(certificate: _Certificate, severity: Severity, now: float) -> Report:
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
        calm_seconds=_EXPIRY_CALM_SECONDS,
        window_start=now,
        window_end=now,
        node=certificate.node,
        advice=certificate.advice,
    )
