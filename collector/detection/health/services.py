"""Maps endpoints to services, and chooses the endpoint under which a service's trouble is reported.

A service that fails does so at many endpoints, which are one incident. The first endpoint names it until nothing was
unusual for an hour. So one alert grows instead of many.
"""

import numpy as np

from collector.detection.framework.rows import Events, hash_text
from collector.detection.framework.state import U64, DetectorState, Slots, column, record
from collector.inventory.naming import name_service

EPISODE_SECONDS = 3_600


class Services(DetectorState):
    """By endpoint slot. As many names as endpoints, at the most."""

    _keys = column(np.uint64)  # 0: not known yet.
    _of_host = column(np.bool_)  # One host's own: others of that name are other services.
    _names = record(dict[int, str])
    _episodes = record(dict[int, tuple[int, int]])  # By key: slot of the leader, time of what was odd last.

    def take(self, events: Events) -> None:
        """Learn the services of endpoints that are new."""
        if np.count_nonzero(self._keys[events.by_endpoint.slots]) == len(events.by_endpoint.slots):
            return
        rows = (self._keys[events.endpoint] == 0).nonzero()[0]
        for slot, route in zip(events.endpoint[rows].tolist(), events.route[rows].tolist(), strict=True):
            if self._keys[slot]:
                continue
            service = events.batch.routes[route].service
            name = name_service(service)
            # A host's service may have a slash in its name: it is no workload of a namespace.
            key = hash_text(f"{service.cluster}/{len(service.namespace)}/{name}")
            self._keys[slot], self._of_host[slot] = key, bool(service.host_name)
            self._names[key] = name

    def key(self, slot: int) -> int:
        """Of an endpoint's service."""
        return int(self._keys[slot])

    def can_have_replicas(self, slot: int) -> bool:
        """Whether several nodes may serve it: it is known, and not one host's own."""
        return bool(self._keys[slot]) and not self._of_host[slot]

    def keys(self, slots: Slots) -> U64:
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
        leader, told_at = self._episodes.get(key, (slot, time))
        if time - told_at > EPISODE_SECONDS:
            leader = slot
        self._episodes[key] = leader, time
        return leader

    def forget(self, slots: Slots) -> None:
        super().forget(slots)
        kept, gone = set(self._keys.tolist()), set(slots.tolist())
        self._names = {key: name for key, name in self._names.items() if key in kept}
        self._episodes = {key: one for key, one in self._episodes.items() if key in kept and one[0] not in gone}
