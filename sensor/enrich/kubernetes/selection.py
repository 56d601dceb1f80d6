"""Which Pods are watched: the installation's filters, the Pod's annotation, its namespace's label, system namespaces.

First rule that says something wins (docs/kubernetes.md has the same table):

1. `excluded_workloads`: off. Who runs Apidae has the last word, and nobody in the cluster overrules it.
2. `included_workloads`: on. The same: a team cannot take itself out of what is named here.
3. Annotation `apidae.io/watch` of the Pod.
4. Label `apidae.io/watch` of its namespace.
5. System namespaces: off, unless `is_watching_system_namespaces`, or the Pod is an ingress controller.
6. On.

Pure but for the labels, which a watch replaces.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from sensor.enrich.kubernetes.pod import WATCH_KEY, Pod

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
SYSTEM: Final = "In a system namespace; is_watching_system_namespaces switches these on."

_VALUES: Final = {"true": True, "false": False}
_MAX_TOLD: Final = 64  # Wrong values that are logged.


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRules:
    """What the settings say; patterns are `NAMESPACE` or `NAMESPACE/WORKLOAD` with `*` and `?`."""

    excluded: tuple[str, ...] = ()
    included: tuple[str, ...] = ()
    is_watching_system_namespaces: bool = False


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
        return SYSTEM if is_system and not rules.is_watching_system_namespaces and not pod.is_ingress else ""

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
