"""What Kubernetes knows of this node: its Pods, whether they are watched, its zone and addresses.

`Cluster` watches the Pods with `spec.nodeName` = this node and the namespaces with the label apidae.io/watch. It reads
the node itself once for each list. While the API does not answer, Pods have the ids of their containers as names.

Whether a Pod is watched (docs/use/kubernetes.md has the same table). The first rule that applies wins:

1. `excluded_workloads`: off. Nobody in the cluster overrules the operator of Apidae.
2. `included_workloads`: on. So a team cannot exclude itself from what is named here.
3. Annotation `apidae.io/watch` of the Pod.
4. Label `apidae.io/watch` of its namespace.
5. System namespaces: off, unless `include_system_namespaces`, or the Pod is an ingress controller.
6. On.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

import httpx2
import msgspec

from common.figures import Figure, list_figures, make_gauges, make_totals, sum_accounts
from sensor.core.printable import make_printable
from sensor.enrich.cgroup import CgroupOwner
from sensor.enrich.kubernetes.pod import SIDECARS, WATCH_KEY, Pod, PodObject, read_pod
from sensor.enrich.kubernetes.resource_watch import AccessError, Resource, ResourceWatch, Sink, WatchCounts
from sensor.enrich.kubernetes.table import PodTable

logger = logging.getLogger(__name__)

# What a cluster brings itself, or its provider does.
SYSTEM_NAMESPACES: Final = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "openshift",
    "openshift-*",
    "gke-managed-*",
    "gmp-system",
    "calico-system",
    "calico-apiserver",
    "tigera-operator",
    "cattle-system",
    "cattle-fleet-*",
    "local-path-storage",
)
EXCLUDED: Final = "Switched off by the setting excluded_workloads."
ANNOTATED: Final = f"Switched off by the annotation {WATCH_KEY} of its Pod."
LABELLED: Final = f"Switched off by the label {WATCH_KEY} of its namespace."
SYSTEM: Final = "In a system namespace; include_system_namespaces switches these on."

_VALUES: Final = {"true": True, "false": False}
_MAX_TOLD: Final = 64  # Wrong values that are logged.


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRules:
    """What the settings say; patterns are `NAMESPACE` or `NAMESPACE/WORKLOAD` with `*` and `?`."""

    excluded: tuple[str, ...] = ()
    included: tuple[str, ...] = ()
    include_system_namespaces: bool = False


class Selection:
    """Says why a Pod is not watched. Thread-safe: the labels are replaced as a whole."""

    def __init__(self, rules: SelectionRules) -> None:
        self._rules = rules
        self._labels: Mapping[str, bool] = {}
        self._told: set[str] = set()
        self.generation = 0  # Rises where a verdict may have changed.

    def judge(self, pod: Pod) -> str:
        """Why it is left out; empty where it is watched."""
        rules = self._rules
        if _matches(rules.excluded, pod):
            return EXCLUDED
        if _matches(rules.included, pod):
            return ""
        annotated = self._read(pod.watch, f"annotation of the Pod {pod.namespace}/{pod.name}") if pod.watch else None
        if annotated is not None:
            return "" if annotated else ANNOTATED
        labelled = self._labels.get(pod.namespace)
        if labelled is not None:
            return "" if labelled else LABELLED
        is_system = any(fnmatchcase(pod.namespace, pattern) for pattern in SYSTEM_NAMESPACES)
        return SYSTEM if is_system and not rules.include_system_namespaces and not pod.is_ingress else ""

    def set_labels(self, values: Mapping[str, str]) -> None:
        """Values of the label `apidae.io/watch`, by namespace, of all that have it."""
        read = {name: self._read(value, f"label of the namespace {name}") for name, value in values.items()}
        labels = {name: value for name, value in read.items() if value is not None}
        if labels != self._labels:
            self._labels = labels
            self.generation += 1

    def _read(self, value: str, where: str) -> bool | None:
        """True or false; a value that is neither is told once and counts as none."""
        read = _VALUES.get(value.strip().lower())
        if read is None and where not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(where)
            logger.warning('the %s %s is %r, which is ignored; give "true" or "false"', WATCH_KEY, where, value[:63])
        return read


def _matches(patterns: Sequence[str], pod: Pod) -> bool:
    place = f"{pod.namespace}/{pod.workload}"
    return any(fnmatchcase(place if "/" in pattern else pod.namespace, pattern) for pattern in patterns)


ZONE_LABEL: Final = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What an operator may choose."""

    node: str
    zone: str = ""  # Empty: by the node's label.
    label_keys: tuple[str, ...] = ()
    rules: SelectionRules = field(default_factory=SelectionRules)


