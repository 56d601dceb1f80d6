"""What sensors know of Kubernetes workloads: kind, labels, zones; joined with services when they are shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.inventory.reader import Reader, select
from collector.rows import Service

WORKLOADS_MAX = 20_000

_OF_WORKLOADS = f"""
SELECT cluster, namespace, workload, argMax(kind, time) AS kind, argMax(labels, time) AS labels,
    arraySort(arrayFilter(one -> one != '', groupUniqArray(zone))) AS zones, arraySort(groupUniqArray(node)) AS nodes
FROM workloads FINAL
WHERE workload IN {{workloads:Array(String)}}
GROUP BY cluster, namespace, workload
LIMIT {WORKLOADS_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a person deployed, as the sensors of its nodes told it last."""

    kind: str  # Deployment, StatefulSet, .., Pod, StaticPod.
    labels: Mapping[str, str]
    zones: tuple[str, ...]
    nodes: tuple[str, ...]


Place = tuple[str, str, str]


def read_workloads(reader: Reader, services: Iterable[Service]) -> dict[Place, Workload]:
    """By (cluster, namespace, workload); nothing is asked where no service has a namespace."""
    names = sorted({service.workload for service in services if service.namespace})
    if not names:
        return {}
    return {
        (row["cluster"], row["namespace"], row["workload"]): _read(row)
        for row in select(reader, _OF_WORKLOADS, {"workloads": names})
    }


def find_workload(known: Mapping[Place, Workload], service: Service) -> Workload | None:
    """Of a service; None where it is of no workload that is known."""
    return known.get((service.cluster, service.namespace, service.workload))


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
    places = f"SELECT cluster, namespace, workload FROM workloads FINAL WHERE {test}"
    return f"(n.cluster, n.namespace, n.workload) IN ({places})", parameters
