"""Detects clients that hide calls from the sensors: what they send is answered, and no call explains it.

It counts the calls that sensors say a client made unread, at least: answers without a request, and heads past what is
read. Positions are lost innocently too: a sensor begins within a connection, or its node drops packets. So what is
unread of a service waits until somebody else is read there, and a client is reported only if all of these hold:

- its count is above a ceiling that no such accident reaches, and above what its peers do
- at least half of what is unread of the service is its own
- somebody else calls the same service and is read
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind
from collector.core.rows import Service, ServiceLoss
from collector.detection.abuse.ceiling import Ceiling, Excess, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events, hash_text
from collector.detection.framework.slots import SubjectName, Subjects
from collector.detection.framework.state import record
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.naming import name_service

PLAN: Final = (Horizon(seconds=600, prior=50, floor=50), Horizon(seconds=3_600, prior=120, floor=120))
SOURCES_MAX: Final = 20_000
_SERVICES_MAX: Final = 256
_CLIENTS_MAX: Final = 64  # Of a service, of either kind.
_KEEP_SECONDS: Final = 3_600
_HALF_LIFE_SECONDS: Final = 600
_OWN_SHARE: Final = 0.5
# By the wire's UnreadReason.
_REASONS: Final = {
    1: "behind a fault in a request, or too many of them",
    2: "behind too many requests in one segment",
    3: "where a connection does not begin with HTTP",
    4: "in request heads past what is read",
}

# When it was heard of last, unread calls by client, and when a client that is read called last. Clients by their hash.
_Heard = tuple[int, dict[int, float], dict[int, int]]


class UnreadTrafficDetector(AbuseDetector):
    """Calls of no head by address, against a ceiling."""

    name = "abuse.unread_traffic"
    kinds = frozenset({AlertKind.UNREAD_TRAFFIC})
    parts = ("_sources", "_ceiling")
    _heard = record(dict[str, _Heard])  # By service.
    # By service: since when, and unread calls by address, until somebody else is read there.
    _waiting = record(dict[str, tuple[int, dict[str, float]]])
    _details = record(dict[int, str])  # By client, of its last loss.

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._sources = Subjects(SOURCES_MAX)
        self._ceiling = Ceiling(PLAN, self._sources)

    def find(self, events: Events) -> list[Finding]:
        for loss in events.losses:
            if loss.client_address and loss.lost_calls:
                self._note_loss(loss, events.time)
        if self._heard:
            self._note_callers(events)
        services, unread = self._take_comparable(events.time)
        if not unread:
            return []
        addresses = list(unread)
        found = self._sources.touch_named(
            np.array([hash_text(address) for address in addresses], np.uint64),
            events.time,
            lambda index: SubjectName(consumer=f"address:{addresses[index]}"),
        )
        self._ceiling.refresh(events.time)
        slots, sums = sum_by_slot(found, np.array(list(unread.values()), np.float64))
        excess = self._ceiling.add(slots, sums, events.time)
        calls_by_slot = dict(zip(slots.tolist(), sums.tolist(), strict=True))
        return list(self._report_clients(excess, services, calls_by_slot, events.time))

    def _take_comparable(self, time: int) -> tuple[dict[int, set[str]], dict[str, float]]:
        """What waited of services where a client that is read called: services by client, and unread calls by
        address."""
        services = defaultdict[int, set[str]](set)
        unread = defaultdict[str, float](float)
        for service, (since, waiting) in list(self._waiting.items()):
            is_comparable = self._is_read(service, time)
            if is_comparable or time - since > _KEEP_SECONDS:
                del self._waiting[service]
            for address, calls in waiting.items() if is_comparable else ():
                services[hash_text(address)].add(service)
                unread[address] += calls
        return services, unread

    def _report_clients(
        self, excess: Excess, services: Mapping[int, Collection[str]], calls: Mapping[int, float], time: int
    ) -> Iterator[Finding]:
        for index, slot in enumerate(excess.slots.tolist()):
            subject = self._sources.name(slot)
            client = int(self._sources.keys[slot])
            if not any(self._stands_out(service, client) for service in services[client]):
                continue
            yield Finding(
                kind=AlertKind.UNREAD_TRAFFIC,
                subject=subject,
                count=float(excess.sums[index]),
                ceiling=float(excess.ceilings[index]),
                seconds=excess.plan[int(excess.horizon[index])].seconds,
                basis=excess.basis[index],
                calls=calls[slot],
                is_internal=False,
                is_notice=False,
                detail=self._details.get(client, ""),
            )

    def _is_read(self, service: str, time: int) -> bool:
        """Whether somebody called a service lately of whom nothing is unread."""
        _, unread, callers = self._heard.get(service, (time, {}, {}))
        return any(caller not in unread and time - last <= _KEEP_SECONDS for caller, last in callers.items())

    def _stands_out(self, service: str, client: int) -> bool:
        """Whether most of what is unread of a service is this client's."""
        _, unread, _ = self._heard.get(service, (0, {}, {}))
        return unread.get(client, 0.0) >= _OWN_SHARE * sum(unread.values())

    def _note_loss(self, loss: ServiceLoss, time: int) -> None:
        service, client = _name(loss.service), hash_text(loss.client_address)
        before, unread, callers = self._heard.get(service, (time, {}, {}))
        fade = 0.5 ** (max(0, time - before) / _HALF_LIFE_SECONDS)
        unread = {known: count * fade for known, count in unread.items() if count * fade >= 1}
        unread[client] = unread.get(client, 0.0) + loss.lost_calls
        if len(unread) > _CLIENTS_MAX:
            del unread[min(unread, key=unread.__getitem__)]
        self._heard[service] = time, unread, callers
        self._heard = {name: one for name, one in self._heard.items() if time - one[0] <= _KEEP_SECONDS}
        if len(self._heard) > _SERVICES_MAX:
            del self._heard[min(self._heard, key=lambda name: self._heard[name][0])]
        _, waiting = self._waiting.setdefault(service, (time, {}))
        if loss.client_address in waiting or len(waiting) < _CLIENTS_MAX:
            waiting[loss.client_address] = waiting.get(loss.client_address, 0.0) + loss.lost_calls
        if len(self._waiting) > _SERVICES_MAX:
            del self._waiting[next(iter(self._waiting))]
        what = f"{name_service(loss.service)}, {_REASONS.get(loss.reason, 'for no known reason')}"
        self._details.pop(client, None)
        self._details[client] = what
        if len(self._details) > SOURCES_MAX:
            del self._details[next(iter(self._details))]

    def _note_callers(self, events: Events) -> None:
        """Who calls services of which something is unread, and is read there."""
        batch = events.batch
        services = [_name(route.service) for route in batch.routes]
        is_heard = np.array([service in self._heard for service in services], np.bool_)
        rows = is_heard[events.route].nonzero()[0]
        called = np.stack((events.route[rows], events.read(batch.client_address)[rows]), axis=1)
        for route, text in np.unique(called, axis=0).tolist():
            callers = self._heard[services[route]][2]
            caller = hash_text(batch.strings[text])
            callers.pop(caller, None)
            callers[caller] = events.time
            if len(callers) > _CLIENTS_MAX:
                del callers[next(iter(callers))]


def _name(service: Service) -> str:
    return f"{service.cluster}/{name_service(service)}"
