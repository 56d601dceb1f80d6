"""The composition root of `apidae sensor`: from settings to a running `Sensor`, the one place where the real parts
meet."""

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from sensor.aggregate import Aggregator, WindowLimits
from sensor.attach import make_heirs, open_capture
from sensor.attacks.account import AttackAccount
from sensor.attacks.open import open_attacks
from sensor.bodies.reader import BodyReader
from sensor.bodies.sampling import SampleRule
from sensor.calls import CallRecord, Exchange
from sensor.classify.sensitive.custom import compile_classes
from sensor.clock import Clock
from sensor.columns import Calls
from sensor.config import SensorSettings
from sensor.convert import BatchConverter
from sensor.coverage.attacks import cover_attacks
from sensor.coverage.gaps import FILE_NAME, Gaps
from sensor.coverage.hidden import Hidden, UnixPort
from sensor.coverage.limits import list_limits
from sensor.coverage.report import PortMemory, cover_ports
from sensor.coverage.row import PortCount, PortCoverage
from sensor.describe import Describer, DescribeSettings, Undescribed
from sensor.enforce.tables import Server
from sensor.enforcement import Enforcement
from sensor.enrich.cgroup_tree import find_cgroup2_mount
from sensor.enrich.kubernetes.facts import WORKLOADS_MAX, WorkloadFacts, list_workloads
from sensor.enrich.kubernetes.open import open_cluster
from sensor.enrich.node import build_node
from sensor.enrich.processes import ProcessTable
from sensor.health import Figure
from sensor.kernel.abi import OVERFLOW_KEY, Counter, RecordFlag
from sensor.kernel.sockmaps import count_sockmap_programs
from sensor.keyed import KeyedHash
from sensor.left_out.account import Account, LeftOut
from sensor.left_out.gate import Gate
from sensor.pieces import Pieces
from sensor.pipeline import Describer as PipelineDescriber
from sensor.pipeline import Pipeline
from sensor.prepared import Prepared
from sensor.protocols.http2_alike import AlikeCalls
from sensor.recognition.actors import Records
from sensor.recognition.bodies import RecordBodies
from sensor.recognition.governor import Governor, GovernorSettings
from sensor.recognition.mirror import Mirror
from sensor.recognition.name_table import NameTable
from sensor.recognition.names import NameJudge
from sensor.recognition.recogniser import RecognitionSettings, build_recogniser
from sensor.recognition.records import OverflowTotals
from sensor.run import RunSettings, Sensor
from sensor.schemas.book import SchemaBook
from sensor.spool import Spool
from sensor.streams.exchange import StreamExchange
from sensor.templating import Templater
from sensor.tls.bodies import BodyMeter
from sensor.tls.unread import UnreadProcesses
from sensor.uplink.certificates import CertificateFiles
from sensor.uplink.client import Uplink, UplinkSettings
from sensor.uplink.keeper import CertificateKeeper, KeeperSettings
from sensor.uplink.messages import SensorIdentity
from sensor.uplink.state import InstallationKey, StateDirectory
from sensor.uplink.target import parse_target
from sensor.vocabulary import load_vocabulary

VERSION: Final = version("apidae")
MOUNTS_PATH: Final = Path("/proc/mounts")
# At most so long a start waits for the Pods of this node: longer than an API server takes, shorter than a restart may
# leave calls unseen.
FIRST_LIST_SECONDS: Final = 3.0


