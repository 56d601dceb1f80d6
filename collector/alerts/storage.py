"""The collector's own storage is an alert where it lost something or takes nothing: a damaged log, a nearly full disk,
tables that are behind. State in, reports and healings out, and sentences for whoever looks. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.report import Report
from collector.alerts.silence import Findings

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
