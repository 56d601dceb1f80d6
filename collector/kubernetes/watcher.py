"""The watch of one cluster: a thread with its own event loop that writes what the API server says to the store.

It only adds knowledge. Without an API server everything else goes on, names are missing, and what was known stays.
Exposure is assessed only while every kind is known, so that a revoked right does not look like a change.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from collector.core.feature import Feature
from collector.kubernetes import objects
from collector.kubernetes.addresses import AddressBook, Targets
from collector.kubernetes.exposure import ROUTE_KINDS, Exposure, ExposureBook
from collector.kubernetes.objects import Object
from collector.kubernetes.placements import REMEMBERED_SECONDS, Placements
from collector.kubernetes.rows import HeldAddresses, Peer
from collector.kubernetes.state import ClusterState, Pod, read_kept
from collector.storage.base import Store, StoreError, insert_most
from common.bounded import BoundedDict
from common.figures import Figure, list_figures, make_gauges, sum_accounts
from common.kubernetes.reflector import AccessError, LoopThread, Reflector, Resource, WatchCounts, open_client

# What every cluster has, by its path.
CORE_KINDS: Final[Mapping[type[Object], str]] = {
    objects.NamespaceObject: "/api/v1/namespaces",
    objects.PodObject: "/api/v1/pods",
    objects.ServiceObject: "/api/v1/services",
    objects.EndpointSliceObject: "/apis/discovery.k8s.io/v1/endpointslices",
    objects.NetworkPolicyObject: "/apis/networking.k8s.io/v1/networkpolicies",
}
# Every kind that is followed: its paths, newest version first, and whether each cluster has it.
KINDS: Final[tuple[tuple[type[Object], tuple[str, ...], bool], ...]] = (
    *((kind, (path,), True) for kind, path in CORE_KINDS.items()),
    *((kind.type, kind.paths, kind.is_required) for kind in ROUTE_KINDS),
)
FLUSH_SECONDS = 1.0
# A look at everything that took t rests for 20 t, so that it takes at most 5 % of a core.
_REST_FACTOR = 20
_OPEN_RETRY_SECONDS = 30.0
NODES_LIMIT: Final = 20_000  # Of one cluster; Kubernetes is made for 5,000.
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
        self,
        *,
        cluster: str,
        kubeconfig: Path | None,
        store: Store,
        clock: Callable[[], float] = time.time,
        on_words: Callable[[Sequence[str]], None] = lambda words: None,
    ) -> None:
        """`cluster` is the name that its sensors give; without a kubeconfig the Pod's service account is used.
        `on_words` gets the words in paths of routes, each once, in the thread of the watch."""
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._store = store
        self._clock = clock
        self._on_words = on_words
        self._thread = LoopThread(self._run, f"kubernetes {cluster}".strip())
        self._watches: list[Reflector[Any, Any]] = []
        self._reason = "not started"
        self.counts = WatchCounts()
        self._book = AddressBook(cluster)
        self._exposures = ExposureBook(cluster)
        self._placements = Placements(clock)
        self._state = ClusterState(self._follow_pod, self.counts)
        self._has_pods, self._pod_changes = False, 0
        self._node_addresses: BoundedDict[str, frozenset[str]] = BoundedDict(NODES_LIMIT)  # By node.
        self._address_changes = self._known_address_changes = 0

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it. What is not stored yet is found again by the next start."""
        self._thread.stop()

    @property
    def feature(self) -> Feature:
        """What the collector starts, in each process: whoever takes calls asks where Pods are."""
        return Feature(name=f"cluster {self._cluster}".strip(), start=self.start, stop=self.stop)

    @property
    def cluster(self) -> str:
        """The name that its sensors give."""
        return self._cluster

    def find_placement(self, node: str, namespace: str, workload: str) -> bool | None:
        """Whether a workload has or had Pods on a node; None while the Pods are not known."""
        if self._placements.holds(node, namespace, workload):
            return True
        return False if self._is_complete else None

    def set_node_addresses(self, node: str, addresses: frozenset[str]) -> None:
        """Addresses of a node that the API server does not list, as its sensor says: of bridges, tunnels."""
        if self._node_addresses.get(node, frozenset()) != addresses:
            self._node_addresses[node] = addresses
            self._address_changes += 1

    @property
    def changes(self) -> int:
        """Rises with every change of what Pods hold, once it is known."""
        return self._pod_changes + self._has_pods + self._known_address_changes

    def list_held(self) -> HeldAddresses | None:
        """What Pods and nodes hold now; None until the Pods were listed. Without an API server the last that it said
        holds."""
        return self._book.list_held(dict(self._state.pods)) if self._has_pods else None

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
    def _is_complete(self) -> bool:
        return bool(self._watches) and all(watch.is_current for watch in self._watches)

    def _follow_pod(self, before: Pod | None, after: Pod | None) -> None:
        self._book.follow(before, after, self._clock())
        self._placements.follow(before, after)
        self._pod_changes += 1

    async def _run(self) -> None:
        await self._load()
        while True:
            try:
                await self._watch()
            except Exception as error:  # Of ours: everything else is caught where it arises.
                self.counts.failures += 1
                logger.exception("The watch of cluster %r began anew.", self._cluster)
                self._warn(f"the watch failed ({error!r}) and began anew")
                await asyncio.sleep(_OPEN_RETRY_SECONDS)

    async def _watch(self) -> None:
        """Every kind, until cancelled."""
        await self._check_access()
        self._watches = [
            Reflector(self._describe(kind, paths, is_required), partial(open_client, self._kubeconfig), self.counts)
            for kind, paths, is_required in KINDS
        ]
        self._reason = ""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run())
            group.create_task(self._keep())

    def _describe(self, kind: type[Any], paths: tuple[str, ...], is_required: bool) -> Resource[Any, Any]:
        return Resource(
            name=f"Kubernetes {self._cluster}".strip(),
            path=paths[0],
            older_paths=paths[1:],
            type=kind,
            read=read_kept,
            replace=partial(self._replace, kind),
            put=partial(self._state.put, kind),
            remove=partial(self._state.remove, kind),
            is_required=is_required,
        )

    def _replace(self, kind: type[Any], listed: Sequence[Any]) -> None:
        self._state.replace(kind, listed)
        self._has_pods = self._has_pods or kind is objects.PodObject

    async def _load(self) -> None:
        """What the store holds as current; again until it answers."""
        while True:
            try:
                recent = f"(until = 0 OR until > {int(self._clock() - REMEMBERED_SECONDS)})"
                peers = await asyncio.to_thread(_read, self._store, Peer, "peer_addresses", recent, self._cluster)
                newest = "1 ORDER BY time DESC LIMIT 1 BY namespace, workload, port"
                exposures = await asyncio.to_thread(_read, self._store, Exposure, "exposures", newest, self._cluster)
                break
            except StoreError as error:
                self._warn(f"what is stored cannot be read ({error})")
                await asyncio.sleep(FLUSH_SECONDS)
        self._placements.load(peers)
        open_peers = [peer for peer in peers if not peer.until]
        self._book, self._exposures = AddressBook(self._cluster, open_peers), ExposureBook(self._cluster, exposures)

    async def _check_access(self) -> None:
        """Waits until there is a configuration, so that its absence is logged once and not for each kind."""
        while True:
            try:
                return await (await asyncio.to_thread(open_client, self._kubeconfig)).aclose()
            except AccessError as error:
                self._warn(str(error))
                await asyncio.sleep(_OPEN_RETRY_SECONDS)

    async def _keep(self) -> None:
        """Each second, into the store what changed."""
        looked, rest_until = -1, 0.0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            changes = self._state.changes + self._address_changes
            if self._is_complete and changes != looked and time.monotonic() >= rest_until:
                looked, start = changes, time.monotonic()
                self._look()
                rest_until = time.monotonic() + _REST_FACTOR * (time.monotonic() - start)
            await self._flush()

    def _look(self) -> None:
        targets, now, address_changes = Targets(self._state), self._clock(), self._address_changes
        self._book.refresh(self._state, targets, now, dict(self._node_addresses))
        self._known_address_changes = address_changes
        self._exposures.refresh(self._state, targets, now)
        if words := self._exposures.take_words():
            self._on_words(words)

    async def _flush(self) -> None:
        peers, exposures = self._book.take_changed(self._clock()), self._exposures.take_changed()
        try:
            if peers:
                self.counts.skipped += await asyncio.to_thread(insert_most, self._store, "peer_addresses", peers)
                peers = []
            if exposures:
                self.counts.skipped += await asyncio.to_thread(insert_most, self._store, "exposures", exposures)
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
        *make_gauges(gauges, "kubernetes_"),
    )


def _read(store: Store, row: type[_Row], table: str, condition: str, cluster: str) -> Sequence[_Row]:
    names = [column.name for column in fields(row)]  # type: ignore[arg-type]
    rows = store.query(
        f"SELECT {', '.join(names)} FROM {table} FINAL WHERE cluster = {{cluster:String}} AND {condition}",
        {"cluster": cluster},
    )
    return [msgspec.convert(dict(zip(names, values, strict=True)), row) for values in rows]
