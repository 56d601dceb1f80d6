"""Metrics of services count every stored call at a server once, in a bounded number of series."""

from collections.abc import Iterable

import pytest
from apidae.v1 import data_pb2
from prometheus_client.core import Metric

from collector.inventory.traffic import meter as meters
from collector.inventory.traffic.meter import BOUNDS_SECONDS, OTHER, CallMeter, EndpointKey
from collector.receiver.convert import convert_batch
from collector.storage.row_group import make_group
from common.figures import collect_families
from tests.collector.wire_batches import NOW, make_batch

GET_USER = EndpointKey("e1", "shop.test", "GET", "/users/{id}")


def add(meter: CallMeter, batch: data_pb2.Batch) -> None:
    meter.add(make_group(convert_batch(batch, NOW)))


def read(meter: CallMeter) -> dict[str, Metric]:
    return {family.name: family for family in collect_families("", meter.list_figures())}


def find(metrics: Iterable[Metric], name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    samples = [sample for family in metrics for sample in family.samples if sample.name == name]
    assert samples, name
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def make_services(count: int) -> data_pb2.Batch:
    """One row with one call of each of so many services."""
    batch = make_batch(rows=0)
    batch.ClearField("services")
    batch.ClearField("routes")
    whole = make_batch(rows=1)
    for number in range(count):
        batch.strings.append(f"service-{number}")
        batch.services.add(workload=f"service-{number}", workload_kind=4, namespace="shop", port=80)
        route = batch.routes.add(route_id=number + 1, service=number, host=1, method=2)
        route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=3)
        batch.rows.MergeFrom(whole.rows)
        batch.rows.route[number] = number
    return batch


def test_calls_and_durations_of_a_service_are_those_of_its_rows() -> None:
    meter = CallMeter()
    batch = make_batch(rows=3)
    batch.rows.status_code[1] = 503
    add(meter, batch)
    add(meter, make_batch(rows=3, sequence=2))
    found = read(meter).values()
    web = {"service_name": "web", "server_port": "8080", "k8s_namespace_name": ""}
    assert find(found, "service_calls_total", **web) == 12
    assert find(found, "service_calls_total", **web, http_response_status_class="5xx") == 2
    assert find(found, "service_errors_total", **web) == 2
    assert find(found, "service_duration_seconds_sum", **web) == pytest.approx(2 * 6 * 500e-6)
    # Buckets 71 and 78 are below 1 ms, so all are in the first.
    assert find(found, "service_duration_seconds_bucket", **web, le="0.005") == 2 * (6 + 3)
    assert find(found, "service_duration_seconds_count", **web) == 2 * (6 + 3)


def test_a_duration_is_in_the_bucket_of_its_bound() -> None:
    meter = CallMeter()
    batch = make_batch(rows=1)
    for bucket in batch.rows.duration_bucket:
        assert bucket < 8 * 20
    batch.rows.duration_bucket[:] = [8 * 18, 8 * 26]  # From 0.262 s and from 67 s on.
    add(meter, batch)
    found = read(meter).values()
    counts = [
        find(found, "service_duration_seconds_bucket", le=le) for le in (*(str(one) for one in BOUNDS_SECONDS), "+Inf")
    ]
    assert counts == [0] * 7 + [1] * 7 + [2]


def test_what_a_client_saw_is_not_counted() -> None:
    meter = CallMeter()
    batch = make_batch(rows=2)
    batch.rows.role[0] = data_pb2.ROLE_CLIENT
    add(meter, batch)
    assert find(read(meter).values(), "service_calls_total") == 2
    assert find(read(meter).values(), "service_duration_seconds_count") == 3


def test_endpoints_and_the_rest_are_the_calls_of_all_services() -> None:
    meter = CallMeter()
    meter.choose({11: GET_USER})
    add(meter, make_batch(rows=4))
    found = read(meter).values()
    chosen = {"http_request_method": "GET", "url_template": "/users/{id}", "server_address": "shop.test"}
    assert find(found, "endpoint_calls_total", **chosen, service_name="web") == 1 + 3
    assert find(found, "endpoint_calls_total", service_name="other") == 2 + 4
    assert find(found, "service_calls_total") == find(found, "endpoint_calls_total") == 10
    meter.choose({})
    assert find(read(meter).values(), "endpoint_calls_total", **chosen) == 0


def test_services_past_the_most_are_other_until_one_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "SERVICES_MAX", 3)
    clock = [float(NOW)]
    meter = CallMeter(clock=lambda: clock[0])
    add(meter, make_services(5))
    found = read(meter).values()
    assert find(found, "service_calls_total") == 5
    assert find(found, "service_calls_total", service_name=OTHER.name) == 2
    assert find(found, "metered_services") == 3 and meter.limit.is_reached
    assert find(found, "metered_calls_other_total") == 2
    clock[0] += meters.IDLE_SECONDS
    add(meter, make_batch(rows=1))
    assert find(read(meter).values(), "service_calls_total", service_name="web") == 1
    assert find(read(meter).values(), "metered_services_evicted_total") == 1
    assert find(read(meter).values(), "service_calls_total", service_name="service-0") == 0


def test_statuses_past_the_most_are_added_up_by_class() -> None:
    meter = CallMeter()
    batch = make_batch(rows=200)
    for row in range(200):
        batch.rows.status_code[row] = 400 + row
    add(meter, batch)
    found = read(meter).values()
    total = sum(range(1, 201))
    assert find(found, "service_calls_total") == total
    assert find(found, "service_calls_total", http_response_status_class="4xx") == sum(range(1, 101))
    assert find(found, "service_errors_total") == sum(range(101, 201))
    assert len(meter.list_series()) <= meters.STATUSES_MAX + 5


def test_an_error_of_an_rpc_is_one_although_http_says_200() -> None:
    meter = CallMeter()
    batch = make_batch(rows=3)
    batch.rows.rpc_status.extend([0, 14, 6])  # INTERNAL and NOT_FOUND, each one more than its code.
    add(meter, batch)
    found = read(meter).values()
    assert find(found, "service_errors_total") == 2
    assert find(found, "service_calls_total", http_response_status_class="4xx") == 3
