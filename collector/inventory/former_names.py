"""Names that came late: which workload it is that a node called by a container's id while the API server was away.

A route bears the service as it was told; with a former name that is known, it is a route of the workload. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from collector.ingest.workloads import FormerName
from collector.rows import Route, Service

_CONTAINER: Final = 2  # The wire's WorkloadKind.
_KUBERNETES: Final = 4
FORMER_NAMES_LIMIT: Final = 100_000  # Some 30 MB; what comes after keeps its id.


@dataclass(frozen=True, slots=True)
class _Workload:
    namespace: str
    name: str


class FormerNames:
    """Former names by cluster and node. Not thread-safe."""

    def __init__(self) -> None:
        self._workloads: dict[tuple[str, str, str], _Workload] = {}

    def is_new(self, told: FormerName) -> bool:
        """Whether this is not known, or of another workload."""
        return self._workloads.get(_key_of(told)) != _Workload(told.namespace, told.workload)

    def add(self, told: Iterable[FormerName]) -> None:
        """Take them up."""
        for one in told:
            if len(self._workloads) < FORMER_NAMES_LIMIT or _key_of(one) in self._workloads:
                self._workloads[_key_of(one)] = _Workload(one.namespace, one.workload)

    def rename(self, route: Route) -> Route:
        """The route under the name of its workload; itself where no other is known."""
        service = route.service
        if service.workload_kind != _CONTAINER or service.namespace:
            return route
        found = self._workloads.get((service.cluster, service.host_name, service.workload))
        if found is None:
            return route
        named = Service(
            cluster=service.cluster,
            namespace=found.namespace,
            workload=found.name,
            workload_kind=_KUBERNETES,
            host_name="",
            port=service.port,
        )
        return replace(route, service=named)

    def list_former(self, workloads: Iterable[str]) -> list[str]:
        """What these workloads are called in routes besides."""
        wanted = set(workloads)
        return sorted({former for (_, _, former), one in self._workloads.items() if one.name in wanted})


def _key_of(told: FormerName) -> tuple[str, str, str]:
    return told.cluster, told.node, told.former_name
