"""Builds the identity of this node for the sensor's composition root, and wires its tables to the running kernel."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.figures import Figure, make_gauges, make_totals
from sensor.enrich.cgroup_tree import CgroupTree, CgroupWatch
from sensor.enrich.containers import ContainerTable, read_container
from sensor.enrich.hidden import HiddenTable
from sensor.enrich.identity import NodeIdentity
from sensor.enrich.listeners import ListenerTable
from sensor.enrich.own_traffic import OwnTraffic
from sensor.enrich.processes import ProcessTable
from sensor.enrich.program_files import ProgramFiles
from sensor.enrich.sockets import KernelSockets
from sensor.enrich.user_files import FileReader

if TYPE_CHECKING:
    from sensor.enrich.kubernetes.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTables:
    """What is known of the node. Nothing is read yet: call `refresh` of each, and start the watch."""

    identity: NodeIdentity
    cgroups: CgroupTree
    listeners: ListenerTable
    containers: ContainerTable
    hidden: HiddenTable
    own_traffic: OwnTraffic
    cgroup_watch: CgroupWatch | None  # None where there is no cgroup v2.
    reader: FileReader

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: what of the node was not read, so that services or clients have no name."""
        loss, watch = self.listeners.loss, self.cgroup_watch
        gauges = (
            ("unlisted_cgroups", "Cgroups of the node beyond the most that are listed.", self.cgroups.left_out_count),
            (
                "unlisted_processes",
                "Processes and descriptors of the node beyond the most that are looked through.",
                loss.left_out_count,
            ),
            (
                "unreadable_processes",
                "Processes whose descriptors the sensor may not read.",
                loss.unreadable_process_count,
            ),
            (
                "unreadable_network_namespaces",
                "Network namespaces whose sockets the sensor may not read.",
                loss.unreadable_namespace_count,
            ),
        )
        text = "Cgroups not watched for new ones: those are found by the next walk."
        unwatched = ("unwatched_cgroups", text, watch.left_out_count if watch is not None else 0)
        return (*make_gauges(gauges), *make_totals([unwatched]), *self.reader.figures())


def build_node(
    *,
    cluster: str,
    node: str,
    cgroup_mount: Path | None,
    proc: Path = Path("/proc"),
    host_root: Path = Path("/"),
    clock: Callable[[], float] = time.monotonic,
    count_sockmaps: Callable[[], int] = lambda: 0,
    pods: "Cluster | None" = None,
) -> NodeTables:
    """The identity, the listeners it asks, and what only the coverage needs.

    `cgroup_mount` is `find_cgroup2_mount`'s, None where there is none; `host_root` is where the host's files are
    mounted, for names and images of containers; `pods`: who Kubernetes says they are.
    """
    reader = FileReader(clock)
    processes = ProcessTable(proc, partial(ProgramFiles, reader.read))
    sockets = KernelSockets(processes.network_namespaces, root=proc)
    listeners = ListenerTable(sockets, processes, clock=clock)
    cgroups = CgroupTree(cgroup_mount, clock=clock)
    watch = CgroupWatch(cgroup_mount, on_added=cgroups.add, on_lost=cgroups.walk) if cgroup_mount else None
    containers = ContainerTable(partial(read_container, read=reader.read, root=host_root))
    identity = NodeIdentity(
        cluster=cluster,
        node=node,
        cgroups=cgroups,
        listeners=listeners,
        sockets=sockets,
        processes=processes,
        name_container=containers.name,
        clock=clock,
        pods=pods,
    )
    hidden = HiddenTable(processes, clock=clock, count_sockmaps=count_sockmaps, root=proc)
    return NodeTables(
        identity=identity,
        cgroups=cgroups,
        listeners=listeners,
        containers=containers,
        hidden=hidden,
        own_traffic=OwnTraffic(listeners, processes, cgroups, clock=clock),
        cgroup_watch=watch,
        reader=reader,
    )
