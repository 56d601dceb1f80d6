"""The state of one cluster, kept up to date: objects of the API server in, what is kept of them out. No I/O, no clock.

Bounded: at most OBJECTS_MAX objects of each kind. Further ones are counted and named nowhere. A `Pod` takes a few
hundred bytes of the ten thousand that the API server sends.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from collector.kubernetes.objects import (
    Address,
    EndpointSliceObject,
    NamespaceObject,
    NetworkPolicyObject,
    Object,
    PodObject,
    ServiceObject,
)
from common.kubernetes.objects import Workload, find_workload, read_time
from common.kubernetes.reflector import OBJECTS_MAX, WatchCounts

_ENDED = frozenset({"Succeeded", "Failed"})  # Its address may be another's already.


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port that a container declares; `host_port` is 0 where the node does not forward one."""

    number: int
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`addresses` is empty before it has any and after it has ended. `started_at`: unix seconds, 0 where unknown."""

    namespace: str
    name: str
    uid: str
    workload: Workload
    node: str
    addresses: tuple[str, ...]
    node_addresses: tuple[str, ...]
    is_host_network: bool
    started_at: int
    labels: tuple[tuple[str, str], ...]
    ports: tuple[PodPort, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


def read_pod(pod: PodObject) -> Pod:
    """What is kept of a Pod; equal texts are one object in memory."""
    spec, status, metadata = pod.spec, pod.status, pod.metadata
    containers = (*(spec.containers or ()), *(spec.init_containers or ()))
    workload = find_workload(metadata, spec.node_name)
    has_ended = status.phase in _ENDED
    return Pod(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        workload=Workload(sys.intern(workload.kind), sys.intern(workload.name)),
        node=sys.intern(spec.node_name),
        addresses=() if has_ended else _read_addresses(status.pod_ip, status.pod_ips),
        node_addresses=tuple(map(sys.intern, _read_addresses(status.host_ip, status.host_ips))),
        is_host_network=bool(spec.host_network),
        started_at=read_time(status.start_time),
        labels=tuple((sys.intern(key), sys.intern(value)) for key, value in sorted((metadata.labels or {}).items())),
        ports=tuple(
            PodPort(port.container_port, port.host_port or 0)
            for container in containers
            for port in container.ports or ()
            if port.protocol == "TCP"
        ),
    )


def _read_addresses(first: str, others: tuple[Address, ...] | None) -> tuple[str, ...]:
    """Without what comes twice: the first is in the list too."""
    found = dict.fromkeys([first, *(other.ip for other in others or ())])
    return tuple(text for text in found if text)


# The annotations that are read are short; longer ones are copies of the whole object and the like.
_ANNOTATION_BYTES_MAX = 512

Key = tuple[str, str]
Kept = Pod | Object
_Kind = TypeVar("_Kind", bound=Object)
OnPod = Callable[[Pod | None, Pod | None], None]


class ClusterState:
    """One thread at a time."""

    def __init__(self, on_pod: OnPod = lambda before, after: None, counts: WatchCounts | None = None) -> None:
        """`on_pod` gets every Pod that came, changed or went: what it was and what it is."""
        self._on_pod = on_pod
        self._counts = counts or WatchCounts()
        self._kinds: dict[type, dict[Key, Any]] = defaultdict(dict)
        self.changes = 0

    def replace(self, kind: type, listed: Sequence[Kept]) -> None:
        """What is not in the list is gone."""
        before, kept = self._kinds[kind], {one.key: one for one in listed}
        self._kinds[kind] = kept
        self.changes += 1
        if kind is PodObject:
            for key in [*before.keys() - kept.keys(), *kept]:
                self._report_pod(before.get(key), kept.get(key))

    def put(self, kind: type, one: Kept) -> None:
        """Added or modified."""
        kept = self._kinds[kind]
        before = kept.get(one.key)
        if before == one:
            return  # Most updates touch what is not kept: a heartbeat, a condition.
        if before is None and len(kept) >= OBJECTS_MAX:
            self._counts.objects_dropped += 1
            return
        kept[one.key] = one
        self.changes += 1
        self._report_pod(before, one)

    def remove(self, kind: type, one: Kept) -> None:
        """Deleted."""
        before = self._kinds[kind].pop(one.key, None)
        if before is not None:
            self.changes += 1
            self._report_pod(before, None)

    @property
    def pods(self) -> Mapping[Key, Pod]:
        """By (namespace, name), as the others."""
        return self._kinds[PodObject]

    def of(self, kind: type[_Kind]) -> Mapping[Key, _Kind]:
        """The objects of a kind that is kept as it is decoded."""
        return self._kinds[kind]

    @property
    def services(self) -> Mapping[Key, ServiceObject]:
        return self._kinds[ServiceObject]

    @property
    def slices(self) -> Mapping[Key, EndpointSliceObject]:
        return self._kinds[EndpointSliceObject]

    @property
    def namespaces(self) -> Mapping[Key, NamespaceObject]:
        return self._kinds[NamespaceObject]

    @property
    def policies(self) -> Mapping[Key, NetworkPolicyObject]:
        return self._kinds[NetworkPolicyObject]

    def _report_pod(self, before: object, after: object) -> None:
        if before != after and isinstance(before, Pod | None) and isinstance(after, Pod | None):
            self._on_pod(before, after)


def read_kept(one: Object) -> Kept:
    """What is kept of an object: of the metadata what never changes without meaning."""
    if isinstance(one, PodObject):
        return read_pod(one)
    annotations = {k: v for k, v in (one.metadata.annotations or {}).items() if len(v) <= _ANNOTATION_BYTES_MAX}
    metadata = msgspec.structs.replace(one.metadata, resource_version="", annotations=annotations)
    return msgspec.structs.replace(one, metadata=metadata)
