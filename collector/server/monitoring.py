"""The collector's look at itself, each second: what is wrong with sensors, certificates and storage becomes alerts.

Each process reports what is wrong with itself, for only it knows: its disk, its clock, its limits, the tables that it
writes, its certificate, and what sensors claim that send to it. Of several processes the alert names which one. Sensors
and the authority belong to all, so whoever does the jobs looks at them.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from collector.alerting.alert import AlertKind, Report
from collector.alerting.pending import PendingReports, Settled
from collector.alerting.self_monitoring import (
    ExpiryWatch,
    SelfFindings,
    SilenceWatch,
    StorageState,
    StorageWatch,
    Validity,
    look_at_claims,
    look_at_detectors,
    look_at_limits,
)
from collector.alerting.service import AlertService
from collector.core.feature import Feature, Job, Role
from collector.core.limits import Limit
from collector.detection.process import DetectorProcess
from collector.receiver.sensors import SensorRegistry
from collector.receiver.witness import WitnessBook
from collector.trust.authority import SENSOR_CERTIFICATE_SECONDS

# Between two reports of what lasts: well within the time after which an alert without reports closes.
REPEAT_SECONDS: Final = 10.0
_Key = tuple[AlertKind, str]


class OwnReports:
    """What one process finds of itself, on its way to whoever makes alerts: what is new, what lasts every
    `REPEAT_SECONDS`, and what is over. For one thread."""

    def __init__(self, pending: PendingReports, name: str) -> None:
        """`name`: of this process, where there may be several; empty where it is the only one."""
        self._pending = pending
        self._name = name
        self._waiting: dict[_Key, Report] = {}  # The newest of each that is to be sent.
        self._sent: dict[_Key, float] = {}  # When, of what is wrong.
        self._over: set[_Key] = set()  # To be sent.
        self._is_first = True

    def add(self, findings: Iterable[SelfFindings], now: float) -> None:
        """Send what is due. Raises StoreError; what was not sent goes with the next."""
        for found in findings:
            self._waiting |= {(report.kind, report.node): report for report in map(self._sign, found.reports)}
            self._settle([(kind, node or self._name) for kind, node in found.healed])
        self._is_first = False
        # A clock that went back delays nothing.
        due = [key for key in self._waiting if not 0 <= now - self._sent.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS]
        settled = [Settled(kind, node) for kind, node in sorted(self._over)]
        self._pending.add_reports([self._waiting[key] for key in due], settled)
        for key in due:
            del self._waiting[key]
            self._sent[key] = now
        self._over.clear()

    def _settle(self, healed: Iterable[_Key]) -> None:
        for key in healed:
            self._waiting.pop(key, None)
            # What this process had reported before it was started again is over, too.
            if self._sent.pop(key, None) is not None or (self._is_first and key[1] == self._name):
                self._over.add(key)

    def _sign(self, report: Report) -> Report:
        """With the name of this process, unless it is about a sensor."""
        if report.node or not self._name:
            return report
        return replace(report, node=self._name, title=f"{report.title} (collector {self._name})")


class SelfMonitoring:
    """Each `look` is for one thread."""

    def __init__(
        self,
        *,
        alerts: AlertService,
        own: OwnReports,
        sensors: SensorRegistry,
        witnesses: WitnessBook,
        detectors: DetectorProcess,
        read_storage: Callable[[], StorageState],
        list_limits: Callable[[], Sequence[Limit]],
        list_validities: Callable[[], Sequence[Validity]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._alerts = alerts
        self._own = own
        self._sensors = sensors
        self._witnesses = witnesses
        self._detectors = detectors
        self._read_storage = read_storage
        self._list_limits = list_limits
        self._list_validities = list_validities
        self._clock = clock
        self._silence = SilenceWatch(sensors.measure_silence)
        self._storage = StorageWatch()
        self._expiry = ExpiryWatch(SENSOR_CERTIFICATE_SECONDS)
        self._own_expiry = ExpiryWatch(SENSOR_CERTIFICATE_SECONDS)

    @property
    def features(self) -> tuple[Feature, ...]:
        """What the collector repeats."""
        return (
            Feature(name="self-monitoring", jobs=(Job(works=(self.look_at_itself,)),)),
            Feature(name="monitoring of sensors", role=Role.JOBS, jobs=(Job(works=(self.look_at_sensors,)),)),
        )

    def look_at_itself(self) -> None:
        """Report what is wrong with this process, and what is well again. Raises StoreError."""
        now = self._clock()
        own = [one for one in self._list_validities() if one.kind is not AlertKind.AUTHORITY_CERTIFICATE]
        self._own.add(
            (
                self._storage.look(self._read_storage(), now),
                look_at_claims(self._witnesses.list_uses(), now),
                look_at_limits(self._list_limits(), now),
                look_at_detectors(self._detectors.disk_fault, now),
                self._own_expiry.look((), own, now),
            ),
            now,
        )

    def look_at_sensors(self) -> None:
        """The same of sensors, and of the authority that they and all processes share. Raises StoreError."""
        sensors, now = self._sensors.list_statuses(), self._clock()
        shared = [one for one in self._list_validities() if one.kind is AlertKind.AUTHORITY_CERTIFICATE]
        for findings in (self._silence.look(sensors, now), self._expiry.look(sensors, shared, now)):
            if findings.reports:
                self._alerts.take_reports(findings.reports)
            for kind, node in findings.healed:
                self._alerts.settle(kind, node)
