"""Two replicas of a real ClickHouse, which only `scripts/test --services` has."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2

from collector.erasure import TableEraser, find_mention
from collector.inventory.consumers.consumer import parse_consumer
from collector.receiver.convert import convert_batch
from collector.storage.arrow import build_rows
from collector.storage.clickhouse import TABLES, ClickHouseStore, open_server
from collector.storage.columns import RowBatch
from collector.storage.row_group import make_group
from tests.collector.running import RunningCollector, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until

DATABASE = "replicated"
CALLS = 10  # Of a batch of 4 rows.
SUMS = ("rows_minute", "rows_hour", "routes_hour", "routes_day")
Replicas = tuple[ClickHouseStore, ClickHouseStore]


@pytest.fixture(scope="module")
def urls() -> list[str]:
    given = os.environ.get("APIDAE_TEST_CLICKHOUSE", "").split(",")
    if len(given) < 2:
        pytest.skip("APIDAE_TEST_CLICKHOUSE names no two replicas; scripts/test --services starts some")
    for url in given:
        server = open_server(f"{url}/default", is_bare=True)
        path = f"/clickhouse/databases/{DATABASE}"
        server.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Replicated('{path}', 'all', '{{replica}}')")
        server.close()
    return [f"{url}/{DATABASE}" for url in given]


@pytest.fixture
def replicas(urls: list[str]) -> Iterator[Replicas]:
    """Both, with empty tables."""
    first, second = (open_server(url) for url in urls[:2])
    for table in TABLES:
        first.execute(f"TRUNCATE TABLE {table.name}")
    yield first, second
    first.close()
    second.close()


def insert(store: ClickHouseStore, token: str) -> None:
    batch = convert_batch(make_batch(rows=4, base=int(time.time()) - 60), int(time.time()))
    assert isinstance(batch, RowBatch)
    store.insert_arrow("rows_minute", build_rows(make_group(batch)), token)


def count_calls(store: ClickHouseStore) -> list[int]:
    """By table, with all that other replicas have."""
    for table in SUMS:
        store.execute(f"SYSTEM SYNC REPLICA {table}")
    return [int(store.query(f"SELECT sum(calls) FROM {table}")[0][0]) for table in SUMS]


def test_each_replica_has_each_row_once_whoever_inserts_it_again(replicas: Replicas) -> None:
    for store in (*replicas, replicas[0]):
        insert(store, "token")
    assert [count_calls(store) for store in replicas] == [[CALLS] * len(SUMS)] * 2
    insert(replicas[1], "another")
    assert [count_calls(store) for store in replicas] == [[2 * CALLS] * len(SUMS)] * 2


def test_the_tables_are_brought_up_to_date_on_both(replicas: Replicas) -> None:
    for store in replicas:
        assert store.layout.replicas == DATABASE
        engines = store.query("SELECT name, engine FROM system.tables WHERE database = currentDatabase()")
        kept = {name: engine for name, engine in engines if engine.endswith("MergeTree")}
        assert kept.keys() == {table.name for table in TABLES}
        assert all(engine.startswith("Replicated") for engine in kept.values())


def test_an_erasure_is_one_on_both(replicas: Replicas) -> None:
    insert(replicas[0], "token")
    consumer = parse_consumer("address:10.0.0.9")
    counts = TableEraser(replicas[0], replicas[0].layout).erase(consumer, find_mention(consumer))
    assert counts["rows_minute"] == 4
    assert [count_calls(store)[:2] for store in replicas] == [[0, 0]] * 2


def test_a_collector_stores_what_it_acknowledged_on_both(
    replicas: Replicas, urls: list[str], new_postgresql: Callable[[], str], tmp_path: Path
) -> None:
    settings, state = tmp_path / "collector.toml", new_postgresql()
    settings.write_text(f'store_url = "{urls[0]}"\nstate_url = "{state}"\nlog_url = "{state}"\n')
    collector = RunningCollector(tmp_path / "data", "--no-auth", "--config", str(settings))
    try:
        batches = [wrap(make_batch(rows=4, sequence=one, base=int(time.time()) - 60)) for one in range(1, 24)]
        acks = list_acks(talk(collector.ready["grpc"], [make_hello(), *batches]))
        assert [ack.status for ack in acks] == [stream_pb2.ACK_STATUS_ACCEPTED] * 23
        for store in replicas:
            wait_until(lambda store=store: count_calls(store) == [23 * CALLS] * len(SUMS))
    finally:
        assert collector.stop() == 0
