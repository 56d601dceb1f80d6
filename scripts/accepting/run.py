"""What all parts of an acceptance share: the cluster, the collector, the table, and what clients have counted."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from scripts.accepting.kubernetes_client import Collector, Kubernetes, Object, wait_for
from scripts.accepting.table import Table, count_differences
from scripts.accepting.workloads import Workloads

# From a call to the collector's API: the sensor's window, its spool and the collector's store.
INVENTORY_SECONDS: Final = 60.0
_PARAMETER: Final = re.compile(r"\{[^}]*\}")


@dataclass(slots=True, kw_only=True)
class Acceptance:
    """One run. `counted` has what clients counted, by `WORKLOAD:PORT METHOD TEMPLATE STATUS`."""

    kubernetes: Kubernetes
    collector: Collector
    workloads: Workloads
    table: Table
    counted: Counter[str] = field(default_factory=Counter)
    clients: dict[str, int] = field(default_factory=dict)  # Calls by Job.

    @property
    def namespace(self) -> str:
        """Of the workloads."""
        return self.kubernetes.namespace

    def run_jobs(self, jobs: Iterable[Object]) -> None:
        """Clients, all at once, to their end; what they counted is added."""
        made = list(jobs)
        self.kubernetes.apply(made)
        for name in (job["metadata"]["name"] for job in made):
            self.kubernetes.wait_for_job(name)
            self.read_job(name)

    def read_job(self, name: str) -> None:
        """What a Job that ended has counted."""
        self.add_counted(name, self.kubernetes.read_lines(f"job/{name}"))

    def add_counted(self, client: str, lines: Iterable[Object]) -> None:
        """What a client has written."""
        for line in lines:
            counted: Counter[str] = Counter(line.get("counted", {}))
            self.counted.update(counted)
            self.clients[client] = self.clients.get(client, 0) + counted.total()

    def list_endpoints(self) -> list[Object]:
        """Endpoints of the workloads."""
        return self.collector.list_items("/endpoints", namespace=self.namespace, hops="include")

    def count_found(self, endpoints: Iterable[Object]) -> Counter[str]:
        """What the inventory has, in the form of `counted`."""
        found: Counter[str] = Counter()
        for item in endpoints:
            service = item["service"]
            template = _PARAMETER.sub("{}", item["template"])
            key = f"{service['workload']}:{service['port']} {item['method']} {template}"
            detail = self.collector.get(f"/endpoints/{item['id']}")
            statuses = (detail.get("rpc") or detail)["status_codes"]  # Of an RPC its own, which clients see.
            for status, calls in statuses.items():
                found[f"{key} {status}"] += calls
        return found

    def compare(self, expected: Counter[str], workloads: Iterable[str] = ()) -> dict[str, tuple[int, int]]:
        """Where the inventory differs from what clients counted, once it does not or after a minute. `workloads`: only
        these."""
        chosen = set(workloads) or {key.partition(":")[0] for key in expected}

        def find_differences() -> dict[str, tuple[int, int]]:
            endpoints = [item for item in self.list_endpoints() if item["service"]["workload"] in chosen]
            return count_differences(expected, self.count_found(endpoints))

        wait_for(lambda: not find_differences(), INVENTORY_SECONDS)
        return find_differences()

    def select(self, *workloads: str) -> Counter[str]:
        """What was counted at these workloads."""
        return Counter({key: calls for key, calls in self.counted.items() if key.partition(":")[0] in workloads})
