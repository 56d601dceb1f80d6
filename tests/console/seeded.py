"""A collector with everything that pages show, on loopback: the product's own parts over its embedded store.

Services in two namespaces and on a host, endpoints with data, consumers, findings, 20 open alerts, an incident of one
actor, a silenced and a closed alert, blocks and proposals. Made once for the folder.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collector.alerting.alert import AlertKind, AlertState, Report, Severity
from collector.alerting.self_monitoring import StorageState
from collector.api.events import EventHub
from collector.api.services import Services
from collector.core.config import CollectorSettings
from collector.core.kinds import Sensitivity
from collector.inventory.models.prices import ModelPrice, PriceList
from collector.response.block_factory import BlockRequest
from collector.server.app import build_app
from collector.server.compose import Collector
from collector.server.duties import Duties
from collector.server.http_server import HttpServer
from tests.collector.inventory.mcp_server import tell_server
from tests.collector.inventory.models.model_calls import (
    DIAGNOSIS,
    EMAIL,
    JWT,
    OUTSIDE_ADDRESS,
    REQUEST,
    make_use,
    report_uses,
)
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint, write_watch
from tests.console.answers import decide_answers, seed_answers
from tests.waiting import wait_until

OPEN_ALERTS: Final = 20
ATTACKER: Final = "address:10.0.0.66"
LEAK_DATA: Final = {"1": [1, 3], "2": [40, 40]}
MCP_ROUTE: Final = 90
PROVIDER_ROUTE, MODEL_ROUTE = 91, 92
HOSTILE: Final = '<script>alert("x")</script>'

# Method, template, workload, namespace, calls, columns of its minute rows.
ENDPOINTS: Final[tuple[tuple[str, str, str, str, int, dict[str, Any]], ...]] = (
    ("GET", "/users/{user_id}", "users", "shop", 900, {"data": LEAK_DATA, "response_bodies_read": 40}),
    ("POST", "/login", "users", "shop", 120, {"status_code": 401}),
    ("GET", "/orders/{order_id}", "orders", "shop", 2_400, {"authentication": 8, "principal": 77, "principal_kind": 1}),
    ("POST", "/orders", "orders", "shop", 300, {"authentication": 8, "principal": 78, "principal_kind": 1}),
    ("GET", "/v1/charges/{charge_id}", "payments", "billing", 80, {"client_workload": "shop/orders"}),
    ("POST", "/v1/charges", "payments", "billing", 60, {"client_workload": "shop/orders", "status_code": 500}),
    ("GET", "/reports/{report_id}/rows", "reports", "billing", 25, {"duration_max_us": 900_000}),
    ("GET", "/health", "gateway", "", 600, {}),
    ("GET", "/wp-admin", "gateway", "", 7, {"status_code": 404}),
    ("GET", f"/{HOSTILE}", "gateway", "", 3, {}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededCollector:
    """Where it is, and what a page's address needs."""

    address: str  # `http://127.0.0.1:PORT`.
    token: str
    services: Services
    endpoint_id: str
    consumer: str
    alert_id: str
    incident_id: str
    server: HttpServer

    @property
    def names(self) -> dict[str, str]:
        """For addresses in the table of pages."""
        return {
            "endpoint": self.endpoint_id,
            "consumer": self.consumer,
            "alert": self.alert_id,
            "incident": self.incident_id,
            "service": "shop/users:8080",
        }

    def report(self, number: int, **fields: Any) -> None:
        """One more alert, as a detector would open it."""
        self.services.alerts.take_reports([make_report(number, **fields)])


