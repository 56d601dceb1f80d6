"""An installation of two namespaces whose every name carries a canary, for tests of what a bound principal sees.

Both have the same of everything: endpoints, consumers, alerts, findings, a description, ports, workloads, addresses,
schemas. What is of the whole installation names the other namespace: labels, views, rules, blocks.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from collector.alerting.alert import AlertKind, AlertState
from collector.alerting.self_monitoring import StorageState
from collector.api.services import Services
from collector.core.config import CollectorSettings
from collector.core.destinations import WebhookNotifier
from collector.detection.changes.detector import FactTable
from collector.detection.changes.rules import Fact, FactKind
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.query import Since, span_since
from collector.receiver.schemas import SchemaRecord
from collector.response.block_factory import BlockRequest
from collector.server.app import build_app
from collector.server.compose import Collector
from collector.server.duties import Duties
from collector.storage.state.store import upsert
from collector.storage.state.tables.inventory import ENDPOINT_ROUTES, RETIRED_ENDPOINTS
from tests.collector.inventory.mcp_server import tell_server
from tests.collector.inventory.models.model_calls import make_use, report_uses
from tests.collector.inventory.seed import NOW, Seed, SeedEndpoint, make_coverage, write_watch
from tests.console.answers import EMAIL, PERSON, RESPONSE, count_data
from tests.console.seeded import make_report

CLUSTER: Final = "kube"
MINE, OTHER = "mineq", "otherq"
DAY: Final = 86_400
BOTH: Final = "192.88.99.7"  # Calls both, from outside.


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceNames:
    """What is in one of the namespaces."""

    canary: str
    number: int

    @property
    def namespace(self) -> str:
        return f"ns-{self.canary}"

    @property
    def service(self) -> str:
        return f"{self.namespace}/w-{self.canary}:8080"

    @property
    def endpoint_id(self) -> str:
        return f"ep{self.number:04d}"

    @property
    def address(self) -> str:
        return f"10.{self.number}.0.9"

    @property
    def consumer(self) -> str:
        return f"workload:{self.namespace}/c-{self.canary}"

    @property
    def spec(self) -> str:
        return f"d-{self.canary}"


PLACES: Final = (PlaceNames(canary=MINE, number=100), PlaceNames(canary=OTHER, number=200))


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The application, and ids of what there is in each namespace by the name of a path's parameter."""

    app: FastAPI
    services: Services
    collector: Collector

    def name(self, place: PlaceNames) -> dict[str, str]:
        """Values of the parameters of paths."""
        alerts = self.services.alerts.list_alerts(limit=100, service=place.service)
        alert = next(one for one in alerts if one.title == f"title-{place.canary}")
        assert self.services.risks is not None and self.services.responder is not None
        findings = self.services.risks.table.read_findings([place.endpoint_id])[place.endpoint_id]
        return {
            "endpoint_id": place.endpoint_id,
            "service": place.service,
            "name": place.service,
            "consumer_id": place.consumer,
            "alert_id": alert.id,
            "incident_id": alert.incident_id,
            "finding_id": findings[0].id,
            "rule": findings[0].rule,
            "spec": place.spec,
            "node": f"node-{place.canary}",
            "block_id": next(
                one.id for one in self.services.responder.list_blocks() if one.reason == f"block-{place.canary}"
            ),
            "kind": "nginx",
            "server_id": next(
                one.id
                for one in self.services.mcp.read_all(span_since(Since.DAY, NOW)).servers
                if one.service == place.service
            ),
        }


@contextlib.contextmanager
def open_installation(directory: Path) -> Iterator[Installation]:
    """Until the end of the block. Its clock stands at the rows' present, whatever hour or day begins meanwhile."""
    settings = CollectorSettings(
        data_dir=directory,
        http_listen="127.0.0.1:0",
        grpc_listen="127.0.0.1:0",
        notifiers=(WebhookNotifier(kind="webhook", name="nobody", url="http://127.0.0.1:9/"),),
    )
    collector = Collector(settings, clock=lambda: NOW)
    try:
        alerts = Duties([collector.alert_service.feature])
        collector.tenure.begin(alerts, on_lost=lambda: None, on_error=lambda error: None)
        services = collector.build_services(lambda: "", lambda _: (b"", "text/plain"), StorageState)
        _fill(collector, services)
        yield Installation(app=build_app(services), services=services, collector=collector)
    finally:
        collector.tenure.stop()
        collector.tenure.release()
        collector.close()


