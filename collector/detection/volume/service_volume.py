"""Detects changed volume of services: the calls of all endpoints of one, against its own past, both ways.

Endpoints that rise together, each too little to be reported, are reported as one here. A window is summed when it
closes for the endpoints, so nothing is added per row. The detector is that of endpoints
(collector/detection/volume/season.py), with a plan of its own: levels, hours of the day, noise and tails of the
service. A service of one endpoint is that endpoint, and is left to it.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from collector.alerting.alert import AlertKind, AlertSignal
from collector.core.rates import LocalTime
from collector.detection.framework.detector import ClosedWindow, Detector
from collector.detection.framework.loss import SubjectLoss
from collector.detection.framework.slots import SlotTable
from collector.detection.framework.state import F64, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.detection.health.services import EPISODE_SECONDS, Services
from collector.detection.volume.plan import SERVICE_PLANS
from collector.detection.volume.season import SeasonDetector
from collector.detection.volume.windowed import Breach, Context, WindowedSeason

GRACE_SECONDS = 2 * 86_400  # Of a service: a level and its spread, and each hour of the day, are seen first.
_ENDPOINTS_MIN = 2
_FIRST_CAPACITY = 64  # Services are few, and each takes 3.7 kB.
_ROUTES_MAX = 64  # That a signal names.
_OTHERS_SHARE = 1 / 3  # Of a departure that is more than one endpoint's.


class _Leaders(DetectorState):
    """By slot of a service."""

    slot = column(np.int64)  # Of the endpoint that names what goes on at it,
    reported_at = column(np.int64)  # until nothing was reported for an hour; unix seconds.


class ServiceVolume(Detector):
    """Half as many services as endpoints, at the most."""

    name = "volume.services"
    kinds = frozenset({AlertKind.VOLUME_SERVICE})
    parts = ("table", "_leaders", "_windowed")

    def __init__(
        self,
        subjects: SubjectIndex,
        services: Services,
        endpoints: Sequence[WindowedSeason],
        losses: SubjectLoss,
        local_time: LocalTime,
    ) -> None:
        """`endpoints` say which endpoints were reported; `losses` are of endpoints."""
        super().__init__()
        self._subjects, self._services, self._endpoints, self._losses = subjects, services, endpoints, losses
        self.table = SlotTable(max(subjects.endpoints.limit // _ENDPOINTS_MIN, 1), _FIRST_CAPACITY)
        self._leaders = _Leaders()
        self.table.follow(self._leaders)
        seasons = [
            SeasonDetector(window_seconds=length, local_time=local_time, plan=plan, grace_seconds=GRACE_SECONDS)
            for length, plan in SERVICE_PLANS.items()
        ]
        self._windowed = {
            season.window_seconds: WindowedSeason(AlertKind.VOLUME_SERVICE, season, self.table, finer)
            for season, finer in zip(seasons, [None, *seasons], strict=False)
        }

    @property
    def held_back_count(self) -> int:
        return sum(windowed.bar.held_back_count for windowed in self._windowed.values())

    def turn_clock(self, hours: int) -> None:
        for windowed in self._windowed.values():
            windowed.detector.turn_season(hours)

    def close(self, closed: ClosedWindow) -> Sequence[AlertSignal]:
        """Evaluates and learns the same window of the services of the endpoints."""
        windowed = self._windowed.get(closed.seconds)
        if closed.kind is not AlertKind.VOLUME_ENDPOINT or windowed is None:
            return ()
        window, endpoints, calls = closed.window, closed.slots, closed.calls
        keys = self._services.keys(endpoints)
        is_known = keys != 0
        distinct, place, counts = np.unique(keys[is_known], return_inverse=True, return_counts=True)
        is_shared = counts >= _ENDPOINTS_MIN
        if not is_shared.any():
            return ()
        sums = np.bincount(place, calls[is_known], len(distinct))[is_shared]
        loss = None
        if self._losses.is_known:
            seen, lost = (np.bincount(place, part[is_known], len(distinct)) for part in self._losses.sums(endpoints))
            loss = (lost / np.maximum(seen, 1e-9))[is_shared]
        slots = self.table.touch(distinct[is_shared], closed.start).slots
        windowed.windows.begin(window)
        windowed.windows.add(window, slots, sums.astype(np.complex128))
        breaches, _ = windowed.close(window, slots, sums, np.zeros(len(sums)), Context(find_loss=lambda _: loss))
        signals = []
        for breach in breaches:
            own = keys == self.table.keys[breach.slot]
            members, here = endpoints[own], calls[own]
            if _is_spread(here - closed.expected[own], breach):
                signals.append(self._report(breach, members, here))
        return signals

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """An endpoint stands for its service."""
        endpoint = self._subjects.endpoints.find(endpoint_id, "")
        slot = self.table.find_key(self._services.key(endpoint)) if endpoint >= 0 else -1
        for length, windowed in self._windowed.items() if slot >= 0 else ():
            window = max(windowed.windows.next_window, 0)
            windowed.detector.expect(np.array([slot]), window, np.array([calls_per_second * length]))
        return slot >= 0

    def _report(self, breach: Breach, members: Slots, calls: F64) -> AlertSignal:
        """With names and rates; `calls` of the service's endpoints `members`."""
        seconds = breach.window_seconds
        begin = breach.window * seconds
        leader = self._lead(breach.slot, members, calls, begin, begin + seconds)
        busiest = members[np.argsort(-calls, kind="stable")]
        names = [
            self._subjects.endpoints.name(slot) for slot in dict.fromkeys((leader, *busiest[:_ROUTES_MAX].tolist()))
        ]
        routes = tuple(dict.fromkeys(route for name in names for route in name.route_ids))[:_ROUTES_MAX]
        signal = breach.report(msgspec.structs.replace(names[0], route_ids=routes))
        return msgspec.structs.replace(signal, service=self._services.name(leader), endpoints=len(members))

    def _lead(self, slot: int, members: Slots, calls: F64, begin: int, end: int) -> int:
        """The endpoint that names what goes on: the previous one, else one that was reported itself in the window, so
        that both are one alert, else the busiest."""
        leader = int(self._leaders.slot[slot])
        if begin - self._leaders.reported_at[slot] > EPISODE_SECONDS or leader not in members:
            is_reported = np.any([windowed.was_reported(members, begin) for windowed in self._endpoints], axis=0)
            leader = int(members[np.argmax(calls + is_reported * (np.max(calls) + 1))])
        self._leaders.slot[slot], self._leaders.reported_at[slot] = leader, end
        return leader


def _is_spread(departures: F64, breach: Breach) -> bool:
    """Whether it is the service's: silence, or not that of the one endpoint that departs most, which is judged by
    itself, as who calls it is."""
    if not breach.calls:
        return True
    own = departures if breach.is_above else -departures
    total = float(own.sum())
    return total - float(np.max(own)) >= _OTHERS_SHARE * total
