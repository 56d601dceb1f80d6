"""How each workload's ports are reached: a state in, rows for the store out, those only that changed. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from collector.kubernetes.fact import Fact, write_facts
from collector.kubernetes.route_facts import list_ingress_facts, list_route_facts
from collector.kubernetes.service_facts import list_pod_facts, list_policy_facts, list_service_facts
from collector.kubernetes.state import ClusterState
from collector.kubernetes.targets import Target, Targets

NO_FACTS = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One row of `exposures`: what was so of a workload's port from `time` (unix seconds) on. Port 0: of all its
    ports. `facts` is JSON (collector/kubernetes/fact.py)."""

    cluster: str
    namespace: str
    workload: str
    port: int
    time: int
    facts: str


def find_facts(state: ClusterState, targets: Targets) -> dict[Target, str]:
    """The facts of every workload and port, as JSON; a workload that nothing leads to has none, at port 0."""
    found: dict[Target, set[Fact]] = defaultdict(set)
    for pod in state.pods.values():
        found.setdefault(Target(pod.namespace, pod.workload.name, 0), set())
    for facts in (
        list_service_facts(state, targets),
        list_pod_facts(state.pods.values()),
        list_policy_facts(state),
        list_ingress_facts(state, targets),
        list_route_facts(state, targets),
    ):
        for target, fact in facts:
            found[target].add(fact)
    return {target: write_facts(facts) for target, facts in found.items()}


class ExposureBook:
    """What was told of each workload's port last. One thread at a time."""

    def __init__(self, cluster: str, last: Iterable[Exposure] = ()) -> None:
        """`last`: the newest rows of the store."""
        self._cluster = cluster
        self._last = {Target(one.namespace, one.workload, one.port): one.facts for one in last}
        self._waiting: dict[Target, Exposure] = {}

    def refresh(self, state: ClusterState, targets: Targets, now: float) -> None:
        """Compare with what was so. A workload without Pods keeps what was known of it: nobody calls it either."""
        found = find_facts(state, targets)
        present = {(pod.namespace, pod.workload.name) for pod in state.pods.values()}
        gone = [one for one in self._last.keys() - found.keys() if (one.namespace, one.workload) in present]
        for target, facts in (*found.items(), *((one, NO_FACTS) for one in gone)):
            if self._last.get(target) != facts:
                self._last[target] = facts
                self._waiting[target] = Exposure(
                    cluster=self._cluster,
                    namespace=target.namespace,
                    workload=target.workload,
                    port=target.port,
                    time=int(now),
                    facts=facts,
                )

    def take_changed(self) -> list[Exposure]:
        """Rows for the store since the last time."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    def give_back(self, rows: Iterable[Exposure]) -> None:
        """Rows that could not be stored: they come again, unless something newer is known."""
        older = {Target(one.namespace, one.workload, one.port): one for one in rows}
        self._waiting = older | self._waiting
