"""What a sensor said of itself: its greeting, its reports of health, and its last word, which is a row of `sensors`."""

from dataclasses import dataclass

_PAUSED, STOPPING = 2, 3  # The wire's SensorState.


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorStatus:
    """One row of `sensors`: the last word of one sensor. A time of 0 is never."""

    node: str
    cluster: str = ""
    boot_id: str = ""
    version: str = ""
    kernel_release: str = ""
    key_id: int = 0  # Newest installation key it holds; 0 = none yet.
    policy_epoch: int = 0  # Of the policy it holds; 0 = none.
    policy_refusal: str = ""  # Why it refused the last one it was sent; empty where it did not.
    state: int = 0  # The wire's SensorState.
    reason: str = ""
    capture: str = ""  # How it sees calls: cgroup_skb or syscalls; empty until it says.
    fallback_reason: str = ""  # Why packets cannot be captured, where system calls stand in for them; else empty.
    certificate_not_after: float = 0.0  # Of the certificate it connected with last; 0 = by token or without both.
    first_seen: float = 0.0
    last_hello_at: float = 0.0
    last_health_at: float = 0.0
    last_batch_at: float = 0.0
    lag_ms: int = 0
    spool_bytes: int = 0
    memory_bytes: int = 0
    cpu_ns: int = 0
    seen_calls: int = 0  # Since its start, by its last report; see HealthReport.
    lost_calls: int = 0
    stages: str = "[]"  # JSON: [{stage, seen, used, dropped: {reason: count}}].
    updated_at: float = 0.0

    @property
    def last_heard_at(self) -> float:
        return max(self.last_hello_at, self.last_health_at, self.last_batch_at)

    @property
    def is_paused(self) -> bool:
        """It said that it pauses or stops: its silence is no alert."""
        return self.state in (_PAUSED, STOPPING)

    @property
    def lag_seconds(self) -> float:
        """Age of its oldest row not yet acknowledged, by its last report."""
        return self.lag_ms / 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """A checked Hello."""

    cluster: str
    node: str
    boot_id: str
    key_id: int
    version: str
    kernel_release: str
    policy_epoch: int
    features: frozenset[str]
    time_unix_ns: int = 0  # By its own clock.
    name: str = ""  # Under which its node's rows are kept (`SensorRegistry.find_name`).


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAccount:
    """Seen calls are those that entered the first stage since the sensor's start, lost ones included (seen = used +
    dropped); lost ones are what any stage dropped."""

    seen_calls: int
    lost_calls: int
    stages: str  # As in SensorStatus.


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The wire's Health, checked."""

    state: int
    reason: str
    capture: str
    fallback_reason: str
    lag_ms: int
    spool_bytes: int
    memory_bytes: int
    cpu_ns: int
    account: StageAccount | None  # None: as the last one.
