"""Alerts about Apidae itself: storage, sensors and certificates. State in, reports and recoveries out. Pure.

`StorageWatch` reports a damaged log or table, a nearly full disk, a wrong clock, and tables that are behind.
`SilenceWatch` reports a sensor that is silent, loses calls or falls behind.

`ExpiryWatch` reports a certificate that ends soon and was not renewed. Sensors and collector renew after two thirds of
a certificate's life and try again until it ends. Half of the last third is for these tries, the other half for a
person.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from collector.alerting.alert import AlertKind, Report, Severity
from collector.alerting.wording import format_minute
from collector.core.limits import Limit
from collector.receiver.sensor_status import SensorStatus
from collector.receiver.witness import DailyUse

SILENT_SECONDS = (
    10.0  # Without health or batch; health comes every 5 s. Checked at least every 2 s this is an alert within 12 s.
)
LOSS_RATIO_LIMIT = 0.01
LOSS_CALLS_MIN = 100  # Fewer seen calls say nothing of a share.
LAG_LIMIT_SECONDS = 30.0
_CALM_SECONDS: Final = 30.0
_LOSS_SPAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfFindings:
    """What one look found: reports of what is wrong, and (kind, node) of what is well."""

    reports: tuple[Report, ...]
    healed: tuple[tuple[AlertKind, str], ...]


def _report(
    kind: AlertKind,
    title: str,
    why: str,
    now: float,
    *,
    calm_seconds: float = _CALM_SECONDS,
    since: float | None = None,
    node: str = "",
    loss_ratio: float = 0.0,
    severity: Severity | None = None,
) -> Report:
    """`since`: when it began, where that is known; `severity`: another one than the kind's."""
    return Report(
        kind=kind,
        severity=severity or kind.row.severity,
        title=title,
        why=why,
        advice=kind.row.advice,
        calm_seconds=calm_seconds,
        window_start=now if since is None else since,
        window_end=now,
        node=node,
        loss_ratio=loss_ratio,
    )


def _sort(checks: Iterable[tuple[AlertKind, str, Report | None]]) -> SelfFindings:
    """Checks by kind and node: what has no report is well."""
    done = list(checks)
    return SelfFindings(
        reports=tuple(report for _, _, report in done if report is not None),
        healed=tuple((kind, node) for kind, node, report in done if report is None),
    )


@dataclass(frozen=True, slots=True)
class _CallCount:
    time: float
    boot_id: str
    seen: int
    lost: int


