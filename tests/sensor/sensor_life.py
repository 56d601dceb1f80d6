"""A whole sensor in the test's loop: a fake capture below it, a fake collector above."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sensor.agent.agent import RunSettings, Sensor
from sensor.agent.lock import NodeLock
from sensor.agent.pipeline import CallProcessor, Pipeline
from sensor.aggregate.aggregator import Aggregator
from sensor.core.keyed import InstallationKey
from sensor.coverage.gaps import Gaps
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.export.client import Uplink, UplinkSettings
from sensor.export.convert import BatchConverter
from sensor.export.messages import SensorIdentity
from sensor.export.session import SessionTimes
from sensor.export.spool import Spool
from sensor.export.state import StateDirectory
from sensor.export.target import Target
from sensor.offload.governor import Governor, GovernorSettings
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.clocks import FakeClock
from tests.sensor.export.collector import FakeCollector
from tests.sensor.export.sending import make_keeper
from tests.sensor.scopes import watch_host
from tests.sensor.sensor_fakes import FakeCapture, FakeEnforcement, FakeNode, FakeProcessor

BOOT = "c" * 32


@dataclass
class Life:
    """A sensor, what is around it, and its task."""

    sensor: Sensor
    uplink: Uplink
    capture: FakeCapture
    clock: FakeClock
    spool: Spool
    capturing: asyncio.Event
    task: asyncio.Task[None]
    processors: list[FakeProcessor]
    lock: NodeLock
    enforcement: FakeEnforcement
    node: FakeNode

    async def end(self) -> None:
        self.sensor.stop()
        async with asyncio.timeout(60):
            await self.task


@asynccontextmanager
async def live(
    directory: Path,
    port: int,
    *,
    token: str = "",
    first_contact: float = 10,
    refresh_seconds: float = 0.01,
    stop_seconds: float = 5,
) -> AsyncIterator[Life]:
    clock, capture, capturing = FakeClock(), FakeCapture(), asyncio.Event()
    name = f"apidae-test-{uuid4().hex}"
    lock = NodeLock(directory / "run", watch_host(), version="1", now=lambda: "now", abstract_name=name)
    enforcement, node = FakeEnforcement(), FakeNode()
    aggregator = Aggregator()
    processors: list[FakeProcessor] = []

    def make_processor(key: InstallationKey) -> FakeProcessor:
        processors.append(FakeProcessor(clock, key, aggregator.facts))
        return processors[-1]

    spool = Spool(directory / "spool", boot_id=BOOT)

    def make_pipeline(processor: CallProcessor, key_id: int) -> Pipeline:
        converter = BatchConverter(node="node-1", boot_id=BOOT)
        return Pipeline(processor=processor, aggregator=aggregator, converter=converter, clock=clock, key_id=key_id)

    sensor = Sensor(
        settings=RunSettings(
            poll_interval_seconds=0.005,
            first_contact_timeout_seconds=first_contact,
            refresh_seconds=refresh_seconds,
            stop_seconds=stop_seconds,
        ),
        clock=clock,
        state=StateDirectory(directory),
        spool=spool,
        open_capture=lambda: capture,
        make_processor=make_processor,
        make_pipeline=make_pipeline,
        node=node,
        schemas=SchemaBook(load_vocabulary(), SampleRule()),
        enforcement=enforcement,
        gaps=Gaps(directory / "captured-until", unix_ns=clock.unix_ns, boot_unix_ns=0),
        governor=Governor(GovernorSettings(core_share=0.03, heads_per_second=50, floor_heads_per_second=5)),
        on_capturing=capturing.set,
        lock=lock,
    )
    uplink = Uplink(
        settings=UplinkSettings(
            target=Target(host="127.0.0.1", port=port),
            identity=SensorIdentity(cluster="", node="node-1", boot_id=BOOT, version="1", kernel_release="6"),
            token=lambda: token,
            first_backoff_seconds=0.01,
            longest_backoff_seconds=0.02,
            times=SessionTimes(health_interval_seconds=0.02, coverage_interval_seconds=0.02),
        ),
        keeper=make_keeper(directory, Target(host="127.0.0.1", port=port)),
        spool=spool,
        clock=clock,
        listener=sensor,
        random_source=lambda: 0.5,
    )
    task = asyncio.create_task(sensor.run(uplink))
    try:
        yield Life(sensor, uplink, capture, clock, spool, capturing, task, processors, lock, enforcement, node)
    finally:
        sensor.stop()
        await asyncio.gather(task, return_exceptions=True)


async def wait_capturing(life: Life) -> None:
    async with asyncio.timeout(60):
        await life.capturing.wait()


def count_calls(collector: FakeCollector) -> int:
    return sum(sum(batch.rows.calls) for batch in collector.batches)
