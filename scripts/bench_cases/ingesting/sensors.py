"""Simulated sensors: the sensor's own uplink, session and spool, with a recording in the place of capture.

Each has its own node, connection and spool directory. So greeting, batches in flight, acknowledgements, health,
coverage, schemas, policy and the waits between dials are what a sensor does, and follow it where it changes. Batches
leave at the start of each second of unix time, on all nodes at once, as those of real sensors do.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import msgspec

from collector.server.listeners import allow_open_files
from scripts.bench_cases.ingesting.recording import RecordedBatch, Recording
from scripts.bench_cases.ingesting.templates import CLUSTER, WINDOW_SECONDS, NodeGroup
from sensor.core.attachments import AttachmentRecord
from sensor.core.clock import Clock, seconds_left
from sensor.core.config import CaptureWay
from sensor.core.health import HealthReport, StageCount
from sensor.core.state import SensorState
from sensor.coverage.row import PortCoverage
from sensor.describe.schemas.book import Schema
from sensor.enforce.block import EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.export.certificates import CertificateFiles, CertificateKeeper, KeeperSettings
from sensor.export.client import Uplink, UplinkSettings
from sensor.export.messages import SensorIdentity, Welcome
from sensor.export.policy import Policy, PolicyResult, PolicyUpdate, apply_update
from sensor.export.session import IN_FLIGHT_COUNT_LIMIT
from sensor.export.spool import BatchKey, Spool
from sensor.export.state import StateDirectory
from sensor.export.target import Target, parse_target

SCHEMAS_OF_MESSAGE = 100
SPOOL_BYTES = 64 * 2**20
# Of a node that sends as fast as it is acknowledged: as many as a stream has in flight.
FLOOD_WAITING = IN_FLIGHT_COUNT_LIMIT
_STAGES = ("capture", "match", "describe", "aggregate", "convert", "spool")
# Of sensors that are dialled at the start of a load; those that come back after a restart dial as their waits end.
_DIALS_AT_ONCE = 50
CONNECT_SECONDS = 60.0
_NO_ENFORCEMENT = EnforcementReport(epoch=0, is_enabled=False, reason="", blocks=())


@dataclass(slots=True)
class LoadAccount:
    """What all simulated sensors sent; rows, calls and bytes are those of batches that were acknowledged."""

    sent: int = 0
    batches: int = 0
    rows: int = 0
    calls: int = 0
    bytes: int = 0
    refused: int = 0
    waits_seconds: list[float] = field(default_factory=list)  # From the spool to the acknowledgement.
    late_seconds: float = 0.0  # By which this process sent the batches of some second too late, at most.


class WatchedSpool(Spool):
    """A spool that writes its acknowledgements to the account."""

    def __init__(self, directory: Path, *, boot_id: str, account: LoadAccount) -> None:
        super().__init__(directory, boot_id=boot_id, limit_bytes=SPOOL_BYTES)
        self._account = account
        self.waiting_rows: dict[int, int] = {}  # By sequence.
        self.has_room = asyncio.Event()

    def acknowledge(self, key: BatchKey) -> bool:
        entry = self.find(key)
        if entry is None or not super().acknowledge(key):
            return False
        account = self._account
        account.batches += 1
        account.rows += self._settle(key)
        account.calls += entry.calls
        account.bytes += entry.payload_bytes
        account.waits_seconds.append(time.time() - entry.time_unix_ns / 1e9)
        return True

    def refuse(self, key: BatchKey) -> bool:
        is_refused = super().refuse(key)
        if is_refused:
            self._settle(key)
            self._account.refused += 1
        return is_refused

    def _settle(self, key: BatchKey) -> int:
        self.has_room.set()
        return self.waiting_rows.pop(key.sequence, 0)


class SimulatedSensor:
    """One node. It is the listener of its uplink (sensor/export/session.py)."""

    def __init__(
        self, *, number: int, target: Target, keeper: CertificateKeeper, directory: Path, account: LoadAccount
    ) -> None:
        self.group: NodeGroup | None = None  # What the node runs; None: nothing.
        self._account = account
        self._sequence = 0
        self._calls = 0
        self._key_id = 0
        self._schemas_version = 0
        self._offered: dict[int, Schema] = {}  # By digest.
        self._wanted: list[int] = []
        self._policy = Policy()
        self._clock = Clock()
        node, boot_id = f"node-{number:05}", uuid4().hex
        self.identity = SensorIdentity(
            cluster=CLUSTER, node=node, boot_id=boot_id, version="bench", kernel_release="6.12.0"
        )
        self.spool = WatchedSpool(directory / node, boot_id=boot_id, account=account)
        self.uplink = Uplink(
            settings=UplinkSettings(target=target, identity=self.identity, token=str),
            keeper=keeper,
            spool=self.spool,
            clock=self._clock,
            listener=self,
            random_source=random.Random(number).random,
        )

    @property
    def waiting_count(self) -> int:
        """Batches without an acknowledgement."""
        return len(self.spool.waiting_rows)

    def send(self, batches: Iterable[RecordedBatch], window_start: int) -> None:
        """Hand batches to the uplink, as of the window that starts then."""
        for batch in batches:
            self._sequence += 1
            payload = batch.address(
                node=self.identity.node,
                boot_id=self.identity.boot_id,
                sequence=self._sequence,
                key_id=self._key_id,
                window_start=window_start,
            )
            self.spool.waiting_rows[self._sequence] = batch.rows
            self.uplink.send(sequence=self._sequence, payload=payload, calls=batch.calls)
            self._calls += batch.calls
            self._account.sent += 1

    # What its session asks for and hands over.

    def on_connection(self, is_connected: bool) -> None:
        """Windows do not merge here while the collector is away: what is played stays as it was recorded."""

    def on_welcome(self, welcome: Welcome) -> None:
        if welcome.keys:
            self._key_id = welcome.keys[0].key_id

    def on_policy(self, update: PolicyUpdate) -> PolicyResult:
        result = apply_update(self._policy, update)
        self._policy = result.policy
        return result

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        return {}

    def read_health(self) -> HealthReport:
        now_ns, oldest_ns = self._clock.unix_ns(), self.spool.oldest_unix_ns
        return HealthReport(
            time_unix_ns=now_ns,
            state=SensorState.CAPTURING,
            stages=tuple(StageCount(stage=name, seen=self._calls, used=self._calls, dropped=()) for name in _STAGES),
            lag_ms=0 if oldest_ns is None else max(0, now_ns - oldest_ns) // 1_000_000,
            spool_bytes=self.spool.waiting_bytes,
            memory_bytes=60_000_000,
            cpu_ns=self._calls * 20_000,
            capture=CaptureWay.CGROUP_SKB,
        )

    def read_coverage(self) -> Sequence[PortCoverage]:
        return self.group.list_ports(self._calls) if self.group is not None else ()

    def read_enforcement(self) -> EnforcementReport:
        return _NO_ENFORCEMENT

    def read_workloads(self) -> Sequence[WorkloadFacts]:
        return self.group.list_workloads() if self.group is not None else ()

    def read_node_addresses(self) -> Sequence[str]:
        return ()

    def read_attachments(self, after: int) -> tuple[int, Sequence[AttachmentRecord], int]:
        return after, (), 0

    def offer_schemas(self) -> Sequence[int]:
        """Of all of them; nothing changes."""
        schemas = self.group.list_schemas(self._schemas_version) if self.group is not None else ()
        self._offered = {self._digest(number): schema for number, schema in enumerate(schemas)}
        return list(self._offered)

    def ask_schemas(self, digests: Sequence[int]) -> None:
        self._wanted += digests

    def _digest(self, number: int) -> int:
        return crc32(f"{self.identity.node} {self.identity.boot_id}".encode()) << 32 | number

    def read_schemas(self, *, is_first: bool) -> Iterable[Sequence[Schema]]:
        """What the collector asked for; of an older one all of them on a new stream, in another version each time."""
        wanted, self._wanted = self._wanted, []
        if wanted:
            yield [msgspec.structs.replace(self._offered[digest], digest=digest) for digest in wanted]
        if is_first and self.group is not None:
            self._schemas_version += 1
            schemas = self.group.list_schemas(self._schemas_version)
            for start in range(0, len(schemas), SCHEMAS_OF_MESSAGE):
                yield schemas[start : start + SCHEMAS_OF_MESSAGE]

    @property
    def key_id(self) -> int:
        """Newest installation key held; 0 = none."""
        return self._key_id

    @property
    def policy_epoch(self) -> int:
        """Epoch of the policy in force."""
        return self._policy.epoch


class Fleet:
    """Simulated sensors of one collector. `async with` starts nothing yet and ends all."""

    def __init__(self, address: str, directory: Path, first_number: int = 0) -> None:
        """`first_number`: of its nodes."""
        allow_open_files()
        self._first_number = first_number
        self.account = LoadAccount()
        self.sensors: list[SimulatedSensor] = []
        self._target = parse_target(address)
        self._directory = directory
        files = CertificateFiles(StateDirectory(directory / "state"), ca_file=None, cert_file=None, key_file=None)
        self._keeper = CertificateKeeper(
            KeeperSettings(target=self._target, cluster=CLUSTER, node="bench"), files, Clock()
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Fleet":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connected_count(self) -> int:
        """Sensors that were welcomed and whose stream is open."""
        return sum(sensor.uplink.is_connected for sensor in self.sensors)

    @property
    def waiting_count(self) -> int:
        """Batches without an acknowledgement."""
        return sum(sensor.waiting_count for sensor in self.sensors)

    async def connect(self, count: int, recordings: Sequence[Recording]) -> None:
        """Have `count` sensors in all, connected, that run what is recorded."""
        while len(self.sensors) < count:
            fresh = range(len(self.sensors), min(count, len(self.sensors) + _DIALS_AT_ONCE))
            for number in fresh:
                sensor = SimulatedSensor(
                    number=self._first_number + number,
                    target=self._target,
                    keeper=self._keeper,
                    directory=self._directory,
                    account=self.account,
                )
                sensor.group = recordings[number % len(recordings)].group
                self.sensors.append(sensor)
                self._tasks.append(asyncio.create_task(sensor.uplink.run()))
            try:
                await asyncio.wait_for(self.wait_connected(), CONNECT_SECONDS)
            except TimeoutError:
                return  # The line of the load says how many streams there are.

    async def wait_connected(self, share: float = 1.0) -> None:
        """Return when that share of the sensors is connected."""
        while self.connected_count < share * len(self.sensors):
            await asyncio.sleep(0.05)

    async def wait_acknowledged(self, limit_seconds: float) -> bool:
        """Whether all that was sent is acknowledged before the time is over."""
        end = time.monotonic() + limit_seconds
        while self.waiting_count and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return not self.waiting_count

    async def play(self, count: int, recordings: Sequence[Recording], seconds: int) -> None:
        """So many sensors send what is recorded, at the pace of real ones, for that long."""
        sensors = self._assign(count, recordings)
        for _ in range(seconds):
            await asyncio.sleep(seconds_left(time.time_ns()))
            second = time.time_ns() // 1_000_000_000
            for place, sensor in enumerate(sensors):
                batches = recordings[place % len(recordings)].list_batches(second)
                sensor.send(batches, second - second % WINDOW_SECONDS)
                if place % 20 == 19:
                    await asyncio.sleep(0)  # Acknowledgements of the others are read meanwhile.
            late = time.time_ns() / 1e9 - second
            self.account.late_seconds = max(self.account.late_seconds, late)

    async def flood(self, count: int, recordings: Sequence[Recording], batches: int) -> None:
        """So many sensors send that many batches together, as fast as they are acknowledged."""
        sensors = self._assign(count, recordings)
        share = -(-batches // len(sensors))
        await asyncio.gather(
            *(_flood_one(sensor, recordings[place % len(recordings)], share) for place, sensor in enumerate(sensors))
        )

    def _assign(self, count: int, recordings: Sequence[Recording]) -> list[SimulatedSensor]:
        sensors = self.sensors[:count]
        for place, sensor in enumerate(sensors):
            sensor.group = recordings[place % len(recordings)].group
        return sensors


async def _flood_one(sensor: SimulatedSensor, recording: Recording, batches: int) -> None:
    """Send at least so many batches; whole seconds of the recording."""
    second, sent = 0, 0
    while sent < batches:
        while sensor.waiting_count < FLOOD_WAITING and sent < batches:
            leaving = recording.list_batches(second)
            sensor.send(leaving, int(time.time()) // WINDOW_SECONDS * WINDOW_SECONDS)
            second, sent = second + 1, sent + len(leaving)
        sensor.spool.has_room.clear()
        if sensor.waiting_count >= FLOOD_WAITING:
            await sensor.spool.has_room.wait()