def _fill(collector: Collector, services: Services) -> None:
    seed = Seed()
    for place in PLACES:
        _add_endpoints(seed, place)
    seed.write(collector.store)
    write_watch(collector.store, collector.sensors)
    with collector.state.write() as connection:
        upsert(connection, ENDPOINT_ROUTES, [_write_route(one) for one in seed.endpoints])
        upsert(connection, RETIRED_ENDPOINTS, [_retire(place) for place in PLACES])
    for place in PLACES:
        tools = f"get_{place.canary}", "get_forecast"
        collector.store.insert_records("schemas", tell_server(place.number + 1, tools, f"{place.canary}-server"))
        asked = make_use(f"m-{place.canary}", 9, role=1, client_workload=f"{place.namespace}/c-{place.canary}")
        collector.store.insert_records("schemas", report_uses(place.number + 1, asked))
        _add_facts(collector, place)
        _decide(services, place)
    assert services.risks is not None and services.specs is not None
    services.specs.look()
    services.risks.reassess([one.id for one in seed.endpoints])
    for place in PLACES:
        _report(services, place)
    # Watched for long, so that what the servers list is news, and the one of MINE shadows the other.
    start = Fact(kind=FactKind.START, subject="mcp", first_seen=NOW - 9 * DAY, seen_at=NOW)
    FactTable(collector.state).save([start])
    collector.mcp_watch.look()


def _add_endpoints(seed: Seed, place: PlaceNames) -> None:
    for step, (method, name) in enumerate((("GET", "p"), ("POST", "q"), ("GET", "openapi.json"))):
        endpoint = seed.endpoint(
            place.number + step,
            method,
            f"/{name}-{place.canary}/{{id}}" if step < 2 else "/openapi.json",
            host=f"h-{place.canary}.example",
            workload=f"w-{place.canary}",
            workload_kind=4,
            namespace=place.namespace,
            cluster=CLUSTER,
            first_seen=NOW - 600 - place.number if step else NOW - 3 * DAY,
        )
        own = {**count_data(RESPONSE + PERSON, RESPONSE + EMAIL), "client_software": f"s-{place.canary}"}
        for minutes in (1, 31, 90):
            seed.calls(endpoint, 40, minutes_ago=minutes, client_address=place.address, **own)
            workload = f"{place.namespace}/c-{place.canary}"
            seed.calls(endpoint, 9, minutes_ago=minutes, client_address="", client_workload=workload, **own)
            # Somebody who calls both.
            seed.calls(endpoint, 5, minutes_ago=minutes, client_address=BOTH, **own)


def _write_route(endpoint: SeedEndpoint) -> dict[str, Any]:
    return {
        "route_id": endpoint.route_id,
        "revision": 1,
        "endpoint_id": endpoint.id,
        "service": f"{endpoint.namespace}/{endpoint.workload}:{endpoint.port}",
        "cluster": endpoint.cluster,
        "namespace": endpoint.namespace,
        "workload": endpoint.workload,
        "workload_kind": endpoint.workload_kind,
        "host_name": "",
        "port": endpoint.port,
        "host": endpoint.host,
        "method": endpoint.method,
        "url_template": endpoint.template,
    }


def _retire(place: PlaceNames) -> dict[str, Any]:
    return {
        "id": f"gone{place.number}",
        "service": place.service,
        "host": f"h-{place.canary}.example",
        "method": "GET",
        "template": f"/gone-{place.canary}",
        "calls": 3,
        "assessed": 3,
        "authenticated": 0,
        "first_seen": int(NOW) - 60 * DAY,
        "last_seen": int(NOW) - 40 * DAY,
        "days": {},
        **dict.fromkeys(("parent_id", "protocol", "kind", "name"), ""),
    }


