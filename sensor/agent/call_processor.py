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
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.filter import Gate, LeftOut
from sensor.describe.schemas.book import SchemaBook
from sensor.ebpf.abi import OVERFLOW_KEY, RecordFlag
from sensor.ebpf.pieces import Pieces
from sensor.export.state import InstallationKey
from sensor.http.http2.alike import AlikeCalls
from sensor.http.http2.exchange import StreamExchange
from sensor.offload.actors import Records
from sensor.offload.kernel_cache import Mirror
from sensor.offload.name_table import NameJudge, NameTable
from sensor.offload.recogniser import BODY_FIRST_SAMPLES, BODY_SAMPLE_NS, RecognitionSettings, build_recogniser
from sensor.offload.records import OverflowTotals, RecordBodies
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.document import compile_classes


class Knowledge:
    """What the kernel is taught, for the whole life of the sensor: under whichever installation key."""

    def __init__(self, settings: SensorSettings, clock: Clock, aggregator: Aggregator, node: Node) -> None:
        self.gate = Gate(
            node.identity,
            node.left_out,
            unpack_overflow=OVERFLOW_KEY.unpack,
            include_health_checks=settings.include_health_checks,
            own_traffic=node.own_traffic,
        )
        self.mirror = Mirror()
        # A secret of this process: who knew it could make names that are taken for others.
        self.names = NameTable(
            self.mirror,
            NameJudge(is_forwarding_read=bool(settings.trusted_proxy_cidrs)),
            seed=secrets.randbits(64),
        )
        self.facts = aggregator.facts
        self.monotonic_ns = clock.monotonic_ns
        self.settings = RecognitionSettings(
            is_recognising=settings.match_in_kernel,
            heads_per_second=settings.heads_per_second,
            heads_burst=settings.heads_burst,
            body_bytes_per_second=settings.body_bytes_per_second if settings.read_bodies else 0,
            body_sample_ns=BODY_SAMPLE_NS,
            body_first_samples=BODY_FIRST_SAMPLES,
        )
        self.pieces = Pieces()
        self.tls_bodies = BodyMeter(self.settings.body_bytes_per_second)
        self.alike = AlikeCalls[Exchange]()
        rule = SampleRule(first_count=self.settings.body_first_samples, interval_ns=self.settings.body_sample_ns)
        self.schemas = SchemaBook(load_vocabulary(), rule, export_openapi_outlines=settings.export_openapi_outlines)
        self.bodies = BodyReader(rule, self.schemas, compile_classes(settings.custom_data_classes))


class NodeDescriber:
    """Describer and recogniser under one installation key, with the templater that answers reveal requests."""

    def __init__(
        self,
        settings: SensorSettings,
        node: Node,
        knowledge: Knowledge,
        enforcement: Enforcement,
        key: InstallationKey,
    ) -> None:
        keyed_hash = KeyedHash(key.key_id, key.secret)
        self._identity = node.identity
        self._templater = Templater(load_vocabulary(), keyed_hash)
        self._gate = knowledge.gate
        describer = Describer(
            self._templater,
            node.identity,
            keyed_hash,
            DescribeSettings(
                cluster=settings.cluster,
                trusted_networks=tuple(str(network) for network in settings.trusted_proxy_cidrs),
            ),
            knowledge.bodies,
            open_attacks(keyed_hash, bytes_per_second=settings.attack_bytes_per_second, account=node.attacks),
            knowledge.schemas,
        )
        self._schemas = knowledge.schemas
        self._attacks = node.attacks
        self._bodies, self._pieces, self._facts = knowledge.bodies, knowledge.pieces, knowledge.facts
        self._tls_bodies = knowledge.tls_bodies
        self._recogniser = build_recogniser(
            settings=knowledge.settings,
            mirror=knowledge.mirror,
            names=knowledge.names,
            facts=knowledge.facts,
            templater=self._templater,
            describer=describer,
            identity=node.identity,
            keyed_hash=keyed_hash,
            secret=key.secret,
            monotonic_ns=knowledge.monotonic_ns,
            is_probed=knowledge.gate.is_probed,
            bodies=RecordBodies(
                mirror=knowledge.mirror, pieces=knowledge.pieces, reader=knowledge.bodies, facts=knowledge.facts
            ),
        )
        knowledge.gate.tell_probed(self._recogniser.forget_service)
        self._describer = describer
        # Bound here: called once for every call.
        self._describe, self._judge, self._see = describer.describe, knowledge.gate.judge, enforcement.see
        enforcement.set_identify(describer.identify)
        self.find_estimate = describer.find_estimate
        self.learn = self._recogniser.learn
        self.flush = self._recogniser.flush
        self.forget = self._recogniser.forget

    def describe(self, exchange: Exchange | StreamExchange) -> CallRecord | Undescribed | LeftOut:
        """The record, or why there is none."""
        record = self._judge(exchange) or self._describe(exchange)
        if isinstance(record, CallRecord):
            self._see(exchange, record)
        return record

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of what the kernel recognised and is told."""
        told = self._gate.filter_records(records)
        self._attacks.unread += int(told["calls"][(told["flags"] & RecordFlag.SUSPICIOUS) != 0].sum())
        return self._recogniser.convert(told, offset_ns=offset_ns)

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """Rows of what the kernel only added up and is told."""
        return self._recogniser.convert_overflow(self._gate.filter_overflow(totals), time_unix_ns=time_unix_ns)

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        """How many heads and bytes of bodies are read a second."""
        self._recogniser.limit(heads_per_second=heads_per_second, body_bytes_per_second=body_bytes_per_second)
        self._tls_bodies.limit(body_bytes_per_second)

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """The consumer of a call is the first of these that is known."""
        self._describer.set_consumer_order(order)

    def check_services(self) -> None:
        """The node was read anew."""
        self._recogniser.check_services(self._find_server)

    def _find_server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop] | None:
        """Who answers at a local end; nobody where its calls are excluded."""
        end = (cgroup_id, local_port, local_address)
        return None if self._gate.is_own_end(*end) else self._identity.server(*end)

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._templater.apply_reveal(hashes)

    def figures(self) -> tuple[Figure, ...]:
        """Of the recogniser and the templater."""
        templater = self._templater
        totals = (
            ("bodies_given_up", "Calls whose bodies came and whose end did not.", self._pieces.given_up),
            (
                "fast_probes",
                "Calls that look like probes and came too often for one: they are reported.",
                self._gate.fast_probes,
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
            *self._recogniser.figures(),
            *self._bodies.figures(),
            *self._schemas.figures(),
            *make_totals(totals),
        )
