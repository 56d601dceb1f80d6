"""The objects behind the fake Kubernetes API: kinds, revisions, selectors, the history that a watch is told from.

Follows the API conventions (kubernetes/community contributors/devel/sig-architecture/api-conventions.md) and "API
Concepts" of the Kubernetes documentation: one revision for all kinds, rising by one with each write; a watch from a
revision is told every later change, an object that leaves the selector as DELETED and one that enters it as ADDED; what
is older than the compaction is gone (410).
"""

import copy
import itertools
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of object and where it is served."""

    group_version: str  # `v1`, `apps/v1`.
    kind: str
    plural: str
    is_namespaced: bool = True
    # Beside metadata.name and metadata.namespace, which every kind has.
    selectable_fields: frozenset[str] = frozenset()


# pkg/registry/core/pod/strategy.go, ToSelectableFields.
_POD_FIELDS = frozenset(
    f"{part}.{name}"
    for part, names in {
        "spec": ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName", "hostNetwork"),
        "status": ("phase", "podIP", "podIPs", "nominatedNodeName"),
    }.items()
    for name in names
)
KINDS = (
    Kind(group_version="v1", kind="Pod", plural="pods", selectable_fields=_POD_FIELDS),
    Kind(group_version="v1", kind="Service", plural="services"),
    Kind(group_version="v1", kind="Node", plural="nodes", is_namespaced=False),
    Kind(group_version="v1", kind="Namespace", plural="namespaces", is_namespaced=False),
    Kind(group_version="apps/v1", kind="ReplicaSet", plural="replicasets"),
    Kind(group_version="apps/v1", kind="Deployment", plural="deployments"),
    Kind(group_version="discovery.k8s.io/v1", kind="EndpointSlice", plural="endpointslices"),
    Kind(group_version="networking.k8s.io/v1", kind="Ingress", plural="ingresses"),
    Kind(group_version="networking.k8s.io/v1", kind="NetworkPolicy", plural="networkpolicies"),
    Kind(group_version="gateway.networking.k8s.io/v1", kind="Gateway", plural="gateways"),
    Kind(group_version="gateway.networking.k8s.io/v1", kind="HTTPRoute", plural="httproutes"),
)


class ExpiredError(Exception):
    """The revision asked for is compacted: 410 Gone, reason Expired."""


class SelectorError(Exception):
    """A selector that the API does not take: 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A parsed fieldSelector and labelSelector: (key, operator, value)s that must all hold. A field of `""` stands for
    one that is not set."""

    fields: tuple[tuple[str, str, str], ...] = ()
    labels: tuple[tuple[str, str, str], ...] = ()

    def matches(self, item: Object) -> bool:
        labels = item["metadata"].get("labels", {})
        return all((_read_field(item, key) == value) is (op == "=") for key, op, value in self.fields) and all(
            _matches_label(labels, key, op, value) for key, op, value in self.labels
        )


def parse_selector(kind: Kind, fields: str, labels: str) -> Selector:
    """Raises `SelectorError` for what the API would not take."""
    parsed = tuple(_parse_term(term) for term in fields.split(",") if term)
    for key, operator, _ in parsed:
        if key not in kind.selectable_fields | {"metadata.name", "metadata.namespace"} or operator in ("in", "exists"):
            raise SelectorError(f"field label not supported: {key}")
    return Selector(fields=parsed, labels=tuple(_parse_term(term) for term in labels.split(",") if term))


def _parse_term(term: str) -> tuple[str, str, str]:
    for text, operator in (("!=", "!="), ("==", "="), ("=", "=")):
        key, found, value = term.partition(text)
        if found:
            return key.strip(), operator, value.strip()
    if term.startswith("!"):
        return term[1:].strip(), "absent", ""
    if any(character in term for character in " ()"):
        raise SelectorError(f"this fake knows =, ==, !=, KEY and !KEY, not {term!r}")
    return term.strip(), "exists", ""


def _matches_label(labels: Mapping[str, str], key: str, operator: str, value: str) -> bool:
    match operator:
        case "=":
            return labels.get(key) == value
        case "!=":
            return labels.get(key) != value
        case "exists":
            return key in labels
        case _:
            return key not in labels


def _read_field(item: Object, path: str) -> str:
    value: Any = item
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write: before is None for a new object, after None for a deleted one."""

    revision: int
    kind: Kind
    before: Object | None
    after: Object | None


