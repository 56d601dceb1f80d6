"""Reads the sensors: who each is, its state, and its account of every call (seen = used + dropped)."""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from collector.core.scope import find_scope
from collector.inventory.filters import ListQuery, Page
from collector.inventory.query import Cursor
from collector.receiver.sensor_status import SensorStatus
from collector.storage.records import read_record


class SensorState(StrEnum):
    """What the sensor does now."""

    CAPTURING = "capturing"
    PAUSED = "paused"
    STOPPING = "stopping"
    SILENT = "silent"  # Said nothing for longer than SILENCE_SECONDS.
    UNKNOWN = "unknown"  # Connected, has not reported yet.


class CaptureWay(StrEnum):
    """How a sensor sees calls (docs/internals/kernels.md)."""

    CGROUP_SKB = "cgroup_skb"  # By packets.
    SYSCALLS = "syscalls"
    UNKNOWN = "unknown"  # It has not said.


DAY_SECONDS = 86_400
SILENCE_SECONDS = 15  # Three missed reports (proto Health).


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """One stage's account since the sensor's start: seen = used + sum of dropped by reason."""

    stage: str
    seen: int
    used: int
    dropped: dict[str, int]

    @property
    def dropped_total(self) -> int:
        """All reasons together."""
        return sum(self.dropped.values())

    @property
    def is_balanced(self) -> bool:
        """Whether the account adds up; where not, something was lost uncounted."""
        return self.seen == self.used + self.dropped_total


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One sensor and its last report. Times are unix seconds; calls are since the sensor's start, seen ones with the
    lost ones among them (collector/receiver/sensors.py)."""

    node: str
    cluster: str
    boot_id: str
    state: SensorState
    version: str
    kernel_release: str
    key_id: int  # Newest installation key it holds.
    policy_epoch: int  # Of the policy it holds.
    policy_refusal: str  # Why it refused a newer one; empty where it did not.
    is_connected: bool
    # Of the certificate that it connected with last, unix seconds, and what was left of it when it was asked for; None:
    # it came by token or without both.
    certificate_not_after: float | None
    certificate_left_seconds: float | None
    first_seen: float
    last_report_at: float  # Hello, report or batch, whichever came last.
    lag_ms: int
    spool_bytes: int
    memory_bytes: int
    cpu_seconds: float
    seen_calls: int
    lost_calls: int
    stages: tuple[StageCount, ...]
    reason: str
    capture: CaptureWay
    fallback_reason: str  # Why packets cannot be captured, where system calls stand in for them; else empty.

    @property
    def certificate_left_days(self) -> float | None:
        """The same in days, by a tenth; below 0 where it has expired."""
        left = self.certificate_left_seconds
        return None if left is None else round(left / DAY_SECONDS, 1)

    @property
    def loss_ratio(self) -> float:
        """Lost calls of all seen calls, 0..1. A spool that drops what an earlier process saw cannot make it more."""
        return min(1.0, self.lost_calls / self.seen_calls) if self.seen_calls else 0.0


LAG_SECONDS_MAX = 60
LOSS_RATIO_MAX = 0.001
CERTIFICATE_DAYS_MIN = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong with a sensor, and what to do."""

    what: str
    advice: str


def find_troubles(sensor: Sensor, version: str) -> tuple[Trouble, ...]:
    """Of one sensor, the worst first; `version` is the collector's. Empty where all is well."""
    found = []

    def note(what: str, advice: str) -> None:
        found.append(Trouble(what=what.removesuffix(".") + ".", advice=advice))

    if sensor.state is SensorState.SILENT:
        note(
            "It has sent nothing for more than 15 s",
            "See on the node whether it runs, and in its log whether it reaches the collector.",
        )
    elif sensor.state is not SensorState.CAPTURING:
        note(f"It is {sensor.state.value}{f': {sensor.reason}' if sensor.reason else ''}", "See its log on the node.")
    left = sensor.certificate_left_days
    if left is not None and left < CERTIFICATE_DAYS_MIN:
        note(
            "Its certificate has expired"
            if left < 0
            else f"Its certificate expires in {left:g} days and was not renewed",
            "See in its log why. `apidae enroll` on the node, with a new token, gets another.",
        )
    if sensor.loss_ratio > LOSS_RATIO_MAX:
        worst = max(sensor.stages, key=lambda stage: stage.dropped_total, default=None)
        where = f", most of them in {worst.stage}" if worst is not None and worst.dropped_total else ""
        note(
            f"It lost {sensor.loss_ratio:.1%} of its calls{where}",
            "The table of losses below says for each reason what helps.",
        )
    if sensor.lag_ms > LAG_SECONDS_MAX * 1_000:
        note(
            f"Its oldest row has waited for {sensor.lag_ms / 1_000:.0f} s",
            "See whether the collector keeps up, and the network between them.",
        )
    if sensor.fallback_reason:
        note(
            f"It captures by system calls: {sensor.fallback_reason}",
            "Run `sudo apidae preflight` on the node: it says what packets need.",
        )
    if sensor.policy_refusal:
        note(f"It refused the newest policy: {sensor.policy_refusal}", "Correct the setting that it names on the node.")
    if sensor.version and sensor.version != version:
        note(f"It is version {sensor.version}, the collector {version}", "Upgrade it (UPGRADING.md has the order).")
    return tuple(found)


