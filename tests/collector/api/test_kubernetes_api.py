"""What Kubernetes knows, through the store to API and page: exposure with its history, and who held an address when."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.inventory.endpoints.peers import Call, read_address_book
from collector.kubernetes.exposure import Exposure
from collector.kubernetes.rows import Fact, FactKind, Peer, write_facts
from collector.kubernetes.watcher import ClusterStatus, ClusterWatcher
from collector.receiver.reports import WorkloadRecord, convert_workloads
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from sensor.enrich.containers import Container, ContainerImage, ContainerTable
from sensor.export.messages import write_coverage
from tests.cluster.api_server import ApiServer
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.kubernetes.manifests import make_pod, make_service, make_slice
from tests.collector.states import create_state
from tests.waiting import wait_until

pytestmark = pytest.mark.store

CLUSTER_IP = Fact(kind=FactKind.CLUSTER_IP, source="shop/orders", port=80, addresses=("10.96.0.10",))
INGRESS = Fact(
    kind=FactKind.INGRESS,
    source="shop/web",
    host="shop.example",
    path="/api",
    path_type="Prefix",
    is_external=True,
    is_tls=True,
)
POLICY = Fact(kind=FactKind.NETWORK_POLICY, source="shop/ours", note="lets some in")
DIGEST = "docker.io/library/nginx@sha256:" + "cd" * 32
MINUTE = int(NOW) // 60 * 60 - 60


def make_peer(address: str, name: str, **columns: object) -> Peer:
    peer = Peer(
        cluster="",
        address=address,
        port=0,
        since=MINUTE - 3_600,
        until=0,
        kind="pod",
        namespace="shop",
        name=name,
        workload=name.rsplit("-", 2)[0],
        workload_kind="Deployment",
        node="node-2",
        services=(),
        workloads=(),
        version=1,
    )
    return replace(peer, **columns)  # type: ignore[arg-type]


def make_exposure(port: int, *facts: Fact, at: float, workload: str = "orders") -> Exposure:
    return Exposure(cluster="", namespace="shop", workload=workload, port=port, time=int(at), facts=write_facts(facts))


def make_workload(node: str, **columns: object) -> WorkloadRecord:
    record = WorkloadRecord(
        cluster="",
        namespace="shop",
        workload="orders",
        node=node,
        kind="Deployment",
        labels=("app.kubernetes.io/part-of=shop", "team=a=b"),
        zone="eu-1a",
        pods=2,
        time=datetime.fromtimestamp(int(NOW), UTC),
    )
    return replace(record, **columns)  # type: ignore[arg-type]


def tell_container(node: str, tag: str) -> list[WorkloadRecord]:
    """What comes of a container's image, as the sensor of a plain host tells it."""
    image = ContainerImage(name="docker.io/library/nginx", tags=(tag,), repo_digests=(DIGEST,))
    table = ContainerTable(lambda _id, _uid: Container(name="web", image=image))
    table.name("a")
    told = write_coverage([], table.workloads(cluster="", zone=""), time_unix_ns=1)
    return convert_workloads(told.coverage, node=node, now_unix_seconds=NOW)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    behind = seed.endpoint(1, "GET", "/api/orders/{order_id}", namespace="shop")
    inside = seed.endpoint(2, "GET", "/internal", namespace="shop")
    public = seed.endpoint(3, "GET", "/plain", workload="nginx")
    private = seed.endpoint(4, "GET", "/private", workload="nginx")
    called = seed.endpoint(5, "GET", "/users", host="users", workload="10.96.0.20", port=80)
    at_node = seed.endpoint(6, "GET", "/node", host="node", workload="10.0.0.1", port=30080)
    container = seed.endpoint(7, "GET", "/contained", workload="web", workload_kind=2, port=81)
    unit = seed.endpoint(8, "GET", "/unit", workload="web", workload_kind=1, port=82)
    seed.calls(container, 2)
    seed.calls(unit, 2)
    seed.calls(behind, 10, client_address="10.1.0.7")
    seed.calls(behind, 4, client_address="10.1.0.8")
    seed.calls(behind, 3, client_address="10.1.0.8", minutes_ago=20)
    seed.calls(inside, 5, client_address="10.1.0.7")
    seed.calls(public, 2, client_address="8.8.4.4")
    seed.calls(public, 1, client_address="2a00:1450::5")
    seed.calls(private, 3, client_address="fd00::9")
    seed.calls(called, 6, role=2, client_address="10.1.0.7", client_workload="shop/cart")
    seed.calls(at_node, 6, role=2, client_address="10.1.0.7", client_workload="shop/cart")
    seed.write(opened)
    opened.insert_records(
        "exposures",
        [
            make_exposure(0, at=NOW - 9_000),
            make_exposure(8080, CLUSTER_IP, at=NOW - 9_000),
            make_exposure(8080, CLUSTER_IP, INGRESS, at=NOW - 600),
            make_exposure(0, POLICY, at=NOW - 300),
            make_exposure(0, at=NOW - 9_000, workload="idle"),
        ],
    )
    opened.insert_records(
        "peer_addresses",
        [
            make_peer("10.1.0.7", "cart-7d9f-aaaaa", services=("shop/cart",)),
            # Given away half way between the calls of 20 minutes ago and those of now.
            make_peer("10.1.0.8", "old-7d9f-bbbbb", until=MINUTE - 600),
            make_peer("10.1.0.8", "new-7d9f-ccccc", since=MINUTE - 590),
            make_peer(
                "10.96.0.20", "users", kind="service", workload="", workload_kind="", workloads=("shop/users:8081",)
            ),
            make_peer("10.0.0.1", "node-1", kind="node", namespace="", workload="", workload_kind="", node="node-1"),
            make_peer("", "edge", kind="service", port=30080, workload="", workloads=("infra/edge:8443",)),
            make_peer("10.1.0.7", "other-7d9f-ddddd", cluster="west"),
        ],
    )
    opened.insert_records("workloads", [make_workload("node-1"), make_workload("node-2", zone="eu-1b")])
    opened.insert_records("workloads", [*tell_container("node-1", "1.27"), *tell_container("node-2", "1.28")])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(store: EmbeddedStore) -> Iterator[TestClient]:
    status = ClusterStatus(cluster="", is_current=False, reason="no right", pods=3, services=1)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            clusters=lambda: [status],
        )
    )
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def list_templates(client: TestClient, **filters: str) -> list[str]:
    return sorted(item["template"] for item in client.get("/api/v1/endpoints", params=filters).json()["items"])


