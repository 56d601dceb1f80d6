"""The watch of one cluster against a strict API server, with everything that goes wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.kubernetes import watcher
from collector.kubernetes.watcher import ClusterWatcher
from collector.storage.base import StoreError
from common.kubernetes import reflector
from common.kubernetes.reflector import AccessError, open_client
from tests.cluster.api_objects import KINDS, Kind, ObjectStore
from tests.cluster.api_server import ApiServer
from tests.collector.kubernetes.manifests import make_ingress, make_path, make_pod, make_service, make_slice
from tests.waiting import wait_until

KIND_COUNT = 8


class MemoryStore:
    """What was inserted, by table; reads find nothing."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {"peer_addresses": [], "exposures": []}
        self.is_broken = False

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return []

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        if self.is_broken:
            raise StoreError("the disk is full")
        self.rows[table] += records

    def find(self, address: str) -> Any:
        """The newest row of an address, or None."""
        return next((row for row in reversed(self.rows["peer_addresses"]) if row.address == address), None)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(watcher, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(reflector, "FIRST_REST_SECONDS", 0.02)
    monkeypatch.setattr(reflector, "MAX_REST_SECONDS", 0.1)
    monkeypatch.setattr(reflector, "ABSENT_REST_SECONDS", (0.0, 0.1))
    monkeypatch.setattr(reflector, "PAGE_OBJECTS", 2)
    with ApiServer() as server:
        for manifest in (make_pod("orders-1"), make_service(), make_slice("orders", {"orders-1": "10.1.0.5"})):
            server.put(manifest)
        yield server


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def running(api: ApiServer, store: MemoryStore, tmp_path: Path) -> Iterator[ClusterWatcher]:
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
    started = ClusterWatcher(cluster="east", kubeconfig=kubeconfig, store=store)  # type: ignore[arg-type]
    started.start()
    yield started
    started.stop()


def test_lists_come_in_pages_and_changes_as_they_happen(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher
) -> None:
    for number in range(5):
        api.put(make_pod(f"more-{number}", addresses=(f"10.1.1.{number}",)))
    wait_until(lambda: running.status.is_current and running.status.pods == 6, "the list")
    wait_until(lambda: store.find("10.1.1.4") and store.rows["exposures"], "rows")
    assert store.find("10.96.0.10").name == "orders"
    api.put(make_pod("late", addresses=("10.1.2.1",)))
    api.delete(make_pod("late"))
    wait_until(lambda: store.find("10.1.2.1") and store.find("10.1.2.1").until, "the end of a Pod")
    api.put(make_ingress("web", make_path("/api")))
    wait_until(lambda: "ingress" in store.rows["exposures"][-1].facts, "the new exposure")


def test_what_ends_lines_of_text_may_stand_in_a_value(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher
) -> None:
    wait_until(lambda: running.status.is_current, "the list")
    api.wait_watches(KIND_COUNT)
    late = make_pod("late", addresses=("10.1.2.1",))
    api.put({**late, "metadata": {**late["metadata"], "annotations": {"note": "one\x85two\x0bthree"}}})
    wait_until(lambda: store.find("10.1.2.1"), "the Pod")
    assert running.counts.failures == 0


def test_an_answer_that_is_of_no_api_server_is_shown(api: ApiServer, running: ClusterWatcher, tmp_path: Path) -> None:
    """As a proxy's page."""
    wait_until(lambda: running.status.is_current, "the list")
    api.page = b"<html><body>Please log in first, here or there</body></html>"
    api.disconnect()
    wait_until(lambda: not running.status.is_current, "the failure")
    begun = "of 60 bytes that begin with '<html><body>Please log in first, here or', is not what an API server gives"
    wait_until(lambda: begun in running.status.reason, "the reason")
    assert "give the API server's address in the kubeconfig" in running.status.reason
    api.page = b""
    wait_until(lambda: running.status.is_current, "the list")


def test_a_connection_that_leads_elsewhere_is_not_used_again(
    api: ApiServer, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is the only one that is idle, since all others are watches."""
    monkeypatch.setattr(reflector, "FIRST_REST_SECONDS", 0.4)
    monkeypatch.setattr(reflector, "MAX_REST_SECONDS", 0.4)
    api.strange = 1
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
    started = ClusterWatcher(cluster="east", kubeconfig=kubeconfig, store=store)  # type: ignore[arg-type]
    started.start()
    try:
        wait_until(lambda: started.status.is_current, "the lists")
        assert started.counts.failures
    finally:
        started.stop()


@pytest.mark.parametrize("break_off", [ApiServer.disconnect, ApiServer.end_watches])
def test_a_watch_that_ends_goes_on_where_it_was(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher, break_off: Callable[[ApiServer], None]
) -> None:
    wait_until(lambda: running.status.is_current, "the list")
    api.wait_watches(KIND_COUNT)
    lists = running.counts.lists
    break_off(api)
    api.put(make_pod("meanwhile", addresses=("10.1.2.2",)))
    wait_until(lambda: store.find("10.1.2.2"), "the Pod that came meanwhile")
    assert running.counts.lists == lists
    wait_until(lambda: running.status.is_current and not running.status.reason, "the end of the trouble")


@pytest.mark.parametrize("is_status", [False, True])
def test_history_that_is_gone_is_listed_anew(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher, is_status: bool
) -> None:
    wait_until(lambda: running.status.is_current, "the list")
    api.wait_watches(KIND_COUNT)
    api.is_410_a_status = is_status
    lists = running.counts.lists
    api.refuse(503, 2 * KIND_COUNT)  # What happens meanwhile no watch can tell.
    api.disconnect()
    api.delete(make_pod("orders-1"))
    api.put(make_pod("orders-2", addresses=("10.1.0.6",)))
    api.compact()
    wait_until(lambda: running.counts.lists == lists + KIND_COUNT, "the lists")
    wait_until(lambda: store.find("10.1.0.5").until and store.find("10.1.0.6"), "the end of what is not in the list")


def test_a_bookmark_saves_the_list(api: ApiServer, store: MemoryStore, running: ClusterWatcher) -> None:
    wait_until(lambda: running.status.is_current, "the list")
    api.wait_watches(KIND_COUNT)
    lists, events = running.counts.lists, running.counts.events
    for number in range(3):  # Of another kind: a watch of Namespaces hears nothing of it but the bookmark.
        api.put(make_pod(f"more-{number}", addresses=(f"10.1.1.{number}",)))
    wait_until(lambda: store.find("10.1.1.2"), "the Pods")
    api.compact()
    api.bookmark()
    wait_until(lambda: running.counts.events >= events + 3 + KIND_COUNT, "bookmarks")
    api.disconnect()
    api.put(make_pod("after", addresses=("10.1.2.3",)))
    wait_until(lambda: store.find("10.1.2.3"), "the next Pod")
    assert running.counts.lists == lists


def test_a_server_that_refuses_is_asked_again(api: ApiServer, store: MemoryStore, tmp_path: Path) -> None:
    api.refuse(503, KIND_COUNT)
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
    started = ClusterWatcher(cluster="", kubeconfig=kubeconfig, store=store)  # type: ignore[arg-type]
    started.start()
    try:
        wait_until(lambda: started.counts.failures == KIND_COUNT, "failures")
        wait_until(lambda: started.status.is_current and store.find("10.1.0.5"), "the list")
    finally:
        started.stop()


def test_a_missing_right_is_named_and_nothing_is_judged(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher
) -> None:
    api.forbidden.add("services")
    api.disconnect()
    running.stop()
    other = ClusterWatcher(cluster="", kubeconfig=running._kubeconfig, store=store)  # type: ignore[arg-type]
    store.rows["exposures"].clear()
    other.start()
    try:
        wait_until(lambda: "403" in other.status.reason, "the refusal")
        assert "give the service account this right" in other.status.reason
        assert not other.status.is_current and not store.rows["exposures"]
        api.forbidden.clear()
        wait_until(lambda: other.status.is_current and store.rows["exposures"], "the right")
    finally:
        other.stop()


def test_rows_wait_for_a_store_that_is_away(api: ApiServer, store: MemoryStore, running: ClusterWatcher) -> None:
    wait_until(lambda: running.status.is_current, "the list")
    store.is_broken = True
    api.put(make_pod("waiting", addresses=("10.1.2.4",)))
    wait_until(lambda: "the disk is full" in running.status.reason, "the complaint")
    store.is_broken = False
    wait_until(lambda: store.find("10.1.2.4") and not running.status.reason, "the rows")


def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"the kubeconfig .*missing cannot be used"):
        open_client(tmp_path / "missing")
    broken = tmp_path / "broken"
    broken.write_text("clusters: 7")
    with pytest.raises(AccessError, match=r"the kubeconfig .*broken"):
        open_client(broken)


def test_a_fault_of_ours_ends_no_watch(
    api: ApiServer, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_OPEN_RETRY_SECONDS", 0.02)
    faults = iter([ZeroDivisionError("made by the test")])
    looked = ClusterWatcher._look

    def look(self: ClusterWatcher) -> None:
        for fault in faults:
            raise fault
        looked(self)

    monkeypatch.setattr(ClusterWatcher, "_look", look)
    started = ClusterWatcher(
        cluster="",
        kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"),
        store=store,  # type: ignore[arg-type]
    )
    started.start()
    try:
        wait_until(lambda: store.find("10.96.0.10"), "a look")
        assert started.counts.failures == 1
    finally:
        started.stop()


def test_what_pods_hold_now_is_known_once_they_are_listed_and_follows_them(
    api: ApiServer, running: ClusterWatcher
) -> None:
    agent = {"is_host_network": True, "node_addresses": ("10.0.0.7",), "addresses": ("10.0.0.7",)}
    api.put(make_pod("agent", **agent))  # type: ignore[arg-type]
    seen: list[int] = []

    def list_names() -> dict[str, str]:
        held = running.list_held()
        seen.append(running.changes)
        return {peer.address: peer.name for peer in held.pods} if held else {}

    wait_until(lambda: list_names() == {"10.1.0.5": "orders-1"}, "the first list")
    held = running.list_held()
    assert held is not None and held.nodes == {"10.0.0.1": "node-1", "10.0.0.7": "node-1"}
    api.delete(make_pod("orders-1"))
    api.put(make_pod("orders-2", addresses=("10.1.0.6",)))
    wait_until(lambda: list_names() == {"10.1.0.6": "orders-2"}, "its successor")
    assert seen == sorted(seen) and seen[-1] > seen[0]
    api.put(make_pod("orders-3", addresses=("10.0.0.7",)))  # It claims a node's address.
    api.put(make_pod("orders-4", addresses=("10.1.0.8",)))
    wait_until(lambda: "10.1.0.8" in list_names(), "the last one")
    assert "10.0.0.7" not in list_names()


def test_what_a_sensor_says_of_its_node_is_the_nodes_within_a_second(
    api: ApiServer, store: MemoryStore, running: ClusterWatcher
) -> None:
    wait_until(lambda: store.find("10.96.0.10"), "a look")
    before = running.changes
    for _ in range(2):
        running.set_node_addresses("node-1", frozenset({"10.1.0.1", "10.1.0.5"}))
    wait_until(lambda: store.find("10.1.0.1"), "the bridge")
    held = running.list_held()
    assert held is not None and held.nodes == {"10.0.0.1": "node-1", "10.1.0.1": "node-1"}
    assert [peer.address for peer in held.pods] == ["10.1.0.5"] and running.changes == before + 1


def test_before_the_first_list_nothing_is_known_of_what_pods_hold(store: MemoryStore, tmp_path: Path) -> None:
    watch = ClusterWatcher(cluster="east", kubeconfig=tmp_path / "none", store=store)  # type: ignore[arg-type]
    assert watch.list_held() is None and watch.changes == 0


VIRTUAL_SERVICE = {
    "apiVersion": "networking.istio.io/v1beta1",
    "kind": "VirtualService",
    "metadata": {"namespace": "shop", "name": "orders"},
    "spec": {
        "hosts": ["shop.example"],
        "gateways": ["edge"],
        "http": [{"route": [{"destination": {"host": "orders"}}]}],
    },
}
ISTIO_GATEWAY = {
    "apiVersion": "networking.istio.io/v1beta1",
    "kind": "Gateway",
    "metadata": {"namespace": "shop", "name": "edge"},
    "spec": {"servers": [{"hosts": ["*"], "port": {"number": 80, "protocol": "HTTP"}}]},
}


def watch_istio(api: ApiServer, store: MemoryStore, directory: Path) -> ClusterWatcher:
    """Of a cluster with Istio before 1.22, which has v1beta1 alone."""
    api.put(ISTIO_GATEWAY)
    api.put(VIRTUAL_SERVICE)
    kubeconfig = api.write_kubeconfig(directory / "kubeconfig")
    started = ClusterWatcher(cluster="east", kubeconfig=kubeconfig, store=store)  # type: ignore[arg-type]
    started.start()
    return started


@pytest.fixture
def istio(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(watcher, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(reflector, "FIRST_REST_SECONDS", 0.02)
    kinds = tuple(
        Kind(group_version="networking.istio.io/v1beta1", kind=kind, plural=plural)
        for kind, plural in (("VirtualService", "virtualservices"), ("Gateway", "gateways"))
    )
    with ApiServer(objects=ObjectStore((*KINDS, *kinds))) as server:
        for manifest in (make_pod("orders-1"), make_service(), make_slice("orders", {"orders-1": "10.1.0.5"})):
            server.put(manifest)
        yield server


def test_an_older_version_is_followed_and_absent_apis_are_asked_once(
    istio: ApiServer, store: MemoryStore, tmp_path: Path
) -> None:
    started = watch_istio(istio, store, tmp_path)
    try:
        wait_until(lambda: any("virtual_service" in row.facts for row in store.rows["exposures"]), "the exposure")
        istio.wait_watches(KIND_COUNT + 2)
        istio.end_watches()
        istio.wait_watches(2 * (KIND_COUNT + 2))
        absent = [request.path for request in istio.requests if request.status == 404]
        assert len(absent) == len(set(absent)) and "/apis/networking.istio.io/v1/virtualservices" in absent
        assert "/apis/route.openshift.io/v1/routes" in absent
        assert (started.status.is_current, started.counts.failures) == (True, 0)
    finally:
        started.stop()


def test_a_right_that_was_never_given_keeps_no_other_kind_away(
    istio: ApiServer, store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster of others may have a role from before a kind was followed."""
    istio.forbidden.add("virtualservices")
    started = watch_istio(istio, store, tmp_path)
    try:
        wait_until(lambda: started.status.is_current and store.rows["exposures"], "the exposure")
        # The fake knows v1beta1 alone, so only that is refused.
        said = [record.message for record in caplog.records if "are not followed" in record.message]
        assert len(said) == 1 and "networking.istio.io/v1beta1/virtualservices" in said[0]
        istio.forbidden.add("services")
        istio.end_watches()
        wait_until(lambda: not started.status.is_current, "the right that was taken away")
    finally:
        started.stop()
