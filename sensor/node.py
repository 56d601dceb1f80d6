"""Who is on this node: what it listens on, who its processes, containers and Pods are, what of it is read."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sensor.attacks.account import AttackAccount
from sensor.clock import Clock
from sensor.config import SensorSettings
from sensor.coverage.attacks import cover_attacks
from sensor.coverage.gaps import FILE_NAME, Gaps
from sensor.coverage.hidden import Hidden, UnixPort
from sensor.coverage.limits import list_limits
from sensor.coverage.report import PortMemory, cover_ports
from sensor.coverage.restraint import Restraint, cover_restraint
from sensor.coverage.row import PortCount, PortCoverage
from sensor.enforce.tables import Server
from sensor.enrich.kubernetes.facts import WORKLOADS_MAX, WorkloadFacts, list_workloads
from sensor.enrich.kubernetes.open import open_cluster
from sensor.enrich.node import build_node
from sensor.health import Figure
from sensor.kernel.abi import Counter
from sensor.kernel.sockmaps import count_sockmap_programs
from sensor.left_out.account import Account
from sensor.tls.unread import UnreadProcesses

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

    def cover(
        self, counts: Sequence[PortCount], counters: Mapping[Counter, int], restraint: Restraint
    ) -> Sequence[PortCoverage]:
        """Every port, with what is read of it, what the kernel side missed, and what the budget held back."""
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
        missed = (
            *list_limits(counters, unknown_service),
            *cover_restraint(restraint, unknown_service),
            *self.gaps.cover(unknown_service),
        )
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
