"""A cluster of three nodes under traffic: every call counted once, at the right workload, from the right one."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cluster.miniature import CLUSTER, Cluster, Pod, open_cluster, why_no_cluster
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.cluster.programs import TEMPLATES
from tests.collector.kubernetes.manifests import make_ingress, make_namespace, make_path, make_service
from tests.e2e.conftest import why_no_capture
from tests.e2e.daemon import find_program
from tests.e2e.inventory import Inventory
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.full("sensor.enrich", "collector.kubernetes")]

ORDERS, USERS, HEALTH = TEMPLATES
HASH = "5d4f8b9c7d"
CHURN = 200
PROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option forwardfor
frontend front
    bind :{port}
    default_backend back
backend back
    server one {target}
"""


def target(service: str, address: str, port: int, template: str = ORDERS, host: str = "") -> dict[str, Any]:
    """Where a client calls, and which service's calls these are."""
    return {"service": service, "address": address, "port": port, "template": template, "host": host or service}


class Shop:
    """The Pods of the test, the traffic, and what the collector says of it afterwards."""

    def __init__(self, cluster: Cluster, inventory: Inventory) -> None:
        self.cluster = cluster
        self.inventory = inventory
        self.pods: dict[str, Pod] = {}
        self.endpoints: list[dict[str, Any]] = []  # Hops too.
        self.listed: set[str] = set()  # Ids without them.

    def find(self, workload: str, port: int = 0, **wanted: Any) -> list[dict[str, Any]]:
        """Endpoints of a workload (and its port)."""
        return [
            item
            for item in self.endpoints
            if item["service"]["workload"] == workload
            and port in (0, item["service"]["port"])
            and all(item[name] == value for name, value in wanted.items())
        ]

    def count(self, workload: str, port: int = 8080) -> Counter[tuple[str, int]]:
        """What the inventory has of a workload's port, by template and status."""
        return self._count(self.find(workload, port))

    def _count(self, items: Iterable[dict[str, Any]]) -> Counter[tuple[str, int]]:
        counted: Counter[tuple[str, int]] = Counter()
        for item in items:
            for status, calls in self.inventory.get(f"/endpoints/{item['id']}")["status_codes"].items():
                counted[item["template"], 0 if status == "aborted" else int(status)] += calls
        return counted

    def count_unnamed(self, port: int = 8080) -> Counter[tuple[str, int]]:
        """The same of all that no Pod's name stands at."""
        return self._count(
            item
            for item in self.endpoints
            if item["service"]["port"] == port and item["service"]["workload_kind"] != "kubernetes"
        )

    def callers(self, address: str) -> dict[str, int]:
        """Calls of a consumer by who held its address; `?` where several did, or nobody."""
        found: Counter[str] = Counter()
        for caller in self.inventory.get(f"/consumers/address:{address}")["callers"]:
            holder = caller["holder"]
            found[f"{holder['kind']} {holder['label']}" if holder else "?"] += caller["calls"]
        return dict(found)

    def watched(self) -> dict[str, Any]:
        """How the collector's watch of the cluster is."""
        told: dict[str, Any] = self.inventory.get("/exposure")["clusters"][0]
        return told

    def calls_of(self, client: str) -> int:
        """What a client counted, of calls that a watched server answered."""
        return sum(calls for text, calls in self.cluster.log[client].items() if not text.startswith("legacy"))


