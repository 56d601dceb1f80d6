"""Which workloads have or had Pods on which nodes of one cluster: what a sensor may speak for. Pure.

A workload that left a node is remembered as long as its rows may come late. What the store knew at the start counts
like what left then, so that rows of Pods that ended while the collector was away are still their workload's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from collector.kubernetes.rows import Peer, PeerKind
from collector.kubernetes.state import Pod

REMEMBERED_SECONDS: Final = 8 * 86_400  # A day more than the age up to which rows are accepted.
PLACES_LIMIT: Final = 500_000  # 5,000 nodes with 100 workloads each; about 120 MB.
_Place = tuple[str, str, str]  # Node, namespace, workload.


@dataclass(slots=True)
class _Stay:
    pods: int = 0
    left_at: float = 0.0


class Placements:
    """One thread writes, others read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Empty. `clock` gives unix seconds."""
        self._clock = clock
        self._stays: dict[_Place, _Stay] = {}

    def load(self, peers: Iterable[Peer]) -> None:
        """Pods of the store, those that ended within the time included."""
        now = self._clock()
        for peer in peers:
            if (
                peer.kind == PeerKind.POD.value
                and peer.node
                and (not peer.until or peer.until > now - REMEMBERED_SECONDS)
            ):
                stay = self._stays.setdefault((peer.node, peer.namespace, peer.workload), _Stay())
                stay.left_at = max(stay.left_at, peer.until or now)

    def follow(self, before: Pod | None, after: Pod | None) -> None:
        """A Pod came, changed or went."""
        if after is not None and after.node:
            self._find(after).pods += 1
        if before is not None and before.node:
            stay = self._find(before)
            stay.pods -= 1
            stay.left_at = self._clock()
        if len(self._stays) > PLACES_LIMIT:
            self._forget()

    def holds(self, node: str, namespace: str, workload: str) -> bool:
        """Whether a workload has Pods on a node, or had some of late."""
        stay = self._stays.get((node, namespace, workload))
        return stay is not None and (stay.pods > 0 or stay.left_at > self._clock() - REMEMBERED_SECONDS)

    def _find(self, pod: Pod) -> _Stay:
        return self._stays.setdefault((pod.node, pod.namespace, pod.workload.name), _Stay())

    def _forget(self) -> None:
        """Half of those that left, the oldest first."""
        left = sorted((place for place, stay in self._stays.items() if stay.pods <= 0), key=self._left_at)
        for place in left[: max(len(left) // 2, 1)]:
            self._stays.pop(place, None)

    def _left_at(self, place: _Place) -> float:
        return self._stays[place].left_at
