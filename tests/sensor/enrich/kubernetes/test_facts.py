"""Pods of a node to the facts of their workloads."""

from sensor.enrich.kubernetes.pod import WORKLOADS_MAX, WorkloadFacts, list_workloads
from sensor.export.messages import write_coverage
from tests.cluster.pods import make_deployment_pod, make_pod
from tests.sensor.enrich.kubernetes.test_table import read

KEYS = ("app.kubernetes.io/name", "track")


def test_labels_are_those_that_all_pods_have_alike() -> None:
    pods = [
        read(make_deployment_pod("cart", number, labels={"track": track}), *KEYS)
        for number, track in enumerate(("stable", "canary"))
    ]
    pods.append(read(make_pod("debug"), *KEYS))
    assert list_workloads(pods, cluster="east", zone="eu-1a") == [
        WorkloadFacts(
            cluster="east",
            namespace="shop",
            workload="cart",
            kind="Deployment",
            labels=(("app.kubernetes.io/name", "cart"),),
            zone="eu-1a",
            pods=2,
        ),
        WorkloadFacts(cluster="east", namespace="shop", workload="debug", kind="Pod", labels=(), zone="eu-1a", pods=1),
    ]


def test_they_travel_with_the_coverage() -> None:
    former = {("shop", "cart"): ("0123456789ab",), ("shop", "gone"): ("ba9876543210",)}
    facts = list_workloads([read(make_deployment_pod("cart"), *KEYS)], cluster="east", zone="", former=former)
    (told,) = write_coverage([], facts, time_unix_ns=1).coverage.workloads
    assert (told.cluster, told.namespace, told.workload, told.kind) == ("east", "shop", "cart", "Deployment")
    assert (list(told.labels), told.pods) == (["app.kubernetes.io/name=cart"], 1)
    assert list(told.former_names) == ["0123456789ab"]


def test_they_are_bounded() -> None:
    pods = [read(make_pod(f"p{number:05}")) for number in range(WORKLOADS_MAX + 1)]
    assert len(list_workloads(pods, cluster="", zone="")) == WORKLOADS_MAX
