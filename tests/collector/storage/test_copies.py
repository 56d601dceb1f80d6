"""Rows are copied out of a store and into another as they are: states of sums too, and no row is merged on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from collector.storage.base import StoreError
from collector.storage.clickhouse import ClickHouseStore, Clone

pytestmark = pytest.mark.store

_MADE = (
    "CREATE TABLE copied (k UInt64, n SimpleAggregateFunction(sum, UInt64), s AggregateFunction(uniq, UInt64)) "
    "ENGINE = AggregatingMergeTree PARTITION BY k % 3 ORDER BY k SETTINGS non_replicated_deduplication_window = 100"
)
_SUMS = "SELECT count(), sum(n), uniqMerge(s) FROM {table}"


@pytest.fixture
def copied(store: ClickHouseStore) -> Iterator[Clone]:
    store.execute(_MADE)
    store.execute("SYSTEM STOP MERGES copied")
    try:
        for start in (0, 500):  # Rows of one key in two parts stay two rows.
            rows = f"SELECT number % 700, number, uniqState(number) FROM numbers({start}, 1000) GROUP BY number"
            store.execute(f"INSERT INTO copied {rows}")
        clones = {clone.name: clone for clone in store.clone_tables()}
        yield clones["copied"]
    finally:
        store.drop_clones()
        store.execute("DROP TABLE IF EXISTS copied SYNC")


def test_rows_come_back_as_they_were(store: ClickHouseStore, copied: Clone, tmp_path: Path) -> None:
    before = store.query(_SUMS.format(table="copied"))
    store.execute("INSERT INTO copied SELECT 1, 1, uniqState(toUInt64(1))")  # Later than the clone.
    file = tmp_path / "it's.zst"
    # Two frames, as the members of an archive may be.
    file.write_bytes(b"".join(zstd.compress(part) for part in store.stream_clone("copied")))
    store.drop_tables(["copied"])
    store.restore_table("copied", copied.create)
    store.insert_native("copied", file)
    assert store.query(_SUMS.format(table="copied")) == before
    assert store.count_rows("copied") == copied.rows == before[0][0]
    # Equal blocks are rows like others.
    store.insert_native("copied", file)
    assert store.count_rows("copied") == 2 * copied.rows


def test_clones_are_gone_once_dropped_and_not_of_the_database(store: ClickHouseStore, copied: Clone) -> None:
    assert store.list_tables().count("copied") == 1
    store.drop_clones()
    with pytest.raises(StoreError):
        list(store.stream_clone("copied"))
    store.drop_clones()
