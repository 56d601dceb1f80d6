"""Requests that come at the same moment: one decides, and the others are told what it decided.

Threads are held where the old code had looked and not yet written, so these tests meet the race each time.
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest

from collector.alerting.alert import AlertKind
from collector.core.errors import ConflictError
from collector.response.block import BlockState, BlockTarget, parse_target
from collector.response.block_factory import BlockRequest
from collector.response.block_store import BlockStore
from collector.response.holders import Holders
from collector.response.ladder import LadderStep, Rung
from collector.response.policy_table import PolicyTable
from collector.response.preview import BlockCheck, Previewer
from collector.response.responder import Responder
from collector.storage.records import Reader
from collector.storage.state.store import StateStore
from tests.collector.api.fakes import make_alert
from tests.collector.response import making

THIEF = "203.0.113.7"
AT_ONCE = 20


class Meeting:
    """A previewer that answers nobody until as many ask as are expected."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self.on_question: Callable[[], object] = lambda: None

    def list_clusters(self, now: float) -> tuple[str, ...]:
        return ()

    def check_all(self, targets: Collection[BlockTarget], now: float) -> dict[BlockTarget, BlockCheck]:
        check = self.check(None, (), now)
        return {target: replace(check, first_seen=1.0) for target in targets}

    def check(self, target: object, clusters: tuple[str, ...], now: float) -> BlockCheck:
        self._barrier.wait()
        self.on_question()
        return BlockCheck(key_id=1, needs_confirmation="")


def make_responder(state: StateStore, meeting: Meeting, **more: Any) -> Responder:
    return making.make_responder(
        state,
        previewer=cast(Previewer, meeting),
        holders=Holders((), cast(Reader, None)),
        clock=lambda: 1_000_000.0,
        monotonic=lambda: 1_000_000.0,
        **more,
    )


def at_once(work: Callable[[], object], count: int = AT_ONCE) -> list[object]:
    """What each thread got, or the conflict that it was told of."""

    def run(_: int) -> object:
        try:
            return work()
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@pytest.mark.parametrize("requires_second_approval", [False, True])
def test_blocks_of_one_client_at_once_are_one_block(state: StateStore, requires_second_approval: bool) -> None:
    responder = make_responder(state, Meeting(AT_ONCE), requires_second_approval=requires_second_approval)
    results = at_once(lambda: responder.block(BlockRequest(consumer=THIEF)))
    (block,) = responder.list_blocks()
    told = {str(result) for result in results if isinstance(result, ConflictError)}
    assert len([result for result in results if isinstance(result, ConflictError)]) == AT_ONCE - 1
    assert len(told) == 1 and block.id in told.pop()
    assert block.state is (BlockState.PROPOSED if requires_second_approval else BlockState.LIVE)
    assert len(responder.list_audit(100)) == 1
    assert BlockStore(state, PolicyTable(state, ())).list_blocks() == [block]


def test_an_alert_and_a_person_at_once_make_one_live_block(state: StateStore) -> None:
    responder = make_responder(state, Meeting(2))
    alert = make_alert("a1", consumer=f"address:{THIEF}", kind=AlertKind.ENUMERATION)
    rung = responder.ladder.find(AlertKind.ENUMERATION)
    responder.put_rung(replace(rung, step=LadderStep.ENFORCE, set_by="ada"))
    person = threading.Thread(target=lambda: at_once(lambda: responder.block(BlockRequest(consumer=THIEF)), 1))
    person.start()
    assert not responder.take_alerts([alert])
    person.join()
    (block,) = responder.list_blocks()
    assert block.target == parse_target(THIEF) and block.state is BlockState.LIVE


def test_a_rung_that_was_moved_meanwhile_counts(state: StateStore) -> None:
    """A person puts the ladder down while the store is asked: nothing begins, and the alert is taken again."""
    meeting = Meeting(1)
    responder = make_responder(state, meeting)
    kind = AlertKind.ENUMERATION
    responder.put_rung(replace(responder.ladder.find(kind), step=LadderStep.ENFORCE, set_by="ada"))
    meeting.on_question = lambda: responder.move_rung(kind, step=LadderStep.PROPOSE, seconds=None, by="bob")
    alert = make_alert("a1", consumer=f"address:{THIEF}", kind=kind)
    assert responder.take_alerts([alert]) == [alert]
    assert responder.list_blocks() == []
    meeting.on_question = lambda: None
    assert not responder.take_alerts([alert])
    assert [block.state for block in responder.list_blocks()] == [BlockState.PROPOSED]


@pytest.mark.parametrize("decision", ["lift", "approve", "reject"])
def test_a_block_is_decided_on_once(state: StateStore, decision: str) -> None:
    responder = make_responder(state, Meeting(1), requires_second_approval=True)
    block = responder.block(BlockRequest(consumer=THIEF))
    if decision == "lift":
        responder.approve(block.id, by="ada", is_second_person=True)
    decisions: dict[str, Callable[[], object]] = {
        "lift": lambda: responder.lift(block.id, by="bob"),
        "approve": lambda: responder.approve(block.id, by="bob", is_second_person=True),
        "reject": lambda: responder.reject(block.id, by="bob"),
    }
    results = at_once(decisions[decision])
    assert len([result for result in results if isinstance(result, ConflictError)]) == AT_ONCE - 1
    assert len([entry for entry in responder.list_audit(100) if entry.by == "bob"]) == 1


def test_moving_a_step_keeps_endpoints_that_are_listed_meanwhile(state: StateStore) -> None:
    responder = make_responder(state, Meeting(1))
    kind = AlertKind.ENUMERATION
    started = threading.Barrier(AT_ONCE, timeout=60)
    steps = list(LadderStep) * (AT_ONCE // len(LadderStep))
    listed = tuple(f"e{number}" for number in range(3))
    responder.put_rung(Rung(kind=kind, step=LadderStep.ALERT, seconds=60, endpoints=listed, set_by="ada"))

    def move() -> None:
        started.wait()
        responder.move_rung(kind, step=steps.pop(), seconds=None, by="page")

    at_once(move)
    assert responder.ladder.find(kind).endpoints == listed
    last = responder.list_audit(1)[0]
    assert last.why.startswith(responder.ladder.find(kind).step)
