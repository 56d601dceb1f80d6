"""What happened to everything the sensor saw: `seen = used + dropped`, by stage and reason, and what is told of it.

Every stage owns one `StageCounter`. What enters is `see`n; each thing then is either `use`d or `drop`ped for a named
reason. What is neither yet is *held* (a batch in the spool waits for its acknowledgement); at rest, a stage that holds
nothing must be balanced, and a held count below zero is a bug (something was accounted for twice). Metrics are read
from the same counters when somebody scrapes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sensor.config import CaptureWay

TLS_STAGE: Final = "tls"  # Calls that TLS carried, which are captured in the process; the other stages' are of both.


class SensorState(IntEnum):
    """What the sensor is doing; values are those of the wire."""

    CAPTURING = 1
    PAUSED = 2
    STOPPING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """One stage's account since the start: seen = used + sum of dropped. Held things are in none of the three."""

    stage: str
    seen: int
    used: int
    dropped: tuple[tuple[str, int], ...]  # (reason, count), by reason.

    @property
    def dropped_total(self) -> int:
        """All reasons together."""
        return sum(count for _, count in self.dropped)


class StageCounter:
    """Mutable account of one stage; the unit (calls, exchanges, bytes) is the stage's own, one unit per stage."""

    __slots__ = ("_dropped", "_seen", "_used", "stage")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._seen = 0
        self._used = 0
        self._dropped: dict[str, int] = {}

    def see(self, count: int = 1) -> None:
        """`count` things entered."""
        self._seen += count

    def use(self, count: int = 1) -> None:
        """`count` of them went on."""
        self._used += count

    def drop(self, reason: str, count: int = 1) -> None:
        """`count` of them were lost; `reason` is one of the stage's own constants, never text from outside."""
        self._dropped[reason] = self._dropped.get(reason, 0) + count

    @property
    def held(self) -> int:
        """Seen, and neither used nor dropped yet."""
        return self._seen - self._used - sum(self._dropped.values())

    def count(self) -> StageCount:
        """The account now."""
        dropped = tuple(sorted(self._dropped.items()))
        settled = self._used + sum(count for _, count in dropped)
        return StageCount(stage=self.stage, seen=settled, used=self._used, dropped=dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a room, for metrics: `apidae_sensor_<name>`. Figures of one name have labels of the same names."""

    name: str
    documentation: str
    value: float
    is_total: bool  # Only grows; else it is what is at the moment.
    labels: tuple[tuple[str, str], ...] = ()  # Name and value of each; values are bounded.


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What the sensor tells of itself every 5 s; totals since its start."""

    time_unix_ns: int
    state: SensorState
    stages: tuple[StageCount, ...]
    lag_ms: int  # Age of the oldest batch without acknowledgement.
    spool_bytes: int
    memory_bytes: int  # Resident set of this process.
    cpu_ns: int  # User and system time of this process.
    reason: str  # Why it is paused or stopping; else empty.
    capture: CaptureWay | None = None  # In use; None while nothing is captured.
    fallback_reason: str = ""  # Why packets cannot be captured, where system calls stand in for them; else empty.
    figures: tuple[Figure, ...] = ()  # Of the rooms; for metrics only.


class MetricsCollector(Collector):
    """Prometheus metrics made from a `HealthReport` at scrape time, so that metrics and health can never disagree."""

    def __init__(self, read_health: Callable[[], HealthReport]) -> None:
        self._read_health = read_health

    def collect(self) -> Iterable[Metric]:
        """One family per figure; labels are the stage's name and its own drop reasons (both bounded)."""
        report = self._read_health()
        yield from _collect_stages(report.stages)
        gauges = (
            ("apidae_sensor_state", "1 capturing, 2 paused, 3 stopping", float(report.state)),
            (
                "apidae_sensor_capture_by_system_calls",
                "1 where system calls are captured and not packets (docs/kernels.md)",
                float(report.capture is CaptureWay.SYSCALLS),
            ),
            ("apidae_sensor_lag_seconds", "Age of the oldest batch without acknowledgement", report.lag_ms / 1e3),
            ("apidae_sensor_spool_bytes", "Bytes of batches waiting for an acknowledgement", float(report.spool_bytes)),
            ("apidae_sensor_memory_bytes", "Resident memory of the sensor process", float(report.memory_bytes)),
        )
        for name, documentation, value in gauges:
            yield GaugeMetricFamily(name, documentation, value=value)
        yield from _collect_figures(report.figures)
        yield CounterMetricFamily("apidae_sensor_cpu_seconds", "Processor time used", value=report.cpu_ns / 1e9)


def _collect_figures(figures: Sequence[Figure]) -> Iterable[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for figure in figures:
        family = families.get(figure.name)
        if family is None:
            make = CounterMetricFamily if figure.is_total else GaugeMetricFamily
            names = [name for name, _ in figure.labels]
            family = families[figure.name] = make(f"apidae_sensor_{figure.name}", figure.documentation, labels=names)
        family.add_metric([value for _, value in figure.labels], figure.value)
    return families.values()


def _collect_stages(stages: Sequence[StageCount]) -> Iterable[Metric]:
    seen = CounterMetricFamily("apidae_sensor_seen", "Things that entered a stage", labels=["stage"])
    used = CounterMetricFamily("apidae_sensor_used", "Things a stage passed on", labels=["stage"])
    dropped = CounterMetricFamily("apidae_sensor_dropped", "Things a stage lost", labels=["stage", "reason"])
    for stage in stages:
        seen.add_metric([stage.stage], stage.seen)
        used.add_metric([stage.stage], stage.used)
        for reason, count in stage.dropped:
            dropped.add_metric([stage.stage, reason], count)
    return (seen, used, dropped)