class SilenceWatch:
    """Looks at all sensors; keeps an account of calls a minute old for each, to judge the loss of late."""

    def __init__(self, measure_silence: Callable[[SensorStatus, float], float] | None = None) -> None:
        """`measure_silence`: for how many seconds a sensor sent nothing, where other collectors may have heard it."""
        self._measure_silence = measure_silence or (lambda sensor, now: now - sensor.last_heard_at)
        self._accounts: dict[str, list[_CallCount]] = {}
        # Nobody can be heard by a collector that does not run: silence counts from the first look at the earliest.
        self._started_at: float | None = None

    def look(self, sensors: Sequence[SensorStatus], now: float) -> SelfFindings:
        """Judge every sensor; to be called at least every 2 s."""
        if self._started_at is None:
            self._started_at = now
        checks = []
        for sensor in sensors:
            checks += [
                (AlertKind.SENSOR_SILENT, sensor.node, self._check_silence(sensor, now, now - self._started_at)),
                (AlertKind.SENSOR_LOSS, sensor.node, self._check_loss(sensor, now)),
                (AlertKind.SENSOR_LAG, sensor.node, _check_lag(sensor, now)),
            ]
        known = {sensor.node for sensor in sensors}
        self._accounts = {node: accounts for node, accounts in self._accounts.items() if node in known}
        return _sort(checks)

    def _check_silence(self, sensor: SensorStatus, now: float, looked_seconds: float) -> Report | None:
        silent = min(self._measure_silence(sensor, now), looked_seconds)
        if sensor.is_paused or silent <= SILENT_SECONDS:
            return None
        why = (
            f"Sensor {sensor.node} has sent nothing for {silent:.0f} s (limit {SILENT_SECONDS:.0f} s) and did not say "
            "it would pause; calls on that node are not seen. See whether the node and its sensor run."
        )
        title = f"Sensor {sensor.node} is silent"
        return _report(AlertKind.SENSOR_SILENT, title, why, now, since=sensor.last_heard_at, node=sensor.node)

    def _check_loss(self, sensor: SensorStatus, now: float) -> Report | None:
        accounts = self._accounts.setdefault(sensor.node, [])
        if accounts and (accounts[-1].boot_id != sensor.boot_id or sensor.seen_calls < accounts[-1].seen):
            accounts.clear()
        accounts.append(_CallCount(now, sensor.boot_id, sensor.seen_calls, sensor.lost_calls))
        while len(accounts) > 2 and accounts[1].time <= now - _LOSS_SPAN_SECONDS:
            accounts.pop(0)
        # Seen calls are used and lost ones together.
        total, lost = accounts[-1].seen - accounts[0].seen, accounts[-1].lost - accounts[0].lost
        if total < LOSS_CALLS_MIN or lost <= LOSS_RATIO_LIMIT * total:
            return None
        why = (
            f"Sensor {sensor.node} lost {lost:,} of {total:,} calls in the last minute ({lost / total:.1%}; limit "
            f"{LOSS_RATIO_LIMIT:.0%}); give it more memory or CPU, or see its drop reasons in /api/v1/sensors."
        )
        title = f"Sensor {sensor.node} loses {lost / total:.1%} of the calls"
        return _report(
            AlertKind.SENSOR_LOSS,
            title,
            why,
            now,
            since=sensor.last_heard_at,
            node=sensor.node,
            loss_ratio=lost / total,
        )


def _check_lag(sensor: SensorStatus, now: float) -> Report | None:
    if sensor.is_paused or sensor.lag_seconds <= LAG_LIMIT_SECONDS:
        return None
    why = (
        f"The oldest row sensor {sensor.node} has not delivered is {sensor.lag_seconds:.0f} s old (the limit is "
        f"{LAG_LIMIT_SECONDS:.0f} s); what it saw since is not judged yet. See the link to it and the collector's load."
    )
    title = f"Sensor {sensor.node} is {sensor.lag_seconds:.0f} s behind"
    return _report(AlertKind.SENSOR_LAG, title, why, now, since=sensor.last_heard_at, node=sensor.node)


def look_at_claims(uses: Iterable[tuple[str, DailyUse]], now: float) -> SelfFindings:
    """What each sensor said beyond its right since midnight UTC, as (node, use)."""
    checks = []
    for node, use in uses:
        checks += [
            (AlertKind.SENSOR_CLAIMS, node, _report_claims(node, use, now) if use.foreign else None),
            (AlertKind.SENSOR_QUOTA, node, _report_quota(node, use, now) if use.list_exceeded() else None),
        ]
    return _sort(checks)


def _report_claims(node: str, use: DailyUse, now: float) -> Report:
    title = f"Sensor {node} reports services that are not on its node"
    why = (
        f"Since midnight UTC it named {', '.join(map(repr, use.foreign))}. Its calls are kept under the node's own "
        "name, so that no other service has them. A sensor whose certificate was stolen does this."
    )
    return _report(AlertKind.SENSOR_CLAIMS, title, why, now, node=node)


def _report_quota(node: str, use: DailyUse, now: float) -> Report:
    title = f"Sensor {node} sent more than one node may in a day"
    exceeded = use.list_exceeded()
    why = f"Since midnight UTC: {', '.join(what for what, _ in exceeded)}. {' '.join(then for _, then in exceeded)}"
    return _report(AlertKind.SENSOR_QUOTA, title, why, now, node=node)


