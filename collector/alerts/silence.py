"""A sensor that stops, loses or falls behind is an alert: the sensors' liveness in, reports and healings out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.report import Report

SILENT_SECONDS = (
    10.0  # Without health or batch; health comes every 5 s. Checked at least every 2 s this is an alert within 12 s.
)
LOSS_RATIO_LIMIT = 0.01
LOSS_CALLS_MIN = 100  # Fewer seen calls say nothing of a share.
LAG_LIMIT_SECONDS = 30.0
_CALM_SECONDS = 30.0
_LOSS_SPAN_SECONDS = 60.0


class Liveness(Protocol):
    """What the registry knows of one sensor (collector.sensors). Times are unix seconds; totals since the sensor's
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
        calm_seconds=_CALM_SECONDS,
        window_start=sensor.last_heard_at,
        window_end=now,
        node=sensor.node,
        loss_ratio=loss,
    )
