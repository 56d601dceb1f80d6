"""Describes calls for the pipeline under one installation key: names, templates, hosts, kinds, and matching in the
kernel.
"""

import secrets
from collections.abc import Mapping, Sequence

from common.figures import Figure, make_totals
from common.settings import ConsumerColumn
from sensor.agent.enforcement import Enforcement
from sensor.agent.node import Node
from sensor.aggregate.aggregator import Aggregator
from sensor.capture.tls.bodies import BodyMeter
from sensor.core.calls import CallRecord, Calls, Exchange, Hop, Service
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.keyed import InstallationKey, KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import Estimate, SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.filter import CallFilter, Exclusion
from sensor.describe.schemas.book import SchemaBook
from sensor.ebpf.abi import OverflowTotals, RecordFlag, Records
from sensor.ebpf.pieces import Pieces
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.streams import AlikeCalls
from sensor.offload.kernel_cache import KernelCache, KernelMaps
from sensor.offload.matcher import KernelMatcher, MatchSettings
from sensor.offload.name_table import NameClassifier, NameTable
from sensor.offload.records import RecordBodies
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.document import compile_classes


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
            is_recognising=settings.match_in_kernel,
            heads_per_second=settings.heads_per_second,
            heads_burst=settings.heads_burst,
            body_bytes_per_second=settings.body_bytes_per_second if settings.read_bodies else 0,
        )
        self.pieces = Pieces()
        self.tls_bodies = BodyMeter(self.settings.body_bytes_per_second)
        self.alike = AlikeCalls()
        rule = SampleRule(first_count=self.settings.body_first_samples, interval_ns=self.settings.body_sample_ns)
        self.schemas = SchemaBook(load_vocabulary(), rule, export_openapi_outlines=settings.export_openapi_outlines)
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
        )
        self._schemas = state.schemas
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

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size."""
        return self._describer.find_estimate(route_id)

    def install_call(self, exchange: Exchange, record: CallRecord) -> None:
        """Have the kernel match the like of a described call."""
        self._matcher.install_call(exchange, record)

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
