"""What sensors know of Kubernetes workloads (kind, labels, zones) and of the images of containers; joined with services
when they are shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.inventory.reader import Reader, select
from collector.rows import Service

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
class Workload:
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

    workloads: Mapping[Place, Workload]
    images: Mapping[Place, ContainerImage]

    def workload(self, service: Service) -> Workload | None:
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
    workloads: dict[Place, Workload] = {}
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


def _read(row: Mapping[str, Any]) -> Workload:
    pairs = (label.partition("=") for label in row["labels"])
    return Workload(
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
