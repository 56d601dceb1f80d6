"""A small installation for tests of the inventory and the API: routes, mapped endpoints, minute rows, sensors and
ports.

Written straight into the tables of collector/storage/tables/, by the columns' names, as the ingest room leaves
them.
"""

import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from collector.receiver.reports import CoverageRecord
from collector.receiver.sensor_status import SensorStatus
from collector.receiver.sensors import SensorRegistry
from collector.storage.base import Store

# The engine drops minute rows older than 48 h by its own clock, so the present is real; but half past the hour, far
# from any edge.
NOW = float(int(time.time()) // 3_600 * 3_600 + 1_830)
MINUTE = 60

HISTOGRAM = pa.struct([("1", pa.list_(pa.uint16())), ("2", pa.list_(pa.uint64()))])
ROWS_SCHEMA = pa.schema(
    [
        ("time", pa.uint32()),
        ("route_id", pa.uint64()),
        ("principal", pa.uint64()),
        ("principal_kind", pa.uint8()),
        ("credential", pa.uint64()),
        ("client_address", pa.string()),
        ("client_workload", pa.string()),
        ("authentication", pa.uint32()),
        ("status_code", pa.uint16()),
        ("role", pa.uint8()),
        ("hop", pa.uint8()),
        ("protocol_version", pa.string()),
        ("client_software", pa.string()),
        ("carriers", pa.string()),
        ("first_seen", pa.uint32()),
        ("last_seen", pa.uint32()),
        ("request_content_type", pa.string()),
        ("response_content_type", pa.string()),
        ("flags", pa.uint32()),
        ("calls", pa.uint64()),
        ("request_bytes", pa.uint64()),
        ("response_bytes", pa.uint64()),
        ("time_to_first_byte_sum_us", pa.uint64()),
        ("duration_sum_us", pa.uint64()),
        ("duration_max_us", pa.uint64()),
        ("duration", HISTOGRAM),
        ("response_size", HISTOGRAM),
        ("objects_count", pa.uint64()),
        ("object_numeric_calls", pa.uint64()),
        ("object_monotonic_steps", pa.uint64()),
        ("object_numeric_span", pa.uint64()),
        ("kind", pa.uint8()),
        ("rpc_status", pa.uint8()),
        ("ended_later", pa.uint64()),
        ("streams", pa.uint64()),
        ("stream_duration_sum_us", pa.uint64()),
        ("counted_messages_calls", pa.uint64()),
        ("request_messages", pa.uint64()),
        ("response_messages", pa.uint64()),
        ("records_returned", pa.uint64()),
        ("records_measured", pa.uint64()),
        ("request_bodies_read", pa.uint64()),
        ("response_bodies_read", pa.uint64()),
        ("data", pa.struct([("1", pa.list_(pa.uint16())), ("2", pa.list_(pa.uint64()))])),
        ("objects", pa.list_(pa.uint64())),
        ("attacks", pa.uint64()),
        ("attacks_confirmed", pa.uint64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRecord:
    """One row of `routes`."""

    route_id: int
    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int
    host: str
    method: str
    segment_kind: list[int]
    segment_text: list[str]
    segment_hash: list[int]
    segment_length: list[int]
    has_trailing_slash: bool
    first_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRouteRecord:
    """One row of `endpoint_routes`."""

    route_id: int
    version: int
    endpoint_id: str
    service: str
    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int
    host: str
    method: str
    url_template: str


FALLBACK_REASON = "attaching to the cgroup failed: <b>another</b> program holds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedEndpoint:
    """One endpoint with one route, before any call."""

    route_id: int
    method: str
    template: str
    host: str = "shop.example"
    workload: str = "orders"
    workload_kind: int = 1
    namespace: str = ""
    cluster: str = ""
    port: int = 8080
    first_seen: float = NOW - 3 * 86_400
    endpoint_id: str = ""

    @property
    def id(self) -> str:
        """The endpoint's id."""
        return self.endpoint_id or f"ep{self.route_id:04d}"


@dataclass(slots=True, kw_only=True)
class Seed:
    """Collects endpoints and minute rows, then writes them in one go each."""

    endpoints: list[SeedEndpoint] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def endpoint(self, route_id: int, method: str, template: str, **columns: Any) -> SeedEndpoint:
        """Add an endpoint."""
        endpoint = SeedEndpoint(route_id=route_id, method=method, template=template, **columns)
        self.endpoints.append(endpoint)
        return endpoint

    def calls(self, endpoint: SeedEndpoint, calls: int, *, minutes_ago: int = 1, **columns: Any) -> None:
        """Add a minute row: `calls` calls with status 200 from one address in 8 ms, unless told otherwise."""
        start = int(NOW) // MINUTE * MINUTE - minutes_ago * MINUTE
        row: dict[str, Any] = dict.fromkeys((*ROWS_SCHEMA.names, "key_id"), 0)
        row |= {
            "time": start,
            "route_id": endpoint.route_id,
            "client_address": "10.0.0.9",
            "client_workload": "",
            "status_code": 200,
            "role": 1,
            "hop": 1,
            "protocol_version": "1.1",
            "client_software": "",
            "carriers": "",
            "first_seen": start + 5,
            "last_seen": start + 55,
            "request_content_type": "",
            "response_content_type": "application/json",
            "calls": calls,
            "request_bytes": 200 * calls,
            "response_bytes": 1_000 * calls,
            "duration_max_us": 9_000,
            "duration": {"1": [103], "2": [calls]},  # (7,512 us, 8,192 us]
            "response_size": {"1": [79], "2": [calls]},  # (939, 1,024]
            "data": {"1": [], "2": []},
            "objects": [],
        }
        row |= columns
        self.rows.append(row)

    def write(self, store: Store) -> None:
        """Insert everything collected."""
        store.insert_records("routes", [_route(endpoint) for endpoint in self.endpoints])
        store.insert_records("endpoint_routes", [_mapping(endpoint) for endpoint in self.endpoints])
        store.insert_arrow(
            "rows_minute", pa.Table.from_pylist(self.rows, schema=ROWS_SCHEMA.append(pa.field("key_id", pa.uint32())))
        )


def _route(endpoint: SeedEndpoint) -> RouteRecord:
    parts = endpoint.template.strip("/").split("/")
    return RouteRecord(
        route_id=endpoint.route_id,
        cluster=endpoint.cluster,
        namespace=endpoint.namespace,
        workload=endpoint.workload,
        workload_kind=endpoint.workload_kind,
        host_name="" if endpoint.namespace else "node-1",
        port=endpoint.port,
        host=endpoint.host,
        method=endpoint.method,
        segment_kind=[3 if part.startswith("{") else 1 for part in parts],
        segment_text=["" if part.startswith("{") else part for part in parts],
        segment_hash=[0] * len(parts),
        segment_length=[0] * len(parts),
        has_trailing_slash=False,
        first_seen=datetime.fromtimestamp(endpoint.first_seen, UTC),
    )


def _mapping(endpoint: SeedEndpoint) -> EndpointRouteRecord:
    place = f"{endpoint.namespace}/" if endpoint.namespace else ""
    return EndpointRouteRecord(
        route_id=endpoint.route_id,
        version=1,
        endpoint_id=endpoint.id,
        service=f"{place}{endpoint.workload}:{endpoint.port}",
        cluster=endpoint.cluster,
        namespace=endpoint.namespace,
        workload=endpoint.workload,
        workload_kind=endpoint.workload_kind,
        host_name="" if endpoint.namespace else "node-1",
        port=endpoint.port,
        host=endpoint.host,
        method=endpoint.method,
        url_template=endpoint.template,
    )


def write_watch(store: Store, registry: SensorRegistry | None = None, *, silent_node: bool = False) -> SensorRegistry:
    """One sensor that captures with a little loss, its ports by two reports; and on demand one that fell silent. Gives
    the registry with the sensors."""
    stages = [
        {"stage": "kernel", "seen": 1_000, "used": 990, "dropped": {"ring_full": 10}},
        {"stage": "describe", "seen": 990, "used": 985, "dropped": {"malformed": 5}},
    ]
    sensors = [_sensor("node-1", NOW - 2, json.dumps(stages))]
    if silent_node:
        sensors.append(_sensor("node-2", NOW - 600, "[]"))
    registry = registry or SensorRegistry(lambda: NOW)
    registry.load(sensors)
    # (workload, port, role, protocol, address, like HTTP, connections, bytes, reason, age in seconds)
    ports = [
        ("nginx", 80, 1, 1, "0.0.0.0", 1, 100, 900_000, "", 5),
        ("nginx", 443, 1, 2, "0.0.0.0", 1, 300, 90_000, "TLS: the bytes are encrypted", 5),
        ("sshd", 22, 1, 5, "0.0.0.0", 0, 0, 0, "nothing seen yet", 5),
        ("unknown", 8080, 1, 1, "", 1, 2, 10_000, "Nothing listens here any more", 5),
        ("php", 0, 1, 6, "/run/php.sock", 0, 3, 0, "Unix socket", 5),
        ("nginx", 443, 1, 7, "0.0.0.0", 1, 100, 10_000, "QUIC", 5),
        ("shop", 443, 2, 2, "192.0.2.9", 1, 9, 50_000, "TLS", 5),
        ("nginx", 80, 1, 5, "0.0.0.0", 0, 0, 0, "nothing seen yet", 65),  # Of an older report: it was called since.
        ("shop", 8080, 1, 1, "0.0.0.0", 1, 2, 10_000, "", 65),  # The same: it has ended since.
    ]
    encrypted = HandshakeCounts(server_names={"shop.example": 2}, weaknesses={"TLS 1.0 is deprecated (RFC 8996)": 1})
    rows = [make_coverage(*port, handshakes=encrypted) for port in ports]
    first, *others = rows
    store.insert_records("coverage_rows", [replace(first, connections=1, bytes=1, calls=0), *others])
    # A difference: what changed within the next second.
    store.insert_records("coverage_rows", [replace(first, time=first.time + timedelta(seconds=1))])
    return registry


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeCounts:
    """What a sensor heard at each encrypted port."""

    server_names: dict[str, int]
    weaknesses: dict[str, int]

    def write(self) -> str:
        """As collector/receiver/reports.py writes it."""
        empty: list[list[object]] = []
        names = [list(item) for item in self.server_names.items()]
        weak = [list(item) for item in self.weaknesses.items()]
        versions = [["TLS 1.2", 2]]
        found = {"server_names": names, "protocols": empty, "versions": versions, "cipher_suites": empty}
        return json.dumps({"count": 2, **found, "weaknesses": weak, "peers": empty})


def make_coverage(
    workload: str,
    port: int,
    role: int,
    protocol: int,
    address: str,
    is_http_like: int,
    connections: int,
    size: int,
    reason: str,
    age_seconds: float,
    *,
    handshakes: HandshakeCounts | None = None,
    node: str = "node-1",
    boot_id: str = "boot-1",
) -> CoverageRecord:
    """One row of a report."""
    is_encrypted = protocol == 2
    return CoverageRecord(
        node=node,
        boot_id=boot_id,
        cluster="",
        namespace="",
        workload=workload,
        workload_kind=1,
        host_name=node,
        port=port,
        role=role,
        protocol=protocol,
        address=address,
        is_http_like=is_http_like,
        connections=connections,
        bytes=size,
        joined_late=connections // 50,
        calls=connections * 2 if protocol == 1 else 0,
        lost_calls=0,
        estimated_calls=connections * 3 if is_encrypted else 0,
        uncaptured_ms=0,
        reason=reason,
        handshakes=handshakes.write() if handshakes is not None and is_encrypted else "",
        time=datetime.fromtimestamp(NOW - age_seconds, UTC),
        report_time=datetime.fromtimestamp(NOW - age_seconds, UTC),
    )


def _sensor(node: str, heard_at: float, stages: str) -> SensorStatus:
    return SensorStatus(
        cluster="",
        node=node,
        boot_id="b" * 32,
        version="0.1.0",
        kernel_release="6.12.0",
        state=1,
        reason="",
        first_seen=NOW - 86_400,
        last_hello_at=heard_at - 100,
        last_health_at=heard_at,
        last_batch_at=heard_at - 1,
        lag_ms=400,
        spool_bytes=0,
        memory_bytes=90_000_000,
        cpu_ns=4_000_000_000,
        seen_calls=1_000,
        lost_calls=15,
        stages=stages,
        updated_at=heard_at,
        certificate_not_after=NOW + 27 * 86_400.0,
        capture="syscalls",
        fallback_reason=FALLBACK_REASON,
    )
