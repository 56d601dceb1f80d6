"""A Pod as this room keeps it: a few hundred bytes of the ten thousand that the API server sends."""

import sys
from dataclasses import dataclass

from collector.kubernetes.objects import Address, PodObject
from collector.kubernetes.timestamp import read_time
from collector.kubernetes.workload import Workload, find_workload

_ENDED = frozenset({"Succeeded", "Failed"})  # Its address may be another's already.


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port that a container declares; `host_port` is 0 where the node does not forward one."""

    number: int
    name: str
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`addresses` is empty before it has any and after it has ended. `started_at`: unix seconds, 0 where unknown."""

    namespace: str
    name: str
    uid: str
    workload: Workload
    node: str
    addresses: tuple[str, ...]
    node_addresses: tuple[str, ...]
    is_host_network: bool
    started_at: int
    labels: tuple[tuple[str, str], ...]
    ports: tuple[PodPort, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


def read_pod(pod: PodObject) -> Pod:
    """What is kept of a Pod; equal texts are one object in memory."""
    spec, status, metadata = pod.spec, pod.status, pod.metadata
    containers = (*(spec.containers or ()), *(spec.init_containers or ()))
    workload = find_workload(pod)
    has_ended = status.phase in _ENDED
    return Pod(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        workload=Workload(kind=sys.intern(workload.kind), name=sys.intern(workload.name)),
        node=sys.intern(spec.node_name),
        addresses=() if has_ended else _read_addresses(status.pod_ip, status.pod_ips),
        node_addresses=tuple(map(sys.intern, _read_addresses(status.host_ip, status.host_ips))),
        is_host_network=bool(spec.host_network),
        started_at=read_time(status.start_time),
        labels=tuple((sys.intern(key), sys.intern(value)) for key, value in sorted((metadata.labels or {}).items())),
        ports=tuple(
            PodPort(port.container_port, sys.intern(port.name), port.host_port or 0)
            for container in containers
            for port in container.ports or ()
            if port.protocol == "TCP"
        ),
    )


def _read_addresses(first: str, others: tuple[Address, ...] | None) -> tuple[str, ...]:
    """Without what comes twice: the first is in the list too."""
    found = dict.fromkeys([first, *(other.ip for other in others or ())])
    return tuple(text for text in found if text)
