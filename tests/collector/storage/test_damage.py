"""One flipped byte of a part: it is found, set aside, and rebuilt where another table has its rows."""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.table import TemplateTable
from collector.receiver.convert import Refusal, convert_batch
from collector.receiver.reports import RevealBook
from collector.storage.arrow import build_routes, build_rows
from collector.storage.clickhouse import TABLES
from collector.storage.damage import DAY, HOUR, PartCheck
from collector.storage.embedded import EmbeddedStore
from collector.storage.row_group import make_group
from collector.storage.tables.layout import Retention
from tests.collector.states import create_state
from tests.collector.wire_batches import NOW, make_batch

CALLS = 6  # Of one batch.
SUMMED = ("rows_minute", "rows_hour", "routes_hour", "routes_day")


@pytest.fixture
def store(embedded: EmbeddedStore) -> Iterator[EmbeddedStore]:
    for table in (*SUMMED, "evictions", "routes", "endpoint_routes"):
        embedded.execute(f"TRUNCATE TABLE {table}")
    embedded.execute("SYSTEM STOP MERGES")  # Else a part that is damaged may be gone.
    yield embedded
    embedded.execute("SYSTEM START MERGES")
    for table in (*SUMMED, "endpoint_routes"):
        drop_detached(embedded, table)


def drop_detached(store: EmbeddedStore, table: str) -> None:
    for (name,) in store.query(f"SELECT name FROM system.detached_parts WHERE table = '{table}'"):
        store.execute(f"ALTER TABLE {table} DROP DETACHED PART '{name}' SETTINGS allow_drop_detached = 1")


def fill(store: EmbeddedStore, *hours: int) -> None:
    """A batch in each of these hours before NOW; each time others."""
    for hour in hours:
        rows = convert_batch(make_batch(sequence=1, base=NOW - hour * HOUR - 60), NOW)
        assert not isinstance(rows, Refusal)
        store.insert_arrow("rows_minute", build_rows(make_group(rows)), uuid.uuid4().hex)


def damage(store: EmbeddedStore, table: str, which: int = 0) -> str:
    """Flip a byte of the data of one active part; gives its name."""
    parts = store.query(
        f"SELECT name, path FROM system.parts WHERE active AND table = '{table}' ORDER BY partition_id, name"
    )
    name, path = parts[which]
    file = Path(path) / "data.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    # In its place: the engine has the file open.
    descriptor = os.open(file, os.O_WRONLY)
    os.write(descriptor, content)
    os.close(descriptor)
    return str(name)


def make_check(store: EmbeddedStore, *, is_stored: Callable[[], bool] = lambda: True, now: float = NOW) -> PartCheck:
    @contextmanager
    def pause() -> Iterator[bool]:
        yield is_stored()

    return PartCheck(store=store, pause=pause, clock=lambda: now)


def show(store: EmbeddedStore, table: str) -> list[tuple[object, ...]]:
    """All that a summary says of each key, in one order; the state of distinct objects as its count."""
    table_of = next(one for one in TABLES if one.name == table)
    shown = []
    for name, kind in table_of.types.items():
        if found := re.match(r"SimpleAggregateFunction\((\w+)", kind):
            shown.append(f"{found[1]}({table}.{name})")
        elif name.endswith("_state"):
            shown.append(f"uniqCombined64Merge(12)({name})")
    return store.query(f"SELECT {table_of.key}, {', '.join(shown)} FROM {table} GROUP BY ALL ORDER BY {table_of.key}")


def count(store: EmbeddedStore, table: str) -> int:
    return int(store.query(f"SELECT sum(calls) FROM {table}")[0][0])


@pytest.mark.parametrize("table", ["rows_hour", "routes_hour", "routes_day"])
def test_a_damaged_part_of_a_summary_is_rebuilt_as_it_was(store: EmbeddedStore, table: str) -> None:
    fill(store, 0, 1, 2, 2)
    before = show(store, table)
    damage(store, table)
    check = make_check(store)
    check.check_small()
    assert count(store, table) == 3 * CALLS and check.list_lost() == ()
    check.check_next()
    assert show(store, table) == before
    assert [count(store, one) for one in SUMMED] == [4 * CALLS] * 4
    assert check.list_lost() == () and (check.counts.damaged, check.counts.rebuilt) == (1, 1)


