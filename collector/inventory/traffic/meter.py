"""Counts calls, errors and durations of services and of chosen endpoints, for metrics.

It adds up what the writer stores, so each call counts once, when it comes to the tables. Counts begin at 0 with the
process, and only that of the holder of `writer` grows. Calls count at the server, so a call through a proxy counts for
the proxy and for the application behind it.

A series is (service, chosen endpoint or none, method, status, scheme). So the series of a service are all its calls,
and those without an endpoint are the calls of endpoints that nobody chose. What has no place of its own is in the
series of `OTHER`: services past `SERVICES_MAX`, while each that is kept was called in the last hour. Of a service or
endpoint, methods and statuses past `STATUSES_MAX` are added up by class.

Bounds of the histogram are those of OpenTelemetry's `http.server.request.duration`. Sensors measure in buckets of 9 %,
so a call that is that near to a bound may be on its other side.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.core.kinds import ABORTED, NOT_READ, compute_outcome
from collector.core.limits import Limit
from collector.core.rows import Route, Service
from collector.inventory.endpoints.endpoint import bucket_value
from collector.inventory.endpoints.outbound import ROLE_SERVER
from collector.inventory.endpoints.predicates import FLAG_ENCRYPTED
from collector.storage.row_group import RowGroup
from common.figures import Figure, list_figures, make_gauges, total

SERVICES_MAX: Final = 500
STATUSES_MAX: Final = 40  # Of a service or endpoint: methods with a status and a scheme.
IDLE_SECONDS: Final = 3_600.0  # After this time without a call, a service gives its place to another one.
BOUNDS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OTHER_METHOD: Final = "_OTHER"  # OpenTelemetry's name for a method that is not a known one.
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", OTHER_METHOD)
)
_MICROSECONDS: Final = 1_000_000
_BUCKETS_MAX: Final = 1_024  # Of the rows' histograms; the last is of more than any duration.
# By bucket of a row: the place among BOUNDS_SECONDS, with one more for what is longer.
_PLACES: Final = np.searchsorted(
    np.array(BOUNDS_SECONDS) * _MICROSECONDS,
    [bucket_value(min(bucket, 500)) for bucket in range(_BUCKETS_MAX)],
).astype(np.int64)
_CALLS, _MICROS, _FIRST = 0, 1, 2  # Places of a series' sums; the buckets come behind.
_WIDTH: Final = _FIRST + len(BOUNDS_SECONDS) + 1
_NAMES: Final = {ABORTED: "aborted", NOT_READ: "not_read"}


class ServiceKey(NamedTuple):
    """A service as metrics name it: on plain hosts, the same one of all hosts."""

    cluster: str
    namespace: str
    name: str
    port: int


class EndpointKey(NamedTuple):
    """A chosen endpoint of a service."""

    id: str
    host: str
    method: str
    template: str
    route: str = ""  # The path as an API description has it, if one has.


class Series(NamedTuple):
    """What is counted apart. `status_code` is that of HTTP, 0 of no answer and 1 where it was not read; `rpc_status` is
    one more than google.rpc.Code, or 0. `is_encrypted`: TLS carried it to the server."""

    service: ServiceKey
    endpoint: EndpointKey | None
    method: str
    status_code: int
    rpc_status: int
    is_encrypted: bool = False

    @property
    def outcome(self) -> str:
        """The class of the status that says how its calls ended."""
        outcome = compute_outcome(self.status_code, self.rpc_status)
        return _NAMES.get(outcome) or f"{min(outcome // 100, 5)}xx"

    @property
    def is_error(self) -> bool:
        """Whether the server failed, or did not answer."""
        outcome = compute_outcome(self.status_code, self.rpc_status)
        return outcome >= 500 or outcome == ABORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What was counted of a series since a time, in unix seconds. `buckets` are counts by bound, and of what is
    longer."""

    since: float

    calls: int
    seconds: float
    buckets: tuple[int, ...]


OTHER: Final = ServiceKey("", "", "other", 0)


@dataclass(slots=True, kw_only=True)
class MeterCounts:
    """The meter's account."""

    calls: int = total("Calls at servers that metrics of services count.")
    calls_other: int = total("Calls of services that found no series of their own, counted under `other`.")
    services_evicted: int = total("Services that lost their series to others, having had no call for an hour.")


