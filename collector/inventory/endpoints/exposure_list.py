"""Reads exposures from the store: what leads to the ports of workloads now, and when that changed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from collector.core.rows import Service
from collector.inventory.endpoints.exposure import NOBODY, Exposure, ExposureLevel, Observed, judge
from collector.inventory.filters import SEARCH_CHARACTERS_MAX, Filter, ListQuery, Page, Text
from collector.inventory.query import Cursor
from collector.kubernetes.rows import Fact, read_facts
from collector.storage.records import Reader, select

HISTORY_MAX = 200
SERVICES_MAX = 20_000
# Past a workload's row for a port, the one for all its ports.
_ALL_PORTS = 0

_NEWEST = f"""
SELECT cluster, namespace, workload, port, max(time) AS changed_at, argMax(facts, time) AS facts
FROM exposures
{{where}}
GROUP BY cluster, namespace, workload, port
ORDER BY cluster, namespace, workload, port
LIMIT {SERVICES_MAX}"""
_OF_WORKLOADS = "WHERE workload IN {workloads:Array(String)}"
_CHANGES = f"""
SELECT time, port, facts FROM exposures FINAL
WHERE cluster = {{cluster:String}} AND namespace = {{namespace:String}} AND workload = {{workload:String}}
    AND port IN (0, {{port:UInt16}})
ORDER BY time DESC, port
LIMIT {HISTORY_MAX}"""

_Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceExposure:
    """One port of a workload, by what Kubernetes says alone."""

    cluster: str
    namespace: str
    workload: str
    port: int
    exposure: Exposure


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureChange:
    """From `time` on (unix seconds) these facts held; `port` 0: of all ports of the workload."""

    time: int
    port: int
    facts: tuple[Fact, ...]


class ExposureQuery(ListQuery):
    """Filters and page of the list of exposures, which Python filters: levels follow from facts and rows together."""

    q: Annotated[Text, Filter(None)] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in cluster, namespace or workload.",
    )
    level: Annotated[ExposureLevel | None, Filter(None)] = Field(default=None, description="Default: all.")


class KnownExposures:
    """The newest facts of some workloads."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._known: dict[_Place, dict[int, tuple[tuple[Fact, ...], int]]] = defaultdict(dict)
        for row in rows:
            place = (row["cluster"], row["namespace"], row["workload"])
            self._known[place][int(row["port"])] = (read_facts(row["facts"]), int(row["changed_at"]))

    def judge(self, service: Service, observed: Observed, template: str = "", method: str = "") -> Exposure:
        """Of an endpoint, or of a whole port without a template."""
        known = self._known.get((service.cluster, service.namespace, service.workload)) if service.namespace else None
        if known is None:
            return judge(None, observed)
        facts, since = known.get(service.port, ((), 0))
        every, every_since = known.get(_ALL_PORTS, ((), 0))
        both = (*facts, *every) if service.port else every
        return judge(both, observed, template=template, method=method, since=max(since, every_since))

    def list_ports(self) -> list[ServiceExposure]:
        """Every workload's ports by name; of one without any known port, port 0."""
        found: list[ServiceExposure] = []
        for (cluster, namespace, workload), ports in self._known.items():
            for port in sorted(port for port in ports if port or len(ports) == 1):
                service = Service(
                    cluster=cluster, namespace=namespace, workload=workload, workload_kind=4, host_name="", port=port
                )
                found.append(
                    ServiceExposure(
                        cluster=cluster,
                        namespace=namespace,
                        workload=workload,
                        port=port,
                        exposure=self.judge(service, NOBODY),
                    )
                )
        return found


class ExposureInventory:
    """Answers questions about exposure from the store."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    def read_known(self, services: Iterable[Service]) -> KnownExposures:
        """What is known of the workloads of these services; one statement, none without any. Raises StoreError."""
        workloads = sorted({service.workload for service in services if service.namespace})
        if not workloads:
            return KnownExposures(())
        return KnownExposures(select(self._reader, _NEWEST.format(where=_OF_WORKLOADS), {"workloads": workloads}))

    def list_exposures(self, query: ExposureQuery) -> Page[ServiceExposure]:
        """One page by cluster, namespace, workload and port; raises CursorError when the cursor is not of this
        query."""
        after = query.read_cursor(str)
        words = query.q.lower().split()
        found = [
            (_key(one), one)
            for one in KnownExposures(select(self._reader, _NEWEST.format(where=""))).list_ports()
            if query.level in (None, one.exposure.level)
            and all(word in f"{one.cluster} {one.namespace}/{one.workload}".lower() for word in words)
        ]
        left = sorted((pair for pair in found if after is None or pair[0] > str(after.value)), key=lambda pair: pair[0])
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last[0], id=last[0]))
        return Page(items=tuple(one for _, one in shown), next_cursor=next_cursor, total=len(found))

    def list_changes(self, service: Service) -> tuple[ExposureChange, ...]:
        """What a workload's port was led to by, newest first. Raises StoreError."""
        asked = {
            "cluster": service.cluster,
            "namespace": service.namespace,
            "workload": service.workload,
            "port": service.port,
        }
        return tuple(
            ExposureChange(time=int(row["time"]), port=int(row["port"]), facts=read_facts(row["facts"]))
            for row in select(self._reader, _CHANGES, asked)
        )


def _key(one: ServiceExposure) -> str:
    return f"{one.cluster}\x1f{one.namespace}\x1f{one.workload}\x1f{one.port:05d}"
