"""Calls of each provider from a sensor's book over the wire to the list: both halves mean the same by each figure."""

from collections.abc import Iterator
from typing import Any

import pytest
from apidae.v1 import stream_pb2

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.models.models import ModelInventory, ModelTraffic
from collector.inventory.models.prices import PriceList
from collector.inventory.query import Since, span_since
from collector.receiver.schemas import convert_schemas
from collector.storage.embedded import EmbeddedStore
from sensor.export.messages import write_schemas
from tests.collector.inventory.models.model_calls import OUTSIDE_ADDRESS
from tests.collector.inventory.seed import NOW, Seed
from tests.sensor.describe.schemas.test_models import EXCHANGES, SECOND, TEXT, Node

pytestmark = pytest.mark.store

NAMES = list(EXCHANGES)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModelTraffic]]:
    """By the name of the exchange, each of which is a route of its own."""
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed, node = Seed(), Node()
    node.now_ns = int(NOW - 3_000) * SECOND
    for route_id, name in enumerate(NAMES, 1):
        exchange = EXCHANGES[name]
        there: dict[str, Any] = {"host": exchange.host, "workload": OUTSIDE_ADDRESS, "workload_kind": 0, "port": 443}
        endpoint = seed.endpoint(route_id, "POST", exchange.path, **there)
        seed.calls(endpoint, 1, role=2, client_address="", client_workload="shop/agent")
        node.call(exchange, route_id=route_id)
    seed.write(store)
    node.wait(300)
    records = []
    for schemas in node.book.take(node.up_ns):
        message = stream_pb2.ConnectRequest.FromString(write_schemas(schemas).SerializeToString())
        records += convert_schemas(message.schemas, node="a", boot_id="b", now_unix_seconds=NOW)
    assert not any(TEXT in record.fields + record.operations for record in records)
    store.insert_records("schemas", records)
    endpoints = EndpointInventory(reader=store, who=ConsumerSql())
    models = ModelInventory(reader=store, endpoints=endpoints, read_prices=PriceList)
    read = models.read_all(span_since(Since.DAY, NOW))
    assert (read.left_out, read.unread_states) == (0, 0)
    store_of = {use: item for item in read.items for use in item.endpoint_ids}
    yield {name: store_of[f"ep{route_id:04d}"] for route_id, name in enumerate(NAMES, 1)}
    store.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_call_of_each_provider_is_in_the_list(name: str, listed: dict[str, ModelTraffic]) -> None:
    exchange, item = EXCHANGES[name], listed[name]
    assert (item.caller, item.destination, item.server) == ("workload:shop/agent", "outside", exchange.host)
    assert (item.provider, item.operation) == (exchange.provider, exchange.operation)
    assert item.model in (exchange.request_model, exchange.response_model)


def test_tokens_of_all_providers_are_summed(listed: dict[str, ModelTraffic]) -> None:
    items = {item.id: item for item in listed.values()}.values()
    assert sum(item.calls for item in items) == len(NAMES)
    for kind in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "reasoning_tokens"):
        counted = sum(getattr(exchange.usage, kind) for exchange in EXCHANGES.values())
        assert sum(getattr(item, kind) for item in items) == counted, kind
    assert sum(item.streamed_calls for item in items) == sum(one.is_streamed for one in EXCHANGES.values())
