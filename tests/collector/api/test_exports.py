"""A list in one file: all rows of the same query, no cell a formula, and where it ends early it says so."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.api import exports
from collector.api.columns import LIST_COLUMNS
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

FORMULA = "=cmd|' /C calc'!A0"
ENDPOINTS = 7


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("exports"))
    seed = Seed()
    for number in range(1, ENDPOINTS):
        seed.calls(seed.endpoint(number, "GET", f"/items/{number}"), number)
    seed.calls(seed.endpoint(ENDPOINTS, "POST", "/x", host=FORMULA), 1)
    seed.write(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(make_alert("a1")),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened
    store.close()


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_file_has_all_rows_of_the_query_in_its_order(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "LIMIT_MAX", 2)
    asked = {"method": "GET", "sort": "calls", "order": "asc", "limit": "1"}
    answer = client.get("/api/v1/exports/endpoints.csv", params=asked)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="endpoints.csv"'
    rows = read_rows(answer.text)
    assert [row["template"] for row in rows] == [f"/items/{number}" for number in range(1, ENDPOINTS)]
    assert list(rows[0]) == [column.name for column in LIST_COLUMNS["endpoints"]]
    whole = client.get("/api/v1/exports/endpoints.json", params=asked).json()
    listed = client.get("/api/v1/endpoints", params={**asked, "limit": "50"}).json()
    assert whole == {"items": listed["items"], "total": ENDPOINTS - 1, "is_complete": True}


def test_a_file_that_ends_early_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_MAX", 3)
    answer = client.get("/api/v1/exports/endpoints.csv")
    assert len(read_rows(answer.text)) == 3
    assert answer.headers["apidae-complete"] == "false"
    assert f'filename="endpoints-first-3-of-{ENDPOINTS}.csv"' in answer.headers["content-disposition"]
    assert client.get("/api/v1/exports/endpoints.json").json()["is_complete"] is False
    rows, asked = read_rows(answer.text), {}
    while cursor := answer.headers.get("apidae-next-cursor"):
        asked["cursor"] = cursor
        answer = client.get("/api/v1/exports/endpoints.csv", params=asked)
        rows += read_rows(answer.text)
    assert len({row["id"] for row in rows}) == len(rows) == ENDPOINTS


def test_no_cell_is_a_formula(client: TestClient) -> None:
    rows = read_rows(client.get("/api/v1/exports/endpoints.csv", params={"method": "POST"}).text)
    assert [row["host"] for row in rows] == [f"'{FORMULA}"]


@pytest.mark.parametrize("path", sorted(LIST_COLUMNS.keys() - {"findings"}))  # Findings need a RiskAssessor.
def test_every_list_with_columns_can_be_exported(client: TestClient, path: str) -> None:
    answer = client.get(f"/api/v1/exports/{path}.csv")
    assert answer.status_code == 200, answer.text
    assert answer.text.splitlines()[0].split(",") == [column.name for column in LIST_COLUMNS[path]]
    refused = client.get(f"/api/v1/exports/{path}.json", params={"colour": "red"})
    assert refused.status_code == 422 and "'colour' does not exist" in refused.json()["detail"]
