"""The watch of one cluster: a thread with its own event loop that writes what the API server says to the store.

It only adds knowledge. Without an API server everything else goes on, names are missing, and what was known stays.
Exposure is assessed only while every kind is known, so that a revoked right does not look like a change.

`open_client` takes a kubeconfig or the Pod's service account. lightkube reads both and keeps tokens fresh: it reads a
service account's again after a 401. Edge.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from collector.kubernetes.addresses import AddressBook, Peer, Targets
from collector.kubernetes.exposure import Exposure, ExposureBook
from collector.kubernetes.state import ClusterState
from collector.kubernetes.watch import ResourceWatch, WatchCounts, WatchState, list_resources
from collector.storage.base import Store, StoreError
from common.figures import Figure, list_figures, make_gauges, make_totals, sum_accounts

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_SECONDS = 30.0


class AccessError(Exception):
    """The API server cannot be asked; one sentence that names the file and the fix."""


def is_in_cluster() -> bool:
    """Whether this process is a Pod with a service account's token."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def open_client(kubeconfig: Path | None) -> httpx2.AsyncClient:
    """A client of the kubeconfig's current context, or of the service account without one. Raises AccessError."""
    try:
        if kubeconfig is None:
            config = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
        else:
            config = KubeConfig.from_file(kubeconfig).get()
        if config is None:
            raise ConfigError("it has no current context")
        # The node's proxy variables are for other servers; as client-go, only those in the configuration count.
        parameters = ConnectionParams(timeout=httpx2.Timeout(_TIMEOUT_SECONDS), trust_env=False)
        return AsyncClient(config, parameters)
    except KeyError as error:
        raise AccessError(f"{_name(kubeconfig)} has no {error}; correct it") from None
    except (ConfigError, OSError, ValueError, TypeError, AssertionError) as error:
        raise AccessError(f"{_name(kubeconfig)} cannot be used ({error}); correct it") from None


def _name(kubeconfig: Path | None) -> str:
    return f"The service account in {SERVICE_ACCOUNT}" if kubeconfig is None else f"The kubeconfig {kubeconfig}"


FLUSH_SECONDS = 1.0
# A look at everything that took t rests for 20 t, so that it takes at most 5 % of a core.
_REST_FACTOR = 20
_OPEN_RETRY_SECONDS = 30.0
_Row = TypeVar("_Row")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """How the watch of one cluster is; `reason` is empty where all is well."""

    cluster: str
    is_current: bool
    reason: str
    pods: int
    services: int


