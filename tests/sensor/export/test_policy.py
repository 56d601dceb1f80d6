"""Policies: a table of updates and what becomes of them."""

import pytest

from common.consumer_order import ConsumerColumn
from sensor.aggregate.aggregator import Triggers
from sensor.export.policy import Policy, PolicyUpdate, apply_update

HELD = Policy(epoch=5, triggers=Triggers(distinct_objects_per_second=2, calls_per_second=3))
BY_ADDRESS = (ConsumerColumn.CLIENT_ADDRESS, ConsumerColumn.PRINCIPAL)
NEW = Triggers(distinct_objects_per_second=7, calls_per_second=8)


def make_update(
    epoch: int = 6,
    *,
    is_full: bool = False,
    base: int = 5,
    triggers: Triggers | None = NEW,
    consumer_order: tuple[ConsumerColumn, ...] = (),
) -> PolicyUpdate:
    return PolicyUpdate(epoch=epoch, is_full=is_full, base_epoch=base, triggers=triggers, consumer_order=consumer_order)


@pytest.mark.parametrize(
    ("update", "policy"),
    [
        (make_update(), Policy(epoch=6, triggers=NEW)),
        (make_update(triggers=None), Policy(epoch=6, triggers=HELD.triggers)),
        (make_update(is_full=True, base=0), Policy(epoch=6, triggers=NEW)),
        # A full form that says nothing of triggers puts the built-in ones back.
        (make_update(is_full=True, triggers=None), Policy(epoch=6)),
        (make_update(consumer_order=BY_ADDRESS), Policy(epoch=6, triggers=NEW, consumer_order=BY_ADDRESS)),
        # A collector that began again.
        (make_update(1, is_full=True), Policy(epoch=1, triggers=NEW)),
    ],
)
def test_applied(update: PolicyUpdate, policy: Policy) -> None:
    result = apply_update(HELD, update)
    assert (result.policy, result.epoch, result.is_applied) == (policy, update.epoch, True)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (make_update(0), "epochs start at 1"),
        (make_update(consumer_order=BY_ADDRESS * 2), "consumer_order names a column twice"),
        (make_update(base=4), "holds epoch 5"),
        (make_update(triggers=Triggers(distinct_objects_per_second=0)), "distinct_objects_per_second is 0"),
        (make_update(triggers=Triggers(calls_per_second=1_000_001)), "calls_per_second is 1000001"),
    ],
)
def test_refused(update: PolicyUpdate, reason: str) -> None:
    result = apply_update(HELD, update)
    assert (result.policy, result.epoch, result.is_applied) == (HELD, update.epoch, False)
    assert reason in result.reason
