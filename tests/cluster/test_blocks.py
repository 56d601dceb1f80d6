"""Blocks where client and server are Pods, each in a network of its own, on nodes with a sensor each: who is blocked is
reset in the server's network, and everybody else is served."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from scripts.live.host import CollectorAddress
from tests.cluster.miniature import CLUSTER, Cluster, Pod, open_cluster, why_no_cluster
from tests.collector.kubernetes.manifests import make_namespace
from tests.e2e.conftest import why_no_capture
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.full("sensor.enforce", "collector.response")]

SETTINGS = "[enforcement]\nenabled = true\nmax_call_share = 1.0\n"
STOLEN, BESIDE, HONEST = "stolen-key-0123456789", "beside-key-0123456789", "honest-key-0123456789"
PORT = 8080
SECONDS = 3_600  # Of a block: nothing here waits for its end.


class Shop:
    """A server on node 2, a thief on node 1, an honest client on each of both."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.api.put(make_namespace("shop"))
        self.server, self.thief = self._add("orders", 2), self._add("thief", 1)
        self.clients = [self._add("cart", 1), self._add("till", 2)]
        cluster.run(self.server, "serve", port=PORT)
        self.address: CollectorAddress | None = None

    def _add(self, name: str, node: int) -> Pod:
        return self.cluster.add_pod(f"{name}-0", node=node, owner=("StatefulSet", name), workload=name)

    def call(self, pod: Pod, key: str, count: int = 5) -> list[str]:
        """What became of each call."""
        where = {"address": self.server.interface.address_4, "port": PORT, "key": key}
        return list(self.cluster.run(pod, "attempt", count=count, **where))

    def wait_until_known(self, pod: Pod) -> None:
        """The collector has heard of a Pod from the API server: a block of its address is of it from then on."""
        asked = {"consumer": f"workload:shop/{pod.workload}", "clusters": [CLUSTER]}
        wait_until(
            lambda: pod.interface.address_4 in self.ask("POST", "blocks/preview", **asked)["addresses"],
            "the Pod is known",
        )

    def begin_calling(self) -> list[int]:
        """Honest calls for three seconds, beside what the test does."""
        where = {"address": self.server.interface.address_4, "port": PORT, "key": HONEST}
        return [
            self.cluster.run(pod, "attempt", is_waiting=False, count=100, pause_seconds=0.03, **where)
            for pod in self.clients
        ]

    def end_calling(self, numbers: list[int]) -> None:
        """They were all served."""
        for number in numbers:
            assert self.cluster.zygote.wait(number) == ["200"] * 100

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        assert self.address is not None
        response = httpx.request(method, f"{self.address.url}/api/v1/{path}", json=body or None, timeout=60)
        assert response.is_success, response.text
        return dict(response.json())

    def block(self, consumer: str, **wish: Any) -> None:
        """Returns when the server's node enforces it and the two others have said what they do of it."""
        block = self.ask("POST", "blocks", consumer=consumer, seconds=SECONDS, **wish)

        def is_everywhere() -> bool:
            nodes = {node["node"]: node for node in self.ask("GET", f"blocks/{block['id']}")["nodes"]}
            return set(nodes) == {"node-1", "node-2", "node-3"} and nodes["node-2"]["is_enforced"]

        wait_until(is_everywhere, "node 2 enforces it, and each node has said so")

    def list_stopping(self, connections: int) -> list[dict[str, Any]]:
        """Nodes that stopped so many."""
        nodes = [node for block in self.ask("GET", "blocks")["items"] for node in block["nodes"]]
        return [node for node in nodes if node["stopped_connections"] >= connections]

    def find_principal(self, pod: Pod) -> str:
        """The one principal that has called from a Pod."""

        def look() -> str:
            names = [item["id"] for item in self.ask("GET", "consumers")["items"]]
            found = [
                name
                for name in names
                if name.startswith("principal:")
                and f"'{pod.interface.address_4}'" in str(self.ask("GET", f"consumers/{name}"))
            ]
            return found[0] if len(found) == 1 else ""

        return wait_until(look, "the thief is a consumer")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if reason := why_no_capture() or why_no_cluster():
        pytest.skip(reason)
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("cluster")
        made = Shop(open_cluster(directory, stack))
        (directory / "sensor.toml").write_text(SETTINGS)
        made.address = made.cluster.start_product("--config", str(directory / "sensor.toml"))
        yield made


