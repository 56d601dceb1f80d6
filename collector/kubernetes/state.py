"""Everything that one API server said, kept up to date: lists and events in, objects by kind out. No edge, no clock.

Bounded: of each kind at most OBJECTS_MAX objects; what is past them is counted in `dropped` and named nowhere.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from collector.kubernetes.objects import (
    EndpointSliceObject,
    GatewayObject,
    HttpRouteObject,
    IngressObject,
    KubernetesObject,
    NamespaceObject,
    NetworkPolicyObject,
    PodObject,
    ServiceObject,
)
from collector.kubernetes.pod import Pod, read_pod

# Of one kind; Kubernetes itself is built for 150,000 Pods, some 100 MB here.
OBJECTS_MAX = 150_000
# The annotations that are read are short; longer ones are copies of the whole object and the like.
_ANNOTATION_BYTES_MAX = 512

Key = tuple[str, str]
_Kept = TypeVar("_Kept")
OnPod = Callable[[Pod | None, Pod | None], None]


class ClusterState:
    """One thread at a time."""

    def __init__(self, on_pod: OnPod = lambda before, after: None) -> None:
        """`on_pod` is told of every Pod that came, changed or went: what it was and what it is."""
        self._on_pod = on_pod
        self._kinds: dict[type, dict[Key, object]] = {
            kind: {}
            for kind in (
                PodObject,
                ServiceObject,
                EndpointSliceObject,
                IngressObject,
                GatewayObject,
                HttpRouteObject,
                NamespaceObject,
                NetworkPolicyObject,
            )
        }
        self.changes = 0
        self.dropped = 0

    def begin(self, kind: type[KubernetesObject]) -> "Listing":
        """A whole list, to come page by page; nothing changes before it is finished."""
        return Listing(kind, self)

    def replace(self, kind: type[KubernetesObject], kept: dict[Key, object]) -> None:
        """What is not in the list is gone."""
        before = self._kinds[kind]
        self._kinds[kind] = kept
        self.changes += 1
        if kind is PodObject:
            for key in [*before.keys() - kept.keys(), *kept]:
                self._tell(before.get(key), kept.get(key))

    def put(self, one: KubernetesObject) -> None:
        """Added or modified."""
        kept, compact = self._kinds[type(one)], _compact(one)
        if kept.get(one.key) == compact:
            return  # Most updates touch what is not kept: a heartbeat, a condition.
        if one.key not in kept and len(kept) >= OBJECTS_MAX:
            self.dropped += 1
            return
        before, kept[one.key] = kept.get(one.key), compact
        self.changes += 1
        self._tell(before, compact)

    def remove(self, one: KubernetesObject) -> None:
        """Deleted."""
        before = self._kinds[type(one)].pop(one.key, None)
        if before is not None:
            self.changes += 1
            self._tell(before, None)

    @property
    def pods(self) -> Mapping[Key, Pod]:
        """Pods by (namespace, name), as the others."""
        return self._read(PodObject, Pod)

    @property
    def services(self) -> Mapping[Key, ServiceObject]:
        return self._read(ServiceObject, ServiceObject)

    @property
    def slices(self) -> Mapping[Key, EndpointSliceObject]:
        return self._read(EndpointSliceObject, EndpointSliceObject)

    @property
    def ingresses(self) -> Mapping[Key, IngressObject]:
        return self._read(IngressObject, IngressObject)

    @property
    def gateways(self) -> Mapping[Key, GatewayObject]:
        return self._read(GatewayObject, GatewayObject)

    @property
    def http_routes(self) -> Mapping[Key, HttpRouteObject]:
        return self._read(HttpRouteObject, HttpRouteObject)

    @property
    def namespaces(self) -> Mapping[Key, NamespaceObject]:
        return self._read(NamespaceObject, NamespaceObject)

    @property
    def policies(self) -> Mapping[Key, NetworkPolicyObject]:
        return self._read(NetworkPolicyObject, NetworkPolicyObject)

    def _tell(self, before: object, after: object) -> None:
        if before != after and isinstance(before, Pod | None) and isinstance(after, Pod | None):
            self._on_pod(before, after)

    def _read(self, kind: type, kept: type[_Kept]) -> Mapping[Key, _Kept]:
        return self._kinds[kind]  # type: ignore[return-value]


class Listing:
    """Pages of one list; each object is let go once it is read."""

    def __init__(self, kind: type[KubernetesObject], state: ClusterState) -> None:
        self._kind = kind
        self._state = state
        self._kept: dict[Key, object] = {}

    def add(self, page: Iterable[KubernetesObject]) -> None:
        """The next page."""
        for one in page:
            if len(self._kept) < OBJECTS_MAX:
                self._kept[one.key] = _compact(one)
            else:
                self._state.dropped += 1

    def finish(self) -> None:
        """That was all."""
        self._state.replace(self._kind, self._kept)


def _compact(one: KubernetesObject) -> object:
    """What is kept: of the metadata what never changes without meaning."""
    if isinstance(one, PodObject):
        return read_pod(one)
    annotations = {k: v for k, v in (one.metadata.annotations or {}).items() if len(v) <= _ANNOTATION_BYTES_MAX}
    metadata = msgspec.structs.replace(one.metadata, resource_version="", annotations=annotations)
    return msgspec.structs.replace(one, metadata=metadata)
