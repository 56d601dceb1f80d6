"""Who held which address when."""

from collector.kubernetes.addresses import AddressBook, Targets
from collector.kubernetes.rows import Peer, PeerKind
from collector.kubernetes.state import ClusterState, Pod, read_kept, read_pod
from common.kubernetes.objects import read_time
from tests.collector.kubernetes.manifests import Manifest, make_pod, make_service, make_slice
from tests.collector.kubernetes.states import decode, make_state

STARTED = read_time("2026-11-25T10:00:00Z")
NOW = STARTED + 100.4


def make(name: str, **columns: object) -> Pod:
    return read_pod(decode(make_pod(name, **columns)))  # type: ignore[arg-type]


def refresh(book: AddressBook, *manifests: Manifest, now: float = NOW) -> dict[tuple[str, int], Peer]:
    """The book after a look, by (address, port)."""
    state = make_state(*manifests)
    for pod in state.pods.values():
        book.follow(None, pod, now)
    book.refresh(state, Targets(state), now)
    return {(peer.address, peer.port): peer for peer in book.take_changed(now)}


def test_a_pod_that_comes_and_goes_between_two_looks_is_told() -> None:
    book = AddressBook("east")
    pod = make("job-1", owner=("Job", "job-1"), addresses=("10.1.0.5", "fd00::5"))
    book.follow(None, pod, NOW)
    book.follow(pod, None, NOW + 0.5)
    told = book.take_changed(NOW + 1)
    assert [(one.cluster, one.address, one.since, one.until, one.name) for one in told] == [
        ("east", "10.1.0.5", STARTED, int(NOW + 0.5) + 1, "job-1"),
        ("east", "fd00::5", STARTED, int(NOW + 0.5) + 1, "job-1"),
    ]
    assert not book.take_changed(NOW + 2)


def test_the_end_of_an_address_is_newer_than_its_beginning_though_the_clock_was_put_back() -> None:
    pod, before = make("job-1"), AddressBook("")
    before.follow(None, pod, NOW)
    (begun,) = before.take_changed(NOW)
    book = AddressBook("", [begun])
    book.follow(pod, None, NOW - 50)
    (ended,) = book.take_changed(NOW - 50)
    assert ended.until and ended.version > begun.version


def test_a_pod_that_has_ended_gives_its_address_back_before_it_is_deleted() -> None:
    book = AddressBook("")
    running, ended = make("job-1"), make("job-1", phase="Succeeded")
    book.follow(None, running, NOW)
    book.take_changed(NOW)
    book.follow(running, ended, NOW + 10)
    (told,) = book.take_changed(NOW + 11)
    assert told.until == int(NOW + 10) + 1
    book.follow(ended, None, NOW + 99)
    assert not book.take_changed(NOW + 100)


def test_a_pod_made_anew_under_its_name_begins_anew() -> None:
    book = AddressBook("")
    first, second = make("db-0", uid="1"), make("db-0", uid="2", started="2026-11-25T10:02:00Z")
    book.follow(None, first, NOW)
    book.follow(first, second, NOW + 30)
    told = sorted((one.since, one.until) for one in book.take_changed(NOW + 31))
    assert told == [(STARTED, int(NOW + 30) + 1), (STARTED + 120, 0)]


def test_a_pod_on_its_nodes_network_has_no_address_of_its_own() -> None:
    told = refresh(AddressBook(""), make_pod("proxy", is_host_network=True, addresses=("10.0.0.1",)))
    assert {key: (one.kind, one.name, one.node) for key, one in told.items()} == {
        ("10.0.0.1", 0): ("node", "node-1", "node-1")
    }


def test_services_are_known_by_every_address_and_by_the_port_of_every_node() -> None:
    service = make_service(type="LoadBalancer", node_port=30080, balanced=("203.0.113.9",), external=("198.51.100.4",))
    told = refresh(AddressBook(""), make_pod("orders-1"), service, make_slice("orders", {"orders-1": "10.1.0.5"}))
    services = {key: one for key, one in told.items() if one.kind == "service"}
    assert set(services) == {("10.96.0.10", 0), ("203.0.113.9", 0), ("198.51.100.4", 0), ("", 30080)}
    assert {(one.namespace, one.name, one.workloads) for one in services.values()} == {
        ("shop", "orders", ("shop/orders:8080",))
    }
    assert told["10.1.0.5", 0].services == ("shop/orders",)


def test_a_port_of_the_node_that_a_pod_has_is_the_pods() -> None:
    ports = ({"name": "http", "containerPort": 8080, "hostPort": 18080},)
    told = refresh(AddressBook(""), make_pod("orders-1", ports=ports))
    assert told["10.0.0.1", 18080].name == "orders-1"


def test_a_restart_goes_on_with_what_is_stored_and_ends_what_is_gone() -> None:
    before = refresh(AddressBook("east"), make_pod("a", addresses=("10.1.0.1",)), make_pod("b"))
    after = refresh(AddressBook("east", before.values()), make_pod("b"), now=NOW + 60)
    assert {key: one.until for key, one in after.items()} == {("10.1.0.1", 0): int(NOW + 60) + 1}


def test_what_was_not_stored_comes_again_unless_something_newer_is_known() -> None:
    book = AddressBook("")
    pod = make("a")
    book.follow(None, pod, NOW)
    failed = book.take_changed(NOW)
    book.follow(pod, None, NOW + 1)
    book.give_back(failed)
    (told,) = book.take_changed(NOW + 2)
    assert told.until


def test_an_update_of_what_is_not_kept_changes_nothing() -> None:
    state = ClusterState()

    def put(manifest: Manifest) -> None:
        one = decode(manifest)
        state.put(type(one), read_kept(one))

    put(make_pod("a"))
    changes = state.changes
    heartbeat = make_pod("a")
    heartbeat["metadata"]["resourceVersion"] = "12"
    heartbeat["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    put(heartbeat)
    service = make_service()
    put(service)
    put({**service, "metadata": {**service["metadata"], "resourceVersion": "13"}})
    assert state.changes == changes + 1


def test_what_a_nodes_sensor_adds_is_the_nodes_unless_a_pod_or_a_service_has_it() -> None:
    """A bridge of Pods: the node calls them from an address that the API server does not list."""
    book = AddressBook("east")
    pod, node = make_pod("cart-1", addresses=("10.1.1.5",), node_addresses=("10.0.0.1",), node="node-1"), "node-1"
    service = make_service("orders", address="10.96.0.10")
    state = make_state(pod, service)
    for one in state.pods.values():
        book.follow(None, one, NOW)
    said = {node: frozenset({"10.1.1.1", "10.1.1.5", "10.96.0.10"}), "elsewhere": frozenset({"10.1.2.1"})}
    book.refresh(state, Targets(state), NOW, said)
    kinds = {peer.address: (peer.kind, peer.name) for peer in book.take_changed(NOW)}
    assert kinds == {
        "10.0.0.1": (PeerKind.NODE.value, node),
        "10.1.1.1": (PeerKind.NODE.value, node),
        "10.1.1.5": (PeerKind.POD.value, "cart-1"),
        "10.96.0.10": (PeerKind.SERVICE.value, "orders"),
    }
    held = book.list_held(state.pods)
    assert dict(held.nodes) == {"10.0.0.1": node, "10.1.1.1": node}
    assert [peer.address for peer in held.pods] == ["10.1.1.5"]
    book.refresh(state, Targets(state), NOW + 5, {node: frozenset()})
    assert [(peer.address, peer.until) for peer in book.take_changed(NOW + 5)] == [("10.1.1.1", int(NOW + 5) + 1)]
