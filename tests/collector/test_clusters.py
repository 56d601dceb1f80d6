"""One collector of two clusters in which all is called alike: nodes, workloads, addresses."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from apidae.v1 import data_pb2, stream_pb2

from tests.cluster.api_server import ApiServer
from tests.collector.kubernetes.manifests import make_pod
from tests.collector.running import Conversation, RunningCollector, make_hello, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until

pytestmark = pytest.mark.store

NODE, CLIENT = "node-1", "10.0.0.9"  # As wire_batches has it.
# Who holds the client's address in each, and how many rows of calls each tells.
CLIENTS = {"east": ("cart", 3), "west": ("probe", 5)}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    place = tmp_path_factory.mktemp("clusters")
    with ApiServer() as east, ApiServer() as west:
        configs = {}
        for cluster, api in (("east", east), ("west", west)):
            owner = ("ReplicaSet", f"{CLIENTS[cluster][0]}-5d4f8b9c7d")
            api.put(make_pod(f"{owner[1]}-aaaaa", owner=owner, node=NODE, addresses=(CLIENT,)))
            configs[cluster] = api.write_kubeconfig(place / cluster)
        settings = place / "collector.toml"
        settings.write_text(f'other_clusters = ["east={configs["east"]}", "west={configs["west"]}"]\n')
        running = RunningCollector(place / "data", "--no-auth", "--config", str(settings))
        try:
            wait_until(lambda: _count_current(running) == 2)
            yield running
        finally:
            assert running.stop() == 0


def _count_current(collector: RunningCollector) -> int:
    return sum(one["is_current"] for one in collector.get("/exposure").json()["clusters"])


def make_cluster_batch(cluster: str) -> data_pb2.Batch:
    """Calls of one address to `shop/web`, by nobody that has a name."""
    rows = CLIENTS[cluster][1]
    batch = make_batch(rows=rows, node=NODE, boot_id=f"boot-of-{cluster}", base=int(time.time()) - 60)
    batch.services[0].CopyFrom(make_service(cluster))
    for number, route in enumerate(batch.routes):
        route.route_id = {"east": 500, "west": 600}[cluster] + number
    for row in range(rows):
        batch.rows.principal[row] = batch.rows.credential[row] = batch.rows.client_workload[row] = 0
        batch.rows.principal_kind[row] = data_pb2.PRINCIPAL_KIND_UNSPECIFIED
    return batch


def make_service(cluster: str) -> data_pb2.Service:
    return data_pb2.Service(
        cluster=cluster,
        namespace="shop",
        workload="web",
        workload_kind=data_pb2.WORKLOAD_KIND_KUBERNETES,
        port=8080,
    )


def make_coverage(cluster: str) -> stream_pb2.ConnectRequest:
    coverage = stream_pb2.Coverage(time_unix_ns=time.time_ns())
    coverage.ports.add(
        service=make_service(cluster),
        protocol=stream_pb2.PORT_PROTOCOL_HTTP,
        role=stream_pb2.COVERAGE_ROLE_LISTENING,
        is_http_like=True,
        connections=CLIENTS[cluster][1],
        bytes=1,
    )
    return stream_pb2.ConnectRequest(coverage=coverage)


@dataclass(frozen=True)
class Told:
    """A collector that was told all, and its sensors by cluster."""

    collector: RunningCollector
    sensors: dict[str, Conversation]

    def get(self, path: str) -> httpx.Response:
        return self.collector.get(path)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"http://{self.collector.ready['http']}/api/v1{path}", json=body, timeout=60)


@pytest.fixture(scope="module")
def told(collector: RunningCollector) -> Iterator[Told]:
    """Both sensors connected at once, and all that they said is durable."""
    talking = []
    for cluster in CLIENTS:
        hello = make_hello(NODE)
        hello.hello.cluster, hello.hello.boot_id = cluster, f"boot-of-{cluster}"
        talking.append(Conversation(collector.ready["grpc"], hello))
        while (response := talking[-1].hear()) is not None and response.WhichOneof("message") != "welcome":
            pass
    for cluster, sensor in zip(CLIENTS, talking, strict=True):
        sensor.say(make_coverage(cluster))
        sensor.say(wrap(make_cluster_batch(cluster)))
        while (response := sensor.hear()) is not None and response.WhichOneof("message") != "ack":
            pass
        assert response is not None and response.ack.status == stream_pb2.ACK_STATUS_ACCEPTED
    yield Told(collector, dict(zip(CLIENTS, talking, strict=True)))
    for sensor in talking:
        sensor.close()


def list_endpoints(collector: Told) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = collector.get("/endpoints").json()["items"]
    return items


def test_every_row_has_its_cluster(told: Told) -> None:
    def count() -> dict[tuple[str, str], int]:
        return {(item["service"]["cluster"], item["method"]): item["calls"] for item in list_endpoints(told)}

    wait_until(lambda: len(count()) == 4)
    wait_until(
        lambda: (
            count()
            == {("east", "GET"): 1 + 3, ("east", "POST"): 2, ("west", "GET"): 1 + 3 + 5, ("west", "POST"): 2 + 4}
        )
    )


def test_one_address_is_somebody_else_in_each(told: Told) -> None:
    def name_clients() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for item in list_endpoints(told):
            for consumer in told.get(f"/endpoints/{item['id']}").json()["top_consumers"]:
                assert consumer["id"] == f"address:{CLIENT}"
                names = {holder["label"] for holder in consumer["holders"]}
                found.setdefault(item["service"]["cluster"], set()).update(names)
        return found

    wait_until(lambda: name_clients() == {"east": {"shop/cart"}, "west": {"shop/probe"}})


def test_two_nodes_of_one_name_are_two(told: Told) -> None:
    def list_sensors() -> list[tuple[str, str]]:
        return [(item["node"], item["cluster"]) for item in told.get("/sensors").json()["items"]]

    wait_until(lambda: list_sensors() == [(NODE, "east"), (f"west/{NODE}", "west")])

    def list_nodes() -> dict[str, int]:
        return {node["node"]: node["share"]["connections"] for node in told.get("/coverage").json()["nodes"]}

    wait_until(lambda: list_nodes() == {NODE: CLIENTS["east"][1], f"west/{NODE}": CLIENTS["west"][1]})


def test_a_block_reaches_the_sensors_of_its_cluster_and_no_others(told: Told) -> None:
    wait_until(lambda: told.post("/blocks/preview", {"consumer": CLIENT}).json()["calls"] == 21)
    preview = told.post("/blocks/preview", {"consumer": CLIENT}).json()
    assert {hit["name"]: hit["calls"] for hit in preview["clusters"]} == {"east": 6, "west": 15}
    assert "in each of 2 clusters (east, west)" in preview["needs_confirmation"]
    assert "confirm" in told.post("/blocks", {"consumer": CLIENT}).json()["detail"]
    assert "there are: east, west" in told.post("/blocks", {"consumer": CLIENT, "clusters": ["north"]}).json()["detail"]
    assert told.post("/blocks/preview", {"consumer": CLIENT, "clusters": ["west"]}).json()["calls"] == 15
    wish = {"consumer": CLIENT, "clusters": ["west"], "is_confirmed": True}  # It makes all calls there are.
    one = told.post("/blocks", wish).json()
    assert one["clusters"] == ["west"] and one["is_exported"] and one["ends_with"].startswith("pod shop/")
    policies = {cluster: sensor.hear_policy() for cluster, sensor in told.sensors.items()}
    while not policies["west"].block_set.blocks:  # The one that was sent at first is of before.
        policies = {cluster: sensor.hear_policy() for cluster, sensor in told.sensors.items()}
    assert [block.id for block in policies["west"].block_set.blocks] == [one["id"]]
    assert policies["east"].epoch == policies["west"].epoch and not policies["east"].block_set.blocks
    # The collector stands in east: what it tells elsewhere is of there.
    for place, is_there in (("", False), ("?cluster=east", False), ("?cluster=west", True)):
        assert (CLIENT in told.get(f"/blocks/exports/haproxy{place}").text) == is_there
    page = told.collector.get_page(f"/response/preview?consumer={CLIENT}").text
    assert "In which clusters it called" in page and 'value="west east"' in page
    assert "only in west" in told.collector.get_page("/response").text