class ObjectStore:
    """All objects and all changes since the last compaction. Thread-safe; `changed` is notified at each change."""

    def __init__(self, kinds: tuple[Kind, ...] = KINDS) -> None:
        self.changed = threading.Condition()
        self._kinds = {(kind.group_version, kind.kind): kind for kind in kinds}
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {kind: {} for kind in kinds}
        self._changes: list[Change] = []
        self._revisions = itertools.count(1001)
        self.revision = 1000
        self.compacted = 1000

    def find_kind(self, group_version: str, plural: str) -> Kind | None:
        """The kind served under a path, or None: the API has no such resource (a CRD that is not installed)."""
        found = (kind for kind in self._kinds.values() if (kind.group_version, kind.plural) == (group_version, plural))
        return next(found, None)

    def put(self, item: Mapping[str, Any]) -> Object:
        """Creates or replaces an object; gives it uid and resourceVersion, and returns what is stored."""
        stored = copy.deepcopy(dict(item))
        kind, key = self._find(stored)
        with self.changed:
            before = self._objects[kind].get(key)
            self.revision = next(self._revisions)
            metadata = stored["metadata"]
            metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
            metadata["resourceVersion"] = str(self.revision)
            self._objects[kind][key] = stored
            self._tell(Change(revision=self.revision, kind=kind, before=before, after=stored))
        return copy.deepcopy(stored)

    def delete(self, item: Mapping[str, Any]) -> None:
        """Deletes the object of this kind, namespace and name. Raises KeyError where there is none."""
        kind, key = self._find(item)
        with self.changed:
            before = self._objects[kind].pop(key)
            self.revision = next(self._revisions)
            self._tell(Change(revision=self.revision, kind=kind, before=before, after=None))

    def compact(self) -> None:
        """Every older revision is gone for who asks from now on; a watch that is open goes on."""
        with self.changed:
            self.revision = self.compacted = next(self._revisions)

    def check_revision(self, revision: int) -> None:
        """Raises `ExpiredError` for one that is compacted."""
        if revision < self.compacted:
            raise ExpiredError(f"too old resource version: {revision} ({self.compacted})")

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects[kind].get((namespace, name))

    def select(self, kind: Kind, namespace: str, selector: Selector) -> tuple[list[Object], int]:
        """Objects in the order of their keys, and the revision they are of."""
        with self.changed:
            found = [
                self._objects[kind][key]
                for key in sorted(self._objects[kind])
                if (not namespace or key[0] == namespace) and selector.matches(self._objects[kind][key])
            ]
            return found, self.revision

    def changes(self, after: int) -> list[Change]:
        """All changes after a revision. Call with `changed` held."""
        return [change for change in self._changes if change.revision > after]

    def _tell(self, change: Change) -> None:
        self._changes.append(change)
        self.changed.notify_all()

    def _find(self, item: Mapping[str, Any]) -> tuple[Kind, tuple[str, str]]:
        kind = self._kinds[item["apiVersion"], item["kind"]]
        namespace = item["metadata"].get("namespace", "")
        if kind.is_namespaced != bool(namespace):
            raise ValueError(f"{kind.kind} {item['metadata']['name']} has the namespace {namespace!r}")
        return kind, (namespace, item["metadata"]["name"])


def tell_changes(changes: list[Change], kind: Kind, namespace: str, selector: Selector) -> Iterator[Object]:
    """Events of a watch for these changes."""

    def is_in(item: Object | None) -> bool:
        return (
            item is not None
            and (not namespace or item["metadata"].get("namespace") == namespace)
            and selector.matches(item)
        )

    for change in changes:
        if change.kind is not kind:
            continue
        was_in, is_now_in = is_in(change.before), is_in(change.after)
        if is_now_in:
            yield {"type": "MODIFIED" if was_in else "ADDED", "object": change.after}
        elif was_in:
            assert change.before is not None
            # The last state, at the revision of the deletion.
            metadata = {**change.before["metadata"], "resourceVersion": str(change.revision)}
            yield {"type": "DELETED", "object": {**change.before, "metadata": metadata}}
