"""Reports that wait for the store: the newest of each node, and one that does not fit keeps no other out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from collector.receiver.reports import CoverageRecord, convert_coverage
from collector.receiver.writer import UNWATCHED_SECONDS
from collector.server.reports import FLUSH_BURST, FLUSH_SECONDS, ReportQueue
from collector.storage.base import RefusedStatementError, StoreError
from tests.collector.schemas.test_offers import make_record
from tests.collector.wire_batches import NOW
from tests.figures import read_values
from tests.fuzz.wire import make_messages

BAD = -1


class Table:
    """Refuses rows whose port is no port."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}
        self.inserts: list[str] = []
        self.is_failing = False

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        if self.is_failing:
            raise StoreError("away")
        self.inserts += [table] if records else []
        if any(getattr(record, "port", 0) == BAD for record in records):
            raise RefusedStatementError("out of range")
        self.rows.setdefault(table, []).extend(records)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Nothing:
    """Stands for a disk with room, and for a catalogue that is asked nothing."""

    def find_shortage(self) -> str:
        return ""


def make_queue(table: Table, time: Time | None = None) -> ReportQueue:
    return ReportQueue(cast(Any, table), cast(Any, Nothing()), cast(Any, Nothing()), time or Time())


def make_ports(node: str, *ports: int) -> list[CoverageRecord]:
    coverage = make_messages(node, NOW)["coverage"]().coverage
    del coverage.ports[1:]
    (one,) = convert_coverage(coverage, node=node, boot_id="b", now_unix_seconds=NOW)
    return [CoverageRecord(**{**{name: getattr(one, name) for name in one.__slots__}, "port": port}) for port in ports]


def test_a_node_that_reports_without_end_takes_the_place_of_none() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("honest", make_ports("honest", 80), False)
    for number in range(1_000):
        queue.add_coverage("evil", make_ports("evil", number), False)
    queue.flush()
    assert [(row.node, row.port) for row in table.rows["coverage_rows"]] == [("honest", 80), ("evil", 999)]


def test_a_record_that_its_table_cannot_hold_is_counted_and_the_others_are_written() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("evil", make_ports("evil", 1, BAD, 3), False)
    queue.add_coverage("honest", make_ports("honest", *range(10, 20), BAD), False)
    queue.flush()
    assert [row.port for row in table.rows["coverage_rows"]] == [1, 3, *range(10, 20)]
    assert read_values(queue.figures())["records_refused"] == 2


def test_a_difference_is_written_beside_the_whole_report_that_waits_and_a_whole_one_instead_of_it() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("a", make_ports("a", 1, 2), False)
    busy = [replace(record, calls=99) for record in make_ports("a", 2, 3)]
    queue.add_coverage("a", busy, True)
    queue.add_coverage("b", make_ports("b", 1, 2), False)
    queue.add_coverage("b", make_ports("b", 2), False)
    queue.flush()
    queue.flush()
    written = [(row.node, row.port, row.calls == 99) for row in table.rows["coverage_rows"]]
    assert written == [("a", 1, False), ("a", 2, True), ("a", 3, True), ("b", 2, False)]


def test_a_difference_that_the_store_did_not_take_is_written_with_the_next_one() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("a", make_ports("a", 1, 2), False)
    queue.add_coverage("b", make_ports("b", 1, 2), False)
    table.is_failing = True
    with pytest.raises(StoreError):
        queue.flush()
    later = timedelta(seconds=10)
    queue.add_coverage("a", [replace(record, time=record.time + later) for record in make_ports("a", 2)], True)
    whole = [replace(one, time=one.time + later, report_time=one.time + later) for one in make_ports("b", 2)]
    queue.add_coverage("b", whole, False)
    table.is_failing = False
    queue.flush()
    written = sorted((row.node, row.port, row.time - row.report_time) for row in table.rows["coverage_rows"])
    assert written == [("a", 1, timedelta()), ("a", 2, later), ("b", 2, timedelta())]


def test_coverage_waits_for_half_a_minute_while_nobody_looks_and_schemas_do_not() -> None:
    table, time = Table(), Time()
    queue = make_queue(table, time)
    queue.is_watched = lambda: False
    for _ in range(4 * int(UNWATCHED_SECONDS)):
        time.now += 1
        queue.add_coverage("a", make_ports("a", 1), True)
        queue.flush_due()
    count = table.inserts.count("coverage_rows")
    assert count == FLUSH_BURST + 4 - 1
    queue.schemas.add([make_record("a", 1)])
    queue.flush_due()
    assert (table.inserts.count("schemas"), table.inserts.count("coverage_rows")) == (1, count + 1)
    queue.add_coverage("a", make_ports("a", 1), True)
    queue.flush_due()
    assert table.inserts.count("coverage_rows") == count + 1
    queue.is_watched = lambda: True
    queue.flush_due()
    assert table.inserts.count("coverage_rows") == count + 2


def test_reports_are_written_every_five_seconds_and_only_what_changed() -> None:
    table, time = Table(), Time()
    queue = make_queue(table, time)
    for _ in range(55):
        time.now += 1
        queue.add_coverage("a", make_ports("a", 1), True)
        queue.flush_due()
    count = table.inserts.count("coverage_rows")
    assert count == FLUSH_BURST + 55 / FLUSH_SECONDS - 1
    time.now += 10 * FLUSH_SECONDS
    queue.flush_due()
    assert table.inserts.count("coverage_rows") == count + 1  # What waited.
    time.now += 10 * FLUSH_SECONDS
    queue.flush_due()
    assert table.inserts.count("coverage_rows") == count + 1  # Nothing came since.
