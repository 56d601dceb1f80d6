"""The registry of sensors: who they are, when they last sent something, and what they lost. Thread-safe.

The receiver records, and alerting reads `list_statuses` for silence, loss and lag. The composition root writes changes
to the table `sensors`, whose columns a SensorStatus has. It loads the table at the start, so that a sensor that died
with the collector is missed. Times are unix seconds of the collector's clock.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from collector.core.limits import Limit

_PAUSED, _STOPPING = 2, 3  # The wire's SensorState.
# A name whose sensor has been silent for so long may be that of the same node in a cluster that was given another name.
RENAME_SECONDS = 600.0
NAME_LIMIT_CHARACTERS = 253
SENSOR_LIMIT = 20_000  # Twice the paper design; more are not remembered, and counted.


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
        return self.state in (_PAUSED, _STOPPING)

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


_COUNTED = tuple(field.name for field in dataclasses.fields(StageAccount))
_REPORTED = tuple(field.name for field in dataclasses.fields(HealthReport) if field.name != "account")
_NEWS = ("state", "reason", "capture", "fallback_reason")
_GREETED = ("cluster", "boot_id", "version", "kernel_release", "key_id", "policy_epoch")


class SensorRegistry:
    """Holds one status a node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Empty. `clock` gives unix seconds."""
        self._clock = clock
        self._statuses: dict[str, SensorStatus] = {}
        self._changed: set[str] = set()
        self._heard: set[str] = set()  # Of which only counts and times changed.
        self.changes = 0
        self._lock = threading.Lock()
        self.unlisted = 0  # Messages of nodes past the limit.

    @property
    def limit(self) -> Limit:
        """Of sensors."""
        then = "Sensors past it are not listed, and no alert says when they are silent; their calls are kept."
        return Limit(name="sensors", used=len(self._statuses), maximum=SENSOR_LIMIT, then=then)

    def load(self, statuses: Iterable[SensorStatus]) -> None:
        with self._lock:
            self._statuses.update((status.node, status) for status in statuses)

    def find_name(self, node: str, cluster: str) -> str:
        """Under which a node's rows are kept, which is its own name: nodes of two clusters may have one name. The one
        that comes second is then `CLUSTER/NODE`, and stays that."""
        with self._lock:
            known, other = self._statuses.get(node), f"{cluster or '-'}/{node}"[:NAME_LIMIT_CHARACTERS]
            if other in self._statuses:
                return other
            if known is None or known.cluster == cluster:
                return node
            is_over = known.state == _STOPPING or self._clock() - known.last_heard_at > RENAME_SECONDS
            return node if is_over else other

    def record_hello(self, greeting: Greeting, certificate_not_after: float) -> None:
        """A sensor connected, under the name that `find_name` gave it. Another process begins its account anew.
        `certificate_not_after`: 0 without one."""
        with self._lock:
            old = self._statuses.get(greeting.name)
        is_same = old is not None and old.boot_id == greeting.boot_id
        account: dict[str, Any] = {} if is_same else {"seen_calls": 0, "lost_calls": 0, "stages": "[]"}
        self._change(
            greeting.name,
            **account,
            **{name: getattr(greeting, name) for name in _GREETED},
            certificate_not_after=certificate_not_after,
            last_hello_at=self._clock(),
            state=0,  # Unknown until it reports: a sensor that comes back is not paused any more.
        )

    def record_health(self, node: str, report: HealthReport) -> None:
        account = report.account
        known = self._statuses.get(node)
        self._change(
            node,
            is_news=known is None or any(getattr(known, name) != getattr(report, name) for name in _NEWS),
            last_health_at=self._clock(),
            **{name: getattr(report, name) for name in _REPORTED},
            **({} if account is None else {name: getattr(account, name) for name in _COUNTED}),
        )

    def record_policy(self, node: str, *, epoch: int, refusal: str) -> None:
        """A sensor holds the policy of this epoch; `refusal` is why it took no other."""
        self._change(node, policy_epoch=epoch, policy_refusal=refusal)

    def record_batch(self, node: str) -> None:
        self._change(node, is_news=False, last_batch_at=self._clock())

    def list_statuses(self) -> list[SensorStatus]:
        with self._lock:
            return sorted(self._statuses.values(), key=lambda status: status.node)

    def find_clusters(self, nodes: Sequence[str]) -> set[str]:
        """Of nodes by the names of their rows."""
        with self._lock:
            return {self._statuses[node].cluster for node in nodes if node in self._statuses}

    @property
    def has_news(self) -> bool:
        """Whether `take_changed` has any."""
        return bool(self._changed)

    def take_changed(self, *, with_heard: bool = True) -> list[SensorStatus]:
        """Those that changed since; `with_heard`: also those that only reported how much they did meanwhile."""
        with self._lock:
            nodes = self._changed | self._heard if with_heard else set(self._changed)
            self._changed -= nodes
            self._heard -= nodes
            return [self._statuses[node] for node in sorted(nodes)]

    def _change(self, node: str, *, is_news: bool = True, **fields: Any) -> None:
        now = self._clock()
        with self._lock:
            old = self._statuses.get(node)
            if old is None and len(self._statuses) >= SENSOR_LIMIT:
                self.unlisted += 1
                return
            known = old or SensorStatus(node=node, first_seen=now)
            self._statuses[node] = dataclasses.replace(known, updated_at=now, **fields)
            (self._changed if is_news else self._heard).add(node)
            self.changes += 1
