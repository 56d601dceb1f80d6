"""The composition root of `apidae sensor`: the one place that builds a running `Sensor` from settings."""

import os
import random
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Final
from uuid import uuid4

from sensor.agent.agent import RunSettings, Sensor
from sensor.agent.attach import Prepared, open_capture
from sensor.agent.enforcement import Enforcement
from sensor.agent.lock import NodeLock
from sensor.agent.node import Node
from sensor.agent.pipeline import CallProcessor, Pipeline, ProcessorState
from sensor.aggregate.aggregator import Aggregator
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.health import Failures
from sensor.core.read_tls import ReadTls
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.enrich.kubernetes.open import is_in_pod
from sensor.enrich.processes import ProcessTable
from sensor.export.certificates import CertificateFiles, CertificateKeeper, KeeperSettings
from sensor.export.client import Uplink, UplinkSettings
from sensor.export.convert import BatchConverter
from sensor.export.messages import SensorIdentity
from sensor.export.spool import Spool
from sensor.export.state import StateDirectory
from sensor.export.target import parse_target
from sensor.http.http2.streams import AlikeCalls
from sensor.offload.governor import Governor, GovernorSettings

VERSION: Final = version("apidae")
# How long the first start waits for a collector. A supervisor starts the sensor again; in a Pod that takes ever longer,
# and the collector may be installed at the same time.
FIRST_CONTACT_SECONDS: Final = 30.0
FIRST_CONTACT_POD_SECONDS: Final = 3_600.0
# Where the governor stops: below these, new routes and kinds of data are found too late to matter.
FLOOR_HEADS_PER_SECOND: Final = 100
FLOOR_BODY_BYTES_PER_SECOND: Final = 16 * 1024


def compose_sensor(
    settings: SensorSettings,
    scope: CgroupScope,
    lock: NodeLock,
    *,
    on_capturing: Callable[[], None],
    failures: Failures,
    prepared: Prepared | None = None,
) -> tuple[Sensor, Uplink]:
    """The sensor and its uplink, nothing attached and nothing dialled yet; call it in the loop they will run in.
    `scope`: what it watches, which `lock` keeps; `failures`: the filter of the log; `prepared`: what was loaded while
    this sensor waited.

    Raises StateError and SpoolError where the disk cannot be used.
    """
    clock = Clock()
    boot_id = uuid4().hex
    state = StateDirectory(settings.state_dir)
    spool = Spool(state.spool_path, boot_id=boot_id, limit_bytes=settings.spool_bytes)
    node = Node(settings, scope, clock, failures)
    # TLS begins only when the rest does.
    if prepared is not None and prepared.attached_unix_ns is not None and settings.read_tls is ReadTls.OFF:
        node.gaps.note_attached(prepared.attached_unix_ns)
    aggregator = Aggregator()
    processing = ProcessorState(settings, clock, aggregator, node)
    enforcement = Enforcement(
        settings,
        clock,
        list_servers=node.servers,
        list_namespaces=ProcessTable(settings.proc_path).network_namespaces,
        proc=settings.proc_path,
    )
    sensor = Sensor(
        settings=RunSettings(
            first_contact_timeout_seconds=FIRST_CONTACT_POD_SECONDS if is_in_pod() else FIRST_CONTACT_SECONDS,
            reads_tls=settings.read_tls is not ReadTls.OFF,
        ),
        clock=clock,
        state=state,
        spool=spool,
        open_capture=partial(
            open_capture,
            settings,
            scope,
            clock,
            processing.pieces,
            processing.alike,
            prepared,
            node.unread,
            processing.tls_bodies,
            node.open_attachments,
            node.identity.find_tls_choice,
            node.identity.cgroup_path,
        ),
        make_processor=partial(CallProcessor, settings, node, processing, enforcement),
        make_pipeline=partial(_make_pipeline, settings, boot_id, clock, aggregator, processing.alike, enforcement),
        enforcement=enforcement,
        node=node,
        schemas=processing.schemas,
        gaps=node.gaps,
        governor=Governor(
            GovernorSettings(
                core_share=settings.capture_budget_core_share,
                heads_per_second=settings.heads_per_second,
                floor_heads_per_second=min(FLOOR_HEADS_PER_SECOND, settings.heads_per_second),
                body_bytes_per_second=processing.settings.body_bytes_per_second,
                floor_body_bytes_per_second=min(FLOOR_BODY_BYTES_PER_SECOND, processing.settings.body_bytes_per_second),
                tls_calls_per_second=settings.heads_per_second if settings.read_tls is not ReadTls.OFF else 0,
                floor_tls_calls_per_second=min(FLOOR_HEADS_PER_SECOND, settings.heads_per_second),
            )
        ),
        on_capturing=on_capturing,
        lock=lock,
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


def _make_pipeline(
    settings: SensorSettings,
    boot_id: str,
    clock: Clock,
    aggregator: Aggregator,
    alike: AlikeCalls,
    enforcement: Enforcement,
    processor: CallProcessor,
    key_id: int,
) -> Pipeline:
    return Pipeline(
        processor=processor,
        aggregator=aggregator,
        converter=BatchConverter(node=settings.node, boot_id=boot_id),
        clock=clock,
        key_id=key_id,
        alike=alike,
        enforcement=enforcement,
    )
