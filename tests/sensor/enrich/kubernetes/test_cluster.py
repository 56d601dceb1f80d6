"""The sensor's watches against the fake API server: what they ask, what they take up, how they bear every fault."""

import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from common.kubernetes import reflector
from common.kubernetes.reflector import PAGE_OBJECTS, AccessError, open_client
from sensor.core.read_tls import UNKNOWN_POD, ReadTls, TlsChoice
from sensor.enrich.cgroup import CgroupOwner, OwnerKind
from sensor.enrich.kubernetes.cluster import LABELLED, SYSTEM, Cluster, ClusterSettings, PodName
from tests.cluster.api_server import ApiServer
from tests.cluster.pods import make_container_id, make_deployment_pod, make_pod, make_uid
from tests.waiting import wait_until

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "eu-1a"}},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.4"}, {"type": "Hostname", "address": "n1"}]},
}


def make_cluster(api: ApiServer, tmp_path: Path) -> Cluster:
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
    return Cluster(ClusterSettings(node="n1"), open_client=partial(open_client, kubeconfig))


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(reflector, "FIRST_REST_SECONDS", 0.01)
    cluster = make_cluster(api, tmp_path)
    yield cluster
    cluster.stop()


def name(cluster: Cluster, pod: str, container: str = "app") -> PodName | None:
    owner = CgroupOwner(kind=OwnerKind.CONTAINER, name=make_container_id(f"{pod}/{container}"), pod_uid=make_uid(pod))
    return cluster.name(owner)


def test_pods_of_this_node_are_listed_and_followed(api: ApiServer, cluster: Cluster) -> None:
    api.put(NODE)
    api.put(make_pod("a"))
    api.put(make_pod("elsewhere", node="n2"))
    assert cluster.start(wait_seconds=5.0)
    assert name(cluster, "shop/a") == PodName("shop", "a", False, "")
    assert name(cluster, "shop/elsewhere") is None
    cart = make_deployment_pod("cart", containers=("app", "istio-proxy"))
    api.put(cart)
    place = f"shop/{cart['metadata']['name']}"
    wait_until(lambda: name(cluster, place) is not None)
    assert name(cluster, place) == PodName("shop", "cart", False, "")
    assert name(cluster, place, "istio-proxy") == PodName("shop", "cart", True, "", True)
    api.delete(cart)
    wait_until(lambda: len(cluster.pods) == 1)
    assert name(cluster, place) is not None
    assert (cluster.zone, cluster.node_addresses) == ("eu-1a", {"192.0.2.4", "n1"})
    assert [request.path for request in api.requests if "pods" in request.path] == ["/api/v1/pods"] * 2
    assert all(request.status == 200 for request in api.requests)


def test_addresses_are_named_while_the_api_answers_and_never_the_nodes(api: ApiServer, cluster: Cluster) -> None:
    api.put(NODE)
    api.put(make_pod("a", ip="10.244.1.7"))
    api.put(make_pod("b", ip="192.0.2.4"))
    assert cluster.start(wait_seconds=5.0)
    now = time.time_ns()
    assert cluster.address_workload("10.244.1.7", now, now) == "shop/a"
    assert cluster.address_workload("192.0.2.4", now, now) == ""
    cluster.pod_watch.is_current = False
    assert cluster.address_workload("10.244.1.7", now, now) == ""


def test_slow_answers_hold_up_nobody(api: ApiServer, cluster: Cluster) -> None:
    """A start goes on without names, which come with the answer."""
    api.may_answer.clear()
    api.put(make_pod("a"))
    assert not cluster.start(wait_seconds=0.05)
    assert name(cluster, "shop/a") is None
    api.may_answer.set()
    wait_until(lambda: name(cluster, "shop/a") is not None)
    api.put(make_pod("b"))
    wait_until(lambda: name(cluster, "shop/b") is not None)
    assert cluster.degradation == ""


def test_a_long_list_comes_in_parts(api: ApiServer, cluster: Cluster) -> None:
    for number in range(PAGE_OBJECTS + 20):
        api.put(make_pod(f"p{number}"))
    assert cluster.start(wait_seconds=5.0)
    assert len(cluster.pods) == PAGE_OBJECTS + 20
    lists = [one for one in api.requests if one.path == "/api/v1/pods" and not one.is_watch]
    assert [one.parameters["limit"] for one in lists] == [str(PAGE_OBJECTS)] * 2


