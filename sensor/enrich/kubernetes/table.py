"""The Pods of this node, by uid and by container id; written by the watch, asked by the identity.

A Pod that is gone keeps its name for five minutes, for the calls that are read after it: it may have started, served
one call and ended between two looks. Thread-safe.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from sensor.enrich.kubernetes.addresses import PodAddresses
from sensor.enrich.kubernetes.pod import Pod

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
