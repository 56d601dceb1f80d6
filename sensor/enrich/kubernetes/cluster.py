"""What Kubernetes knows of this node: its Pods, whether they are watched, its zone and addresses.

`Cluster` watches the Pods with `spec.nodeName` = this node and the namespaces, of which it keeps Apidae's own labels.
It reads the node itself once for each list. While the API does not answer, Pods have the ids of their containers as
names.

Whether a Pod is watched (docs/use/kubernetes.md has the same table). The first rule that applies wins:

1. `excluded_workloads`: off. Nobody in the cluster overrules the operator of Apidae.
2. `included_workloads`: on. So a team cannot exclude itself from what is named here.
3. Annotation `apidae.io/watch` of the Pod.
4. Label `apidae.io/watch` of its namespace.
5. System namespaces: off, unless the Pod is an ingress controller.
6. On.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from common.figures import Figure, list_figures, make_gauges, make_totals, sum_accounts
from common.kubernetes.objects import Metadata, Part
from common.kubernetes.reflector import (
    AccessError,
    ApiError,
    LoopThread,
    OpenClient,
    Reflector,
    Resource,
    WatchCounts,
    ask,
)
from sensor.core.attachments import PodConsent
from sensor.core.printable import SENTENCE_BYTES_MAX, make_printable
from sensor.core.read_tls import READ_TLS_KEY, UNKNOWN_POD, ReadTls, TlsChoice, choose
from sensor.enrich.cgroup import CgroupOwner
from sensor.enrich.kubernetes.pod import ATTACH_KEY, MESH_PROXIES, WATCH_KEY, Pod, PodObject, PodTable, read_pod

logger = logging.getLogger(__name__)

# What a cluster brings itself, or its provider does.
_SYSTEM_WORDS: Final = (
    "kube-system kube-public kube-node-lease openshift openshift-* gke-managed-* gmp-system "
    "calico-system calico-apiserver tigera-operator cattle-system cattle-fleet-* local-path-storage"
)
SYSTEM_NAMESPACES: Final = tuple(_SYSTEM_WORDS.split())
EXCLUDED: Final = "Switched off by the setting excluded_workloads."
ANNOTATED: Final = f"Switched off by the annotation {WATCH_KEY} of its Pod."
LABELLED: Final = f"Switched off by the label {WATCH_KEY} of its namespace."
SYSTEM: Final = "In a system namespace; name it in included_workloads to watch it."

_STOP_SECONDS: Final = 2.0
_VALUES: Final = {"true": True, "false": False}
_REPORTED_MAX: Final = 64  # Wrong values that are logged.
_LABEL_KEYS: Final = (WATCH_KEY, READ_TLS_KEY, ATTACH_KEY)  # Of namespaces.


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRules:
    """What the settings say; patterns are `NAMESPACE` or `NAMESPACE/WORKLOAD` with `*` and `?`."""

    excluded: tuple[str, ...] = ()
    included: tuple[str, ...] = ()


class Choices:
    """Values of one annotation or label: true or false. What is neither is logged once and counts as none."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._reported: set[str] = set()

    def read(self, value: str, where: str) -> bool | None:
        """`where`: whose annotation or label it is."""
        read = _VALUES.get(value.strip().lower())
        if read is None and where not in self._reported and len(self._reported) < _REPORTED_MAX:
            self._reported.add(where)
            logger.warning('the %s %s is %r, which is ignored; give "true" or "false"', self._key, where, value[:63])
        return read

    def read_annotation(self, value: str, pod: Pod) -> bool | None:
        """Of a Pod; None where it has none."""
        return self.read(value, f"annotation of the Pod {pod.namespace}/{pod.name}") if value else None

    def read_labels(self, values: Mapping[str, str]) -> dict[str, bool]:
        """Of namespaces, by their name."""
        read = {name: self.read(value, f"label of the namespace {name}") for name, value in values.items()}
        return {name: value for name, value in read.items() if value is not None}


class Selection:
    """Says why a Pod is not watched. Thread-safe: the labels are replaced as a whole."""

    def __init__(self, rules: SelectionRules) -> None:
        self._rules = rules
        self._labels: Mapping[str, bool] = {}
        self._choices = Choices(WATCH_KEY)
        self.generation = 0  # Rises where a verdict may have changed.

    def find_exclusion(self, pod: Pod) -> str:
        """Why a Pod is not watched; empty where it is."""
        rules = self._rules
        if _matches(rules.excluded, pod):
            return EXCLUDED
        if _matches(rules.included, pod):
            return ""
        annotated = self._choices.read_annotation(pod.watch, pod)
        if annotated is not None:
            return "" if annotated else ANNOTATED
        labelled = self._labels.get(pod.namespace)
        if labelled is not None:
            return "" if labelled else LABELLED
        is_system = any(fnmatchcase(pod.namespace, pattern) for pattern in SYSTEM_NAMESPACES)
        return SYSTEM if is_system and not pod.is_ingress else ""

    def set_labels(self, values: Mapping[str, str]) -> None:
        """Values of the label `apidae.io/watch`, by namespace, of all that have it."""
        labels = self._choices.read_labels(values)
        if labels != self._labels:
            self._labels = labels
            self.generation += 1