def test_a_watch_that_ends_or_breaks_is_resumed_where_it_was(api: ApiServer, cluster: Cluster) -> None:
    api.put(make_pod("a"))
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    for number, interrupt in enumerate((api.end_watches, api.disconnect)):
        api.put(make_pod(f"before{number}"))
        wait_until(lambda number=number: len(cluster.pods) == 2 * number + 2)  # type: ignore[misc]
        seen = len(api.requests)
        interrupt()
        api.put(make_pod(f"after{number}"))
        wait_until(lambda number=number: len(cluster.pods) == 2 * number + 3)  # type: ignore[misc]
        assert all(one.is_watch for one in api.requests[seen:]), "listed anew"
    counts = cluster.pod_watch.counts
    assert (counts.lists, counts.broken, counts.failures, cluster.degradation) == (1, 1, 0, "")


def test_bookmarks_move_the_version_on(api: ApiServer, cluster: Cluster) -> None:
    """Else a quiet node's watch would resume from a version that is compacted."""
    api.put(make_pod("a"))
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    api.put(make_pod("elsewhere", node="n2"))
    before = cluster.pod_watch.last_contact
    api.bookmark()
    wait_until(lambda: cluster.pod_watch.last_contact > before)
    seen = len(api.requests)
    api.end_watches()
    api.wait_watches(2, after=seen)
    resumed = next(one for one in api.requests[seen:] if one.path == "/api/v1/pods")
    assert resumed.parameters["resourceVersion"] == str(api.objects.revision)
    assert resumed.parameters["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("is_status", [False, True])
def test_gone_is_listed_anew(api: ApiServer, cluster: Cluster, is_status: bool) -> None:
    api.is_410_a_status = is_status
    api.put(make_pod("a"))
    api.put(make_pod("b"))
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    api.delete(make_pod("b"))
    wait_until(lambda: len(cluster.pods) == 1)
    api.compact()
    api.disconnect()
    api.put(make_pod("c"))
    wait_until(lambda: cluster.pod_watch.counts.lists == 2)
    wait_until(lambda: {pod.name for pod in cluster.pods.all()} == {"a", "c"})
    assert cluster.pod_watch.counts.gone >= 1


def test_an_api_that_is_away_is_logged_once_and_heals(
    api: ApiServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    api.forbidden.add("pods")
    with caplog.at_level(logging.INFO):
        assert not cluster.start(wait_seconds=0.05)
        wait_until(lambda: cluster.pod_watch.counts.failures >= 3)
        assert "answered 403" in cluster.degradation
        assert name(cluster, "shop/a") is None
        api.put(make_pod("a"))
        api.forbidden.clear()
        wait_until(lambda: name(cluster, "shop/a") is not None)
        wait_until(lambda: cluster.degradation == "")
    logged = [one.getMessage() for one in caplog.records if one.getMessage().startswith("Pods")]
    assert len(logged) == 2 and "answered 403" in logged[0] and "answers again" in logged[1]


def test_every_kind_of_wrong_answer_is_borne(api: ApiServer, cluster: Cluster) -> None:
    api.refuse(503, 2)
    api.refuse(401)
    api.refuse(429)
    api.refuse(500, 2)
    api.put(make_pod("a"))
    cluster.start()
    wait_until(lambda: len(cluster.pods) == 1)
    wait_until(lambda: cluster.degradation == "")


def test_a_pod_that_cannot_be_read_keeps_no_other_from_being_known(api: ApiServer, cluster: Cluster) -> None:
    """One is of another form in the list, one breaks what reads it, and the like comes as an event."""
    other_form = {**make_pod("b"), "status": {"podIPs": "none"}}
    api.put(make_pod("a"))
    api.put(other_form)
    api.put({**make_pod("c"), "status": {"startTime": "0001-01-01T00:00:00"}})  # No zone: before any clock.
    assert cluster.start(wait_seconds=60.0)
    assert name(cluster, "shop/a") is not None
    api.wait_watches(2)
    api.put({**other_form, "metadata": {**make_pod("d")["metadata"]}})
    api.put({**make_pod("e"), "status": {"startTime": "0001-01-01T00:00:00"}})
    api.put(make_pod("f"))
    wait_until(lambda: name(cluster, "shop/f") is not None)
    assert cluster.degradation == ""
    assert {figure.name: figure.value for figure in cluster.figures()}["kubernetes_skipped"] == 4


def test_labels_of_namespaces_are_followed(api: ApiServer, cluster: Cluster) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {}}}
    api.put(namespace)
    api.put(make_pod("a"))
    api.put(make_pod("dns", namespace="kube-system"))
    cluster.start(wait_seconds=5.0)
    assert name(cluster, "kube-system/dns") == PodName("kube-system", "dns", False, SYSTEM)
    api.wait_watches(2)
    generation = cluster.generation
    api.put({**namespace, "metadata": {"name": "shop", "labels": {"apidae.io/watch": "false"}}})
    wait_until(lambda: name(cluster, "shop/a") == PodName("shop", "a", False, LABELLED))
    assert cluster.generation > generation
    api.put(namespace)
    wait_until(lambda: name(cluster, "shop/a") == PodName("shop", "a", False, ""))


