"""One stream to a collector, from hello to its end: what is sent, acknowledged and sent again.

A session keeps two things that the spool does not. One is the set of waiting batches that it has yet to send, as a heap
of their ordinals, so that the oldest goes first, also after a RETRY. The other is the set of batches in flight. Both
end with the session, and the next one begins with all that waits.
"""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from apidae.v1 import stream_pb2

from sensor.core.attachments import AttachmentRecord
from sensor.core.clock import Clock
from sensor.core.health import HealthReport
from sensor.core.printable import SENTENCE_BYTES_MAX, make_printable
from sensor.coverage.row import PortCoverage
from sensor.describe.schemas.book import Schema
from sensor.enforce.block import EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.export import messages
from sensor.export.differences import FEATURE, Differences
from sensor.export.messages import SensorIdentity, Welcome, write_attachments, write_enforcement, write_schemas
from sensor.export.policy import PolicyResult, PolicyUpdate
from sensor.export.spool import BatchKey, Spool, SpoolEntry

logger = logging.getLogger(__name__)

# grpc-stubs does not know it.
_EOF: Final[object] = grpc.aio.EOF  # type: ignore[attr-defined]
_METHOD: Final = "/apidae.v1.CollectorService/Connect"
# In flight at most: enough to fill a long fat pipe, little enough that a slow collector does not hold the spool in
# memory.
IN_FLIGHT_BYTES_LIMIT: Final = 8 * 1024 * 1024
IN_FLIGHT_COUNT_LIMIT: Final = 64
ACKNOWLEDGED_LIMIT: Final = 10_000  # Batches that one acknowledgement is about: far more than are in flight.
RETRY_LONGEST_SECONDS: Final = 60.0
# After a status this version does not know: the batch is kept, and sent again when the collector may have been
# replaced.
UNKNOWN_STATUS_RETRY_MS: Final = 10_000
OFFER_FEATURE: Final = "schema_offer"  # Of a collector that takes offers.
_POLICY_FAILED: Final = "the sensor failed to apply it; its log has the traceback"


class SessionError(Exception):
    """The stream ended by what the other side did, or did not do; one sentence."""


class StatusError(SessionError):
    """The stream ended with a gRPC status, whose details are whatever the other side wrote."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        details = make_printable(details, SENTENCE_BYTES_MAX)
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class RedirectError(Exception):
    """Another collector owns a partition; `target` is HOST:PORT as it came."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimes:
    welcome_timeout_seconds: float = 10.0
    acknowledgement_timeout_seconds: float = 60.0
    health_interval_seconds: float = 5.0
    coverage_interval_seconds: float = 10.0
    schemas_interval_seconds: float = 10.0
    offer_interval_seconds: float = 600.0


class SessionListener(Protocol):
    """What a session asks and tells. Called in the sensor's loop; must not block."""

    def on_welcome(self, welcome: Welcome) -> None: ...

    def on_policy(self, update: PolicyUpdate) -> PolicyResult: ...

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]: ...

    def read_health(self) -> HealthReport: ...

    def read_coverage(self) -> Sequence[PortCoverage]: ...

    def read_enforcement(self) -> EnforcementReport: ...

    def read_attachments(self, after: int) -> tuple[int, Sequence[AttachmentRecord], int]: ...

    def read_workloads(self) -> Sequence[WorkloadFacts]: ...

    def read_node_addresses(self) -> Sequence[str]: ...

    def read_schemas(self, *, is_first: bool) -> Iterable[Sequence[Schema]]: ...

    def offer_schemas(self) -> Sequence[int]: ...

    def ask_schemas(self, digests: Sequence[int]) -> None: ...

    @property
    def key_id(self) -> int: ...

    @property
    def policy_epoch(self) -> int: ...