def _add_facts(collector: Collector, place: PlaceNames) -> None:
    """Ports, exposure, addresses, labels of workloads, and what bodies look like."""
    canary, now = place.canary, datetime.fromtimestamp(NOW, UTC)
    port = make_coverage(
        f"w-{canary}", 8443, 1, 2, "0.0.0.0", 1, 30, 9_000, f"TLS of {canary}", 5, node=f"node-{canary}"
    )
    placed = replace(port, cluster=CLUSTER, namespace=place.namespace, host_name="")
    collector.store.insert_records("coverage_rows", [placed])
    rows = {
        "exposures": {"workload": f"w-{canary}", "port": 8080, "time": int(NOW) - 60, "facts": "[]"},
        "peer_addresses": {
            "address": place.address,
            "port": 0,
            "since": int(NOW) - DAY,
            "until": 0,
            "kind": "pod",
            "name": f"pod-{canary}",
            "workload": f"c-{canary}",
            "workload_kind": "Deployment",
            "node": f"node-{canary}",
            "services": f"['svc-{canary}']",
            "workloads": "[]",
            "version": 1,
        },
        "workloads": {
            "workload": f"w-{canary}",
            "node": f"node-{canary}",
            "kind": "Deployment",
            "labels": f"['app=l-{canary}']",
            "zone": "",
            "pods": 1,
            "time": int(NOW),
        },
    }
    for table, row in rows.items():
        whole = {"cluster": CLUSTER, "namespace": place.namespace, **row}
        values = ", ".join(_literal(value) for value in whole.values())
        collector.store.execute(f"INSERT INTO {table} ({', '.join(whole)}) VALUES ({values})")
    collector.store.insert_records("schemas", [_describe(place, now)])


def _literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) and not value.startswith("[") else str(value)


def _describe(place: PlaceNames, now: datetime) -> SchemaRecord:
    operation = ["graphql", "query", f"Op{place.canary}", 20, 0, 20, 0, 0, [[8], [20]], [[], []], 20, 20, 2, 0, 0]
    operation[-2:] = [int(NOW) - 900, int(NOW) - 60]
    return SchemaRecord(
        route_id=place.number + 1,
        part=6,
        status_class=0,
        media_type="",
        node=f"node-{place.canary}",
        boot_id="b",
        generation=1,
        version=1,
        samples=20,
        left_out=0,
        fields="",
        operations=json.dumps([operation]),
        time=now,
        operation="",
        digest=place.number,
    )


def _decide(services: Services, place: PlaceNames) -> None:
    """What people decided, of the whole installation but for the description."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": place.spec, "version": "1"},
        "servers": [{"url": f"http://h-{place.canary}.example"}],
        "paths": {f"/{name}-{place.canary}/{{id}}": {"get": {"responses": {}}} for name in ("p", "orphan")},
    }
    services.spec_table.upload(
        name=place.spec, document=json.dumps(document), service=place.service, source="api", by=f"by-{place.canary}"
    )
    label, note = f"label-{place.canary}", f"note-{place.canary}"
    services.labels.put(parse_consumer(f"address:{place.address}"), name=label, note=note, by="test")
    services.views.save("endpoints", f"view-{place.canary}", {"service": place.service}, by="test")
    services.coverage_targets.put(
        cluster="", namespace=place.namespace, ratio=0.9, seconds=600, by=f"by-{place.canary}"
    )
    assert services.responder is not None
    own = {"services": (f"{place.namespace}/",), "reason": f"block-{place.canary}"}
    services.responder.block(BlockRequest(consumer=f"address:{BOTH}", is_confirmed=True, **own))
    if place.canary == OTHER:
        reason = f"Reads {place.canary}."
        services.responder.block(BlockRequest(consumer="address:203.0.113.7", reason=reason, is_confirmed=True))


def _report(services: Services, place: PlaceNames) -> None:
    """Alerts of the namespace, one of both, and one of a workload without routes."""
    about = {
        "service": place.service,
        "namespace": place.namespace,
        "endpoint_id": place.endpoint_id,
        "route_ids": (place.number,),
        "title": f"title-{place.canary}",
        "why": f"why-{place.canary}",
        "advice": f"advice-{place.canary}",
    }
    services.alerts.take_reports(
        [
            make_report(place.number, consumer=place.consumer, **about),
            make_report(
                place.number + 1,
                **{**about, "route_ids": tuple(one.number for one in PLACES), "title": f"both-{OTHER}"},
                kind=AlertKind.ENUMERATION,
                consumer=f"address:{BOTH}",
            ),
        ]
    )
    open_alerts = services.alerts.list_alerts(limit=100, state=AlertState.OPEN)
    own = next(one for one in open_alerts if one.title == f"title-{place.canary}")
    services.alerts.acknowledge(own.id, by=f"by-{place.canary}")
