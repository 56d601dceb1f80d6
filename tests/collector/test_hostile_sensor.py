"""A sensor that may speak for one node speaks for all the others: what the honest ones said must stay as it is."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from apidae.v1 import data_pb2, stream_pb2

from collector.receiver.service import STREAMS_OF_NODE_LIMIT
from tests.cluster.api_server import ApiServer
from tests.collector.kubernetes.manifests import make_pod
from tests.collector.running import Conversation, RunningCollector, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until

pytestmark = pytest.mark.store

CLUSTER, HONEST, EVIL = "east", "node-1", "node-2"
ACCEPTED = stream_pb2.ACK_STATUS_ACCEPTED


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    place = tmp_path_factory.mktemp("hostile")
    with ApiServer() as api:
        for workload, node in (("cart", HONEST), ("toy", EVIL)):
            owner = ("ReplicaSet", f"{workload}-5d4f8b9c7d")
            api.put(make_pod(f"{owner[1]}-aaaaa", owner=owner, node=node, addresses=(f"10.1.0.{len(workload)}",)))
        settings = place / "collector.toml"
        settings.write_text(f'other_clusters = ["{CLUSTER}={api.write_kubeconfig(place / "config")}"]\n')
        running = RunningCollector(place / "data", "--no-auth", "--config", str(settings))
        try:
            wait_until(lambda: all(one["is_current"] for one in running.get("/exposure").json()["clusters"]))
            yield running
        finally:
            assert running.stop() == 0


def make_cart_batch(node: str, sequence: int = 1, workload: str = "cart", **service: Any) -> data_pb2.Batch:
    batch = make_batch(node=node, sequence=sequence, boot_id=f"boot-of-{node}", base=int(time.time()) - 60)
    named = {"namespace": "shop", "workload": workload, "workload_kind": data_pb2.WORKLOAD_KIND_KUBERNETES, "port": 80}
    batch.services[0].CopyFrom(data_pb2.Service(**{"cluster": CLUSTER, **named, **service}))
    return batch


def greet(node: str) -> stream_pb2.ConnectRequest:
    return make_hello(node, cluster=CLUSTER)


def list_calls(collector: RunningCollector) -> dict[tuple[str, str, str], int]:
    """Calls by cluster, service and endpoint."""
    found = {}
    for item in collector.get("/endpoints?limit=500").json()["items"]:
        service = item["service"]
        name = f"{service['namespace']}/{service['workload']}@{service['host_name']}"
        found[service["cluster"], name, f"{item['method']} {item['template']}"] = item["calls"]
    return found


def read_metric(collector: RunningCollector, name: str) -> float:
    lines = collector.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"apidae_collector_{name} "))


def test_a_hostile_sensor_changes_nothing_of_others(collector: RunningCollector) -> None:
    (ack,) = list_acks(talk(collector.ready["grpc"], [greet(HONEST), wrap(make_cart_batch(HONEST))]))
    assert ack.status == ACCEPTED
    wait_until(lambda: len(list_calls(collector)) == 2)
    before = list_calls(collector)
    (endpoint, *_) = collector.get("/endpoints").json()["items"]

    attacks = [
        make_cart_batch(EVIL, 1),  # Rows of a workload of another node,
        make_cart_batch(EVIL, 2, cluster="west"),  # of another cluster,
        make_cart_batch(EVIL, 3, namespace="", workload="web", workload_kind=1, host_name=HONEST),  # of another host,
        make_cart_batch(EVIL, 4, namespace="", workload="10.0.0.5", workload_kind=0),  # of an address, as its server.
        make_cart_batch(EVIL, 5, workload="toy"),  # An honest route under the id of another's.
        make_cart_batch(EVIL, 6, workload="toy"),  # A word with an invented text.
        make_cart_batch(EVIL, 7, workload="toy"),  # All calls lost.
    ]
    attacks[5].strings.append("<b>pwned</b>")
    attacks[5].routes[0].segments[1].kind, attacks[5].routes[0].segments[1].hash = 2, 0xABCDEF
    attacks[5].routes[0].segments[1].text = len(attacks[5].strings) - 1
    attacks[6].lost_calls = 2**39
    revealed = stream_pb2.Revealed(key_id=1, hashes=[0xABCDEF], texts=["<b>pwned</b>"])
    schemas = stream_pb2.Schemas()
    schema = schemas.schemas.add(route_id=11, part=1, version=2**60, samples=9)  # Route 11 is of all of them.
    schema.operations.add(protocol="graphql", kind="query", name="pwned", calls=10**6)
    schemas.schemas.add(route_id=0x1234, part=1, version=1, samples=9)
    coverage = stream_pb2.Coverage(time_unix_ns=time.time_ns())
    coverage.ports.add(service=make_cart_batch(HONEST).services[0], protocol=1, role=1, lost_calls=10**9, bytes=1)
    coverage.workloads.add(cluster=CLUSTER, namespace="shop", workload="cart", kind="Deployment", labels=["team=evil"])
    coverage.workloads.add(
        cluster=CLUSTER, namespace="shop", workload="cart", kind="Deployment", former_names=["0123456789ab"]
    )
    said = [greet(EVIL), *map(wrap, attacks), stream_pb2.ConnectRequest(revealed=revealed)]
    said += [stream_pb2.ConnectRequest(schemas=schemas), stream_pb2.ConnectRequest(coverage=coverage)]
    acks = list_acks(talk(collector.ready["grpc"], said))
    assert [ack.status for ack in acks] == [ACCEPTED] * len(attacks)  # Nothing is lost,

    def list_others() -> dict[tuple[str, str, str], int]:
        return {key: calls for key, calls in list_calls(collector).items() if key not in before}

    wait_until(lambda: sum(list_others().values()) == len(attacks) * 6)
    after = list_calls(collector)
    assert {key: after[key] for key in before} == before  # and nothing of others has changed.
    services = {(cluster, name) for cluster, name, _ in list_others()}
    own = {f"/{name}@{EVIL}" for name in ("shop/cart", "web", "10.0.0.5")}
    assert services == {(CLUSTER, name) for name in (*own, "shop/toy@")}
    assert not any("pwned" in template for _, _, template in after)
    detail = collector.get(f"/endpoints/{endpoint['id']}").json()
    assert "pwned" not in str(detail) and "team=evil" not in str(detail)
    assert read_metric(collector, "witness_services_moved_total") == 4
    assert read_metric(collector, "witness_workloads_of_others_total") == 3
    ports = collector.get("/coverage/ports").json()["items"]
    assert {port["service"]["workload"] for port in ports if port["lost_calls"]} <= {"shop/cart"}


def test_it_is_an_alert(collector: RunningCollector) -> None:
    def list_claims() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = collector.get("/alerts?kind=sensor_claims").json()["items"]
        return items

    wait_until(lambda: bool(list_claims()))
    (alert,) = list_claims()
    assert EVIL in alert["title"] and "shop/cart" in alert["why"]


def test_honest_sensors_are_acknowledged_beside_a_hostile_one(collector: RunningCollector) -> None:
    """Batches without end, streams that say nothing, one whose acknowledgements nobody reads, and no new alert about
    anybody else."""

    def list_alerts() -> set[str]:
        return {alert["id"] for alert in collector.get("/alerts?limit=500").json()["items"] if EVIL not in str(alert)}

    before, honest_before = list_alerts(), list_calls(collector)
    silent = [
        Conversation(collector.ready["grpc"], greet(EVIL)) for _ in range(8)
    ]  # As many as one connection may have.
    flooding = silent.pop()
    batch = make_cart_batch(EVIL, 1, workload="toy")
    for number in range(400):
        batch.sequence = 1_000 + number
        batch.strings[3] = f"path-{number}"
        flooding.say(wrap(batch))
    answers = [talk(collector.ready["grpc"], [greet(HONEST), wrap(make_cart_batch(HONEST, 100 + n))]) for n in range(5)]
    assert [ack.status for one in answers for ack in list_acks(one)] == [ACCEPTED] * 5
    wait_until(lambda: read_metric(collector, "ingest_streams_displaced_total") >= 8 - STREAMS_OF_NODE_LIMIT)
    for conversation in (*silent, flooding):
        conversation.close()

    def find_honest() -> dict[tuple[str, str, str], int]:
        return {key: calls for key, calls in list_calls(collector).items() if key[1] == "shop/cart@"}

    was = {key: calls for key, calls in honest_before.items() if key[1] == "shop/cart@"}
    wait_until(lambda: sum(find_honest().values()) == sum(was.values()) + 5 * 6)
    assert find_honest().keys() == was.keys()
    assert list_alerts() == before


def test_processes_of_one_node_push_out_no_others(collector: RunningCollector) -> None:
    """After a thousand restarts of one sensor, what an honest one sends again is still known."""
    batches = []
    for number in range(1_000):
        batch = make_cart_batch(EVIL, 1, workload="toy")
        batch.boot_id = f"made-up-{number}"
        del batch.rows.route[:]
        batch.CopyFrom(data_pb2.Batch(node=EVIL, boot_id=f"made-up-{number}", sequence=1, key_id=1))
        batches.append(wrap(batch))
    talk(collector.ready["grpc"], [greet(EVIL), *batches])
    calls = list_calls(collector)
    talk(collector.ready["grpc"], [greet(HONEST), wrap(make_cart_batch(HONEST))])
    assert read_metric(collector, "ingest_batches_duplicate_total") == 1
    assert list_calls(collector) == calls
