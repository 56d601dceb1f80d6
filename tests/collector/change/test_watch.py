"""Changes through the running parts: rows in the store, looks of the risk keeper and of the watch, then the alert desk
and its tables. The clock is moved by days; the watch is made anew where a restart is meant."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collector.alerts.alert import Alert, AlertKind, Confidence, Severity
from collector.alerts.desk import AlertDesk
from collector.alerts.detection import Detection
from collector.alerts.detection_table import DetectionTable
from collector.alerts.lifecycle import Lifecycle
from collector.alerts.report import Report
from collector.alerts.repository import AlertTable
from collector.change.watch import ChangeWatch
from collector.erasure.mention import find_mention
from collector.erasure.tables import TableEraser
from collector.ingest.reader import write_durably
from collector.inventory.consumer import parse_consumer
from collector.inventory.counted import ConsumerSql
from collector.inventory.endpoints import EndpointInventory
from collector.risk.keeper import RiskKeeper
from collector.sensitivity import Sensitivity
from collector.store.embedded import EmbeddedStore
from collector.store.migrations import TABLES
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint

pytestmark = pytest.mark.store

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
    """Keeper, watch and desk over one store; `now` is moved by the test."""

    store: EmbeddedStore
    path: Path
    level: Sensitivity = Sensitivity.PARANOID
    now: float = NOW
    told: list[Report] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=itertools.count)
    watch: ChangeWatch = field(init=False)
    desk: AlertDesk = field(init=False)
    keeper: RiskKeeper = field(init=False)
    detection: Detection = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As the collector does, again after a restart."""
        self.detection = Detection(
            table=DetectionTable(self.store),
            path=self.path / "sensitivity.json",
            configured=self.level,
            clock=lambda: self.now,
            new_id=lambda: f"r{next(self.ids):03d}",
            write=write_durably,
        )
        self.desk = AlertDesk(
            table=AlertTable(self.store),
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

        self.watch = ChangeWatch(store=self.store, who=ConsumerSql(), clock=lambda: self.now, tell=tell)
        self.keeper = RiskKeeper(
            store=self.store,
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
        self.keeper.look()
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


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("changes"))
    yield opened
    opened.close()


@pytest.fixture
def office(embedded: EmbeddedStore, tmp_path: Path) -> Office:
    for table in TABLES:
        embedded.execute(f"TRUNCATE TABLE {table.name}")
    return Office(embedded, tmp_path)


def test_a_new_endpoint_of_a_known_service_is_told_once(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    fresh = office.endpoint(2, "/export")
    office.call((fresh, BEARER), (known, {}))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.LOW, "API9:2023", "ep0002")
    assert alert.confidence is Confidence.HIGH and "specification" in alert.advice
    assert alert.title == "orders:8080 answers at GET /export, which is new"
    assert "the service is known since" in alert.why and "GET /export" in alert.why
    assert alert.window_start == pytest.approx(office.now - 60, abs=60)
    office.now += 600
    office.call((fresh, BEARER), (known, {}))
    assert len(office.told) == 1 and office.watch.dropped_count == 0


def test_fifty_endpoints_of_a_deploy_are_one_alert_that_does_not_page(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call(*((office.endpoint(100 + n, f"/v2/thing{n:02d}"), BEARER) for n in range(30)))
    office.now += HOUR
    office.call(*((office.endpoint(200 + n, f"/v2/other{n:02d}"), BEARER) for n in range(20)))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert alert.severity is Severity.LOW and alert.measure == 50
    assert alert.title == "orders:8080 has 50 new endpoints"
    assert "GET /v2/thing00, " in alert.why and "and 40 more." in alert.why
    office.now += DAY
    office.call((office.endpoint(300, "/v3/late"), BEARER))
    assert sorted(alert.measure for alert in office.alerts()) == [1, 50]


def test_low_changes_are_told_to_the_paranoid_alone_and_counted(embedded: EmbeddedStore, office: Office) -> None:
    office.level = Sensitivity.NORMAL
    office.start()
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call((office.endpoint(2, "/export"), BEARER))
    assert office.alerts() == [] and len(office.told) == 1
    assert office.detection.count()["reports_too_quiet"] == 1
    office.now += HOUR
    office.call((office.endpoint(3, "/people"), {**NAMED, **PUBLIC}))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert alert.severity is Severity.MEDIUM
    assert "Personal data for callers without credentials: GET /people." in alert.why


def test_changes_share_the_installations_budget(office: Office) -> None:
    office.level = Sensitivity.NORMAL
    office.start()
    known = [office.endpoint(n, f"/a{n}", workload=f"service{n}") for n in range(1, 6)]
    office.learn(*((one, {**EMPTY, **BEARER}) for one in known))
    office.call(*((one, {**CARDS, **BEARER}) for one in known))
    assert len(office.told) == 5 and len(office.alerts()) == 2
    assert office.desk.suppressed_count == 3


def test_nothing_is_told_on_the_first_day_nor_of_a_new_service(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}", first_seen=NOW - 9 * DAY)
    office.call((known, BEARER))
    office.now += 20 * HOUR
    office.call((office.endpoint(2, "/export"), {**NAMED, **PUBLIC}), (known, {**CARDS, **BEARER}))
    assert office.told == []
    office.now += 5 * HOUR
    office.call((office.endpoint(3, "/born", workload="newborn"), {}), (known, BEARER))
    office.now += HOUR
    office.call((office.endpoint(4, "/next", workload="newborn"), {}), (known, BEARER))
    assert office.told == []


def test_an_endpoint_that_only_refuses_is_none(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call((office.endpoint(2, "/.env"), {"status_code": 404}))
    assert office.told == []


def test_a_new_class_of_data_is_told(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**EMPTY, **BEARER}))
    office.call((known, {**CARDS, **BEARER}))
    alert = office.the_alert(AlertKind.NEW_DATA_CLASS)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.MEDIUM, "API3:2023", "ep0001")
    assert alert.title == "GET /orders/{order_id} returns financial data, which is new"
    office.now += 600
    office.call((known, {**CARDS, **BEARER}))
    assert len(office.told) == 1
    office.now += 600
    office.call((known, {**NAMED, **BEARER}))
    alert = office.the_alert(AlertKind.NEW_DATA_CLASS)
    assert alert.measure == 3 and "contact data at GET /orders/{order_id}" in alert.why