def look_at_limits(limits: Iterable[Limit], now: float) -> SelfFindings:
    """Which limits are reached, in one report."""
    reached = [one for one in limits if one.is_reached]
    return _sort([(AlertKind.LIMIT_REACHED, "", _report_limits(reached, now) if reached else None)])


def _report_limits(reached: Sequence[Limit], now: float) -> Report:
    names = ", ".join(one.name.replace("_", " ") for one in reached)
    why = " ".join(f"{one.maximum:,} {one.name.replace('_', ' ')}: {one.then}" for one in reached)
    return _report(AlertKind.LIMIT_REACHED, f"The collector is at a limit ({names})", why, now)


def look_at_detectors(disk_fault: str, now: float) -> SelfFindings:
    """`disk_fault`: why the disk refused their state the last time; empty where it took it."""
    title = "The detectors' state cannot be saved"
    why = f"{disk_fault}. They go on, and after a crash evaluate anew what came since the last state was saved."
    report = _report(AlertKind.DETECTORS_UNSAVED, title, why, now) if disk_fault else None
    return _sort([(AlertKind.DETECTORS_UNSAVED, "", report)])


LAG_SECONDS_MAX: Final = 60.0
_FAILING: Final = "The tables take no rows; the collector's log says why."
_PARTS_NAMED: Final = 5
_DAMAGE_CALM_SECONDS: Final = 86_400.0  # It is reported once, and a person should still find it open.


class StorageStatus(StrEnum):
    """Whether what comes is stored."""

    OK = "ok"
    BEHIND = "behind"  # The tables lack what came over a minute ago.
    FAILING = "failing"  # The tables took no rows the last time; the log keeps them.
    STATE_FAILING = "state_failing"  # The database of decisions, alerts and leases did not answer the last time.
    DISK_FULL = "disk_full"  # Batches get RETRY: sensors send them again.
    CLOCK_WRONG = "clock_wrong"  # The same.


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageState:
    """What is known of log, disk, clock and tables now; counts since the collector's start."""

    damaged_bytes: int = 0  # Of the log,
    lost_batches: int = 0  # the batches that were in them, at most,
    recovered_batches: int = 0  # and those behind them that were read.
    undetected_batches: int = 0  # As lost_batches, of the detectors, who read the log for themselves.
    lost_parts: tuple[str, ...] = ()  # Of tables: damaged, set aside, and in no other table; TABLE/PART.
    rebuilt_parts: int = 0  # Of tables: damaged, and made again of other tables.
    shortage: str = ""  # Why the disk's reserve lets no rows in; empty where it does.
    clock_fault: str = ""  # Why the collector's clock is taken for wrong; empty where it is not.
    state_fault: str = ""  # Why the state's database did not answer the last time; empty where it did.
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
        if self.clock_fault:
            return StorageStatus.CLOCK_WRONG
        if self.state_fault:
            return StorageStatus.STATE_FAILING
        if self.is_failing:
            return StorageStatus.FAILING
        return StorageStatus.BEHIND if self.is_behind else StorageStatus.OK

    @property
    def trouble(self) -> str:
        """What is wrong now, in a sentence; empty where nothing is."""
        if why := self.shortage or self.clock_fault or self.state_fault:
            return why
        if self.is_behind:
            return _explain_lag(self)
        if self.is_failing:
            return _FAILING
        if self.lost_parts:
            return f"Damaged parts of tables are set aside, and their rows are missing: {_name(self.lost_parts)}."
        return ""