_STATES = {1: SensorState.CAPTURING, 2: SensorState.PAUSED, 3: SensorState.STOPPING}  # proto SensorState.

ListStatuses = Callable[[], Sequence[SensorStatus]]


class SensorQuery(ListQuery):
    """A page of the list."""


class SensorInventory:
    """Answers questions about sensors."""

    def __init__(self, *, clock: Callable[[], float], list_statuses: ListStatuses) -> None:
        """`list_statuses`: of the registry, where this process has one; else of the state. A sensor is of a node, so
        whoever sees a part of the installation sees none."""
        self._list_statuses: ListStatuses = lambda: list_statuses() if find_scope().is_all else ()
        self._clock = clock

    def list_sensors(self) -> tuple[Sensor, ...]:
        """Every sensor heard of, by node."""
        now = self._clock()
        return tuple(_read_sensor(status, now) for status in self._list_statuses())

    def list_page(self, query: SensorQuery, rank: Callable[[Sensor], float] | None = None) -> Page[Sensor]:
        """One page by node; with `rank` those of the least first. Raises CursorError when the cursor is not of this
        query."""
        if rank is None:
            found, now = self._list_statuses(), self._clock()
            after = query.read_cursor(str)
            start = bisect_right(found, after.id, key=lambda one: one.node) if after is not None else 0
            rows, next_cursor = query.cut(
                found[start : start + query.limit + 1], lambda last: Cursor(value=last.node, id=last.node)
            )
            return Page(items=tuple(_read_sensor(row, now) for row in rows), next_cursor=next_cursor, total=len(found))
        ranked = sorted((rank(sensor), sensor.node, sensor) for sensor in self.list_sensors())
        after = query.read_cursor(float)
        left = [one for one in ranked if after is None or one[:2] > (float(after.value), after.id)]
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last[0], id=last[1]))
        return Page(items=tuple(sensor for *_, sensor in shown), next_cursor=next_cursor, total=len(ranked))

    def get_sensor(self, node: str) -> Sensor | None:
        """The one of a node."""
        found = next((status for status in self._list_statuses() if status.node == node), None)
        return None if found is None else _read_sensor(found, self._clock())


def _read_sensor(status: SensorStatus, now: float) -> Sensor:
    is_connected = now - status.last_heard_at <= SILENCE_SECONDS
    not_after = status.certificate_not_after or None
    state = _STATES.get(int(status.state), SensorState.UNKNOWN)
    return read_record(
        Sensor,
        {name: getattr(status, name) for name in _SHOWN},
        state=state if is_connected else SensorState.SILENT,
        is_connected=is_connected,
        certificate_not_after=not_after,
        certificate_left_seconds=None if not_after is None else not_after - now,
        last_report_at=status.last_heard_at,
        cpu_seconds=int(status.cpu_ns) / 1e9,
        stages=_read_stages(status.stages),
        capture=status.capture or CaptureWay.UNKNOWN,
    )


_SHOWN = tuple({one.name for one in fields(Sensor)} & {one.name for one in fields(SensorStatus)})


def _read_stages(text: str) -> tuple[StageCount, ...]:
    """The account behind the store's JSON; written by the ingest room, so a malformed one is our bug and raises."""
    return tuple(read_record(StageCount, stage) for stage in (json.loads(text) if text else ()))