@dataclass(frozen=True, slots=True)
class PodName:
    """How a cgroup of a Pod is told."""

    namespace: str
    workload: str
    is_hop: bool  # A proxy for the Pod's other containers, or an ingress controller.
    left_out: str  # Why it is not watched; empty where it is.


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None


class _NodeAddress(msgspec.Struct):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct):
    addresses: list[_NodeAddress] | None = None


class _NodeObject(msgspec.Struct):
    metadata: _Metadata
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _NamespaceObject(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class Cluster:
    """The node's view of its cluster. Thread-safe: the watches write, one thread asks."""

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        open_client: Callable[[], httpx2.Client],
        random_source: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        first_rest_seconds: float = 1.0,
    ) -> None:
        """`open_client` may raise `AccessError`; it is tried again."""
        self._settings = settings
        self._open_client = open_client
        self._clock = clock
        self.pods = PodTable(clock=clock)
        self.selection = Selection(settings.rules)
        self.zone = settings.zone
        self._node_addresses: frozenset[str] = frozenset()
        self._namespaces: dict[str, str] = {}
        self._has_told_node = False
        self.pod_watch: ResourceWatch[PodObject] = ResourceWatch(
            Resource(
                path="/api/v1/pods",
                type=PodObject,
                selector=(("fieldSelector", f"spec.nodeName={settings.node}"),),
            ),
            Sink(replace=self._replace_pods, put=self._put_pod, remove=self._remove_pod),
            open_client=open_client,
            random_source=random_source,
            name="Pods of this node",
            clock=clock,
            first_rest_seconds=first_rest_seconds,
        )
        self.namespace_watch: ResourceWatch[_NamespaceObject] = ResourceWatch(
            Resource(path="/api/v1/namespaces", type=_NamespaceObject, selector=(("labelSelector", WATCH_KEY),)),
            Sink(replace=self._replace_namespaces, put=self._put_namespace, remove=self._remove_namespace),
            open_client=open_client,
            random_source=random_source,
            name="labels of namespaces",
            clock=clock,
            first_rest_seconds=first_rest_seconds,
        )

    def start(self, *, wait_seconds: float = 0.0) -> bool:
        """Begins to watch, and waits for the first list at most so long. Says whether it came."""
        self.pod_watch.start()
        self.namespace_watch.start()
        return self.pod_watch.wait_listed(wait_seconds)

    def stop(self) -> None:
        """Ends the watches; their threads end with their process at the latest."""
        self.pod_watch.stop()
        self.namespace_watch.stop()

    @property
    def generation(self) -> int:
        """Rises whenever names or verdicts given before may be old."""
        return self.pods.generation + self.selection.generation

    @property
    def node_addresses(self) -> frozenset[str]:
        """Addresses of the node itself; empty where it cannot be read."""
        return self._node_addresses

    def name(self, owner: CgroupOwner) -> PodName | None:
        """The Pod of a cgroup; None where it is of none, or of one that is not known yet."""
        pod = self.pods.find(container_id=owner.name, pod_uid=owner.pod_uid)
        if pod is None:
            return None
        is_hop = pod.is_ingress or pod.container_name(owner.name) in SIDECARS
        return PodName(pod.namespace, pod.workload, is_hop, self.selection.judge(pod))

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """`namespace/workload` of the only Pod of this node that held an address from `first_ns` to `last_ns` (unix
        ns); empty where there is none, and while the API does not answer: another Pod may have the address then."""
        if address in self._node_addresses or not self.pod_watch.is_current:
            return ""
        return self.pods.addresses.find(address, first_ns, last_ns)

    @property
    def degradation(self) -> str:
        """What does not work now, in one sentence; empty where everything does."""
        error = self.pod_watch.last_error
        if error:
            return f"the Kubernetes API does not answer ({error}): new Pods are named by their container ids"
        if self.namespace_watch.last_error:
            return f"labels of namespaces are not followed ({self.namespace_watch.last_error})"
        return ""

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        watched = sum_accounts(WatchCounts, (self.pod_watch.counts, self.namespace_watch.counts))
        age = self._clock() - self.pod_watch.last_contact
        gauges = (
            ("kubernetes_pods", "Pods of this node.", len(self.pods)),
            ("kubernetes_is_current", "1 while the Pods of this node are followed.", self.pod_watch.is_current),
            ("kubernetes_contact_age_seconds", "Time since the Kubernetes API sent something of Pods.", min(age, 1e9)),
        )
        evicted = (
            "kubernetes_pods_evicted",
            "Ended Pods that were forgotten early.",
            self.pods.evicted_count,
        )
        return (*make_gauges(gauges), *list_figures(watched, "kubernetes_"), *make_totals([evicted]))

    # The watches tell, in their threads.

    def _read(self, raw: PodObject) -> Pod:
        return read_pod(raw, label_keys=self._settings.label_keys)

    def _read_all(self, raw: Sequence[PodObject]) -> Iterator[Pod]:
        for one in raw:
            try:
                yield self._read(one)
            except Exception:
                # One Pod keeps no other from being known.
                self.pod_watch.counts.skipped += 1
                logger.exception("a Pod cannot be read; it is skipped")

    def _replace_pods(self, raw: Sequence[PodObject]) -> None:
        self.pods.replace(self._read_all(raw))
        self._read_node()

    def _put_pod(self, raw: PodObject) -> None:
        self.pods.put(self._read(raw))

    def _remove_pod(self, raw: PodObject) -> None:
        self.pods.remove(raw.metadata.uid)

    def _replace_namespaces(self, raw: Sequence[_NamespaceObject]) -> None:
        self._namespaces = {one.metadata.name: (one.metadata.labels or {}).get(WATCH_KEY, "") for one in raw}
        self.selection.set_labels(self._namespaces)

    def _put_namespace(self, raw: _NamespaceObject) -> None:
        self._namespaces[raw.metadata.name] = (raw.metadata.labels or {}).get(WATCH_KEY, "")
        self.selection.set_labels(self._namespaces)

    def _remove_namespace(self, raw: _NamespaceObject) -> None:
        self._namespaces.pop(raw.metadata.name, None)
        self.selection.set_labels(self._namespaces)

    def _read_node(self) -> None:
        """Zone and addresses of the node; without the right to read it there are none."""
        try:
            self.pod_watch.counts.requests += 1
            with self._open_client() as client:
                response = client.get(f"/api/v1/nodes/{self._settings.node}")
            if response.status_code != 200:
                raise ConnectionError(f"status {response.status_code}")
            node = msgspec.json.decode(response.content, type=_NodeObject)
        except (httpx2.HTTPError, AccessError, ConnectionError, msgspec.MsgspecError) as error:
            if not self._has_told_node:
                self._has_told_node = True
                logger.warning("the node %s cannot be read (%s): its zone is not known", self._settings.node, error)
            return
        self._node_addresses = frozenset(one.address for one in node.status.addresses or () if one.address)
        self.zone = self._settings.zone or make_printable((node.metadata.labels or {}).get(ZONE_LABEL, ""))
