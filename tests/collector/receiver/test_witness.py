"""What a sensor may say, message by message; tests/collector/test_hostile_sensor.py has the whole collector."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from apidae.v1 import data_pb2

from collector.alerting.self_monitoring import look_at_claims
from collector.core.rows import Service
from collector.receiver import witness as module
from collector.receiver.convert import convert_batch
from collector.receiver.reports import FormerName, RevealedWord, WorkloadRecord
from collector.receiver.schemas import SchemaRecord
from collector.receiver.sensor_status import Greeting
from collector.receiver.witness import DailyUse, Witness, WitnessBook
from collector.storage.columns import RowBatch
from common.keyed_hash import compute_route_id, hash_value
from tests.collector.wire_batches import NOW, make_batch

SECRET = b"0123456789abcdef"
GREETING = Greeting(
    cluster="east",
    node="node-1",
    boot_id="boot-1",
    key_id=1,
    version="",
    kernel_release="",
    policy_epoch=0,
    features=frozenset(),
    name="node-1",
)


class Fleet:
    """A cluster in which `shop/cart` is on node-1 and `shop/pay` on another node; a clock; a witness."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.book = WitnessBook(self.find, lambda: self.now)
        self.witness: Witness = self.book.open("node-1")

    @staticmethod
    def find(cluster: str, node: str, namespace: str, workload: str) -> bool | None:
        return (node, namespace, workload) == ("node-1", "shop", "cart") if cluster == "east" else None

    def take(self, batch: data_pb2.Batch) -> RowBatch:
        self.witness.bind_batch(batch, GREETING)
        rows = convert_batch(batch, self.now, self.book.routes.converted)
        assert isinstance(rows, RowBatch)
        self.witness.check_routes(batch, rows.routes, {1: SECRET}, self.book.routes)
        rows = convert_batch(batch, self.now)
        assert isinstance(rows, RowBatch)
        return rows


def make_own_batch(change: Callable[[data_pb2.Batch], None] = lambda batch: None) -> data_pb2.Batch:
    batch = make_batch(node="node-1")
    batch.services[0].host_name = "node-1"
    change(batch)
    return batch


def set_kubernetes(namespace: str, workload: str) -> Callable[[data_pb2.Batch], None]:
    def change(batch: data_pb2.Batch) -> None:
        service = batch.services[0]
        service.namespace, service.workload, service.host_name = namespace, workload, ""
        service.workload_kind = data_pb2.WORKLOAD_KIND_KUBERNETES

    return change


def test_lost_calls_are_of_the_nodes_own_services() -> None:
    def lose(batch: data_pb2.Batch) -> None:
        for workload in ("cart", "pay"):
            service = data_pb2.Service(cluster="west", namespace="shop", workload=workload, port=80)
            service.workload_kind = data_pb2.WORKLOAD_KIND_KUBERNETES
            batch.service_losses.add(service=service, lost_calls=2**39)

    services = [loss.service for loss in Fleet().take(make_own_batch(lose)).service_losses]
    assert [(one.cluster, one.namespace, one.workload, one.host_name) for one in services] == [
        ("east", "shop", "cart", ""),
        ("east", "", "shop/pay", "node-1"),
    ]


def test_what_is_the_nodes_own_stays_as_it_is() -> None:
    fleet = Fleet()
    service = fleet.take(make_own_batch()).routes[0].service
    assert (service.cluster, service.host_name, service.workload) == ("east", "node-1", "web")
    service = fleet.take(make_own_batch(set_kubernetes("shop", "cart"))).routes[0].service
    assert (service.namespace, service.workload, service.host_name) == ("shop", "cart", "")
    assert fleet.book.counts.services_moved == 0 and not fleet.witness.use.foreign


def test_a_workload_of_another_node_becomes_the_nodes_own_and_no_call_is_lost() -> None:
    fleet = Fleet()
    rows = fleet.take(make_own_batch(set_kubernetes("shop", "pay")))
    service = rows.routes[0].service
    assert (service.namespace, service.workload, service.host_name) == ("", "shop/pay", "node-1")
    assert rows.calls.tolist() == [1, 2, 3]
    assert list(fleet.witness.use.foreign) == ["shop/pay"]


@pytest.mark.parametrize("name, value", [("host_name", "node-2"), ("cluster", "west"), ("namespace", "shop")])
def test_no_service_is_of_another_host_or_cluster(name: str, value: str) -> None:
    def change(batch: data_pb2.Batch) -> None:
        setattr(batch.services[0], name, value)

    service = Fleet().take(make_own_batch(change)).routes[0].service
    assert (service.cluster, service.namespace, service.host_name) == ("east", "", "node-1")