def test_all_summaries_of_a_day_are_rebuilt_together(store: EmbeddedStore) -> None:
    fill(store, 0, 3)
    for table in SUMMED[1:]:
        damage(store, table)
    check = make_check(store)
    check.check_small()
    check.check_next()
    assert [count(store, one) for one in SUMMED] == [2 * CALLS] * 4
    assert check.list_lost() == ()


def test_routes_whose_names_were_damaged_are_named_again_at_the_start(store: EmbeddedStore) -> None:
    state = create_state()

    def open_catalogue() -> Catalogue:
        return Catalogue(store, TemplateTable(state, store), RevealBook())

    rows = convert_batch(make_batch(), NOW)
    assert not isinstance(rows, Refusal)
    store.insert_arrow("routes", build_routes([(route, NOW) for route in rows.routes]))
    open_catalogue()
    damage(store, "endpoint_routes")
    check = make_check(store)
    check.check_small()
    assert not store.query("SELECT * FROM endpoint_routes")
    check.check_next()
    assert check.counts.rebuilt == 0
    named = open_catalogue().list_endpoints()
    assert named.keys() == {11, 12} == {row[0] for row in store.query("SELECT route_id FROM endpoint_routes")}
    check.check_next()
    assert check.list_lost() == () and check.counts.rebuilt == 1


def test_minutes_are_in_no_other_table_and_stay_aside(store: EmbeddedStore) -> None:
    fill(store, 0, 1)
    name = damage(store, "rows_minute")
    check = make_check(store)
    check.check_small()
    check.check_next()
    assert check.list_lost() == (f"rows_minute/{name}",)
    assert [count(store, one) for one in SUMMED] == [CALLS, 2 * CALLS, 2 * CALLS, 2 * CALLS]
    # Hours that lost a part then are not made of minutes that lack the same.
    lost = damage(store, "rows_hour")
    again = make_check(store)
    again.check_small()
    again.check_next()
    assert again.list_lost() == (f"rows_hour/{lost}", f"rows_minute/{name}")
    assert count(store, "rows_hour") == CALLS


def test_a_day_whose_minutes_expired_in_part_keeps_what_is_well_and_says_so(store: EmbeddedStore) -> None:
    now = NOW - NOW % DAY + Retention().minute_seconds - HOUR  # The minutes of the day's first hours are going.
    hours = (NOW % DAY) // HOUR
    fill(store, 0, hours)
    lost = damage(store, "rows_hour", 1)
    now += 2 * HOUR
    store.execute("ALTER TABLE rows_minute DROP PARTITION ID {id:String}", {"id": str(NOW - NOW % DAY)})
    check = make_check(store, now=now)
    check.check_small()
    check.check_next()
    assert count(store, "rows_hour") == count(store, "routes_day")
    assert check.list_lost() == (f"rows_hour/{lost}",)


def test_nothing_is_rebuilt_while_a_range_is_claimed(store: EmbeddedStore) -> None:
    fill(store, 0)
    damage(store, "routes_hour")
    answers = [False, True]
    check = make_check(store, is_stored=lambda: answers.pop(0))
    check.check_small()
    check.check_next()
    assert count(store, "routes_hour") == 0 and check.counts.rebuilt == 0
    check.check_next()
    assert count(store, "routes_hour") == CALLS and check.counts.rebuilt == 1


def test_large_tables_are_checked_little_by_little_once_a_day(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.storage.damage.SMALL_BYTES", -1)
    monkeypatch.setattr("collector.storage.damage.ROUND_BYTES", 1)
    fill(store, 0, 1)
    damage(store, "rows_minute", 1)
    now = float(store.query("SELECT toUnixTimestamp(now())")[0][0])
    young = make_check(store, now=now)
    young.check_small()
    young.check_next()
    assert young.counts.checked == 0
    check = make_check(store, now=now + 2 * HOUR)
    rounds = int(store.query("SELECT count() FROM system.parts WHERE active AND database = currentDatabase()")[0][0])
    for _ in range(rounds):
        check.check_next()
    assert (check.counts.checked, check.counts.damaged) == (rounds, 1)
    check.check_next()
    assert check.counts.checked == rounds
