"""Calls of models that a server of ours passes on, and prices and times of the list, each in a store of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from apidae.v1 import data_pb2

from collector.inventory.models import states
from collector.inventory.query import Since, span_since
from collector.receiver.models import STATE_LIMIT_CHARACTERS, USE_LIMIT, write_model_uses
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.asking import open_client, read
from tests.collector.inventory.models.model_calls import REQUEST, make_use, report_uses
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

PATH = "/v1/chat/completions"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "store")
    yield opened
    opened.close()


def test_a_call_whose_caller_is_not_known_is_on_the_page(store: EmbeddedStore) -> None:
    seed = Seed()
    called = seed.endpoint(1, "POST", PATH, host="api.openai.com", workload="10.1.0.9", workload_kind=0, port=8080)
    seed.calls(called, 40, role=2, client_address="", client_workload="shop/agent")
    seed.write(store)
    store.insert_records("schemas", report_uses(1, make_use("gpt-4o", 40, client_workload="")))
    with open_client(store) as client:
        page = client.get("/models")
    assert page.status_code == 200
    assert "caller not known" in page.text


def test_a_watched_proxy_on_the_way_to_a_provider_neither_hides_nor_doubles_calls(store: EmbeddedStore) -> None:
    seed = Seed()
    host = "api.openai.com"
    called = seed.endpoint(1, "POST", PATH, host=host, workload="10.1.0.9", workload_kind=0, port=8080)
    seed.calls(called, 40, role=2, client_address="", client_workload="shop/agent")
    proxy = seed.endpoint(2, "POST", PATH, host=host, workload="egress", namespace="mesh", port=8080)
    seed.calls(proxy, 40, client_workload="shop/agent")
    seed.write(store)
    seen = make_use("gpt-4o", 40), make_use("gpt-4o", 40, role=data_pb2.ROLE_SERVER, credential=77)
    for route, use in enumerate(seen, 1):
        store.insert_records("schemas", report_uses(route, use))
    with open_client(store) as client:
        (item,) = read(client, "models")["items"]
    assert (item["calls"], item["destination"], item["server"]) == (40, "outside", host)
    assert item["input_tokens"] + item["output_tokens"] == 40 * 1_100


def test_states_of_a_sensor_that_sends_too_many_are_not_all_read(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest are, and all of other nodes."""
    for statement in ("_READ", "_UNREAD"):
        monkeypatch.setattr(states, statement, getattr(states, statement).replace(str(states.NODE_BYTES_MAX), "2000"))
    seed = Seed()
    called = seed.endpoint(1, "POST", PATH, host="api.openai.com", workload="10.1.0.9", workload_kind=0, port=8080)
    seed.calls(called, 40, role=2, client_address="", client_workload="shop/agent")
    seed.write(store)
    for generation in range(9):
        many = report_uses(1, make_use(f"m-{generation}", 5), generation=generation, now=NOW - 50 + generation)
        store.insert_records("schemas", many)
    store.insert_records("schemas", report_uses(1, make_use("gpt-4o", 40), node="node-b", now=NOW - 55))
    kept = states.read_model_sums(store, span_since(Since.DAY, NOW))
    found = {one.model for one in kept.sums}
    assert {"gpt-4o", "m-8", "m-7"} <= found
    assert "m-0" not in found
    assert kept.unread_states == 9 - len(found & {f"m-{generation}" for generation in range(9)})
    with open_client(store) as client:
        assert read(client, "models")["totals"]["unread_states"] == kept.unread_states
        assert f"{kept.unread_states} reports of sensors were not read" in client.get("/models").text


def test_a_state_is_bounded() -> None:
    data = {REQUEST + code: 2**47 for code in range(1, 49)}
    many = [make_use(f"m-{i}", 2**40, data=data, client_address="1" * 64) for i in range(USE_LIMIT)]
    assert len(write_model_uses(many)) <= STATE_LIMIT_CHARACTERS
    assert len(json.loads(write_model_uses(many))) > 400
