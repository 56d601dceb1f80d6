"""Replays the world's calls through the engine and the life of alerts, and writes down who is told when."""

import collections
import copy
import itertools
import time
from dataclasses import dataclass, field

import numpy as np

from collector.alerting.alert import Alert, Confidence
from collector.alerting.detection import PastReport, keep_report, preview_levels
from collector.alerting.filter import ReportFilter, take_report
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.detection.engine import Engine
from collector.storage.columns import RowBatch
from scripts.bench_cases.breaching.calls import Sender, join
from scripts.bench_cases.breaching.software import SOFTWARE, dress
from scripts.bench_cases.breaching.thieves import Thief
from scripts.bench_cases.breaching.world import ADDRESSES, DAY, START, World, describe

# Of the past: three windows a batch, as a collector under load takes them. With more the first would come late: windows
# close 20 s after their end.
STEP_SECONDS = 30
# From the end of a second to its alert: the sensor's pass, the stream, the log's fsync, the detectors' look each 0.5 s.
DELAY_SECONDS = 1.0


@dataclass
class Installation:
    """World, sensor and detectors at one time; `copy` gives another with the same past."""

    seed: int
    now: int = START
    rows: int = 0
    detector_seconds: float = 0.0
    told: list[tuple[int, Alert]] = field(default_factory=list)  # Time, and the alert as it was told.
    past: list[PastReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.seed)
        self.sender = Sender(ADDRESSES, SOFTWARE)
        self.engine = Engine()
        ids = itertools.count()
        self.lifecycle = Lifecycle(new_id=lambda: str(next(ids)))
        self.sieve = ReportFilter()

    def copy(self) -> "Installation":
        """The same past, another future."""
        return copy.deepcopy(self)

    def pass_honestly(self, until: int, step: int = STEP_SECONDS) -> None:
        """Go on without a thief, window by window."""
        while self.now < until:
            self._feed(self.sender.send_windows(dress(self.world.calls(self.now, step))), self.now + step + 1)
            self.now += step

    def pass_second(self, thief: Thief, begin: int) -> None:
        """One second with a thief, who began at `begin`."""
        stolen = thief.steal(self.world, begin, self.now - begin, 1)
        calls = dress(join([self.world.calls(self.now, 1), stolen]))
        self._feed(self.sender.send_second(calls, self.now), self.now + 1)
        self.now += 1

    def _feed(self, batch: RowBatch | None, now: int) -> None:
        if batch is None:
            return
        self.rows += len(batch)
        mark = time.process_time()
        signals = self.engine.feed(batch, now)
        self.detector_seconds += time.process_time() - mark
        for signal in signals:
            judged, alert = take_report(report_signal(signal), self.sieve, self.lifecycle, now)
            self.past.append(keep_report(judged, now))
            if alert is not None:
                self.told.append((now, alert))
        self.lifecycle.advance(now)

    def list_accused(self, first: int = 0) -> dict[str, list[Alert]]:
        """Alerts that accuse somebody honest, by who it is; of those told from number `first` on."""
        accused: dict[str, dict[str, Alert]] = collections.defaultdict(dict)
        for _, alert in self.told[first:]:
            if alert.consumer and is_accusation(alert):
                accused[describe(alert.consumer)][alert.id] = alert
        return {who: list(alerts.values()) for who, alerts in accused.items() if who != "thief"}

    def summarise(self) -> dict[str, object]:
        """What the honest side cost so far."""
        days = (self.now - START) / DAY
        accused = self.list_accused()
        notices = {alert.id for _, alert in self.told if alert.consumer and not is_accusation(alert)}
        others = {alert.id for _, alert in self.told if not alert.consumer}
        return {
            "days": round(days, 3),
            "rows": self.rows,
            "honest_accused": {who: len(alerts) for who, alerts in accused.items()},
            "accusations": [
                f"day {(alert.opened_at - START) / DAY:.2f}, {alert.kind.value}: {alert.title}; {alert.why}"
                for alerts in accused.values()
                for alert in alerts[:3]
            ],
            "notices": len(notices),
            "alerts_about_endpoints": len(others),
            "alerts_a_day_by_level": {
                one.level.value: round(one.alerts_a_day, 2) for one in preview_levels(self.past, self.now - START)
            },
            "detector_microseconds_a_row": round(self.detector_seconds / max(self.rows, 1) * 1e6, 2),
        }


def try_thief(past: Installation, thief: Thief) -> dict[str, object]:
    """Let a thief in after `past`; seconds and records until an alert names it (or the crowd, for a crowd)."""
    own = past.copy()
    begin, known = own.now, len(own.told)
    found: Alert | None = None
    while found is None and own.now < begin + thief.patience_seconds:
        own.pass_second(thief, begin)
        found = next((alert for _, alert in own.told[known:] if _is_found(alert, thief)), None)
    seconds = own.now - begin + DELAY_SECONDS
    records = int(np.ceil(seconds * thief.rate)) * thief.records_a_call
    is_kept = found is not None and records <= thief.bar_records
    is_kept = is_kept and (thief.bar_seconds is None or seconds <= thief.bar_seconds)
    return {
        "thief": thief.name,
        "seconds": seconds if found else None,
        "bar_seconds": thief.bar_seconds,
        "records": records if found else None,
        "bar_records": thief.bar_records,
        "is_met": is_kept,
        "kind": found.kind.value if found else None,
        "severity": found.severity.value if found else None,
        "honest_accused": {
            who: len(alerts) for who, alerts in own.list_accused(known).items() if who not in thief.accomplices
        },
    }


def is_accusation(alert: Alert) -> bool:
    """A notice accuses nobody."""
    return alert.confidence is not Confidence.LOW


def _is_found(alert: Alert, thief: Thief) -> bool:
    return thief.names(alert.consumer) and is_accusation(alert) is thief.is_accused