@contextlib.contextmanager
def open_seeded(directory: Path) -> Iterator[SeededCollector]:
    """Runs until the end of the block."""
    settings = CollectorSettings(data_dir=directory, http_listen="127.0.0.1:0", grpc_listen="127.0.0.1:0")
    collector = Collector(settings)
    try:
        alerts = Duties([collector.alert_service.feature])
        collector.tenure.begin(alerts, on_lost=lambda: None, on_error=lambda error: None)
        services = collector.build_services(lambda: "", lambda _: (b"", ""), StorageState)
        _fill(collector, services)
        with _serve(build_app(services), services.events) as (server, port):
            yield _describe(services, server, port)
    finally:
        collector.tenure.stop()
        collector.tenure.release()
        collector.close()


def _describe(services: Services, server: HttpServer, port: int) -> SeededCollector:
    alerts = services.alerts.list_alerts(state=AlertState.OPEN, kind=None, limit=100, after=None)
    accused = [alert for alert in alerts if alert.consumer == ATTACKER]
    assert len(alerts) == OPEN_ALERTS, len(alerts)
    token = services.settings.token
    assert token is not None
    return SeededCollector(
        address=f"http://127.0.0.1:{port}",
        token=token,
        services=services,
        endpoint_id="ep0001",
        consumer=ATTACKER,
        alert_id=accused[0].id,
        incident_id=accused[0].incident_id,
        server=server,
    )


def _fill(collector: Collector, services: Services) -> None:
    seed = Seed()
    for number, (method, template, workload, namespace, calls, columns) in enumerate(ENDPOINTS, start=1):
        endpoint = seed.endpoint(number, method, template, workload=workload, namespace=namespace)
        _call(seed, endpoint, calls, columns)
    seed_answers(seed, services)
    _call(seed, seed.endpoint(MCP_ROUTE, "POST", "/mcp", workload="assistant", namespace="shop"), 40, {})
    _add_models(seed)
    seed.write(collector.store)
    _report_models(collector, services)
    collector.store.insert_records("schemas", tell_server(MCP_ROUTE, ("get_forecast", "list_stations")))
    write_watch(collector.store, collector.sensors, silent_node=True)
    assert services.risks is not None and services.responder is not None and services.detection is not None
    decide_answers(services, [endpoint.id for endpoint in seed.endpoints])
    services.detection[0].choose(Sensitivity.PARANOID, by="test")
    _open_alerts(services)
    for address, reason in (("10.0.0.66", "Reads users without a login."), ("203.0.113.7", "Guesses passwords.")):
        request = BlockRequest(consumer=f"address:{address}", reason=reason, is_confirmed=True)
        services.responder.block(request)


def _add_models(seed: Seed) -> None:
    """A provider that workloads call, and a server of models inside."""
    path = "/v1/chat/completions"
    host = {"host": "api.openai.com", "workload": OUTSIDE_ADDRESS, "workload_kind": 0, "port": 443}
    outside = seed.endpoint(PROVIDER_ROUTE, "POST", path, **host)
    _call(seed, outside, 200, {"role": 2, "client_address": "", "client_workload": "shop/assistant"})
    inside = seed.endpoint(MODEL_ROUTE, "POST", path, host="models.ml", workload="models", namespace="ml", port=8000)
    _call(seed, inside, 60, {})


def _report_models(collector: Collector, services: Services) -> None:
    sent = {REQUEST + EMAIL: 40, REQUEST + JWT: 3, REQUEST + DIAGNOSIS: 5}
    uses = [
        make_use("gpt-4.1", 900, client_workload="shop/assistant", credential=771, errors=12, streamed=700, data=sent),
        make_use("gpt-4.1-mini", 4_200, client_workload="billing/reports", credential=772, counted=4_000),
        make_use(
            "text-embedding-3-small", 12_000, client_workload="shop/search", operation="embeddings", output_tokens=0
        ),
    ]
    own = {"role": 1, "client_workload": "", "client_address": "10.0.0.9", "provider": "vllm"}
    now = min(NOW, time.time())  # The collector's clock is the real one, and NOW may be ahead.
    for route, found in ((PROVIDER_ROUTE, uses), (MODEL_ROUTE, [make_use("acme-small", 300, **own)])):
        collector.store.insert_records("schemas", report_uses(route, *found, now=now))
    prices = [ModelPrice(model="gpt-4.1*", input=1.0, output=4.0), ModelPrice(model="text-*", input=0.01, output=0.0)]
    services.model_prices.put(PriceList(currency="USD", prices=tuple(prices)), by="test")


