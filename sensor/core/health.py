"""What happened to everything that the sensor saw: the account of each stage, the health report, metrics, and failures.

Every stage owns one `StageCounter`. What enters is `see`n. Each thing is then `use`d, or `drop`ped for a named reason,
so `seen = used + dropped`. What is neither yet is *held*: a batch in the spool waits for its acknowledgement. A stage
that holds nothing must be balanced. A held count below zero is a bug: something was counted twice. Prometheus metrics
are read from the same counters at each scrape.

`Failures` counts exceptions that ended the work on one item: a call, a row, a file or a message. A loop of the sensor
drops the item, logs it with `logger.exception` and takes the next one. As a filter of the log's handler, `Failures`
counts by place in the code and class of the exception. Each kind is logged once a minute. A logged traceback has code
and classes only, because the text of an exception may hold what was read.
"""

import asyncio
import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from common.figures import Figure, collect_families, make_gauges, make_totals, total
from sensor.core.config import CaptureWay
from sensor.core.state import SensorState

PREFIX: Final = "apidae_sensor_"
TLS_STAGE: Final = "tls"  # Calls that TLS carried, which are captured in the process; the other stages' are of both.


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
    stages: tuple[StageCount, ...] = ()
    lag_ms: int = 0  # Age of the oldest batch without acknowledgement.
    spool_bytes: int = 0
    memory_bytes: int = 0  # Resident set of this process.
    cpu_ns: int = 0  # User and system time of this process.
    reason: str = ""  # Why it is paused or stopping; else empty.
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


LOG_INTERVAL_SECONDS: Final = 60.0
# Kinds told apart; the code has fewer places.
MAX_KINDS: Final = 256
_OTHER: Final = ("other", "other")
_PACKAGE: Final = "sensor."
# Of a traceback, from where it was raised on: one of a recursion has a thousand.
_FRAMES_MAX: Final = 20
_CHAIN_MAX: Final = 5

logger = logging.getLogger(__name__)

_Record = TypeVar("_Record")


class Failures(logging.Filter):
    """A filter for the handler of the log. Threads share it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._counts: Counter[tuple[str, str]] = Counter()
        self._logged_at: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Counts a record of an exception, and keeps it from the log where its like was logged within the minute;
        every other record passes."""
        if not record.exc_info or record.exc_info[0] is None:
            return True
        kind = f"{record.name.removeprefix(_PACKAGE)}.{record.funcName}", record.exc_info[0].__name__
        now = self._monotonic()
        with self._lock:
            if kind not in self._counts and len(self._counts) >= MAX_KINDS:
                kind = _OTHER
            self._counts[kind] += 1
            record.failures = self._counts[kind]
            if now - self._logged_at.get(kind, float("-inf")) < LOG_INTERVAL_SECONDS:
                return False
            self._logged_at[kind] = now
            return True

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often something failed so far, by place (`pipeline._take_one`) and class of the exception."""
        with self._lock:
            return dict(self._counts)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return tuple(
            Figure(
                name="failures",
                documentation="Calls, rows, files or messages given up after an exception, by place in the code.",
                value=count,
                is_total=True,
                labels=(("place", place), ("exception", exception)),
            )
            for (place, exception), count in sorted(self.counts.items())
        )


def format_failure(error: BaseException) -> str:
    """The traceback of an exception and of those that it followed, by code and class. An OSError has its error's name,
    which is the system's; other texts are left out."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < _CHAIN_MAX:
        frames = "".join(traceback.format_tb(found.__traceback__, -_FRAMES_MAX))
        reason = f": {found.strerror}" if isinstance(found, OSError) and found.strerror else ""
        parts.append(f"{frames}{type(found).__name__}{reason}")
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n\nwhich followed\n\n".join(parts)


def take_each(records: Iterable[_Record], take: Callable[[Iterator[_Record]], None], log: logging.Logger) -> None:
    """Has `take` go through the records; where it fails at one, it goes on with the next. Costs nothing a record."""
    left = iter(records)
    while True:
        try:
            take(left)
            return
        except Exception:
            log.exception("an event of the kernel failed; the next one is taken", stacklevel=2)


def log_loop_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task or callback of the event loop caught; for `loop.set_exception_handler`."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        logger.error("a task or callback failed and ended", exc_info=error)
    else:
        loop.default_exception_handler(context)


def log_thread_failure(arguments: threading.ExceptHookArgs) -> None:
    """What a thread did not catch; for `threading.excepthook`."""
    name = arguments.thread.name if arguments.thread is not None else "unknown"
    logger.error("the thread %s failed and ended", name, exc_info=arguments.exc_value)


@dataclass(slots=True)
class AttackAccount:
    """Totals since the sensor's start, under whichever installation key."""

    read_bytes: int = total("Bytes of requests that the attack rules looked at.")
    attacks: int = total("Calls whose request holds a payload of an attack.", name="attacks")
    confirmed: int = total("Calls with a payload of an attack whose response says that it worked.")
    skipped: int = total("Requests beyond the budget attack_bytes_per_second, which no rule looked at.")
    unread: int = total("Calls whose head looked like an attack and was beyond the budget of heads.")
