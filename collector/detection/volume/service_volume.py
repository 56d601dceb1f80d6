"""Detects changed volume of services: the calls of all endpoints of one, against its own past, both ways.

Endpoints that rise together, each too little to be reported, are reported as one here. A window is summed when it
closes for the endpoints, so nothing is added per row. The detector is that of endpoints
(collector/detection/volume/season.py), with a plan of its own: levels, hours of the day, noise and tails of the
service. A service of one endpoint is that endpoint, and is left to it.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, AlertSignal
from collector.core.rates import LocalTime
from collector.detection.framework.contract import F64, State
from collector.detection.framework.loss import SubjectLoss
from collector.detection.framework.slots import Slots, SlotTable, grow
from collector.detection.framework.subject_index import Roster
from collector.detection.health.services import EPISODE_SECONDS, Services
from collector.detection.volume.plan import SERVICE_PLANS
from collector.detection.volume.season import SeasonDetector
from collector.detection.volume.windowed import NO_CONTEXT, Crossing, Watch

GRACE_SECONDS = 2 * 86_400  # Of a service: a level and its spread, and each hour of the day, are seen first.
_ENDPOINTS_MIN = 2
_FIRST_CAPACITY = 64  # Services are few, and each takes 3.7 kB.
_ROUTES_MAX = 64  # That a signal names.
_OTHERS_SHARE = 1 / 3  # Of a departure that is more than one endpoint's.


class ServiceVolume:
    """See the module. Half as many services as endpoints, at the most."""

    def __init__(self, roster: Roster, services: Services, endpoints: Sequence[Watch], local_time: LocalTime) -> None:
        """`endpoints`: the watches that say which endpoints were told."""
        self._roster = roster
        self._services = services
        self._endpoints = endpoints
        self.table = SlotTable(max(roster.endpoints.table.limit // _ENDPOINTS_MIN, 1), _FIRST_CAPACITY)
        self.seasons = [
            SeasonDetector(window_seconds=length, local_time=local_time, plan=plan, grace_seconds=GRACE_SECONDS)
            for length, plan in SERVICE_PLANS.items()
        ]
        self._watches = {
            season.window_seconds: Watch(AlertKind.VOLUME_SERVICE, season, self.table, finer)
            for season, finer in zip(self.seasons, [None, *self.seasons], strict=False)
        }
        self._leader: Slots = np.zeros(0, np.int64)  # Slot of the endpoint that names what goes on at a service,
        self._told_at: NDArray[np.int64] = np.zeros(0, np.int64)  # until nothing was told for an hour; unix seconds.

    @property
    def held_back_count(self) -> int:
        """Crossings under the installation's bar."""
        return sum(watch.bar.held_back_count for watch in self._watches.values())

    def close(self, closed: Watch, window: int, endpoints: Slots, calls: F64, losses: SubjectLoss) -> list[AlertSignal]:
        """Judge and learn a window that `closed` has closed for the live `endpoints`, which had so many `calls`; of
        other lengths than SERVICE_PLANS' nothing. `losses`: of endpoints."""
        length, expected = closed.windows.window_seconds, closed.last_expected[endpoints]
        if length not in self._watches:
            return []
        keys = self._services.keys(endpoints)
        is_known = keys != 0
        distinct, place, counts = np.unique(keys[is_known], return_inverse=True, return_counts=True)
        is_shared = counts >= _ENDPOINTS_MIN
        if not is_shared.any():
            return []
        sums = np.bincount(place, calls[is_known], len(distinct))[is_shared]
        loss = None
        if losses.is_known:
            seen, lost = (np.bincount(place, part[is_known], len(distinct)) for part in losses.sums(endpoints))
            loss = (lost / np.maximum(seen, 1e-9))[is_shared]
        touched = self.table.touch(distinct[is_shared], window * length)
        self._make_room(touched.emptied)
        watch = self._watches[length]
        watch.windows.begin(window)
        watch.windows.add(window, touched.slots, sums.astype(np.complex128))
        context = replace(NO_CONTEXT, loss=lambda slots: loss)
        crossings = watch.close(window, touched.slots, context)
        signals = []
        for crossing in crossings:
            own = keys == self.table.keys[crossing.slot]
            members, here = endpoints[own], calls[own]
            if _is_spread(here - expected[own], crossing):
                signals.append(self._tell(crossing, members, here))
        return signals

    def expect(self, endpoint_id: str, calls_per_second: float) -> bool:
        """A person says that this is ordinary for the service of an endpoint; False where it is not known."""
        endpoint = self._roster.endpoints.find(endpoint_id, "")
        slot = self.table.find(self._services.key(endpoint)) if endpoint >= 0 else -1
        if slot < 0:
            return False
        for length, watch in self._watches.items():
            watch.expect(slot, calls_per_second * length)
        return True

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        parts: dict[str, State] = {
            "service.table": self.table.dump(),
            "service.told": {"leader": self._leader, "at": self._told_at},
        }
        for length, watch in self._watches.items():
            parts |= {f"service.watch{length}.{name}": state for name, state in watch.dump().items()}
        return parts

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`; a state of before services were judged leaves them to be learnt."""
        if "service.table" not in parts:
            return
        self.table.load(parts["service.table"])
        self._leader = parts["service.told"]["leader"].astype(np.int64)
        self._told_at = parts["service.told"]["at"].astype(np.int64)
        for length, watch in self._watches.items():
            prefix = f"service.watch{length}."
            watch.load({name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)})

    def _make_room(self, emptied: Slots) -> None:
        self._leader, self._told_at = (grow(part, self.table.capacity) for part in (self._leader, self._told_at))
        self._told_at[emptied] = 0
        for watch in self._watches.values():
            watch.grow(self.table.capacity, 0)
            if len(emptied):
                watch.forget(emptied)

    def _tell(self, crossing: Crossing, members: Slots, calls: F64) -> AlertSignal:
        """A crossing with names and rates; `calls` of the service's endpoints `members`."""
        seconds = crossing.window_seconds
        begin = crossing.window * seconds
        leader = self._lead(crossing.slot, members, calls, begin, begin + seconds)
        busiest = members[np.argsort(-calls, kind="stable")]
        names = [self._roster.endpoints.name(slot) for slot in dict.fromkeys((leader, *busiest[:_ROUTES_MAX].tolist()))]
        routes = tuple(dict.fromkeys(route for name in names for route in name.route_ids))[:_ROUTES_MAX]
        signal = crossing.tell(msgspec.structs.replace(names[0], route_ids=routes))
        return msgspec.structs.replace(signal, service=self._services.name(leader), endpoints=len(members))

    def _lead(self, slot: int, members: Slots, calls: F64, begin: int, end: int) -> int:
        """The endpoint that names what goes on: the one of before, else one that was told itself in the window, so
        that both are one alert, else the busiest."""
        leader = int(self._leader[slot])
        if begin - self._told_at[slot] > EPISODE_SECONDS or leader not in members:
            is_told = np.any([watch.was_told(members, begin) for watch in self._endpoints], axis=0)
            leader = int(members[np.argmax(calls + is_told * (np.max(calls) + 1))])
        self._leader[slot], self._told_at[slot] = leader, end
        return leader


def _is_spread(departures: F64, crossing: Crossing) -> bool:
    """Whether it is the service's: silence, or not that of the one endpoint that departs most, which is judged by
    itself, as who calls it is."""
    if not crossing.calls:
        return True
    own = departures if crossing.is_above else -departures
    total = float(own.sum())
    return total - float(np.max(own)) >= _OTHERS_SHARE * total