class AttachChoices:
    """Which Pods consent to the Java agent. Thread-safe, as `Selection`."""

    def __init__(self) -> None:
        self._labels: Mapping[str, bool] = {}
        self._choices = Choices(ATTACH_KEY)
        self.generation = 0  # Rises where a namespace may have changed its mind.

    def find(self, pod: Pod) -> PodConsent:
        """Of a Pod that the API server knows."""
        return PodConsent(
            namespace=pod.namespace,
            name=pod.name,
            annotated=self._choices.read_annotation(pod.attach_java, pod),
            labelled=self._labels.get(pod.namespace),
        )

    def set_labels(self, values: Mapping[str, str]) -> None:
        """Values of the label, by namespace, of all that have it."""
        labels = self._choices.read_labels(values)
        if labels != self._labels:
            self._labels = labels
            self.generation += 1


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
    """The names of a cgroup of a Pod."""

    namespace: str
    workload: str
    is_hop: bool  # A proxy for the Pod's other containers, or an ingress controller.
    left_out: str  # Why it is not watched; empty where it is.
    is_proxy: bool = False  # What it calls others asked for: a sidecar, or a proxy of the node.


class _NodeAddress(Part, frozen=True, kw_only=True):
    address: str = ""


class _NodeStatus(Part, frozen=True, kw_only=True):
    addresses: list[_NodeAddress] | None = None


class _NodeObject(Part, frozen=True, kw_only=True):
    metadata: Metadata
    status: _NodeStatus = _NodeStatus()


class _NamespaceObject(Part, frozen=True, kw_only=True):
    metadata: Metadata = Metadata()


def _read_labels(raw: _NamespaceObject) -> tuple[str, dict[str, str]]:
    """A namespace and those of its labels that are Apidae's."""
    labels = raw.metadata.labels or {}
    return make_printable(raw.metadata.name), {key: make_printable(labels[key]) for key in _LABEL_KEYS if key in labels}