def test_endpoints_say_what_was_deployed(client: TestClient) -> None:
    items = {item["template"]: item for item in client.get("/api/v1/endpoints").json()["items"]}
    assert items["/api/orders/{order_id}"]["kubernetes"] == {
        "kind": "Deployment",
        "labels": {"app.kubernetes.io/part-of": "shop", "team": "a=b"},
        "zones": ["eu-1a", "eu-1b"],
        "nodes": ["node-1", "node-2"],
    }
    assert items["/plain"]["kubernetes"] is None
    page = client.get(f"/endpoints/{items['/api/orders/{order_id}']['id']}").text
    assert "<dt>Deployment</dt>" in page and "label=team%3Da%3Db" in page


def test_endpoints_of_containers_have_their_image(client: TestClient) -> None:
    items = {item["template"]: item for item in client.get("/api/v1/endpoints").json()["items"]}
    image = {key: value for key, value in items["/contained"].items() if key.startswith("container_image_")}
    assert image == {
        "container_image_name": "docker.io/library/nginx",
        "container_image_tags": ["1.27"],
        "container_image_repo_digests": [DIGEST],
    }
    assert items["/contained"]["kubernetes"] is None
    for template in ("/unit", "/plain", "/api/orders/{order_id}"):
        assert (items[template]["container_image_name"], items[template]["container_image_tags"]) == ("", [])
    page = client.get(f"/endpoints/{items['/contained']['id']}").text
    assert "<dt>Image</dt>" in page and "docker.io/library/nginx</a>" in page and "1.27 sha256:cdcdcdcdcdcd on" in page
    assert "<dt>Image</dt>" not in client.get(f"/endpoints/{items['/unit']['id']}").text


