"""The path of a call through the sensor, without edges: exchanges and records in, wire batches out, every loss counted.

Calls that were copied whole are described, aggregated and converted. Calls that the kernel matched are converted to
rows by `sensor.offload`, aggregated and converted. `CallProcessor` has all that depends on the installation key. Pure
but for what the describer asks of the node. A call on which a stage fails is a bug of that stage. It is counted there
as `failed` and logged (sensor.core.health), and the next call is taken.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from common.consumer_order import ConsumerColumn
from common.figures import Figure, make_totals
from sensor.agent.enforcement import Enforcement
from sensor.agent.node import Node
from sensor.agent.trace import ADDED_UP, KERNEL_CACHE, Trace
from sensor.aggregate.aggregator import Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.capture.http2.repeats import Repeats, Row
from sensor.capture.tls.bodies import BodyMeter
from sensor.core.calls import CALL, BodyFlag, CallRecord, Calls, Exchange, Handshake, Hop, Service
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.health import StageCount, StageCounter
from sensor.core.keyed import InstallationKey, KeyedHash
from sensor.coverage.row import CoverageRole, PortCount, PortProtocol
from sensor.coverage.unread import ClientLosses
from sensor.describe.attacks.open import open_attacks
from sensor.describe.attacks.ssrf import RequestForgery
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import Estimate, SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.filter import CallFilter, Exclusion
from sensor.describe.schemas.book import SchemaBook
from sensor.ebpf.abi import OverflowTotals, RecordFlag, Records
from sensor.ebpf.pieces import Pieces
from sensor.export.convert import BatchConverter, SerialisedBatch, ServiceWay
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.streams import AlikeCalls
from sensor.offload.kernel_cache import KernelCache, KernelMaps
from sensor.offload.matcher import BODY_FIRST_SAMPLES, BODY_SAMPLE_NS, KernelMatcher, MatchSettings
from sensor.offload.name_table import NameClassifier, NameTable
from sensor.offload.records import RecordBodies
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.document import compile_classes

logger = logging.getLogger(__name__)

FAILED: Final = "failed"
_NAMES: Final = CALL.names or ()
_ROUTE, _CALLS = _NAMES.index("route"), _NAMES.index("calls")


class ProcessorState:
    """What describing and matching keep for the whole life of the sensor, under whichever installation key."""

    def __init__(self, settings: SensorSettings, clock: Clock, aggregator: Aggregator, node: Node) -> None:
        self.filter = CallFilter(
            node.identity,
            node.exclusions,
            include_health_checks=settings.include_health_checks,
            own_traffic=node.own_traffic,
        )
        self.cache = KernelCache()
        # A secret of this process: who knew it could make names that are taken for others.
        self.names = NameTable(
            self.cache,
            NameClassifier(is_forwarding_read=bool(settings.trusted_proxy_cidrs)),
            seed=secrets.randbits(64),
        )
        self.facts = aggregator.facts
        self.monotonic_ns = clock.monotonic_ns
        self.settings = MatchSettings(
            heads_per_second=settings.heads_per_second,
            heads_burst=settings.heads_burst,
            body_bytes_per_second=settings.body_bytes_per_second if settings.read_bodies else 0,
            body_sample_ns=BODY_SAMPLE_NS,
            body_first_samples=BODY_FIRST_SAMPLES,
        )
        self.pieces = Pieces()
        self.tls_bodies = BodyMeter(self.settings.body_bytes_per_second)
        self.alike = AlikeCalls()
        rule = SampleRule(first_count=self.settings.body_first_samples, interval_ns=self.settings.body_sample_ns)
        self.schemas = SchemaBook(
            load_vocabulary(),
            rule,
            export_openapi_outlines=settings.export_openapi_outlines,
            seed=secrets.randbits(64),
        )
        self.bodies = BodyReader(rule, self.schemas, compile_classes(settings.custom_data_classes))


class CallProcessor:
    """Filter, describer and kernel matching under one installation key; its templater answers reveal requests."""

    def __init__(
        self,
        settings: SensorSettings,
        node: Node,
        state: ProcessorState,
        enforcement: Enforcement,
        key: InstallationKey,
    ) -> None:
        keyed_hash = KeyedHash(key.key_id, key.secret)
        self._identity = node.identity
        self._templater = Templater(load_vocabulary(), keyed_hash)
        self._filter = state.filter
        describer = Describer(
            self._templater,
            node.identity,
            keyed_hash,
            DescribeSettings(
                cluster=settings.cluster,
                trusted_networks=tuple(str(network) for network in settings.trusted_proxy_cidrs),
            ),
            state.bodies,
            open_attacks(keyed_hash, bytes_per_second=settings.attack_bytes_per_second, account=node.attacks),
            state.schemas,
            RequestForgery(keyed_hash, node.attacks) if settings.attack_bytes_per_second else None,
        )
        self._schemas = state.schemas
        self._schemas.hash_by(keyed_hash)
        self._attacks = node.attacks
        self._bodies, self._pieces, self._facts = state.bodies, state.pieces, state.facts
        self._tls_bodies = state.tls_bodies
        self._matcher = KernelMatcher(
            settings=state.settings,
            cache=state.cache,
            names=state.names,
            facts=state.facts,
            templater=self._templater,
            describer=describer,
            identity=node.identity,
            keyed_hash=keyed_hash,
            secret=key.secret,
            monotonic_ns=state.monotonic_ns,
            is_probed=state.filter.is_probed,
            bodies=RecordBodies(cache=state.cache, pieces=state.pieces, reader=state.bodies, facts=state.facts),
        )
        state.filter.set_on_probed(self._matcher.forget_service)
        self._describer, self._enforcement = describer, enforcement
        enforcement.set_identify(describer.identify)

    def describe(self, exchange: Exchange | StreamExchange) -> CallRecord | Undescribed | Exclusion:
        """The record, or why there is none."""
        record = self._filter.find_exclusion(exchange) or self._describer.describe(exchange)
        if isinstance(record, CallRecord):
            self._enforcement.see(exchange, record)
        return record

    def see_handshake(self, handshake: Handshake) -> None:
        """A TLS connection that a workload of this node opened."""
        self._describer.see_handshake(handshake)

    def take_late(self) -> list[CallRecord]:
        """Parts of calls described before, of which something was found out since."""
        return self._describer.take_late()

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size."""
        return self._describer.find_estimate(route_id)

    def install_call(self, exchange: Exchange, record: CallRecord) -> None:
        """Have the kernel match the like of a described call."""
        figures = record.figures
        more = self._schemas.weights.grant(record.target.route.route_id, figures.time_unix_ns)
        self._matcher.install_call(exchange, record, more)

    def count_rows(self, calls: Calls) -> None:
        """Calls that were not described: each sample of their routes stands for them too."""
        self._schemas.weights.count_rows(self._facts.route_ids[calls["route"]], calls["calls"])

    def name_losses(self, counts: Iterable[PortCount]) -> dict[ServiceWay, int]:
        """Lost calls of listening ports by the service there."""
        losses: dict[ServiceWay, int] = {}
        for count in counts:
            if count.role is CoverageRole.LISTENING and count.lost_calls:
                service, _ = self._identity.server(count.cgroup_id, count.port, "")
                key = service, count.kind is PortProtocol.HTTPS
                losses[key] = losses.get(key, 0) + count.lost_calls
        return losses

    def count_row(self, row: Row) -> None:
        """The same of one row."""
        self._schemas.weights.count(int(self._facts.route_ids[row[_ROUTE]]), row[_CALLS])

    @property
    def has_operations(self) -> bool:
        """Whether any route has operations, whose calls are counted."""
        return bool(self._schemas.weights)

    def flush(self, maps: KernelMaps) -> bool:
        """Write new cache entries to the kernel; whether there were any."""
        return self._matcher.cache.flush(maps)

    def forget(self) -> None:
        """Another key follows: nothing that was installed under this one is valid."""
        self._matcher.cache.clear()

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of calls that the kernel matched and that are not excluded; `offset_ns`: from its time to unix time."""
        kept = self._filter.filter_records(records)
        self._attacks.unread += int(kept["calls"][(kept["flags"] & RecordFlag.SUSPICIOUS) != 0].sum())
        return self._matcher.converter.convert(kept, offset_ns=offset_ns)

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """Rows of calls that the kernel only added up since the last time, from its totals since the load."""
        return self._matcher.converter.convert_overflow(self._filter.filter_overflow(totals), time_unix_ns=time_unix_ns)

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        """How many heads and bytes of bodies are read a second."""
        self._matcher.limit(heads_per_second=heads_per_second, body_bytes_per_second=body_bytes_per_second)
        self._tls_bodies.limit(body_bytes_per_second)

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """The consumer of a call is the first of these that is known."""
        self._describer.set_consumer_order(order)

    def check_services(self) -> None:
        """The node was read anew."""
        self._matcher.check_services(self._find_server)

    def _find_server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop] | None:
        """Who answers at a local end; nobody where its calls are excluded."""
        end = (cgroup_id, local_port, local_address)
        return None if self._filter.is_own_end(*end) else self._identity.server(*end)

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be revealed."""
        return self._templater.apply_reveal(hashes)

    def figures(self) -> tuple[Figure, ...]:
        """Of the matcher and the templater."""
        templater = self._templater
        totals = (
            ("bodies_given_up", "Calls whose bodies came and whose end did not.", self._pieces.given_up),
            (
                "fast_probes",
                "Calls that look like probes and came too often for one: they are reported.",
                self._filter.fast_probes,
            ),
            ("folded_calls", "Calls reported under the host `other`: too many hosts.", templater.folded_calls),
            ("other_calls", "Calls reported under a route `other`: too many routes.", templater.other_calls),
            (
                "unserved_other_calls",
                "Calls reported under a route `other` that were not answered with success.",
                templater.unserved_other_calls,
            ),
            ("evicted_services", "Services that the templater forgot for room.", templater.evicted_services),
            (
                "lost_data_sets",
                "Calls whose kinds of data are not reported: the table of sets is full.",
                self._facts.data_sets_lost,
            ),
        )
        return (
            *self._matcher.figures(),
            *self._bodies.figures(),
            *self._schemas.figures(),
            *make_totals(totals),
        )


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
        self.trace: Trace | None = None  # Whoever follows calls.
        self.lost_before_calls = 0  # Calls that capture knows it lost, since the start.
        self.tls_lost_calls = self.tls_seen_calls = 0  # Of those that TLS carried, the same.
        self.service_losses: Mapping[ServiceWay, int] = {}  # Of those, what is known to be of a service.
        self.client_losses: ClientLosses = {}  # What clients sent that no call explains.

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
                if self.trace is not None:
                    self.trace.see_row(exchange, row)
                if self._processor.has_operations:
                    self._processor.count_row(row)
            else:
                self._take_one(exchange)

    def take_handshakes(self, handshakes: Iterable[Handshake]) -> None:
        """TLS connections that workloads of this node opened: a request may have named the host."""
        for handshake in handshakes:
            self._processor.see_handshake(handshake)
        try:  # Now: it may be long until another call is described.
            self._add_late()
        except Exception:
            self.aggregator.drop(FAILED)
            _log_failure("aggregating")

    def _add_late(self) -> None:
        for late in self._processor.take_late():
            self.aggregator.add(late)

    def _take_repeats(self) -> None:
        calls = self._repeats.collect(self._clock.to_unix_ns(0))
        if not len(calls):
            return
        self._counter.see(len(calls))
        self._counter.use(len(calls))
        self._add_calls(calls)

    def _add_calls(
        self, calls: Calls, source: str = "", list_client_ports: Callable[[], Mapping[int, int]] | None = None
    ) -> None:
        """`source` and `list_client_ports`: for who follows calls."""
        try:
            self._processor.count_rows(calls)
            self.aggregator.add_calls(calls)
            if self.trace is not None:
                self.trace.see_calls(calls, source, list_client_ports)
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
            if self.trace is not None:
                self.trace.see_exchange(exchange, None)
            return
        if not isinstance(record, CallRecord):
            if isinstance(record, Undescribed):
                self._counter.drop(record.reason)
            else:  # Counted for the coverage, which is all the use it has.
                self._counter.use()
            if self.trace is not None:
                self.trace.see_exchange(exchange, record)
            return
        self._counter.use()
        try:
            self._add_late()
            row = self.aggregator.add(record)
            if self.trace is not None:
                self.trace.see_row(exchange, row)
        except Exception:
            self.aggregator.drop(FAILED)
            _log_failure("aggregating")
            row = ()
        if isinstance(exchange, StreamExchange):  # The kernel matches single heads of HTTP/1 only.
            if row and not (self._enforcement is not None and self._enforcement.is_blocked(exchange, record)):
                self._repeats.keep(exchange, row, self._find_estimate(record))
            return
        if exchange.ends.is_encrypted:  # Nor does it see into TLS.
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

        def list_client_ports() -> dict[int, int]:
            times_ns = records["time_ns"].astype(np.int64) + offset_ns
            return dict(zip(times_ns.tolist(), records["remote_port"].tolist(), strict=True))

        self._take_calls(
            int(records["calls"].sum()),
            lambda: self._processor.convert(records, offset_ns=offset_ns),
            KERNEL_CACHE,
            list_client_ports,
        )

    def take_overflow(self, totals: Mapping[bytes, OverflowTotals]) -> None:
        """Count calls that the kernel only added up, given its totals since the load."""
        new = sum(total[0] for total in totals.values()) - self._overflow_calls
        if new <= 0:
            return
        self._overflow_calls += new
        now_ns = self._clock.unix_ns()
        self._take_calls(new, lambda: self._processor.convert_overflow(totals, time_unix_ns=now_ns), ADDED_UP)

    def _take_calls(
        self,
        count: int,
        convert: Callable[[], Calls],
        source: str,
        list_client_ports: Callable[[], Mapping[int, int]] | None = None,
    ) -> None:
        self._matched.see(count)
        try:
            calls = convert()
        except Exception:
            self._matched.drop(FAILED, count)
            _log_failure("reading records of")
            return
        self._matched.use(count)
        self._add_calls(calls, source, list_client_ports)

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
        batches = self._convert(rows) if len(rows) else []
        if self.trace is not None:
            self.trace.see_batches(rows, batches, self._clock.unix_ns())
        return batches

    def _convert(self, rows: RowColumns) -> list[SerialisedBatch]:
        if self._enforcement is not None:
            try:
                self._enforcement.add_rows(rows)
            except Exception:
                logger.exception("measuring shares by rows failed; the rows leave")
        lost_calls, seen_calls = self._count_calls()
        named = sum(self.service_losses.values())
        tls_named = sum(lost for (_, is_encrypted), lost in self.service_losses.items() if is_encrypted)
        return self._converter.convert(
            rows,
            key_id=self._key_id,
            policy_epoch=self.policy_epoch,
            clock_segment=self._segment,
            lost_calls_total=max(0, lost_calls - named),
            seen_calls_total=max(0, seen_calls - named),
            tls_lost_calls_total=max(0, self.tls_lost_calls - tls_named),
            tls_seen_calls_total=max(0, self.tls_seen_calls - tls_named),
            service_losses=self.service_losses,
            client_losses=self.client_losses,
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
