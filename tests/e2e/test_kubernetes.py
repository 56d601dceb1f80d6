"""Pods from the kernel to the inventory: real cgroups with the names of kubelets and runtimes, real calls, the sensor's
watch of the strict fake API server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensor.core.printable import make_printable
from tests.bpf.cgroups import find_own
from tests.cluster.api_server import ApiServer
from tests.cluster.pod_programs import Cgroups
from tests.cluster.pods import find_cgroup, make_deployment_pod, make_owner, make_pod
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

CALLS, PROBES, SCRAPES, SYSTEM_CALLS = 23, 5, 3, 7
KUBELET = "/system.slice/kubelet.service"
CART = make_deployment_pod("cart")
WEB = make_pod("web-0", owner=make_owner("StatefulSet", "web"), runtime="cri-o")
DNS = make_deployment_pod("coredns", namespace="kube-system")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "eu-1a"}},
}
METRICS = make_pod("agent-x", owner=make_owner("DaemonSet", "agent"), namespace="monitoring")


class Node:
    """A node with its API server, cgroups and a sensor."""

    def __init__(self, product: Product, directory: Path) -> None:
        self.api = ApiServer()
        self.api.__enter__()
        self.cgroups = Cgroups(find_own())
        self.api.put(NODE)
        for pod in (CART, WEB, DNS, METRICS):
            self.api.put(pod)
        _, address = product.start_collector()
        kubeconfig = self.api.write_kubeconfig(directory / "kubeconfig")
        (directory / "sensor.toml").write_text(f'kubeconfig = "{kubeconfig}"\nnode = "n1"\ncluster = "east"\n')
        self.sensor = product.start_sensor(address, "--config", str(directory / "sensor.toml"))
        self.inventory: Inventory = product.open_inventory(address)

    def endpoints(self, **service: str) -> list[dict[str, Any]]:
        """Endpoints of services with these fields."""
        return [
            item
            for item in self.inventory.list_items("/endpoints", hops="include")
            if all(item["service"][name] == value for name, value in service.items())
        ]

    def left_out(self) -> dict[tuple[str, str], int]:
        """Calls that the coverage says are left out, by workload and kind; those of programs outside of Kubernetes, as
        the collector, apart."""
        rows = self.inventory.list_items("/coverage/ports", protocol="left_out")
        return {
            (f"{row['service']['namespace']}/{row['service']['workload']}", row["address"]): row["calls"]
            for row in rows
            if row["service"]["namespace"]
        }

    def close(self) -> None:
        self.cgroups.close()
        self.api.stop()


@pytest.fixture(scope="module")
def node(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(product, tmp_path_factory.mktemp("node"))
    yield node
    node.close()


def test_calls_between_pods_are_named_and_probes_stay_out(node: Node) -> None:
    cgroups = node.cgroups
    _, port = cgroups.serve(find_cgroup(CART))
    _, dns_port = cgroups.serve(find_cgroup(DNS, driver="cgroupfs"))
    client = find_cgroup(WEB, driver="cgroupfs", qos="besteffort")
    cgroups.call(client, port, "web/1.0", [f"/api/v1/orders/{number}" for number in range(CALLS - 1)] + ["/healthz"])
    cgroups.call(KUBELET, port, "kube-probe/1.31", ["/healthz"] * PROBES)
    cgroups.call(find_cgroup(METRICS), port, "Prometheus/2.55.0", ["/metrics"] * SCRAPES)
    cgroups.call(client, dns_port, "web/1.0", ["/config"] * SYSTEM_CALLS)

    def read() -> dict[str, int]:
        return {item["template"]: item["calls"] for item in node.endpoints(workload="cart")}

    wait_until(lambda: sum(read().values()) >= CALLS, "the calls of the Pod")
    found = read()
    assert found.pop("/healthz") == 1
    assert list(found.values()) == [CALLS - 1]
    service = node.endpoints(workload="cart")[0]["service"]
    assert service == {
        "cluster": "east",
        "namespace": "shop",
        "workload": "cart",
        "workload_kind": "kubernetes",
        "host_name": "",
        "port": port,
    }
    # With the next report of the coverage.
    kubernetes = wait_until(lambda: node.endpoints(workload="cart")[0]["kubernetes"], "the workload's labels")
    assert kubernetes == {
        "kind": "Deployment",
        "labels": {"app.kubernetes.io/name": "cart"},
        "zones": ["eu-1a"],
        "nodes": ["n1"],
    }
    assert len(node.inventory.list_items("/endpoints", label="app.kubernetes.io/name=cart", namespace="shop")) == 2
    left_out = {
        ("shop/cart", "kubelet probes"): PROBES,
        ("shop/cart", "metrics scrapes"): SCRAPES,
        ("kube-system/coredns", "calls"): SYSTEM_CALLS,
    }
    wait_for_equal(node.left_out, left_out, f"{left_out} in the coverage")
    assert not node.endpoints(namespace="kube-system")
    client_calls = node.inventory.get("/consumers/address:127.0.0.1")["calls_by_workload"]
    assert client_calls["shop/web"] == CALLS


def test_a_sidecar_is_a_hop_and_no_caller(node: Node) -> None:
    """Client, sidecar, application: what the sidecar serves is marked, and it is not the application's caller."""
    pod = make_deployment_pod("mesh", containers=("app", "istio-proxy"))
    node.api.put(pod)
    _, port = node.cgroups.serve(find_cgroup(pod))
    proxy_port = node.cgroups.serve_proxy(find_cgroup(pod, "istio-proxy"), port)
    paths = [f"/api/v1/parcels/{number}" for number in range(CALLS)]
    node.cgroups.call(find_cgroup(WEB), proxy_port, "web/1.0", paths)

    def read() -> dict[int, tuple[int, bool]]:
        return {one["service"]["port"]: (one["calls"], one["is_proxied"]) for one in node.endpoints(workload="mesh")}

    expected = {port: (CALLS, False), proxy_port: (CALLS, True)}
    wait_for_equal(read, expected, "the rows of the list")
    named = node.inventory.get("/consumers/address:127.0.0.1")["calls_by_workload"]
    assert "shop/mesh" not in named and named["shop/web"] >= CALLS, named


