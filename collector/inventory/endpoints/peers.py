"""Names who held an address at a time: Pods, nodes and Services of the store's address book, and details of workloads.

It is asked at query time, so a cluster that is watched later names earlier calls too. An address that changed hands
within the time of the calls has several holders, and none is named as the one.

`read_workloads` gives what sensors know of Kubernetes workloads (kind, labels, zones) and of container images, for
services that are shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.core.rows import Service
from collector.kubernetes.rows import PeerKind
from collector.storage.records import Reader, read_record, select

HOLDERS_SHOWN = 4
_ADDRESSES_MAX = 10_000

_HOLDERS = """
SELECT cluster, address, port, since, until, kind, namespace, name, workload, workload_kind, node, services, workloads
FROM peer_addresses FINAL
WHERE (address IN {addresses:Array(String)} OR (address = '' AND port IN {ports:Array(UInt16)}))
    AND since < {end:UInt32} AND (until = 0 OR until >= {start:UInt32})
ORDER BY address, port, since, cluster, kind, namespace, name"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who held an address, of a Pod with what it belongs to. Times are unix seconds; `until` 0: still."""

    cluster: str
    kind: PeerKind
    namespace: str
    name: str
    workload: str
    workload_kind: str
    node: str
    services: tuple[str, ...]
    workloads: tuple[str, ...]
    since: int
    until: int

    @property
    def label(self) -> str:
        """In a few characters: `shop/orders` of a Pod (its workload) or Service, the name of a node."""
        return f"{self.namespace}/{self.workload or self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked: an end of calls. `port` 0: any; `cluster` None: whichever. Times are unix seconds."""

    address: str
    start: int
    end: int
    port: int = 0
    cluster: str | None = None


def call_of(consumer: str, start: int, end: int, cluster: str | None = None) -> Call:
    """The calls of a consumer, `kind:value`, which may be an address; of another kind nothing is asked."""
    kind, _, value = consumer.partition(":")
    return Call(address=value if kind == "address" else "", start=start, end=end, cluster=cluster)


class AddressHolders:
    """The holders of some addresses, as far as they matter for some calls."""

    def __init__(self, holders: Mapping[tuple[str, int], list[Holder]]) -> None:
        self._holders = holders

    def find(self, call: Call) -> tuple[Holder, ...]:
        """Everybody who held the end while the calls were made, earliest first; at most HOLDERS_SHOWN."""
        if not call.address:
            return ()
        exact = self._select(call, call.address, call.port) if call.port else ()
        anyone = self._select(call, call.address, 0)
        if not exact and call.port and any(holder.kind is PeerKind.NODE for holder in anyone):
            exact = self._select(call, "", call.port)  # The port of every node.
        return (exact or anyone)[:HOLDERS_SHOWN]

    def list_holders(self, call: Call) -> tuple[Holder, ...]:
        """All who held an address for themselves while the calls were made, earliest first."""
        return self._select(call, call.address, 0)

    def _select(self, call: Call, address: str, port: int) -> tuple[Holder, ...]:
        return tuple(
            holder
            for holder in self._holders.get((address, port), ())
            if holder.since <= call.end
            and (not holder.until or holder.until > call.start)
            and call.cluster in (None, holder.cluster)
        )


def has_address_book(reader: Reader) -> bool:
    """Whether it is known who held any address: not so on plain hosts. Raises StoreError."""
    return bool(select(reader, "SELECT address FROM peer_addresses LIMIT 1"))


def read_address_book(reader: Reader, calls: Iterable[Call]) -> AddressHolders:
    """What the store knows of these ends; one statement, none where nothing is asked. Raises StoreError."""
    asked = [call for call in calls if call.address]
    holders: dict[tuple[str, int], list[Holder]] = defaultdict(list)
    if asked:
        parameters = {
            "addresses": sorted({call.address for call in asked})[:_ADDRESSES_MAX],
            "ports": sorted({call.port for call in asked if call.port}),
            "start": max(0, min(call.start for call in asked)),
            "end": max(call.end for call in asked) + 1,
        }
        for row in select(reader, _HOLDERS, parameters):
            holders[row["address"], int(row["port"])].append(read_record(Holder, row))
    return AddressHolders(holders)


