"""Names of Pods: of the service, of the client, of what is not known yet and is later."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sensor.core.attachments import PodConsent
from sensor.core.calls import Hop, Service, WorkloadKind
from sensor.enrich.cgroup import CgroupOwner
from sensor.enrich.identity import FORMER_NAMES_MAX, FormerNames
from sensor.enrich.kubernetes.cluster import PodName
from tests.cluster.pods import find_cgroup, make_container_id, make_deployment_pod, make_owner, make_pod, make_uid
from tests.sensor.enrich.test_identity import Node

CART = make_deployment_pod("cart")
PLACE = f"shop/{CART['metadata']['name']}"


@dataclass
class FakePods:
    """Pods by uid."""

    names: dict[str, PodName] = field(default_factory=dict)
    generation: int = 0
    node_addresses: frozenset[str] = frozenset()
    holders: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def name(self, owner: CgroupOwner) -> PodName | None:
        return self.names.get(owner.pod_uid)

    def pod_workload(self, uid: str) -> str:
        name = self.names.get(uid)
        return f"{name.namespace}/{name.workload}" if name is not None else ""

    @property
    def consent_generation(self) -> int:
        return self.generation

    def find_consent(self, uid: str) -> PodConsent | None:
        name = self.names.get(uid)
        if name is None:
            return None
        return PodConsent(namespace=name.namespace, name="cart-1", annotated=True, labelled=None)

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return self.holders.get((address, first_ns, last_ns), "")

    def tell(self, uid: str, name: PodName) -> None:
        self.names[uid] = name
        self.generation += 1


@pytest.fixture
def pods() -> FakePods:
    return FakePods()


@pytest.fixture
def node(tmp_path: Path, pods: FakePods) -> Node:
    return Node(tmp_path, pods=pods)


def test_a_pod_is_named_by_its_workload_on_every_node_alike(node: Node, pods: FakePods) -> None:
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    cgroup_id = node.add_cgroup(find_cgroup(CART))
    assert node.identity.server(cgroup_id, 8080, "10.244.1.7")[0] == Service(
        cluster="",
        namespace="shop",
        workload="cart",
        workload_kind=WorkloadKind.KUBERNETES,
        host_name="",
        port=8080,
    )
    assert node.identity.client_workload(cgroup_id, "10.244.1.7", 40_000) == "shop/cart"
    assert node.identity.client_service(cgroup_id).workload == "cart"
    assert node.identity.pod_workload(cgroup_id) == "shop/cart"
    unit = node.add_cgroup("/system.slice/shop.service")
    assert node.identity.pod_workload(unit) == node.identity.pod_workload(1) == ""


def test_a_cgroup_of_a_pod_has_the_consent_of_that_pod(node: Node, pods: FakePods) -> None:
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    consent = node.identity.find_consent(node.add_cgroup(find_cgroup(CART)))
    assert consent is not None and (consent.namespace, consent.annotated) == ("shop", True)
    assert node.identity.find_consent(node.add_cgroup("/system.slice/shop.service")) is None
    assert node.identity.consent_generation == 1


def test_a_cgroup_that_a_pod_names_itself_is_of_no_other_pod(node: Node, pods: FakePods) -> None:
    """By the kubelet's cgroup, which is the outermost: a name below it may be anybody's."""
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    web = make_deployment_pod("web")
    pods.tell(make_uid(f"shop/{web['metadata']['name']}"), PodName("shop", "web", False, ""))
    within = node.add_cgroup(find_cgroup(CART) + find_cgroup(web))
    assert node.identity.pod_workload(within) == "shop/cart"


def test_a_client_without_a_cgroup_is_named_by_its_address(node: Node, pods: FakePods, tmp_path: Path) -> None:
    pods.holders["10.244.1.9", 5, 6] = "shop/cart"
    assert node.identity.is_naming_addresses
    assert node.identity.address_workload("10.244.1.9", 5, 6) == "shop/cart"
    assert node.identity.address_workload("10.244.1.9", 5, 7) == ""
    (tmp_path / "plain").mkdir()
    plain = Node(tmp_path / "plain").identity
    assert not plain.is_naming_addresses and plain.address_workload("10.244.1.9", 5, 6) == ""


def test_a_pod_that_is_not_known_is_its_container_and_heals(node: Node, pods: FakePods) -> None:
    cgroup_id = node.add_cgroup(find_cgroup(CART))
    end = (cgroup_id, 8080, "10.244.1.7")
    before = node.identity.server(*end)[0]
    assert (before.workload, before.workload_kind) == (make_container_id(f"{PLACE}/app")[:12], WorkloadKind.CONTAINER)
    assert not node.identity.rename()
    pods.tell(make_uid(PLACE), PodName("shop", "cart", True, ""))
    assert node.identity.rename()
    assert (node.identity.server(*end)[0].workload, node.identity.server(*end)[1]) == ("cart", Hop.PROXY)
    assert node.identity.former_names.by_workload() == {("shop", "cart"): (before.workload,)}
    assert node.identity.client_workload(cgroup_id, "", 0) == "shop/cart"
    assert not node.identity.rename()


def test_a_process_in_the_pods_own_cgroup_is_of_the_pod(node: Node, pods: FakePods) -> None:
    path = find_cgroup(CART).rpartition("/")[0]
    cgroup_id = node.add_cgroup(path)
    assert node.identity.server(cgroup_id, 80, "10.244.1.7")[0].workload == f"pod-{make_uid(PLACE)}"
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    node.identity.rename()
    assert node.identity.server(cgroup_id, 80, "10.244.1.7")[0].workload == "cart"
    assert node.identity.former_names.by_workload() == {("shop", "cart"): (f"pod-{make_uid(PLACE)}",)}
    pods.tell(make_uid(PLACE), PodName("shop", "other", False, ""))
    node.identity.rename()
    assert ("shop", "other") not in node.identity.former_names.by_workload()


def test_former_names_are_bounded() -> None:
    names = FormerNames()
    for number in range(FORMER_NAMES_MAX + 2):
        names.add(f"{number:012x}", namespace="shop", workload="cart")
    (kept,) = names.by_workload().values()
    assert len(kept) == FORMER_NAMES_MAX and kept[0] == f"{2:012x}"


def test_a_pod_that_died_before_it_was_named_is_named(node: Node, pods: FakePods) -> None:
    """Its cgroup is gone with it; the index knew it, and the API says later who it was."""
    path = find_cgroup(CART)
    cgroup_id = node.add_cgroup(path)
    node.identity.refresh()
    (node.tree / path.lstrip("/")).rmdir()
    node.identity.refresh()
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    assert node.identity.server(cgroup_id, 8080, "10.244.1.7")[0].workload == "cart"
    node.identity.refresh()
    assert node.identity.server(cgroup_id, 8080, "10.244.1.7")[0].workload == "cart"


def test_a_listener_inherited_from_the_root_is_of_the_pod_where_its_process_is_now(node: Node, pods: FakePods) -> None:
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    node.proc.add(70, sockets=(501,), cgroup=f"0::{find_cgroup(CART)}\n")
    node.listen(8080, 501)
    assert node.identity.server(node.root_id, 8080, "127.0.0.1")[0].workload == "cart"


def test_a_hybrid_host_names_pods_by_version_1_cgroups(node: Node, pods: FakePods) -> None:
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    path = find_cgroup(CART, driver="cgroupfs")
    node.proc.add(70, sockets=(501,), cgroup=f"5:memory:{path}\n1:name=systemd:{path}\n0::/\n")
    node.listen(8080, 501)
    assert node.identity.server(node.root_id, 8080, "10.244.1.7")[0].workload == "cart"


def test_a_runtime_that_leaves_containers_in_its_own_unit_names_none_of_them(node: Node, pods: FakePods) -> None:
    """runc before 1.1 on a hybrid host: containers are in the runtime's unit in version 2, and have a cgroup in 1."""
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    unit = "/system.slice/containerd.service"
    cgroup_id = node.add_cgroup(unit)
    path = find_cgroup(CART, driver="cgroupfs")
    node.proc.add(70, sockets=(501,), cgroup=f"5:memory:{path}\n1:name=systemd:{unit}\n0::{unit}\n")
    node.proc.add(71, sockets=(502,), cgroup=f"5:memory:{unit}\n1:name=systemd:{unit}\n0::{unit}\n")
    node.listen(8080, 501, cgroup_id=cgroup_id)
    node.listen(1338, 502, cgroup_id=cgroup_id)
    assert node.identity.server(cgroup_id, 8080, "10.244.1.7")[0].workload == "cart"
    assert node.identity.server(cgroup_id, 1338, "127.0.0.1")[0].workload == "containerd.service"
    process = node.identity._listeners.find(cgroup_id, 8080, "10.244.1.7")
    assert process is not None and process.process is not None
    assert node.identity.name_process(process.process) == "shop/cart"
    # A client there is named by its process; without one it is the runtime's, as before.
    assert node.identity.client_workload(cgroup_id, "10.244.1.7", 40_000) == "containerd.service"


