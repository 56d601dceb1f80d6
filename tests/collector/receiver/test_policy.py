"""A policy changed at run time: connected sensors are sent it, and what they make of it is shown."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from apidae.v1 import stream_pb2

from tests.collector.running import Conversation, RunningCollector, make_hello
from tests.waiting import wait_until

pytestmark = pytest.mark.store


class Settings:
    """A settings file, and the collector that was started with it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "collector.toml"
        self.write(20)
        self.collector = RunningCollector(directory / "data", "--no-auth", "--config", str(self.path))

    def write(self, calls_per_second: object) -> None:
        self.path.write_text(f"trigger_calls_per_second = {calls_per_second}\n")

    def change(self, calls_per_second: object) -> None:
        self.write(calls_per_second)
        self.collector.process.send_signal(signal.SIGHUP)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(tmp_path)
    yield made
    assert made.collector.stop() == 0


def connect(settings: Settings, node: str, **hello: Any) -> Conversation:
    conversation = Conversation(settings.collector.ready["grpc"], make_hello(node, **hello))
    first = conversation.hear()
    assert first is not None and first.HasField("welcome")
    return conversation


def answer(conversation: Conversation, policy: stream_pb2.Policy, refusal: str = "") -> None:
    result = stream_pb2.PolicyResult(epoch=policy.epoch, is_applied=not refusal, reason=refusal)
    conversation.say(stream_pb2.ConnectRequest(policy_result=result))


def wait_sensor(settings: Settings, node: str, expected: tuple[int, str]) -> None:
    def is_so() -> bool:
        sensors = {sensor["node"]: sensor for sensor in settings.collector.get("/sensors").json()["items"]}
        return node in sensors and (sensors[node]["policy_epoch"], sensors[node]["policy_refusal"]) == expected

    wait_until(is_so, f"{node} has {expected}")


def test_connected_sensors_get_what_changed(settings: Settings) -> None:
    new, old = connect(settings, "new", features=["policy_difference"]), connect(settings, "old")
    for sensor in (new, old):
        policy = sensor.hear_policy()
        assert (policy.epoch, policy.is_full, policy.triggers.calls_per_second) == (1, True, 20)
        answer(sensor, policy)
    wait_sensor(settings, "new", (1, ""))
    wait_sensor(settings, "old", (1, ""))
    settings.change(33)
    difference, full = new.hear_policy(), old.hear_policy()
    assert (difference.epoch, difference.is_full, difference.base_epoch) == (2, False, 1)
    assert (full.epoch, full.is_full) == (2, True)
    assert difference.triggers.calls_per_second == full.triggers.calls_per_second == 33
    answer(new, difference)
    answer(old, full, refusal="calls_per_second is 33; give it less")
    wait_sensor(settings, "new", (2, ""))
    wait_sensor(settings, "old", (1, "calls_per_second is 33; give it less"))
    settings.change(34)
    assert old.hear_policy().triggers.calls_per_second == 34
    for sensor in (new, old):
        sensor.close()


def test_a_sensor_that_holds_the_policy_is_told_what_is_blocked(settings: Settings) -> None:
    """A collector that lost its blocks may be at the epoch of one that had some: who holds them is to lift them."""
    sensor = connect(settings, "a", features=["policy_difference"], policy_epoch=1)
    policy = sensor.hear_policy()
    assert (policy.epoch, policy.base_epoch, policy.HasField("block_set")) == (1, 1, True)
    assert not policy.block_set.blocks
    sensor.close()


def test_a_block_is_told_once_the_disk_takes_the_policy(settings: Settings) -> None:
    sensor = connect(settings, "a")
    answer(sensor, sensor.hear_policy())
    in_the_way = settings.path.parent / "data" / "policy.json.new"
    in_the_way.mkdir()
    address = f"http://{settings.collector.ready['http']}/api/v1/blocks"
    assert httpx.post(address, json={"consumer": "203.0.113.7"}).status_code == 201
    while "policy_errors_total 0" in settings.collector.get("/metrics").text:
        time.sleep(0.05)
    in_the_way.rmdir()
    assert [block.address for block in sensor.hear_policy().block_set.blocks] == ["203.0.113.7"]
    sensor.close()


def test_a_difference_that_does_not_fit_is_followed_by_the_full_form(settings: Settings) -> None:
    sensor = connect(settings, "a", features=["policy_difference"], policy_epoch=9)
    difference = sensor.hear_policy()
    assert (difference.epoch, difference.is_full, difference.base_epoch) == (1, False, 9)
    answer(sensor, difference, refusal="send the full form")
    full = sensor.hear_policy()
    assert (full.epoch, full.is_full) == (1, True)
    answer(sensor, full)
    wait_sensor(settings, "a", (1, ""))
    sensor.close()


def test_bad_settings_leave_the_policy_and_are_told(settings: Settings) -> None:
    settings.change(0)
    wait_until(lambda: "reload_errors_total 1" in settings.collector.get("/metrics").text, "the error is counted")
    sensor = connect(settings, "a")
    assert sensor.hear_policy().triggers.calls_per_second == 20
    sensor.close()
    assert settings.collector.stop() == 0
    assert any("trigger_calls_per_second is 0" in line for line in settings.collector.errors)