def test_endpoints_are_filtered_by_image(client: TestClient) -> None:
    assert list_templates(client, label="container.image.name=docker.io/library/nginx") == ["/contained"]
    assert list_templates(client, label="container.image.tags=1.27") == ["/contained"]
    assert list_templates(client, label="container.image.tags=1.28") == []  # Of another host's.
    assert list_templates(client, label="container.image.name") == ["/contained"]


def test_endpoints_are_filtered_by_namespace_and_label(client: TestClient) -> None:
    shop = ["/api/orders/{order_id}", "/internal"]
    assert list_templates(client, namespace="shop") == shop
    assert list_templates(client, namespace="sho") == []
    assert list_templates(client, label="team=a=b") == shop
    assert list_templates(client, label="team") == shop
    assert list_templates(client, label="team=a") == []
    assert list_templates(client, label="tea") == []


def test_endpoints_say_from_where_they_are_reached_and_why(client: TestClient) -> None:
    items = {item["template"]: item for item in client.get("/api/v1/endpoints").json()["items"]}
    levels = {template: item["exposure"]["level"] for template, item in items.items()}
    assert levels == {
        "/api/orders/{order_id}": "external",
        "/internal": "internal",  # The Ingress leads to /api only.
        "/plain": "external",
        "/contained": "internal",
        "/unit": "internal",
        "/private": "internal",
        "/users": "unknown",
        "/node": "unknown",
    }
    behind, plain = items["/api/orders/{order_id}"]["exposure"], items["/plain"]["exposure"]
    assert behind["reasons"] == ["Ingress shop/web: shop.example/api*", "NetworkPolicy shop/ours lets some in"]
    assert [fact["kind"] for fact in behind["facts"]] == ["cluster_ip", "ingress", "network_policy"]
    assert behind["since"] is not None and plain["since"] is None
    assert plain["reasons"][0].startswith("3 calls from public addresses, as ")
    assert items["/internal"]["exposure"]["reasons"] == [
        "nothing leads to it from outside the cluster",
        "called from private addresses only",
        "NetworkPolicy shop/ours lets some in",
    ]


def test_what_is_called_by_address_is_named_with_what_it_reaches(client: TestClient) -> None:
    items = {item["template"]: item for item in client.get("/api/v1/endpoints").json()["items"]}
    (service,) = items["/users"]["called"]
    assert (service["kind"], service["label"], service["workloads"]) == ("service", "shop/users", ["shop/users:8081"])
    (port,) = items["/node"]["called"]
    assert (port["kind"], port["label"], port["workloads"]) == ("service", "shop/edge", ["infra/edge:8443"])
    assert items["/plain"]["called"] == []


