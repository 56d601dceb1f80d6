"""What the collector knows of the certificates of the sensors that are connected."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from apidae.v1 import stream_pb2

from collector.receiver.clocks import SensorClocks
from collector.receiver.own_traffic import OwnTraffic
from collector.receiver.reports import PROTOCOL_VERSION, RevealBook
from collector.receiver.sensors import SensorRegistry
from collector.receiver.service import CollectorService
from collector.receiver.stream import IngestContext, IngestCounts
from collector.receiver.witness import WitnessBook
from collector.trust.identity import SensorCertificate
from tests.figures import read_values

NOW = 1_000.0


class Call:
    """A sensor's side of a stream: it says who it is, and then nothing until it leaves."""

    def __init__(self, node: str, not_after: float | None) -> None:
        self.node = node
        self.certificate = not_after and SensorCertificate(
            serial=1, not_before=0.0, not_after=not_after, cluster=None, nodes=frozenset((node,))
        )
        self.is_greeted = asyncio.Event()
        self.has_left = asyncio.Event()

    async def read(self) -> bytes | None:
        if not self.is_greeted.is_set():
            hello = stream_pb2.Hello(protocol=PROTOCOL_VERSION, node=self.node, boot_id="b", version="1")
            return stream_pb2.ConnectRequest(hello=hello).SerializeToString()
        await self.has_left.wait()
        return None

    async def write(self, response: stream_pb2.ConnectResponse) -> None:
        self.is_greeted.set()

    async def abort(self, code: object, reason: str) -> None:
        raise AssertionError(reason)


def make_service(sensors: SensorRegistry) -> CollectorService:
    admission = SimpleNamespace(admit=lambda call: call.certificate, check_node=lambda *_, **__: None)
    context = SimpleNamespace(
        sensors=sensors,
        keys=(),
        own_traffic=lambda: OwnTraffic(),
        policy=SimpleNamespace(epoch=0),
        commit=SimpleNamespace(unknown_values=0),
        admission=admission,
        authorities=lambda: b"",
        clock=lambda: NOW,
        clocks=SensorClocks(lambda: NOW),
        reveals=RevealBook(),
        witnesses=WitnessBook(lambda *_: None, lambda: 0.0),
        counts=IngestCounts(),
        failures=Counter(),
    )
    return CollectorService(cast(IngestContext, context))


def measure_left(service: CollectorService) -> dict[str, float]:
    values = read_values(service.figures())
    return {name: value for name, value in values.items() if name == "sensor_certificate_left_seconds"}


async def measure(calls: list[Call], service: CollectorService) -> list[dict[str, float]]:
    """The figures while all are connected, and then after each has left."""
    streams = [asyncio.create_task(service.connect(cast(Any, None), call)) for call in calls]
    for call, stream in zip(calls, streams, strict=True):
        await asyncio.wait(
            [stream, greeted := asyncio.create_task(call.is_greeted.wait())], return_when="FIRST_COMPLETED"
        )
        if not greeted.done():
            await stream  # It failed.
    await asyncio.sleep(0)
    found = [measure_left(service)]
    for call, stream in zip(calls, streams, strict=True):
        call.has_left.set()
        await stream
        found.append(measure_left(service))
    return found


def test_the_soonest_expiry_is_of_sensors_that_are_connected() -> None:
    async def run() -> list[dict[str, float]]:
        calls = [Call("soon", NOW + 60), Call("later", NOW + 900), Call("by-token", None)]
        return await measure(calls, service)

    sensors = SensorRegistry(lambda: NOW)
    service = make_service(sensors)
    name = "sensor_certificate_left_seconds"
    assert asyncio.run(run()) == [{name: 60.0}, {name: 900.0}, {}, {}]
    known = {status.node: status.certificate_not_after for status in sensors.list_statuses()}
    assert known == {"soon": NOW + 60, "later": NOW + 900, "by-token": 0.0}
