"""What descriptions are compared with is read bit by bit: no more than some thousand endpoints are in memory."""

import json
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from collector.specs.assessment import SeenEndpoints
from collector.specs.document import read_spec
from collector.specs.matching import Revision, SpecBook, assess_endpoint

ENDPOINTS, AT_ONCE = 40_000, 4_000
PEAK_BYTES_MAX = 10_000_000  # All of these endpoints are some 30 MB.


class StreamingStore:
    """A store with endpoints of ten services, whose rows are made when they are taken."""

    def __init__(self) -> None:
        self.streams = 0

    def stream_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, list[Any]]]:
        self.streams += 1
        for start in range(0, ENDPOINTS, AT_ONCE):
            numbers = range(start, start + AT_ONCE)
            yield {
                "id": [f"{number:032x}" for number in numbers],
                "service": [f"svc{number % 10}:8080" for number in numbers],
                "workload": [f"svc{number % 10}" for number in numbers],
                "host": [f"svc{number % 10}.example" for number in numbers],
                "method": ["GET"] * AT_ONCE,
                "template": [f"/api/v1/items{number}/{{item_id}}" for number in numbers],
                "served_calls": [1] * AT_ONCE,
            }


def make_revision(service: str) -> Revision:
    paths = {f"/api/v1/items{number}/{{id}}": {"get": {"responses": {}}} for number in range(3, 503, 10)}
    document = json.dumps({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths})
    return Revision(name="items", service=service, spec=read_spec(document), is_current=True)


@pytest.mark.parametrize(("service", "passes"), [("svc3", 1), ("", 2)])
def test_a_description_is_compared_with_all_endpoints_in_little_memory(service: str, passes: int) -> None:
    store = StreamingStore()
    endpoints = SeenEndpoints(store)  # type: ignore[arg-type]
    revision = make_revision(service)
    tracemalloc.start()
    try:
        book = SpecBook([revision], endpoints)
        found = [one.id for one in endpoints if assess_endpoint(one, book).http_route]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 50
    assert store.streams == passes  # The second to find the service that it fits.
    assert peak < PEAK_BYTES_MAX
