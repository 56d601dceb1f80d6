"""The sensor as the inventory shows it: who it is, how it does, and its account of every call: seen = used +
dropped."""

from dataclasses import dataclass
from enum import StrEnum


class SensorState(StrEnum):
    """What the sensor does now."""

    CAPTURING = "capturing"
    PAUSED = "paused"
    STOPPING = "stopping"
    SILENT = "silent"  # Said nothing for longer than SILENCE_SECONDS.
    UNKNOWN = "unknown"  # Connected, has not reported yet.


class CaptureWay(StrEnum):
    """How a sensor sees calls (docs/kernels.md)."""

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
    lost ones among them (collector/sensors.py)."""

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
