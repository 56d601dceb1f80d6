"""What happened to everything the sensor saw: `seen = used + dropped`, by stage and reason, and what is told of it.

Every stage owns one `StageCounter`. What enters is `see`n; each thing then is either `use`d or `drop`ped for a named
reason. What is neither yet is *held* (a batch in the spool waits for its acknowledgement); at rest, a stage that holds
nothing must be balanced, and a held count below zero is a bug (something was accounted for twice). Metrics are read
from the same counters when somebody scrapes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from common.figures import Figure, collect_families, make_gauges, make_totals
from sensor.config import CaptureWay

PREFIX: Final = "apidae_sensor_"
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
        is_by_system_calls = report.capture is CaptureWay.SYSCALLS
        gauges = (
            ("state", "What the sensor does: 1 captures, 2 is paused, 3 stops.", report.state),
            ("capture_by_system_calls", "1 where system calls are captured and not packets.", is_by_system_calls),
            ("lag_seconds", "Age of the oldest batch that the collector has not acknowledged.", report.lag_ms / 1e3),
            ("spool_bytes", "Bytes of batches that wait for an acknowledgement.", report.spool_bytes),
            ("memory_bytes", "Resident memory of the sensor process.", report.memory_bytes),
        )
        cpu = ("cpu_seconds", "Processor time of the sensor process.", report.cpu_ns / 1e9)
        stages = _list_stage_figures(report.stages)
        yield from collect_families(PREFIX, (*stages, *make_gauges(gauges), *report.figures, *make_totals([cpu])))


def _list_stage_figures(stages: Sequence[StageCount]) -> Iterator[Figure]:
    for one in stages:
        seen = ("seen", "Calls, events or bytes that a stage took.", one.seen)
        used = ("used", "Calls, events or bytes that a stage handed on.", one.used)
        yield from make_totals((seen, used), stage=one.stage)
        for reason, count in one.dropped:
            lost = ("dropped", "Calls, events or bytes that a stage lost, by reason.", count)
            yield from make_totals([lost], stage=one.stage, reason=reason)
