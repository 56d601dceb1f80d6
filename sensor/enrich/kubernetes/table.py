"""The Pods of this node by uid, container id and address. The watch writes them, the identity reads them. Thread-safe.

A Pod that is gone keeps its name for five minutes, for calls that are read after its end. It may have started, served
one call and ended between two readings.

`PodAddresses` names clients by address and time. A client that calls through a Service address is on this node like any
other, but the ends of its connection have different addresses (DNAT). So the server's end does not lead to the client's
socket, but it has the address of the client's Pod. Where more than one Pod held the address in that time, nobody is
named. Addresses of the host's network are nobody's.
"""

import ipaddress
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from sensor.enrich.kubernetes.pod import Pod

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Holding:
    """A Pod's time with an address, in unix ns. The end is that of the watch, which is late rather than early."""

    object_uid: str
    place: str  # namespace/workload
    first_ns: float
    last_ns: float  # Infinite while it has it.


class PodAddresses:
    """Addresses of Pods that are there, and of those that `forget` was not called for."""

    def __init__(self) -> None:
        self._by_address: dict[str, tuple[_Holding, ...]] = {}
        self._by_pod: dict[str, tuple[str, ...]] = {}  # By metadata.uid; every address that it ever had.

    def find(self, address: str, first_ns: int, last_ns: int) -> str:
        """`namespace/workload` of the only Pod that held an address from `first_ns` to `last_ns` (unix ns); empty where
        none did all the time, or more than one within it. 0.2 us for an address of no Pod, 0.6 us for one's."""
        holdings = self._by_address.get(address)
        if holdings is None:
            return ""
        met = [one for one in holdings if one.first_ns <= last_ns and one.last_ns >= first_ns]
        if len(met) != 1 or met[0].first_ns > first_ns or met[0].last_ns < last_ns:
            return ""
        return met[0].place

    def put(self, pod: Pod, now_ns: int) -> None:
        """A Pod is new, or something of it changed."""
        uid = pod.object_uid
        held = () if pod.is_host_network else tuple(map(_normalise, pod.addresses))
        before = self._by_pod.get(uid, ())
        for address in {*held, *before}:
            known = next((one for one in self._by_address.get(address, ()) if one.object_uid == uid), None)
            # Without the kubelet's word: since when it was heard of.
            first_ns = known.first_ns if known else pod.started_at * _SECOND_NS or now_ns
            is_held = address in held and not pod.has_ended
            last_ns = math.inf if is_held else min(known.last_ns if known else math.inf, now_ns)
            self._set(address, uid, _Holding(uid, f"{pod.namespace}/{pod.workload}", first_ns, last_ns))
        if held or before:
            self._by_pod[uid] = tuple({*held, *before})

    def end(self, object_uid: str, now_ns: int) -> None:
        """A Pod is gone."""
        for address in self._by_pod.get(object_uid, ()):
            for one in self._by_address[address]:
                if one.object_uid == object_uid:
                    self._set(address, object_uid, replace(one, last_ns=min(one.last_ns, now_ns)))

    def forget(self, object_uid: str) -> None:
        """A Pod has been gone for so long that no call of it comes any more."""
        for address in self._by_pod.pop(object_uid, ()):
            self._set(address, object_uid, None)

    def _set(self, address: str, object_uid: str, holding: _Holding | None) -> None:
        others = tuple(one for one in self._by_address.get(address, ()) if one.object_uid != object_uid)
        holdings = others if holding is None else (*others, holding)
        if holdings:
            self._by_address[address] = holdings
        else:
            self._by_address.pop(address, None)


def _normalise(address: str) -> str:
    """As the kernel's addresses are written; what is none stays as it is, and no call comes from it."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


# Longer than a call waits anywhere before it is named (windows of 60 s while the collector is away).
KEEP_SECONDS: Final = 300.0
# A kubelet allows 110 Pods by default, 500 where it is raised; each may be replaced several times in five minutes.
MAX_GONE: Final = 4_096


class PodTable:
    """What is known of this node's Pods."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        keep_seconds: float = KEEP_SECONDS,
        unix_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`clock` gives monotonic seconds, `unix_clock` unix ns."""
        self._clock = clock
        self._unix_clock = unix_clock
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}  # By metadata.uid; those that are gone too.
        self._gone: dict[str, float] = {}  # When, by metadata.uid, in this order.
        self._by_uid: dict[str, Pod] = {}  # By the uid in the cgroup's path.
        self._by_container: dict[str, Pod] = {}
        self.addresses = PodAddresses()
        # Rises with each change of what a Pod is called or whether it is watched: names made before may be old.
        self.generation = 0
        self.evicted_count = 0  # Pods that were gone and were forgotten before their time.

    def find(self, *, container_id: str, pod_uid: str) -> Pod | None:
        """The Pod of a cgroup: by the uid in its path, which is known before a container runs, else by the container.
        0.2 us."""
        return self._by_uid.get(pod_uid) or self._by_container.get(container_id)

    def __len__(self) -> int:
        """Pods that are there."""
        return len(self._pods) - len(self._gone)

    def all(self) -> tuple[Pod, ...]:
        """Those that are there."""
        with self._lock:
            return tuple(pod for uid, pod in self._pods.items() if uid not in self._gone)

    def replace(self, pods: Iterable[Pod]) -> None:
        """A whole list: what is not in it is gone."""
        with self._lock:
            listed = {pod.object_uid: pod for pod in pods}
            for pod in listed.values():
                self._put(pod)
            for uid in self._pods.keys() - listed.keys() - self._gone.keys():
                self._end(uid)
            self._forget()

    def put(self, pod: Pod) -> None:
        """A Pod is new, or something of it changed."""
        with self._lock:
            self._put(pod)
            self._forget()

    def remove(self, object_uid: str) -> None:
        """A Pod is gone."""
        with self._lock:
            if object_uid in self._pods and object_uid not in self._gone:
                self._end(object_uid)
            self._forget()

    def _end(self, object_uid: str) -> None:
        self._gone[object_uid] = self._clock()
        self.addresses.end(object_uid, self._unix_clock())

    def _put(self, pod: Pod) -> None:
        was_gone = self._gone.pop(pod.object_uid, None) is not None
        known = self._pods.get(pod.object_uid)
        if known == pod and not was_gone:
            return
        self.addresses.put(pod, self._unix_clock())
        self._pods[pod.object_uid] = self._by_uid[pod.uid] = pod
        # An older container of the Pod, which was restarted, stays with it.
        self._by_container.update((container_id, pod) for container_id, _ in pod.containers)
        if known is None or _naming(known) != _naming(pod):
            self.generation += 1

    def _forget(self) -> None:
        """Drops those that have been gone for long, or are too many."""
        oldest = self._clock() - self._keep_seconds
        excess = len(self._gone) - MAX_GONE
        due = []
        for place, (uid, since) in enumerate(self._gone.items()):
            if since > oldest and place >= excess:
                break
            self.evicted_count += since > oldest
            due.append(uid)
        for uid in due:
            del self._gone[uid]
            pod = self._pods.pop(uid)
            self.addresses.forget(uid)
            if self._by_uid.get(pod.uid) is pod:
                del self._by_uid[pod.uid]
        if due:
            self._by_container = {key: pod for key, pod in self._by_container.items() if pod.object_uid in self._pods}


def _naming(pod: Pod) -> tuple[object, ...]:
    """What names of ends are made of."""
    return pod.uid, pod.workload, pod.workload_kind, pod.containers, pod.watch, pod.is_ingress
