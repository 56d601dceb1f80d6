"""What is wrong with the collector's storage stands above every page, and on none that needs no token."""

from pathlib import Path

import pytest

from collector.alerting.self_monitoring import StorageState
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.http_serving import EmptyReader
from tests.collector.states import create_state

TROUBLE = "The volume of /data has 3 MB free."


def open_client(token: str | None) -> TestClient:
    services = Services(
        store=EmptyReader(),  # type: ignore[arg-type]
        state=create_state(),
        alerts=MemoryAlerts(),
        settings=ApiSettings(token=token, version="0.1.0", htmx_path=Path("/nonexistent")),
        clock=lambda: 1_800_000_000.0,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
        storage=lambda: StorageState(shortage=TROUBLE),
    )
    return TestClient(build_app(services), base_url="http://127.0.0.1:8080")


@pytest.mark.parametrize("path", ["/settings", "/alerts", "/sensors"])
def test_pages_say_what_is_wrong_with_the_storage(path: str) -> None:
    page = open_client(None).get(path)
    assert page.status_code == 200 and page.text.count(TROUBLE) == 1


def test_whoever_is_not_signed_in_is_shown_nothing_of_it() -> None:
    client = open_client("t" * 20)
    for path in ("/login", "/nothing"):
        assert TROUBLE not in client.get(path).text
