"""A policy changed at run time: connected sensors are sent it, and what they make of it is shown."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from apidae.v1 import stream_pb2

from collector.receiver.policy import BlockKind, BlockOrder
from collector.response.policy_table import PolicyTable
from collector.storage.state.store import open_state
from common.consumer_order import ConsumerColumn
from tests.collector.running import Conversation, RunningCollector, make_hello
from tests.waiting import wait_until

pytestmark = pytest.mark.store


class Running:
    """A collector, with blocks as what changes in its policy."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        order = ("--consumer-order", "client_address,principal")
        self.collector = RunningCollector(self.data, "--no-auth", *order)

    def block(self, address: str) -> None:
        url = f"http://{self.collector.ready['http']}/api/v1/blocks"
        assert httpx.post(url, json={"consumer": address}, timeout=60).status_code == 201


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    assert made.collector.stop() == 0


def connect(running: Running, node: str, **hello: Any) -> Conversation:
    conversation = Conversation(running.collector.ready["grpc"], make_hello(node, **hello))
    first = conversation.hear()
    assert first is not None and first.HasField("welcome")
    return conversation


def answer(conversation: Conversation, policy: stream_pb2.Policy, refusal: str = "") -> None:
    result = stream_pb2.PolicyResult(epoch=policy.epoch, is_applied=not refusal, reason=refusal)
    conversation.say(stream_pb2.ConnectRequest(policy_result=result))


def wait_sensor(running: Running, node: str, expected: tuple[int, str]) -> None:
    def is_so() -> bool:
        sensors = {sensor["node"]: sensor for sensor in running.collector.get("/sensors").json()["items"]}
        return node in sensors and (sensors[node]["policy_epoch"], sensors[node]["policy_refusal"]) == expected

    wait_until(is_so, f"{node} has {expected}")


def test_connected_sensors_get_what_changed(running: Running) -> None:
    new, old = connect(running, "new", features=["policy_difference"]), connect(running, "old")
    for sensor in (new, old):
        policy = sensor.hear_policy()
        assert (policy.epoch, policy.is_full, policy.triggers.calls_per_second) == (1, True, 20)
        assert list(policy.consumer_order) == [
            stream_pb2.CONSUMER_COLUMN_CLIENT_ADDRESS,
            stream_pb2.CONSUMER_COLUMN_PRINCIPAL,
        ]
        answer(sensor, policy)
    wait_sensor(running, "new", (1, ""))
    wait_sensor(running, "old", (1, ""))
    running.block("203.0.113.7")
    difference, full = new.hear_policy(), old.hear_policy()
    assert (difference.epoch, difference.is_full, difference.base_epoch) == (2, False, 1)
    assert (full.epoch, full.is_full) == (2, True)
    for policy in (difference, full):
        assert [block.address for block in policy.block_set.blocks] == ["203.0.113.7"]
    answer(new, difference)
    answer(old, full, refusal="too many blocks")
    wait_sensor(running, "new", (2, ""))
    wait_sensor(running, "old", (1, "too many blocks"))
    running.block("203.0.113.8")
    assert len(old.hear_policy().block_set.blocks) == 2
    for sensor in (new, old):
        sensor.close()


def test_a_sensor_that_holds_the_policy_gets_what_is_blocked(running: Running) -> None:
    """A collector that lost its blocks may be at the epoch of one that had some: who holds them is to lift them."""
    sensor = connect(running, "a", features=["policy_difference"], policy_epoch=1)
    policy = sensor.hear_policy()
    assert (policy.epoch, policy.base_epoch, policy.HasField("block_set")) == (1, 1, True)
    assert not policy.block_set.blocks
    sensor.close()


def test_what_another_collector_published_is_sent_too(running: Running) -> None:
    sensor = connect(running, "a")
    answer(sensor, sensor.hear_policy())
    order = BlockOrder(
        id="b1", kind=BlockKind.ADDRESS, value="203.0.113.7", key_id=0, credentials=(), scopes=(), expires_at=2e9
    )
    with closing(open_state(running.data)) as state:
        policy = PolicyTable(state, (ConsumerColumn.CLIENT_ADDRESS, ConsumerColumn.PRINCIPAL))
        with state.write() as connection:
            policy.hold(connection)
            assert policy.publish(connection, [order])
    heard = sensor.hear_policy()
    assert (heard.epoch, [block.address for block in heard.block_set.blocks]) == (2, ["203.0.113.7"])
    sensor.close()


def test_a_difference_that_does_not_fit_is_followed_by_the_full_form(running: Running) -> None:
    sensor = connect(running, "a", features=["policy_difference"], policy_epoch=9)
    difference = sensor.hear_policy()
    assert (difference.epoch, difference.is_full, difference.base_epoch) == (1, False, 9)
    answer(sensor, difference, refusal="send the full form")
    full = sensor.hear_policy()
    assert (full.epoch, full.is_full) == (1, True)
    answer(sensor, full)
    wait_sensor(running, "a", (1, ""))
    sensor.close()