def test_a_service_that_is_an_address_is_at_the_other_end_or_the_nodes_own() -> None:
    def name_address(batch: data_pb2.Batch) -> None:
        batch.services[0].CopyFrom(data_pb2.Service(workload="10.0.0.5", port=80))

    assert Fleet().take(make_own_batch(name_address)).routes[0].service.host_name == "node-1"

    def call_it(batch: data_pb2.Batch) -> None:
        name_address(batch)
        for row in range(len(batch.rows.role)):
            batch.rows.role[row] = data_pb2.ROLE_CLIENT

    assert Fleet().take(make_own_batch(call_it)).routes[0].service.host_name == ""


def test_without_a_watch_of_the_cluster_the_sensor_is_believed_and_counted() -> None:
    fleet = Fleet()
    batch = make_own_batch(set_kubernetes("shop", "pay"))
    fleet.witness.bind_batch(batch, replace(GREETING, cluster="unwatched"))
    assert batch.services[0].workload == "pay" and batch.services[0].cluster == "unwatched"
    assert fleet.book.counts.services_unproved == 1


def test_ids_of_routes_are_computed_from_what_they_name() -> None:
    fleet = Fleet()
    honest = [route.route_id for route in fleet.take(make_own_batch()).routes]

    def claim(batch: data_pb2.Batch) -> None:
        batch.routes[0].route_id, batch.routes[1].route_id = batch.routes[1].route_id, 77

    assert [route.route_id for route in fleet.take(make_own_batch(claim)).routes] == honest
    assert 77 not in honest and fleet.book.counts.routes_renumbered == 4


def test_a_text_must_have_its_hash() -> None:
    true, untrue = hash_value(SECRET, b"orders"), 0xABCDEF

    def reveal(batch: data_pb2.Batch) -> None:
        batch.strings.extend(("orders", "<b>pwned</b>"))
        for route, (number, text) in zip(batch.routes, ((true, 9), (untrue, 10)), strict=True):
            route.segments[1].kind, route.segments[1].hash, route.segments[1].text = 2, number, text

    fleet = Fleet()
    assert [route.segments[1].text for route in fleet.take(make_own_batch(reveal)).routes] == ["orders", ""]
    assert fleet.witness.hidden.list_due({true, untrue}, 0.0) == [untrue]  # The node may be asked for what is hidden.
    when = datetime.fromtimestamp(NOW, UTC)
    words = [
        RevealedWord(hash=true, text="orders", key_id=1, time=when),
        RevealedWord(hash=untrue, text="<b>pwned</b>", key_id=1, time=when),
        RevealedWord(hash=true, text="orders", key_id=9, time=when),
    ]
    assert fleet.witness.admit_words(words, {1: SECRET}) == words[:1]
    assert fleet.book.counts.words_untrue == 3


def make_schema(route_id: int) -> SchemaRecord:
    return SchemaRecord(
        route_id=route_id,
        part=1,
        status_class=0,
        media_type="",
        node="node-1",
        boot_id="boot-1",
        generation=1,
        version=1,
        samples=1,
        left_out=0,
        fields="[]",
        operations="[]",
        time=datetime.fromtimestamp(NOW, UTC),
        operation="",
    )