def _call(seed: Seed, endpoint: SeedEndpoint, calls: int, columns: dict[str, Any]) -> None:
    """For some hours, of a few clients, so that charts have a shape and lists some rows."""
    for minutes_ago in (1, 2, 5, 30, 65, 130, 300):
        for address, share in (("10.0.0.9", 0.6), ("10.0.0.10", 0.3), (ATTACKER.partition(":")[2], 0.1)):
            sent = {"client_address": address, "client_software": "curl", **columns}
            seed.calls(endpoint, max(1, int(calls * share) - minutes_ago % 7), minutes_ago=minutes_ago, **sent)


def _open_alerts(services: Services) -> None:
    """Twenty stay open; one is silenced, one closed. The two kinds of abuse by the attacker are one alert."""
    alerts = services.alerts
    alerts.take_reports([make_report(number) for number in range(OPEN_ALERTS - 3)])
    alerts.take_reports(
        [
            make_report(100, kind=AlertKind.ENUMERATION, consumer=ATTACKER, endpoint_id="ep0001"),
            make_report(101, kind=AlertKind.MASS_EXPORT, consumer=ATTACKER, endpoint_id="ep0003"),
            make_report(102, kind=AlertKind.NEW_CONSUMER, consumer=ATTACKER, severity=Severity.LOW),
            make_report(105, kind=AlertKind.UNAUTHENTICATED_SENSITIVE_DATA, consumer="", endpoint_id="ep0001"),
            make_report(103, consumer="address:10.0.0.103"),
            make_report(104, kind=AlertKind.SENSOR_SILENT, consumer="", endpoint_id="", node="node-9"),
        ]
    )
    alerts.settle(AlertKind.SENSOR_SILENT, "node-9")
    found = alerts.list_alerts(state=AlertState.OPEN, kind=None, limit=100, after=None)
    silenced = next(alert for alert in found if alert.consumer == "address:10.0.0.103")
    alerts.mute(silenced.id, by="test", until=NOW + 365 * 86_400, reason="A load test until Friday.")


def make_report(number: int, **fields: Any) -> Report:
    """One consumer that calls too much."""
    consumer = f"address:10.0.1.{number}"
    values: dict[str, Any] = {
        "kind": AlertKind.VOLUME_PAIR,
        "severity": Severity.HIGH,
        "endpoint_id": f"ep{number % len(ENDPOINTS) + 1:04d}",
        "consumer": consumer,
        "why": f"10.4 calls a second over 60 s against 0.26 expected, of {number}.",
        "calm_seconds": 7 * 86_400.0,
        "window_start": NOW - 65,
        "window_end": NOW - 5,
        "observed_rate": 10.4,
        "expected_rate": 0.26,
        "threshold_rate": 2.0,
        "score": 0.97,
        "calls": 624,
        "nodes": ("node-1",),
        "advice": "Check that the caller may do this.",
        **fields,
    }
    who = values["consumer"] or values.get("node") or "Somebody"
    values.setdefault("title", f"{who} calls GET /orders/{{order_id}} 40 times as often")
    return Report(**values)


@contextlib.contextmanager
def _serve(app: Any, events: EventHub) -> Iterator[tuple[HttpServer, int]]:
    """In a thread of its own: the browser's driver keeps the loop of this one."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = HttpServer(app, files=None, grace_seconds=1.0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="console server")
    thread.start()
    try:
        wait_until(_is_started(server, thread), "the server starts")
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        events.close()
        thread.join()
        listener.close()


def _is_started(server: HttpServer, thread: threading.Thread) -> Callable[[], bool]:
    return lambda: server.started or not thread.is_alive()
