"""The way of a call through the sensor, without its edges: exchanges in, wire batches out, every loss counted.

describe -> aggregate -> convert. Pure but for what the describer asks of the node. An exchange that makes a room fail
is a bug of that room: it is counted as `failed` at that stage, told once a minute in the log, and the next one is
taken.
"""

import logging
from collections.abc import Iterable
from typing import Final, Protocol

from sensor.aggregate import Aggregator
from sensor.aggregation.rows import RowColumns
from sensor.calls import CallRecord, Exchange
from sensor.clock import Clock
from sensor.convert import BatchConverter, SerialisedBatch
from sensor.describe import Undescribed
from sensor.health import StageCount, StageCounter

logger = logging.getLogger(__name__)

FAILED: Final = "failed"
LOG_INTERVAL_NS: Final = 60 * 1_000_000_000


class Describer(Protocol):
    """Exchanges to call records, as `sensor.describe.Describer` does it."""

    def describe(self, exchange: Exchange) -> CallRecord | Undescribed:
        """The record, or why there is none."""
        ...


class Pipeline:
    """One sensor's describe, aggregate and convert. `describer` may be replaced when the installation key changes."""

    def __init__(
        self, *, describer: Describer, aggregator: Aggregator, converter: BatchConverter, clock: Clock, key_id: int
    ) -> None:
        self._describer = describer
        self._aggregator = aggregator
        self._converter = converter
        self._clock = clock
        self._key_id = key_id
        self._counter = StageCounter("describe")
        self._segment = clock.segment
        self._logged_ns = -LOG_INTERVAL_NS
        self.policy_epoch = 0
        self.lost_before_calls = 0  # Calls that capture knows it lost, since the start.

    @property
    def key_id(self) -> int:
        """Under which installation key the rows in the making are hashed."""
        return self._key_id

    @property
    def aggregator(self) -> Aggregator:
        """The windows, for policy and connection to act on."""
        return self._aggregator

    def take(self, exchanges: Iterable[Exchange]) -> None:
        """Describe and count exchanges."""
        describe, add, counter = self._describer.describe, self._aggregator.add, self._counter
        for exchange in exchanges:
            counter.see()
            try:
                record = describe(exchange)
            except Exception:
                counter.drop(FAILED)
                self._log_failure("describing")
                continue
            if isinstance(record, Undescribed):
                counter.drop(record.reason)
                continue
            counter.use()
            try:
                add(record)
            except Exception:
                self._aggregator.drop(FAILED)
                self._log_failure("aggregating")

    def poll(self) -> list[SerialisedBatch]:
        """Batches that leave now."""
        return self.convert(self._aggregator.poll(self._clock.unix_ns()))

    def flush(self) -> list[SerialisedBatch]:
        """Everything leaves."""
        return self.convert(self._aggregator.flush())

    def step_clock(self) -> list[SerialisedBatch]:
        """The clock was set: what was counted leaves in the old segment, and the next windows are of the new one."""
        batches = self.flush()
        self._aggregator.mark_clock_step()
        self._segment = self._clock.segment
        return batches

    def change_key(self, describer: Describer, key_id: int) -> list[SerialisedBatch]:
        """Another installation key from now on: what was counted leaves under the old one."""
        batches = self.flush()
        self._describer = describer
        self._key_id = key_id
        return batches

    def convert(self, rows: RowColumns) -> list[SerialisedBatch]:
        """Rows to serialised batches."""
        if not len(rows):
            return []
        lost_calls, seen_calls = self._count_calls()
        return self._converter.convert(
            rows,
            key_id=self._key_id,
            policy_epoch=self.policy_epoch,
            clock_segment=self._segment,
            lost_calls_total=lost_calls,
            seen_calls_total=seen_calls,
        )

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of describe and aggregate."""
        return (self._counter.count(), self._aggregator.count())

    def _count_calls(self) -> tuple[int, int]:
        describe, aggregate = self.counts()
        lost_calls = self.lost_before_calls + describe.dropped_total + aggregate.dropped_total
        return lost_calls, self.lost_before_calls + describe.seen

    def _log_failure(self, what: str) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= LOG_INTERVAL_NS:
            self._logged_ns = now_ns
            # The traceback names code, not values: exchanges redact their repr.
            logger.exception("%s a call failed; it is counted as lost and the next is taken", what)
