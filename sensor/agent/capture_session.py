"""Capture at work, from the first attachment to the last batch: reads it, describes and counts calls.

sensor.agent.agent makes a session once capture is open, and all calls come from its loop (sensor.agent.wakeup). Events
are read at once. Records of matched calls are read when a second of unix time has ended, just before the aggregator
makes rows of it, or when many wait. Counters are read once a second. The session has new cache entries installed in the
kernel, and keeps the heads within their budget.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from common.figures import Figure, make_totals
from sensor.agent.node import Node
from sensor.agent.pipeline import CallProcessor, Pipeline
from sensor.capture.source import Capture
from sensor.core.clock import Clock
from sensor.core.health import TLS_STAGE, StageCount
from sensor.core.process import with_breaks
from sensor.coverage.gaps import Gaps
from sensor.coverage.report import note_limitation
from sensor.coverage.row import PortCoverage
from sensor.ebpf.abi import Counter, RecordFlag
from sensor.export.convert import SerialisedBatch
from sensor.export.policy import Policy
from sensor.offload.governor import Governor

logger = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
# A turn ends after so long, whatever waits: records and the rows of ended seconds wait for it.
TURN_NS: Final = 100_000_000
# Full rings are read in less.
LAST_READS_COUNT: Final = 64
# The kernel's counters that metrics show; the others are in the accounts of stages (sensor.capture.packets.capture).
_COUNTED: Final = (
    ("records", "Calls that the kernel matched and reported as one record.", Counter.RECORDS),
    ("heads", "Request heads copied to user space: of calls that are not known, and samples.", Counter.HEADS),
    (
        "heads_past_share",
        "Request heads not copied because their consumer or address had its share of the budget.",
        Counter.SHARES_SPENT,
    ),
    ("events_lost", "Events with heads and ends of calls that found their ring full.", Counter.EVENTS_LOST),
    ("long_segments", "Segments with more messages than the kernel reads of one.", Counter.TAIL_FAILED),
    ("contended_segments", "Segments not read: two processors held their connection for too long.", Counter.CONTENDED),
    (
        "stateless_connections",
        "Connections not read: the kernel had no memory for their state.",
        Counter.STORAGE_FAILED,
    ),
    ("lost_positions", "Directions of connections in which the place of the next message was lost.", Counter.RESYNC),
    ("ambiguous_requests", "Requests whose end two programs may read differently.", Counter.AMBIGUOUS),
    ("http2_events", "Events with frames of HTTP/2 that the kernel copied to user space.", Counter.FRAMES),
    ("http2_events_lost", "Events with frames of HTTP/2 that found their ring full.", Counter.FRAMES_LOST),
    (
        "http2_blocks_refused",
        "Header blocks of HTTP/2 not copied: their ring was half full and their cgroup had its share.",
        Counter.BLOCKS_REFUSED,
    ),
    ("http2_matched", "Calls of HTTP/2 that the kernel matched and reported as one record.", Counter.MATCHED),
    ("http2_raw_bytes", "Bytes of HTTP/2 copied as they are, around lost or reordered segments.", Counter.RAW_BYTES),
    ("http2_raw_refused_bytes", "Bytes of HTTP/2 around lost segments beyond the copy limit.", Counter.RAW_REFUSED),
    ("upgrades_untold", "Ends of WebSockets that found the ring full.", Counter.UPGRADES_UNTOLD),
    ("scratch_busy", "Heads not read because all scratch memory was in use.", Counter.SCRATCH_BUSY),
    ("bodies", "Bodies of sampled calls that the kernel began to copy.", Counter.BODIES),
    ("body_bytes", "Bytes of bodies that the kernel copied.", Counter.BODY_BYTES),
    (
        "bodies_refused",
        "Bodies not copied, or in part: the budget was spent or the ring half full.",
        Counter.BODIES_REFUSED,
    ),
    ("bodies_lost", "Pieces of bodies that found the ring full.", Counter.BODIES_LOST),
    ("orphan_responses", "Responses without a request that was seen.", Counter.ORPHANS),
    ("handshakes", "TLS handshakes that the kernel copied.", Counter.HELLOS),
    ("handshakes_refused", "TLS handshakes not copied: the budget of heads was spent.", Counter.HELLOS_REFUSED),
    ("ports_full", "Counts of listening ports that found their table full.", Counter.PORTS_FULL),
    ("peers_full", "Counts of called hosts that found their table full.", Counter.PEERS_FULL),
)


class CaptureSession:
    """An open capture with what makes batches of it; `send` takes them. Not thread-safe."""

    def __init__(
        self,
        *,
        capture: Capture,
        pipeline: Pipeline,
        processor: CallProcessor,
        governor: Governor,
        node: Node,
        gaps: Gaps,
        clock: Clock,
        send: Callable[[Sequence[SerialisedBatch]], None],
    ) -> None:
        self.capture = capture
        self.pipeline = pipeline
        self.processor = processor  # Another one when the installation key changes.
        self._governor = governor
        self._node = node
        self._gaps = gaps
        self._clock = clock
        self._send = send
        self._is_attached = True
        self._refreshing = asyncio.Lock()
        self._records_second = 0
        self._unread_sum = 0  # Calls and bytes that no call explains, when they were named last.
        self.is_behind = False  # The last turn left events to the next one.
        self.has_installed = True  # The last turn brought new entries for the kernel route cache.
        gaps.begin()

    async def read_turn(self) -> None:
        """Read and count what has come, and send what leaves."""
        if self._clock.check():
            self._read_records(is_all=True)
            self._send(self.pipeline.step_clock())
        await self._read()
        self._send(self.pipeline.poll())

    async def _read(self, *, is_all: bool = False) -> None:
        """What has come; `is_all`: whatever is there, and what only counters say."""
        self.has_installed = False
        try:
            end_ns = self._clock.monotonic_ns() + TURN_NS
            while True:
                self.pipeline.take(with_breaks(self.capture.read(), is_behind=self.is_behind))
                self.pipeline.take_handshakes(self.capture.pop_handshakes())
                self.install_entries()
                await asyncio.sleep(0)
                self.is_behind = self.capture.has_events()
                if not self.is_behind or (self._clock.monotonic_ns() >= end_ns and not is_all):
                    break
                self._read_records(is_all=False)
            second = self._clock.unix_ns() // SECOND_NS
            self._read_records(is_all=is_all or second != self._records_second)
            self._records_second = second
            if is_all or self._governor.is_due(self._clock.monotonic_ns()):
                self._read_counters()
        except Exception:
            # A loop boundary: one batch of events may be lost (capture counts what it lost), the sensor goes on.
            logger.exception("reading the capture failed")

    def _read_records(self, *, is_all: bool) -> None:
        """Records, where there is a batch of them or `is_all` asks for what there is."""
        records = self.capture.read_records(is_all=is_all)
        if len(records):
            if (records["flags"] & RecordFlag.BODY).any():
                # Their bodies went into the other ring before them, perhaps after it was read last.
                self.pipeline.take(self.capture.read())
            self.pipeline.take_records(records)
            self.capture.release_records()

    def _read_counters(self) -> None:
        """Once a second: what was lost, what was only added up, and whether less should be read."""
        capture, pipeline, governor = self.capture, self.pipeline, self._governor
        counts = capture.counts()
        lost_calls = sum(count.dropped_total for count in counts)
        if lost_calls != pipeline.lost_before_calls:
            pipeline.service_losses = self.processor.name_losses(capture.coverage())
        pipeline.lost_before_calls = lost_calls
        unread = capture.unread()
        unread_sum = sum(count.calls + count.bytes for count in unread.values())
        if unread_sum != self._unread_sum:
            self._unread_sum = unread_sum
            pipeline.client_losses = self._node.name_unread(unread, capture.coverage())
        for count in counts:
            if count.stage == TLS_STAGE:
                pipeline.tls_lost_calls, pipeline.tls_seen_calls = count.dropped_total, count.seen
        counters = capture.counters()
        pipeline.take_overflow(capture.overflow())
        tls_calls = capture.tls_calls()
        governor.observe(
            now_ns=self._clock.monotonic_ns(),
            cpu_ns=time.process_time_ns() + capture.program_ns(calls=counters[Counter.CALLS]),
            calls=counters[Counter.CALLS] + tls_calls,
            heads=counters[Counter.HEADS],
            body_bytes=counters[Counter.BODY_BYTES],
            tls_calls=tls_calls,
        )
        if governor.tls_calls_per_second:
            capture.limit_tls(governor.tls_calls_per_second)
        self.processor.limit(
            heads_per_second=governor.heads_per_second, body_bytes_per_second=governor.body_bytes_per_second
        )

    def install_entries(self) -> None:
        """Write new entries of the kernel route cache; before the first turn also how to match at all."""
        try:
            if self.processor.flush(self.capture):
                self.has_installed = True
        except OSError:
            # It is not known which were written, so all begins anew; what the kernel does not know is copied whole.
            logger.exception("the kernel refused entries of its route cache")
            self.has_installed = True
            self.processor.forget()

    # The node

    async def refresh(self) -> None:
        """Read the node's processes and listeners anew; one reading at a time, for it has a thread of its own."""
        async with self._refreshing:
            await asyncio.to_thread(self._node.refresh)
        self._node.rename()
        if self._is_attached:
            self.capture.set_listening(self._node.ports())
            self.processor.check_services()

    def rename(self) -> None:
        """Apply names that Kubernetes has reported since the last time."""
        if self._node.rename():
            self.processor.check_services()

    # What others ask for

    def pause(self) -> None:
        """Off every hook of the kernel; what was seen stays readable."""
        self.capture.detach()
        self._gaps.end()
        self._is_attached = False

    def resume(self) -> None:
        """On them again."""
        self.capture.attach()
        self._gaps.begin()
        self._is_attached = True

    def change_key(self, make: Callable[[], CallProcessor], key_id: int) -> None:
        """From now on under another key; rows counted under the previous one leave first. `make` is called once nothing
        of that is read any more."""
        self._read_records(is_all=True)
        self.processor.forget()
        self.processor = make()
        self._send(self.pipeline.change_key(self.processor, key_id))

    def apply_policy(self, policy: Policy) -> None:
        """From now on; what is counted already stays as it is."""
        self.pipeline.aggregator.set_triggers(policy.triggers)
        self.pipeline.aggregator.set_consumer_order(policy.consumer_order)
        self.processor.set_consumer_order(policy.consumer_order)
        self.pipeline.policy_epoch = policy.epoch

    def set_connected(self, is_connected: bool) -> None:
        """Windows are merged while the collector is away."""
        self._send(self.pipeline.convert(self.pipeline.aggregator.set_connected(is_connected)))

    # What is reported

    def coverage(self) -> Sequence[PortCoverage]:
        """Ports and what is read of them."""
        restraint = self._governor.report_restraint()
        capture = self.capture
        covered = self._node.cover(capture.coverage(), capture.counters(), restraint, capture.unread())
        return note_limitation(covered, self.capture.limitation)

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of all stages before the spool."""
        return (*self.capture.counts(), *self.pipeline.counts())

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: of the governor, the capture and the processor."""
        counters = self.capture.counters()
        counted = make_totals((name, text, counters[counter]) for name, text, counter in _COUNTED)
        return (*self._governor.figures(), *counted, *self.capture.figures(), *self.processor.figures())

    # The end

    async def end(self, on_detached: Callable[[], None]) -> None:
        """End capture, read what it still holds, and send the last batches."""
        self.capture.detach()
        self._gaps.end()
        on_detached()
        for _ in range(LAST_READS_COUNT):
            await self._read(is_all=True)
            if not self.capture.pending_bytes():
                break
        self.capture.close()
        self._send(self.pipeline.flush())
