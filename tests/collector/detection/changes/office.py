"""Changes through the running parts: rows in the store, looks of the risk assessor and of the watch, then alerts and
their tables. The clock is moved by days; the watch is made anew where a restart is meant."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.alerting.alert import Alert, AlertKind, Report
from collector.alerting.detection import Detection, DetectionTable
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.repository import AlertTable
from collector.alerting.service import AlertService
from collector.core.kinds import Sensitivity
from collector.detection.changes.detector import ChangeDetector, FactTable
from collector.detection.changes.rules import StoredCallers
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import RiskAssessor
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint

DAY = 86_400.0
HOUR = 3_600.0
RESPONSE = 128
EMAIL, PERSON_NAME, CARD = 1, 3, 10
NAMED = {"data": {"1": [RESPONSE + EMAIL, RESPONSE + PERSON_NAME], "2": [5, 5]}, "response_bodies_read": 5}
CARDS = {"data": {"1": [RESPONSE + CARD], "2": [5]}, "response_bodies_read": 5}
EMPTY = {"response_bodies_read": 5}
PUBLIC = {"client_address": "8.8.8.8"}
BEARER = {"authentication": 1 << 3}
OUTBOUND = {"role": 2, "client_workload": "shop/orders", "client_address": ""}


@dataclass(slots=True)
class Office:
    """Assessor, watch and alerts over one store; `now` is moved by the test."""

    store: EmbeddedStore
    state: StateStore
    path: Path
    level: Sensitivity = Sensitivity.PARANOID
    now: float = NOW
    told: list[Report] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=itertools.count)
    watch: ChangeDetector = field(init=False)
    desk: AlertService = field(init=False)
    assessor: RiskAssessor = field(init=False)
    detection: Detection = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As the collector does, again after a restart."""
        self.detection = Detection(
            table=DetectionTable(self.store, self.state),
            configured=self.level,
            clock=lambda: self.now,
            new_id=lambda: f"r{next(self.ids):03d}",
        )
        self.desk = AlertService(
            table=AlertTable(self.state),
            detection=self.detection,
            lifecycle=Lifecycle(new_id=lambda: f"a{next(self.ids):03d}", find_budget=lambda: self.detection.budget),
            clock=lambda: self.now,
            notify=lambda _: None,
            expect=lambda _: None,
        )
        self.desk.restore()

        def tell(reports: Any) -> None:
            self.told.extend(reports)
            self.desk.take_found(reports)

        self.watch = ChangeDetector(
            facts=FactTable(self.state),
            callers=StoredCallers(self.store, ConsumerSql()),
            clock=lambda: self.now,
            report=tell,
        )
        self.assessor = RiskAssessor(
            store=self.store,
            state=self.state,
            endpoints=EndpointInventory(reader=self.store, who=ConsumerSql()),
            clock=lambda: self.now,
            alarm=lambda _: None,
            observe=self.watch.note,
        )

    def call(self, *calls: tuple[SeedEndpoint, dict[str, Any]], count: int = 10) -> None:
        """Calls in the minute before `now`, of endpoints that are seen for the first time then unless they say so."""
        seed = Seed()
        for endpoint, columns in calls:
            if endpoint not in seed.endpoints:
                seed.endpoints.append(endpoint)
            seed.calls(endpoint, count, minutes_ago=1 - int(self.now - NOW) // 60, **columns)
        seed.write(self.store)
        self.look()

    def look(self) -> None:
        self.assessor.look()
        self.watch.look()
        self.desk.take_reports([])

    def learn(self, *calls: tuple[SeedEndpoint, dict[str, Any]], days: float = 1.1) -> None:
        """What is called on the first day, and then again; who called is asked anew after ten minutes."""
        self.call(*calls)
        self.now += days * DAY
        self.call(*calls)
        self.now += 900
        assert self.told == []

    def alerts(self) -> list[Alert]:
        return list(self.desk.list_alerts(state=None, kind=None, limit=100, after=None))

    def the_alert(self, kind: AlertKind) -> Alert:
        (alert,) = self.alerts()
        assert alert.kind is kind
        return alert

    def endpoint(self, number: int, path: str, **columns: Any) -> SeedEndpoint:
        """One that is seen first now, of the service that `learn` knows unless told otherwise."""
        first_seen = columns.pop("first_seen", self.now - 60)
        return SeedEndpoint(route_id=number, method="GET", template=path, first_seen=first_seen, **columns)

    def lose_login(self) -> SeedEndpoint:
        """An endpoint whose callers all had credentials for a day, and then none has."""
        known = self.endpoint(1, "/accounts/{account_id}")
        self.call((known, BEARER), count=60)
        self.now += 1.1 * DAY
        self.call((known, BEARER), count=60)
        self.now += 1_800
        self.call((known, {}), count=40)
        return known
