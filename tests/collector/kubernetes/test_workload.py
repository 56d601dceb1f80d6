"""The workload of a Pod by its own metadata."""

import pytest

from collector.kubernetes.objects import PodObject
from collector.kubernetes.state import find_workload
from tests.collector.kubernetes.manifests import make_pod
from tests.collector.kubernetes.states import decode


@pytest.mark.parametrize(
    ("name", "owner", "labels", "expected"),
    [
        ("web-6f7d-abcde", ("ReplicaSet", "web-6f7d"), {"pod-template-hash": "6f7d"}, ("Deployment", "web")),
        ("web-6f7d-abcde", ("ReplicaSet", "web-6f7d"), {"rollouts-pod-template-hash": "6f7d"}, ("Rollout", "web")),
        ("web-abcde", ("ReplicaSet", "web"), {}, ("ReplicaSet", "web")),  # Made by hand: no hash.
        ("web-x-abcde", ("ReplicaSet", "web-x"), {"pod-template-hash": "6f7d"}, ("ReplicaSet", "web-x")),
        ("db-0", ("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        ("log-abcde", ("DaemonSet", "log"), {}, ("DaemonSet", "log")),
        ("bill-29926679-abcde", ("Job", "bill-29926679"), {}, ("CronJob", "bill")),
        ("import-20261125-x", ("Job", "import-20261125"), {}, ("Job", "import-20261125")),  # A date is no minute.
        ("proxy-node-1", ("Node", "node-1"), {}, ("StaticPod", "proxy")),
        ("web-3-abcde", ("ReplicationController", "web-3"), {"deploymentconfig": "web"}, ("DeploymentConfig", "web")),
        ("shell", None, {}, ("Pod", "shell")),
        ("x-0", ("Cluster", "pg"), {}, ("Cluster", "pg")),  # An operator's own kind.
    ],
)
def test_a_pod_is_named_by_its_own_metadata(
    name: str, owner: tuple[str, str] | None, labels: dict[str, str], expected: tuple[str, str]
) -> None:
    pod = decode(make_pod(name, owner=owner, labels=labels))
    assert isinstance(pod, PodObject)
    found = find_workload(pod)
    assert (found.kind, found.name) == expected