def test_what_pods_and_namespaces_choose_of_tls_is_followed(api: ApiServer, cluster: Cluster) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {}}}
    api.put(namespace)
    pod = make_pod("a")
    uid = pod["metadata"]["uid"]
    api.put(pod)
    assert cluster.find_tls_choice(uid, ReadTls.AUTO) == UNKNOWN_POD
    assert cluster.find_tls_choice(uid, ReadTls.OFF) == TlsChoice(mode=ReadTls.OFF)
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    wait_until(lambda: cluster.find_tls_choice(uid, ReadTls.AUTO).mode is ReadTls.AUTO)
    api.put(make_pod("a", annotations={"apidae.io/read-tls": "off"}))
    wait_until(lambda: cluster.find_tls_choice(uid, ReadTls.FULL).mode is ReadTls.OFF)
    assert "annotation" in cluster.find_tls_choice(uid, ReadTls.FULL).reason
    api.put(make_pod("a", annotations={"apidae.io/read-tls": "full"}))
    wait_until(lambda: cluster.find_tls_choice(uid, ReadTls.FULL).mode is ReadTls.FULL)
    assert cluster.find_tls_choice(uid, ReadTls.AUTO).mode is ReadTls.AUTO
    api.put({**namespace, "metadata": {"name": "shop", "labels": {"apidae.io/read-tls": "auto"}}})
    wait_until(lambda: cluster.find_tls_choice(uid, ReadTls.FULL).mode is ReadTls.AUTO)
    api.put(namespace)
    wait_until(lambda: cluster.find_tls_choice(uid, ReadTls.FULL).mode is ReadTls.FULL)


def test_tls_of_pods_is_not_read_while_labels_of_namespaces_are_not_known(api: ApiServer, cluster: Cluster) -> None:
    api.forbidden.add("namespaces")
    pod = make_pod("a")
    api.put(pod)
    assert cluster.start(wait_seconds=5.0)
    assert name(cluster, "shop/a") is not None
    assert cluster.find_tls_choice(pod["metadata"]["uid"], ReadTls.AUTO) == UNKNOWN_POD


def test_consent_to_the_java_agent_is_followed(api: ApiServer, cluster: Cluster) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {}}}
    api.put(namespace)
    pod = make_pod("a")
    api.put(pod)
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    uid = pod["metadata"]["uid"]

    def find() -> tuple[bool | None, bool | None]:
        consent = cluster.find_consent(uid)
        assert consent is not None and (consent.namespace, consent.name) == ("shop", "a")
        return consent.annotated, consent.labelled

    wait_until(lambda: find() == (None, None))
    generation = cluster.consent_generation
    api.put({**namespace, "metadata": {"name": "shop", "labels": {"apidae.io/attach-java": "true"}}})
    wait_until(lambda: find() == (None, True))
    annotated = {**pod, "metadata": {**pod["metadata"], "annotations": {"apidae.io/attach-java": "false"}}}
    api.put(annotated)
    wait_until(lambda: find() == (False, True))
    assert cluster.consent_generation == generation + 2
    api.put(pod)
    api.put(namespace)
    wait_until(lambda: find() == (None, None))
    assert cluster.find_consent("another") is None


def test_without_the_right_to_namespaces_pods_are_named(api: ApiServer, cluster: Cluster) -> None:
    api.forbidden.update(("namespaces", "nodes"))
    api.put(make_pod("a"))
    assert cluster.start(wait_seconds=5.0)
    assert name(cluster, "shop/a") is not None
    wait_until(lambda: "labels of namespaces are not followed" in cluster.degradation)
    assert (cluster.zone, cluster.node_addresses) == ("", frozenset())


def test_figures_describe_the_api(api: ApiServer, cluster: Cluster) -> None:
    api.put(NODE)
    api.put(make_pod("a"))
    cluster.start(wait_seconds=5.0)
    api.wait_watches(2)
    wait_until(lambda: cluster.is_current)
    figures = {figure.name: figure.value for figure in cluster.figures()}
    assert figures["kubernetes_pods"] == 1 and figures["kubernetes_is_current"] == 1
    assert figures["kubernetes_requests"] == len(api.requests) == 5
    assert figures["kubernetes_contact_age_seconds"] < 5


def test_a_kubeconfig_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"the kubeconfig .*/none"):
        open_client(tmp_path / "none")
    with pytest.raises(AccessError, match="this Pod's service account"):
        open_client(None)