class Session:
    """A stream. `begin` greets, `run` talks until something fails, `end` leaves."""

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        metadata: tuple[tuple[str, str], ...],
        identity: SensorIdentity,
        times: SessionTimes,
        spool: Spool,
        clock: Clock,
        listener: SessionListener,
        on_refusal: Callable[[str], None],
    ) -> None:
        # Not the generated stub: its serialiser takes messages only, and a spooled batch is bytes already.
        connect: Any = channel.stream_stream(
            _METHOD, request_serializer=bytes, response_deserializer=stream_pb2.ConnectResponse.FromString
        )
        self._call: Any = connect(metadata=metadata)
        self._write_lock = asyncio.Lock()
        self._identity = identity
        self._times = times
        self._spool = spool
        self._clock = clock
        self._listener = listener
        self._on_refusal = on_refusal
        self._unsent: list[int] = []  # Heap of ordinals.
        self._in_flight: dict[int, tuple[int, int]] = {}  # Ordinal to (payload bytes, monotonic ns of sending).
        self._in_flight_bytes = 0
        self._held_until_ns = 0
        self._wake = asyncio.Event()
        self._health_due = asyncio.Event()
        self._coverage_due = asyncio.Event()
        self._progress = asyncio.Event()
        self._told = asyncio.Event()
        self._left = asyncio.Event()
        self._told.set()
        self.acknowledged_count = 0
        self.authorities = b""  # Of the welcome.
        self._differences = Differences(is_taken=False)
        self._takes_offers = False
        self._attachments_sent = 0  # Of all that the sensor ever had: on a new stream all that it keeps.
        self._schemas_due = asyncio.Event()

    async def begin(self) -> None:
        """Hello and welcome. Raises `SessionError` or grpc's error."""
        await self._write(
            messages.write_hello(
                self._identity,
                key_id=self._listener.key_id,
                policy_epoch=self._listener.policy_epoch,
                monotonic_ns=self._clock.monotonic_ns(),
                time_unix_ns=self._clock.unix_ns(),
            ).SerializeToString()
        )
        try:
            response = await asyncio.wait_for(self._read(), self._times.welcome_timeout_seconds)
        except TimeoutError:
            raise SessionError(
                f"the collector did not answer the hello within {self._times.welcome_timeout_seconds:g} s"
            ) from None
        if response is None:
            raise SessionError("the collector ended the stream without a welcome")
        if response.WhichOneof("message") != "welcome":
            raise SessionError("the collector's first message is not a welcome; is something else listening there?")
        welcome = messages.read_welcome(response.welcome)
        if welcome.protocol != messages.PROTOCOL_VERSION:
            raise SessionError(
                f"the collector speaks protocol {welcome.protocol} and this sensor {messages.PROTOCOL_VERSION}; "
                f"install the same version on both"
            )
        if not welcome.keys and not self._listener.key_id:
            raise SessionError("the collector's welcome has no usable installation key (16 bytes under an id)")
        self.authorities = welcome.authorities
        self._differences = Differences(is_taken=FEATURE in welcome.features)
        self._takes_offers = OFFER_FEATURE in welcome.features
        self._listener.on_welcome(welcome)
        for entry in self._spool.waiting():
            self.offer(entry)

    async def run(self) -> bool:
        """Send and receive until the collector ends the stream (returns) or something fails (raises). Whether it was
        `leave` that ended it."""
        tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (
                self._receive(),
                self._send_batches(),
                self._send_health(),
                self._send_coverage(),
                self._send_schemas(),
                self._left.wait(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._told.set()
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task in done and isinstance(outcome, BaseException):
                # A write to a stream that has ended says little; the status says why it ended.
                await self._raise_status()
                raise outcome
        return self._left.is_set()

    def leave(self) -> None:
        """End `run` soon: what has no acknowledgement is sent again on the next stream."""
        self._left.set()

    def end(self) -> None:
        self._call.cancel()
        self._progress.set()
        self._told.set()

    def offer(self, entry: SpoolEntry) -> None:
        heapq.heappush(self._unsent, entry.ordinal)
        self._wake.set()

    def tell_state(self) -> None:
        """Send health and coverage as soon as the stream takes them; `wait_told` returns when health has gone."""
        self._told.clear()
        self._differences.send_counts()
        self._health_due.set()
        self._coverage_due.set()

    async def wait_told(self) -> None:
        """Return when the state of the last `tell_state` is on its way, or when the session ended."""
        await self._told.wait()

    async def wait_progress(self) -> None:
        """Return at the next acknowledgement of any kind, or when the session ended."""
        self._progress.clear()
        await self._progress.wait()

    # Sending

    async def _send(self, make: Callable[[], stream_pb2.ConnectRequest | None]) -> None:
        """Makes a message and writes it, where there is one. One that cannot be made is dropped, logged and counted
        (sensor.core.health), and the stream goes on."""
        try:
            message = make()
            content = message.SerializeToString() if message is not None else b""
        except Exception:
            logger.exception("a message to the collector cannot be written and is dropped", stacklevel=2)
            return
        if content:
            await self._write(content)

    async def _write(self, content: bytes) -> None:
        async with self._write_lock:
            try:
                await self._call.write(content)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError) as error:
                await self._raise_status()
                raise SessionError("the collector ended the stream") from error

    async def _read(self) -> Any:
        """The next response, or None at the end of the stream. Raises `StatusError`."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise StatusError(error.code(), error.details() or "no details") from error
        if response is _EOF:
            await self._raise_status()
            return None
        return response

    async def _raise_status(self) -> None:
        """Raise the stream's own error where it has ended with one."""
        if not self._call.done():
            return
        code = await self._call.code()
        if code not in {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}:
            raise StatusError(code, await self._call.details() or "no details")

    async def _send_batches(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent and self._may_send():
                ordinal = heapq.heappop(self._unsent)
                payload = self._spool.read(ordinal)
                if payload is None:
                    continue
                self._in_flight[ordinal] = (len(payload), self._clock.monotonic_ns())
                self._in_flight_bytes += len(payload)
                await self._write(messages.frame_batch(payload))

    def _may_send(self) -> bool:
        return (
            self._in_flight_bytes < IN_FLIGHT_BYTES_LIMIT
            and len(self._in_flight) < IN_FLIGHT_COUNT_LIMIT
            and self._clock.monotonic_ns() >= self._held_until_ns
        )

    async def _send_health(self) -> None:
        while True:
            self._health_due.clear()
            self._check_patience()
            await self._send(self._make_health)
            await self._send(self._make_enforcement)
            await self._send(self._make_attachments)
            if not self._health_due.is_set():  # Else the state changed while this report was written.
                self._told.set()
            await wait_at_most(self._health_due, self._times.health_interval_seconds)

    async def _send_coverage(self) -> None:
        while True:
            self._coverage_due.clear()
            await self._send(self._make_coverage)
            await wait_at_most(self._coverage_due, self._times.coverage_interval_seconds)

    def _make_enforcement(self) -> stream_pb2.ConnectRequest | None:
        report = self._listener.read_enforcement()
        return write_enforcement(report) if report.epoch else None

    def _make_attachments(self) -> stream_pb2.ConnectRequest | None:
        self._attachments_sent, records, lost = self._listener.read_attachments(self._attachments_sent)
        return write_attachments(records, lost, self._clock.monotonic_ns()) if records else None

    def _make_health(self) -> stream_pb2.ConnectRequest:
        report = self._listener.read_health()
        return messages.write_health(
            report, has_same_stages=self._differences.compare_stages(report.stages, self._now_seconds)
        )

    def _make_coverage(self) -> stream_pb2.ConnectRequest | None:
        listener = self._listener
        report = self._differences.compare_coverage(
            listener.read_coverage(), listener.read_workloads(), listener.read_node_addresses(), self._now_seconds
        )
        if report.is_empty:
            return None
        return messages.write_coverage(
            report.ports,
            report.workloads,
            report.node_addresses,
            time_unix_ns=self._clock.unix_ns(),
            is_difference=report.is_difference,
        )

    @property
    def _now_seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    async def _send_schemas(self) -> None:
        """What the collector lacks on a new stream and every ten minutes, and what changes meanwhile: no
        acknowledgement is needed, for a state may come any number of times and what did not arrive is asked for. An
        older collector gets everything on a new stream."""
        is_first, offer_at = True, 0.0
        while True:
            self._schemas_due.clear()
            try:
                if self._takes_offers and self._now_seconds >= offer_at:
                    offer_at = self._now_seconds + self._times.offer_interval_seconds
                    await self._send(lambda: messages.write_schema_offer(self._listener.offer_schemas()))
                for schemas in self._listener.read_schemas(is_first=is_first and not self._takes_offers):
                    await self._send(partial(write_schemas, schemas))
            except SessionError:
                raise
            except Exception:
                # A loop boundary: what was not sent now is sent with the next changes.
                logger.exception("reading what routes look like failed")
            is_first = False
            await wait_at_most(self._schemas_due, self._times.schemas_interval_seconds)

    def _check_patience(self) -> None:
        for _, sent_ns in self._in_flight.values():
            waited_seconds = (self._clock.monotonic_ns() - sent_ns) / 1e9
            if waited_seconds > self._times.acknowledgement_timeout_seconds:
                raise SessionError(f"the collector has not acknowledged a batch for {waited_seconds:.0f} s")
            return

    # Receiving

    async def _receive(self) -> None:
        while True:
            response = await self._read()
            if response is None:
                return
            match response.WhichOneof("message"):
                case "ack":
                    self._take_acknowledgement(response.ack)
                case "policy":
                    await self._send(partial(self._apply_policy, response.policy))
                    if response.policy.HasField("block_set"):
                        await self._send(lambda: write_enforcement(self._listener.read_enforcement()))
                case "reveal_request":
                    await self._send(partial(self._reveal, response.reveal_request))
                case "schema_request":
                    self._listener.ask_schemas(response.schema_request.digests)
                    self._schemas_due.set()
                case _:
                    # A message of a later version: nothing here depends on it.
                    continue

    def _apply_policy(self, policy: stream_pb2.Policy) -> stream_pb2.ConnectRequest:
        """What became of it. A policy on which the sensor fails is refused, as one that is wrong is."""
        try:
            return messages.write_policy_result(self._listener.on_policy(messages.read_policy(policy)))
        except Exception:
            logger.exception("applying a policy failed; it is refused")
            refusal = stream_pb2.PolicyResult(epoch=policy.epoch, is_applied=False, reason=_POLICY_FAILED)
            return stream_pb2.ConnectRequest(policy_result=refusal)

    def _reveal(self, request: stream_pb2.RevealRequest) -> stream_pb2.ConnectRequest:
        texts = self._listener.on_reveal(messages.read_reveal_request(request))
        return messages.write_revealed(texts, key_id=self._listener.key_id)

    def _take_acknowledgement(self, ack: stream_pb2.Ack) -> None:
        """Of one batch, or of all from the first to the last."""
        last = max(ack.sequence, min(ack.last_sequence, ack.sequence + ACKNOWLEDGED_LIMIT))
        for sequence in range(ack.sequence, last + 1):
            self._take_answer(BatchKey(boot_id=ack.boot_id, sequence=sequence), ack)
        self._progress.set()
        self._wake.set()

    def _take_answer(self, key: BatchKey, ack: stream_pb2.Ack) -> None:
        entry = self._spool.find(key)
        if entry is not None:
            payload_bytes, _ = self._in_flight.pop(entry.ordinal, (0, 0))
            self._in_flight_bytes -= payload_bytes
        match ack.status:
            case stream_pb2.ACK_STATUS_ACCEPTED | stream_pb2.ACK_STATUS_DUPLICATE:
                self.acknowledged_count += self._spool.acknowledge(key)
            case stream_pb2.ACK_STATUS_REFUSED:
                if self._spool.refuse(key):
                    self.acknowledged_count += 1
                    self._on_refusal(make_printable(ack.reason, SENTENCE_BYTES_MAX))
            case stream_pb2.ACK_STATUS_REDIRECT:
                raise RedirectError(make_printable(ack.redirect_to))
            case stream_pb2.ACK_STATUS_RETRY:
                self._retry(entry, ack.retry_after_ms)
            case _:
                self._retry(entry, UNKNOWN_STATUS_RETRY_MS)

    def _retry(self, entry: SpoolEntry | None, after_ms: int) -> None:
        """Send again later, and nothing in between: what the collector cannot take now it cannot take of the next batch
        either."""
        delay_seconds = min(after_ms / 1000, RETRY_LONGEST_SECONDS)
        self._held_until_ns = self._clock.monotonic_ns() + int(delay_seconds * 1e9)
        if entry is not None:
            heapq.heappush(self._unsent, entry.ordinal)
        asyncio.get_running_loop().call_later(delay_seconds, self._wake.set)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