class Node:
    """Who is on this node: identities for the describer, listeners for the coverage."""

    def __init__(self, settings: SensorSettings, cgroup_mount: Path | None, clock: Clock) -> None:
        boot_unix_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.gaps = Gaps(settings.state_dir / FILE_NAME, unix_ns=clock.unix_ns, boot_unix_ns=boot_unix_ns)
        self._cluster = open_cluster(settings, os.environ)
        self._cluster_name = settings.cluster
        tables = build_node(
            cluster=settings.cluster,
            node=settings.node,
            cgroup_mount=cgroup_mount,
            proc=settings.proc_path,
            count_sockmaps=count_sockmap_programs,
            pods=self._cluster,
        )
        self.identity, self._listeners, self._hidden = tables.identity, tables.listeners, tables.hidden
        self._containers, self._zone = tables.containers, settings.zone
        self._cgroup_watch = tables.cgroup_watch
        self._memory = PortMemory()
        self.unread = UnreadProcesses()
        self.left_out = Account()
        self.attacks = AttackAccount()

    def start(self) -> None:
        """Follow cgroups and Pods; a first call is named where the API answers within seconds."""
        if self._cgroup_watch is not None:
            self._cgroup_watch.start()
        if self._cluster is not None:
            self._cluster.start(wait_seconds=FIRST_LIST_SECONDS)

    def stop(self) -> None:
        """No longer."""
        if self._cgroup_watch is not None:
            self._cgroup_watch.stop()
        if self._cluster is not None:
            self._cluster.stop()

    @property
    def degradation(self) -> str:
        """What Kubernetes does not tell now."""
        return self._cluster.degradation if self._cluster is not None else ""

    def rename(self) -> bool:
        """Take up what Kubernetes told."""
        return self.identity.rename()

    def workloads(self) -> Sequence[WorkloadFacts]:
        """Kinds, labels and zone of Pods' workloads; images of containers that are in none."""
        containers = self._containers.workloads(cluster=self._cluster_name, zone=self._zone)
        if self._cluster is None:
            return containers
        of_pods = list_workloads(
            self._cluster.pods.all(),
            cluster=self._cluster_name,
            zone=self._cluster.zone,
            former=self.identity.former_names.by_workload(),
        )
        return [*of_pods, *containers][:WORKLOADS_MAX]

    def figures(self) -> tuple[Figure, ...]:
        """Of Kubernetes, and of what is left out."""
        left_out = Figure(
            name="left_out_calls",
            documentation="Calls seen and not told, by choice: switched off, or probes",
            value=self.left_out.calls,
            is_total=True,
        )
        of_cluster = self._cluster.figures() if self._cluster is not None else ()
        return (left_out, *self.attacks.figures(), *self.gaps.figures(), *of_cluster)

    def refresh(self) -> None:
        """Read cgroups, listeners and their processes anew."""
        self.identity.refresh()
        self._hidden.refresh()

    def ports(self) -> list[int]:
        """Ports on which somebody listens."""
        return [listener.port for listener in self._listeners.all()]

    def servers(self) -> list[Server]:
        """Who listens, as blocks name it."""
        named = [(listener, self.identity.listener_service(listener)) for listener in self._listeners.all()]
        return [
            Server(
                cgroup_id=listener.cgroup_id,
                port=listener.port,
                namespace=service.namespace,
                workload=service.workload,
            )
            for listener, service in named
        ]

    def cover(self, counts: Sequence[PortCount], counters: Mapping[Counter, int]) -> Sequence[PortCoverage]:
        """Every port, with what is read of it, and what the kernel side missed."""
        unknown_service = self.identity.unknown_service
        rows = cover_ports(
            counts,
            self._listeners.all(),
            name_service=self.identity.listener_service,
            name_client=self.identity.client_service,
            unknown_service=unknown_service,
            hidden=self._read_hidden(),
            memory=self._memory,
            why_unread=self.unread.why,
        )
        missed = (*list_limits(counters, unknown_service), *self.gaps.cover(unknown_service))
        return [*rows, *missed, *cover_attacks(self.attacks, unknown_service), *self.left_out.cover(unknown_service)]

    def _read_hidden(self) -> Hidden:
        reading = self._hidden.reading
        return Hidden(
            unix_ports=tuple(
                UnixPort(
                    service=self.identity.process_service(process),
                    path=listener.path,
                    open_connections=listener.open_connections,
                )
                for listener, process in reading.unix
            ),
            datagram_listeners=reading.datagrams,
            kernel_tls=dict(reading.kernel_tls),
            sockmap_programs=reading.sockmap_programs,
        )


