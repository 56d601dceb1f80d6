"""The API over a store with made calls, and its answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW
from tests.collector.states import create_state


@contextmanager
def open_client(store: EmbeddedStore) -> Iterator[TestClient]:
    """Without tokens, at the time of the seed."""
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="1"),
            clock=lambda: NOW,
            readiness=str,
            metrics=lambda accept: (b"", ""),
        )
    )
    with TestClient(app, base_url="http://localhost") as opened:
        yield opened


def read(client: TestClient, route: str) -> Any:
    """The JSON of a route below `/api/v1`, which answers 200."""
    answer = client.get(f"/api/v1/{route}")
    assert answer.status_code == 200, answer.text
    return answer.json()
