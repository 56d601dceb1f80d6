"""What sensors report of their blocks: counts that survive a sensor's restart, and sensors that are heard no more."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event

from collector.receiver.policy import BlockKind, BlockStatus, EnforcementReport
from collector.response.block import Block, BlockState, BlockTarget
from collector.response.block_store import BlockStore
from collector.response.policy_table import PolicyTable
from collector.response.reports import (
    CLEAN_SECONDS,
    GONE_SECONDS,
    HEARD_SECONDS,
    NOT_HELD_REASON,
    SILENT_REASON,
    SILENT_SECONDS,
    BlockReports,
    blank_reasons,
    take_counts,
)
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditLog
from tests.collector.response.test_webhook import BLOCK

STATUS = BlockStatus(
    id="b1",
    is_enforced=True,
    reason="",
    stopped_connections=4,
    stopped_bytes=900,
    failed_resets=1,
    spared_requests=2,
    first_stop_at=50.0,
)
NOTHING = dict.fromkeys(("stopped_connections", "stopped_bytes", "failed_resets", "spared_requests"), 0)
DECLINED = replace(STATUS, is_enforced=False, reason="switched off", **NOTHING, first_stop_at=0.0)


def report(*statuses: BlockStatus, is_enabled: bool = True) -> EnforcementReport:
    return EnforcementReport(epoch=1, is_enabled=is_enabled, reason="", blocks=statuses)


class Room:
    """One live block, and collectors that sensors report to."""

    def __init__(self, state: StateStore) -> None:
        self.state = state
        self.time = SimpleNamespace(now=1_000.0)
        self.reports, self.other = self.make(), self.make()
        self.blocks = BlockStore(state, PolicyTable(state, ()))
        self.put(BLOCK)

    def make(self) -> BlockReports:
        return BlockReports(self.state, lambda: self.time.now)

    def put(self, block: Block) -> None:
        with self.blocks.change() as change:
            change.put(block)

    def take(self, *statuses: BlockStatus, node: str = "n", to: BlockReports | None = None, **more: Any) -> None:
        (to or self.reports).take(node, report(*statuses, **more))
        (to or self.reports).flush()

    @property
    def status(self) -> BlockStatus:
        ((node, status),) = self.other.list_statuses(["b1"])["b1"]
        assert node == "n"
        return status

    def list_declined(self) -> list[tuple[str, str, str, str]]:
        return [(one.by, one.block_id, one.target, one.why) for one in AuditLog(self.state).list_recent(9)]


@pytest.fixture
def room(state: StateStore) -> Room:
    return Room(state)


def test_a_sensor_that_counts_anew_adds_to_what_it_counted_whoever_it_reports_to(room: Room) -> None:
    room.take(replace(STATUS, stopped_connections=3))
    room.take(STATUS, to=room.other)
    room.take(replace(STATUS, stopped_connections=1, stopped_bytes=50, failed_resets=0, first_stop_at=99.0))
    room.take(DECLINED, to=room.other)
    assert room.status == replace(
        DECLINED, stopped_connections=5, stopped_bytes=950, failed_resets=1, spared_requests=4, first_stop_at=50.0
    )
    room.take(STATUS)
    assert (room.status.stopped_connections, room.status.is_enforced) == (9, True)
    with room.state.write() as connection:
        assert take_counts(connection, "b1") == (9, 1_850, 1)
    assert room.other.list_statuses(["b1"]) == {"b1": []}


def test_reports_that_wait_together_are_counted_one_after_the_other(room: Room) -> None:
    for count in (3, 4, 1):
        room.reports.take("n", report(replace(STATUS, stopped_connections=count)))
        room.reports.take("m", report(STATUS))
    room.reports.flush()
    found = dict(room.other.list_statuses(["b1"])["b1"])
    assert {node: status.stopped_connections for node, status in found.items()} == {"n": 5, "m": 4}


def test_addresses_of_a_workload_are_one_block_and_not_in_the_state(room: Room) -> None:
    room.take(replace(STATUS, id="b1/10.9.8.7"), replace(STATUS, id="b1/10.9.8.6"))
    assert (room.status.stopped_connections, room.status.is_enforced) == (8, True)
    room.take(replace(STATUS, id="b1/10.9.8.7"), replace(DECLINED, id="b1/10.9.8.6"))
    assert (room.status.stopped_connections, room.status.reason) == (8, "switched off")
    with room.state.read() as connection:
        assert "10.9.8" not in str(connection.exec_driver_sql("SELECT * FROM block_reports").all())


def test_who_is_not_heard_enforces_nothing_and_is_forgotten_by_name(room: Room) -> None:
    room.take(STATUS)
    room.time.now += SILENT_SECONDS - 1
    assert room.status == STATUS
    room.time.now += 1
    assert room.status == replace(STATUS, is_enforced=False, reason=SILENT_REASON)
    ((_, found),) = room.reports.list_nodes()
    assert (found.is_enabled, found.reason) == (False, SILENT_REASON)
    room.time.now += GONE_SECONDS
    room.reports.flush()
    assert not room.reports.list_nodes() and room.status.stopped_connections == 4
    room.take(STATUS)
    assert room.status == STATUS and len(room.reports.list_nodes()) == 1


def test_a_report_that_says_the_same_is_written_when_its_time_has_come(room: Room) -> None:
    statements: list[str] = []
    event.listen(room.state._engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    room.take(STATUS)
    assert statements
    room.time.now += HEARD_SECONDS - 1
    statements.clear()
    room.take(STATUS)
    assert not statements
    room.time.now += 1
    room.take(STATUS)
    assert [one.split()[2] for one in statements if one.startswith("INSERT")] == ["enforcing_nodes", "table_writes"]
    room.time.now += SILENT_SECONDS - 1
    assert room.status == STATUS


def test_who_reports_no_more_of_a_block_does_not_enforce_it(room: Room) -> None:
    room.take(STATUS)
    room.take()
    assert room.status == replace(STATUS, is_enforced=False, reason=NOT_HELD_REASON)
    room.take(STATUS)
    assert room.status == STATUS


def test_declined_is_in_the_audit_log_once_and_other_ids_are_nobodys(room: Room) -> None:
    for to in (room.reports, room.other):
        room.take(DECLINED, replace(DECLINED, id="x"), to=to)
    declined = ("sensor n", "b1", "address:203.0.113.7", "switched off")
    assert room.list_declined() == [declined]
    room.take(STATUS)
    room.take(DECLINED)
    assert room.list_declined() == [declined] * 2
    room.take(STATUS)
    room.take(DECLINED, is_enabled=False)  # It enforces nothing at all, and says so.
    assert room.list_declined() == [declined] * 2
    assert set(room.reports.list_statuses(["b1", "x"])["x"]) == set()


def test_what_is_reported_of_a_block_that_is_over_is_not_kept(room: Room) -> None:
    room.put(replace(BLOCK, state=BlockState.LIFTED, ended_at=1_000.0))
    room.take(STATUS)
    assert room.reports.list_statuses(["b1"]) == {"b1": []}
    room.put(replace(BLOCK, id="b2", target=BlockTarget(kind=BlockKind.ADDRESS, value="203.0.113.9")))
    room.take(replace(STATUS, id="b2"))
    room.put(replace(BLOCK, id="b2", state=BlockState.LIFTED, ended_at=1_000.0))
    room.time.now += CLEAN_SECONDS
    room.reports.flush()
    assert room.reports.list_statuses(["b2"]) == {"b2": []}


def test_a_name_in_what_a_sensor_says_is_blanked(room: Room) -> None:
    room.take(replace(DECLINED, reason="it is below 10.0.0.9/32"))
    with room.state.write() as connection:
        blank_reasons(connection, re.compile(r"10\.0\.0\.9"))
    assert room.status.reason == "it is below erased/32"


def test_reports_wait_while_the_state_takes_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("collector.response.reports.upsert", refuse)
        with pytest.raises(StoreError):
            room.take(STATUS)
    room.reports.flush()
    assert room.status == STATUS
