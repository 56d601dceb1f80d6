"""The path of a call through the sensor, without edges: exchanges and records in, wire batches out, every loss counted.

Calls that were copied whole are described, aggregated and converted. Calls that the kernel matched are converted to
rows by `sensor.offload`, aggregated and converted. Pure but for what the describer asks of the node. A call on which a
stage fails is a bug of that stage. It is counted there as `failed` and logged (sensor.core.health), and the next call
is taken.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sensor.agent.call_processor import CallProcessor
from sensor.agent.enforcement import Enforcement
from sensor.aggregate.aggregator import Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.capture.http2.repeats import Repeats
from sensor.core.calls import BodyFlag, CallRecord, Calls, Exchange
from sensor.core.clock import Clock
from sensor.core.health import StageCount, StageCounter
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.describer import Undescribed
from sensor.describe.filter import Exclusion
from sensor.ebpf.abi import OverflowTotals, Records
from sensor.export.convert import BatchConverter, SerialisedBatch
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.streams import AlikeCalls

logger = logging.getLogger(__name__)

FAILED: Final = "failed"


class Pipeline:
    """One sensor's describe, aggregate and convert. The processor is replaced when the installation key changes."""

    def __init__(
        self,
        *,
        processor: CallProcessor,
        aggregator: Aggregator,
        converter: BatchConverter,
        clock: Clock,
        key_id: int,
        alike: AlikeCalls | None = None,
        enforcement: Enforcement | None = None,
    ) -> None:
        """`alike` is where capture puts calls of HTTP/2 that are like one described before; `enforcement` sees the rows
        that leave, and says whose calls are all to be described."""
        self._enforcement = enforcement
        self._enforced_changes = 0
        self._processor = processor
        self.aggregator = aggregator
        self._converter = converter
        self._clock = clock
        self._key_id = key_id
        self._counter = StageCounter("describe")
        self._matched = StageCounter("recognise")
        self._repeats = Repeats(alike)
        self._overflow_calls = 0
        self._segment = clock.segment
        self.policy_epoch = 0
        self.lost_before_calls = 0  # Calls that capture knows it lost, since the start.
        self.tls_lost_calls = self.tls_seen_calls = 0  # Of those that TLS carried, the same.

    def take(self, exchanges: Iterable[Exchange | StreamExchange]) -> None:
        """Describe and count exchanges."""
        aggregator, repeats, enforcement = self.aggregator, self._repeats, self._enforcement
        self._take_repeats()
        if enforcement is not None and enforcement.enforcer.changes != self._enforced_changes:
            self._enforced_changes = enforcement.enforcer.changes
            repeats.forget()
        repeats.begin(self._clock.monotonic_ns(), aggregator.facts.generation)
        for exchange in exchanges:
            if type(exchange) is StreamExchange and (row := repeats.find(exchange)) is not None:
                self._counter.see()
                self._counter.use()
                aggregator.add_row(row)
            else:
                self._take_one(exchange)

    def _take_repeats(self) -> None:
        calls = self._repeats.collect(self._clock.to_unix_ns(0))
        if not len(calls):
            return
        self._counter.see(len(calls))
        self._counter.use(len(calls))
        try:
            self.aggregator.add_calls(calls)
        except Exception:
            self.aggregator.drop(FAILED, len(calls))
            _log_failure("aggregating")

    def _take_one(self, exchange: Exchange | StreamExchange) -> None:
        self._counter.see()
        try:
            record = self._processor.describe(exchange)
        except Exception:
            self._counter.drop(FAILED)
            _log_failure("describing")
            return
        if isinstance(record, Undescribed):
            self._counter.drop(record.reason)
            return
        if isinstance(record, Exclusion):  # Counted for the coverage, which is all the use it has.
            self._counter.use()
            return
        self._counter.use()
        try:
            row = self.aggregator.add(record)
        except Exception:
            self.aggregator.drop(FAILED)
            _log_failure("aggregating")
            row = ()
        if isinstance(exchange, StreamExchange):  # The kernel matches single heads of HTTP/1 only.
            if row and not (self._enforcement is not None and self._enforcement.is_blocked(exchange, record)):
                self._repeats.keep(exchange, row, self._find_estimate(record))
            return
        try:
            self._processor.install_call(exchange, record)
        except Exception:
            _log_failure("learning from")

    def _find_estimate(self, record: CallRecord) -> Estimate | None:
        """How the records of a call follow from its size, where that is all that is known of its bodies."""
        body = record.contents.body
        if body is None or body.flags is not BodyFlag.ESTIMATED or body.data:
            return None
        return self._processor.find_estimate(record.target.route.route_id)

    def take_records(self, records: Records) -> None:
        """Count calls that the kernel matched, or knew no more of than its counters say. The records are copied."""
        offset_ns = self._clock.to_unix_ns(0)
        self._take_calls(int(records["calls"].sum()), lambda: self._processor.convert(records, offset_ns=offset_ns))

    def take_overflow(self, totals: Mapping[bytes, OverflowTotals]) -> None:
        """Count calls that the kernel only added up, given its totals since the load."""
        new = sum(total[0] for total in totals.values()) - self._overflow_calls
        if new <= 0:
            return
        self._overflow_calls += new
        now_ns = self._clock.unix_ns()
        self._take_calls(new, lambda: self._processor.convert_overflow(totals, time_unix_ns=now_ns))

    def _take_calls(self, count: int, convert: Callable[[], Calls]) -> None:
        self._matched.see(count)
        try:
            calls = convert()
        except Exception:
            self._matched.drop(FAILED, count)
            _log_failure("reading records of")
            return
        self._matched.use(count)
        try:
            self.aggregator.add_calls(calls)
        except Exception:
            self.aggregator.drop(FAILED, len(calls))
            _log_failure("aggregating")

    def poll(self) -> list[SerialisedBatch]:
        """Batches that leave now."""
        self._take_repeats()
        try:
            rows = self.aggregator.poll(self._clock.unix_ns())
        finally:
            # It may have given numbers of facts to others: no row that holds them may be used again.
            self._repeats.begin(self._clock.monotonic_ns(), self.aggregator.facts.generation)
        return self.convert(rows)

    def flush(self) -> list[SerialisedBatch]:
        """Everything leaves."""
        return self.convert(self.aggregator.flush())

    def step_clock(self) -> list[SerialisedBatch]:
        """The clock was set: what was counted leaves in the old segment, and the next windows are of the new one."""
        batches = self.flush()
        self.aggregator.mark_clock_step()
        self._segment = self._clock.segment
        return batches

    def change_key(self, processor: CallProcessor, key_id: int) -> list[SerialisedBatch]:
        """Another installation key from now on: what was counted leaves under the old one."""
        self._take_repeats()
        batches = self.flush()
        self._repeats.forget()
        self._processor = processor
        self._key_id = key_id
        return batches

    def convert(self, rows: RowColumns) -> list[SerialisedBatch]:
        """Rows to serialised batches."""
        if not len(rows):
            return []
        if self._enforcement is not None:
            try:
                self._enforcement.add_rows(rows)
            except Exception:
                logger.exception("measuring shares by rows failed; the rows leave")
        lost_calls, seen_calls = self._count_calls()
        return self._converter.convert(
            rows,
            key_id=self._key_id,
            policy_epoch=self.policy_epoch,
            clock_segment=self._segment,
            lost_calls_total=lost_calls,
            seen_calls_total=seen_calls,
            tls_lost_calls_total=self.tls_lost_calls,
            tls_seen_calls_total=self.tls_seen_calls,
        )

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of recognise, describe, aggregate and convert."""
        return (self._matched.count(), self._counter.count(), self.aggregator.count(), self._converter.count())

    def _count_calls(self) -> tuple[int, int]:
        matched, described, *_ = counts = self.counts()
        lost_calls = self.lost_before_calls + sum(count.dropped_total for count in counts)
        return lost_calls, self.lost_before_calls + matched.seen + described.seen


def _log_failure(what: str) -> None:
    logger.exception("%s a call failed; it is counted as lost and the next is taken", what, stacklevel=2)