def test_schemas_are_of_routes_that_the_node_called(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    assert fleet.witness.admit_schemas([make_schema(11), make_schema(5)]) == []
    rows = fleet.take(make_own_batch())  # Which has route 11, under the sensor's own number.
    assert [record.route_id for record in fleet.witness.admit_schemas(())] == [rows.routes[0].route_id]
    fleet.book.load([("node-1", 99)])
    assert [record.route_id for record in fleet.witness.admit_schemas([make_schema(99)])] == [99]
    monkeypatch.setattr(module, "SCHEMAS_WAITING", 3)
    assert fleet.witness.admit_schemas([make_schema(1_000 + number) for number in range(10)]) == []
    assert fleet.book.counts.schemas_of_others == 8  # Ten and the one of route 5, less three that wait.


def test_schemas_of_a_burst_of_new_routes_wait_for_their_rows() -> None:
    """A person clicks through an application: 70 routes with five parts each, ten seconds before their window ends."""
    fleet = Fleet()
    for version in (1, 2):
        states = [replace(make_schema(number), version=version) for number in range(1_000, 1_350)]
        assert fleet.witness.admit_schemas(states) == []
    for number in range(1_000, 1_350):
        fleet.witness.remember(number)
    admitted = fleet.witness.admit_schemas(())
    assert [(record.route_id, record.version) for record in admitted] == [(number, 2) for number in range(1_000, 1_350)]
    assert fleet.book.counts.schemas_of_others == 0


def test_workloads_and_former_names_are_of_the_node() -> None:
    fleet, when = Fleet(), datetime.fromtimestamp(NOW, UTC)
    facts = {"node": "node-1", "kind": "Deployment", "labels": (), "zone": "", "pods": 1, "time": when}
    mine = WorkloadRecord(cluster="east", namespace="shop", workload="cart", **facts)
    others = [replace(mine, workload="pay"), replace(mine, cluster="west")]
    assert fleet.witness.admit_workloads([mine, *others], GREETING) == [mine]
    name = FormerName(
        cluster="east", node="node-1", former_name="0123456789ab", namespace="shop", workload="cart", time=when
    )
    assert fleet.witness.admit_former_names([name, replace(name, workload="pay")], GREETING) == [name]


def test_routes_beyond_a_days_quota_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTES_A_DAY", 1)
    fleet = Fleet()
    rows = fleet.take(make_own_batch())
    assert [len(route.segments) for route in rows.routes] == [2, 1]
    assert rows.routes[1].host == "other" and rows.calls.sum() == 6
    assert [what for what, _ in fleet.witness.use.list_exceeded()] == ["2 routes (limit 1)"]
    rows = fleet.take(make_own_batch())  # The same again is no more.
    assert [len(route.segments) for route in rows.routes] == [2, 1]
    assert fleet.witness.use.routes == 2 and fleet.book.counts.routes_folded == 1
    fleet.now += module.DAY_SECONDS
    fleet.witness.start_day()
    assert fleet.witness.use.list_exceeded() == ()


def test_words_beyond_a_days_quota_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORDS_A_DAY", 2)
    fleet, when = Fleet(), datetime.fromtimestamp(NOW, UTC)
    texts = ["orders", "carts", "users"]
    words = [RevealedWord(hash=hash_value(SECRET, t.encode()), text=t, key_id=1, time=when) for t in texts]
    assert len(fleet.witness.admit_words(words, {1: SECRET})) == 2
    assert fleet.book.counts.words_over_quota == 1
    assert [what for what, _ in fleet.witness.use.list_exceeded()] == ["3 revealed words (limit 2)"]


def test_the_alert_says_what_became_of_what_was_beyond() -> None:
    """Of bytes alone nothing was refused, so nothing of routes and words is said."""
    assert not look_at_claims([("n", DailyUse(day=1, bytes=module.BYTES_A_DAY))], 1.0).reports
    (report,) = look_at_claims([("n", DailyUse(day=1, bytes=module.BYTES_A_DAY + 1))], 1.0).reports
    assert "bytes (limit" in report.why and "is kept" in report.why
    assert "routes" not in report.why and "words" not in report.why
    both = DailyUse(day=1, bytes=module.BYTES_A_DAY + 1, routes=module.ROUTES_A_DAY + 1)
    (report,) = look_at_claims([("n", both)], 1.0).reports
    assert "is kept" in report.why and "counted under one route" in report.why


def test_a_malformed_batch_is_left_to_the_converter() -> None:
    batch = make_own_batch()
    batch.routes[0].service = 9
    batch.rows.route[0] = 500
    batch.rows.role.append(1)
    Fleet().witness.bind_batch(batch, GREETING)
    assert not isinstance(convert_batch(batch, NOW), RowBatch)


def test_what_was_checked_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    def compute(service: Service, host: str, *rest: Any) -> int:
        computed.append(host)
        return compute_route_id(service, host, *rest)

    monkeypatch.setattr(module, "compute_route_id", compute)
    fleet = Fleet()
    first = fleet.take(make_own_batch())
    again = fleet.take(make_own_batch())
    assert [route.route_id for route in again.routes] == [route.route_id for route in first.routes]
    assert len(computed) == len(first.routes)
    # The same id of the sensor's and another host: another route.
    other = fleet.take(make_own_batch(lambda batch: batch.strings.__setitem__(1, "other.test")))
    assert {route.route_id for route in other.routes}.isdisjoint(route.route_id for route in first.routes)
    assert len(computed) == 2 * len(first.routes)


def test_a_text_is_checked_under_the_key_of_its_batch() -> None:
    def reveal(key_id: int) -> Callable[[data_pb2.Batch], None]:
        def change(batch: data_pb2.Batch) -> None:
            batch.key_id = key_id
            batch.strings.append("orders")
            segment = batch.routes[0].segments[1]
            segment.kind, segment.text = data_pb2.SEGMENT_KIND_WORD, len(batch.strings) - 1
            segment.hash = hash_value(SECRET, b"orders")

        return change

    fleet = Fleet()
    texts = [fleet.take(make_own_batch(reveal(key_id))).routes[0].segments[1].text for key_id in (1, 2, 1, 2)]
    assert texts == ["orders", "", "orders", ""]
    assert fleet.book.counts.words_untrue == 2
