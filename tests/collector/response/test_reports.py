"""What sensors tell of their blocks: counts that survive a sensor's restart, and sensors that are heard no more."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from collector.receiver.policy import BlockStatus, EnforcementReport
from collector.response.responder import GONE_SECONDS, NOT_HELD_REASON, SILENT_REASON, SILENT_SECONDS, Reports

STATUS = BlockStatus(
    id="b",
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


class Room:
    def __init__(self) -> None:
        self.time = SimpleNamespace(now=1_000.0)
        self.reports = Reports(lambda: self.time.now)

    def take(self, *statuses: BlockStatus, node: str = "n") -> list[BlockStatus]:
        report = EnforcementReport(epoch=1, is_enabled=True, reason="", blocks=statuses)
        return self.reports.take(node, report, lambda block_id: block_id == "b")

    @property
    def status(self) -> BlockStatus:
        ((node, status),) = self.reports.list_statuses("b")
        assert node == "n"
        return status


def test_a_sensor_that_counts_anew_adds_to_what_it_counted() -> None:
    room = Room()
    room.take(replace(STATUS, stopped_connections=3))
    room.take(STATUS)
    room.take(replace(STATUS, stopped_connections=1, stopped_bytes=50, failed_resets=0, first_stop_at=99.0))
    room.take(DECLINED)
    assert room.status == replace(
        DECLINED, stopped_connections=5, stopped_bytes=950, failed_resets=1, spared_requests=4, first_stop_at=50.0
    )
    room.take(STATUS)
    assert (room.status.stopped_connections, room.status.is_enforced) == (9, True)


def test_who_is_not_heard_enforces_nothing_and_is_forgotten_by_name() -> None:
    room = Room()
    room.take(STATUS)
    room.time.now += SILENT_SECONDS - 1
    assert room.status == STATUS
    room.time.now += 1
    assert room.status == replace(STATUS, is_enforced=False, reason=SILENT_REASON)
    ((_, report),) = room.reports.list_nodes()
    assert (report.is_enabled, report.reason) == (False, SILENT_REASON)
    room.time.now += GONE_SECONDS
    assert not room.reports.list_nodes() and room.status.stopped_connections == 4
    room.take(STATUS)
    assert room.status == STATUS and len(room.reports.list_nodes()) == 1


def test_who_tells_no_more_of_a_block_does_not_enforce_it() -> None:
    room = Room()
    room.take(STATUS)
    room.take()
    assert room.status == replace(STATUS, is_enforced=False, reason=NOT_HELD_REASON)
    room.reports.forget("b")
    assert not room.reports.list_statuses("b")


def test_declined_is_new_once_and_other_ids_are_nobodys() -> None:
    room = Room()
    other = replace(DECLINED, id="x")
    assert room.take(DECLINED, other) == [DECLINED, other]
    assert room.take(DECLINED, other) == []
    assert not room.reports.list_statuses("x")


def test_the_longest_silent_node_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.response.responder.NODES_MAX", 2)
    room = Room()
    for node in ("a", "b", "a", "c"):
        room.take(node=node)
    assert [node for node, _ in room.reports.list_nodes()] == ["a", "c"]
