"""Says who holds an address: Pods and nodes of the watched clusters now, and in the past by the store's address book.

Addresses of Pods are reused within minutes, so a block of an address is of its holder. It ends with that Pod. A block
of a workload covers the addresses of its Pods while they hold them. Addresses of nodes are shared, and no Pod's.

Nothing is known of a cluster until its Pods were listed. Until then blocks that follow holders stop nobody there.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from collector.alerting.alert import Report
from collector.alerting.wording import name_holder
from collector.core.kinds import ConsumerKind
from collector.inventory.endpoints.peers import Call, Holder, read_address_book
from collector.kubernetes.rows import HeldAddresses, Peer, PeerKind, PodHolder, WorkloadName
from collector.receiver.policy import NO_CLUSTER
from collector.storage.base import StoreError
from collector.storage.records import Reader

_DAY_SECONDS: Final = 86_400


class HolderWatch(Protocol):
    """The watch of one cluster, from any thread."""

    @property
    def cluster(self) -> str: ...
    @property
    def changes(self) -> int: ...
    def list_held(self) -> HeldAddresses | None: ...


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Of all clusters whose Pods are known."""

    by_address: dict[tuple[str, str], PodHolder] = field(default_factory=dict)  # By cluster and address.
    by_workload: defaultdict[tuple[str, str, str], set[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(set)
    )  # Kinds and addresses by cluster, namespace and name.
    nodes: dict[tuple[str, str], str] = field(default_factory=dict)
    clusters: set[str] = field(default_factory=set)


class Holders:
    """Thread-safe. What asks the store raises StoreError."""

    def __init__(self, watches: Sequence[HolderWatch], reader: Reader) -> None:
        self._watches = watches
        self._reader = reader
        self._lock = threading.Lock()
        self._version: tuple[int, ...] = ()
        self._snapshot = _Snapshot()

    @property
    def version(self) -> tuple[int, ...]:
        """Another one after each change."""
        return tuple(watch.changes for watch in self._watches)

    @property
    def has_watches(self) -> bool:
        """Whether any cluster is watched."""
        return bool(self._watches)

    def find_pods(self, address: str, clusters: Sequence[str]) -> list[PodHolder]:
        """The Pods that hold an address now, in these clusters; none: in all."""
        found = self._look().by_address
        return [found[place, address] for place in self._name_clusters(clusters) if (place, address) in found]

    def find_node(self, address: str, clusters: Sequence[str]) -> str:
        """The node that has an address; empty where none has."""
        nodes = self._look().nodes
        return next((nodes[one, address] for one in self._name_clusters(clusters) if (one, address) in nodes), "")

    def is_known(self, address: str) -> bool:
        """Whether a Pod or a node of any cluster has an address now."""
        return bool(self.find_pods(address, ()) or self.find_node(address, ()))

    def find_kinds(self, name: WorkloadName, clusters: Sequence[str]) -> dict[str, set[str]]:
        """The kinds of running workloads of this name, by cluster."""
        found = self._look().by_workload
        kinds = {
            place: {kind for kind, _ in found.get((place, name.namespace, name.name), ()) if name.kind in ("", kind)}
            for place in self._name_clusters(clusters)
        }
        return {place: some for place, some in kinds.items() if some}

    def list_addresses(self, name: WorkloadName, cluster: str) -> tuple[str, ...]:
        """What the Pods of a workload hold now."""
        found = self._look().by_workload.get((cluster, name.namespace, name.name), ())
        return tuple(sorted(address for kind, address in found if name.kind in ("", kind)))

    def is_held(self, address: str, holder: PodHolder) -> bool | None:
        """Whether a Pod still holds an address; None while the Pods of its cluster are not known."""
        snapshot = self._look()
        if holder.cluster not in snapshot.clusters:
            return None
        return snapshot.by_address.get((holder.cluster, address)) == holder

    def list_past(self, address: str, start: float, end: float, clusters: Sequence[str]) -> list[Holder]:
        """Who held an address within a time, the newest first; asks the store."""
        return self._read_past([(address, clusters)], start, end)[0]

    def list_all_past(self, asked: Sequence[tuple[str, Sequence[str]]], start: float, end: float) -> list[list[Holder]]:
        """The same of many addresses, each in its clusters, by one question to the store."""
        return self._read_past(asked, start, end) if asked else []

    def describe(self, asked: Sequence[tuple[str, Sequence[str]]], now: float) -> list[str]:
        """Who holds addresses in clusters, and who held them in the 24 hours before, in words; one question to the
        store."""
        return [describe_holders(held, now) for held in self._read_past(asked, now - _DAY_SECONDS, now)]

    def name_accused(self, report: Report, clusters: Sequence[str], now: float) -> Report:
        """A report with who held the address that it accuses, while the calls were made."""
        kind, _, address = report.consumer.partition(":")
        if kind != ConsumerKind.ADDRESS:
            return report
        try:
            holders = self._list_lasting(address, report.window_start, clusters) or self.list_past(
                address, report.window_start, report.window_end, clusters
            )
        except StoreError:  # Better an alert without the name than no alert.
            return report
        if not holders:
            return report
        label = ", ".join(dict.fromkeys(holder.label for holder in holders))
        return name_holder(report, label, describe_holders(holders, now))

    def _list_lasting(self, address: str, start: float, clusters: Sequence[str]) -> list[Holder]:
        """The Pods that hold an address now and have held it since before `start`, one in each of these clusters: then
        nobody else did meanwhile, and the store is not asked. Else none."""
        pods = [pod for pod in self.find_pods(address, clusters) if pod.since <= start]
        if not clusters or len(pods) != len(clusters) or self.find_node(address, clusters):
            return []
        return [
            Holder(
                cluster="" if pod.cluster == NO_CLUSTER else pod.cluster,
                kind=PeerKind.POD,
                namespace=pod.namespace,
                name=pod.name,
                workload=pod.workload,
                workload_kind=pod.workload_kind,
                node="",
                services=(),
                workloads=(),
                since=pod.since,
                until=0,
            )
            for pod in pods
        ]

    def _read_past(self, asked: Sequence[tuple[str, Sequence[str]]], start: float, end: float) -> list[list[Holder]]:
        if not self._watches:
            return [[] for _ in asked]
        calls = [Call(address=address, start=int(start), end=int(end)) for address, _ in asked]
        book = read_address_book(self._reader, calls)
        return [
            sorted(
                (one for one in book.list_holders(call) if not clusters or (one.cluster or NO_CLUSTER) in clusters),
                key=lambda one: (one.until > 0, -one.since),
            )
            for call, (_, clusters) in zip(calls, asked, strict=True)
        ]

    def _name_clusters(self, clusters: Sequence[str]) -> Sequence[str]:
        return clusters or sorted(self._look().clusters)

    def _look(self) -> _Snapshot:
        version = self.version
        with self._lock:
            if version != self._version:
                self._snapshot, self._version = _take_snapshot(self._watches), version
            return self._snapshot


def _take_snapshot(watches: Sequence[HolderWatch]) -> _Snapshot:
    """7 ms for 5,000 Pods."""
    snapshot = _Snapshot()
    for watch in watches:
        held, cluster = watch.list_held(), watch.cluster or NO_CLUSTER
        if held is None:
            continue
        snapshot.clusters.add(cluster)
        snapshot.nodes.update({(cluster, address): node for address, node in held.nodes.items()})
        for peer in held.pods:
            holder = make_holder(peer)
            snapshot.by_address[cluster, peer.address] = holder
            if holder.has_workload:
                place = (cluster, peer.namespace, peer.workload)
                snapshot.by_workload[place].add((peer.workload_kind, peer.address))
    return snapshot


def make_holder(peer: Peer | Holder) -> PodHolder:
    """A Pod of the address book."""
    return PodHolder(
        cluster=peer.cluster or NO_CLUSTER,
        namespace=peer.namespace,
        name=peer.name,
        workload_kind=peer.workload_kind,
        workload=peer.workload,
        since=peer.since,
    )


def describe_holders(holders: Sequence[Holder], now: float) -> str:
    """`pod shop/scraper-7d of shop/Deployment/scraper since 05:42 UTC (before: pod churn/c32)`; empty where nobody held
    it. Those that hold it come first, then the newest. Of several clusters each has its name."""
    if not holders:
        return ""
    has_many = len({holder.cluster for holder in holders}) > 1

    def name(holder: Holder) -> str:
        return _name(holder) + (f" in {holder.cluster or NO_CLUSTER}" if has_many else "")

    current = [holder for holder in holders if not holder.until]
    first = current or holders[:1]
    before = [holder for holder in holders if holder not in first]
    text = ", ".join(
        f"{name(one)} {'until' if one.until else 'since'} {_write_time(one.until or one.since, now)}" for one in first
    )
    return f"{text} (before: {', '.join(map(name, before))})" if before else text


def _name(holder: Holder) -> str:
    if holder.kind is PeerKind.POD:
        return str(make_holder(holder))
    return f"{holder.kind} {holder.namespace}/{holder.name}" if holder.namespace else f"{holder.kind} {holder.name}"


def _write_time(seconds: float, now: float) -> str:
    form = "%H:%M UTC" if abs(now - seconds) < _DAY_SECONDS else "%Y-%m-%d %H:%M UTC"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
