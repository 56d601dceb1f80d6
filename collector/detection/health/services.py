"""Maps endpoints to services, and chooses the endpoint under which a service's trouble is reported.

A service that fails does so at many endpoints, which are one incident. The first endpoint names it until nothing was
unusual for an hour. So one alert grows instead of many.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import State
from collector.detection.framework.slots import Slots, grow
from collector.detection.framework.subject_index import Placed
from collector.detection.framework.subjects import hash_text
from collector.inventory.endpoints.endpoint import name_service

EPISODE_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class _Episode:
    leader: int  # Slot of an endpoint.
    time: int  # Unix seconds of what was odd last.


class Services:
    """By endpoint slot. As many names as endpoints, at the most."""

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] = np.zeros(0, np.uint64)  # 0: not known yet.
        self._names: dict[int, str] = {}
        self._episodes: dict[int, _Episode] = {}  # By key.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._keys = grow(self._keys, capacity)

    def take(self, columns: Columns, placed: Placed) -> None:
        """Learn the services of endpoints that are new."""
        if np.count_nonzero(self._keys[placed.by_endpoint.slots]) == len(placed.by_endpoint.slots):
            return
        rows = (self._keys[placed.endpoint] == 0).nonzero()[0]
        for slot, route in zip(placed.endpoint[rows].tolist(), columns.route[rows].tolist(), strict=True):
            if self._keys[slot]:
                continue
            service = columns.batch.routes[route].service
            name = name_service(service)
            key = hash_text(f"{service.cluster}/{name}")
            self._keys[slot] = key
            self._names[key] = name

    def key(self, slot: int) -> int:
        """Of an endpoint's service."""
        return int(self._keys[slot])

    def keys(self, slots: Slots) -> NDArray[np.uint64]:
        """Of endpoints' services; 0 where one is not known."""
        return self._keys.take(slots)

    def name(self, slot: int) -> str:
        """Of an endpoint's service, `namespace/workload:port`."""
        return self._names.get(self.key(slot), "")

    def list_members(self, slot: int) -> Slots:
        """All endpoints of an endpoint's service."""
        members: Slots = (self._keys == self._keys[slot]).nonzero()[0]
        return members

    def lead(self, slot: int, time: int) -> int:
        """The endpoint that names what goes on at the service of `slot`, where something is odd at `time`."""
        key = self.key(slot)
        known = self._episodes.get(key)
        leader = slot if known is None or time - known.time > EPISODE_SECONDS else known.leader
        self._episodes[key] = _Episode(leader, time)
        return leader

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self._keys[slots] = 0
        kept = set(self._keys.tolist())
        self._names = {key: name for key, name in self._names.items() if key in kept}
        gone = set(slots.tolist())
        self._episodes = {
            key: episode for key, episode in self._episodes.items() if key in kept and episode.leader not in gone
        }

    def dump(self) -> State:
        """State for a checkpoint."""
        episodes = self._episodes
        return {
            "keys": self._keys,
            "services": np.frombuffer(msgspec.msgpack.encode(self._names), np.uint8),
            "episode": np.array(list(episodes), np.uint64),
            "leader": np.array([episode.leader for episode in episodes.values()], np.int64),
            "time": np.array([episode.time for episode in episodes.values()], np.int64),
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._keys = state["keys"].astype(np.uint64)
        self._names = msgspec.msgpack.decode(state["services"].tobytes(), type=dict[int, str])
        rows = zip(*(state[name].tolist() for name in ("episode", "leader", "time")), strict=True)
        self._episodes = {key: _Episode(leader, time) for key, leader, time in rows}
