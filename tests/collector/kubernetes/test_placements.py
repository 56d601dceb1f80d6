"""Which workloads a sensor may speak for: those with Pods on its node, now or of late."""

import msgspec
import pytest

from collector.kubernetes import placements as module
from collector.kubernetes.objects import PodObject
from collector.kubernetes.placements import REMEMBERED_SECONDS, Placements
from collector.kubernetes.rows import Peer, PeerKind
from collector.kubernetes.state import Pod, read_pod
from tests.collector.kubernetes.manifests import make_pod

NOW = 1_800_000_000.0


class Cluster:
    """A clock that moves, and the placements of a cluster."""

    def __init__(self) -> None:
        self.now = NOW
        self.placements = Placements(lambda: self.now)

    def holds(self, node: str = "node-1", workload: str = "orders", namespace: str = "shop") -> bool:
        return self.placements.holds(node, namespace, workload)


def read(name: str, **fields: object) -> Pod:
    return read_pod(msgspec.convert(make_pod(name, **fields), PodObject, strict=False))


def test_a_workload_is_where_its_pods_are_and_were() -> None:
    cluster, first, second = Cluster(), read("orders-1"), read("orders-2")
    cluster.placements.follow(None, first)
    cluster.placements.follow(None, second)
    assert cluster.holds() and not cluster.holds("node-2") and not cluster.holds(namespace="other")
    cluster.placements.follow(first, None)
    cluster.now += 2 * REMEMBERED_SECONDS
    assert cluster.holds()  # The second Pod is there still.
    cluster.placements.follow(second, None)
    assert cluster.holds()  # Its rows may come late.
    cluster.now += REMEMBERED_SECONDS
    assert not cluster.holds()


def test_a_pod_that_waits_for_a_node_is_nowhere() -> None:
    cluster = Cluster()
    cluster.placements.follow(None, read("orders-1", node=""))
    assert not cluster.holds("") and not cluster.holds()


def test_a_pod_that_changes_is_counted_once() -> None:
    cluster, before = Cluster(), read("orders-1")
    cluster.placements.follow(None, before)
    after = read("orders-1", phase="Succeeded")
    cluster.placements.follow(before, after)
    cluster.placements.follow(after, None)
    cluster.now += REMEMBERED_SECONDS
    assert not cluster.holds()


@pytest.mark.parametrize(
    "kind, until, is_held", [("pod", 0, True), ("pod", NOW - 60, True), ("pod", NOW - 9e5, False), ("node", 0, False)]
)
def test_what_the_store_knew_at_the_start(kind: str, until: float, is_held: bool) -> None:
    cluster = Cluster()
    peer = Peer(
        address="10.1.0.5",
        port=0,
        since=1,
        kind=PeerKind(kind).value,
        namespace="shop",
        name="orders-1",
        until=int(until),
        workload="orders",
        node="node-1",
    )
    cluster.placements.load([peer])
    assert cluster.holds() is is_held


def test_the_oldest_that_left_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES_LIMIT", 3)
    cluster = Cluster()
    here = read("orders-1")
    cluster.placements.follow(None, here)
    for number in range(3):
        pod = read(f"cart-{number}", node=f"node-{number + 2}")
        cluster.now += 1
        cluster.placements.follow(None, pod)
        cluster.placements.follow(pod, None)
    assert cluster.holds() and not cluster.holds("node-2") and cluster.holds("node-4")