def test_a_class_of_an_endpoint_whose_bodies_were_never_read_is_no_news(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, BEARER))
    office.call((known, {**CARDS, **BEARER}))
    assert office.told == []


def test_a_new_consumer_of_what_few_read_is_told(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=3.2)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}), (known, regular))
    alert = office.the_alert(AlertKind.NEW_CONSUMER)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.MEDIUM, "API5:2023", "ep0001")
    assert alert.consumer == "principal:0000000000000008"
    assert "only its known consumer was expected" in alert.why and "contact, identity data" in alert.why
    office.now += HOUR
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}))
    assert len(office.told) == 1


@pytest.mark.parametrize(
    "newcomer",
    [
        {"principal": 8, "key_id": 2},  # Perhaps the same, by another key of the installation.
        {"principal": 8, "key_id": 1, "status_code": 403},
    ],
)
def test_who_may_be_known_and_who_was_refused_is_no_new_consumer(office: Office, newcomer: dict[str, Any]) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=3.2)
    office.call((known, {**NAMED, **BEARER, **newcomer}), (known, regular))
    assert office.told == []


def test_pods_with_new_addresses_are_no_new_consumers(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, "client_address": "10.0.0.9"}), days=3.2)
    office.call((known, {**NAMED, "client_address": "10.7.1.2"}))
    assert office.told == []


