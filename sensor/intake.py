"""From capture to pipeline: reads what came, teaches what was learned, and keeps the heads within their budget.

Called from the loop (sensor.rest). What was sent up whole is read at once. Records are read when a second of unix
time has ended, just before the aggregator makes rows of it, or when many wait; counters once a second.
"""

import asyncio
import logging
import time
from typing import Final

from common.figures import Figure, make_gauges, make_totals
from sensor.breaks import with_breaks
from sensor.clock import Clock
from sensor.health import TLS_STAGE
from sensor.kernel.abi import Counter, RecordFlag
from sensor.parts import Capture, NodeDescriber
from sensor.pipeline import Pipeline
from sensor.recognition.governor import Governor

logger = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
# A turn ends after so long, whatever waits: records and the rows of ended seconds wait for it.
TURN_NS: Final = 100_000_000
# Full rings are read in less.
LAST_READS_COUNT: Final = 64
# The kernel's counters that metrics show; the others are in the accounts of stages (sensor.kernel.capture).
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


class Intake:
    """The reading end of a sensor. `describer` is replaced when the installation key changes. Not thread-safe."""

    def __init__(
        self, *, capture: Capture, pipeline: Pipeline, describer: NodeDescriber, governor: Governor, clock: Clock
    ) -> None:
        self._capture = capture
        self._pipeline = pipeline
        self.describer = describer
        self._governor = governor
        self._clock = clock
        self._records_second = 0
        self.is_behind = False  # Events were left for the next turn.
        self.is_learning = True  # The last reading brought something that the kernel was taught.

    async def read(self, *, is_all: bool = False) -> None:
        """What has come; `is_all`: whatever is there, and what only counters say."""
        self.is_learning = False
        try:
            end_ns = self._clock.monotonic_ns() + TURN_NS
            while True:
                self._pipeline.take(with_breaks(self._capture.read(), is_behind=self.is_behind))
                self.teach()
                await asyncio.sleep(0)
                self.is_behind = self._capture.has_events()
                if not self.is_behind or (self._clock.monotonic_ns() >= end_ns and not is_all):
                    break
                self.read_records(is_all=False)
            second = self._clock.unix_ns() // SECOND_NS
            self.read_records(is_all=is_all or second != self._records_second)
            self._records_second = second
            if is_all or self._governor.is_due(self._clock.monotonic_ns()):
                self._read_counters()
        except Exception:
            # A loop boundary: one batch of events may be lost (capture counts what it lost), the sensor goes on.
            logger.exception("reading the capture failed")

    def read_records(self, *, is_all: bool) -> None:
        """Records, where there is a batch of them or `is_all` asks for what there is."""
        records = self._capture.read_records(is_all=is_all)
        if len(records):
            if (records["flags"] & RecordFlag.BODY).any():
                # Their bodies went into the other ring before them, perhaps after it was read last.
                self._pipeline.take(self._capture.read())
            self._pipeline.take_records(records)
            self._capture.release_records()

    def _read_counters(self) -> None:
        """Once a second: what was lost, what was only added up, and whether less should be read."""
        counts = self._capture.counts()
        self._pipeline.lost_before_calls = sum(count.dropped_total for count in counts)
        for count in counts:
            if count.stage == TLS_STAGE:
                self._pipeline.tls_lost_calls, self._pipeline.tls_seen_calls = count.dropped_total, count.seen
        counters = self._capture.counters()
        if counters[Counter.OVERFLOW]:
            self._pipeline.take_overflow(self._capture.overflow())
        tls_calls = self._capture.tls_calls()
        self._governor.observe(
            now_ns=self._clock.monotonic_ns(),
            cpu_ns=time.process_time_ns() + self._capture.program_ns(calls=counters[Counter.CALLS]),
            calls=counters[Counter.CALLS] + tls_calls,
            heads=counters[Counter.HEADS],
            body_bytes=counters[Counter.BODY_BYTES],
            tls_calls=tls_calls,
        )
        if self._governor.tls_calls_per_second:
            self._capture.limit_tls(self._governor.tls_calls_per_second)
        self.describer.limit(
            heads_per_second=self._governor.heads_per_second,
            body_bytes_per_second=self._governor.body_bytes_per_second,
        )

    def teach(self) -> None:
        """What was learned since the last time, and before the first reading how to recognise at all."""
        try:
            if self.describer.flush(self._capture):
                self.is_learning = True
        except OSError:
            # It is not known how far it came, so all begins anew; what the kernel does not know goes up whole.
            logger.exception("the kernel refused what it was taught")
            self.is_learning = True
            self.describer.forget()

    async def read_rest(self) -> None:
        """Everything, after capture was detached."""
        for _ in range(LAST_READS_COUNT):
            await self.read(is_all=True)
            if not self._capture.pending_bytes():
                break

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: of the governor, the kernel and what is known to it."""
        governor = self._governor
        limits = [
            (
                "heads_per_second_limit",
                "Request heads a second of one cgroup that the governor lets the kernel copy.",
                governor.heads_per_second,
            ),
            (
                "body_bytes_per_second_limit",
                "Bytes of bodies a second of one cgroup that the governor lets the kernel copy.",
                governor.body_bytes_per_second,
            ),
            (
                "budget_used_ratio",
                "Processor time of the last second, kernel programs included, relative to its budget.",
                governor.used_share,
            ),
        ]
        if governor.tls_calls_per_second:
            text = "Calls over TLS a second of one process that the governor lets be read."
            limits.append(("tls_calls_per_second_limit", text, governor.tls_calls_per_second))
        counters = self._capture.counters()
        counted = make_totals((name, text, counters[counter]) for name, text, counter in _COUNTED)
        return (*make_gauges(limits), *counted, *self._capture.figures(), *self.describer.figures())
