"""Sends the metrics of services to a receiver of OTLP/HTTP, as protobufs. EDGE: HTTP, a thread.

It sends what `CallMeter` counted since the start (cumulative), every `INTERVAL_SECONDS` and at the stop. So a request
that fails costs no count: the next one holds all. Only the holder of `writer` sends, for it alone counts.

Each service is a resource. `http.server.request.duration` has its durations with the attributes that the conventions
require of it. Calls of a chosen endpoint have `url.template`, the path as Apidae found it, and `http.route` where an
API description says it: the conventions forbid to put there what was found from paths. `apidae.server.calls` counts
calls whose duration is not known, too.
"""

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from collector.alerting.notifiers.http import make_client, show_target
from collector.core.feature import Feature, Role, Worker
from collector.core.kinds import NOT_READ, name_status, name_status_code
from collector.inventory.traffic.meter import BOUNDS_SECONDS, CallMeter, Series, ServiceKey, Sums
from common.figures import list_figures, total
from common.retry import Backoff

if TYPE_CHECKING:  # With what it imports it takes 3 MB, which who sends nothing does without.
    import httpx

INTERVAL_SECONDS: Final = 60.0  # OpenTelemetry's default.
SERIES_MAX: Final = 2_000  # Of one request: some 600 KB before compression.
ATTEMPTS_MAX: Final = 3
OTLP_METRICS_PATH: Final = "/v1/metrics"
_RETRYABLE: Final = (429, 502, 503, 504)  # As the specification of OTLP/HTTP says.
_GZIP_LEVEL: Final = 4

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class OtlpCounts:
    """The exporter's account: series seen = delivered + refused + failed."""

    series_seen: int = total("Series of services that were to be sent by OTLP, each time.")
    series_delivered: int = total("Series that the OTLP receiver took.")
    series_refused: int = total("Series that the OTLP receiver refused; they are sent again with the next ones.")
    series_failed: int = total("Series in requests that the OTLP receiver did not answer; the next ones hold them.")
    attempts_repeated: int = total("Requests to the OTLP receiver that were repeated.")