def test_who_logs_in_anew_is_no_new_consumer(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, **BEARER, "principal": 7, "principal_kind": 5, "key_id": 1}), days=3.2)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "principal_kind": 5, "key_id": 1}))
    assert office.told == []
    office.now += HOUR
    office.call((known, {**NAMED, **BEARER, "principal": 9, "principal_kind": 3, "key_id": 1}))
    assert office.the_alert(AlertKind.NEW_CONSUMER).consumer == "principal:0000000000000009"


def test_the_first_to_call_from_inside_without_a_name_is_told(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, **BEARER, "principal": 7, "key_id": 1}), days=3.2)
    office.call((known, {**NAMED, "client_address": "10.7.1.2"}))
    alert = office.the_alert(AlertKind.NEW_CONSUMER)
    assert (
        alert.consumer == ""
        and alert.title == "A caller inside without a name reads GET /payroll/{id} for the first time"
    )


def test_an_open_population_is_left_alone(office: Office) -> None:
    known = office.endpoint(1, "/profile")
    people = [{**NAMED, **BEARER, "principal": n, "key_id": 1} for n in range(1, 13)]
    office.learn(*((known, person) for person in people), days=3.2)
    for days, principal in ((4, 1), (4, 99)):
        office.now += days * DAY
        office.call((known, {**people[0], "principal": principal}))
    assert office.told == []


def _third_party(office: Office, number: int, host: str) -> SeedEndpoint:
    return office.endpoint(number, "/v1/push", host=host, workload=f"9.9.9.{number % 250}", port=443)


def test_a_new_third_party_of_a_known_workload_is_told(office: Office) -> None:
    pay = _third_party(office, 10, "api.pay.example")
    office.learn((pay, OUTBOUND))
    office.call((_third_party(office, 11, "paste.example"), OUTBOUND), (pay, OUTBOUND))
    alert = office.the_alert(AlertKind.NEW_THIRD_PARTY)
    assert (alert.severity, alert.risk) == (Severity.MEDIUM, "API10:2023")
    assert alert.consumer == "workload:shop/orders"
    assert alert.title == "shop/orders calls paste.example for the first time"
    office.now += HOUR
    office.call((_third_party(office, 12, "drop.example"), OUTBOUND))
    alert = office.the_alert(AlertKind.NEW_THIRD_PARTY)
    assert alert.title == "shop/orders calls paste.example and 1 other host for the first time"


def test_the_first_third_party_of_a_service_is_told_and_of_a_new_program_is_not(office: Office) -> None:
    service = office.endpoint(1, "/orders/{order_id}", namespace="shop")
    office.learn((service, {}))
    newborn = {**OUTBOUND, "client_workload": "shop/newborn"}
    office.call((_third_party(office, 11, "paste.example"), OUTBOUND), (_third_party(office, 12, "a.example"), newborn))
    assert office.the_alert(AlertKind.NEW_THIRD_PARTY).consumer == "workload:shop/orders"


def _lose_login(office: Office) -> SeedEndpoint:
    known = office.endpoint(1, "/accounts/{account_id}")
    office.call((known, BEARER), count=60)
    office.now += 1.1 * DAY
    office.call((known, BEARER), count=60)
    office.now += 1_800
    office.call((known, {}), count=40)
    return known


def test_a_login_that_went_is_told_at_every_level(office: Office) -> None:
    office.level = Sensitivity.QUIET
    office.start()
    known = _lose_login(office)
    alert = office.the_alert(AlertKind.LOGIN_MISSING)
    assert (alert.severity, alert.risk, alert.endpoint_id) == (Severity.HIGH, "API2:2023", "ep0001")
    assert "nearly all did until" in alert.why and alert.advice == "See which release took the login away."
    office.now += 120
    office.call((known, {}), count=40)
    assert len(office.told) == 1


