"""A running uplink with a spool of its own and a collector in the test's loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from apidae.v1 import data_pb2

from sensor.core.attachments import AttachmentRecord, Journal
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay
from sensor.core.health import HealthReport, StageCount
from sensor.core.state import SensorState
from sensor.coverage.row import PortCoverage, PortProtocol
from sensor.describe.schemas.book import Schema
from sensor.enforce.block import EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.export.certificates import CertificateFiles, CertificateKeeper, KeeperSettings
from sensor.export.client import Uplink, UplinkSettings
from sensor.export.messages import SensorIdentity, Welcome
from sensor.export.policy import Policy, PolicyResult, PolicyUpdate, apply_update
from sensor.export.session import SessionTimes
from sensor.export.spool import Spool
from sensor.export.state import StateDirectory
from sensor.export.target import Target
from tests.sensor.export.collector import FakeCollector
from tests.sensor.records import make_service

BOOT = "0123456789abcdef0123456789abcdef"
IDENTITY = SensorIdentity(cluster="test", node="node-1", boot_id=BOOT, version="1.2.3", kernel_release="6.18")


class Listener:
    """The rest of a sensor."""

    def __init__(self) -> None:
        self.key_id = 0
        self.policy = Policy()
        self.welcomes: list[Welcome] = []
        self.connections: list[bool] = []
        self.attachments = Journal()
        self.asked: list[tuple[int, ...]] = []
        self.schemas: list[Schema] = []
        self.schemas_asked: list[bool] = []
        self.schemas_wanted: list[list[int]] = []

    @property
    def policy_epoch(self) -> int:
        return self.policy.epoch

    def on_welcome(self, welcome: Welcome) -> None:
        self.welcomes.append(welcome)
        self.key_id = welcome.keys[0].key_id

    def on_connection(self, is_connected: bool) -> None:
        self.connections.append(is_connected)

    def on_policy(self, update: PolicyUpdate) -> PolicyResult:
        result = apply_update(self.policy, update)
        self.policy = result.policy
        return result

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        self.asked.append(tuple(hashes))
        return {hashes[0]: "users"}

    def read_health(self) -> HealthReport:
        return HealthReport(
            time_unix_ns=5,
            state=SensorState.CAPTURING,
            stages=(StageCount(stage="spool", seen=5, used=3, dropped=(("refused", 2),)),),
            lag_ms=1,
            spool_bytes=2,
            memory_bytes=3,
            cpu_ns=4,
            reason="",
            capture=CaptureWay.SYSCALLS,
            fallback_reason="packets are refused",
        )

    def read_enforcement(self) -> EnforcementReport:
        return EnforcementReport(epoch=0, is_enabled=False, reason="off", blocks=())

    def read_attachments(self, after: int) -> tuple[int, Sequence[AttachmentRecord], int]:
        return *self.attachments.read_after(after), self.attachments.lost

    def read_node_addresses(self) -> Sequence[str]:
        return ["10.244.0.1"]

    def read_workloads(self) -> Sequence[WorkloadFacts]:
        return [
            WorkloadFacts(
                cluster="east", namespace="shop", workload="cart", kind="Deployment", labels=(("team", "a"),),
                zone="eu-1a", pods=2,
            )
        ]  # fmt: skip

    def read_schemas(self, *, is_first: bool) -> Iterable[Sequence[Schema]]:
        self.schemas_asked.append(is_first)
        return [self.schemas] if is_first else []

    def offer_schemas(self) -> Sequence[int]:
        return [schema.digest for schema in self.schemas]

    def ask_schemas(self, digests: Sequence[int]) -> None:
        self.schemas_wanted.append(list(digests))

    def read_coverage(self) -> Sequence[PortCoverage]:
        return [
            PortCoverage(
                service=make_service(),
                protocol=PortProtocol.HTTP,
                connections=1,
                bytes=2,
                address="0.0.0.0",
                reason="",
            )
        ]


def make_keeper(
    directory: Path,
    target: Target,
    *,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    server_name: str = "",
    token_file: Path | None = None,
    look_seconds: float = 0.05,
    clock: Clock | None = None,
) -> CertificateKeeper:
    """Of IDENTITY's node."""
    state = StateDirectory(directory / "state")
    return CertificateKeeper(
        KeeperSettings(
            target=target,
            cluster=IDENTITY.cluster,
            node=IDENTITY.node,
            server_name=server_name,
            token_file=token_file,
            look_seconds=look_seconds,
        ),
        CertificateFiles(state, ca_file=ca_file, cert_file=cert_file, key_file=key_file),
        clock or Clock(),
    )


class Sender:
    """An uplink over a spool, and a counter of sequences."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        token: Callable[[], str] = str,
        ca_file: Path | None = None,
        first_backoff_seconds: float = 0.01,
    ) -> None:
        self.listener = Listener()
        self.spool = Spool(directory, boot_id=BOOT)
        self.sequence = 0
        target = Target(host="127.0.0.1", port=port)
        self.uplink = Uplink(
            settings=UplinkSettings(
                target=target,
                identity=IDENTITY,
                token=token,
                first_backoff_seconds=first_backoff_seconds,
                longest_backoff_seconds=max(0.05, first_backoff_seconds),
                times=SessionTimes(health_interval_seconds=0.05, coverage_interval_seconds=0.05),
            ),
            keeper=make_keeper(directory, target, ca_file=ca_file, server_name="localhost" if ca_file else ""),
            spool=self.spool,
            clock=Clock(),
            listener=self.listener,
            random_source=lambda: 0.5,
        )

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sequence += 1
            batch = data_pb2.Batch(node="node-1", boot_id=BOOT, sequence=self.sequence)
            self.uplink.send(sequence=self.sequence, payload=batch.SerializeToString(), calls=10)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Sender"]:
        task = asyncio.create_task(self.uplink.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.spool.close()

    async def drain(self) -> None:
        async with asyncio.timeout(60):
            await self.uplink.wait_welcome()
            while self.spool.waiting():
                await self.uplink.drain()
                await asyncio.sleep(0.001)


def with_sender(directory: Path, test: Callable[[Sender, FakeCollector], object]) -> None:
    """Run an async test with a collector and a sender that talks to it."""

    async def main() -> None:
        async with FakeCollector().serve() as collector, Sender(directory, collector.port).running() as sender:
            await test(sender, collector)  # type: ignore[misc]

    asyncio.run(main())
