"""What changes in the installation of `scripts/bench simulation --changes`, as the collector's own watch for changes
sees it: deploys, who calls what, and hosts outside. The tables of the store are dicts here.

What is there and how often it changes is assumed, by the constants; draws are its own, so that what is called is as it
is without. New endpoints have no rows of calls: a detector of volume says nothing of an endpoint's first days.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from collector.alerting.alert import Report
from collector.detection.changes.detector import ChangeDetector
from collector.detection.changes.rules import Caller, Fact, FactKind, SeenEndpoint
from collector.inventory.endpoints.bodies import DataClass
from collector.risk.finding import Finding, FindingState, Severity

LOOK_SECONDS = 1_800  # The collector looks each minute; news of a day are told together all the same.
_DAY = 86_400
_SENSITIVE_SHARE = 0.4  # Of endpoints return sensitive data.
_CONSUMERS_MEDIAN, _CONSUMERS_SIGMA = 8, 1.2  # Of an endpoint: log-normal, so that a half has ten at the most.
_PERIODS = ((1, 0.7), (7, 0.2), (30, 0.1))  # Days from one call of a consumer to the next, and their share.
_STAY_DAYS = 300.0  # A known consumer of an endpoint is followed by a new one, on average after so long.
_ENDPOINTS_A_NEWCOMER = 2.0  # Of one service, on average.
_HOSTS = 3.0  # Outside, that a service calls, on average.
_DEPLOYS_A_DAY = 5.0
# What a deploy brings:
_ENDPOINTS_CHANCE, _ENDPOINTS_MEAN = 0.3, 4.0  # new endpoints, so many on average,
_CLASS_CHANCE = 0.05  # another class of sensitive data in responses of an endpoint,
_HOST_CHANCE = 0.05  # a host outside that its service had not called,
_LOGIN_CHANCE = 0.002  # an endpoint that asks for no login any more.
_CLASSES = (DataClass.IDENTITY, DataClass.CONTACT, DataClass.FINANCIAL)


@dataclass(slots=True)
class _Consumer:
    name: str
    born: float  # Its first call.
    period: float  # Seconds to the next ones.

    def find_last(self, now: float) -> float | None:
        """When it called last; None before its first call."""
        return None if now < self.born else now - (now - self.born) % self.period


@dataclass(slots=True)
class _Place:
    """An endpoint, and who calls it."""

    sight: SeenEndpoint
    consumers: list[_Consumer] = field(default_factory=list)
    workload: str = ""  # That calls it, where it is a host outside.

    def list_lately(self, now: float) -> Iterator[tuple[float, str]]:
        """When each consumer of the last day called last."""
        for one in self.consumers:
            last = one.find_last(now)
            if last is not None and last > now - _DAY:
                yield last, one.name


class Changes:
    """`look` is to be asked in order of time."""

    def __init__(self, *, seed: int, endpoints: int, endpoints_a_service: int, start: int) -> None:
        self._random = np.random.default_rng((seed, 7))
        self._start = self._now = float(start)
        self._number = 0
        self._places: dict[str, _Place] = {}
        self._services: dict[int, list[str]] = defaultdict(list)
        self._reports: list[Report] = []
        self._watch = ChangeDetector(
            facts=_Facts(),  # type: ignore[arg-type]
            callers=self,  # type: ignore[arg-type]
            clock=lambda: self._now,
            report=lambda reports: self._reports.extend(reports),
        )
        for number in range(endpoints):
            self._add_endpoint(number // endpoints_a_service, self._start - 100 * _DAY)
        for service in list(self._services):
            for _ in range(self._random.poisson(_HOSTS)):
                self._add_host(service)

    def look(self, now: int) -> list[Report]:
        """What is told of changes until `now`, unix seconds."""
        self._reports = []
        while self._now + LOOK_SECONDS <= now:
            self._now += LOOK_SECONDS
            for _ in range(self._random.poisson(_DEPLOYS_A_DAY * LOOK_SECONDS / _DAY)):
                self._deploy()
            self._renew_consumers()
            for place in self._places.values():
                self._watch.note_endpoint(replace(place.sight, consumers=sum(1 for _ in place.list_lately(self._now))))
            self._watch.look()
        return self._reports

    @property
    def dropped_count(self) -> int:
        """Endpoints not looked at and reports not told."""
        return self._watch.dropped_count

    def read_consumers(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """As collector.detection.changes.rules has it."""
        return [caller for name in ids for caller in self._list_callers(name, now)[:limit]]

    def read_workloads(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """The same of hosts outside."""
        return [
            Caller(endpoint_id=name, name=self._places[name].workload, key_id=0, first_seen=int(now - 60))
            for name in ids
        ]

    def find_services(self, workloads: Sequence[str]) -> dict[str, int]:
        """The same of workloads that serve: all do."""
        return dict.fromkeys(workloads, int(self._start - 100 * _DAY))

    def _list_callers(self, endpoint_id: str, now: float) -> list[Caller]:
        lately = sorted(self._places[endpoint_id].list_lately(now))
        return [Caller(endpoint_id=endpoint_id, name=name, key_id=1, first_seen=int(last)) for last, name in lately]

    def _deploy(self) -> None:
        random = self._random
        service = int(random.choice(list(self._services)))
        if random.random() < _ENDPOINTS_CHANCE:
            for _ in range(random.geometric(1 / _ENDPOINTS_MEAN)):
                self._add_endpoint(service, self._now - LOOK_SECONDS * random.random())
        place = self._places[str(random.choice(self._services[service]))]
        if random.random() < _CLASS_CHANCE:
            place.sight = replace(place.sight, classes=place.sight.classes | {self._choose_class()})
        if random.random() < _HOST_CHANCE:
            self._add_host(service)
        if random.random() < _LOGIN_CHANCE:
            place.sight = replace(place.sight, login_gone=_find_login(place.sight, self._now))

    def _add_endpoint(self, service: int, since: float) -> None:
        self._number += 1
        random, name = self._random, f"e{self._number}"
        is_sensitive = random.random() < _SENSITIVE_SHARE
        sight = SeenEndpoint(
            id=name,
            scope=f"|w{service}",
            service=f"w{service}",
            host=f"w{service}",
            label=f"GET /{name}",
            first_seen=since,
            is_served=True,
            is_third_party=False,
            is_open=False,
            has_bodies=True,
            classes=frozenset({self._choose_class()}) if is_sensitive else frozenset(),
            consumers=0,
            login_gone=None,
        )
        self._places[name] = place = _Place(sight)
        self._services[service].append(name)
        for _ in range(max(1, round(random.lognormal(np.log(_CONSUMERS_MEDIAN), _CONSUMERS_SIGMA)))):
            place.consumers.append(self._make_consumer(since, random.random()))

    def _add_host(self, service: int) -> None:
        self._number += 1
        name = f"x{self._number}"
        sight = SeenEndpoint(
            id=name,
            scope=f"|{name}.example",
            service=f"{name}.example",
            host=f"{name}.example",
            label="POST /",
            first_seen=self._now,
            is_served=False,
            is_third_party=True,
            is_open=False,
            has_bodies=False,
            classes=frozenset(),
            consumers=0,
            login_gone=None,
        )
        self._places[name] = _Place(sight, workload=f"workload:w{service}")

    def _renew_consumers(self) -> None:
        """Some consumers end, and others come, who call some endpoints of a service."""
        random = self._random
        for names in self._services.values():
            count = sum(len(self._places[name].consumers) for name in names)
            rate = count / _ENDPOINTS_A_NEWCOMER * LOOK_SECONDS / (_STAY_DAYS * _DAY)
            for _ in range(random.poisson(rate)):
                newcomer = self._make_consumer(self._now, 0.0)
                weights = np.array([len(self._places[name].consumers) for name in names], np.float64)
                wanted = min(int(random.geometric(1 / _ENDPOINTS_A_NEWCOMER)), np.count_nonzero(weights))
                for index in random.choice(len(names), wanted, replace=False, p=weights / weights.sum()).tolist():
                    consumers = self._places[names[index]].consumers
                    consumers[int(random.integers(len(consumers)))] = newcomer

    def _make_consumer(self, since: float, phase: float) -> _Consumer:
        """One whose first call is at `since`, or less than a period (by `phase`, 0 to 1) before."""
        self._number += 1
        days, shares = zip(*_PERIODS, strict=True)
        period = float(self._random.choice(days, p=shares)) * _DAY
        return _Consumer(f"principal:{self._number:016x}", since - phase * period, period)

    def _choose_class(self) -> DataClass:
        return _CLASSES[int(self._random.integers(len(_CLASSES)))]


class _Facts:
    """What the table `change_facts` does."""

    def __init__(self) -> None:
        self._by_subject: dict[str, dict[tuple[FactKind, str], Fact]] = defaultdict(dict)
        self._told: list[Fact] = []

    def read(self, subjects: Sequence[str]) -> list[Fact]:
        """As collector.detection.changes.detector has it."""
        return [fact for subject in subjects for fact in self._by_subject.get(subject, {}).values()]

    def read_told(self, kind: FactKind, scopes: Sequence[str], since: float) -> list[Fact]:
        """The same."""
        self._told = [fact for fact in self._told if fact.told_at > since]
        found = [fact for fact in self._told if fact.kind is kind and fact.scope in scopes]
        return sorted(found, key=lambda fact: (fact.told_at, fact.first_seen, fact.subject, fact.detail))

    def save(self, facts: Sequence[Fact]) -> None:
        """The same."""
        for fact in facts:
            self._by_subject[fact.subject][fact.kind, fact.detail] = fact
            if fact.told_at:
                self._told.append(fact)


def _find_login(sight: SeenEndpoint, now: float) -> Finding:
    return Finding(
        id=f"login-{sight.id}",
        endpoint_id=sight.id,
        rule="missing_authentication",
        severity=Severity.HIGH,
        owasp="API2:2023",
        state=FindingState.OPEN,
        title="",
        why="",
        advice="",
        signs=(),
        first_seen=now,
        last_seen=now,
        updated_at=now,
        changed_at=now,
        changed_by="",
        note="",
        is_reopened=False,
        method="GET",
        host=sight.host,
        url_template="",
        service=sight.service,
    )