def test_what_is_left_out_is_known_by_end_and_by_client(node: Node, pods: FakePods) -> None:
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, "off"))
    cgroup_id = node.add_cgroup(find_cgroup(CART))
    end = (cgroup_id, 8080, "10.244.1.7")
    assert node.identity.server(*end)[0].workload == "cart"
    assert node.identity.why_end_left_out(*end) == node.identity.why_left_out(cgroup_id) == "off"
    pods.tell(make_uid(PLACE), PodName("shop", "cart", False, ""))
    node.identity.rename()
    assert (node.identity.why_end_left_out(*end), node.identity.why_left_out(cgroup_id)) == ("", "")


def test_probes_come_from_the_node_itself_or_the_same_pod(node: Node, pods: FakePods) -> None:
    server, sidecar = node.add_cgroup(find_cgroup(CART)), node.add_cgroup(find_cgroup(CART, "istio-proxy"))
    other = node.add_cgroup(find_cgroup(make_deployment_pod("web")))
    kubelet = node.add_cgroup("/system.slice/kubelet.service")
    pods.node_addresses = frozenset({"192.0.2.4"})
    asked = [node.identity.is_node_client(peer, "10.244.1.1", server) for peer in (kubelet, sidecar, other, 0)]
    assert asked == [True, True, False, False]
    assert node.identity.is_node_client(0, "192.0.2.4", server)
    assert [node.identity.is_kubelet(one) for one in (kubelet, server)] == [True, False]


