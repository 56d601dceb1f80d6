"""The sensor's view of its node: listeners, processes, containers and Pods, and the coverage of its ports."""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from common.figures import Figure, list_figures, make_totals
from sensor.capture.java.attachments import Attachments
from sensor.capture.java.consent import Consent, JvmNames
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.attachments import Journal
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.health import AttackAccount, Failures
from sensor.coverage.gaps import FILE_NAME, Gaps
from sensor.coverage.limits import Restraint, cover_attacks, cover_failures, cover_restraint, list_limits
from sensor.coverage.report import Hidden, PortMemory, UnixPort, cover_ports
from sensor.coverage.row import PortCount, PortCoverage
from sensor.coverage.unread import ClientLosses, Unread, cover_unread, name_unread
from sensor.describe.client_address import ClientAddresses
from sensor.describe.filter import ExclusionAccount
from sensor.ebpf.abi import Counter
from sensor.ebpf.bpf_syscall import count_sockmap_programs
from sensor.enforce.tables import Server
from sensor.enrich.cgroup import own_path
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.enrich.kubernetes.open import open_cluster
from sensor.enrich.kubernetes.pod import WORKLOADS_MAX, Pod, WorkloadFacts, list_workloads
from sensor.enrich.listeners import Listener
from sensor.enrich.node import build_node
from sensor.enrich.own_traffic import CollectorTraffic, FindClient
from sensor.enrich.processes import Process

logger = logging.getLogger(__name__)

# At most so long a start waits for the Pods of this node: longer than an API server takes, shorter than a restart may
# leave calls unseen.
FIRST_LIST_SECONDS: Final = 3.0
# Reported of the node's network, 16 KB each time. Where kube-proxy keeps all Services there, more may be left.
NODE_ADDRESSES_MAX: Final = 1_024


