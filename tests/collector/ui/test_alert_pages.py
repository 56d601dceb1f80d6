"""Pages of alerts, incidents and detection over alerts in memory: filters, verdicts, the query as a link, rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from collector.alerting.alert import AlertKind, AlertState, Confidence, Severity
from collector.alerting.detection import Detection, DetectionTable
from collector.api.calls import AlertPointModel, AlertSeriesModel
from collector.api.services import ApiSettings, Services
from collector.core.kinds import Sensitivity
from collector.core.rates import CALLS_A_SECOND
from collector.inventory.evidence.explanation import ExpectedFrom
from collector.server.app import build_app
from collector.storage.base import Store
from collector.storage.state.store import StateStore
from collector.ui.alerts.page import draw_series
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW


class EmptyStore:
    """No rows."""

    def query_columns(self, sql: str, parameters: object = None) -> dict[str, list[Any]]:
        return {}


@dataclass
class Console:
    client: TestClient
    detection: Detection


@pytest.fixture
def console(sqlite_state: StateStore) -> Iterator[Console]:
    numbers, store = count(1), cast(Store, EmptyStore())
    detection = Detection(
        table=DetectionTable(store, sqlite_state),
        configured=Sensitivity.NORMAL,
        clock=lambda: NOW,
        new_id=lambda: f"r{next(numbers)}",
    )
    alerts = MemoryAlerts(
        make_alert("grave", severity=Severity.HIGH, service="shop/orders:8080", title="<b>reads</b> all"),
        make_alert("notice", severity=Severity.LOW, confidence=Confidence.LOW),
        make_alert(
            "node",
            kind=AlertKind.SENSOR_LAG,
            severity=Severity.MEDIUM,
            node="node-1",
            consumer="",
            endpoint_id="",
            route_ids=(),
        ),
        make_alert("past", state=AlertState.CLOSED, closed_at=NOW),
    )
    services = Services(
        store=store,
        state=sqlite_state,
        alerts=alerts,
        settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
        clock=lambda: NOW,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
        detection=(detection, alerts),
    )
    yield Console(TestClient(build_app(services), base_url="http://127.0.0.1:8080", follow_redirects=False), detection)


def test_the_list_has_a_row_an_alert_with_severity_and_confidence_apart(console: Console) -> None:
    page = console.client.get("/alerts").text
    assert page.count("<h1>") == 1 and "<b>reads</b>" not in page
    assert page.count('<th scope="row"') == 3 and 'href="/alerts/grave"' in page
    assert "Open 3" in page and "Closed 1" in page
    row = page[page.index("alert-notice") :]
    assert '<span class="badge ">low</span>' in row and '<td data-label="Confidence">low</td>' in row


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("severity=high", {"grave"}),
        ("service=shop/orders:8080", {"grave"}),
        ("confidence=low", {"notice"}),
        ("kind=sensor_lag", {"node"}),
        ("state=closed", {"past"}),
    ],
)
def test_filters_narrow_the_list_and_stay_in_the_form(console: Console, asked: str, shown: set[str]) -> None:
    page = console.client.get(f"/alerts?{asked}").text
    assert {name for name in ("grave", "notice", "node", "past") if f'id="alert-{name}"' in page} == shown
    name, _, value = asked.partition("=")
    assert f'<input type="hidden" name="state" value="{value if name == "state" else "open"}">' in page


def test_a_wrong_filter_is_a_sentence_on_the_page(console: Console) -> None:
    answer = console.client.get("/alerts?severity=grave")
    assert answer.status_code == 422 and "Start again" in answer.text


def test_an_alert_without_calls_has_its_facts_and_no_chart(console: Console) -> None:
    page = console.client.get("/alerts/node").text
    assert page.count("<h1>") == 1 and "node-1" in page and "about no calls" in page
    assert "Block " not in page and 'id="verdict-note"' in page


def test_a_rule_is_made_on_the_page_and_a_refusal_keeps_what_was_written(console: Console) -> None:
    refused = console.client.post("/detection/known-good", data={"note": "Ours", "network": "nonsense", "days": "7"})
    assert refused.status_code == 422 and "use a form like 198.51.100.0/24" in refused.text
    assert 'name="network" value="nonsense"' in refused.text and '<option value="7" selected>' in refused.text
    assert console.client.post("/detection/known-good", data={"note": "Ours", "days": "7"}).status_code == 422
    made = console.client.post(
        "/detection/known-good", data={"note": "<i>Ours</i>", "network": "198.51.100.0/24", "kind": "", "days": "7"}
    )
    assert (made.status_code, made.headers["location"]) == (303, "/detection#rules")
    ((rule, _),) = console.detection.list_rules()
    assert (rule.network, rule.note, rule.expires_at) == ("198.51.100.0/24", "<i>Ours</i>", NOW + 7 * 86_400)


def test_a_short_history_is_not_stretched_to_a_day(console: Console) -> None:
    page = console.client.get("/detection").text
    assert "so the figures a day are not known yet" in page


def test_a_series_draws_what_is_known() -> None:
    point = {"calls": 60, "observed": 1.0, "expected": None, "limit": None}
    series = AlertSeriesModel(
        unit=CALLS_A_SECOND, step_seconds=60, expected_from=ExpectedFrom.NOTHING,
        points=tuple(AlertPointModel.model_validate({**point, "start": NOW + 60 * n}) for n in range(3)),
    )  # fmt: skip
    assert draw_series(series).columns == ("observed",)
    known = series.model_copy(
        update={"points": tuple(one.model_copy(update={"expected": 0.5, "limit": 2.0}) for one in series.points)}
    )
    assert draw_series(known).columns == ("observed", "expected", "limit")