class StorageWatch:
    """Remembers what of the damage to log and tables was reported."""

    def __init__(self) -> None:
        self._damage = 0, 0, 0
        self._damaged_parts: tuple[tuple[str, ...], int] = (), 0

    def look(self, state: StorageState, now: float) -> SelfFindings:
        """Judge the state."""
        damage = state.damaged_bytes, state.lost_batches, state.undetected_batches
        parts = state.lost_parts, state.rebuilt_parts
        found = _sort(
            (
                (AlertKind.DISK_FULL, "", _report_shortage(state, now) if state.shortage else None),
                (AlertKind.CLOCK_WRONG, "", _report_clock(state, now) if state.clock_fault else None),
                (AlertKind.STORE_BEHIND, "", _report_lag(state, now) if state.is_behind else None),
            )
        )
        if parts != self._damaged_parts and any(parts):
            found = replace(found, reports=(_report_parts(state, now), *found.reports))
        # Counts of the detectors begin anew with their process.
        if any(count > before for count, before in zip(damage, self._damage, strict=True)):
            found = replace(found, reports=(_report_damage(state, now), *found.reports))
        self._damage, self._damaged_parts = damage, parts
        return found


def _report_damage(state: StorageState, now: float) -> Report:
    lost = max(state.lost_batches, state.undetected_batches)
    title = f"The collector's log was damaged (batches lost: {lost:,} at most)"
    why = (
        f"Since the collector's start, bytes of the log that were damaged: {state.damaged_bytes:,}; batches after "
        f"them that were recovered: {state.recovered_batches:,}; batches that were lost: {state.lost_batches:,} at "
        "most."
    )
    if state.undetected_batches:
        why += f" Batches that the detectors did not evaluate: {state.undetected_batches:,} at most."
    return _report(AlertKind.LOG_DAMAGED, title, why, now, calm_seconds=_DAMAGE_CALM_SECONDS)


def _report_parts(state: StorageState, now: float) -> Report:
    lost, rebuilt = len(state.lost_parts), state.rebuilt_parts
    title = f"Tables of the collector were damaged (parts lost: {lost:,}; rebuilt: {rebuilt:,})"
    why = f"Damaged parts of tables that were rebuilt from other tables since the start: {rebuilt:,}."
    if state.lost_parts:
        why += (
            f" Parts whose rows are missing, each in the folder `detached` of its table: {_name(state.lost_parts)}. "
            "Delete them there when nobody wants them any more."
        )
    return _report(AlertKind.TABLE_DAMAGED, title, why, now, calm_seconds=_DAMAGE_CALM_SECONDS)


def _name(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _PARTS_NAMED:,} more" if len(parts) > _PARTS_NAMED else ""
    return f"{', '.join(parts[:_PARTS_NAMED])}{more}"


def _report_shortage(state: StorageState, now: float) -> Report:
    title = "The collector's disk is nearly full, so it takes no rows"
    why = f"{state.shortage} Sensors keep what they count in their spools, and send it once there is room."
    return _report(AlertKind.DISK_FULL, title, why, now)


def _report_clock(state: StorageState, now: float) -> Report:
    title = "The collector's clock differs from those of most sensors, so it takes no rows"
    why = f"{state.clock_fault} Sensors keep what they count in their spools, and send it once the clocks agree."
    return _report(AlertKind.CLOCK_WRONG, title, why, now)


def _report_lag(state: StorageState, now: float) -> Report:
    title = f"The collector's tables are {state.lag_seconds:,.0f} s behind"
    why = f"{_explain_lag(state)} Pages and the API lack what came since; detectors see it all the same."
    return _report(AlertKind.STORE_BEHIND, title, why, now, since=now - state.lag_seconds)


def _explain_lag(state: StorageState) -> str:
    sentence = f"The oldest batch that is not in the tables came {state.lag_seconds:,.0f} s ago."
    return f"{sentence} {_FAILING}" if state.is_failing else sentence