class Node:
    """Who is on this node: identities for the describer, listeners for the coverage."""

    def __init__(self, settings: SensorSettings, scope: CgroupScope, clock: Clock, failures: Failures) -> None:
        """`scope`: nothing of this node is reported that is outside of it; `failures`: of the whole sensor."""
        self._scope = scope
        boot_unix_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.gaps = Gaps(settings.state_dir / FILE_NAME, unix_ns=clock.unix_ns, boot_unix_ns=boot_unix_ns)
        self._cluster = open_cluster(settings, os.environ)
        self._cluster_name = settings.cluster
        tables = build_node(
            cluster=settings.cluster,
            node=settings.node,
            cgroup_mount=scope.mount,
            proc=settings.proc_path,
            count_sockmaps=count_sockmap_programs,
            pods=self._cluster,
        )
        self._tables = tables
        self.identity, self._listeners, self._hidden = tables.identity, tables.listeners, tables.hidden
        self._containers, self._zone = tables.containers, settings.zone
        self._cgroups, self._cgroup_watch = tables.cgroups, tables.cgroup_watch
        self.own_traffic = tables.own_traffic  # Whose calls are excluded as Apidae's own.
        self._memory = PortMemory()
        self._proxies = ClientAddresses(map(str, settings.trusted_proxy_cidrs))
        self._pids: frozenset[int] = frozenset()  # In the scope; of the whole host none are asked for.
        self.unread = UnreadProcesses()
        self.attachments = Journal()
        self._config_directory, self._proc = settings.directory, str(settings.proc_path)
        self.exclusions = ExclusionAccount()
        self.attacks = AttackAccount()
        self._failures = failures

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
        self._tables.reader.close()

    def identify_own_traffic(self, collector: CollectorTraffic) -> None:
        """What the collector says of its own traffic from now on."""
        self.own_traffic.identify(collector)

    def set_client_finder(self, find_client: FindClient) -> None:
        """How the capture that is open knows the socket of a client on this node."""
        self.own_traffic.set_client_finder(find_client)

    @property
    def degradation(self) -> str:
        """What Kubernetes does not report now."""
        return self._cluster.degradation if self._cluster is not None else ""

    def find_lost_scope(self) -> str:
        """Why nothing can be seen any more: the watched cgroup is gone. A unit has another one after a restart."""
        if self._scope.is_there():
            return ""
        return (
            f"the watched cgroup {self._scope.directory} is gone, or another has taken its name: start the sensor "
            "again to watch that one, or name one that stays, as a slice, with --cgroup-path"
        )

    def rename(self) -> bool:
        """Apply what Kubernetes reported."""
        return self.identity.rename()

    def list_addresses(self) -> Sequence[str]:
        """Of the node's own network, without those that its API server lists."""
        return sorted(self.identity.list_node_addresses())[:NODE_ADDRESSES_MAX]

    def workloads(self) -> Sequence[WorkloadFacts]:
        """Kinds, labels and zone of Pods' workloads; images of containers that are in none."""
        containers = self._containers.workloads(cluster=self._cluster_name, zone=self._zone)
        if self._cluster is None:
            return containers
        of_pods = list_workloads(
            self._list_pods(self._cluster.pods.all()),
            cluster=self._cluster_name,
            zone=self._cluster.zone,
            former=self.identity.former_names.by_workload(),
        )
        return [*of_pods, *containers][:WORKLOADS_MAX]

    def figures(self) -> tuple[Figure, ...]:
        """Of Kubernetes, what is not read of the node, and what is left out."""
        text = "Calls that were excluded: of workloads switched off, of probes, of Apidae itself."
        of_cluster = self._cluster.figures() if self._cluster is not None else ()
        return (
            *make_totals([("left_out_calls", text, self.exclusions.calls)]),
            *list_figures(self.attacks, "attacks_"),
            *self.gaps.figures(),
            *self._tables.figures(),
            *self._failures.figures(),
            *self.attachments.figures(),
            *of_cluster,
        )

    def refresh(self) -> None:
        """Read cgroups, listeners and their processes anew."""
        for read in (
            *(self.identity.refresh, self._refresh_own_traffic, self._hidden.refresh, self._read_pids),
            self._tables.reader.close_idle,
        ):
            try:
                read()
            except Exception:
                # What was known of this part stays, and the other parts are read.
                logger.exception("reading the node's processes and sockets failed")

    def _refresh_own_traffic(self) -> None:
        self.own_traffic.refresh()

    def _read_pids(self) -> None:
        self._pids = self._scope.read_pids() or frozenset()

    def ports(self) -> list[int]:
        """Ports on which somebody listens."""
        return [listener.port for listener in self._list_listeners()]

    def open_attachments(self) -> Attachments:
        """Attaches the Java agent to JVMs of this node, as the file beside the settings consents."""
        identity, scope, proc = self.identity, self._scope, self._proc

        def describe(pid: int) -> JvmNames:
            cgroup_id = scope.find_cgroup_id(proc, pid)
            names = scope.find_cgroup_path(proc, pid), identity.pod_workload(cgroup_id)
            return JvmNames(names=names, pod=identity.find_consent(cgroup_id))

        return Attachments(
            Consent(self._config_directory, lambda: identity.consent_generation),
            time.monotonic,
            describe=describe,
            name_service=lambda pid: identity.client_service(scope.find_cgroup_id(proc, pid)),
            journal=self.attachments,
        )

    def servers(self) -> list[Server]:
        """Who listens, as blocks name it."""
        named = [(listener, self.identity.listener_service(listener)) for listener in self._list_listeners()]
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
        self, counts: Sequence[PortCount], counters: Mapping[Counter, int], restraint: Restraint, unread: Unread
    ) -> Sequence[PortCoverage]:
        """Every port, with what is read of it, what the kernel side missed, what clients sent that no call explains,
        and what the budget held back."""
        unknown_service = self.identity.unknown_service
        rows = cover_ports(
            counts,
            self._list_listeners(),
            name_service=self.identity.listener_service,
            name_client=self.identity.client_service,
            unknown_service=unknown_service,
            hidden=self._read_hidden(),
            memory=self._memory,
            why_unread=self.unread.why,
            is_own=self.own_traffic.is_own_listener,
        )
        missed = (
            *list_limits(counters, unknown_service),
            *cover_unread(self.name_unread(unread, counts)),
            *cover_restraint(restraint, unknown_service),
            *self.gaps.cover(unknown_service),
            *cover_failures(self._failures.counts, unknown_service),
        )
        return [*rows, *missed, *cover_attacks(self.attacks, unknown_service), *self.exclusions.cover(unknown_service)]

    def name_unread(self, unread: Unread, counts: Sequence[PortCount]) -> ClientLosses:
        """What clients sent that no call explains, by service."""
        return name_unread(
            unread,
            counts,
            name_service=lambda cgroup_id, port: self.identity.server(cgroup_id, port, "")[0],
            is_proxy=self._proxies.is_trusted,
        )

    def _is_listed(self, process: Process | None) -> bool:
        """Whether unix sockets of a process are: those in the scope, without Apidae's own."""
        if process is None:
            return self._scope.is_whole_host
        if self.own_traffic.is_own_process(process.pid):
            return False
        return self._scope.is_whole_host or process.pid in self._pids

    def _list_listeners(self) -> list[Listener]:
        return [listener for listener in self._listeners.all() if self._is_watched(listener.cgroup_id)]

    def _is_watched(self, cgroup_id: int) -> bool:
        """Whether a socket of this cgroup is in the scope."""
        if self._scope.is_whole_host:
            return True
        return cgroup_id != 0 and self._scope.contains(self._cgroups.path(cgroup_id))

    def _list_pods(self, pods: Iterable[Pod]) -> Iterable[Pod]:
        """Those that have a cgroup in the scope."""
        if self._scope.is_whole_host:
            return pods
        uids = {own_path(path).pod_uid for path in self._cgroups.paths() if self._scope.contains(path)}
        return [pod for pod in pods if pod.uid in uids]

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
                if self._is_listed(process)
            ),
            datagram_listeners=tuple(one for one in reading.datagrams if self._is_watched(one.cgroup_id)),
            kernel_tls={key: count for key, count in reading.kernel_tls if self._is_watched(key[0])},
            sockmap_programs=reading.sockmap_programs,
        )
