"""A receiver of OTLP/HTTP gets what was counted as protobufs, and what it does not take is counted."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from apidae.v1 import data_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from collector.alerting.notifiers.http import check_otlp
from collector.inventory.traffic.meter import BOUNDS_SECONDS, CallMeter
from collector.server import otlp
from collector.server.otlp import OTLP_METRICS_PATH, OtlpExporter, build_request
from tests.collector.inventory.test_meter import GET_USER, add, make_services
from tests.collector.wire_batches import NOW, make_batch


class Receiver:
    """An HTTP server on loopback that answers as it is asked to, and keeps what came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], ExportMetricsServiceRequest]] = []
        self.answers: list[tuple[int, bytes]] = []  # Status and body of the next ones; then 200.
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, ExportMetricsServiceRequest.FromString(body)))
                status, answer = receiver.answers.pop(0) if receiver.answers else (200, b"")
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    opened.thread.start()
    yield opened
    opened.server.shutdown()
    opened.thread.join()
    opened.server.server_close()


def make_exporter(receiver: Receiver, meter: CallMeter) -> OtlpExporter:
    url = check_otlp(receiver.url, is_with_headers=True, path=OTLP_METRICS_PATH)
    return OtlpExporter(
        url=url, headers={"authorization": "Bearer k"}, meter=meter, version="9", clock=lambda: NOW + 60
    )


def make_meter() -> CallMeter:
    meter = CallMeter(clock=lambda: float(NOW))
    meter.choose({11: GET_USER})
    batch = make_batch(rows=4)
    batch.rows.status_code[1] = 503
    batch.rows.rpc_status.extend([0, 0, 0, 14])
    add(meter, batch)
    return meter


def read_attributes(attributes: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in attributes}


def test_a_receiver_gets_calls_and_durations_with_their_names(receiver: Receiver) -> None:
    exporter = make_exporter(receiver, make_meter())
    exporter.export(lambda _: True)
    ((path, headers, request),) = receiver.requests
    assert path == "/v1/metrics" and headers["content-type"] == "application/x-protobuf"
    assert headers["authorization"] == "Bearer k"
    (resource,) = request.resource_metrics
    assert read_attributes(resource.resource.attributes) == {"service.name": "web"}
    durations, calls = resource.scope_metrics[0].metrics
    assert (durations.name, durations.unit, calls.name) == ("http.server.request.duration", "s", "apidae.server.calls")
    assert durations.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert calls.sum.is_monotonic and sum(point.as_int for point in calls.sum.data_points) == 1 + 2 + 3 + 4
    for point in durations.histogram.data_points:
        assert tuple(point.explicit_bounds) == BOUNDS_SECONDS and point.count == sum(point.bucket_counts)
        assert (point.start_time_unix_nano, point.time_unix_nano) == (NOW * 10**9, (NOW + 60) * 10**9)
    shown = [(point.as_int, read_attributes(point.attributes)) for point in calls.sum.data_points]
    found = {(count, attributes["http.request.method"]): attributes for count, attributes in shown}
    assert found[1 + 3, "GET"] == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "server.port": 8080,
        "url.template": "/users/{id}",
        "server.address": "shop.test",
        "http.response.status_code": 200,
    }
    assert found[2, "POST"] == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "server.port": 8080,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert found[4, "POST"]["rpc.response.status_code"] == found[4, "POST"]["error.type"] == "INTERNAL"


def test_a_described_path_is_the_route_and_tls_the_scheme() -> None:
    meter = CallMeter(clock=lambda: float(NOW))
    meter.choose({11: GET_USER._replace(route="/v1/users/{userId}")})
    batch = make_batch(rows=3)
    batch.rows.flags[:] = [1 << data_pb2.ROW_FLAG_ENCRYPTED, 0, 0]
    add(meter, batch)
    request = build_request(meter.list_series(), now=NOW, version="9")
    calls = request.resource_metrics[0].scope_metrics[0].metrics[1].sum.data_points
    found = [(point.as_int, read_attributes(point.attributes)) for point in calls]
    shown = {
        (attributes["url.scheme"], attributes.get("http.route"), attributes.get("url.template")): count
        for count, attributes in found
    }
    assert shown == {
        ("https", "/v1/users/{userId}", "/users/{id}"): 1,
        ("http", "/v1/users/{userId}", "/users/{id}"): 3,
        ("http", None, None): 2,
    }


def test_what_is_not_answered_is_tried_again_and_counted(receiver: Receiver) -> None:
    exporter = make_exporter(receiver, make_meter())
    waits: list[float] = []
    receiver.answers = [(503, b""), (429, b""), (200, b"")]

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    exporter.export(wait)
    counts = exporter.counts
    assert (counts.series_seen, counts.series_delivered, counts.attempts_repeated, waits) == (3, 3, 2, [1.0, 2.0])
    receiver.answers = [(503, b"")] * otlp.ATTEMPTS_MAX + [(400, b"")]
    exporter.export(lambda _: False)
    assert (counts.series_failed, counts.series_refused) == (3, 0)
    exporter.export(lambda _: False)
    assert (counts.series_failed, counts.series_refused) == (3, 3)
    partial = ExportMetricsServiceResponse()
    partial.partial_success.rejected_data_points = 2
    receiver.answers = [(200, partial.SerializeToString())]
    exporter.export(lambda _: False)
    assert counts.series_refused == 4
    assert counts.series_seen == counts.series_delivered + counts.series_refused + counts.series_failed == 12


def test_many_series_are_several_requests(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "SERIES_MAX", 4)
    meter = CallMeter()
    batch: data_pb2.Batch = make_services(10)
    add(meter, batch)
    make_exporter(receiver, meter).export(lambda _: True)
    names = [
        read_attributes(resource.resource.attributes)["service.name"]
        for _, _, request in receiver.requests
        for resource in request.resource_metrics
    ]
    assert len(receiver.requests) == 3 and len(set(names)) == len(names) == 10


def test_the_last_counts_are_sent_at_the_stop(receiver: Receiver) -> None:
    worker = make_exporter(receiver, make_meter()).feature
    worker.start()
    worker.stop()
    assert len(receiver.requests) == 1
