"""The conversation with one sensor after its Hello: what each message does, what is acknowledged, and what is sent to
it.

A batch is acknowledged when it is durable (collector/receiver/commit.py): those that became durable together by one
message, where the sensor understands a range.

No message ends more than itself: what cannot be processed is counted by kind and dropped. A large message is processed
in a thread, so that the event loop serves other sensors meanwhile. All streams of a node share what one node may use
(`Witness.find_wait`). Past it they are not read, which holds their sensor back and loses nothing.
"""

import asyncio
import contextlib
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from apidae.v1 import data_pb2, stream_pb2
from google.protobuf.message import DecodeError

from collector.core.keys import InstallationKey
from collector.log.base import Append
from collector.receiver.attachments import convert_attachments
from collector.receiver.clocks import SensorClocks
from collector.receiver.columns import MESSAGE_LIMIT_BYTES
from collector.receiver.commit import CommitOutcome, Committed, GroupCommit, Submission
from collector.receiver.convert import Refusal, count_unknown_fields, measure_batch, read_front
from collector.receiver.own_traffic import OwnTraffic
from collector.receiver.policy import EnforcementReport, SensorPolicy, convert_enforcement, write_policy
from collector.receiver.reports import (
    REQUEST_LIMIT,
    ROUND_SECONDS,
    CoverageRecord,
    FormerName,
    PolicyResult,
    RevealBook,
    RevealedWord,
    WorkloadRecord,
    convert_coverage,
    convert_former_names,
    convert_health,
    convert_node_addresses,
    convert_policy_result,
    convert_revealed,
    convert_workloads,
)
from collector.receiver.schemas import SchemaRecord, convert_schemas
from collector.receiver.sensor_status import Greeting
from collector.receiver.sensors import SensorRegistry
from collector.receiver.witness import RouteMemory, WitnessBook
from collector.trust.admission import Admission
from collector.trust.audit import AuditEntry
from collector.trust.identity import SensorCertificate
from common.figures import total

RANGE_FEATURE = "ack_range"  # Of a sensor that takes one acknowledgement for a range of batches.
DIFFERENCE_FEATURE = "policy_difference"  # Of a sensor that takes differences.
# Batches of one stream that wait for the disk; past it the stream is not read, which holds its sensor back.
IN_FLIGHT_LIMIT = 64
# From here on a message is processed in a thread: some 20 ms of work.
THREAD_BYTES = 256 * 1024
RETRY_AFTER_MS = 1_000
REVEAL_INTERVAL_SECONDS = ROUND_SECONDS

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class IngestCounts:
    """What came on all streams; batches_seen = durable + duplicate + retry + refused + those under way."""

    batches_seen: int = total("Batches of rows that sensors sent.")
    batches_durable: int = total("Batches that were written to the log and acknowledged.")
    batches_duplicate: int = total("Batches that the log already had.")
    batches_retry: int = total("Batches that were not taken for now; their sensors send them again.")
    batches_refused: int = total("Batches that were refused as malformed; their sensors drop them.")
    batches_of_unknown_key: int = total("Batches hashed under an installation key that this collector does not know.")
    rows_seen: int = total("Rows of the batches that were not refused.")
    unknown_fields: int = total("Fields of batches that this version does not know: their sensor is newer.")
    messages_unknown: int = total("Messages that this version does not know: their sensor is newer.")
    unauthenticated: int = total("Streams that came with no valid token.")
    hello_refused: int = total("Streams whose first message was missing or malformed.")
    streams_ended_by_certificate: int = total("Streams ended because their sensor's certificate no longer holds.")
    revealed_refused: int = total("Answers with words of paths that were refused as malformed.")
    policies_applied: int = total("Policies that sensors put in force.")
    policies_refused: int = total("Policies that sensors refused.")
    streams_displaced: int = total("Streams that were ended because their node opened more than one node may have.")
    held_seconds: float = total("Seconds in which streams were not read, since their node had used up its share.")
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
    clocks: SensorClocks
    own_traffic: Callable[[], OwnTraffic]
    reveals: RevealBook
    witnesses: WitnessBook
    on_coverage: Callable[[str, list[CoverageRecord], bool], None]  # Of a node; whether it is a difference.
    on_workloads: Callable[[str, list[WorkloadRecord]], None]
    on_former_names: Callable[[list[FormerName]], None]
    on_node_addresses: Callable[[str, str, frozenset[str]], None]  # Of a node in a cluster.
    on_revealed: Callable[[list[RevealedWord]], None]
    on_schemas: Callable[[Sequence[SchemaRecord]], None]
    # Of a node: digests, and what asks for some of them, from any thread.
    on_schema_offer: Callable[[str, Sequence[int], Callable[[Sequence[int]], None]], None]
    on_attachments: Callable[[Sequence[AuditEntry]], None]
    on_enforcement: Callable[[str, EnforcementReport], None]
    find_backlog: Callable[[], str] = lambda: ""  # Why no batch is taken for now, in one sentence.
    counts: IngestCounts = field(default_factory=IngestCounts)
    failures: Counter[str] = field(default_factory=Counter)  # Messages that could not be processed, by kind.