class OtlpExporter:
    """`export` is for one thread."""

    def __init__(
        self,
        *,
        url: str,
        headers: dict[str, str],
        meter: CallMeter,
        version: str,
        clock: Callable[[], float] = time.time,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """`url` ends in /v1/metrics, as `check_otlp` gives it; `transport` replaces the network in tests."""
        self._url = url
        self._headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip", **headers}
        self._meter = meter
        self._version = version
        self._clock = clock
        self._client = make_client(transport)
        self._is_failing = False
        self.counts = OtlpCounts()

    @property
    def feature(self) -> Feature:
        """What the process that writes the tables does."""
        worker = Worker("otlp", self.run)
        return Feature(
            name="metrics by OTLP",
            role=Role.WRITER,
            start=worker.start,
            stop=worker.stop,
            figures=lambda: list_figures(self.counts, "otlp_"),
        )

    def run(self, is_stopping: threading.Event) -> None:
        """Send now and then until the stop, and once more then."""
        while not is_stopping.wait(INTERVAL_SECONDS):
            self.export(is_stopping.wait)
        self.export(lambda _: True)
        self._client.close()

    def export(self, wait: Callable[[float], bool]) -> None:
        """Send everything once. `wait` gives whether not to try again after a time in seconds."""
        counted = self._meter.list_series()
        for start in range(0, len(counted), SERIES_MAX):
            self._send(counted[start : start + SERIES_MAX], wait)

    def _send(self, counted: Sequence[tuple[Series, Sums]], wait: Callable[[float], bool]) -> None:
        import httpx

        self.counts.series_seen += len(counted)
        body = gzip.compress(
            build_request(counted, now=self._clock(), version=self._version).SerializeToString(), _GZIP_LEVEL
        )
        backoff = Backoff(first_seconds=1.0, longest_seconds=10.0)
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                if wait(backoff.next_seconds()):
                    break
                self.counts.attempts_repeated += 1
            try:
                answer = self._client.post(self._url, content=body, headers=self._headers)
            except httpx.HTTPError as error:
                self._note_failure(type(error).__name__)
                continue
            if answer.is_success:
                refused = min(len(counted), _count_refused(answer))
                self.counts.series_refused += refused
                self.counts.series_delivered += len(counted) - refused
                self._is_failing = False
                return
            self._note_failure(f"status {answer.status_code}")
            if answer.status_code not in _RETRYABLE:
                self.counts.series_refused += len(counted)
                return
        self.counts.series_failed += len(counted)

    def _note_failure(self, why: str) -> None:
        if not self._is_failing:
            logger.error("%s does not take metrics by OTLP (%s); it is tried again.", show_target(self._url), why)
        self._is_failing = True


def _count_refused(answer: "httpx.Response") -> int:
    """Series of a request that was taken otherwise. Both data points of a series may be refused."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    try:
        said = ExportMetricsServiceResponse.FromString(answer.content)
    except DecodeError:
        return 0  # The status said yes.
    return -(-int(said.partial_success.rejected_data_points) // 2)


def build_request(counted: Sequence[tuple[Series, Sums]], *, now: float, version: str) -> Any:
    """The ExportMetricsServiceRequest of these series."""
    # Here, for who sends none needs none of it.
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

    request = ExportMetricsServiceRequest()
    metrics: dict[ServiceKey, tuple[Any, Any]] = {}
    for series, sums in counted:
        if series.service not in metrics:
            resource = request.resource_metrics.add()
            _add(resource.resource.attributes, _list_resource(series.service))
            scope = resource.scope_metrics.add()
            scope.scope.name, scope.scope.version = "apidae", version
            durations = scope.metrics.add(
                name="http.server.request.duration", unit="s", description="Duration of HTTP server requests."
            )
            durations.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            calls = scope.metrics.add(
                name="apidae.server.calls", unit="{call}", description="Calls at the server, of any duration."
            )
            calls.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            calls.sum.is_monotonic = True
            metrics[series.service] = durations.histogram, calls.sum
        histogram, total_calls = metrics[series.service]
        times = {"start_time_unix_nano": int(sums.since * 1e9), "time_unix_nano": int(now * 1e9)}
        attributes = tuple(_list_attributes(series))
        point = histogram.data_points.add(
            **times,
            count=sum(sums.buckets),
            sum=sums.seconds,
            bucket_counts=sums.buckets,
            explicit_bounds=BOUNDS_SECONDS,
        )
        _add(point.attributes, attributes)
        _add(total_calls.data_points.add(**times, as_int=sums.calls).attributes, attributes)
    return request


Attribute = tuple[str, str | int]


def _list_resource(service: ServiceKey) -> Iterator[Attribute]:
    yield "service.name", service.name
    if service.namespace:
        yield "k8s.namespace.name", service.namespace
    if service.cluster:
        yield "k8s.cluster.name", service.cluster


def _list_attributes(series: Series) -> Iterator[Attribute]:
    yield "http.request.method", series.method
    yield "url.scheme", "https" if series.is_encrypted else "http"
    if series.service.port:
        yield "server.port", series.service.port
    if series.endpoint is not None:
        yield "url.template", series.endpoint.template
        if series.endpoint.route:
            yield "http.route", series.endpoint.route
        if series.endpoint.host:
            yield "server.address", series.endpoint.host
    if series.status_code > NOT_READ:
        yield "http.response.status_code", series.status_code
    if series.rpc_status:
        yield "rpc.response.status_code", name_status(series.rpc_status)
    if series.is_error:
        is_of_rpc = bool(series.rpc_status)
        yield "error.type", name_status(series.rpc_status) if is_of_rpc else name_status_code(series.status_code)


def _add(attributes: Any, pairs: Sequence[Attribute] | Iterator[Attribute]) -> None:
    for name, value in pairs:
        attribute = attributes.add(key=name)
        if isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = value
