"""Pods come, change, go, and are still named for a while; nothing grows without bound."""

import msgspec

from sensor.enrich.kubernetes.pod import KEEP_SECONDS, MAX_GONE, Pod, PodObject, PodTable, read_pod
from tests.cluster.pods import make_container_id, make_deployment_pod, make_pod, make_uid
from tests.sensor.enrich.fakes import FakeClock

MIRROR = "kubernetes.io/config.mirror"


def read(raw: dict[str, object], *label_keys: str) -> Pod:
    return read_pod(msgspec.convert(raw, PodObject), label_keys=label_keys)


def test_what_is_kept_of_a_pod() -> None:
    raw = make_deployment_pod("cart", containers=("app", "istio-proxy"), annotations={"apidae.io/watch": "false"})
    pod = read(raw, "app.kubernetes.io/name", "team")
    assert (pod.namespace, pod.workload, pod.workload_kind, pod.watch) == ("shop", "cart", "Deployment", "false")
    assert pod.labels == (("app.kubernetes.io/name", "cart"),)
    assert pod.addresses == ("10.244.1.7",)
    id_ = make_container_id(f"shop/{raw['metadata']['name']}/istio-proxy")
    assert pod.container_name(id_) == "istio-proxy"
    assert not pod.is_ingress and read(make_deployment_pod("ingress-nginx")).is_ingress


def test_a_pod_is_found_by_uid_before_its_containers_run() -> None:
    table = PodTable(clock=FakeClock())
    table.put(read(make_pod("a", is_started=False)))
    found = table.find(container_id="f" * 64, pod_uid=make_uid("shop/a"))
    assert found is not None and found.workload == "a"
    assert table.find(container_id=make_container_id("shop/a/app"), pod_uid="") is None
    table.put(read(make_pod("a")))
    assert table.find(container_id=make_container_id("shop/a/app"), pod_uid="") is not None


def test_a_static_pod_is_found_by_the_uid_of_its_cgroup() -> None:
    table = PodTable(clock=FakeClock())
    table.put(read(make_pod("etcd-n1", annotations={MIRROR: "a" * 32})))
    assert table.find(container_id="", pod_uid="a" * 32) is not None


def test_a_pod_that_says_to_be_static_takes_no_uid_of_another() -> None:
    """Whoever may create a Pod may write the annotation of a mirror."""
    table = PodTable(clock=FakeClock())
    uid = make_uid("shop/a")
    mirror = read(make_pod("b", annotations={MIRROR: uid}))
    table.put(mirror)
    assert table.find(container_id="", pod_uid=uid) is mirror and table.get(uid) is None
    owner = read(make_pod("a"))
    table.put(owner)
    table.put(read(make_pod("c", annotations={MIRROR: uid})))
    table.replace([owner, read(make_pod("b", annotations={MIRROR: uid}, ip="10.244.1.8"))])
    assert table.find(container_id="", pod_uid=uid) is table.get(uid) is owner


def test_a_mirror_that_is_made_again_has_the_uid_of_its_static_pod() -> None:
    table = PodTable(clock=FakeClock())
    first, second = (make_pod("etcd-n1", annotations={MIRROR: "a" * 32}) for _ in range(2))
    second["metadata"]["uid"] = make_uid("second")
    table.put(read(first))
    table.put(read(second))
    found = table.find(container_id="", pod_uid="a" * 32)
    assert found is not None and found.object_uid == first["metadata"]["uid"]
    table.replace([again := read(second | {"status": first["status"] | {"podIPs": [{"ip": "10.244.1.8"}]}})])
    assert table.find(container_id="", pod_uid="a" * 32) is again


def test_a_pod_that_is_gone_keeps_its_name_for_a_while() -> None:
    clock = FakeClock()
    table = PodTable(clock=clock)
    pod = read(make_pod("a"))
    table.put(pod)
    table.remove(pod.object_uid)
    assert len(table) == 0 and table.find(container_id="", pod_uid=pod.uid) is pod
    clock.now += KEEP_SECONDS + 1
    table.put(read(make_pod("b")))
    assert table.find(container_id=make_container_id("shop/a/app"), pod_uid=pod.uid) is None
    assert table.evicted_count == 0


def test_a_list_says_who_is_gone() -> None:
    table = PodTable(clock=FakeClock())
    a, b = read(make_pod("a")), read(make_pod("b"))
    table.replace([a, b])
    table.replace([b])
    assert table.all() == (b,)
    table.replace([a, b])
    assert set(table.all()) == {a, b}


def test_a_pod_of_the_same_name_is_another_one() -> None:
    table = PodTable(clock=FakeClock())
    first, second = make_pod("db-0"), make_pod("db-0")
    second["metadata"]["uid"] = make_uid("second")
    table.put(read(first))
    table.remove(first["metadata"]["uid"])
    table.put(read(second))
    assert len(table) == 1
    assert table.find(container_id="", pod_uid=make_uid("shop/db-0")) is not None


def test_only_what_names_change_counts() -> None:
    table = PodTable(clock=FakeClock())
    table.put(read(make_pod("a")))
    generation = table.generation
    table.put(read(make_pod("a", ip="10.244.1.8")))
    assert table.generation == generation
    table.put(read(make_pod("a", annotations={"apidae.io/watch": "false"})))
    assert table.generation == generation + 1


def test_pods_that_are_gone_are_bounded() -> None:
    table = PodTable(clock=FakeClock())
    for number in range(MAX_GONE + 10):
        pod = read(make_pod(f"p{number}"))
        table.put(pod)
        table.remove(pod.object_uid)
    assert table.evicted_count == 10
    assert table.find(container_id="", pod_uid=make_uid("shop/p9")) is None
    assert table.find(container_id=make_container_id("shop/p10/app"), pod_uid="") is not None