class Cluster:
    """The node's view of its cluster. Thread-safe: one thread watches, one asks."""

    def __init__(
        self, settings: ClusterSettings, *, open_client: OpenClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`open_client` may raise `AccessError`; it is tried again."""
        self._settings = settings
        self._open_client = open_client
        self._clock = clock
        self.pods = PodTable(clock=clock)
        self.selection = Selection(settings.rules)
        self.attach_choices = AttachChoices()
        self.zone = settings.zone
        self.node_addresses: frozenset[str] = frozenset()  # Empty where the node cannot be read.
        self._namespaces: dict[str, dict[str, str]] = {}  # Labels by key, of those that have any of ours.
        self._is_labelled = False  # Namespaces were listed.
        self._warned: set[str] = set()  # Pods whose choice of TLS was logged.
        self._has_reported_node = False
        self._is_listed = asyncio.Event()
        self._is_ready = threading.Event()  # Pods were listed, and the node was read.
        self._thread = LoopThread(self._watch, "apidae-kubernetes")
        self.pod_watch = Reflector(
            Resource(
                name="Pods of this node",
                path="/api/v1/pods",
                type=PodObject,
                read=lambda raw: read_pod(raw, label_keys=settings.label_keys),
                replace=self._replace_pods,
                put=self.pods.put,
                remove=lambda pod: self.pods.remove(pod.object_uid),
                selector=(("fieldSelector", f"spec.nodeName={settings.node}"),),
            ),
            open_client,
            clock=clock,
        )
        self.namespace_watch = Reflector(
            Resource(
                name="labels of namespaces",
                path="/api/v1/namespaces",
                type=_NamespaceObject,
                read=_read_labels,
                replace=self._replace_namespaces,
                put=lambda one: self._replace_namespaces([*self._namespaces.items(), one]),
                remove=lambda gone: self._replace_namespaces(
                    [one for one in self._namespaces.items() if one[0] != gone[0]]
                ),
            ),
            open_client,
            clock=clock,
        )

    def start(self, *, wait_seconds: float = 0.0) -> bool:
        """Begins to watch, and waits for the first list at most so long. Returns whether it came."""
        self._thread.start()
        return self._is_ready.wait(wait_seconds)

    def stop(self) -> None:
        """Ends the watches; their thread ends with its process at the latest."""
        self._thread.stop(_STOP_SECONDS)

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            for run in (self.pod_watch.run, self.namespace_watch.run, self._follow_node):
                group.create_task(run())

    @property
    def generation(self) -> int:
        """Rises whenever names or verdicts given before may be old."""
        return self.pods.generation + self.selection.generation

    def name(self, owner: CgroupOwner) -> PodName | None:
        """The Pod of a cgroup; None where it is of none, or of one that is not known yet."""
        pod = self.pods.find(container_id=owner.name, pod_uid=owner.pod_uid)
        if pod is None:
            return None
        is_proxy = pod.container_name(owner.name) in MESH_PROXIES
        left_out = self.selection.find_exclusion(pod)
        return PodName(pod.namespace, pod.workload, is_proxy or pod.is_ingress, left_out, is_proxy)

    def pod_workload(self, uid: str) -> str:
        """`namespace/workload` of the Pod to which the API server gave a uid; empty where it gave it to none, as that
        of a static Pod."""
        pod = self.pods.get(uid)
        return f"{pod.namespace}/{pod.workload}" if pod is not None else ""

    def find_tls_choice(self, pod_uid: str, setting: ReadTls) -> TlsChoice:
        """How much of a Pod's TLS is read; nothing before its annotation and the label of its namespace are known."""
        pod = self.pods.find(container_id="", pod_uid=pod_uid)
        if pod is None or not self._is_labelled:
            return UNKNOWN_POD if setting is not ReadTls.OFF else TlsChoice(mode=setting)
        labels = self._namespaces.get(pod.namespace, {})
        choice = choose(setting, namespace=labels.get(READ_TLS_KEY, ""), pod=pod.read_tls)
        if choice.reason and pod.object_uid not in self._warned and len(self._warned) < _REPORTED_MAX:
            self._warned.add(pod.object_uid)
            logger.info("TLS of the Pod %s/%s is not read: %s", pod.namespace, pod.name, choice.reason)
        return choice

    @property
    def consent_generation(self) -> int:
        """Rises whenever `find_consent` may give something else."""
        return self.pods.consent_generation + self.attach_choices.generation

    def find_consent(self, uid: str) -> PodConsent | None:
        """What the Pod to which the API server gave a uid says of the Java agent; None where it gave it to none."""
        pod = self.pods.get(uid)
        return self.attach_choices.find(pod) if pod is not None else None

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """`namespace/workload` of the only Pod of this node that held an address from `first_ns` to `last_ns` (unix
        ns); empty where there is none, and while the API does not answer: another Pod may have the address then."""
        if address in self.node_addresses or not self.is_current:
            return ""
        return self.pods.addresses.find(address, first_ns, last_ns)

    @property
    def is_current(self) -> bool:
        """Whether the Pods of this node are followed now."""
        return self._is_ready.is_set() and self.pod_watch.is_current

    @property
    def degradation(self) -> str:
        """What does not work now, in one sentence; empty where everything does."""
        pods, namespaces = (
            make_printable(watch.reason, SENTENCE_BYTES_MAX) for watch in (self.pod_watch, self.namespace_watch)
        )
        if pods:
            return f"Pods are not followed ({pods}): new ones are named by their container ids"
        return f"labels of namespaces are not followed ({namespaces})" if namespaces else ""

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        watched = sum_accounts(WatchCounts, (self.pod_watch.counts, self.namespace_watch.counts))
        age = self._clock() - self.pod_watch.last_contact
        gauges = (
            ("kubernetes_pods", "Pods of this node.", len(self.pods)),
            ("kubernetes_is_current", "1 while the Pods of this node are followed.", self.is_current),
            ("kubernetes_contact_age_seconds", "Time since the Kubernetes API sent something of Pods.", min(age, 1e9)),
        )
        evicted = (
            "kubernetes_pods_evicted",
            "Ended Pods that were forgotten early.",
            self.pods.evicted_count,
        )
        return (*make_gauges(gauges), *list_figures(watched, "kubernetes_"), *make_totals([evicted]))

    # In the thread of the watches.

    def _replace_pods(self, pods: Sequence[Pod]) -> None:
        self.pods.replace(pods)
        self._is_listed.set()

    def _replace_namespaces(self, namespaces: Sequence[tuple[str, dict[str, str]]]) -> None:
        self._namespaces = {name: labels for name, labels in dict(namespaces).items() if labels}
        self._is_labelled = True
        self.selection.set_labels(self._list_labels(WATCH_KEY))
        self.attach_choices.set_labels(self._list_labels(ATTACH_KEY))

    def _list_labels(self, key: str) -> dict[str, str]:
        return {name: labels[key] for name, labels in self._namespaces.items() if key in labels}

    async def _follow_node(self) -> None:
        """Reads the node after each list of its Pods: its zone and addresses change hardly ever."""
        while True:
            await self._is_listed.wait()
            self._is_listed.clear()
            try:
                await self._read_node()
            except Exception:  # A loop boundary: names do not need the node's zone.
                logger.exception("reading the node %s failed", self._settings.node)
            self._is_ready.set()

    async def _read_node(self) -> None:
        """Zone and addresses of the node; without the right to read it there are none."""
        self.pod_watch.counts.requests += 1
        try:
            node = await ask(self._open_client, f"/api/v1/nodes/{self._settings.node}", _NodeObject)
        except (AccessError, ApiError) as error:
            if not self._has_reported_node:
                self._has_reported_node = True
                logger.warning("the node %s cannot be read (%s): its zone is not known", self._settings.node, error)
            return
        self.node_addresses = frozenset(one.address for one in node.status.addresses or () if one.address)
        self.zone = self._settings.zone or make_printable((node.metadata.labels or {}).get(ZONE_LABEL, ""))
