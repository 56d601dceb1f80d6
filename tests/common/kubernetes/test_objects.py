"""Pods as each controller makes them, and the workload that a person deployed."""

import pytest

from common.kubernetes.objects import Metadata, OwnerReference, Workload, find_workload

CREATED = "2026-11-25T12:00:00Z"
# 2026-11-25 12:00 UTC in minutes, as the CronJob controller writes it.
MINUTES = 29_926_800


def find(name: str, owner: tuple[str, str] | None, created: str = CREATED, **labels: str) -> Workload:
    owners = (OwnerReference(kind=owner[0], name=owner[1], controller=True),) if owner else ()
    labels = {key.replace("_", "-"): value for key, value in labels.items()}
    metadata = Metadata(name=name, labels=labels, owner_references=owners, creation_timestamp=created)
    return find_workload(metadata, "node-1.example")


@pytest.mark.parametrize(
    ("pod", "owner", "labels", "expected"),
    [
        ("web-7d4b-x2x9k", ("ReplicaSet", "web-7d4b"), {"pod_template_hash": "7d4b"}, ("Deployment", "web")),
        ("web-7d4b-x2x9k", ("ReplicaSet", "web-7d4b"), {}, ("ReplicaSet", "web-7d4b")),
        ("web-abc", ("ReplicaSet", "web"), {"pod_template_hash": "7d4b"}, ("ReplicaSet", "web")),
        ("pay-6f8-a", ("ReplicaSet", "pay-6f8"), {"rollouts_pod_template_hash": "6f8"}, ("Rollout", "pay")),
        ("pay-0", ("Rollout", "pay"), {}, ("Rollout", "pay")),
        ("db-0", ("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        ("log-x9", ("DaemonSet", "log"), {}, ("DaemonSet", "log")),
        ("migrate-8x", ("Job", "migrate"), {}, ("Job", "migrate")),
        (f"sync-{MINUTES}-8x", ("Job", f"sync-{MINUTES}"), {}, ("CronJob", "sync")),
        (f"sync-{MINUTES - 60}-8x", ("Job", f"sync-{MINUTES - 60}"), {}, ("CronJob", "sync")),
        ("migrate-20261125-8x", ("Job", "migrate-20261125"), {}, ("Job", "migrate-20261125")),
        ("old-1-8x", ("ReplicationController", "old-1"), {"deploymentconfig": "old"}, ("DeploymentConfig", "old")),
        ("kube-apiserver-node-1.example", ("Node", "node-1.example"), {}, ("StaticPod", "kube-apiserver")),
        ("x-0", ("Cluster", "pg"), {}, ("Cluster", "pg")),  # An operator's own kind.
        ("clone-x", ("CloneSet", "clone"), {}, ("CloneSet", "clone")),
        ("debug", None, {}, ("Pod", "debug")),
    ],
)  # fmt: skip
def test_workload(pod: str, owner: tuple[str, str] | None, labels: dict[str, str], expected: tuple[str, str]) -> None:
    assert find(pod, owner, **labels) == Workload(*expected)


def test_a_job_of_a_time_that_is_not_known_is_itself() -> None:
    assert find("a", ("Job", f"sync-{MINUTES}"), created="") == Workload("Job", f"sync-{MINUTES}")
    assert find("a", ("Job", f"sync-{MINUTES}"), created="soon") == Workload("Job", f"sync-{MINUTES}")


def test_the_controller_goes_before_other_owners() -> None:
    owners = (OwnerReference(kind="Thing", name="a"), OwnerReference(kind="StatefulSet", name="b", controller=True))
    assert find_workload(Metadata(name="p", owner_references=owners), "") == Workload("StatefulSet", "b")
