"""Two collectors on one state: each decision rests on what the other one decided, and both send one policy."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from collector.alerting.alert import AlertKind
from collector.core.errors import ConflictError
from collector.response.block import BlockState
from collector.response.block_factory import BlockRequest
from collector.response.holders import Holders
from collector.response.ladder import LadderStep
from collector.response.preview import BlockCheck, Previewer
from collector.response.responder import Responder
from collector.storage.base import StoreError
from collector.storage.records import Reader
from collector.storage.state.store import StateStore
from tests.collector.response.making import make_responder

ONE, OTHER = "203.0.113.7", "203.0.113.8"
NOW = 1_000_000.0


class Unasked:
    """A previewer that knows every client."""

    def list_clusters(self, now: float) -> tuple[str, ...]:
        return ()

    def check(self, target: object, clusters: tuple[str, ...], now: float) -> BlockCheck:
        return BlockCheck(key_id=1, needs_confirmation="")


def make(state: StateStore, **more: Any) -> Responder:
    clock: dict[str, Callable[[], float]] = {"clock": lambda: NOW, "monotonic": lambda: NOW}
    holders = Holders((), cast(Reader, None))
    return make_responder(state, previewer=cast(Previewer, Unasked()), holders=holders, **clock, **more)


def list_stopped(responder: Responder) -> tuple[int, list[str]]:
    policy = responder._policy.read()
    return policy.epoch, [order.value for order in policy.blocks]


def test_what_one_decides_the_other_sends_and_lifts(state: StateStore) -> None:
    first, second = make(state), make(state)
    block = first.block(BlockRequest(consumer=ONE, by="ada"))
    assert list_stopped(first) == list_stopped(second) == (2, [ONE])
    assert second.find(block.id) == block and second.list_blocks() == [block]
    with pytest.raises(ConflictError, match=f"already, by block {block.id}"):
        second.block(BlockRequest(consumer=ONE))
    second.block(BlockRequest(consumer=OTHER))
    assert list_stopped(first) == list_stopped(second) == (3, [ONE, OTHER])
    second.lift(block.id, by="bob")
    with pytest.raises(ConflictError, match="is lifted, not live"):
        first.lift(block.id, by="ada")
    assert list_stopped(first) == (4, [OTHER])
    assert first.lift_all(by="ada") == 1 and list_stopped(second) == (5, [])
    assert [entry.action for entry in second.list_audit(9)] == ["lifted", "lifted", "began", "began"]


def test_both_at_once_make_one_block(state: StateStore) -> None:
    responders = [make(state) for _ in range(4)]
    started = threading.Barrier(len(responders))

    def block(responder: Responder) -> bool:
        started.wait()
        try:
            responder.block(BlockRequest(consumer=ONE))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(len(responders)) as threads:
        assert sum(threads.map(block, responders)) == 1
    assert {list_stopped(responder) == (2, [ONE]) for responder in responders} == {True}


def test_a_rung_that_the_other_moved_holds(state: StateStore) -> None:
    first, second = make(state), make(state)
    first.move_rung(AlertKind.SCANNING, step=LadderStep.ENFORCE, seconds=60, by="ada")
    assert second.ladder.find(AlertKind.SCANNING).step is LadderStep.ENFORCE
    second.move_rung(AlertKind.SCANNING, step=LadderStep.ALERT, seconds=None, by="bob")
    rung = first.ladder.find(AlertKind.SCANNING)
    assert (rung.step, rung.seconds, rung.set_by) == (LadderStep.ALERT, 60, "bob")


def test_a_successor_ends_what_its_predecessor_began(state: StateStore) -> None:
    block = make(state).block(BlockRequest(consumer=ONE, seconds=60))
    later = make_responder(
        state,
        previewer=cast(Previewer, Unasked()),
        holders=Holders((), cast(Reader, None)),
        clock=lambda: NOW + 61,
        monotonic=lambda: 5.0,
    )
    later.tick()
    ended = later.find(block.id)
    assert ended is not None and ended.state is BlockState.EXPIRED and list_stopped(later)[1] == []
    later.tick()
    assert len(later.list_audit(9)) == 2


def test_a_decision_that_the_state_does_not_take_changes_nothing(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    responder = make(state)
    told: list[None] = []
    responder.on_change(lambda: told.append(None))

    def refuse(*_: object) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr("collector.response.block_store.add_entries", refuse)
    with pytest.raises(StoreError):
        responder.block(BlockRequest(consumer=ONE))
    assert not told and responder.list_blocks() == [] and list_stopped(responder) == (1, [])
    monkeypatch.undo()
    responder.block(BlockRequest(consumer=ONE))
    assert len(told) == 1 and list_stopped(responder) == (2, [ONE])