EXPIRY_RATIO: Final = 1 / 6  # Of a certificate's life.
# A year's certificate is no alert for two months; to change an authority takes longer, for all have to learn the next.
EXPIRY_SECONDS_MAX: Final = 14 * 86_400.0
AUTHORITY_SECONDS_MAX: Final = 90 * 86_400.0
LAST_RATIO: Final = 1 / 5  # Of the time of the alert: then it is high.
REPORT_SECONDS: Final = 3_600.0  # A report an hour; what heals or becomes grave is reported at once.
# A sensor that was not heard for this time is of a node that is gone, or has an alert as silent.
HEARD_SECONDS: Final = 86_400.0
_EXPIRY_CALM_SECONDS: Final = 2.5 * REPORT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when a certificate is good, in unix seconds."""

    kind: AlertKind
    node: str = ""  # Of a sensor's.
    not_before: float
    not_after: float


# The name as in a sentence, and what happens at the end.
_CERTIFICATES: Final = {
    AlertKind.SENSOR_CERTIFICATE: (
        "sensor {node}",
        "the sensor is refused from then on, and what it sees waits on its node",
    ),
    AlertKind.COLLECTOR_CERTIFICATE: (
        "the collector's listeners",
        "sensors and people are refused by themselves from then on",
    ),
    AlertKind.AUTHORITY_CERTIFICATE: (
        "the authority of sensors and collector",
        "no certificate of it is taken from then on",
    ),
}


class ExpiryWatch:
    """Remembers what it reported last, to repeat it by the hour."""

    def __init__(self, sensor_certificate_seconds: float) -> None:
        """`sensor_certificate_seconds`: how long the certificates are good for that sensors are given."""
        self._sensor_seconds = sensor_certificate_seconds
        self._reported: dict[tuple[AlertKind, str], tuple[Severity, float]] = {}

    def look(self, sensors: Sequence[SensorStatus], own: Sequence[Validity], now: float) -> SelfFindings:
        """Check all certificates."""
        reports: list[Report] = []
        healed = set(self._reported)
        reported: dict[tuple[AlertKind, str], tuple[Severity, float]] = {}
        for certificate in (*self._list_validities(sensors, now), *own):
            key = certificate.kind, certificate.node
            severity = _grade(certificate, now)
            if severity is None:
                healed.add(key)
                continue
            last = self._reported.get(key)
            if last is None or last[0] is not severity or now - last[1] >= REPORT_SECONDS:
                last = severity, now
                reports.append(_report_expiry(certificate, severity, now))
            reported[key] = last
        self._reported = reported
        return SelfFindings(reports=tuple(reports), healed=tuple(healed - reported.keys()))

    def _list_validities(self, sensors: Sequence[SensorStatus], now: float) -> list[Validity]:
        return [
            Validity(
                kind=AlertKind.SENSOR_CERTIFICATE,
                node=sensor.node,
                not_before=sensor.certificate_not_after - self._sensor_seconds,
                not_after=sensor.certificate_not_after,
            )
            for sensor in sensors
            if sensor.certificate_not_after and not sensor.is_paused and now - sensor.last_heard_at < HEARD_SECONDS
        ]


def _grade(certificate: Validity, now: float) -> Severity | None:
    """None: it is good for long enough."""
    longest = AUTHORITY_SECONDS_MAX if certificate.kind is AlertKind.AUTHORITY_CERTIFICATE else EXPIRY_SECONDS_MAX
    limit = min((certificate.not_after - certificate.not_before) * EXPIRY_RATIO, longest)
    left = certificate.not_after - now
    if left > limit:
        return None
    return Severity.HIGH if left <= limit * LAST_RATIO else certificate.kind.row.severity


def _report_expiry(certificate: Validity, severity: Severity, now: float) -> Report:
    end = format_minute(certificate.not_after)
    left = certificate.not_after - now
    verb = "expires" if left > 0 else "expired"
    span = f"{abs(left) / 86_400:.1f} days" if abs(left) >= 86_400 else f"{abs(left) / 3_600:.1f} hours"
    when = f"in {span}" if left > 0 else f"{span} ago"
    name, consequence = _CERTIFICATES[certificate.kind]
    name = name.format(node=certificate.node)
    return _report(
        certificate.kind,
        f"The certificate of {name} {verb} on {end}",
        f"The certificate of {name} {verb} {when} and is not renewed yet; {consequence}.",
        now,
        calm_seconds=_EXPIRY_CALM_SECONDS,
        node=certificate.node,
        severity=severity,
    )