class CallMeter:
    """Thread-safe: the writer's thread counts, others choose and read."""

    def __init__(
        self,
        find_service: Callable[[Route], Service] = lambda route: route.service,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`find_service`: under which name a route's service is known."""
        self._find_service = find_service
        self._clock = clock
        self._lock = threading.Lock()
        self._series: dict[Series, NDArray[np.uint64]] = {}
        self._starts: dict[Series, float] = {}  # Since when each may have been counted.
        self._services: dict[ServiceKey, float] = {}  # When each was called last, the longest ago first.
        self._statuses: dict[tuple[ServiceKey, EndpointKey | None], int] = {}
        self._chosen: Mapping[int, EndpointKey] = {}  # By route.
        # Or when series were dropped last: one that begins anew has no earlier calls.
        self._started_at = clock()
        self.counts = MeterCounts()

    def choose(self, endpoints: Mapping[int, EndpointKey]) -> None:
        """Count these endpoints apart from now on, and no others, by route id."""
        kept = set(endpoints.values())
        with self._lock:
            self._chosen = dict(endpoints)
            gone = [one for one in self._series if one.endpoint is not None and one.endpoint not in kept]
            self._drop(gone)

    def add(self, group: RowGroup) -> None:
        """Count the calls of these rows. Cost: some 100 us, and 5 us for each route and status in them."""
        rows = group.rows
        served = np.flatnonzero(rows.role == ROLE_SERVER)
        if not len(served):
            return
        keys = (
            rows.route[served].astype(np.int64) << 21
            | (rows.flags[served] & FLAG_ENCRYPTED > 0).astype(np.int64) << 20
            | rows.status_code[served].astype(np.int64) << 8
            | np.minimum(rows.rpc_status[served], 255).astype(np.int64)
        )
        found, place = np.unique(keys, return_inverse=True)
        sums = np.zeros((len(found), _WIDTH), np.uint64)
        np.add.at(sums[:, _CALLS], place, rows.calls[served])
        np.add.at(sums[:, _MICROS], place, rows.duration_sum_us[served])
        places = np.full(len(rows), -1, np.int64)
        places[served] = place
        of_value = np.repeat(places, np.diff(rows.duration.offsets))
        is_served = of_value >= 0
        buckets = _PLACES[np.minimum(rows.duration.values[is_served], _BUCKETS_MAX - 1).astype(np.int64)]
        np.add.at(sums, (of_value[is_served], _FIRST + buckets), rows.duration.counts[is_served])
        now = self._clock()
        with self._lock:
            for key, row in zip(found.tolist(), sums, strict=True):
                status = key >> 8 & 0xFFF, key & 0xFF, bool(key >> 20 & 1)
                self._count(rows.routes[key >> 21], status, row, now)

    def _count(self, route: Route, status: tuple[int, int, bool], row: NDArray[np.uint64], now: float) -> None:
        known = self._find_service(route)
        service = self._admit(ServiceKey(known.cluster, known.namespace, known.workload, known.port), now)
        self.counts.calls += int(row[_CALLS])
        if service is OTHER:
            self.counts.calls_other += int(row[_CALLS])
        endpoint = self._chosen.get(route.route_id)
        method = route.method if route.method in _METHODS else OTHER_METHOD
        series = Series(service, endpoint, method, *status)
        if series not in self._series:
            used = self._statuses.get(series[:2], 0)
            if used >= STATUSES_MAX:
                outcome = compute_outcome(series.status_code, series.rpc_status)
                by_class = outcome if outcome < 100 else outcome // 100 * 100
                series = series._replace(method=OTHER_METHOD, status_code=by_class, rpc_status=0)
            if series not in self._series:
                self._statuses[series[:2]] = used + 1
                self._series[series] = np.zeros(_WIDTH, np.uint64)
                self._starts[series] = self._started_at
        self._series[series] += row

    def _admit(self, service: ServiceKey, now: float) -> ServiceKey:
        if self._services.pop(service, None) is None and len(self._services) >= SERVICES_MAX:
            idlest = next(iter(self._services))
            if now - self._services[idlest] < IDLE_SECONDS:
                return OTHER
            del self._services[idlest]
            self._drop([one for one in self._series if one.service == idlest])
            self.counts.services_evicted += 1
        self._services[service] = now
        return service

    def _drop(self, series: Iterable[Series]) -> None:
        for one in series:
            del self._series[one], self._starts[one]
            self._statuses.pop(one[:2], None)
            self._started_at = self._clock()

    def list_series(self) -> list[tuple[Series, Sums]]:
        """What was counted, by series."""
        with self._lock:
            copied = [(series, sums.copy()) for series, sums in self._series.items()]
            starts = dict(self._starts)
        return [(series, _read(sums, starts[series])) for series, sums in copied]

    def list_figures(self) -> Iterator[Figure]:
        """Of each service and of each chosen endpoint, and what the rest have together."""
        with self._lock:
            copied = [(series, sums.copy()) for series, sums in self._series.items()]
            services, endpoints = len(self._services), len(set(self._chosen.values()))
        nothing = Series(OTHER, None, OTHER_METHOD, 200, 0), np.zeros(_WIDTH, np.uint64)
        copied.insert(0, nothing)  # So that each family has a series, from the start on.
        yield from _make_figures("service_", "of services", copied, _label_service)
        yield from _make_figures("endpoint_", "of chosen endpoints", copied, _label_endpoint)
        yield from make_gauges(
            (
                ("metered_services", "Services that have series of their own.", services),
                ("metered_endpoints", "Endpoints that have series of their own.", endpoints),
            )
        )
        yield from list_figures(self.counts, "metered_")

    @property
    def limit(self) -> Limit:
        """Of services; endpoints are chosen."""
        return Limit(
            name="metered_services",
            used=len(self._services),
            maximum=SERVICES_MAX,
            then="calls of other services are counted in metrics under the service `other`.",
        )


def _read(sums: NDArray[np.uint64], since: float) -> Sums:
    return Sums(
        since=since,
        calls=int(sums[_CALLS]),
        seconds=int(sums[_MICROS]) / _MICROSECONDS,
        buckets=tuple(int(count) for count in sums[_FIRST:]),
    )


Labels = tuple[tuple[str, str], ...]


def _label_service(series: Series) -> Labels:
    cluster, namespace, name, port = series.service
    return (
        ("k8s_cluster_name", cluster),
        ("k8s_namespace_name", namespace),
        ("service_name", name),
        ("server_port", str(port or "")),
    )


def _label_endpoint(series: Series) -> Labels:
    if series.endpoint is None:
        series, endpoint = series._replace(service=OTHER), EndpointKey("", "", "", "")
    else:
        endpoint = series.endpoint
    return (
        *_label_service(series),
        ("server_address", endpoint.host),
        ("http_request_method", endpoint.method),
        ("url_template", endpoint.template),
    )


def _make_figures(
    prefix: str,
    whose: str,
    counted: Iterable[tuple[Series, NDArray[np.uint64]]],
    find_labels: Callable[[Series], Labels],
) -> Iterator[Figure]:
    calls: dict[Labels, int] = {}
    errors: dict[Labels, int] = {}
    durations: dict[Labels, NDArray[np.uint64]] = {}
    for series, sums in counted:
        labels, count = find_labels(series), int(sums[_CALLS])
        by_class = (*labels, ("http_response_status_class", series.outcome))
        calls[by_class] = calls.get(by_class, 0) + count
        errors[labels] = errors.get(labels, 0) + count * series.is_error
        durations[labels] = durations.get(labels, 0) + sums
    for labels, count in calls.items():
        text = f"Calls {whose} by class of status; `not_read` of calls whose answer was not seen."
        yield Figure(name=f"{prefix}calls", documentation=text, value=count, is_total=True, labels=labels)
    for labels, count in errors.items():
        text = f"Calls {whose} that the server failed at (5xx or an error of the RPC) or did not answer."
        yield Figure(name=f"{prefix}errors", documentation=text, value=count, is_total=True, labels=labels)
    bounds = (*(f"{bound}" for bound in BOUNDS_SECONDS), "+Inf")
    for labels, sums in durations.items():
        yield Figure(
            name=f"{prefix}duration_seconds",
            documentation=f"Time of calls {whose} from the request's first byte to the response's last.",
            value=int(sums[_MICROS]) / _MICROSECONDS,
            is_total=True,
            labels=labels,
            buckets=tuple(zip(bounds, np.cumsum(sums[_FIRST:]).tolist(), strict=True)),
        )
