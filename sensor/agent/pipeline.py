"""The path of a call through the sensor, without edges: exchanges and records in, wire batches out, every loss counted.

Calls that were copied whole are described, aggregated and converted. Calls that the kernel matched are converted to
rows by `sensor.offload`, aggregated and converted. Pure but for what the describer asks of the node. A call on which a
stage fails is a bug of that stage. It is counted there as `failed` and logged (sensor.core.health), and the next call
is taken.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from sensor.aggregate.aggregator import Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.capture.http2.repeats import Repeats
from sensor.core.calls import BodyFlag, CallRecord, Calls, Exchange
from sensor.core.clock import Clock
from sensor.core.health import StageCount, StageCounter
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.describer import Undescribed
from sensor.describe.filter import LeftOut
from sensor.export.convert import BatchConverter, SerialisedBatch
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.streams import AlikeCalls
from sensor.offload.actors import Records
from sensor.offload.records import OverflowTotals

logger = logging.getLogger(__name__)

FAILED: Final = "failed"


class Describer(Protocol):
    """Calls to what may be told of them; `sensor.agent.compose.NodeDescriber`, or a fake."""

    def describe(self, exchange: Exchange | StreamExchange) -> CallRecord | Undescribed | LeftOut:
        """The record, or why there is none."""
        ...

    def learn(self, exchange: Exchange, record: CallRecord) -> None:
        """Has the kernel recognise the like of it."""
        ...

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size."""
        ...

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of what the kernel recognised; `offset_ns` turns its time into unix time."""
        ...

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """Rows of what the kernel only added up since the last time, from its totals since the load."""
        ...


class Watch(Protocol):
    """`sensor.agent.enforcement.Enforcement`, as far as calls need it."""

    @property
    def changes(self) -> int:
        """Of who is watched; after one, calls are described anew."""
        ...

    def is_blocked(self, exchange: Exchange | StreamExchange, record: CallRecord) -> bool:
        """Whether all calls of who made this one are to be described."""
        ...


class Pipeline:
    """One sensor's describe, aggregate and convert. `describer` may be replaced when the installation key changes."""

    def __init__(
        self,
        *,
        describer: Describer,
        aggregator: Aggregator,
        converter: BatchConverter,
        clock: Clock,
        key_id: int,
        alike: AlikeCalls | None = None,
        on_rows: Callable[[RowColumns], None] = lambda rows: None,
        watch: Watch | None = None,
    ) -> None:
        """`alike` is where capture puts calls of HTTP/2 that are like one described before; `on_rows` sees what
        leaves; `watch` says whose calls are all to be described."""
        self._watch = watch
        self._watched = 0
        self._on_rows = on_rows
        self._describer = describer
        self._aggregator = aggregator
        self._converter = converter
        self._clock = clock
        self._key_id = key_id
        self._counter = StageCounter("describe")
        self._recognised = StageCounter("recognise")
        self._repeats = Repeats(alike)
        self._overflow_calls = 0
        self._segment = clock.segment
        self.policy_epoch = 0
        self.lost_before_calls = 0  # Calls that capture knows it lost, since the start.
        self.tls_lost_calls = self.tls_seen_calls = 0  # Of those that TLS carried, the same.

    @property
    def key_id(self) -> int:
        """Under which installation key the rows in the making are hashed."""
        return self._key_id

    @property
    def aggregator(self) -> Aggregator:
        """The windows, for policy and connection to act on."""
        return self._aggregator

    def take(self, exchanges: Iterable[Exchange | StreamExchange]) -> None:
        """Describe and count exchanges."""
        aggregator, repeats = self._aggregator, self._repeats
        self._take_repeats()
        if self._watch is not None and self._watch.changes != self._watched:
            self._watched = self._watch.changes
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
            self._aggregator.add_calls(calls)
        except Exception:
            self._aggregator.drop(FAILED, len(calls))
            _log_failure("aggregating")

    def _take_one(self, exchange: Exchange | StreamExchange) -> None:
        self._counter.see()
        try:
            record = self._describer.describe(exchange)
        except Exception:
            self._counter.drop(FAILED)
            _log_failure("describing")
            return
        if isinstance(record, Undescribed):
            self._counter.drop(record.reason)
            return
        if isinstance(record, LeftOut):  # Counted for the coverage, which is all the use it has.
            self._counter.use()
            return
        self._counter.use()
        try:
            row = self._aggregator.add(record)
        except Exception:
            self._aggregator.drop(FAILED)
            _log_failure("aggregating")
            row = ()
        if isinstance(exchange, StreamExchange):  # The kernel is taught heads of HTTP/1 only.
            if row and not (self._watch is not None and self._watch.is_blocked(exchange, record)):
                self._repeats.keep(exchange, row, self._find_estimate(record))
            return
        try:
            self._describer.learn(exchange, record)
        except Exception:
            _log_failure("learning from")

    def _find_estimate(self, record: CallRecord) -> Estimate | None:
        """Where all that is told of a call's bodies follows from its size: how."""
        if record.body is None or record.body.flags is not BodyFlag.ESTIMATED or record.body.data:
            return None
        return self._describer.find_estimate(record.route.route_id)

    def take_records(self, records: Records) -> None:
        """Count calls that the kernel recognised, or knew no more of than its counters say. The records are copied."""
        offset_ns = self._clock.to_unix_ns(0)
        self._take_calls(int(records["calls"].sum()), lambda: self._describer.convert(records, offset_ns=offset_ns))

    def take_overflow(self, totals: Mapping[bytes, OverflowTotals]) -> None:
        """Count calls that the kernel only added up, given its totals since the load."""
        new = sum(total[0] for total in totals.values()) - self._overflow_calls
        if new <= 0:
            return
        self._overflow_calls += new
        now_ns = self._clock.unix_ns()
        self._take_calls(new, lambda: self._describer.convert_overflow(totals, time_unix_ns=now_ns))

    def _take_calls(self, count: int, convert: Callable[[], Calls]) -> None:
        self._recognised.see(count)
        try:
            calls = convert()
        except Exception:
            self._recognised.drop(FAILED, count)
            _log_failure("reading records of")
            return
        self._recognised.use(count)
        try:
            self._aggregator.add_calls(calls)
        except Exception:
            self._aggregator.drop(FAILED, len(calls))
            _log_failure("aggregating")

    def poll(self) -> list[SerialisedBatch]:
        """Batches that leave now."""
        self._take_repeats()
        try:
            rows = self._aggregator.poll(self._clock.unix_ns())
        finally:
            # It may have given numbers of facts to others: no row that holds them may be used again.
            self._repeats.begin(self._clock.monotonic_ns(), self._aggregator.facts.generation)
        return self.convert(rows)

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
        self._take_repeats()
        batches = self.flush()
        self._repeats.forget()
        self._describer = describer
        self._key_id = key_id
        return batches

    def convert(self, rows: RowColumns) -> list[SerialisedBatch]:
        """Rows to serialised batches."""
        if not len(rows):
            return []
        try:
            self._on_rows(rows)
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
        return (self._recognised.count(), self._counter.count(), self._aggregator.count(), self._converter.count())

    def _count_calls(self) -> tuple[int, int]:
        recognise, describe, *_ = counts = self.counts()
        lost_calls = self.lost_before_calls + sum(count.dropped_total for count in counts)
        return lost_calls, self.lost_before_calls + recognise.seen + describe.seen


def _log_failure(what: str) -> None:
    logger.exception("%s a call failed; it is counted as lost and the next is taken", what, stacklevel=2)