class ClusterWatcher:
    """One cluster. `start` and `stop` from any thread; `status` and `counts` too."""

    def __init__(
        self, *, cluster: str, kubeconfig: Path | None, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        """`cluster` is the name that its sensors give; without a kubeconfig the Pod's service account is used."""
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._store = store
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name=f"kubernetes {cluster}".strip())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = threading.Event()
        self._watches: list[ResourceWatch] = []
        self._reason = "not started"
        self.counts = WatchCounts()
        self._book = AddressBook(cluster)
        self._exposures = ExposureBook(cluster)
        self._state = ClusterState(lambda before, after: self._book.follow(before, after, self._clock()))

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it. What is not stored yet is told again by the next start."""
        self._is_stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # It has ended by itself.
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join()

    @property
    def status(self) -> ClusterStatus:
        """How it is now."""
        failing = [watch.reason for watch in self._watches if watch.reason]
        return ClusterStatus(
            cluster=self._cluster,
            is_current=self._is_complete,
            reason=self._reason or "; ".join(failing),
            pods=len(self._state.pods),
            services=len(self._state.services),
        )

    @property
    def dropped(self) -> int:
        """Objects beyond the most that are kept."""
        return self._state.dropped

    @property
    def _is_complete(self) -> bool:
        known = (WatchState.CURRENT, WatchState.ABSENT)
        return bool(self._watches) and all(watch.status in known for watch in self._watches)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._is_stopping.is_set():
            return
        await self._load()
        while True:
            try:
                await self._watch()
            except Exception as error:  # Of ours: everything else is caught where it comes up.
                self.counts.failures += 1
                logger.exception("The watch of cluster %r began anew.", self._cluster)
                self._warn(f"the watch failed ({error!r}) and began anew")
                await asyncio.sleep(_OPEN_RETRY_SECONDS)

    async def _watch(self) -> None:
        """Every kind, until cancelled."""
        async with await self._open() as client:
            self._watches = [ResourceWatch(client, resource, self._state, self.counts) for resource in list_resources()]
            self._reason = ""
            async with asyncio.TaskGroup() as group:
                for watch in self._watches:
                    group.create_task(watch.run())
                group.create_task(self._keep())

    async def _load(self) -> None:
        """What the store holds as current; again until it answers."""
        while True:
            try:
                peers = await asyncio.to_thread(_read, self._store, Peer, "peer_addresses", "until = 0", self._cluster)
                newest = "1 ORDER BY time DESC LIMIT 1 BY namespace, workload, port"
                told = await asyncio.to_thread(_read, self._store, Exposure, "exposures", newest, self._cluster)
                break
            except StoreError as error:
                self._warn(f"what is stored cannot be read ({error})")
                await asyncio.sleep(FLUSH_SECONDS)
        self._book, self._exposures = AddressBook(self._cluster, peers), ExposureBook(self._cluster, told)

    async def _open(self) -> httpx2.AsyncClient:
        """The client; again until its configuration is there."""
        while True:
            try:
                return await asyncio.to_thread(open_client, self._kubeconfig)
            except AccessError as error:
                self._warn(str(error))
                await asyncio.sleep(_OPEN_RETRY_SECONDS)

    async def _keep(self) -> None:
        """Each second, into the store what changed."""
        looked, rest_until = -1, 0.0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._is_complete and self._state.changes != looked and time.monotonic() >= rest_until:
                looked, start = self._state.changes, time.monotonic()
                self._look()
                rest_until = time.monotonic() + _REST_FACTOR * (time.monotonic() - start)
            await self._flush()

    def _look(self) -> None:
        targets, now = Targets(self._state), self._clock()
        self._book.refresh(self._state, targets, now)
        self._exposures.refresh(self._state, targets, now)

    async def _flush(self) -> None:
        peers, exposures = self._book.take_changed(self._clock()), self._exposures.take_changed()
        try:
            if peers:
                await asyncio.to_thread(self._store.insert_records, "peer_addresses", peers)
                peers = []
            if exposures:
                await asyncio.to_thread(self._store.insert_records, "exposures", exposures)
            self._reason = ""
        except StoreError as error:
            self._book.give_back(peers)
            self._exposures.give_back(exposures)
            self._warn(f"the store takes nothing ({error})")

    def _warn(self, reason: str) -> None:
        """Once, not at each try."""
        if reason != self._reason:
            logger.warning("Kubernetes%s: %s", f" {self._cluster}" if self._cluster else "", reason)
        self._reason = reason


def list_watch_figures(watchers: Sequence[ClusterWatcher]) -> tuple[Figure, ...]:
    """Of all clusters together; for metrics."""
    statuses = [watcher.status for watcher in watchers]
    dropped = sum(watcher.dropped for watcher in watchers)
    text = "Kubernetes objects beyond the most of a kind that are kept."
    gauges = (
        ("clusters", "Kubernetes clusters that are followed.", len(statuses)),
        (
            "clusters_current",
            "Kubernetes clusters of which all that is followed is known.",
            sum(s.is_current for s in statuses),
        ),
        ("pods", "Pods of the clusters that are followed.", sum(status.pods for status in statuses)),
        ("services", "Services of the clusters that are followed.", sum(status.services for status in statuses)),
    )
    return (
        *list_figures(sum_accounts(WatchCounts, (watcher.counts for watcher in watchers)), "kubernetes_"),
        *make_totals([("kubernetes_objects_dropped", text, dropped)]),
        *make_gauges(gauges, "kubernetes_"),
    )


def _read(store: Store, row: type[_Row], table: str, condition: str, cluster: str) -> Sequence[_Row]:
    names = [column.name for column in fields(row)]  # type: ignore[arg-type]
    rows = store.query(
        f"SELECT {', '.join(names)} FROM {table} FINAL WHERE cluster = {{cluster:String}} AND {condition}",
        {"cluster": cluster},
    )
    return [row(**{name: _plain(value) for name, value in zip(names, values, strict=True)}) for values in rows]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