def test_probes_from_a_bridge_of_the_node_are_the_nodes(node: Node, pods: FakePods) -> None:
    """A bridge CNI: what the node sends to Pods comes from the bridge, whose address the API does not list. Captured by
    system calls, the client has no cgroup."""
    server = node.add_cgroup(find_cgroup(CART))
    pods.node_addresses = frozenset({"192.0.2.4"})
    node.listen(10_250, 501, namespace=1)
    node.listen(8080, 502, namespace=2)
    node.sockets.addresses = {
        1: frozenset({"127.0.0.1", "192.0.2.4", "10.244.1.1", "fd00::1"}),
        2: frozenset({"127.0.0.1", "10.244.1.7"}),
    }
    node.listeners.refresh()
    addresses = ("10.244.1.1", "fd00::1", "10.244.1.7", "127.0.0.1", "10.244.1.8", "")
    asked = [node.identity.is_node_client(0, address, server) for address in addresses]
    assert asked == [True, True, False, False, False, False]


ZTUNNEL = make_pod("ztunnel-x", owner=make_owner("DaemonSet", "ztunnel"), namespace="istio-system")


def test_a_proxy_calls_for_who_holds_the_address(node: Node, pods: FakePods, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mesh: sidecars call from their Pod's address, the node's proxy from that of the Pod it acts for."""
    monkeypatch.setattr("sensor.enrich.identity.time.time_ns", lambda: 7)
    web = make_deployment_pod("web")
    web_place = f"shop/{web['metadata']['name']}"
    pods.tell(make_uid(PLACE), PodName("shop", "cart", True, "", True))
    pods.tell(make_uid(web_place), PodName("shop", "web", False, ""))
    pods.tell(make_uid("istio-system/ztunnel-x"), PodName("istio-system", "ztunnel", True, "", True))
    pods.holders |= {("10.244.1.7", 7, 7): "shop/cart", ("10.244.1.8", 7, 7): "shop/web"}
    app, sidecar = node.add_cgroup(find_cgroup(CART)), node.add_cgroup(find_cgroup(CART, "istio-proxy"))
    other, ztunnel = node.add_cgroup(find_cgroup(web)), node.add_cgroup(find_cgroup(ZTUNNEL))
    cases = (
        (sidecar, "127.0.0.6", app, ""),  # Into its own Pod: the caller is elsewhere.
        (sidecar, "10.244.1.7", app, ""),
        (sidecar, "10.244.1.7", other, "shop/cart"),  # Out of its Pod, in clear.
        (sidecar, "10.244.1.7", 0, "shop/cart"),  # Seen at the client.
        (ztunnel, "10.244.1.8", app, "shop/web"),
        (ztunnel, "10.244.2.9", app, ""),  # Of another node, which the collector knows.
        (other, "10.244.1.8", app, "shop/web"),
    )
    for peer, address, server, expected in cases:
        assert node.identity.client_workload(peer, address, 40_000, server) == expected, (peer, address, server)
        assert node.identity.is_one_workload(peer) == (peer == other)
    assert node.identity.server(sidecar, 15_006, "10.244.1.7")[1] is Hop.PROXY
    assert node.identity.server(ztunnel, 15_008, "10.244.1.8")[1] is Hop.PROXY


def test_a_unit_is_a_unit_beside_kubernetes(node: Node, pods: FakePods) -> None:
    cgroup_id = node.add_cgroup("/system.slice/kubelet.service")
    assert node.identity.client_workload(cgroup_id, "", 0) == "kubelet.service"
