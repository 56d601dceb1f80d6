"""The registry of sensors: who they are, when they last sent something, and what they lost. Thread-safe.

The receiver records, and alerting reads `list_statuses` for silence, loss and lag. `exchange`, every second, writes
what changed to the state and reads what other collectors wrote there. The first one reads all, so that a sensor that
died with the collector is missed. Times are unix seconds of the collector's clock.

What others heard is known some seconds late. So their sensors are silent that much later, and while the state cannot be
read their silence is not counted.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from collector.core.feature import Feature, Job
from collector.core.limits import Limit
from collector.receiver.sensor_status import STOPPING, Greeting, HealthReport, SensorStatus, StageAccount
from collector.receiver.sensor_table import SensorTable
from collector.storage.base import StoreError
from common.figures import Figure, make_gauges, make_totals
from common.token_bucket import TokenBucket

# A name whose sensor has been silent for so long may be that of the same node in a cluster that was given another name.
RENAME_SECONDS = 600.0
NAME_LIMIT_CHARACTERS = 253
SENSOR_LIMIT = 20_000  # Twice the paper design; more are not remembered, and counted.
FLUSH_SECONDS = 5.0  # Between two writes; some may follow each other sooner, so that a new sensor is seen at once.
FLUSH_BURST = 3
# Between two writes of what sensors only counted: for the next start, or for other collectors that look for silence.
HEARD_SECONDS = 60.0
HEARD_SHARED_SECONDS = 5.0
_DELAY_SECONDS = HEARD_SHARED_SECONDS + 2.0  # A round here and one there.


_COUNTED = tuple(field.name for field in dataclasses.fields(StageAccount))
_REPORTED = tuple(field.name for field in dataclasses.fields(HealthReport) if field.name != "account")
_NEWS = ("state", "reason", "capture", "fallback_reason")
_GREETED = ("cluster", "boot_id", "version", "kernel_release", "key_id", "policy_epoch")


class SensorRegistry:
    """Holds one status a node."""

    def __init__(
        self,
        clock: Callable[[], float],
        table: SensorTable | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Empty. `clock` gives unix seconds; without a table nothing is kept."""
        self._clock = clock
        self._table = table
        self._is_shared = table is not None and table.is_shared
        self._monotonic = monotonic
        self._flushes = TokenBucket(1 / FLUSH_SECONDS, FLUSH_BURST, monotonic)
        self._heard_at = monotonic()
        self._read_at = 0.0  # When others' word was read last.
        self._readable_since: float | None = None  # Since when that succeeds.
        self._own: set[str] = set()  # Heard here last.
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
        """What others heard, where it is newer than what is known here."""
        with self._lock:
            for status in statuses:
                known = self._statuses.get(status.node)
                if known is None and len(self._statuses) >= SENSOR_LIMIT:
                    self.unlisted += 1
                elif known is None or known.updated_at < status.updated_at:
                    self._statuses[status.node] = status
                    self._own.discard(status.node)
                    self._changed.discard(status.node)
                    self._heard.discard(status.node)
                    self.changes += 1

    def exchange(self) -> None:
        """Write what is due, and read what others wrote. Raises StoreError; what failed is written next time."""
        if self._table is None:
            return
        wait = HEARD_SHARED_SECONDS if self._is_shared else HEARD_SECONDS
        is_heard = self._monotonic() - self._heard_at >= wait
        if is_heard or (self._changed and self._flushes.take()):
            self.flush(with_heard=is_heard)
        if self._readable_since is None or self._is_shared:
            try:
                self.load(self._table.read_new())
            except StoreError:
                self._readable_since = None
                raise
            self._read_at = self._clock()
            if self._readable_since is None:
                self._readable_since = self._read_at

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        return Feature(
            name="sensors",
            stop=self._flush_last,
            jobs=(Job(works=(self.exchange,)),),
            figures=self._list_figures,
            limits=lambda: (self.limit,),
        )

    def _list_figures(self) -> tuple[Figure, ...]:
        unlisted = "Messages of sensors beyond the most that are listed."
        known = "Sensors that are known, connected or not."
        return (
            *make_totals([("sensors_unlisted", unlisted, self.unlisted)]),
            *make_gauges([("sensors", known, len(self._statuses))]),
        )

    def _flush_last(self) -> None:
        with suppress(StoreError):
            self.flush()

    def flush(self, *, with_heard: bool = True) -> None:
        """Write what changed. Raises StoreError; what failed is written next time."""
        if self._table is None:
            return
        if with_heard:
            self._heard_at = self._monotonic()
        changed = self.take_changed(with_heard=with_heard)
        if not changed:
            return
        try:
            self._table.write(changed)
        except StoreError:
            with self._lock:
                self._changed.update(status.node for status in changed)
            raise

    def measure_silence(self, status: SensorStatus, now: float) -> float:
        """Seconds for which a sensor surely sent nothing to any collector."""
        if not self._is_shared:
            return now - status.last_heard_at
        if self._readable_since is None:
            return 0.0
        known_until = now if status.node in self._own else self._read_at - _DELAY_SECONDS
        return known_until - max(status.last_heard_at, self._readable_since)

    def find_name(self, node: str, cluster: str) -> str:
        """Under which a node's rows are kept, which is its own name: nodes of two clusters may have one name. The one
        that comes second is then `CLUSTER/NODE`, and stays that."""
        with self._lock:
            return _choose_name(node, cluster, self._statuses, self._clock())

    def is_settled(self, node: str, cluster: str) -> bool:
        """Whether `find_name` needs no other collector: there is none, or this one knows the node."""
        with self._lock:
            known = self._statuses.get(node)
            is_known = known is not None and known.cluster == cluster
            return not self._is_shared or is_known or _qualify(node, cluster) in self._statuses

    def claim_name(self, node: str, cluster: str) -> str:
        """As `find_name`, among all collectors. Blocks. Where the state cannot be written, what is known here counts:
        sensors connect all the same."""
        now = self._clock()

        def choose(known: dict[str, SensorStatus]) -> SensorStatus:
            name = _choose_name(node, cluster, known, now)
            fresh = SensorStatus(node=name, first_seen=now)
            return dataclasses.replace(known.get(name, fresh), cluster=cluster, last_hello_at=now, updated_at=now)

        if self._table is None:
            return self.find_name(node, cluster)
        try:
            chosen = self._table.claim((node, _qualify(node, cluster)), choose)
        except StoreError:
            return self.find_name(node, cluster)
        self.load([chosen])
        return chosen.node

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

    def list_clusters(self, since: float) -> set[str]:
        """Of sensors that were heard since then."""
        with self._lock:
            return {status.cluster for status in self._statuses.values() if status.last_heard_at >= since}

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
            self._own.add(node)
            (self._changed if is_news else self._heard).add(node)
            self.changes += 1


def _qualify(node: str, cluster: str) -> str:
    return f"{cluster or '-'}/{node}"[:NAME_LIMIT_CHARACTERS]


def _choose_name(node: str, cluster: str, statuses: Mapping[str, SensorStatus], now: float) -> str:
    known, other = statuses.get(node), _qualify(node, cluster)
    if other in statuses:
        return other
    if known is None or known.cluster == cluster:
        return node
    is_over = known.state == STOPPING or now - known.last_heard_at > RENAME_SECONDS
    return node if is_over else other