class Knowledge:
    """What the kernel is taught, for the whole life of the sensor: under whichever installation key."""

    def __init__(self, settings: SensorSettings, clock: Clock, aggregator: Aggregator, node: Node) -> None:
        self.gate = Gate(
            node.identity,
            node.left_out,
            unpack_overflow=OVERFLOW_KEY.unpack,
            is_telling_probes=settings.is_telling_probes,
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
            is_recognising=settings.is_recognising,
            head_sample_ns=int(settings.head_sample_seconds * 1e9),
            samples_per_second=settings.samples_per_second,
            heads_per_second=settings.heads_per_second,
            heads_burst=settings.heads_burst_count,
            body_bytes_per_second=settings.body_bytes_per_second if settings.is_reading_bodies else 0,
            body_sample_ns=int(settings.body_sample_seconds * 1e9),
            body_first_samples=settings.body_first_samples_count,
        )
        self.pieces = Pieces()
        self.tls_bodies = BodyMeter(self.settings.body_bytes_per_second)
        self.alike = AlikeCalls[Exchange]()
        rule = SampleRule(
            first_count=settings.body_first_samples_count, interval_ns=int(settings.body_sample_seconds * 1e9)
        )
        self.schemas = SchemaBook(load_vocabulary(), rule)
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
                consumer_order=tuple(column.value for column in settings.consumer_order),
            ),
            knowledge.bodies,
            open_attacks(keyed_hash, bytes_per_second=settings.attack_bytes_per_second, account=node.attacks),
            knowledge.schemas,
        )
        self._schemas = knowledge.schemas
        self._attacks = node.attacks
        self._bodies, self._pieces = knowledge.bodies, knowledge.pieces
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
        # Bound here: called once for every call.
        self._describe, self._judge, self._see = describer.describe, knowledge.gate.judge, enforcement.see
        enforcement.set_identify(describer.identify)
        self.find_estimate = describer.find_estimate
        self.learn = self._recogniser.learn
        self.flush = self._recogniser.flush
        self.forget = self._recogniser.forget
        self.rest = self._recogniser.rest

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

    def check_services(self) -> None:
        """The node was read anew."""
        self._recogniser.check_services(self._identity.server)

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._templater.apply_reveal(hashes)

    def figures(self) -> tuple[Figure, ...]:
        """Of the recogniser and the templater."""
        templater = self._templater
        totals = (
            ("folded_calls", "Calls told under the host `other`", templater.folded_calls),
            ("other_calls", "Calls told under an `other` route", templater.other_calls),
            ("unserved_other_calls", "Of those, not served", templater.unserved_other_calls),
            ("evicted_services", "Services forgotten because there were too many", templater.evicted_services),
        )
        return (
            *self._recogniser.figures(),
            *self._bodies.figures(),
            *self._schemas.figures(),
            Figure(
                name="bodies_given_up",
                documentation="Calls whose bodies came and whose end did not",
                value=self._pieces.given_up,
                is_total=True,
            ),
            Figure(
                name="fast_probes",
                documentation="Calls told although they say they are probes: they came too often",
                value=self._gate.fast_probes,
                is_total=True,
            ),
            *(Figure(name=name, documentation=text, value=value, is_total=True) for name, text, value in totals),
        )


def find_mount(settings: SensorSettings) -> Path | None:
    """Where cgroup v2 is, at or below `cgroup_path`; None where it is not."""
    return find_cgroup2_mount(MOUNTS_PATH.read_text(), settings.cgroup_path)