def test_the_history_of_an_exposure_is_kept(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints/ep0001/exposure").json()
    told = [(change["port"], [fact["kind"] for fact in change["facts"]]) for change in answer["history"]]
    assert told == [
        (0, ["network_policy"]),
        (8080, ["cluster_ip", "ingress"]),
        (0, []),
        (8080, ["cluster_ip"]),
    ]
    assert answer["exposure"]["level"] == "external"
    assert client.get("/api/v1/endpoints/nosuch/exposure").status_code == 404


def test_exposures_are_listed_by_workload_and_port(client: TestClient) -> None:
    answer = client.get("/api/v1/exposure", params={"limit": 1}).json()
    assert answer["clusters"] == [{"cluster": "", "is_current": False, "reason": "no right", "pods": 3, "services": 1}]
    assert [(one["workload"], one["port"], one["exposure"]["level"]) for one in answer["items"]] == [
        ("idle", 0, "internal")
    ]
    following = client.get("/api/v1/exposure", params={"limit": 1, "cursor": answer["next_cursor"]}).json()
    assert [(one["workload"], one["port"], one["exposure"]["level"]) for one in following["items"]] == [
        ("orders", 8080, "external")
    ]
    assert following["next_cursor"] is None and following["total"] == 2
    assert client.get("/api/v1/exposure", params={"level": "external"}).json()["total"] == 1
    assert client.get("/api/v1/exposure", params={"q": "shop/idle"}).json()["total"] == 1
    assert client.get("/api/v1/exposure", params={"cursor": answer["next_cursor"], "q": "x"}).status_code == 422


def test_a_consumer_known_by_address_is_named_in_its_time(client: TestClient) -> None:
    items = {item["id"]: item for item in client.get("/api/v1/consumers").json()["items"]}
    (cart,) = items["address:10.1.0.7"]["holders"]
    assert (cart["label"], cart["name"], cart["services"]) == ("shop/cart", "cart-7d9f-aaaaa", ["shop/cart"])
    # Over the whole span two Pods had this address: neither is named as the one.
    assert [holder["label"] for holder in items["address:10.1.0.8"]["holders"]] == ["shop/old", "shop/new"]
    detail = client.get("/api/v1/consumers/address:10.1.0.8", params={"since": "1h"}).json()
    assert [(caller["holder"]["label"], caller["calls"]) for caller in detail["callers"]] == [
        ("shop/new", 4),
        ("shop/old", 3),
    ]
    assert client.get("/api/v1/consumers/address:8.8.4.4").json()["callers"] == []
    top = client.get("/api/v1/endpoints/ep0001").json()["top_consumers"]
    assert [[holder["label"] for holder in one["holders"]] for one in top] == [["shop/cart"], ["shop/old", "shop/new"]]


def test_an_address_is_looked_up_by_time_and_cluster(store: EmbeddedStore) -> None:
    def find(start: int, end: int, cluster: str | None = "") -> list[str]:
        call = Call(address="10.1.0.8", start=start, end=end, cluster=cluster)
        return [holder.name for holder in read_address_book(store, [call]).find(call)]

    assert find(MINUTE - 700, MINUTE - 650) == ["old-7d9f-bbbbb"]
    assert find(MINUTE - 598, MINUTE - 592) == []  # Between the two.
    assert find(MINUTE - 601, MINUTE - 589) == ["old-7d9f-bbbbb", "new-7d9f-ccccc"]
    assert find(MINUTE - 100, MINUTE) == ["new-7d9f-ccccc"]
    assert find(MINUTE - 100, MINUTE, "west") == []
    both = Call(address="10.1.0.7", start=MINUTE, end=MINUTE + 1)
    assert [one.cluster for one in read_address_book(store, [both]).find(both)] == ["", "west"]


def test_the_pages_show_it(client: TestClient) -> None:
    inventory = client.get("/endpoints").text
    assert "external</span>" in inventory and "service shop/users → shop/users:8081" in inventory
    page = client.get("/endpoints/ep0001").text
    assert "Exposure: external" in page and "Ingress shop/web: shop.example/api*" in page
    assert "pod shop/cart, cart-7d9f-aaaaa" in page and "perhaps pod shop/old" in page
    assert "reaches shop/users:8081" in client.get("/endpoints/ep0005").text


def test_a_watch_keeps_its_book_in_the_store_over_a_restart(store: EmbeddedStore, tmp_path: Path) -> None:
    def count() -> list[tuple[object, ...]]:
        addresses = "SELECT address, toString(until > 0) FROM peer_addresses FINAL WHERE cluster = 'east'"
        exposures = "SELECT workload, toString(count()) FROM exposures FINAL WHERE cluster = 'east' GROUP BY workload"
        return sorted(store.query(f"{addresses} UNION ALL {exposures}"))

    def watch(expected: list[tuple[str, str]], kubeconfig: Path) -> None:
        watcher = ClusterWatcher(cluster="east", kubeconfig=kubeconfig, store=store)
        watcher.start()
        try:
            wait_until(lambda: count() == expected, f"{expected} in the store")
        finally:
            watcher.stop()

    with ApiServer() as api:
        for manifest in (make_pod("orders-1"), make_service(), make_slice("orders", {"orders-1": "10.1.0.5"})):
            api.put(manifest)
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        watch([("10.0.0.1", "0"), ("10.1.0.5", "0"), ("10.96.0.10", "0"), ("orders", "2")], kubeconfig)
        api.delete(make_pod("orders-1"))
        api.put(make_pod("other", addresses=(), labels={}, owner=("DaemonSet", "log")))
        watch([("10.0.0.1", "0"), ("10.1.0.5", "1"), ("10.96.0.10", "0"), ("log", "1"), ("orders", "2")], kubeconfig)
