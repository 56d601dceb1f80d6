"""An insert whose token was noted, and whose part was not committed, is in every table once it came again."""

import shutil
import subprocess
import sys
from pathlib import Path

from collector.receiver.convert import Refusal, convert_batch
from collector.storage.arrow import build_rows
from collector.storage.embedded import EmbeddedStore, locate_tables
from collector.storage.replay import complete_insert
from collector.storage.row_group import make_group
from tests.collector.wire_batches import NOW, make_batch

TABLES = ("rows_minute", "rows_hour", "routes_hour", "routes_day")
CALLS = 6  # Of one batch.


def test_tables_that_lost_an_insert_have_it_again_and_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", __name__, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])


def lose_parts_and_replay(directory: Path) -> None:
    """In a process of its own, for a process has one engine, and this one is opened twice."""
    store, tables = EmbeddedStore(directory), locate_tables(directory)
    batches = [convert_batch(make_batch(sequence=1, base=NOW - age), NOW) for age in (60, 3_660, 90_000)]
    first, other, yesterday = (build_rows(make_group(one)) for one in batches if not isinstance(one, Refusal))

    def count() -> list[int]:
        return [int(store.query(f"SELECT sum(calls) FROM {table}")[0][0]) for table in TABLES]

    for rows, token in ((other, "log:1-2"), (yesterday, "log:2-3"), (first, "log:3-4")):
        store.insert_arrow("rows_minute", rows, token)
    assert complete_insert(store, tables, first) == 0, "nothing is missing"
    for table in TABLES:
        store.execute(f"SYSTEM STOP MERGES {table}")
    paths = [
        Path(str(store.query(f"SELECT argMax(path, max_block_number) FROM system.parts WHERE table = '{table}'")[0][0]))
        for table in ("rows_minute", "rows_hour", "routes_day")
    ]
    store.close()
    for path in paths:  # As the engine leaves it: noted, and never committed.
        shutil.rmtree(path)
    store = EmbeddedStore(directory)
    store.insert_arrow("rows_minute", first, "log:3-4")
    assert count() == [2 * CALLS, 2 * CALLS, 3 * CALLS, 2 * CALLS], "the engine takes it for a duplicate"
    assert complete_insert(store, tables, first) == 3
    assert count() == [3 * CALLS] * 4
    assert complete_insert(store, tables, first) == 0, "a crash before the commit does not double it"
    for table in TABLES:
        store.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert complete_insert(store, tables, first) == 0 and count() == [3 * CALLS] * 4
    left = store.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND endsWith(name, '_again')")
    assert left == []
    store.close()


if __name__ == "__main__":
    lose_parts_and_replay(Path(sys.argv[1]))