@pytest.mark.full("sensor.enrich")
def test_a_pod_that_lives_for_one_call_is_named_in_time(node: Node) -> None:
    pod = make_deployment_pod("flash", is_started=False)
    path = find_cgroup(pod)
    written = time.monotonic()
    node.api.put(pod)
    _, port = node.cgroups.serve(path)
    node.cgroups.call(find_cgroup(WEB), port, "web/1.0", ["/api/v1/flash"])
    node.cgroups.remove(path)
    node.api.delete(pod)
    lived = time.monotonic() - written
    wait_until(lambda: node.endpoints(workload="flash"), "the endpoint of the Pod")
    named = time.monotonic() - written
    print(
        f"a Pod that lived for {lived:.2f} s was an endpoint {named:.2f} s after it was written"
    )  # docs/internals/kubernetes.md
    (endpoint,) = node.endpoints(workload="flash")
    assert (endpoint["service"]["namespace"], endpoint["calls"]) == ("shop", 1)


@pytest.mark.full("sensor.enrich")
def test_names_heal_when_the_api_is_back(node: Node) -> None:
    pod = make_deployment_pod("late")
    node.api.forbidden.add("pods")
    node.api.disconnect()
    _, port = node.cgroups.serve(find_cgroup(pod))
    node.cgroups.call(find_cgroup(WEB), port, "web/1.0", ["/api/v1/late"] * 3)
    unnamed: dict[str, Any] = {"workload_kind": "container", "port": port}
    wait_until(lambda: node.endpoints(**unnamed), "its container's id")
    (before,) = node.endpoints(**unnamed)
    sentence = "Pods are not followed"
    sensors = "/sensors"  # Told with the next report.
    wait_until(lambda: sentence in node.inventory.get(sensors)["items"][0]["reason"], sentence)
    node.api.put(pod)
    node.api.forbidden.clear()

    calls = 3

    def call_and_look() -> bool:
        nonlocal calls
        node.cgroups.call(find_cgroup(WEB), port, "web/1.0", ["/api/v1/late"])
        calls += 1
        return bool(node.endpoints(workload="late"))

    wait_until(call_and_look, "the Pod's name")
    # Calls that were told under the container's id are the workload's too, and the id of then still leads there.
    wait_until(
        lambda: [item["calls"] for item in node.endpoints(workload="late")] == [calls],
        f"{calls} calls",
    )
    assert not node.endpoints(**unnamed)
    assert node.inventory.get(f"/endpoints/{before['id']}")["service"]["workload"] == "late"


def test_a_pod_of_any_owner_is_named_in_print_and_the_others_stay_exact(node: Node) -> None:
    """Of an owner the API server checks nothing but that it has a name, and of an annotation's value nothing."""
    owner = make_owner("\x1b[31mKind\n" * 9, "\u202e<svg onload=alert(1)>\x00\u2028" * 9)
    evil = make_pod("evil-0", owner=owner, annotations={"apidae.io/watch": "\x07\x1b]0;title"})
    node.api.put(evil)
    _, port = node.cgroups.serve(find_cgroup(evil))
    _, good_port = node.cgroups.serve(find_cgroup(WEB))
    for each in (port, good_port):
        node.cgroups.call(find_cgroup(CART), each, "cart/1.0", ["/orders/1"] * CALLS)

    def count(**service: str) -> int:
        ports = {port, good_port}
        return sum(one["calls"] for one in node.endpoints(**service) if one["service"]["port"] in ports)

    wait_for_equal(lambda: count(workload=make_printable(owner["name"])), CALLS, "the calls of the hostile Pod")
    wait_for_equal(lambda: count(workload="web"), CALLS, "those of the other")
    assert node.sensor.is_running and "traceback" not in node.sensor.log_path.read_text()