def test_a_credential_of_a_pod_is_stopped_in_the_servers_network(shop: Shop) -> None:
    assert shop.call(shop.thief, STOLEN) == ["200"] * 5
    principal = shop.find_principal(shop.thief)
    honest = shop.begin_calling()
    shop.block(principal)
    assert shop.call(shop.thief, STOLEN) == ["reset"] * 5
    assert shop.call(shop.thief, BESIDE) == ["200"] * 5  # The same Pod, another key.
    shop.end_calling(honest)
    told = wait_until(lambda: shop.list_stopping(5), "it is counted")
    assert [(node["node"], node["failed_resets"]) for node in told] == [("node-2", 0)]
    assert shop.ask("POST", "blocks/lift", asked_by="ada") == {"lifted": 1}
    wait_until(lambda: shop.call(shop.thief, STOLEN, 1) == ["200"], "the thief is served again")


def test_a_pods_address_is_stopped_in_its_cluster(shop: Shop) -> None:
    honest = shop.begin_calling()
    shop.block(shop.thief.interface.address_4, clusters=[CLUSTER], is_confirmed=True)
    assert shop.call(shop.thief, STOLEN) == ["reset"] * 5
    assert shop.call(shop.thief, BESIDE) == ["reset"] * 5
    shop.end_calling(honest)
    shop.ask("POST", "blocks/lift", asked_by="ada")
    wait_until(lambda: shop.call(shop.thief, STOLEN, 1) == ["200"], "the thief is served again")


def test_a_blocked_workload_stays_blocked_at_its_next_address_alone(shop: Shop) -> None:
    scraper = shop._add("scraper", 1)
    assert shop.call(scraper, BESIDE) == ["200"] * 5
    shop.wait_until_known(scraper)
    block = shop.ask("POST", "blocks", consumer="workload:shop/scraper", seconds=SECONDS)
    assert (block["consumer"], block["clusters"]) == ("workload:shop/StatefulSet/scraper", [CLUSTER])
    wait_until(lambda: shop.call(scraper, BESIDE, 1) == ["reset"], "the workload is stopped")
    former = scraper.interface.address_4
    shop.cluster.delete_pod(scraper)
    again = shop._add("scraper", 1)
    host = int(former.rpartition(".")[2])
    honest = shop.cluster.add_pod("late-0", node=1, owner=("StatefulSet", "late"), workload="late", host=host)
    assert honest.interface.address_4 == former != again.interface.address_4
    wait_until(lambda: shop.call(again, BESIDE, 1) == ["reset"], "its next Pod is stopped")
    wait_until(lambda: shop.call(honest, HONEST, 1) == ["200"], "who inherited the address is served")
    assert shop.call(again, BESIDE) == ["reset"] * 5 and shop.call(honest, HONEST) == ["200"] * 5
    assert set(shop.ask("GET", f"blocks/{block['id']}")["addresses"]) >= {again.interface.address_4}
    shop.ask("POST", "blocks/lift", asked_by="ada")
    wait_until(lambda: shop.call(again, BESIDE, 1) == ["200"], "it is served again")


def test_a_block_of_a_pods_address_ends_with_the_pod(shop: Shop) -> None:
    scraper = shop._add("tool", 1)
    shop.wait_until_known(scraper)
    block = shop.ask("POST", "blocks", consumer=scraper.interface.address_4, clusters=[CLUSTER], seconds=SECONDS)
    assert block["ends_with"] == "pod shop/tool-0 of shop/StatefulSet/tool"
    wait_until(lambda: shop.call(scraper, BESIDE, 1) == ["reset"], "the Pod is stopped")
    host = int(scraper.interface.address_4.rpartition(".")[2])
    shop.cluster.delete_pod(scraper)
    honest = shop.cluster.add_pod("next-0", node=1, owner=("StatefulSet", "next"), workload="next", host=host)
    wait_until(lambda: shop.call(honest, HONEST, 1) == ["200"], "who inherited the address is served")
    ended = wait_until(
        lambda: one if (one := shop.ask("GET", f"blocks/{block['id']}"))["ended_at"] else None, "it ended"
    )
    assert ended["state"] == "expired"
