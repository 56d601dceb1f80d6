"""Errors as pages: a browser gets the sentence in the frame, a program gets a problem."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from collector.alerting.alert import Severity
from collector.api.services import ApiSettings, Services
from collector.core.budget import check_budget, find_budget
from collector.server.app import build_app
from collector.storage.base import StoreError
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.http_serving import EmptyReader
from tests.collector.states import create_state

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>"


class BrokenReader(EmptyReader):
    """A store that is away, or whose answer nobody can read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]:
        raise self.error


class LateReader(EmptyReader):
    """A store that uses up the time of a request."""

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]:
        budget = find_budget()
        assert budget is not None
        budget._ends_at = 0.0
        budget.check()
        raise AssertionError


class CountingAlerts(MemoryAlerts):
    """Its count in the frame is read from the state."""

    def count_open(self) -> dict[Severity, int]:
        check_budget()
        return super().count_open()


def open_client(store: Any) -> TestClient:
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=CountingAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: 1_800_000_000.0,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("method", "path", "store", "status", "sentence"),
    [
        ("GET", f"/{HOSTILE}", EmptyReader(), 404, "There is nothing at"),
        ("GET", "/incidents/none", EmptyReader(), 404, "There is no incident"),
        ("PUT", "/alerts", EmptyReader(), 405, "PUT is not possible at"),
        ("POST", "/theme", EmptyReader(), 422, "more than 20 fields"),
        ("GET", "/coverage", BrokenReader(StoreError("the disk is away")), 503, "The store could not answer"),
        ("GET", "/coverage", LateReader(), 503, "which is the limit"),
        ("GET", "/coverage", BrokenReader(ZeroDivisionError()), 500, "its log says why"),
    ],
)
def test_a_browser_gets_a_page_and_a_program_a_problem(
    method: str, path: str, store: Any, status: int, sentence: str
) -> None:
    client = open_client(store)
    form = urlencode([("theme", "light")] * 21) if method == "POST" else None
    page = client.request(method, path, headers=BROWSER, content=form)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert sentence in page.text and "<h1>" in page.text and 'id="navigation"' in page.text and HOSTILE not in page.text
    assert ("Try again" in page.text) == (status >= 500)
    problem = client.request(method, path, headers={"accept": "*/*"}, content=form)
    assert (problem.status_code, problem.headers["content-type"]) == (status, "application/problem+json")
    assert sentence in problem.json()["detail"]


def test_the_api_never_answers_with_a_page() -> None:
    answer = open_client(EmptyReader()).get("/api/v1/nothing", headers=BROWSER)
    assert answer.headers["content-type"] == "application/problem+json"