@dataclass(frozen=True, slots=True, kw_only=True)
class _PreparedBatch:
    """A batch that is ready for the log; `schemas` waited for its routes."""

    submission: Submission
    rows: int
    unknown_fields: int
    is_of_known_key: bool
    schemas: Sequence[SchemaRecord]


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
        self._reading: asyncio.Task[None] | None = None
        self._is_waiting = False  # For the next message: nothing else is interrupted by an end.
        self._open_batches = 0  # Submitted, and not answered yet.
        self._answers: list[tuple[str, int, Committed]] = []  # Boot id and sequence; in the order in which they came.
        self._is_answer_due = asyncio.Event()
        self._is_answered = asyncio.Event()
        self._has_ranges = RANGE_FEATURE in greeting.features
        self._held_epoch = greeting.policy_epoch  # Of the policy that the sensor holds.
        self._told_epoch = 0  # Of the one it was sent last, and whether that was the full form.
        self._is_told_fully = False
        self._is_policy_told = False  # On this stream.
        self._is_policy_due = asyncio.Event()
        self._is_policy_due.set()
        self._is_ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # While it runs.
        self._requests: set[asyncio.Future[None]] = set()
        self._whole_coverage_at: float | None = None  # When the last whole report of ports came.

    async def run(self) -> None:
        """Read until the sensor ends or `end`; everything that was read is still acknowledged."""
        self._loop = asyncio.get_running_loop()
        works = (self._push_policies(), self._ask_words(), self._send_answers())
        beside = [asyncio.create_task(work) for work in works]
        self._reading = asyncio.create_task(self._read_all())
        try:
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.result()
            while self._open_batches:
                await self._is_answered.wait()
            if self._end_reason:
                await self._call.abort(grpc.StatusCode.PERMISSION_DENIED, self._end_reason)
        finally:
            self._loop = None
            for work in (self._reading, *beside, *self._requests):
                work.cancel()

    async def _read_all(self) -> None:
        while not self._is_ended.is_set():
            self._is_waiting = True
            message = await self._call.read()
            self._is_waiting = False
            if not isinstance(message, bytes):
                return
            await self._take(message)
            if (wait := self._witness.find_wait()) > 0:
                self._context.counts.held_seconds += wait
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_ended.wait(), wait)

    def tell_policy(self) -> None:
        """There is another policy: send it soon."""
        self._is_policy_due.set()

    def end(self, reason: str = "") -> None:
        """End the stream; with a reason, as refused."""
        self._end_reason = self._end_reason or reason
        self._is_ended.set()
        if self._is_waiting and self._reading is not None:
            self._reading.cancel()

    def check_certificate(self) -> None:
        """End the stream with words where its certificate does not hold any more."""
        if self.certificate is None or self._end_reason:
            return
        reason = self._context.admission.find_end(self.certificate)
        if reason:
            logger.warning("The stream of the sensor on %s ends: %s.", self._greeting.name, reason)
            self._context.counts.streams_ended_by_certificate += 1
            self.end(f"The stream ends, for {reason}; enrol this sensor again.")

    @property
    def node(self) -> str:
        """The name under which the node's rows are kept."""
        return self._greeting.name

    async def _take(self, message: bytes) -> None:
        """One message; whatever is wrong with it is counted, and the stream goes on."""
        if len(message) > MESSAGE_LIMIT_BYTES:
            await self._answer(_refuse(f"The message has {len(message)} bytes; the limit is {MESSAGE_LIMIT_BYTES}."))
            return
        async with self._witness.lock:
            if len(message) >= THREAD_BYTES:
                kind, result = await asyncio.to_thread(self._process, message, RouteMemory())
            else:
                kind, result = self._process(message, self._context.witnesses.routes)
        if isinstance(result, stream_pb2.Ack):
            await self._answer(result)
        elif isinstance(result, _PreparedBatch):
            await self._submit(result)
        else:
            started = time.thread_time()
            try:
                result()
            except Exception as error:
                self._count_failure(kind, error)
            self._witness.spend(time.thread_time() - started, 0)

    def _process(
        self, message: bytes, routes: RouteMemory
    ) -> "tuple[str, _PreparedBatch | stream_pb2.Ack | Callable[[], None]]":
        """The kind of a message, and the batch, the refusal, or what to do with it in the event loop. Any thread; never
        raises."""
        kind, batch, started = "unknown", data_pb2.Batch(), time.thread_time()
        try:
            request = parse_request(message)
            if request is None:
                return kind, _refuse("The message is not a serialised apidae.v1.ConnectRequest.")
            kind, batch = request.WhichOneof("message") or kind, request.batch
            return kind, self._prepare_batch(batch, routes) if kind == "batch" else self._prepare_report(request, kind)
        except Exception as error:
            self._count_failure(kind, error)
            if kind != "batch":
                return kind, _do_nothing
            return kind, _refuse("The collector could not process the batch; its log says where.", batch)
        finally:
            self._witness.spend(time.thread_time() - started, len(message))

    def _count_failure(self, kind: str, error: Exception) -> None:
        """The first of a kind is logged, without any text of the message."""
        failures = self._context.failures
        failures[kind] += 1
        if failures[kind] == 1:
            where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            logger.error("A %s of the sensor on %r failed (%s):\n%s", kind, self.node, type(error).__name__, where)

    def _prepare_report(self, request: stream_pb2.ConnectRequest, kind: str) -> Callable[[], None]:
        """What is to be done with a message that is no batch."""
        context, greeting, witness = self._context, self._greeting, self._witness
        now = context.clock()
        match kind:
            case "health":
                context.clocks.record(self.node, self, request.health.time_unix_ns)
                return partial(context.sensors.record_health, self.node, convert_health(request.health))
            case "coverage":
                return self._prepare_coverage(request.coverage, now)
            case "revealed":
                words = convert_revealed(request.revealed, now)
                if isinstance(words, Refusal):
                    return self._count_revealed_refused
                admitted = witness.admit_words(words, self._secrets)
                return lambda: context.on_revealed(context.reveals.take(admitted))
            case "schemas":
                records = convert_schemas(
                    request.schemas, node=self.node, boot_id=greeting.boot_id, now_unix_seconds=now
                )
                return partial(context.on_schemas, witness.admit_schemas(records))
            case "schema_offer":
                return partial(context.on_schema_offer, self.node, request.schema_offer.digests, self._ask_soon)
            case "enforcement":
                return partial(context.on_enforcement, self.node, convert_enforcement(request.enforcement, now))
            case "attachments":
                witness.bind_services([one.service for one in request.attachments.attachments], greeting)
                has_certificate = self.certificate is not None
                entries = convert_attachments(request.attachments, greeting, now, has_certificate=has_certificate)
                return partial(context.on_attachments, witness.admit_attachments(entries))
            case "policy_result":
                return partial(self._take_policy_result, convert_policy_result(request.policy_result))
            case _:
                return self._count_unknown_message  # Of a newer sensor, or a second Hello.

    def _prepare_coverage(self, coverage: stream_pb2.Coverage, now: float) -> Callable[[], None]:
        context, greeting, witness = self._context, self._greeting, self._witness
        witness.bind_services([port.service for port in coverage.ports], greeting)
        if self._whole_coverage_at is None or not coverage.is_difference:
            self._whole_coverage_at = now
        ports = convert_coverage(
            coverage,
            node=self.node,
            boot_id=greeting.boot_id,
            now_unix_seconds=now,
            whole_unix_seconds=self._whole_coverage_at,
        )
        workloads = convert_workloads(coverage, node=self.node, now_unix_seconds=now)
        workloads = witness.admit_workloads(workloads, greeting)
        names = witness.admit_former_names(convert_former_names(coverage, greeting, now), greeting)
        addresses = convert_node_addresses(coverage)

        def report() -> None:
            context.on_coverage(self.node, ports, coverage.is_difference)
            context.on_workloads(self.node, workloads)
            context.on_former_names(names)
            if addresses or not coverage.is_difference:
                context.on_node_addresses(greeting.cluster, greeting.node, addresses)

        return report

    def _count_revealed_refused(self) -> None:
        self._context.counts.revealed_refused += 1

    def _count_unknown_message(self) -> None:
        self._context.counts.messages_unknown += 1

    @property
    def _secrets(self) -> dict[int, bytes]:
        return {key.key_id: key.secret for key in self._context.keys}

    def _prepare_batch(self, batch: data_pb2.Batch, routes: RouteMemory) -> _PreparedBatch | stream_pb2.Ack:
        context, witness, secrets = self._context, self._witness, self._secrets
        if fault := context.clocks.find_fault() or context.find_backlog():
            return _postpone(batch.boot_id, batch.sequence, fault)
        now = context.clock()
        witness.bind_batch(batch, self._greeting)
        front = read_front(batch, now, routes.converted)
        reason = front.reason if isinstance(front, Refusal) else ""
        if not reason and batch.node != self._greeting.node:
            reason = "The batch names another node than its Hello."
        if isinstance(front, Refusal) or reason:
            return _refuse(reason, batch)
        batch.node = self.node
        witness.check_routes(batch, front.routes, secrets, routes)
        measure_batch(batch, front)
        payload = batch.SerializeToString()
        if len(payload) > MESSAGE_LIMIT_BYTES:  # Names of the node and the measure were added; no reader takes it.
            reason = f"The batch takes {len(payload)} bytes in the log; the limit is {MESSAGE_LIMIT_BYTES}."
            return _refuse(reason, batch)
        witness.use.bytes += len(payload)
        append = Append(
            node=batch.node,
            boot_id=batch.boot_id,
            sequence=batch.sequence,
            received_unix_ns=int(now * 1e9),
            payload=payload,
        )
        return _PreparedBatch(
            submission=Submission(append=append, front=front),
            rows=len(batch.rows.route),
            unknown_fields=count_unknown_fields(batch),
            is_of_known_key=batch.key_id in secrets,
            schemas=witness.admit_schemas(()),
        )

    async def _submit(self, batch: _PreparedBatch) -> None:
        counts, append = self._context.counts, batch.submission.append
        counts.batches_seen += 1
        # Of a key that was lost or is long rotated: its calls count, its consumers are nobody known.
        counts.batches_of_unknown_key += not batch.is_of_known_key
        counts.unknown_fields += batch.unknown_fields
        await self._slots.acquire()
        self._open_batches += 1
        future = self._context.commit.submit(batch.submission)
        # Without the payload: a sensor that reads no acknowledgements keeps 64 of these waiting.
        future.add_done_callback(partial(self._note_result, append.boot_id, append.sequence, batch.rows))
        if batch.schemas:
            self._context.on_schemas(batch.schemas)

    def _note_result(self, boot_id: str, sequence: int, rows: int, future: "asyncio.Future[Committed]") -> None:
        counts, result = self._context.counts, future.result()
        match result.outcome:
            case CommitOutcome.DURABLE:
                counts.batches_durable += 1
            case CommitOutcome.DUPLICATE:
                counts.batches_duplicate += 1
            case CommitOutcome.RETRY:
                counts.batches_retry += 1
            case CommitOutcome.REFUSED:
                counts.batches_refused += 1
        counts.rows_seen += rows if result.outcome is not CommitOutcome.REFUSED else 0
        self._answers.append((boot_id, sequence, result))
        self._is_answer_due.set()

    async def _send_answers(self) -> None:
        """One message for all batches in a row that have the same answer."""
        while True:
            await self._is_answer_due.wait()
            self._is_answer_due.clear()
            answers, self._answers = self._answers, []
            if any(result.outcome is CommitOutcome.DURABLE for _, _, result in answers):
                self._context.sensors.record_batch(self.node)
            for ack, count in _join_answers(answers, self._has_ranges):
                try:
                    await self._write(stream_pb2.ConnectResponse(ack=ack))
                except Exception as error:
                    # The sensor left before: it will send again and get DUPLICATE.
                    self._context.counts.acks_unsent += count
                    logger.debug("An acknowledgement was not sent: %s", error)
                for _ in range(count):
                    self._slots.release()
            self._open_batches -= len(answers)
            self._is_answered.set()
            self._is_answered.clear()

    async def _answer(self, ack: stream_pb2.Ack) -> None:
        """To a message that does not reach the log."""
        is_refused = ack.status == stream_pb2.ACK_STATUS_REFUSED
        self._context.counts.batches_seen += 1
        self._context.counts.batches_refused += is_refused
        self._context.counts.batches_retry += not is_refused
        ack.boot_id = ack.boot_id or self._greeting.boot_id
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

    def _ask_soon(self, digests: Sequence[int]) -> None:
        """Ask for states that the sensor offered. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ask_schemas, digests)

    def _ask_schemas(self, digests: Sequence[int]) -> None:
        request = stream_pb2.ConnectResponse(schema_request=stream_pb2.SchemaRequest(digests=digests))
        if self._loop is not None:  # The stream goes on.
            task = asyncio.ensure_future(self._write(request))
            self._requests.add(task)
            task.add_done_callback(self._end_request)

    def _end_request(self, task: "asyncio.Future[None]") -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("A sensor left before it was asked for schemas: %s", error)

    async def _ask_words(self) -> None:
        """Ask every so often for words not revealed yet: a sensor may only learn later that it may reveal them."""
        while True:
            await asyncio.sleep(REVEAL_INTERVAL_SECONDS)
            hashes = self._context.reveals.choose(self._witness.hidden, time.monotonic())
            for start in range(0, len(hashes), REQUEST_LIMIT):
                request = stream_pb2.RevealRequest(hashes=hashes[start : start + REQUEST_LIMIT])
                await self._write(stream_pb2.ConnectResponse(reveal_request=request))

    async def _write(self, response: stream_pb2.ConnectResponse) -> None:
        async with self._write_lock:
            await self._call.write(response)


def _join_answers(
    answers: Sequence[tuple[str, int, Committed]], has_ranges: bool
) -> Iterator[tuple[stream_pb2.Ack, int]]:
    """Acknowledgements, and how many batches each is about: with ranges all that follow one another with one answer."""
    first = 0
    while first < len(answers):
        boot_id, sequence, result = answers[first]
        last = first + 1
        while has_ranges and last < len(answers) and answers[last] == (boot_id, sequence + last - first, result):
            last += 1
        ack = stream_pb2.Ack(
            boot_id=boot_id,
            sequence=sequence,
            status=result.outcome.value,
            reason=result.reason,
            retry_after_ms=RETRY_AFTER_MS if result.outcome is CommitOutcome.RETRY else 0,
            last_sequence=sequence + last - first - 1 if last - first > 1 else 0,
        )
        yield ack, last - first
        first = last


def _refuse(reason: str, batch: data_pb2.Batch | None = None) -> stream_pb2.Ack:
    """For good: the sensor drops it."""
    boot_id, sequence = (batch.boot_id, batch.sequence) if batch is not None else ("", 0)
    return stream_pb2.Ack(boot_id=boot_id, sequence=sequence, status=stream_pb2.ACK_STATUS_REFUSED, reason=reason)


def _postpone(boot_id: str, sequence: int, reason: str) -> stream_pb2.Ack:
    """For now: the sensor sends it again."""
    status = stream_pb2.ACK_STATUS_RETRY
    return stream_pb2.Ack(
        boot_id=boot_id, sequence=sequence, status=status, reason=reason, retry_after_ms=RETRY_AFTER_MS
    )


def _do_nothing() -> None:
    """With a message that could not be processed."""


def parse_request(message: bytes) -> stream_pb2.ConnectRequest | None:
    """The message; None where it is none."""
    try:
        return stream_pb2.ConnectRequest.FromString(message)
    except DecodeError:
        return None
