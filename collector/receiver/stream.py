"""The conversation with one sensor after its Hello: what each message does, what is acknowledged, and what is sent to
it.

A batch is acknowledged when it is durable (collector/receiver/commit.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from apidae.v1 import data_pb2, stream_pb2
from google.protobuf.message import DecodeError

from collector.core.keys import InstallationKey
from collector.receiver.columns import MESSAGE_LIMIT_BYTES
from collector.receiver.commit import CommitOutcome, Committed, GroupCommit
from collector.receiver.convert import Refusal, convert_batch, count_unknown
from collector.receiver.own_traffic import OwnTraffic
from collector.receiver.policy import EnforcementReport, SensorPolicy, convert_enforcement, write_policy
from collector.receiver.reports import (
    CoverageRecord,
    FormerName,
    PolicyResult,
    RevealBook,
    RevealedWord,
    WorkloadRecord,
    convert_coverage,
    convert_former_names,
    convert_health,
    convert_policy_result,
    convert_revealed,
    convert_workloads,
)
from collector.receiver.schemas import SchemaRecord, convert_schemas
from collector.receiver.sensors import Greeting, SensorRegistry
from collector.receiver.wal import Append
from collector.receiver.witness import WitnessBook
from collector.trust.admission import Admission
from collector.trust.identity import SensorCertificate
from common.figures import total

DIFFERENCE_FEATURE = "policy_difference"  # Of a sensor that takes differences.
# Batches of one stream that wait for the disk; past it the stream is not read, which holds its sensor back.
IN_FLIGHT_LIMIT = 64
RETRY_AFTER_MS = 1_000
REVEAL_INTERVAL_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class IngestCounts:
    """What came on all streams; batches_seen = durable + duplicate + retry + refused + those under way."""

    batches_seen: int = total("Batches of rows that sensors sent.")
    batches_durable: int = total("Batches that were written to the log and acknowledged.")
    batches_duplicate: int = total("Batches that the log already had.")
    batches_retry: int = total("Batches that the log did not take; their sensors send them again.")
    batches_refused: int = total("Batches that were refused as malformed; their sensors drop them.")
    batches_of_unknown_key: int = total("Batches hashed under an installation key that this collector does not know.")
    rows_seen: int = total("Rows of the batches that were not refused.")
    unknown_fields: int = total("Fields of batches that this version does not know: their sensor is newer.")
    unknown_values: int = total("Values of enums in batches that this version does not know: their sensor is newer.")
    messages_unknown: int = total("Messages that this version does not know: their sensor is newer.")
    unauthenticated: int = total("Streams that came with no valid token.")
    hello_refused: int = total("Streams whose first message was missing or malformed.")
    streams_ended_by_certificate: int = total("Streams ended because their sensor's certificate no longer holds.")
    revealed_refused: int = total("Answers with words of paths that were refused as malformed.")
    policies_applied: int = total("Policies that sensors put in force.")
    policies_refused: int = total("Policies that sensors refused.")
    acks_unsent: int = total("Acknowledgements that could not be sent: the sensor had left, and sends the batch again.")


@dataclass(slots=True, kw_only=True)
class IngestContext:
    """What the service and all of its streams work with; `keys` (newest first) and `policy` change while they run.
    Nothing that begins with `on_` may block."""

    commit: GroupCommit
    sensors: SensorRegistry
    keys: tuple[InstallationKey, ...]
    policy: SensorPolicy
    admission: Admission
    authorities: Callable[[], bytes]  # PEM, for the sensors; empty where they know the collector otherwise.
    clock: Callable[[], float]
    own_traffic: Callable[[], OwnTraffic]
    reveals: RevealBook
    witnesses: WitnessBook
    on_coverage: Callable[[list[CoverageRecord]], None]
    on_workloads: Callable[[list[WorkloadRecord]], None]
    on_former_names: Callable[[list[FormerName]], None]
    on_revealed: Callable[[list[RevealedWord]], None]
    on_schemas: Callable[[list[SchemaRecord]], None]
    on_enforcement: Callable[[str, EnforcementReport], None]
    counts: IngestCounts = field(default_factory=IngestCounts)


class SensorStream:
    def __init__(
        self, context: IngestContext, call: Any, greeting: Greeting, certificate: SensorCertificate | None
    ) -> None:
        self.certificate = certificate
        self._end_reason = ""
        self._context = context
        self._call = call
        self._greeting = greeting
        self._witness = context.witnesses.open(greeting.name)
        self._slots = asyncio.Semaphore(IN_FLIGHT_LIMIT)
        self._write_lock = asyncio.Lock()
        self._tasks: set[asyncio.Future[None]] = set()
        self._held_epoch = greeting.policy_epoch  # Of the policy that the sensor holds.
        self._told_epoch = 0  # Of the one it was sent last, and whether that was the full form.
        self._is_told_fully = False
        self._is_policy_told = False  # On this stream.
        self._is_policy_due = asyncio.Event()
        self._is_policy_due.set()
        self._is_ended = asyncio.Event()

    async def run(self) -> None:
        """Read until the sensor ends or `end`; everything that was read is still acknowledged."""
        beside = [asyncio.create_task(work) for work in (self._push_policies(), self._ask_words())]
        ended = asyncio.create_task(self._is_ended.wait())
        try:
            while not self._end_reason and (message := await self._read_or_end(ended)) is not None:
                await self._take(message)
            if self._tasks:
                await asyncio.wait(self._tasks)
            if self._end_reason:
                await self._call.abort(grpc.StatusCode.PERMISSION_DENIED, self._end_reason)
        finally:
            ended.cancel()
            for work in beside:
                work.cancel()
            for task in self._tasks:
                task.cancel()

    def tell_policy(self) -> None:
        """There is another policy: send it soon."""
        self._is_policy_due.set()

    def end(self) -> None:
        self._is_ended.set()

    def check_certificate(self) -> None:
        """End the stream with words where its certificate does not hold any more."""
        if self.certificate is None or self._end_reason:
            return
        reason = self._context.admission.find_end(self.certificate)
        if reason:
            logger.warning("The stream of the sensor on %s ends: %s.", self._greeting.name, reason)
            self._context.counts.streams_ended_by_certificate += 1
            self._end_reason = f"The stream ends, for {reason}; enrol this sensor again."
            self.end()

    async def _read_or_end(self, ended: "asyncio.Task[bool]") -> bytes | None:
        """The next message; None at the end of the stream."""
        reading = asyncio.ensure_future(self._call.read())
        try:
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
        message = reading.result() if reading.done() else None
        return message if isinstance(message, bytes) else None

    def _take_coverage(self, coverage: stream_pb2.Coverage) -> None:
        context, greeting, witness = self._context, self._greeting, self._witness
        now = context.clock()
        witness.bind_services([port.service for port in coverage.ports], greeting)
        context.on_coverage(
            convert_coverage(coverage, node=greeting.name, boot_id=greeting.boot_id, now_unix_seconds=now)
        )
        workloads = convert_workloads(coverage, node=greeting.name, now_unix_seconds=now)
        context.on_workloads(witness.admit_workloads(workloads, greeting))
        context.on_former_names(witness.admit_former_names(convert_former_names(coverage, greeting, now), greeting))

    def _take_schemas(self, schemas: stream_pb2.Schemas) -> None:
        context, greeting = self._context, self._greeting
        records = convert_schemas(
            schemas, node=greeting.name, boot_id=greeting.boot_id, now_unix_seconds=context.clock()
        )
        if admitted := self._witness.admit_schemas(records):
            context.on_schemas(admitted)

    @property
    def _secrets(self) -> dict[int, bytes]:
        return {key.key_id: key.secret for key in self._context.keys}

    async def _take(self, message: bytes) -> None:
        """One message; whatever is wrong with it is counted, and the stream goes on."""
        context, node = self._context, self._greeting.name
        counts = context.counts
        if len(message) > MESSAGE_LIMIT_BYTES:
            await self._refuse(0, f"The message has {len(message)} bytes; the limit is {MESSAGE_LIMIT_BYTES}.")
            return
        request = parse_request(message)
        if request is None:
            await self._refuse(0, "The message is not a serialised apidae.v1.ConnectRequest.")
            return
        match request.WhichOneof("message"):
            case "batch":
                await self._take_batch(request.batch)
            case "health":
                context.sensors.record_health(node, convert_health(request.health))
            case "coverage":
                self._take_coverage(request.coverage)
            case "revealed":
                words = convert_revealed(request.revealed, context.clock())
                if isinstance(words, Refusal):
                    counts.revealed_refused += 1
                else:
                    context.on_revealed(context.reveals.take(self._witness.admit_words(words, self._secrets)))
            case "schemas":
                self._take_schemas(request.schemas)
            case "enforcement":
                context.on_enforcement(node, convert_enforcement(request.enforcement))
            case "policy_result":
                self._take_policy_result(convert_policy_result(request.policy_result))
            case _:
                # Of a newer sensor, or a second Hello.
                counts.messages_unknown += 1

    async def _take_batch(self, batch: data_pb2.Batch) -> None:
        counts, context, witness = self._context.counts, self._context, self._witness
        witness.bind_batch(batch, self._greeting)
        rows = convert_batch(batch, context.clock(), context.witnesses.known_routes)
        if isinstance(rows, Refusal):
            await self._refuse(batch.sequence, rows.reason, batch.boot_id)
            return
        if rows.node != self._greeting.node:
            await self._refuse(batch.sequence, "The batch names another node than its Hello.", batch.boot_id)
            return
        batch.node = self._greeting.name
        witness.check_routes(batch, rows.routes, self._secrets)
        counts.batches_seen += 1
        unknown = count_unknown(batch)
        if rows.key_id not in {key.key_id for key in self._context.keys}:
            # Of a key that was lost or is long rotated: its calls count, its consumers are nobody known.
            counts.batches_of_unknown_key += 1
        counts.unknown_fields += unknown.fields
        counts.unknown_values += unknown.values
        counts.rows_seen += len(rows)
        payload = batch.SerializeToString()
        witness.use.bytes += len(payload)
        await self._slots.acquire()
        append = Append(
            node=batch.node,
            boot_id=rows.boot_id,
            sequence=rows.sequence,
            received_unix_ns=int(context.clock() * 1e9),
            payload=payload,
        )
        future = context.commit.submit(append)
        self._spawn(self._acknowledge(append, future))
        if admitted := witness.admit_schemas(()):
            context.on_schemas(admitted)

    async def _acknowledge(self, append: Append, future: "asyncio.Future[Committed]") -> None:
        counts = self._context.counts
        try:
            # Shielded: another stream may wait for the same write.
            result = await asyncio.shield(future)
            if result.outcome is CommitOutcome.DURABLE:
                counts.batches_durable += 1
                self._context.sensors.record_batch(append.node)
            elif result.outcome is CommitOutcome.DUPLICATE:
                counts.batches_duplicate += 1
            else:
                counts.batches_retry += 1
            await self._write(
                stream_pb2.ConnectResponse(
                    ack=stream_pb2.Ack(
                        boot_id=append.boot_id,
                        sequence=append.sequence,
                        status=result.outcome.value,
                        reason=result.reason,
                        retry_after_ms=RETRY_AFTER_MS if result.outcome is CommitOutcome.RETRY else 0,
                    )
                )
            )
        finally:
            self._slots.release()

    async def _refuse(self, sequence: int, reason: str, boot_id: str = "") -> None:
        self._context.counts.batches_seen += 1
        self._context.counts.batches_refused += 1
        ack = stream_pb2.Ack(
            boot_id=boot_id or self._greeting.boot_id,
            sequence=sequence,
            status=stream_pb2.ACK_STATUS_REFUSED,
            reason=reason,
        )
        await self._write(stream_pb2.ConnectResponse(ack=ack))

    async def _push_policies(self) -> None:
        """Send the policy first of all, and whenever it is due and the sensor holds another one."""
        while True:
            await self._is_policy_due.wait()
            self._is_policy_due.clear()
            policy = self._context.policy
            # What is blocked is told on every new stream: a sensor keeps no blocks over its restart, and a collector
            # that lost its own may have come to the epoch of one that had some.
            is_first, self._is_policy_told = not self._is_policy_told, True
            if policy.epoch == self._held_epoch and not is_first:
                continue
            # Any base will do: all that a policy says is its triggers. A difference that was refused is not repeated.
            is_told = self._told_epoch == policy.epoch
            is_difference = DIFFERENCE_FEATURE in self._greeting.features and self._held_epoch > 0 and not is_told
            self._told_epoch, self._is_told_fully = policy.epoch, not is_difference
            base_epoch = self._held_epoch if is_difference else None
            form = write_policy(policy, base_epoch, self._context.clock(), self._greeting.cluster)
            await self._write(stream_pb2.ConnectResponse(policy=form))

    def _take_policy_result(self, result: PolicyResult) -> None:
        """Record what became of a policy; a difference that does not fit is followed by the full form."""
        node, is_applied = self._greeting.name, not result.reason
        if is_applied:
            self._context.counts.policies_applied += 1
            self._held_epoch = result.epoch
        else:
            self._context.counts.policies_refused += 1
            logger.warning("The sensor on %s refused policy %d: %s", node, result.epoch, result.reason)
        self._context.sensors.record_policy(node, epoch=self._held_epoch, refusal=result.reason)
        if not is_applied and result.epoch == self._told_epoch and not self._is_told_fully:
            self._is_policy_due.set()

    async def _ask_words(self) -> None:
        """Ask every so often for words not revealed yet: a sensor may only learn later that it may tell."""
        while True:
            await asyncio.sleep(REVEAL_INTERVAL_SECONDS)
            for hashes in self._context.reveals.list_questions():
                await self._write(stream_pb2.ConnectResponse(reveal_request=stream_pb2.RevealRequest(hashes=hashes)))

    async def _write(self, response: stream_pb2.ConnectResponse) -> None:
        async with self._write_lock:
            await self._call.write(response)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: "asyncio.Future[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The sensor left before its acknowledgement: it will send again and be told it is a duplicate.
            self._context.counts.acks_unsent += 1
            logger.debug("An acknowledgement was not sent: %s", error)


def parse_request(message: bytes) -> stream_pb2.ConnectRequest | None:
    """The message; None where it is none."""
    try:
        return stream_pb2.ConnectRequest.FromString(message)
    except DecodeError:
        return None
