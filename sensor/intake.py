"""From capture to pipeline: reads what came, teaches what was learned, and keeps the heads within their budget.

Called from the loop (sensor.rest). What was sent up whole is read at once. Records are read when a second of unix
time has ended, just before the aggregator makes rows of it, or when many wait; counters once a second.
"""

import asyncio
import logging
import time
from typing import Final

from sensor.breaks import with_breaks
from sensor.clock import Clock
from sensor.health import TLS_STAGE, Figure
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
# The kernel's counters that metrics show.
_COUNTED: Final = (
    ("records", "Calls that came as one record", Counter.RECORDS),
    ("heads", "Heads sent up because the call was not recognised, or as a sample", Counter.HEADS),
    ("heads_past_share", "Heads that stayed down, of who had had a share of the budget", Counter.SHARES_SPENT),
    ("long_segments", "Segments with more messages than the kernel reads of one", Counter.TAIL_FAILED),
    ("lost_positions", "Directions of connections in which the place was lost", Counter.RESYNC),
    ("ambiguous_requests", "Requests of which programs may disagree where they end", Counter.AMBIGUOUS),
    ("http2_events", "Events of HTTP/2", Counter.FRAMES),
    ("http2_events_lost", "Of those, for which the ring had no room", Counter.FRAMES_LOST),
    ("http2_blocks_refused", "Header blocks beyond a cgroup's share of a ring half full", Counter.BLOCKS_REFUSED),
    ("http2_matched", "Calls of HTTP/2 that the kernel told as one record", Counter.MATCHED),
    ("http2_raw_bytes", "Bytes of HTTP/2 sent up as they are, around holes", Counter.RAW_BYTES),
    ("http2_raw_refused_bytes", "Bytes that could not be followed, beyond what may go up", Counter.RAW_REFUSED),
    ("upgrades_untold", "Ends of WebSockets that found the ring full", Counter.UPGRADES_UNTOLD),
    ("scratch_busy", "Heads not looked at because all scratch was in use", Counter.SCRATCH_BUSY),
    ("bodies", "Bodies of samples that were copied, from their beginning", Counter.BODIES),
    ("body_bytes", "Bytes of bodies that were copied", Counter.BODY_BYTES),
    ("bodies_refused", "Bodies that ended early or never began: budget, or ring half full", Counter.BODIES_REFUSED),
    ("orphan_responses", "Responses without a request: joined in the middle of a call", Counter.ORPHANS),
    ("handshakes", "Handshakes of encrypted connections that were looked at", Counter.HELLOS),
    ("handshakes_refused", "Those beyond the budget of heads", Counter.HELLOS_REFUSED),
    ("ports_full", "Counts of ports that found their table full", Counter.PORTS_FULL),
    ("peers_full", "Counts of called hosts that found their table full", Counter.PEERS_FULL),
    ("bodies_lost", "Pieces of bodies that found the ring full", Counter.BODIES_LOST),
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
        governed: tuple[Figure, ...] = (
            Figure(
                name="heads_per_second_limit",
                documentation="Heads a second of one cgroup that may go up, as governed",
                value=self._governor.heads_per_second,
                is_total=False,
            ),
            Figure(
                name="budget_used_ratio",
                documentation="Processor time of the last second against its budget, the kernel's programs included",
                value=self._governor.used_share,
                is_total=False,
            ),
            Figure(
                name="body_bytes_per_second_limit",
                documentation="Bytes of bodies a second of one cgroup that may go up, as governed",
                value=self._governor.body_bytes_per_second,
                is_total=False,
            ),
        )
        if self._governor.tls_calls_per_second:
            governed += (
                Figure(
                    name="tls_calls_per_second_limit",
                    documentation="Calls over TLS a second of one process that are read, as governed",
                    value=self._governor.tls_calls_per_second,
                    is_total=False,
                ),
            )
        counters = self._capture.counters()
        counted = tuple(
            Figure(name=name, documentation=documentation, value=counters[counter], is_total=True)
            for name, documentation, counter in _COUNTED
        )
        return (*governed, *counted, *self._capture.figures(), *self.describer.figures())