def wait(condition: Callable[[], object], what: str, tell: Callable[[], object]) -> None:
    """`tell`: what there is instead, should it not come."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE_SECONDS:.0f} s: {tell()}"
        time.sleep(0.05)


def add_deployment(cluster: Cluster, name: str, node: int, suffix: str, **columns: Any) -> Pod:
    labels = {"app": name, "pod-template-hash": HASH}
    pod_name = f"{name}-{HASH}-{suffix}"
    return cluster.add_pod(
        pod_name, node=node, owner=("ReplicaSet", f"{name}-{HASH}"), workload=name, labels=labels, **columns
    )


def build(cluster: Cluster) -> dict[str, Pod]:
    """The Pods that stay, with what they serve, and the Services before them."""
    cluster.api.put(make_namespace("shop"))
    cluster.api.put(make_namespace("infra"))
    pods = {
        "orders-2": add_deployment(cluster, "orders", 2, "aaaaa"),
        "orders-3": add_deployment(cluster, "orders", 3, "bbbbb"),
        # Served behind a proxy of the same Pod.
        "users": add_deployment(cluster, "users", 2, "ccccc", containers=("app", "istio-proxy")),
        "agent": cluster.add_pod(
            "agent-ddddd",
            node=3,
            owner=("DaemonSet", "agent"),
            workload="agent",
            is_host_network=True,
            ports=({"name": "http", "containerPort": 9100, "hostPort": 9100},),
        ),
        "edge": cluster.add_pod(
            "edge-0",
            node=1,
            owner=("StatefulSet", "edge"),
            workload="edge",
            namespace="infra",
            ports=({"name": "http", "containerPort": 8000, "hostPort": 80},),
        ),
        # Served and called on one node, through Service addresses alone.
        "stock": add_deployment(cluster, "stock", 2, "eeeee"),
        "till": add_deployment(cluster, "till", 2, "fffff"),
        "cart-1": cluster.add_pod("cart-0", node=1, owner=("StatefulSet", "cart"), workload="cart"),
        "cart-2": cluster.add_pod("cart-1", node=2, owner=("StatefulSet", "cart"), workload="cart"),
    }
    for name in ("orders-2", "orders-3", "stock"):
        cluster.run(pods[name], "serve", port=8080)
    cluster.run(pods["users"], "serve", port=8081, address="::1")
    cluster.run(pods["agent"], "serve", port=9100)
    start_proxy(cluster, pods["users"], "istio-proxy", port=8080, to="[::1]:8081")
    start_proxy(cluster, pods["edge"], "app", port=8000, to="10.96.0.10:80")
    orders = [pods["orders-2"], pods["orders-3"]]
    cluster.add_service("orders", orders, address="10.96.0.10", port=8080, type="NodePort", node_port=30080)
    cluster.add_service("users", [pods["users"]], address="10.96.0.20", port=8080)
    cluster.add_service("stock", [pods["stock"]], address="10.96.0.40", port=8080)
    # A Service without a selector, whose server nobody watches.
    cluster.api.put(make_service("legacy", address="10.96.0.30"))
    cluster.api.put(make_ingress("web", make_path("/api")))
    ends_4 = [(pod.interface.address_4, 8080) for pod in orders]
    cluster.network.serve(
        {
            ("10.96.0.10", 80): ends_4,
            ("fd00:96::10", 80): [(pod.interface.address_6, 8080) for pod in orders],
            ("", 30080): ends_4,
            ("10.96.0.20", 80): [(pods["users"].interface.address_4, 8080)],
            ("10.96.0.40", 80): [(pods["stock"].interface.address_4, 8080)],
            ("fd00:96::40", 80): [(pods["stock"].interface.address_6, 8080)],
            ("10.96.0.30", 80): [(OUTSIDE_ADDRESS, 8090)],
        },
        host_ports={(1, 80): (pods["edge"].interface.address_4, 8000)},
    )
    cluster.zygote.run("serve", cgroup=None, netns=cluster.network.outside.path, port=8090)
    return pods


def start_proxy(cluster: Cluster, pod: Pod, container: str, *, port: int, to: str) -> None:
    program = find_program("haproxy")
    assert program is not None
    configuration = cluster.directory / f"{pod.name}.cfg"
    configuration.write_text(PROXY.format(port=port, target=to))
    cluster.run(pod, "proxy", container, path=program, configuration=str(configuration))
    cluster.zygote.run("reach", cgroup=None, netns=pod.interface.path, address="127.0.0.1", port=port)


def call_all(shop: Shop, pods: Mapping[str, Pod]) -> None:
    """Prime numbers of calls, by every way that there is."""
    cluster = shop.cluster
    service, service_6 = target("orders", "10.96.0.10", 80), target("orders", "fd00:96::10", 80)
    users = target("users", "10.96.0.20", 80, USERS)
    agent = target("agent", cluster.network.nodes[2].address_4, 9100, HEALTH)
    cluster.call(pods["cart-1"], service, users, agent, count=101)
    cluster.call(pods["cart-1"], service_6, count=31)
    cluster.call(pods["cart-2"], service, count=53, first=1000)
    cluster.call(pods["cart-2"], target("legacy", "10.96.0.30", 80), count=11)
    cluster.call(pods["till"], target("stock", "10.96.0.40", 80), count=37)
    cluster.call(pods["till"], target("stock", "fd00:96::40", 80), count=19)
    # From the node's own network, and from outside through a port of every node: both with the node's address.
    cluster.call(pods["agent"], service, count=17)
    outside = {"cgroup": None, "netns": cluster.network.outside.path, "source": OUTSIDE_ADDRESS}
    home = cluster.network.nodes[0].address_4
    for name, one, count in (
        ("node port", target("orders", home, 30080), 13),
        ("ingress", target("orders", home, 80, host="shop.example"), 23),
    ):
        _, told = cluster.zygote.run("call", targets=[one], count=count, **outside)
        cluster.log[name] = Counter(told)


def churn(shop: Shop, pods: Mapping[str, Pod]) -> None:
    """Pods that come, make a call or serve one, and go; their addresses are given away again. A client goes on calling
    meanwhile."""
    cluster, service = shop.cluster, target("orders", "10.96.0.10", 80)
    steady = cluster.run(pods["cart-2"], "call", targets=[service], count=307, first=5_000, is_waiting=False)
    for number in range(CHURN):
        node, name = 1 + number % 3, f"batch-{number}"
        pod = cluster.add_pod(
            f"{name}-x", node=node, owner=("Job", name), workload=name, host=100 + number // 3 % 50, labels={}
        )
        if number % 10:
            cluster.call(pod, service, count=1 + number % 3, first=10 * number)
        else:
            cluster.run(pod, "serve", port=8080)
            cluster.call(pods["cart-1"], target(name, pod.interface.address_4, 8080), count=2)
        cluster.delete_pod(pod)
    cluster.log["steady"] = Counter(cluster.zygote.wait(steady))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if reason := why_no_capture() or why_no_cluster():
        pytest.skip(reason)
    with ExitStack() as stack:
        cluster = open_cluster(tmp_path_factory.mktemp("cluster"), stack)
        pods = build(cluster)
        trusted = ",".join((pods["edge"].interface.address_4, "::1/128"))
        address = cluster.start_product("--trusted-proxy-cidrs", trusted)
        inventory = Inventory(address.url)
        stack.callback(inventory.close)
        made = Shop(cluster, inventory)
        wait(lambda: made.watched()["is_current"], "the watch", made.watched)
        made.pods = pods
        call_all(made, pods)
        churn(made, pods)
        cluster.stop_sensors()
        expected = sum(sum(log.values()) for log in cluster.log.values())
        wait(lambda: count_served(inventory) >= expected, f"{expected} calls", lambda: count_served(inventory))
        made.endpoints = inventory.list_items("/endpoints", hops="include")
        made.listed = {item["id"] for item in inventory.list_items("/endpoints")}
        yield made


def count_served(inventory: Inventory) -> int:
    """Calls that have arrived. What a proxy passes on is counted where it ends: its hop beside it would stand for a
    call that is still under way."""
    return sum(item["calls"] for item in inventory.list_items("/endpoints") if not item["is_proxied"])


def test_every_call_is_counted_once_by_endpoint_and_status(shop: Shop) -> None:
    cluster = shop.cluster
    assert shop.count("orders") == cluster.total("orders")
    assert shop.count("users", 8081) == cluster.total("users")
    assert shop.count("agent", 9100) == cluster.total("agent")
    sensors = shop.inventory.get("/sensors")["items"]
    assert {sensor["node"]: sensor["lost_calls"] for sensor in sensors} == {"node-1": 0, "node-2": 0, "node-3": 0}


def test_an_endpoint_of_two_nodes_is_one_and_bears_its_cluster(shop: Shop) -> None:
    found = {item["host"]: item for item in shop.find("orders")}
    assert set(found) == {"orders", "shop.example"} and len(shop.find("orders")) == 2
    service = found["orders"]["service"]
    assert service == {**service, "cluster": CLUSTER, "namespace": "shop", "workload": "orders", "port": 8080}
    assert service["workload_kind"] == "kubernetes" and service["host_name"] == ""
    assert {item["service"]["cluster"] for item in shop.endpoints} == {CLUSTER}


def test_a_client_is_named_on_its_own_node_and_on_others(shop: Shop) -> None:
    for name in ("cart-1", "cart-2"):
        pod = shop.pods[name]
        addresses = (pod.interface.address_4, pod.interface.address_6)
        found = [shop.callers(address) for address in addresses if name == "cart-1" or "." in address]
        assert all(set(callers) <= {"pod shop/cart"} for callers in found), found
        steady = sum(shop.cluster.log["steady"].values()) if name == "cart-2" else 0
        legacy = sum(calls for text, calls in shop.cluster.log[pod.name].items() if text.startswith("legacy"))
        counted = sum(sum(callers.values()) for callers in found)
        # Calls to the Service that nobody watches are known at the client only; what a sidecar passes on is seen twice.
        passed_on = sum(calls for text, calls in shop.cluster.log[pod.name].items() if text.startswith("users"))
        assert counted == shop.calls_of(pod.name) + steady + legacy + passed_on
    local = shop.inventory.get(f"/consumers/address:{shop.pods['cart-2'].interface.address_4}")
    # What its own node served: by the cgroup of the socket, not by the address.
    assert set(local["calls_by_workload"]) == {"shop/cart"}


def test_a_client_through_a_service_address_on_its_own_node_is_named(shop: Shop) -> None:
    """Its connection has other addresses at the server than at itself, so no socket leads to it: its sensor names it by
    who holds its address."""
    assert shop.count("stock") == shop.cluster.total("stock")
    assert shop.count("stock").total() == 56
    interface = shop.pods["till"].interface
    named = {
        address: shop.inventory.get(f"/consumers/address:{address}")["calls_by_workload"]
        for address in (interface.address_4, interface.address_6)
    }
    assert named == {interface.address_4: {"shop/till": 37}, interface.address_6: {"shop/till": 19}}


def test_the_address_called_and_what_it_reaches_are_both_known(shop: Shop) -> None:
    (legacy,) = shop.find("10.96.0.30", host="legacy")
    assert legacy["seen_at"] == "client" and legacy["calls"] == sum(shop.cluster.total("legacy").values())
    (called,) = legacy["called"]
    assert (called["kind"], called["label"]) == ("service", "shop/legacy")
    reached = shop.find("orders", host="orders")[0]
    kinds = {fact["kind"]: fact for fact in reached["exposure"]["facts"]}
    assert kinds["cluster_ip"]["addresses"] == ["10.96.0.10"] and kinds["node_port"]["port"] == 30080


def test_an_ingress_proxy_is_a_hop_and_its_client_is_the_one_outside(shop: Shop) -> None:
    (edge,) = shop.find("edge")
    expected = sum(shop.cluster.log["ingress"].values())
    assert (edge["is_proxied"], edge["calls"], edge["service"]["namespace"]) == (True, expected, "infra")
    (behind,) = shop.find("orders", host="shop.example")
    assert behind["calls"] == expected and not behind["is_proxied"]
    assert behind["id"] in shop.listed and edge["id"] not in shop.listed
    consumers = shop.inventory.get(f"/endpoints/{behind['id']}")["top_consumers"]
    assert [(one["id"], one["calls"]) for one in consumers] == [(f"address:{OUTSIDE_ADDRESS}", expected)]
    assert behind["exposure"]["level"] == "external"
    assert "Ingress shop/web: shop.example/api*" in behind["exposure"]["reasons"]


def test_a_sidecar_is_a_hop_and_the_application_the_endpoint(shop: Shop) -> None:
    proxied, application = shop.find("users", 8080), shop.find("users", 8081)
    expected = sum(shop.cluster.total("users").values())
    assert [(item["is_proxied"], item["calls"]) for item in proxied] == [(True, expected)]
    assert [(item["is_proxied"], item["calls"]) for item in application] == [(False, expected)]
    assert {item["id"] for item in application} <= shop.listed and not {item["id"] for item in proxied} & shop.listed


def test_the_network_of_a_node_is_no_pod(shop: Shop) -> None:
    (agent,) = shop.find("agent")
    assert (agent["service"]["namespace"], agent["service"]["port"], agent["exposure"]["level"]) == (
        "shop",
        9100,
        "external",
    )
    home = shop.cluster.network.nodes
    # Its own calls have the node's address, as those that came in at a node port and were translated have.
    assert shop.callers(home[2].address_4) == {"node node-3": sum(shop.cluster.log["agent-ddddd"].values())}
    assert shop.callers(home[0].address_4) == {"node node-1": sum(shop.cluster.log["node port"].values())}


def test_no_pod_of_a_churn_is_taken_for_another(shop: Shop) -> None:
    owners: dict[str, Counter[str]] = {}
    nameless: Counter[tuple[str, int]] = Counter()
    for number in range(CHURN):
        name, address = f"batch-{number}", f"10.1.{1 + number % 3}.{100 + number // 3 % 50}"
        if number % 10:
            owners.setdefault(address, Counter())[f"pod shop/{name}"] += shop.calls_of(f"{name}-x")
        else:
            # It lived for a tenth of a second: where the sensor had no processor in that time, it has no name.
            found, truth = shop.count(name), shop.cluster.total(name)
            assert found in (truth, Counter()), name
            nameless += truth - found
    assert shop.count_unnamed() == nameless and sum(nameless.values()) < CHURN / 10
    consumers = {item["id"]: item for item in shop.inventory.list_items("/consumers")}
    named = 0
    for address, truth in owners.items():
        consumer = consumers[f"address:{address}"]
        assert consumer["calls"] == sum(truth.values())
        if len(truth) == 1:  # One Pod had it, and nobody else ever.
            assert [f"pod {holder['label']}" for holder in consumer["holders"]] == list(truth)
            named += consumer["calls"]
            continue
        found = shop.callers(address)
        # Given away within a minute of the store's rows, it is nobody's.
        unnamed = found.pop("?", 0)
        assert all(calls <= truth[who] for who, calls in found.items()), f"{address}: {found} where {truth} called"
        assert sum(found.values()) + unnamed == sum(truth.values())
        named += sum(found.values())
    print(f"named {named} of {sum(map(Counter.total, owners.values()))} calls of {CHURN - CHURN // 10} churned clients")