def compose_sensor(
    settings: SensorSettings, *, on_capturing: Callable[[], None], prepared: Prepared | None = None
) -> tuple[Sensor, Uplink]:
    """The sensor and its uplink, nothing attached and nothing dialled yet; call it in the loop they will run in.
    `prepared`: what was made ready and given while this sensor waited.

    Raises StateError and SpoolError where the disk cannot be used, ValueError for a collector address without a port.
    """
    clock = Clock()
    boot_id = uuid4().hex
    state = StateDirectory(settings.state_dir)
    spool = Spool(state.spool_path, boot_id=boot_id, limit_bytes=settings.spool_bytes)
    cgroup_mount = find_mount(settings)
    node = Node(settings, cgroup_mount, clock)
    # TLS begins only when the rest does.
    if prepared is not None and prepared.attached_unix_ns is not None and not settings.is_reading_tls:
        node.gaps.note_attached(prepared.attached_unix_ns)
    aggregator = _make_aggregator(settings)
    knowledge = Knowledge(settings, clock, aggregator, node)
    enforcement = Enforcement(
        settings,
        clock,
        list_servers=node.servers,
        list_namespaces=ProcessTable(settings.proc_path).network_namespaces,
        proc=settings.proc_path,
    )
    sensor = Sensor(
        settings=RunSettings(
            poll_interval_seconds=settings.poll_interval_ms / 1000,
            first_contact_timeout_seconds=settings.first_contact_timeout_seconds,
        ),
        clock=clock,
        state=state,
        spool=spool,
        open_capture=partial(
            open_capture,
            settings,
            cgroup_mount,
            clock,
            knowledge.pieces,
            knowledge.alike,
            prepared,
            knowledge.mirror.begin_after,
            node.unread,
            knowledge.tls_bodies,
        ),
        make_describer=partial(NodeDescriber, settings, node, knowledge, enforcement),
        make_pipeline=partial(_make_pipeline, settings, boot_id, clock, aggregator, knowledge.alike, enforcement),
        enforcement=enforcement,
        node=node,
        schemas=knowledge.schemas,
        gaps=node.gaps,
        governor=Governor(
            GovernorSettings(
                core_share=settings.capture_budget_core_share,
                heads_per_second=settings.heads_per_second,
                floor_heads_per_second=min(settings.floor_heads_per_second, settings.heads_per_second),
                body_bytes_per_second=knowledge.settings.body_bytes_per_second,
                floor_body_bytes_per_second=min(
                    settings.floor_body_bytes_per_second, knowledge.settings.body_bytes_per_second
                ),
            )
        ),
        on_capturing=on_capturing,
        heirs=make_heirs(settings, cgroup_mount),
    )
    target = parse_target(settings.collector)
    uplink = Uplink(
        settings=UplinkSettings(
            target=target,
            identity=SensorIdentity(
                cluster=settings.cluster,
                node=settings.node,
                boot_id=boot_id,
                version=VERSION,
                kernel_release=os.uname().release,
            ),
            token=settings.read_token,
        ),
        keeper=CertificateKeeper(
            KeeperSettings(
                target=target,
                cluster=settings.cluster,
                node=settings.node,
                server_name=settings.collector_server_name,
                token_file=settings.enrollment_token_file,
            ),
            open_certificates(settings, state),
            clock,
        ),
        spool=spool,
        clock=clock,
        listener=sensor,
        random_source=random.SystemRandom().random,
    )
    return sensor, uplink


def open_certificates(settings: SensorSettings, state: StateDirectory) -> CertificateFiles:
    """The sensor's certificate and what it trusts, where the settings say they are."""
    return CertificateFiles(
        state,
        ca_file=settings.collector_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )


def _make_aggregator(settings: SensorSettings) -> Aggregator:
    limits = WindowLimits(
        window_seconds=settings.window_seconds,
        merged_window_seconds=settings.merged_window_seconds,
        rows_per_endpoint=settings.rows_per_endpoint_count,
        rows_per_window=settings.rows_per_window_count,
    )
    return Aggregator(limits=limits, consumer_order=settings.consumer_order)


def _make_pipeline(
    settings: SensorSettings,
    boot_id: str,
    clock: Clock,
    aggregator: Aggregator,
    alike: AlikeCalls[Exchange],
    enforcement: Enforcement,
    describer: PipelineDescriber,
    key_id: int,
) -> Pipeline:
    return Pipeline(
        describer=describer,
        aggregator=aggregator,
        converter=BatchConverter(node=settings.node, boot_id=boot_id),
        clock=clock,
        key_id=key_id,
        alike=alike,
        on_rows=enforcement.add_rows,
        watch=enforcement,
    )
