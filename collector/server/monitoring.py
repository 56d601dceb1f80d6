"""The collector's look at itself, each second: what is wrong with sensors, certificates and storage becomes alerts."""

import time
from collections.abc import Callable, Sequence

from collector.alerting.self_monitoring import (
    ExpiryWatch,
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


class SelfMonitoring:
    """`look` is for one thread."""

    def __init__(
        self,
        *,
        alerts: AlertService,
        sensors: SensorRegistry,
        witnesses: WitnessBook,
        detectors: DetectorProcess,
        read_storage: Callable[[], StorageState],
        list_limits: Callable[[], Sequence[Limit]],
        list_validities: Callable[[], Sequence[Validity]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._alerts = alerts
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

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name="self-monitoring", role=Role.JOBS, jobs=(Job(works=(self.look,)),))

    def look(self) -> None:
        """Report what is wrong, and settle what is well again. Raises StoreError."""
        sensors, now = self._sensors.list_statuses(), self._clock()
        for findings in (
            self._storage.look(self._read_storage(), now),
            self._silence.look(sensors, now),
            look_at_claims(self._witnesses.list_uses(), now),
            look_at_limits(self._list_limits(), now),
            look_at_detectors(self._detectors.disk_fault, now),
            self._expiry.look(sensors, self._list_validities(), now),
        ):
            if findings.reports:
                self._alerts.take_reports(findings.reports)
            for kind, node in findings.healed:
                self._alerts.settle(kind, node)
