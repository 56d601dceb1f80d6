"""Calls that were not read, from the sensor's rooms to what people see: no status, no abort, no error, and marked."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from collector.api.services import ApiSettings, Services
from collector.cli.commands import register
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.table import TemplateTable
from collector.receiver.convert import convert_bytes
from collector.receiver.reports import RevealBook
from collector.server.app import build_app
from collector.storage.arrow import build_routes, build_rows
from collector.storage.columns import RowBatch
from collector.storage.embedded import EmbeddedStore
from collector.storage.row_group import make_group
from sensor.aggregate.aggregator import Aggregator
from sensor.core.calls import CallRecord, Role
from sensor.ebpf.abi import ESTIMATED_CLASS, OVERFLOW_KEY
from sensor.export.convert import BatchConverter
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.states import create_state
from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.kernel import Call
from tests.sensor.records import change_fields

pytestmark = pytest.mark.store

NOW = int(time.time())
HEAD = b"GET /v1/orders/1717 HTTP/1.1\r\nHost: shop.example\r\n\r\n"
SERVED, LOST, ABORTED, FAILED = 10, 4, 2, 1  # Calls of one endpoint; the answers of some found a ring full.
ESTIMATED = 31_099  # Of a process that is read in turns.


def make_payloads() -> list[bytes]:
    """What a sensor sends of these calls."""
    aggregator = Aggregator()
    sensor = Sensor(facts=aggregator.facts)
    start_ns = (NOW - 60) * 1_000_000_000
    fields: list[dict[str, Any]] = [
        *[{}] * SERVED,
        *[{"status_code": 0, "response_head": b"", "is_lossy": True, "is_aborted": True}] * LOST,
        *[{"status_code": 0, "response_head": b"", "is_aborted": True}] * ABORTED,
        *[{"status_code": 500}] * FAILED,
    ]
    for number, changes in enumerate(fields):
        call = Call(head=HEAD, time_ns=start_ns + number * 1_000_000)
        exchange = change_fields(sensor.kernel.make_exchange(call), **changes)
        record = sensor.describer.describe(exchange)
        assert isinstance(record, CallRecord)
        aggregator.add(record)
    key = OVERFLOW_KEY.pack(3, 80, int(Role.SERVER), ESTIMATED_CLASS)
    aggregator.add_calls(sensor.matcher.converter.convert_overflow({key: (ESTIMATED, 0, 0, 0)}, time_unix_ns=start_ns))
    batches = BatchConverter(node="n", boot_id="b").convert(
        aggregator.flush(), key_id=1, policy_epoch=1, clock_segment=1, lost_calls_total=0, seen_calls_total=0
    )
    return [batch.payload for batch in batches]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    for payload in make_payloads():
        batch = convert_bytes(payload, NOW)
        assert isinstance(batch, RowBatch)
        store.insert_arrow("routes", build_routes([(route, NOW - 60) for route in batch.routes]))
        store.insert_arrow("rows_minute", build_rows(make_group(batch)))
    state = create_state()
    Catalogue(store, TemplateTable(state, store), RevealBook())
    app = build_app(
        Services(
            store=store,
            state=state,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: float(NOW),
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        yield opened
    store.close()


def find(client: TestClient, host: str, since: str) -> dict[str, Any]:
    items = client.get("/api/v1/endpoints", params={"since": since}).json()["items"]
    found: dict[str, Any] = next(one for one in items if one["host"] == host)
    return found


@pytest.mark.parametrize("since", ["1h", "24h", "7d"])
def test_estimated_calls_have_no_status_and_are_no_errors(client: TestClient, since: str) -> None:
    other = find(client, "other", since)
    assert other["calls"] == other["status"]["not_read"] == ESTIMATED
    assert {name: calls for name, calls in other["status"].items() if calls} == {"not_read": ESTIMATED}
    assert other["is_estimated"] and other["is_lossy"] and other["tier"] == "unconfirmed"
    detail = client.get(f"/api/v1/endpoints/{other['id']}", params={"since": since}).json()
    assert detail["status_codes"] == {"not read": ESTIMATED}
    assert [(one["errors"], one["not_read"]) for one in detail["top_consumers"]] == [(0, ESTIMATED)]
    assert {point["errors"] for point in detail["series"]} == {0}
    assert detail["time_to_first_byte_ms"] is None


@pytest.mark.parametrize("since", ["1h", "24h", "7d"])
def test_a_lost_answer_is_no_abort_at_its_endpoint_and_an_abort_is_one(client: TestClient, since: str) -> None:
    orders = find(client, "shop.example", since)
    status = {name: calls for name, calls in orders["status"].items() if calls}
    assert status == {"2xx": SERVED, "5xx": FAILED, "aborted": ABORTED, "not_read": LOST}
    assert orders["is_lossy"] and not orders["is_estimated"]
    detail = client.get(f"/api/v1/endpoints/{orders['id']}", params={"since": since}).json()
    assert detail["status_codes"] == {"200": SERVED, "500": FAILED, "aborted": ABORTED, "not read": LOST}
    (consumer,) = detail["top_consumers"]
    assert (consumer["errors"], consumer["not_read"]) == (ABORTED + FAILED, LOST)
    assert sum(point["errors"] for point in detail["series"]) == ABORTED + FAILED
    (caller,) = [one for one in client.get("/api/v1/consumers").json()["items"] if one["kind"] == "address"]
    assert caller["errors"] == ABORTED + FAILED
    minute = NOW // 60 * 60
    span = {
        name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in (("start", minute - 600), ("end", minute))
    }
    sums = client.get("/api/v1/calls", params={"endpoint": orders["id"], **span}).json()["total"]
    assert (sums["calls"], sums["errors"], sums["not_read"]) == (17, ABORTED + FAILED, LOST)


def test_the_page_shows_them_as_neither_errors_nor_successes(client: TestClient) -> None:
    for host, ratio in (("other", "–"), ("shop.example", "23 %")):
        page = client.get(f"/endpoints/{find(client, host, '24h')['id']}").text
        assert f"<dt>Errors</dt><dd>{ratio}<svg" in page
        mix = page.partition("<dt>Errors</dt>")[2].partition("</svg>")[0]
        assert ('class="server-error"' in mix) is (host != "other")
        assert "calls were not read" in page and "not read</td>" in page
    row = client.get("/endpoints", params={"host": "other"}).text
    assert "≈ </span>31k" in row and "31099 not read" in row


def test_the_table_marks_them(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        def __enter__(self) -> TestClient:
            return client

        def __exit__(self, *_: object) -> None:
            """The fixture closes it."""

    monkeypatch.setattr(httpx, "Client", lambda **_: Held())
    app = typer.Typer()
    register(app)
    lines = CliRunner().invoke(app, ["get", "endpoints", "--token", "t"], env={"COLUMNS": "300"}).stdout.splitlines()
    (other,) = [line for line in lines if " other " in line]
    (orders,) = [line for line in lines if "shop.example" in line]
    assert "≈ 31,099" in other and "not_read" in lines[0] + lines[1]
    assert "≈" not in orders and orders.split()[5:10] == ["17", "10", "0", "1", "4"]
