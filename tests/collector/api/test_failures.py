"""What a client gets when the store or the collector fails: a problem in our own words, and the log says the rest."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from collector.storage.base import RefusedStatementError, StateError, StoreError
from tests.collector.api.client import TestClient
from tests.collector.http_serving import TOKEN, make_app

SECRET = "Code: 999. DB::Exception: of table rows_minute"


class FailingReader:
    """A store that fails one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (StoreError(SECRET), 503, "The store could not answer; try again in some seconds."),
        (StoreError(SECRET, "ask for less"), 503, "The store could not answer; ask for less."),
        (
            StateError(SECRET),
            503,
            "The state could not answer; the collector's log names its database and what is wrong with it.",
        ),
        (RefusedStatementError(SECRET), 500, "The collector failed to answer this; its log says why."),
        (ValueError(SECRET), 500, "The collector failed to answer this; its log says why."),
    ],
)
def test_no_word_of_the_database_reaches_a_client(
    error: Exception, status: int, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with TestClient(make_app(store=FailingReader(error)), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        for path in ("/api/v1/coverage", "/coverage"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
            assert answer.json()["detail"].startswith(detail)
            assert "DB::" not in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
    assert SECRET in caplog.text
