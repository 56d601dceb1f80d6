"""The composition root of `apidae sensor`: from settings to a running `Sensor`, the one place where the real parts
meet."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from sensor.aggregate import Aggregator, WindowLimits
from sensor.clock import Clock
from sensor.config import SensorSettings
from sensor.convert import BatchConverter
from sensor.coverage import PortCount, PortCoverage, cover_ports
from sensor.describe import Describer, DescribeSettings
from sensor.enrich.cgroup_tree import find_cgroup2_mount
from sensor.enrich.node import build_identity
from sensor.kernel.capture import Capture
from sensor.keyed import KeyedHash
from sensor.pipeline import Describer as PipelineDescriber
from sensor.pipeline import Pipeline
from sensor.run import RunSettings, Sensor, StartError
from sensor.spool import Spool
from sensor.templating import Templater
from sensor.uplink.client import Uplink, UplinkSettings, parse_target
from sensor.uplink.messages import SensorIdentity
from sensor.uplink.state import InstallationKey, StateDirectory
from sensor.vocabulary import load_vocabulary

VERSION: Final = version("apidae")
MOUNTS_PATH: Final = Path("/proc/mounts")


class Node:
    """Who is on this node: identities for the describer, listeners for the coverage."""

    def __init__(self, settings: SensorSettings, cgroup_mount: Path) -> None:
        self.identity, self._listeners = build_identity(
            cluster=settings.cluster, node=settings.node, cgroup_mount=cgroup_mount
        )

    def refresh(self) -> None:
        """Read cgroups, listeners and their processes anew."""
        self.identity.refresh()

    def ports(self) -> list[int]:
        """Ports on which somebody listens."""
        return [listener.port for listener in self._listeners.all()]

    def cover(self, counts: Sequence[PortCount]) -> Sequence[PortCoverage]:
        """Every port, with what is read of it."""
        return cover_ports(
            counts,
            self._listeners.all(),
            name_service=self.identity.listener_service,
            unknown_service=self.identity.unknown_service,
        )


class NodeDescriber:
    """The describer under one installation key, with the templater that answers reveal requests."""

    def __init__(self, settings: SensorSettings, node: Node, key: InstallationKey) -> None:
        keyed_hash = KeyedHash(key.key_id, key.secret)
        self._templater = Templater(load_vocabulary(), keyed_hash)
        self._describer = Describer(
            self._templater,
            node.identity,
            keyed_hash,
            DescribeSettings(
                cluster=settings.cluster,
                trusted_networks=tuple(str(network) for network in settings.trusted_proxy_cidrs),
                consumer_order=tuple(column.value for column in settings.consumer_order),
            ),
        )
        # Bound here: called once for every call.
        self.describe = self._describer.describe

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._templater.apply_reveal(hashes)


def compose_sensor(settings: SensorSettings, *, on_capturing: Callable[[], None]) -> tuple[Sensor, Uplink]:
    """The sensor and its uplink, nothing attached and nothing dialled yet; call it in the loop they will run in.

    Raises StateError and SpoolError where the disk cannot be used, ValueError for a collector address without a port.
    """
    clock = Clock()
    boot_id = uuid4().hex
    state = StateDirectory(settings.state_dir)
    spool = Spool(state.spool_path, boot_id=boot_id, limit_bytes=settings.spool_bytes)
    cgroup_mount = _find_cgroup_mount(settings)
    node = Node(settings, cgroup_mount)
    sensor = Sensor(
        settings=RunSettings(
            poll_interval_seconds=settings.poll_interval_ms / 1000,
            first_contact_timeout_seconds=settings.first_contact_timeout_seconds,
        ),
        clock=clock,
        state=state,
        spool=spool,
        open_capture=partial(_open_capture, settings, cgroup_mount, clock),
        make_describer=partial(NodeDescriber, settings, node),
        make_pipeline=partial(_make_pipeline, settings, boot_id, clock),
        node=node,
        on_capturing=on_capturing,
    )
    uplink = Uplink(
        settings=UplinkSettings(
            target=parse_target(settings.collector),
            identity=SensorIdentity(
                cluster=settings.cluster,
                node=settings.node,
                boot_id=boot_id,
                version=VERSION,
                kernel_release=os.uname().release,
            ),
            token=settings.read_token,
            ca_file=settings.collector_ca_file,
            server_name=settings.collector_server_name,
        ),
        spool=spool,
        clock=clock,
        listener=sensor,
        random_source=random.SystemRandom().random,
    )
    return sensor, uplink


def _find_cgroup_mount(settings: SensorSettings) -> Path:
    mount = find_cgroup2_mount(MOUNTS_PATH.read_text(), settings.cgroup_path)
    if mount is None:
        raise StartError(
            f"no cgroup v2 is mounted at or below {settings.cgroup_path}; mount one or correct --cgroup-path"
        )
    return mount


def _open_capture(settings: SensorSettings, cgroup_mount: Path, clock: Clock) -> Capture:
    # Every cgroup but the root of the hierarchy has a cgroup.type (kernel, admin-guide/cgroup-v2).
    return Capture.load(
        cgroup_path=cgroup_mount,
        ring_bytes=settings.ring_bytes,
        is_root_cgroup=not (cgroup_mount / "cgroup.type").exists(),
        clock=clock,
    )


def _make_pipeline(
    settings: SensorSettings, boot_id: str, clock: Clock, describer: PipelineDescriber, key_id: int
) -> Pipeline:
    limits = WindowLimits(
        window_seconds=settings.window_seconds,
        merged_window_seconds=settings.merged_window_seconds,
        rows_per_endpoint=settings.rows_per_endpoint_count,
        rows_per_window=settings.rows_per_window_count,
    )
    return Pipeline(
        describer=describer,
        aggregator=Aggregator(limits=limits, consumer_order=settings.consumer_order),
        converter=BatchConverter(node=settings.node, boot_id=boot_id),
        clock=clock,
        key_id=key_id,
    )
