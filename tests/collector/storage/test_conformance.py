"""What every store must do, whatever is behind it; here the embedded engine (`store` in conftest.py)."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest

from collector.receiver.convert import convert_batch
from collector.receiver.reports import WorkloadRecord
from collector.storage.arrow import build_routes, build_rows
from collector.storage.base import RefusedStatementError, Store, StoreError
from collector.storage.clickhouse import CLIENT_COUNT, STREAM_ROWS, TABLES, render_statements
from collector.storage.columns import RowBatch
from collector.storage.disk import Eviction, enforce_cap, measure_bytes
from collector.storage.embedded import EmbeddedStore
from collector.storage.row_group import join_groups, make_group
from collector.storage.tables.layout import Layout
from tests.collector.wire_batches import make_batch

pytestmark = pytest.mark.store

NOW = int(time.time())  # The engine ages rows by its own clock.


def make_rows(rows: int = 7, base: int = NOW - 60) -> RowBatch:
    batch = convert_batch(make_batch(rows=rows, base=base), NOW)
    assert isinstance(batch, RowBatch)
    return batch


def test_minute_and_hour_hold_the_same_sums(store: Store) -> None:
    store.insert_arrow("rows_minute", build_rows(join_groups([make_group(make_rows()), make_group(make_rows(rows=3))])))
    expected = (28 + 6, 100 * (28 + 6), 900, ([71, 78], [34, 10]), ([79], [34]))
    for table in ("rows_minute", "rows_hour"):
        rows = store.query(
            f"SELECT sum(calls), sum(request_bytes), max(duration_max_us), sumMap(duration), sumMap(response_size) "
            f"FROM {table}"
        )
        assert rows == [expected]
    assert store.query("SELECT uniqCombined64Merge(12)(objects_state) FROM rows_hour") == [(14,)]
    assert store.query("SELECT length(groupUniqArrayArray(objects)) FROM rows_minute") == [(14,)]
    assert store.query("SELECT DISTINCT client_address, client_workload FROM rows_minute") == [("10.0.0.9", "shop/web")]


def test_summaries_hold_the_sums_of_each_route(store: Store) -> None:
    batch = make_rows(rows=6)
    batch.status_code[:] = (200, 204, 404, 500, 0, 200)
    batch.authentication[:] = (8, 0, 8, 8, 8, 2)
    for token in ("first", "second"):
        store.insert_arrow("rows_minute", build_rows(make_group(batch)), uuid4().hex + token)
    for table in ("routes_hour", "routes_day"):
        rows = store.query(
            "SELECT route_id, sum(calls), sum(success_calls), sum(client_error_calls), sum(error_calls), "
            f"sum(authenticated_calls), groupBitOr(authentication), sumMap(duration) FROM {table} GROUP BY route_id"
        )
        assert sorted(rows) == [
            (11, 2 * (1 + 3 + 5), 2 * 1, 2 * 3, 2 * 5, 2 * 1, 8, ([71, 78], [18, 6])),
            (12, 2 * (2 + 4 + 6), 2 * (2 + 6), 0, 2 * 4, 2 * 6, 2, ([71, 78], [24, 6])),
        ]


def test_rows_are_streamed_some_thousand_at_a_time(store: Store) -> None:
    blocks = list(store.stream_columns("SELECT number AS n, toString(n) AS text FROM numbers(20000)"))
    assert all(len(block["n"]) <= STREAM_ROWS for block in blocks) and len(blocks) > 2
    assert sorted(number for block in blocks for number in block["n"]) == list(range(20_000))
    assert blocks[0]["text"][0] == str(blocks[0]["n"][0])
    assert list(store.stream_columns("SELECT 1 AS one WHERE one = 2")) in ([], [{"one": []}])


def test_a_stream_that_is_not_read_to_its_end_gives_its_client_back(store: Store) -> None:
    for _ in range(CLIENT_COUNT + 1):
        stream = store.stream_columns("SELECT number AS n FROM numbers(1000000)")
        assert next(stream)["n"]
        del stream
    assert store.query("SELECT 1") == [(1,)]


def test_a_token_counts_once_in_every_table(store: Store) -> None:
    token = uuid4().hex
    for _ in range(3):
        store.insert_arrow("rows_minute", build_rows(make_group(make_rows())), token)
    store.insert_arrow("rows_minute", build_rows(make_group(make_rows())), token + "x")
    assert store.query("SELECT sum(calls) FROM rows_minute") == [(56,)]
    for table in ("rows_hour", "routes_hour", "routes_day"):
        assert store.query(f"SELECT sum(calls) FROM {table}") == [(56,)]


def test_values_wider_than_their_column_are_clipped(store: Store) -> None:
    wire = make_batch(rows=2, base=NOW - 60)
    wire.rows.role[0] = 70_000
    wire.rows.hop[0] = 257
    batch = convert_batch(wire, NOW)
    assert isinstance(batch, RowBatch)
    store.insert_arrow("rows_minute", build_rows(make_group(batch)))
    assert store.query("SELECT max(role), max(hop) FROM rows_minute") == [(255, 255)]


def test_earliest_sight_of_a_route_holds(store: Store) -> None:
    routes = make_rows().routes
    for seen in (NOW, NOW - 500, NOW - 100):
        store.insert_arrow("routes", build_routes([(route, seen) for route in routes]))
    rows = store.query("SELECT route_id, toUnixTimestamp(first_seen), segment_text FROM routes FINAL ORDER BY route_id")
    assert rows == [(11, NOW - 500, ["users", ""]), (12, NOW - 500, ["users", ""])]


def test_rows_of_calls_with_one_key_are_left_to_merges_and_others_are_not(store: Store) -> None:
    batch, routes = make_rows(rows=2), make_rows().routes
    store.insert_arrow("rows_minute", build_rows(join_groups([make_group(batch)] * 3)), uuid4().hex)
    store.insert_arrow("routes", build_routes([(route, NOW) for route in routes for _ in range(3)]))
    assert store.query("SELECT sum(calls) FROM rows_minute") == [(3 * sum(batch.calls.tolist()),)]
    assert store.query("SELECT count() FROM routes") == [(len(routes),)]


def test_the_groups_of_a_claim_stay_in_memory(embedded: EmbeddedStore) -> None:
    """A claim of 4 MiB has some 40,000 rows, whose consumers may all differ."""
    rows = make_rows(rows=10_000)
    numbers = np.arange(len(rows), dtype=np.uint64)
    parts = [replace(rows, principal=numbers + np.uint64(place * len(rows))) for place in range(4)]
    question = "SELECT sum(value) FROM system.events WHERE event = 'ExternalAggregationWritePart'"
    before = embedded.query(question)
    embedded.insert_arrow("rows_minute", build_rows(join_groups([make_group(part) for part in parts])), uuid4().hex)
    assert embedded.query(question) == before


def test_records_replace_by_update_time(store: Store) -> None:
    older = WorkloadRecord(
        cluster="c", namespace="n", workload="w", node="a", kind="Deployment", labels=("t'\"\\",), zone="z", pods=1,
        time=datetime.fromtimestamp(NOW - 2, UTC),
    )  # fmt: skip
    newer = replace(older, labels=(), pods=2, time=datetime.fromtimestamp(NOW - 1, UTC))
    for record in (newer, older):
        store.insert_records("workloads", [record])
    assert store.query("SELECT labels, zone, pods FROM workloads FINAL") == [([], "z", 2)]


def test_records_of_evictions(store: Store) -> None:
    eviction = Eviction(
        time=datetime.fromtimestamp(NOW, UTC), table_name="rows_minute", partition="p", rows=3, bytes=4, reason="r"
    )
    store.insert_records("evictions", [eviction])
    assert store.query("SELECT rows, toUnixTimestamp(time) FROM evictions") == [(3, NOW)]


def test_columns_keep_their_names_without_rows(store: Store) -> None:
    sql = "SELECT route_id, sum(calls) AS calls FROM rows_minute WHERE route_id = {id:UInt64} GROUP BY route_id"
    assert store.query_columns(sql, {"id": 11}) == {"route_id": [], "calls": []}
    store.insert_arrow("rows_minute", build_rows(make_group(make_rows())))
    assert store.query_columns(sql, {"id": 11}) == {"route_id": [11], "calls": [16]}


@pytest.mark.parametrize("text", ["x'; DROP TABLE alerts; --", '"', "\\", "{id:UInt64}", "ä\n\t", ""])
def test_parameters_are_values_only(store: Store, text: str) -> None:
    assert store.query("SELECT {text:String} AS t, length({list:Array(UInt64)})", {"text": text, "list": [1, 2]}) == [
        (text, 2)
    ]


def test_an_error_is_one_sentence(store: Store) -> None:
    for call in (
        lambda: store.query("SELECT nope FROM rows_minute"),
        lambda: store.execute("ALTER TABLE nothing DROP PARTITION 1"),
        lambda: store.insert_records(
            "rows_nowhere",
            [Eviction(time=datetime.now(UTC), table_name="", partition="", rows=0, bytes=0, reason="")],
        ),
    ):
        with pytest.raises(StoreError) as error:
            call()
        assert "\n" not in str(error.value) and "DB::Exception" not in str(error.value)
    assert store.query("SELECT 1") == [(1,)]


@dataclass(frozen=True)
class Carriers:
    route_id: int
    carriers: str
    time: datetime


def test_threads_share_the_store(store: Store) -> None:
    def work(number: int) -> int:
        store.insert_records("proven_carriers", [Carriers(number, f"w{number}", datetime.fromtimestamp(NOW, UTC))])
        found = store.query("SELECT route_id FROM proven_carriers WHERE route_id = {h:UInt64}", {"h": number})
        return int(found[0][0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 24))) == list(range(1, 24))


def test_disk_cap_drops_the_oldest_hours_and_says_so(store: Store) -> None:
    for hours in range(6):
        store.insert_arrow("rows_minute", build_rows(make_group(make_rows(base=NOW - 60 - 3_600 * hours))))
    for table in ("rows_minute", "rows_hour", "routes_hour", "routes_day"):  # A merge would change what they take.
        store.execute(f"OPTIMIZE TABLE {table} FINAL")
    before = store.query("SELECT sum(calls) FROM rows_minute")[0][0]
    assert enforce_cap(store, limit_bytes=measure_bytes(store), now_unix_seconds=NOW) == []
    gone = enforce_cap(store, limit_bytes=measure_bytes(store) - 1, now_unix_seconds=NOW)
    assert [eviction.table_name for eviction in gone] == ["rows_minute"]
    oldest = store.query("SELECT min(time) FROM rows_minute")[0][0]
    assert oldest.timestamp() > NOW - 6 * 3_600 + 60
    gone += enforce_cap(store, limit_bytes=0, now_unix_seconds=NOW)
    rows_left = store.query("SELECT sum(calls), uniqExact(toStartOfHour(time)) FROM rows_minute")[0]
    assert rows_left[1] <= 2 and 0 < rows_left[0] < before
    told = store.query("SELECT count(), sum(rows) FROM evictions")
    assert told == [(len(gone), sum(eviction.rows for eviction in gone))]
    # The hours are still in rows_hour, but for those before midnight, and no summary tells of more than it holds.
    midnight = NOW // 86_400 * 86_400
    kept = sum(28 for hours in range(6) if NOW - 60 - 3_600 * hours >= midnight)
    assert before == 6 * 28 and kept <= store.query("SELECT sum(calls) FROM rows_hour")[0][0]
    hours = store.query("SELECT toDate(time), sum(calls) FROM rows_hour GROUP BY 1 ORDER BY 1")
    for table in ("routes_hour", "routes_day"):
        assert store.query(f"SELECT toDate(time), sum(calls) FROM {table} GROUP BY 1 ORDER BY 1") == hours


def test_statements_run_again(store: Store) -> None:
    for statement in render_statements(Layout(), {}):
        store.execute(statement)


def test_replicas_have_other_engines_and_windows_and_nothing_else() -> None:
    plain, replicated = (render_statements(layout, {}) for layout in (Layout(), Layout(replicas="apidae")))
    assert len(plain) == len(replicated)
    changed = [(one, other) for one, other in zip(plain, replicated, strict=True) if one != other]
    assert len(changed) == len(TABLES)
    week = "replicated_deduplication_window_seconds = 604800"
    for one, other in changed:
        if window := re.search(r"non_replicated_deduplication_window = (\d+)", one):
            one = one.replace(window[0], f"replicated_deduplication_window = {window[1]}, {week}")
        else:
            one = one.replace("SETTINGS ", "SETTINGS replicated_deduplication_window = 0, ")
        assert one.replace("ENGINE = ", "ENGINE = Replicated") == other


def test_a_missing_column_is_added_with_its_place_in_the_key() -> None:
    table = next(table for table in TABLES if table.name == "rows_minute")
    known = table.types.keys() - {"attacks", "client_software"}
    added = [one for one in render_statements(Layout(), {"rows_minute": known}) if "ADD COLUMN" in one]
    columns = (
        "ADD COLUMN IF NOT EXISTS client_software LowCardinality(String), "
        "ADD COLUMN IF NOT EXISTS attacks SimpleAggregateFunction(sum, UInt64)"
    )
    assert added == [f"ALTER TABLE rows_minute {columns}, MODIFY ORDER BY ({table.key})"]


@pytest.mark.parametrize(
    ("sql", "parameters"), [("SELECT {n:UInt32}", {"n": -5}), ("SELECT nothing", {}), ("SELEC 1", {})]
)
def test_what_the_engine_cannot_read_is_our_mistake(store: Store, sql: str, parameters: dict[str, int]) -> None:
    with pytest.raises(RefusedStatementError):
        store.query(sql, parameters)


def test_what_takes_too_long_is_not_our_mistake(store: Store) -> None:
    with pytest.raises(StoreError) as error:
        store.query("SELECT sum(number) FROM numbers(100000000000) SETTINGS max_execution_time = 1")
    assert not isinstance(error.value, RefusedStatementError)
    assert error.value.advice == "it took too long, so ask for a shorter time"