def test_what_a_new_consumer_does_is_another_alert_of_the_same_incident(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    regular = {**NAMED, **BEARER, "principal": 7, "key_id": 1}
    office.learn((known, regular), days=3.2)
    office.call((known, {**NAMED, **BEARER, "principal": 8, "key_id": 1}))
    consumer = office.the_alert(AlertKind.NEW_CONSUMER).consumer
    office.now += HOUR
    scrape = Report(
        kind=AlertKind.ENUMERATION,
        severity=Severity.MEDIUM,
        title="reads much",
        why="It reads much.",
        calm_seconds=600,
        window_start=office.now - 60,
        window_end=office.now,
        endpoint_id="ep0001",
        consumer=consumer,
    )
    office.desk.take_found([scrape])
    kinds = {alert.kind: alert.incident_id for alert in office.alerts()}
    assert kinds.keys() == {AlertKind.NEW_CONSUMER, AlertKind.ENUMERATION} and len(set(kinds.values())) == 1


def test_known_good_holds(office: Office) -> None:
    rule = {"consumer": "", "network": "", "workload": "", "endpoint_id": ""}
    office.detection.add_rule(by="ada", note="canary", seconds=9 * DAY, kind="login_missing", **rule)
    _lose_login(office)
    assert office.alerts() == [] and office.detection.count()["reports_known_good"] == 1


def test_a_restart_neither_repeats_nor_forgets(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**EMPTY, **BEARER}))
    office.start()
    fresh = office.endpoint(2, "/export")
    office.call((fresh, BEARER), (known, {**CARDS, **BEARER}))
    assert {alert.kind for alert in office.alerts()} == {AlertKind.NEW_ENDPOINT, AlertKind.NEW_DATA_CLASS}
    office.now += HOUR
    office.start()
    office.call((fresh, BEARER), (known, {**CARDS, **BEARER}))
    assert len(office.told) == 2
    office.call((office.endpoint(3, "/import"), BEARER))
    assert len(office.alerts()) == 2  # The one of this day goes on.
    assert {alert.measure for alert in office.alerts()} == {1, 2}


def test_what_could_not_be_told_is_told_at_the_next_look(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    with monkeypatch.context() as patched:
        patched.setattr(office.desk, "take_found", _fail)
        with pytest.raises(RuntimeError):
            office.call((office.endpoint(2, "/export"), BEARER))
    assert office.alerts() == []
    office.look()
    assert office.the_alert(AlertKind.NEW_ENDPOINT).endpoint_id == "ep0002"


def _fail(_: Any) -> None:
    raise RuntimeError


def test_an_erased_consumer_is_in_no_fact(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, "client_address": "8.8.8.8"}), (known, {**NAMED, "client_address": "9.9.9.1"}))
    office.now += 2.2 * DAY
    office.call((known, {**NAMED, "client_address": "8.8.8.8"}), (known, {**NAMED, "client_address": "9.9.9.1"}))
    names = {row[0] for row in office.store.query("SELECT detail FROM change_facts WHERE kind = 'consumer'")}
    assert names == {"address:8.8.8.8", "address:9.9.9.1"}
    consumer = parse_consumer("address:8.8.8.8")
    assert consumer is not None
    counts = TableEraser(office.store, office.store.layout).erase(consumer, find_mention(consumer))
    assert counts["change_facts"] == 1
    names = {row[0] for row in office.store.query("SELECT detail FROM change_facts WHERE kind = 'consumer'")}
    assert names == {"address:9.9.9.1"}


def test_facts_outlive_the_rows_of_calls_while_they_are_seen(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**CARDS, **BEARER}))
    office.now += 31 * DAY
    office.call((known, {**CARDS, **BEARER}))
    rows = office.store.query("SELECT kind, detail, min(seen_at), max(seen_at) FROM change_facts GROUP BY 1, 2")
    renewed = {(row[0], row[1]) for row in rows if row[3] == office.now}
    assert renewed == {
        *(("start", ""), ("service", ""), ("endpoint", ""), ("data", ""), ("data", "financial")),
        ("consumer", "inside:"),
    }
    assert office.told == []