WORKLOADS_MAX = 20_000
Place = tuple[str, str, str, str]

# Of a service's `workload_kind`.
_CONTAINER = 2
# A workload of Kubernetes is one on all nodes; a container of another host is another.
_HOST = "if(namespace = '', node, '')"

_OF_WORKLOADS = f"""
SELECT cluster, namespace, workload, {_HOST} AS host, argMax(kind, time) AS kind, argMax(labels, time) AS labels,
    arraySort(arrayFilter(one -> one != '', groupUniqArray(zone))) AS zones, arraySort(groupUniqArray(node)) AS nodes
FROM workloads FINAL
WHERE workload IN {{workloads:Array(String)}}
GROUP BY cluster, namespace, workload, host
LIMIT {WORKLOADS_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedWorkload:
    """What a person deployed, as the sensors of its nodes told it last."""

    kind: str  # Deployment, StatefulSet, .., Pod, StaticPod.
    labels: Mapping[str, str]
    zones: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """What a container was made of, by OpenTelemetry's attributes container.image.*; empty where it is not known."""

    name: str = ""
    tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """Rows of `workloads`, each by its service's (cluster, namespace, workload, host name)."""

    workloads: Mapping[Place, DeployedWorkload]
    images: Mapping[Place, ContainerImage]

    def workload(self, service: Service) -> DeployedWorkload | None:
        """Of a service; None where it is of no workload of Kubernetes that is known."""
        return self.workloads.get((service.cluster, service.namespace, service.workload, ""))

    def image(self, service: Service) -> ContainerImage:
        """Of a service that is a container; empty where it is none or not known."""
        if service.workload_kind != _CONTAINER:
            return _NO_IMAGE
        return self.images.get((service.cluster, "", service.workload, service.host_name), _NO_IMAGE)


_NO_IMAGE = ContainerImage()


def read_workloads(reader: Reader, services: Iterable[Service]) -> Deployed:
    """What is known of services; nothing is asked where none has a namespace or is a container."""
    asked = (service for service in services if service.namespace or service.workload_kind == _CONTAINER)
    names = sorted({service.workload for service in asked})
    workloads: dict[Place, DeployedWorkload] = {}
    images: dict[Place, ContainerImage] = {}
    for row in select(reader, _OF_WORKLOADS, {"workloads": names}) if names else ():
        place = (row["cluster"], row["namespace"], row["workload"], row["host"])
        if row["namespace"]:
            workloads[place] = _read(row)
        else:
            images[place] = _read_image(row["labels"])
    return Deployed(workloads=workloads, images=images)


def _read_image(labels: Sequence[str]) -> ContainerImage:
    values: dict[str, list[str]] = {}
    for label in labels:
        key, _, value = label.partition("=")
        values.setdefault(key, []).append(value)
    return ContainerImage(
        name=values.get("container.image.name", [""])[0],
        tags=tuple(values.get("container.image.tags", ())),
        repo_digests=tuple(values.get("container.image.repo_digests", ())),
    )


def _read(row: Mapping[str, Any]) -> DeployedWorkload:
    pairs = (label.partition("=") for label in row["labels"])
    return DeployedWorkload(
        kind=row["kind"],
        labels={key: value for key, _, value in pairs},
        zones=tuple(row["zones"]),
        nodes=tuple(row["nodes"]),
    )


def condition_on_label(label: str) -> tuple[str, dict[str, str]]:
    """A condition over alias `n` of named routes: the workload has the label, `key=value` or a key alone."""
    if "=" in label:
        test, parameters = "has(labels, {label:String})", {"label": label}
    else:
        test, parameters = "arrayExists(one -> startsWith(one, {label:String}), labels)", {"label": f"{label}="}
    places = f"SELECT cluster, namespace, workload, {_HOST} FROM workloads FINAL WHERE {test}"
    # A unit or program may have the name of a container.
    is_described = f"(n.namespace != '' OR n.workload_kind = {_CONTAINER})"
    return f"({is_described} AND (n.cluster, n.namespace, n.workload, n.host_name) IN ({places}))", parameters
