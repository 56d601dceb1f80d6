"""Reports that wait for the store: the newest of each node, and one that does not fit keeps no other out."""

from collections.abc import Sequence
from typing import Any, cast

from collector.receiver.reports import CoverageRecord, convert_coverage
from collector.receiver.sensors import SensorRegistry
from collector.server.reports import ReportQueue
from collector.storage.base import RefusedStatementError
from tests.collector.wire_batches import NOW
from tests.figures import read_values
from tests.fuzz.wire import make_messages

BAD = -1


class Table:
    """Refuses rows whose port is no port."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        if any(getattr(record, "port", 0) == BAD for record in records):
            raise RefusedStatementError("out of range")
        self.rows.setdefault(table, []).extend(records)


class Nothing:
    """Stands for a disk with room, and for a catalogue that is asked nothing."""

    def find_shortage(self) -> str:
        return ""


def make_queue(table: Table) -> ReportQueue:
    return ReportQueue(cast(Any, table), cast(Any, Nothing()), SensorRegistry(lambda: NOW), cast(Any, Nothing()))


def make_ports(node: str, *ports: int) -> list[CoverageRecord]:
    coverage = make_messages(node, NOW)["coverage"]().coverage
    del coverage.ports[1:]
    (one,) = convert_coverage(coverage, node=node, boot_id="b", now_unix_seconds=NOW)
    return [CoverageRecord(**{**{name: getattr(one, name) for name in one.__slots__}, "port": port}) for port in ports]


def test_a_node_that_reports_without_end_takes_the_place_of_none() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("honest", make_ports("honest", 80))
    for number in range(1_000):
        queue.add_coverage("evil", make_ports("evil", number))
    queue.flush()
    assert [(row.node, row.port) for row in table.rows["coverage_rows"]] == [("honest", 80), ("evil", 999)]


def test_a_record_that_its_table_cannot_hold_is_counted_and_the_others_are_written() -> None:
    table = Table()
    queue = make_queue(table)
    queue.add_coverage("evil", make_ports("evil", 1, BAD, 3))
    queue.add_coverage("honest", make_ports("honest", *range(10, 20), BAD))
    queue.flush()
    assert [row.port for row in table.rows["coverage_rows"]] == [1, 3, *range(10, 20)]
    assert read_values(queue.figures())["records_refused"] == 2
